//! Network namespaces that live as long as the test that made them.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::LinkNameSpaceType;

use crate::eventually;

/// A network namespace, held open by a process that sleeps in it.
pub(crate) struct Namespace {
    holder: Child,
    handle: File,
}

impl Namespace {
    /// A namespace with its loopback up, and nothing else.
    pub(crate) fn new() -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "these tests need root: they make network namespaces");
        let holder = Command::new("unshare")
            .args(["--net", "sleep", "600"])
            .stdin(Stdio::null())
            .spawn()
            .context("run unshare")?;
        let path = format!("/proc/{}/ns/net", holder.id());
        let ours = fs::read_link("/proc/thread-self/ns/net")?;
        let command = format!("/proc/{}/comm", holder.id());
        eventually(Duration::from_secs(5), "a new network namespace", || {
            Ok(fs::read_link(&path)? != ours && fs::read_to_string(&command)?.trim() == "sleep")
        })?;
        let handle = File::open(&path)?;
        let namespace = Self { holder, handle };
        namespace.run(|| ip("link set lo up"))?;
        Ok(namespace)
    }

    /// Moves this thread, and what it starts from now on, into the namespace.
    pub(crate) fn enter(&self) -> Result<()> {
        rustix::thread::move_into_link_name_space(self.handle.as_fd(), Some(LinkNameSpaceType::Network))
            .context("enter a network namespace")
    }

    /// Runs `task` inside, on a thread of its own.
    pub(crate) fn run<T: Send>(&self, task: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let inside = || {
            self.enter()?;
            task()
        };
        match thread::scope(|scope| scope.spawn(inside).join()) {
            Ok(result) => result,
            Err(_) => bail!("a thread inside the namespace panicked"),
        }
    }

    /// Connects the current namespace (`here`, an address with prefix length) with this one (`there`).
    pub(crate) fn connect(&self, here: &str, there: &str) -> Result<()> {
        ip(&format!("link add near type veth peer name far netns {}", self.holder.id()))?;
        ip(&format!("addr add {here} dev near"))?;
        ip("link set near up")?;
        self.run(|| {
            ip(&format!("addr add {there} dev far"))?;
            ip("link set far up")
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It is ours; when it has ended already there is nothing to do.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Runs `ip` in the current namespace.
pub(crate) fn ip(args: &str) -> Result<()> {
    output("ip", &args.split(' ').collect::<Vec<_>>()).map(drop)
}

/// Runs a program in the current namespace, for its standard output.
pub(crate) fn output(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output().with_context(|| format!("run {program}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", args.join(" "), stderr.trim());
    Ok(String::from_utf8(output.stdout)?)
}
