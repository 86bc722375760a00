//! The binary: what it needs to begin, what it asks the API server, how it ends.

use std::io::Read;
use std::net::SocketAddr;
use std::process::Command;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;

use crate::client::{self, Http, review, review_of};
use crate::files::{Files, Running};
use crate::pki::CLIENT;
use crate::stand::{fixture, module};

const PROGRAM: &str = env!("CARGO_BIN_EXE_selfhost-admission");

/// Exit code, standard output, standard error.
fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn it_says_what_is_missing() {
    let files = Files::new(module());
    let (code, _, error) = run(Command::new(PROGRAM).arg("--policy"));
    assert_eq!(code, 2, "{error}");
    let (code, out, error) = run(files.command(PROGRAM).arg("--check"));
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(out.starts_with("policy ") && out.contains(" with settings "), "{out}");
    let (code, _, error) = run(&mut files.command(PROGRAM));
    assert_eq!(code, 1);
    assert!(error.contains("error: cannot configure the client of the API server"), "{error}");
    assert!(error.contains("\nhint: pass --kubeconfig FILE"), "{error}");
    let (code, out, error) =
        run(Command::new(PROGRAM).arg("compile").arg(files.path("policy.wasm")).arg(files.path("nowhere")));
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(error.starts_with("error: cannot write ") && error.contains(".cwasm: No such file"), "{error}");
    std::fs::remove_file(files.path("tls.key")).unwrap();
    let (code, _, error) = run(files.command(PROGRAM).arg("--check"));
    assert_eq!(code, 1);
    assert!(error.starts_with("error: cannot read ") && error.contains("tls.key: No such file"), "{error}");
    std::fs::write(files.path("policy.wasm"), "no module").unwrap();
    let (code, _, error) = run(files.command(PROGRAM).arg("--check"));
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

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_asks_the_cluster_and_ends_when_told() {
    let files = Files::new(module());
    files.compile(PROGRAM);
    let mut guard = Running::start(&files, PROGRAM, api_server().await);
    let address = guard.address;
    assert!(guard.is_ready());
    let config = files.authority.client_config(CLIENT);
    let ask = |name: &str| review(review_of(&fixture(name)));
    let deletion =
        client::send(address, &config, Http::Two, ask("daemonset-delete")).await.unwrap().response();
    assert_eq!(deletion["allowed"], false);
    let message = deletion["status"]["message"].as_str().unwrap();
    assert!(message.contains("DS-1: kube-apiserver runs on cp7"), "{message}");
    let label = client::send(address, &config, Http::One, ask("daemonset-label")).await.unwrap().response();
    assert_eq!(label["allowed"], true);

    let pid = i32::try_from(guard.child.id()).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    assert_eq!(guard.child.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    guard.log.take().unwrap().read_to_string(&mut rest).unwrap();
    let denied = rest.lines().next().unwrap();
    assert!(denied.contains(r#""denied":"DS-1""#), "{rest}");
    assert!(rest.lines().last().unwrap().contains(r#""message":"ended""#), "{rest}");
}
