//! The program as a process: the files that it is started with, and how it begins.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::pki::{Authority, CLIENT};

/// The files that it is started with.
pub(crate) struct Files {
    directory: TempDir,
    pub(crate) authority: Authority,
}

impl Files {
    pub(crate) fn new(module: &[u8]) -> Self {
        let files = Self { directory: tempfile::tempdir().unwrap(), authority: Authority::new() };
        let material = files.authority.material();
        for (name, content) in [
            ("policy.wasm", module),
            ("tls.crt", &material.certificates),
            ("tls.key", &material.key),
            ("ca.crt", &material.client_ca),
        ] {
            std::fs::write(files.path(name), content).unwrap();
        }
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (flag, name) in [
            ("--policy", "policy.wasm"),
            ("--tls-cert-file", "tls.crt"),
            ("--tls-private-key-file", "tls.key"),
            ("--client-ca-file", "ca.crt"),
        ] {
            command.arg(flag).arg(self.path(name));
        }
        command.arg("--compiled").arg(self.directory.path());
        command.args(["--client-name", CLIENT, "--listen", "127.0.0.1:0", "--status-listen", "127.0.0.1:0"]);
        // Of a machine that is a Pod.
        command.env_remove("KUBERNETES_SERVICE_HOST");
        command
    }

    /// Compiles the policy for it ahead of time.
    pub(crate) fn compile(&self, program: impl AsRef<OsStr>) {
        let mut compile = Command::new(program);
        compile.arg("compile").arg(self.path("policy.wasm")).arg(self.directory.path());
        let output = compile.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// How it reaches an API server that takes everybody.
    fn kubeconfig(&self, server: SocketAddr) -> PathBuf {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "a",
            "clusters": [{"name": "a", "cluster": {"server": format!("http://{server}")}}],
            "users": [{"name": "a", "user": {}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        });
        let path = self.path("kubeconfig");
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }
}

/// It serves. It is killed when this is dropped, unless it has ended.
pub(crate) struct Running {
    pub(crate) child: Child,
    /// What it says, after that it serves.
    pub(crate) log: Option<BufReader<ChildStderr>>,
    /// Where reviews are sent.
    pub(crate) address: SocketAddr,
    /// Where it is asked whether it is ready.
    status: SocketAddr,
}

impl Running {
    /// Starts it, and waits until it says that it serves.
    pub(crate) fn start(files: &Files, program: impl AsRef<OsStr>, api_server: SocketAddr) -> Self {
        let kubeconfig = files.kubeconfig(api_server);
        let mut command = files.command(program);
        command.arg("--kubeconfig").arg(kubeconfig).stderr(Stdio::piped());
        let nowhere = SocketAddr::from(([0; 4], 0));
        let child = command.spawn().unwrap();
        let mut running = Self { child, log: None, address: nowhere, status: nowhere };
        let mut log = BufReader::new(running.child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let serving: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        assert_eq!(serving["message"], "serving");
        let address = |name: &str| serving[name].as_str().unwrap().parse().unwrap();
        (running.log, running.address, running.status) = (Some(log), address("listen"), address("status"));
        running
    }

    /// Whether it says so itself.
    pub(crate) fn is_ready(&self) -> bool {
        let mut answer = String::new();
        let mut stream = TcpStream::connect(self.status).unwrap();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        stream.read_to_string(&mut answer).unwrap();
        answer.starts_with("HTTP/1.1 200 ")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
