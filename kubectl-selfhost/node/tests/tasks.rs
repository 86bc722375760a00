//! Tasks as the plugin runs them: the built binary, its exit codes and its documents. Needs no root.
#![cfg(target_os = "linux")]

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use selfhost_node::report::{Failure, PortFree, Restore, Retire};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Instants of a task's life at which it is killed.
const KILLS: u32 = 60;

/// Some KiB, so that a write has a middle.
fn manifest() -> String {
    format!("apiVersion: v1\nkind: Pod\n{}", "# padding\n".repeat(4000))
}

/// A node's directories in a temporary one.
struct Node(TempDir);

impl Node {
    fn new() -> Result<Self> {
        let node = Self(tempfile::tempdir()?);
        fs::create_dir(node.path("manifests"))?;
        fs::write(node.file(), manifest())?;
        Ok(node)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("manifests/kube-apiserver.yaml")
    }

    fn kept(&self) -> PathBuf {
        self.path("kept/kube-apiserver.yaml")
    }

    /// `selfhost-node task NAME` with the two directories.
    fn task(&self, name: &str, more: &[&str]) -> Command {
        let mut command = task(name, more);
        command.arg("--file").arg(self.file()).arg("--kept").arg(self.path("kept"));
        command.env("SELFHOST_TERMINATION_LOG", self.path("termination-log"));
        command
    }

    fn retire(&self) -> Command {
        let hash = Sha256::digest(manifest());
        let hash = hash.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        // Nobody listens on port 0.
        self.task("retire-manifest", &["--sha256", &hash, "--port", "0"])
    }

    /// Runs a task to its end; both places must say the same.
    fn run<T: DeserializeOwned>(&self, mut command: Command, code: i32) -> Result<T> {
        let output = command.output()?;
        let stdout = String::from_utf8(output.stdout)?;
        ensure!(output.status.code() == Some(code), "{}: {stdout}", output.status);
        ensure!(fs::read_to_string(self.path("termination-log"))? == stdout.trim_end(), "{stdout}");
        serde_json::from_str(&stdout).context(stdout)
    }
}

fn task(name: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfhost-node"));
    command.args(["task", name]).args(more).stdin(Stdio::null());
    command
}

#[test]
fn a_manifest_goes_and_comes_back() -> Result<()> {
    let node = Node::new()?;
    let retired: Retire = node.run(node.retire(), 0)?;
    ensure!(retired.removed && retired.kept == node.kept(), "{retired:?}");
    ensure!(!node.file().exists());
    let restored: Restore = node.run(node.task("restore-manifest", &[]), 0)?;
    ensure!(restored.restored && restored.sha256 == retired.sha256, "{restored:?}");
    ensure!(fs::read_to_string(node.file())? == manifest());
    Ok(())
}

#[test]
fn a_refusal_is_a_document_with_a_hint() -> Result<()> {
    let node = Node::new()?;
    let command = node.task("retire-manifest", &["--sha256", &"0".repeat(64), "--port", "0"]);
    let failure: Failure = node.run(command, 1)?;
    ensure!(failure.error.contains("has changed since it was planned"), "{failure:?}");
    ensure!(failure.hint == "make a new plan; nothing was touched", "{failure:?}");
    ensure!(node.file().exists() && !node.kept().exists());
    Ok(())
}

#[test]
fn nonsense_is_a_document_too() -> Result<()> {
    let node = Node::new()?;
    let failure: Failure = node.run(node.task("polish-manifest", &[]), 2)?;
    ensure!(failure.error == r#"unknown task "polish-manifest""#, "{failure:?}");
    Ok(())
}

#[test]
fn a_port_is_awaited() -> Result<()> {
    let node = Node::new()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port().to_string();
    let wait = |timeout| {
        let mut command = task("wait-port-free", &["--port", &port, "--timeout", timeout]);
        command.env("SELFHOST_TERMINATION_LOG", node.path("termination-log"));
        command
    };
    let failure: Failure = node.run(wait("0"), 1)?;
    ensure!(failure.error == format!("port {port} is still listened on after 0 s"), "{failure:?}");
    drop(listener);
    let free: PortFree = node.run(wait("5"), 0)?;
    ensure!(free.port.to_string() == port);
    Ok(())
}

/// Kills a task at many instants of its life and demands that the manifest is whole afterwards, and that running the
/// task again ends as if nothing had happened.
fn killed_at_any_time(
    prepare: impl Fn(&Node) -> Result<()>,
    command: impl Fn(&Node) -> Command,
    done: impl Fn(&Node) -> bool,
) -> Result<()> {
    let node = Node::new()?;
    prepare(&node)?;
    let start = Instant::now();
    ensure!(command(&node).output()?.status.success());
    let life = start.elapsed();

    let mut killed = 0;
    for instant in 0..KILLS {
        let delay = life * instant / KILLS;
        let node = Node::new()?;
        prepare(&node)?;
        let mut child = command(&node).stdout(Stdio::null()).spawn()?;
        thread::sleep(delay);
        // Fails when it has ended already.
        let _ = child.kill();
        killed += u32::from(!child.wait()?.success());
        for path in [node.file(), node.kept()] {
            if path.exists() {
                let whole = fs::read_to_string(&path)? == manifest();
                ensure!(whole, "{} is damaged after {delay:?}", path.display());
            }
        }
        ensure!(node.file().exists() || node.kept().exists(), "the manifest is lost after {delay:?}");

        let again = command(&node).output()?;
        ensure!(again.status.success(), "after {delay:?}: {}", String::from_utf8_lossy(&again.stdout));
        ensure!(done(&node), "after {delay:?}");
    }
    ensure!(killed > KILLS / 4, "the task was killed only {killed} times");
    Ok(())
}

#[test]
fn retiring_survives_being_killed() -> Result<()> {
    let done = |node: &Node| !node.file().exists() && node.kept().exists();
    killed_at_any_time(|_| Ok(()), Node::retire, done)
}

#[test]
fn restoring_survives_being_killed() -> Result<()> {
    let retired = |node: &Node| {
        ensure!(node.retire().output()?.status.success());
        Ok(())
    };
    let done = |node: &Node| node.file().exists() && node.kept().exists();
    killed_at_any_time(retired, |node| node.task("restore-manifest", &[]), done)
}
