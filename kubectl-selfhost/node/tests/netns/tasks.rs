//! Tasks that need the kernel: proving a path, and looking at a node.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use selfhost_node::report::{Inspect, ProvePath};
use tempfile::TempDir;

use crate::eventually;
use crate::namespace::{Namespace, ip, output};
use crate::node_part::{BINARY, NodePart};
use crate::server::{connect_from, loopback};

const PROBER: &str = "10.0.0.2:40001";
const TARGET: &str = "10.0.0.1:6443";
const SOON: Duration = Duration::from_secs(3);

/// A node without any server, and a place for a task's result.
struct Node {
    _namespace: Namespace,
    directory: TempDir,
}

impl Node {
    fn new() -> Result<Self> {
        let namespace = Namespace::new()?;
        namespace.enter()?;
        for address in ["10.0.0.1/32", "10.0.0.2/32"] {
            ip(&format!("addr add {address} dev lo"))?;
        }
        Ok(Self { _namespace: namespace, directory: tempfile::tempdir()? })
    }

    /// A `prove-path` that diverts already.
    fn proving(&self, timeout: &str) -> Result<NodePart> {
        let args = [
            "prove-path",
            "--from",
            PROBER,
            "--node-ip",
            "10.0.0.1",
            "--token",
            "c0ffee",
            "--timeout",
            timeout,
        ];
        let task = NodePart::task(&args, &self.directory.path().join("result"))?;
        // As the plugin does it: the open port is the sign.
        eventually(SOON, "the port to be open", || Ok(TcpStream::connect(loopback(6444)).is_ok()))?;
        Ok(task)
    }

    fn answered(&self) -> Result<bool> {
        let result = fs::read_to_string(self.directory.path().join("result"))?;
        Ok(serde_json::from_str::<ProvePath>(&result).with_context(|| result.clone())?.answered)
    }
}

fn from(source: &str) -> Result<TcpStream> {
    connect_from(source.parse::<SocketAddr>()?, TARGET.parse()?)
}

fn tables() -> Result<String> {
    output("nft", &["list", "tables"])
}

#[test]
fn the_one_source_is_diverted_and_answered() -> Result<()> {
    let node = Node::new()?;
    ensure!(from(PROBER).is_err(), "nobody listens on the public port");
    let mut task = node.proving("15")?;
    for other in ["10.0.0.2:40002", "10.0.0.1:40001"] {
        ensure!(from(other).is_err(), "{other} is not diverted");
    }
    let mut words = String::new();
    TcpStream::connect(loopback(6444))?.read_to_string(&mut words)?;
    ensure!(words.is_empty(), "a stranger at the port itself gets no token: {words:?}");
    ensure!(task.is_running()?, "and does not end the task");
    let mut prober = from(PROBER)?;
    prober.write_all(b"something unread")?;
    let mut token = String::new();
    prober.read_to_string(&mut token)?;
    drop(prober);
    ensure!(token == "c0ffee\n", "{token:?}");
    ensure!(task.ends(SOON)?.success());
    ensure!(node.answered()?);
    ensure!(tables()?.is_empty(), "{}", tables()?);
    Ok(())
}

#[test]
fn without_a_prober_the_answer_is_no() -> Result<()> {
    let node = Node::new()?;
    let mut task = node.proving("1")?;
    ensure!(task.ends(SOON)?.success());
    ensure!(!node.answered()?);
    ensure!(tables()?.is_empty(), "{}", tables()?);
    Ok(())
}

#[test]
fn a_signal_ends_the_proof() -> Result<()> {
    let node = Node::new()?;
    let mut task = node.proving("60")?;
    task.signal(Signal::TERM)?;
    ensure!(task.ends(SOON)?.success());
    ensure!(!node.answered()?);
    ensure!(tables()?.is_empty(), "{}", tables()?);
    Ok(())
}

#[test]
fn a_killed_proof_diverts_nothing_for_long() -> Result<()> {
    let node = Node::new()?;
    let mut task = node.proving("2")?;
    task.kill()?;
    let element =
        || Ok(output("nft", &["list", "set", "inet", "selfhost_prove", "source"])?.contains("10.0.0.2"));
    ensure!(element()?, "the kernel still diverts");
    eventually(SOON, "the kernel to end it", || element().map(|there| !there))?;
    // The left-over table does not disturb the next proof.
    let mut task = node.proving("15")?;
    let mut token = String::new();
    from(PROBER)?.read_to_string(&mut token)?;
    ensure!(token == "c0ffee\n", "{token:?}");
    ensure!(task.ends(SOON)?.success());
    ensure!(tables()?.is_empty(), "{}", tables()?);
    Ok(())
}

#[test]
fn a_taken_port_leaves_no_table() -> Result<()> {
    let node = Node::new()?;
    let _taken = std::net::TcpListener::bind("0.0.0.0:6444")?;
    let args = ["prove-path", "--from", PROBER, "--node-ip", "10.0.0.1", "--token", "x"];
    let mut task = NodePart::task(&args, &node.directory.path().join("result"))?;
    ensure!(task.ends(SOON)?.code() == Some(1));
    let result = fs::read_to_string(node.directory.path().join("result"))?;
    ensure!(result.starts_with(r#"{"error":"listen on port 6444: "#), "{result}");
    ensure!(tables()?.is_empty(), "{}", tables()?);
    Ok(())
}

#[test]
fn inspect_tries_the_kernel_out() -> Result<()> {
    let node = Node::new()?;
    let manifests = node.directory.path().join("manifests");
    let kept = node.directory.path().join("kept");
    fs::create_dir(&manifests)?;
    fs::write(manifests.join("etcd.yaml"), "abc")?;
    let _taken = std::net::TcpListener::bind("10.0.0.1:10267")?;
    let inspect = |path: &str| -> Result<Inspect> {
        let output = Command::new(BINARY)
            .args(["task", "inspect", "--ports", "6444,10267", "--manifests"])
            .arg(&manifests)
            .arg("--kept")
            .arg(&kept)
            .env("PATH", path)
            .env("SELFHOST_TERMINATION_LOG", node.directory.path().join("result"))
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let message = fs::read_to_string(node.directory.path().join("result"))?;
        ensure!(String::from_utf8(output.stdout)?.trim_end() == message, "both say the same");
        Ok(serde_json::from_str(&message)?)
    };
    let report = inspect(&std::env::var("PATH")?)?;
    ensure!(report.divert.supported && report.divert.error.is_none(), "{:?}", report.divert);
    ensure!(report.ports.iter().map(|port| (port.port, port.free)).eq([(6444, true), (10267, false)]));
    ensure!(report.manifests.keys().eq(["etcd.yaml"]), "{:?}", report.manifests);
    ensure!(report.processes.is_empty(), "this namespace is its own node: {:?}", report.processes);
    ensure!(tables()?.is_empty(), "the trial leaves nothing: {}", tables()?);

    let report = inspect("/nowhere")?;
    let error = report.divert.error.context("there is no nft")?;
    ensure!(!report.divert.supported && error.starts_with("run nft: "), "{error}");
    Ok(())
}

#[test]
fn whoever_is_not_root_cannot_recover_and_is_told_so() -> Result<()> {
    let node = Node::new()?;
    let directory = node.directory.path();
    // Where it was built, nobody else may look. Copied by a process of its own: a file that this process has open for
    // writing, another test's child may have inherited, and until that runs its own program, this one cannot be run
    // (ETXTBSY).
    let binary = directory.join("selfhost-node");
    output("cp", &[BINARY, &binary.to_string_lossy()])?;
    fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    let manifests = directory.join("manifests");
    fs::create_dir(&manifests)?;
    let output = Command::new(binary)
        .args(["recover", "--manifests"])
        .arg(&manifests)
        .uid(65534)
        .gid(65534)
        .output()?;
    ensure!(output.status.code() == Some(1) && output.stdout.is_empty(), "{output:?}");
    let expected = format!("error: not allowed to write to {}\nhint: run it as root\n", manifests.display());
    ensure!(String::from_utf8(output.stderr)? == expected);
    Ok(())
}
