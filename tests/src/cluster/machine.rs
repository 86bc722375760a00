//! A node as a machine: namespaces, a control group and a disk.
//!
//! Invariant: process 1 of the node's process namespace holds everything that a machine loses with its power. Killing it
//! is the power cut: the kernel takes every other process, mount and interface of the node with it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::network::{Subnet, pod_subnet};
use super::state::{Node, State};
use crate::cgroup::{Group, Layout};
use crate::refusal::Refusal;
use crate::{command, paths};

/// How long a node may take from power-on until its services are started.
const BOOT: Duration = Duration::from_secs(30);

/// Programs of a node, before the host's.
const PATH: &str = "/run/bed/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Kubernetes programs that a node finds in its PATH at its own version.
const PROGRAMS: [&str; 4] = ["kubeadm", "kubelet", "kubectl", "kube-proxy"];

/// etcd's, for looking into it.
const ETCD_PROGRAMS: [&str; 2] = ["etcdctl", "etcdutl"];

/// A node of a cluster on this machine.
pub(crate) struct Machine<'a> {
    state: &'a State,
    node: &'a Node,
    layout: &'a Layout,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(state: &'a State, node: &'a Node, layout: &'a Layout) -> Self {
        Self { state, node, layout }
    }

    /// The node this machine is.
    pub(crate) fn node(&self) -> &'a Node {
        self.node
    }

    /// The node's own directory on this machine; `/run/bed` inside.
    pub(crate) fn directory(&self) -> PathBuf {
        self.state.directory().join("nodes").join(&self.node.name)
    }

    /// Where the node's `path` (absolute, below /var or /etc) lies on this machine.
    pub(crate) fn disk(&self, path: &str) -> PathBuf {
        self.directory().join("disk").join(path.trim_start_matches('/'))
    }

    /// Writes a file to the node's disk.
    pub(crate) fn write(&self, path: &str, text: &str) -> Result<()> {
        write(&self.disk(path), text, 0o600)
    }

    /// Makes the disk, with what an installation would put there.
    pub(crate) fn install(&self) -> Result<()> {
        let directory = self.directory();
        for name in ["bin", "disk", "log", "services"] {
            fs::create_dir_all(directory.join(name))
                .with_context(|| format!("create {}", directory.join(name).display()))?;
        }
        write(&directory.join("boot.sh"), include_str!("boot.sh"), 0o755)?;
        write(&directory.join("bin/systemctl"), include_str!("systemctl.sh"), 0o755)?;
        write(&directory.join("cgroups"), &self.layout.describe(), 0o644)?;
        write(&directory.join("enabled"), "", 0o644)?;
        let subnet = Subnet(self.state.subnet);
        let network = format!("ADDRESS={}\nGATEWAY={}\n", subnet.address(self.node.host), subnet.gateway());
        write(&directory.join("network"), &network, 0o644)?;
        let version = self.state.version.to_string();
        for (program, from) in PROGRAMS
            .map(|program| (program, version.clone()))
            .into_iter()
            .chain(ETCD_PROGRAMS.map(|program| (program, format!("etcd-{}", crate::binaries::ETCD_VERSION))))
        {
            let target = Path::new("/run/bed-binaries").join(from).join(program);
            symlink(&target, directory.join("bin").join(program))
                .with_context(|| format!("install {program}"))?;
        }
        Ok(())
    }

    /// Installs a service and has it started at every boot.
    pub(crate) fn service(&self, name: &str, script: &str) -> Result<()> {
        let directory = self.directory();
        write(&directory.join("services").join(name), &format!("#!/bin/sh\n{script}\n"), 0o755)?;
        let enabled = directory.join("enabled");
        let mut names = fs::read_to_string(&enabled)?;
        if !names.lines().any(|line| line == name) {
            names.push_str(name);
            names.push('\n');
            write(&enabled, &names, 0o644)?;
        }
        Ok(())
    }

    /// Switches the node on and waits until its services are started (not until they are ready).
    pub(crate) fn boot(&self) -> Result<()> {
        if self.init().is_some() {
            return Err(Refusal::new(
                format!("node {} is already running", self.node.name),
                "cut its power first: cargo bed power-cut",
            )
            .into());
        }
        self.boot_inner().with_context(|| format!("boot node {}", self.node.name))
    }

    fn boot_inner(&self) -> Result<()> {
        let group = self.group();
        group.create()?;
        let directory = self.directory();
        let log_path = directory.join("log/boot.log");
        let log = fs::File::options().create(true).append(true).open(&log_path)?;
        // A group of processes of its own, or the terminal's Ctrl-C would switch the node off.
        let mut launch = group.command("setsid");
        launch
            .args([
                "unshare",
                "--fork",
                "--kill-child",
                "--pid",
                "--mount",
                "--uts",
                "--ipc",
                "--net",
                "--cgroup",
            ])
            .args(["--propagation", "private", "--mount-proc"])
            .arg(directory.join("boot.sh"))
            .arg(&directory)
            .arg(paths::cache()?)
            .arg(&self.node.name)
            .args(self.routes())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut launcher = launch.spawn().context("run unshare")?;
        let deadline = Instant::now() + BOOT;
        let mut plugged = false;
        loop {
            if let Some(status) = launcher.try_wait()? {
                bail!("its first process ended with {status}: {}", command::tail_of(&log_path));
            }
            if let Some(init) = self.init() {
                if !plugged {
                    self.state_group().child("launchers").create()?;
                    self.state_group().child("launchers").adopt(launcher.id())?;
                    Subnet(self.state.subnet).plug(self.node, init)?;
                    plugged = true;
                }
                if Path::new(&format!("/proc/{init}/root/run/booted")).exists() {
                    break;
                }
            }
            if Instant::now() > deadline {
                bail!("not up within {} s: {}", BOOT.as_secs(), command::tail_of(&log_path));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // It lives as long as the node. This process does not: then nobody needs to wait for it.
        std::thread::spawn(move || launcher.wait());
        Ok(())
    }

    /// Takes the node's power away: every process gone at once, the disk kept.
    pub(crate) fn power_cut(&self) -> Result<()> {
        let group = self.group();
        group
            .kill()
            .and_then(|()| group.remove())
            .with_context(|| format!("cut the power of {}", self.node.name))
    }

    /// Kills the node's processes that have a command line as `wanted`, in containers too; tells how many those were.
    pub(crate) fn kill_those(&self, wanted: impl Fn(&[&str]) -> bool) -> usize {
        self.group().kill_those(wanted)
    }

    /// Process 1 of the node, as this machine numbers it; `None` when the node is off.
    pub(crate) fn init(&self) -> Option<u32> {
        self.group().processes().into_iter().find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| {
                status
                    .lines()
                    .filter_map(|line| line.strip_prefix("NSpid:"))
                    // The number here and the number there: processes of Pods have a third.
                    .any(|pids| pids.split_whitespace().skip(1).eq(["1"]))
            })
        })
    }

    /// A command inside all namespaces of the node, as if typed on its console.
    pub(crate) fn command(&self, program: &str) -> Result<Command> {
        let init = self.running()?.to_string();
        let mut command = self.group().command("nsenter");
        command
            .args(["--target", &init, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"])
            .args(["env", "--chdir=/", &format!("PATH={PATH}"), "HOME=/run/home", program]);
        Ok(command)
    }

    /// A command of this machine (its files, its PATH) in the node's network. The child is the program itself.
    pub(crate) fn network_command(&self, program: &str) -> Result<Command> {
        let net = format!("--net=/proc/{}/ns/net", self.running()?);
        let visitors = self.state_group().child("visitors");
        visitors.create()?;
        let mut command = visitors.command("nsenter");
        command.args([&net, "--", program]);
        Ok(command)
    }

    /// Runs a command inside the node and returns its standard output.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        command::output(self.command(program)?.args(arguments))
            .with_context(|| format!("on node {}", self.node.name))
    }

    fn running(&self) -> Result<u32> {
        self.init().ok_or_else(|| {
            let message = format!("node {} of cluster {} is switched off", self.node.name, self.state.name);
            let hint = format!("cargo bed boot --name {} --node {}", self.state.name, self.node.name);
            Refusal::new(message, hint).into()
        })
    }

    /// `SUBNET=GATEWAY` for the Pods of every other node.
    fn routes(&self) -> Vec<String> {
        let subnet = Subnet(self.state.subnet);
        self.state
            .nodes
            .iter()
            .filter(|other| other.role.has_kubelet() && other.name != self.node.name)
            .map(|other| format!("{}={}", pod_subnet(other.host), subnet.address(other.host)))
            .collect()
    }

    fn state_group(&self) -> Group {
        Group::of_cluster(self.layout, self.state.name.as_ref())
    }

    fn group(&self) -> Group {
        self.state_group().child(&self.node.name)
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let parent = path.parent().context("a file has a directory")?;
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(path, text))
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("write {}", path.display()))
}
