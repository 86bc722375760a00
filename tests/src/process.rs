//! Servers that a test starts beside itself.
//!
//! Invariant: a process ends with its value or, at the latest, with the process that made it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use anyhow::{Context, Result, bail};

use crate::command;

/// Different free ports.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // All are held at once, so that no two are the same.
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener.and_then(|listener| listener.local_addr()).context("find a free port")?.port();
    }
    Ok(ports)
}

/// A command for `program` that the kernel kills when the thread that started it ends.
pub fn tied(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// A server; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    /// Ends the thread that started the child. A test's own thread may end long before the process.
    _parent: mpsc::Sender<()>,
}

impl Process {
    /// Starts a command of [`tied`]; what it writes goes to the file `log`.
    pub fn start(mut command: Command, log: PathBuf) -> Result<Self> {
        let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let (child_sender, child) = mpsc::channel();
        let (parent, ended) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            // Nobody is left to hear of it if the receiver is gone.
            let _ = child_sender.send(command.spawn());
            // Returns when the sender is dropped.
            let _ = ended.recv();
        });
        let child = child.recv().context("start a thread")?.context("run setpriv")?;
        Ok(Self { child, log, _parent: parent })
    }

    /// Fails if it has ended.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("it ended with {status}: {}", command::tail_of(&self.log));
        }
        Ok(())
    }

    /// Everything that it has written up to now.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already: that is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
