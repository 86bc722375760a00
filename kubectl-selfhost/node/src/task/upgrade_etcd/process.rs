//! The processes that may be the etcd of this node, and the one that stands in for it.
//!
//! Invariant: only a process that had this data directory before the manifest was replaced is ever ended, beside our own
//! child.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::processes;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// As much of etcd's last words as a report repeats.
const WORDS: usize = 600;

/// A process that is known by more than its number.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    handle: OwnedFd,
}

impl Process {
    /// Ends it at once. What etcd has confirmed is on disk.
    pub(super) fn kill(&self) {
        // It may have ended by itself.
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
    }

    /// Whether it is still there.
    pub(super) fn runs(&self, all: &BTreeSet<u32>) -> bool {
        all.contains(&self.pid)
    }

    /// Copies its program, which may be gone from where it came with the image.
    pub(super) fn copy_program(&self, to: &Path) -> io::Result<Program> {
        fs::copy(format!("/proc/{}/exe", self.pid), to)?;
        let environment = fs::read(format!("/proc/{}/environ", self.pid))?;
        Ok(Program { path: to.to_owned(), environment: Some(variables(&environment)) })
    }
}

/// A program that can stand in for etcd.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    /// Its environment; none where it is the one of this process.
    pub(super) environment: Option<Vec<(OsString, OsString)>>,
}

/// The variables in the kernel's list of them.
fn variables(list: &[u8]) -> Vec<(OsString, OsString)> {
    let text = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    list.split(|&byte| byte == 0)
        .filter_map(|variable| {
            let end = variable.iter().position(|&byte| byte == b'=')?;
            Some((text(&variable[..end]), text(&variable[end + 1..])))
        })
        .collect()
}

/// Takes hold of the processes with these numbers.
pub(super) fn hold(pids: &BTreeSet<u32>) -> Vec<Process> {
    let open = |pid: &u32| {
        let number = Pid::from_raw(i32::try_from(*pid).ok()?)?;
        Some(Process { pid: *pid, handle: pidfd_open(number, PidfdFlags::empty()).ok()? })
    };
    pids.iter().filter_map(open).collect()
}

/// The numbers of the etcds of this node that have the data directory, `but` one.
pub(super) fn with_data(directory: &OsStr, but: Option<u32>) -> Result<BTreeSet<u32>, processes::Error> {
    let all = processes::list(Path::new("/proc"), &["etcd"])?;
    // Whoever ended meanwhile is none.
    let has_data = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| names(&line, directory.as_bytes()))
    };
    Ok(all.into_iter().map(|process| process.pid).filter(|pid| Some(*pid) != but && has_data(pid)).collect())
}

fn names(line: &[u8], directory: &[u8]) -> bool {
    line.split(|&byte| byte == 0).any(|word| word.strip_prefix(b"--data-dir=") == Some(directory))
}

/// By what it is seen that the kubelet is about to start etcd: it makes the directory of a container's logs first.
#[derive(Debug)]
pub(super) struct Signs {
    /// What the directories of the logs of etcd's Pods begin with.
    logs: PathBuf,
    seen: BTreeSet<PathBuf>,
}

impl Signs {
    /// Remembers what is there now.
    pub(super) fn new(logs: PathBuf) -> Self {
        let seen = look(&logs);
        Self { logs, seen }
    }

    /// Whether there is more than when it was looked last.
    pub(super) fn appeared(&mut self) -> bool {
        let now = look(&self.logs);
        let appeared = !now.is_subset(&self.seen);
        self.seen = now;
        appeared
    }
}

/// Containers and their logs, below the directories whose names begin so. What cannot be read is not there.
fn look(logs: &Path) -> BTreeSet<PathBuf> {
    let below =
        |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten().map(|it| it.path());
    let begins = |path: &PathBuf| path.as_os_str().as_bytes().starts_with(logs.as_os_str().as_bytes());
    let pods = logs.parent().map(below).into_iter().flatten().filter(begins);
    let containers: BTreeSet<PathBuf> = pods.flat_map(|pod| below(&pod)).collect();
    let files: BTreeSet<PathBuf> = containers.iter().flat_map(|it| below(it)).collect();
    containers.into_iter().chain(files).collect()
}

/// An etcd of ours on the node's data, for as long as the kubelet has none.
#[derive(Debug)]
pub(super) struct StandIn {
    child: Option<Child>,
    /// Where its words go.
    log: PathBuf,
}

impl StandIn {
    pub(super) const fn new(log: PathBuf) -> Self {
        Self { child: None, log }
    }

    pub(super) fn start(&mut self, program: &Program, arguments: &[OsString]) -> io::Result<()> {
        let log = File::create(&self.log)?;
        let mut command = Command::new(&program.path);
        // Seen beside another, it is known for what it is.
        command.arg0("etcd");
        if let Some(environment) = &program.environment {
            command.env_clear().envs(environment.iter().cloned());
        }
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// Its number, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How it ended by itself, once.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        Some(status)
    }

    /// Ends it at once: it has to be gone before the kubelet's starts, and what it has confirmed is on disk.
    pub(super) fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The last line that it said.
    pub(super) fn words(&self) -> Option<String> {
        let text = fs::read(&self.log).ok()?;
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
        let cut =
            line.char_indices().map(|(at, _)| at).find(|at| line.len() - at <= WORDS).unwrap_or_default();
        Some(line[cut..].to_owned())
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etcd_is_known_by_its_data() {
        for (line, expected) in [
            ("etcd\0--name=a\0--data-dir=/var/lib/etcd\0", true),
            ("etcd\0--data-dir=/var/lib/etcd2\0", false),
            ("etcd\0--data-dir\0/var/lib/etcd\0", false),
            ("", false),
        ] {
            assert_eq!(names(line.as_bytes(), b"/var/lib/etcd"), expected, "{line:?}");
        }
    }

    #[test]
    fn what_the_kubelet_makes_is_seen_once() {
        let directory = tempfile::tempdir().unwrap();
        let make = |path: &str| fs::create_dir_all(directory.path().join(path)).unwrap();
        make("kube-system_etcd-cp1_old/etcd");
        let mut signs = Signs::new(directory.path().join("kube-system_etcd-cp1_"));
        assert!(!signs.appeared());
        make("kube-system_etcd-cp1_new");
        make("kube-system_etcd-cp10_new/etcd");
        assert!(!signs.appeared(), "a sandbox takes longer than a container");
        make("kube-system_etcd-cp1_new/etcd");
        assert!(signs.appeared());
        assert!(!signs.appeared());
        fs::remove_dir_all(directory.path().join("kube-system_etcd-cp1_old")).unwrap();
        assert!(!signs.appeared(), "what goes is no sign");
        fs::write(directory.path().join("kube-system_etcd-cp1_new/etcd/1.log"), "").unwrap();
        assert!(signs.appeared(), "a container that is started again");
    }

    #[test]
    fn last_words() {
        let directory = tempfile::tempdir().unwrap();
        let mut stand_in = StandIn::new(directory.path().join("log"));
        assert_eq!(stand_in.words(), None);
        let script = ["-c", "echo first; echo $WORD >&2; echo"].map(OsString::from);
        let environment = Some(variables(b"WORD=last\0PATH=/usr/bin:/bin\0"));
        stand_in.start(&Program { path: "/bin/sh".into(), environment }, &script).unwrap();
        assert!(stand_in.child.as_mut().unwrap().wait().unwrap().success());
        assert!(stand_in.ended().is_some() && stand_in.ended().is_none() && stand_in.pid().is_none());
        assert_eq!(stand_in.words().as_deref(), Some("last"));
    }
}
