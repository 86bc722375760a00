//! The built binary as a child process.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::eventually;
use crate::server::Pki;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_selfhost-node");

/// A running node part; killed when the test is over.
pub(crate) struct NodePart {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl NodePart {
    /// A gate of the IPv4 node 10.0.0.1 with the `kubernetes` Service 10.96.0.1.
    pub(crate) fn gate(pki: &Pki) -> Result<Self> {
        Self::gate_of(BINARY.as_ref(), pki, "10.0.0.1", "10.96.0.1")
    }

    /// The gate of that node's standby, which is dormant: nobody holds the lock.
    pub(crate) fn dormant_gate(pki: &Pki) -> Result<Self> {
        let ca = pki.ca();
        let ca = ca.to_str().context("a temporary path")?;
        let node = ["--node-ip", "10.0.0.1", "--service-ip", "10.96.0.1", "--ca", ca];
        Self::start(BINARY.as_ref(), &[&["gate"], &node[..], &["--only-while", "/nobody.serving"]].concat())
    }

    /// A gate of `binary`.
    pub(crate) fn gate_of(binary: &Path, pki: &Pki, node: &str, service: &str) -> Result<Self> {
        let ca = pki.ca();
        let ca = ca.to_str().context("a temporary path")?;
        Self::start(binary, &["gate", "--node-ip", node, "--service-ip", service, "--ca", ca])
    }

    /// A task, its result in `termination_log`.
    pub(crate) fn task(args: &[&str], termination_log: &Path) -> Result<Self> {
        let mut command = Command::new(BINARY);
        command.arg("task").args(args).env("SELFHOST_TERMINATION_LOG", termination_log);
        Self::spawn(command)
    }

    fn start(binary: &Path, args: &[&str]) -> Result<Self> {
        let mut command = Command::new(binary);
        command.args(args);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start")?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().context("stderr is piped")?).lines();
        let into = Arc::clone(&log);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                into.lock().expect("nobody panics holding it").push(line);
            }
        });
        Ok(Self { child, log })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The log so far, without times.
    pub(crate) fn log(&self) -> Vec<String> {
        let lines = self.log.lock().expect("nobody panics holding it");
        lines
            .iter()
            .map(|line| line.split_once("Z ").map_or(line.as_str(), |(_, rest)| rest).to_owned())
            .collect()
    }

    /// Waits until the log has a line with `text`.
    pub(crate) fn logs(&self, text: &str, limit: Duration) -> Result<Duration> {
        eventually(limit, &format!("a line with {text:?} in the log"), || {
            let log = self.log();
            ensure!(log.iter().any(|line| line.contains(text)), "{log:#?}");
            Ok(true)
        })
    }

    /// Waits until the log is these lines.
    pub(crate) fn log_becomes(&self, lines: &[&str], limit: Duration) -> Result<()> {
        eventually(limit, "the lines of the log", || {
            let log = self.log();
            ensure!(log == lines, "{log:#?}");
            Ok(true)
        })
        .map(drop)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid())?).context("a child has a pid")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        let status = self.ends(Duration::from_secs(2))?;
        anyhow::ensure!(status.signal() == Some(9), "{status}");
        Ok(())
    }

    /// Whether the process is still there.
    pub(crate) fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for the end of the process.
    pub(crate) fn ends(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                bail!("still running after {limit:?}; log: {:?}", self.log());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for NodePart {
    fn drop(&mut self) {
        // It is ours; when it has ended already there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether `gate-check` says that the kernel diverts.
pub(crate) fn gate_check() -> Result<bool> {
    Ok(Command::new(BINARY).arg("gate-check").stderr(Stdio::null()).status()?.success())
}
