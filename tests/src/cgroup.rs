//! Control groups: which processes belong to a cluster, and how they all end.
//!
//! Invariant: a process is signalled only through a handle (pidfd) that was taken while the process was seen inside the
//! group, so a recycled process id is never hit. Groups outside [`ROOT`] are never touched.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::refusal::Refusal;

/// The group that holds all clusters, below the root of each hierarchy.
const ROOT: &str = "kubectl-selfhost-bed";

/// How long killed processes may take to be gone: one in the middle of a disk write takes as long as that does.
const DEATH: Duration = Duration::from_secs(30);

/// Moves itself into `$1` groups, whose directories follow, then becomes the rest of its arguments.
const JOIN: &str = r#"n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ > "$1/cgroup.procs" || exit 1; shift; n=$((n-1)); done; exec "$@""#;

/// How this machine mounts its control groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Layout {
    /// cgroup v2 only, mounted here.
    Unified(PathBuf),
    /// cgroup v1: one hierarchy per controller or set of controllers.
    Split(Vec<Hierarchy>),
}

/// A cgroup v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    mount: PathBuf,
    /// What `mount -o` needs to mount the same hierarchy again.
    options: String,
}

impl Layout {
    /// Reads the layout of this machine.
    pub(crate) fn detect() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
        Self::parse(&mounts).ok_or_else(|| {
            Refusal::new("no control groups are mounted on /sys/fs/cgroup", "mount cgroup v2 there").into()
        })
    }

    fn parse(mounts: &str) -> Option<Self> {
        let mut split = Vec::new();
        let mut unified = None;
        for line in mounts.lines() {
            let Some((before, after)) = line.split_once(" - ") else {
                continue;
            };
            let mount = before.split(' ').nth(4).map(PathBuf::from)?;
            let mut after = after.split(' ');
            match (after.next(), after.nth(1)) {
                (Some("cgroup"), Some(options)) => {
                    split.push(Hierarchy { mount, options: mount_options(options) });
                }
                (Some("cgroup2"), _) if mount == Path::new("/sys/fs/cgroup") => unified = Some(mount),
                _ => {}
            }
        }
        if split.is_empty() { unified.map(Self::Unified) } else { Some(Self::Split(split)) }
    }

    /// Whether this is cgroup v1 (also beside an empty v2 hierarchy).
    pub(crate) fn is_split(&self) -> bool {
        matches!(self, Self::Split(_))
    }

    /// What a node's boot script needs to mount its own view: `unified`, or a line per hierarchy.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Unified(_) => "unified\n".to_owned(),
            Self::Split(hierarchies) => {
                let lines: Vec<String> = hierarchies
                    .iter()
                    .filter_map(|it| Some(format!("{} {}\n", it.mount.file_name()?.to_str()?, it.options)))
                    .collect();
                lines.concat()
            }
        }
    }

    fn mounts(&self) -> Vec<&Path> {
        match self {
            Self::Unified(mount) => vec![mount],
            Self::Split(hierarchies) => hierarchies.iter().map(|it| it.mount.as_path()).collect(),
        }
    }
}

/// `rw,xattr,name=systemd` as mount options: flags of the mount left out, a named hierarchy without controllers.
fn mount_options(options: &str) -> String {
    let kept: Vec<&str> = options
        .split(',')
        .filter(|option| !matches!(*option, "rw" | "ro" | "xattr" | "clone_children"))
        .collect();
    let named = kept.iter().any(|option| option.starts_with("name="));
    if named { format!("none,{}", kept.join(",")) } else { kept.join(",") }
}

/// A group below [`ROOT`], in every hierarchy.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// Path below the mount points.
    path: PathBuf,
    mounts: Vec<PathBuf>,
    /// Where processes go on cgroup v2, whose inner groups hold none.
    leaf: Option<&'static str>,
}

impl Group {
    /// The group of a whole cluster.
    pub(crate) fn of_cluster(layout: &Layout, cluster: &str) -> Self {
        let mounts = layout.mounts().into_iter().map(Path::to_owned).collect();
        let leaf = (!layout.is_split()).then_some("init");
        Self { path: Path::new(ROOT).join(cluster), mounts, leaf }
    }

    /// The group `name` inside this one.
    pub(crate) fn child(&self, name: &str) -> Self {
        Self { path: self.path.join(name), ..self.clone() }
    }

    /// Creates the group in every hierarchy.
    pub(crate) fn create(&self) -> Result<()> {
        for mount in &self.mounts {
            let directory = mount.join(&self.path);
            fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
            inherit_cpuset(mount, &self.path)?;
        }
        Ok(())
    }

    /// A command that starts `program` inside the group, from its first instruction on.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", JOIN, "join"]).arg(self.mounts.len().to_string());
        for mount in &self.mounts {
            let mut directory = mount.join(&self.path);
            if let Some(leaf) = self.leaf.filter(|leaf| directory.join(leaf).exists()) {
                directory.push(leaf);
            }
            command.arg(directory);
        }
        command.arg(program);
        command
    }

    /// Moves one process into the group.
    pub(crate) fn adopt(&self, pid: u32) -> Result<()> {
        for mount in &self.mounts {
            let file = mount.join(&self.path).join("cgroup.procs");
            fs::write(&file, pid.to_string())
                .with_context(|| format!("move process {pid} to {}", file.display()))?;
        }
        Ok(())
    }

    /// Processes of the group and of all groups in it.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self
            .directories()
            .iter()
            .filter_map(|directory| fs::read_to_string(directory.join("cgroup.procs")).ok())
            .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
            // Processes of an outer process namespace read as 0.
            .filter(|pid| *pid != 0)
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Kills every process in the group and waits until none is left.
    pub(crate) fn kill(&self) -> Result<()> {
        let deadline = Instant::now() + DEATH;
        loop {
            let pids = self.processes();
            if pids.is_empty() {
                return Ok(());
            }
            for pid in &pids {
                self.kill_one(*pid);
            }
            if Instant::now() > deadline {
                bail!("processes {pids:?} of {} do not end", self.path.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn kill_one(&self, pid: u32) {
        // Ended meanwhile: that is what was wanted.
        if let Some(handle) = self.handle(pid) {
            let _ = pidfd_send_signal(&handle, Signal::KILL);
        }
    }

    /// Kills the processes in the group that have a command line as `wanted`, and tells how many those were.
    pub(crate) fn kill_those(&self, wanted: impl Fn(&[&str]) -> bool) -> usize {
        let mut killed = 0;
        for pid in self.processes() {
            // What is read is the process that will be killed: the handle holds its id.
            let Some(handle) = self.handle(pid) else { continue };
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&str> = line.trim_end_matches('\0').split('\0').collect();
            if wanted(&words) && pidfd_send_signal(&handle, Signal::KILL).is_ok() {
                killed += 1;
            }
        }
        killed
    }

    /// A hold on a process of the group; `None` when there is none of this id.
    fn handle(&self, pid: u32) -> Option<OwnedFd> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        let handle = pidfd_open(raw, PidfdFlags::empty()).ok()?;
        // The id may have been recycled before the handle was taken. It cannot be after.
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let inside = format!("/{}", self.path.display());
        let is_ours = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|path| {
            path == inside || path.strip_prefix(&inside).is_some_and(|rest| rest.starts_with('/'))
        });
        is_ours.then_some(handle)
    }

    /// Removes the group, those in it, and those around it that are empty then. No process may be left.
    pub(crate) fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + DEATH;
        let mut directories = self.directories();
        // Children sort after their parents.
        directories.reverse();
        for directory in directories {
            loop {
                match fs::remove_dir(&directory) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    // A killed process leaves its group only after it left the process list.
                    Err(error)
                        if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
                    {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    result => break result.with_context(|| format!("remove {}", directory.display()))?,
                }
            }
        }
        for mount in &self.mounts {
            for around in self.path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()) {
                // Not empty: other clusters or nodes are in it.
                if fs::remove_dir(mount.join(around)).is_err() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The directories of the group and of all groups in it, sorted, in every hierarchy.
    fn directories(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open: Vec<PathBuf> =
            self.mounts.iter().map(|mount| mount.join(&self.path)).filter(|path| path.is_dir()).collect();
        while let Some(directory) = open.pop() {
            if let Ok(entries) = fs::read_dir(&directory) {
                open.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()));
            }
            found.push(directory);
        }
        found.sort();
        found
    }
}

/// A new cpuset group is empty and takes no process: give it what its parent has, on every level.
fn inherit_cpuset(mount: &Path, path: &Path) -> Result<()> {
    if !mount.join("cpuset.cpus").exists() || mount.join("cgroup.controllers").exists() {
        return Ok(());
    }
    let mut directory = mount.to_owned();
    for part in path.components() {
        let parent = directory.clone();
        directory.push(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if fs::read_to_string(directory.join(file))?.trim().is_empty() {
                fs::write(directory.join(file), fs::read(parent.join(file))?)
                    .with_context(|| format!("set {}", directory.join(file).display()))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_machines_count_as_v1() {
        let layout = Layout::parse(
            "10:31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
             11 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
             19 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd\n\
             20 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
        )
        .unwrap();
        assert_eq!(layout.describe(), "cpu,cpuacct cpu,cpuacct\nsystemd none,name=systemd\n");
    }

    #[test]
    fn v2_alone_is_unified() {
        let layout = Layout::parse("20 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n").unwrap();
        assert_eq!(layout.describe(), "unified\n");
        assert!(!layout.is_split());
        assert_eq!(Layout::parse("1 2 0:3 / / rw - ext4 /dev/vda rw\n"), None);
    }
}
