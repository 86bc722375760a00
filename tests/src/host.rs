//! What this machine must be before the bed does anything.
//!
//! Invariant: checks change nothing, and each failure is one line with what to do about it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::refusal::Refusal;

/// Free space a build takes at most: module cache, build cache and two versions' binaries.
const BUILD_ROOM: u64 = 6 << 30;

/// Free space a cluster takes at most.
const CLUSTER_ROOM: u64 = 3 << 30;

/// Root on a Linux machine whose kernel has what nodes are made of.
pub(crate) fn check() -> Result<()> {
    check_system()?;
    check_root()?;
    check_kernel()
}

/// Linux on `x86_64`: what kubeadm runs on and what the node image is built for.
fn check_system() -> Result<()> {
    let (system, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    if (system, architecture) == ("linux", "x86_64") {
        return Ok(());
    }
    let message = format!("the bed runs on linux x86_64, not on {system} {architecture}");
    Err(Refusal::new(message, "use a Linux machine or virtual machine").into())
}

/// Namespaces, mounts and control groups take root.
pub(crate) fn check_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Refusal::new("the bed needs root", "run the command as root (sudo -E env PATH=$PATH cargo ...)")
        .into())
}

fn check_kernel() -> Result<()> {
    let missing = |what: &str, hint: &str| {
        Err(Refusal::new(format!("this kernel (or container) has no {what}"), hint.to_owned()).into())
    };
    for (namespace, option) in [
        ("net", "NET_NS"),
        ("mnt", "NAMESPACES"),
        ("pid", "PID_NS"),
        ("uts", "UTS_NS"),
        ("cgroup", "CGROUPS"),
    ] {
        if !Path::new("/proc/self/ns").join(namespace).exists() {
            return missing(
                &format!("{namespace} namespaces"),
                &format!("use a kernel with CONFIG_{option}"),
            );
        }
    }
    if !quiet("unshare", &["--net", "--mount", "true"]) {
        return missing(
            "permission to create namespaces",
            "run on the machine itself or in a privileged container",
        );
    }
    if !filesystem("overlay")? && !quiet("modprobe", &["overlay"]) {
        return missing("overlay file system", "use a kernel with CONFIG_OVERLAY_FS");
    }
    // In a namespace of their own, so that nothing is left of the attempt. Without the tool the package list has to be
    // installed first, and the attempt is repeated by `check_tools`.
    if exists("ip") {
        for (kind, arguments) in [("veth", &["peer", "name", "probe1"][..]), ("bridge", &[])] {
            let link = ["--net", "ip", "link", "add", "probe0", "type", kind];
            if !quiet("unshare", &[&link, arguments].concat()) {
                let option = kind.to_uppercase();
                return missing(
                    &format!("{kind} network devices"),
                    &format!("use a kernel with CONFIG_{option}"),
                );
            }
        }
    }
    if exists("nft") && !quiet("unshare", &["--net", "nft", "add", "table", "inet", "probe"]) {
        return missing("nftables", "use a kernel with CONFIG_NF_TABLES_INET");
    }
    Ok(())
}

/// The kernel checks that need installed tools.
pub(crate) fn check_tools() -> Result<()> {
    check_kernel()
}

/// Room to build binaries below `directory`.
pub(crate) fn check_build_room(directory: &Path) -> Result<()> {
    check_room(
        directory,
        BUILD_ROOM,
        "to build Kubernetes",
        "free some space or set XDG_CACHE_HOME to a larger disk",
    )
}

/// Room for a cluster below `directory`.
pub(crate) fn check_cluster_room(directory: &Path) -> Result<()> {
    check_room(
        directory,
        CLUSTER_ROOM,
        "for a cluster",
        "free some space, or `cargo bed down` a cluster of `cargo bed list`",
    )
}

fn check_room(directory: &Path, needed: u64, purpose: &str, hint: &str) -> Result<()> {
    let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let room = rustix::fs::statvfs(existing)
        .with_context(|| format!("ask for the room in {}", existing.display()))?;
    let free = room.f_bavail * room.f_frsize;
    if free >= needed {
        return Ok(());
    }
    let message = format!(
        "{} has {} MB free, {} MB are needed {purpose}",
        existing.display(),
        free >> 20,
        needed >> 20
    );
    Err(Refusal::new(message, hint).into())
}

/// Whether `program` is in PATH or where Debian keeps system programs.
pub(crate) fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(Into::into))
        .any(|directory| directory.join(program).exists())
}

fn filesystem(name: &str) -> Result<bool> {
    let known = fs::read_to_string("/proc/filesystems").context("read /proc/filesystems")?;
    Ok(known.lines().any(|line| line.split_whitespace().last() == Some(name)))
}

fn quiet(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_too_small_is_named_with_both_sizes() {
        let error = check_room(Path::new("/proc/self/none"), u64::MAX, "for a test", "buy one").unwrap_err();
        let refusal = error.downcast_ref::<Refusal>().unwrap();
        assert!(refusal.to_string().ends_with("are needed for a test"), "{refusal}");
        assert_eq!(refusal.hint(), "buy one");
    }

    #[test]
    fn programs_are_found_or_not() {
        assert!(exists("sh"));
        assert!(!exists("no-such-program"));
    }
}
