//! The binary: what it needs to begin, what it asks the API server, how it ends.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::client::{self, Http, review, review_of};
use crate::pki::{Authority, CLIENT};
use crate::stand::{fixture, module};

/// The files that it is started with.
struct Files {
    directory: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let files = Self { directory: tempfile::tempdir().unwrap(), authority: Authority::new() };
        let material = files.authority.material();
        for (name, content) in [
            ("policy.wasm", module()),
            ("tls.crt", &material.certificates),
            ("tls.key", &material.key),
            ("ca.crt", &material.client_ca),
        ] {
            std::fs::write(files.path(name), content).unwrap();
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_selfhost-admission"));
        for (flag, name) in [
            ("--policy", "policy.wasm"),
            ("--tls-cert-file", "tls.crt"),
            ("--tls-private-key-file", "tls.key"),
            ("--client-ca-file", "ca.crt"),
        ] {
            command.arg(flag).arg(self.path(name));
        }
        command.args(["--client-name", CLIENT, "--listen", "127.0.0.1:0", "--status-listen", "127.0.0.1:0"]);
        // Of a machine that is a Pod.
        command.env_remove("KUBERNETES_SERVICE_HOST");
        command
    }
}

/// Exit code, standard output, standard error.
fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn it_says_what_is_missing() {
    let files = Files::new();
    let (code, _, error) = run(Command::new(env!("CARGO_BIN_EXE_selfhost-admission")).arg("--policy"));
    assert_eq!(code, 2, "{error}");
    let (code, out, error) = run(files.command().arg("--check"));
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(out.starts_with("policy ") && out.contains(" with settings "), "{out}");
    let (code, _, error) = run(&mut files.command());
    assert_eq!(code, 1);
    assert!(error.contains("error: cannot configure the client of the API server"), "{error}");
    assert!(error.contains("\nhint: pass --kubeconfig FILE"), "{error}");
    std::fs::remove_file(files.path("tls.key")).unwrap();
    let (code, _, error) = run(files.command().arg("--check"));
    assert_eq!(code, 1);
    assert!(error.starts_with("error: cannot read ") && error.contains("tls.key: No such file"), "{error}");
    std::fs::write(files.path("policy.wasm"), "no module").unwrap();
    let (code, _, error) = run(files.command().arg("--check"));
    assert_eq!(code, 1);
    assert!(error.starts_with("error: the policy's module cannot be compiled: "), "{error}");
}

/// An API server with one node, which has the API server's label.
async fn api_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(|request: Request<Incoming>| async move {
                assert_eq!(request.uri().path(), "/api/v1/nodes");
                assert_eq!(
                    request.uri().query(),
                    Some("labelSelector=kubectl-selfhost.dev%2Fkube-apiserver%3Dtrue")
                );
                let nodes = json!({"kind": "NodeList", "items": [{"metadata": {"name": "cp7"}}]}).to_string();
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(bytes::Bytes::from(nodes))))
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    address
}

fn kubeconfig(path: &Path, server: SocketAddr) {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"server": format!("http://{server}")}}],
        "users": [{"name": "a", "user": {}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
    });
    std::fs::write(path, config.to_string()).unwrap();
}

/// Ends with the test, however that ends.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_asks_the_cluster_and_ends_when_told() {
    let files = Files::new();
    kubeconfig(&files.path("kubeconfig"), api_server().await);
    let mut command = files.command();
    command.arg("--kubeconfig").arg(files.path("kubeconfig")).stderr(Stdio::piped());
    let mut guard = Guard(command.spawn().unwrap());
    let mut log = BufReader::new(guard.0.stderr.take().unwrap());
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    let serving: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
    assert_eq!(serving["message"], "serving");
    let address: SocketAddr = serving["listen"].as_str().unwrap().parse().unwrap();

    let config = files.authority.client_config(CLIENT);
    let ask = |name: &str| review(review_of(&fixture(name)));
    let deletion =
        client::send(address, &config, Http::Two, ask("daemonset-delete")).await.unwrap().response();
    assert_eq!(deletion["allowed"], false);
    let message = deletion["status"]["message"].as_str().unwrap();
    assert!(message.contains("DS-1: kube-apiserver runs on cp7"), "{message}");
    let label = client::send(address, &config, Http::One, ask("daemonset-label")).await.unwrap().response();
    assert_eq!(label["allowed"], true);

    let pid = i32::try_from(guard.0.id()).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    assert_eq!(guard.0.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    let denied = rest.lines().next().unwrap();
    assert!(denied.contains(r#""denied":"DS-1""#), "{rest}");
    assert!(rest.lines().last().unwrap().contains(r#""message":"ended""#), "{rest}");
}
