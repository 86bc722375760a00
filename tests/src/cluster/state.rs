//! What is recorded about a cluster, and where.
//!
//! Invariant: the record is written before anything else of the cluster exists and removed after everything else is
//! gone, so whatever exists can be found.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use selfhost_core::version::KubeVersion;
use serde::{Deserialize, Serialize};

use super::spec::{Name, ProxyMode};
use crate::paths;
use crate::refusal::Refusal;

/// The record of a cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) name: Name,
    pub(crate) version: KubeVersion,
    pub(crate) phase: Phase,
    /// Third byte of the addresses: 10.250.`subnet`.0/24.
    pub(crate) subnet: u8,
    pub(crate) nodes: Vec<Node>,
    pub(crate) proxy_mode: ProxyMode,
    /// The project's node image with tag and digest, if it was loaded.
    pub(crate) node_image: Option<String>,
    /// The guard's image, if its nodes have it.
    pub(crate) guard_image: Option<String>,
    pub(crate) created: Timestamp,
    /// The process that will take the cluster down; none if it shall stay.
    pub(crate) owner: Option<Owner>,
}

/// A process, told from a later one with the same id by its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pid: u32,
    /// Clock ticks since boot.
    start: u64,
}

impl Owner {
    /// This process.
    pub(crate) fn current() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// Whether the process still runs.
    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold spaces. Field 22 counts from the id, the name being the second.
        let (_, after) = stat.rsplit_once(')')?;
        Some(Self { pid, start: after.split_whitespace().nth(19)?.parse().ok()? })
    }
}

/// How far a cluster got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// `up` has not finished; if no process holds the lock, it never will.
    Creating,
    /// `up` has finished.
    Ready,
}

/// A node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// `cp1`, `w1`, `client` or `lb`; also its host name.
    pub name: String,
    /// What it is there for.
    pub role: Role,
    /// Last byte of its address.
    pub host: u8,
}

/// What a node is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// kubelet and control plane.
    ControlPlane,
    /// kubelet.
    Worker,
    /// kube-proxy only: reaches Services like a Pod on another machine does.
    Client,
    /// `HAProxy` before the API servers.
    Balancer,
}

impl Role {
    /// Whether a kubelet runs there.
    pub fn has_kubelet(self) -> bool {
        matches!(self, Self::ControlPlane | Self::Worker)
    }
}

/// The nodes of a cluster with that many of each kind, in the order in which they are started.
pub(super) fn nodes(control_planes: u8, workers: u8) -> Vec<Node> {
    let node = |name: String, role, host| Node { name, role, host };
    let mut nodes = Vec::new();
    if control_planes > 1 {
        nodes.push(node("lb".into(), Role::Balancer, 10));
    }
    nodes.extend((1..=control_planes).map(|i| node(format!("cp{i}"), Role::ControlPlane, 10 + i)));
    nodes.extend((1..=workers).map(|i| node(format!("w{i}"), Role::Worker, 20 + i)));
    nodes.push(node("client".into(), Role::Client, 8));
    nodes
}

impl State {
    /// Reads the record of the cluster in `directory`; `None` if there is no (whole) record.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join("cluster.json");
        match fs::read(&path) {
            // A record is renamed into place, so one that does not parse is not ours to guess about.
            Ok(text) => {
                serde_json::from_slice(&text).map(Some).with_context(|| format!("read {}", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Writes the record, replacing the old one at once.
    pub(crate) fn write(&self) -> Result<()> {
        let directory = self.directory();
        let path = directory.join("cluster.json");
        let fresh = directory.join(".cluster.json.new");
        fs::write(&fresh, serde_json::to_vec_pretty(self)?)
            .and_then(|()| fs::rename(&fresh, &path))
            .with_context(|| format!("write {}", path.display()))
    }

    /// Whether nobody will ever finish it or take it down. Its lock must be held: `up` and `down` hold it while at work.
    pub(crate) fn is_left_behind(&self) -> bool {
        match self.phase {
            Phase::Creating => true,
            Phase::Ready => self.owner.is_some_and(|owner| !owner.is_alive()),
        }
    }

    /// Directory of everything the cluster keeps on this machine.
    pub(crate) fn directory(&self) -> PathBuf {
        directory(&self.name)
    }

    /// The node called `name`.
    pub(crate) fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name == name).ok_or_else(|| {
            let names: Vec<_> = self.nodes.iter().map(|node| node.name.as_str()).collect();
            Refusal::new(
                format!("cluster {} has no node {name}", self.name),
                format!("its nodes are {}", names.join(", ")),
            )
            .into()
        })
    }
}

/// Directory of the cluster `name`, whether it exists or not.
pub(super) fn directory(name: &Name) -> PathBuf {
    Path::new(paths::STATE).join(name.as_ref())
}

/// Names of all clusters on this machine, whole or half made.
pub(super) fn names() -> Result<Vec<Name>> {
    let entries = match fs::read_dir(paths::STATE) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.with_context(|| format!("list {}", paths::STATE))?,
    };
    let mut names: Vec<Name> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balancer_only_where_it_balances() {
        let names = |cps, workers| nodes(cps, workers).into_iter().map(|node| node.name).collect::<Vec<_>>();
        assert_eq!(names(1, 0), ["cp1", "client"]);
        assert_eq!(names(3, 2), ["lb", "cp1", "cp2", "cp3", "w1", "w2", "client"]);
    }

    #[test]
    fn a_process_is_told_from_a_later_one() {
        let this = Owner::current().unwrap();
        assert!(this.is_alive());
        assert!(!Owner { start: this.start + 1, ..this }.is_alive());
    }

    #[test]
    fn addresses_are_unique() {
        let mut hosts: Vec<_> = nodes(3, 79).into_iter().map(|node| node.host).collect();
        let all = hosts.len();
        hosts.sort_unstable();
        hosts.dedup();
        assert_eq!(hosts.len(), all);
        assert!(hosts.iter().all(|host| (2..=254).contains(host)));
    }
}
