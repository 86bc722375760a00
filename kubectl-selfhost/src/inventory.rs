//! The inventory: what was observed of a control plane, when, and what could not be read.
//!
//! Invariant: an inventory is data. It is incomplete and stale by nature; what could not be read is a finding or an
//! `Unknown` in it, never a missing value that reads as fine.

pub mod certificates;
pub mod checkpoints;
pub mod credentials;
pub mod drift;
pub mod observe;
pub mod operation;
pub mod recognize;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use selfhost_core::component::{Component, Hosting};
use selfhost_core::finding::Finding;
use selfhost_core::labels;
use selfhost_core::version::KubeVersion;

use crate::operation::record::Record;

/// What was observed of a control plane.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// When the observation began.
    pub taken_at: Timestamp,
    /// What the answering API server says of itself (`/version`).
    pub server_version: Option<KubeVersion>,
    /// The control-plane nodes, by name: those with a control-plane role label, and those that run a component.
    pub control_plane: BTreeMap<String, Node>,
    /// Every node's kubelet version, by node name; `None` where it is not a version.
    pub kubelets: BTreeMap<String, Option<KubeVersion>>,
    /// The Pods that run a component, of either kind, by component and node. Bridges are not among them.
    pub instances: Vec<Instance>,
    /// The components' DaemonSets: ours, or those of kubeadm 1.5 to 1.18.
    pub daemonsets: BTreeMap<Component, DaemonSet>,
    /// Bridge Pods: present only during an operation.
    pub bridges: Vec<Pod>,
    /// The etcd Pods, by node.
    pub etcd: BTreeMap<String, Pod>,
    /// kubeadm's `ClusterConfiguration`, as text, from ConfigMap `kubeadm-config`.
    pub kubeadm: Option<String>,
    /// The operation that is open: running, or interrupted.
    pub operation: Option<OpenOperation>,
    /// The `kubernetes` Service's `ClusterIP`.
    pub service_ip: Option<IpAddr>,
    /// The static Pods that would bring the control plane back after a reboot, by node: two generations of them, the
    /// latest first.
    pub standbys: BTreeMap<String, Vec<Pod>>,
    /// When certificates expire, as far as the API or a handshake shows it.
    pub certificates: Vec<Certificate>,
    /// What could not be read, in whole. What it would have told is unknown, not absent.
    pub unread: BTreeSet<Part>,
    /// What could not be read, or is wrong.
    pub findings: Vec<Finding>,
}

/// A part of the cluster that is read with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// What the API server says of itself.
    Version,
    /// The nodes.
    Nodes,
    /// The Pods in `kube-system`.
    Pods,
    /// The DaemonSets in `kube-system`.
    DaemonSets,
    /// The Lease of the open operation.
    Lease,
    /// The ConfigMap of the open operation.
    Operation,
    /// kubeadm's ConfigMap.
    Kubeadm,
    /// The `kubernetes` Service.
    Service,
}

/// Where a certificate was seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the Secret of this name in `kube-system`; of several certificates there, the one that ends first.
    Secret(String),
    /// In the greeting of the server at this `host:port`.
    Served(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(name) => write!(f, "in secret {}/{name}", labels::NAMESPACE),
            Self::Served(address) => write!(f, "served at {address}"),
        }
    }
}

/// A certificate and the end of its validity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Which component uses it.
    pub component: Component,
    /// On which node; `None` for all of them, or where it is not known.
    pub node: Option<String>,
    /// Where it was seen.
    pub place: Place,
    /// The end of its validity.
    pub not_after: Timestamp,
}

impl Inventory {
    /// An inventory in which nothing was seen.
    pub const fn empty(taken_at: Timestamp) -> Self {
        Self {
            taken_at,
            server_version: None,
            control_plane: BTreeMap::new(),
            kubelets: BTreeMap::new(),
            instances: Vec::new(),
            daemonsets: BTreeMap::new(),
            bridges: Vec::new(),
            etcd: BTreeMap::new(),
            kubeadm: None,
            operation: None,
            service_ip: None,
            standbys: BTreeMap::new(),
            certificates: Vec::new(),
            unread: BTreeSet::new(),
            findings: Vec::new(),
        }
    }
}

impl Inventory {
    /// The Pods that run `component` on `node`: two while one takes over from the other.
    pub fn instances_on<'a>(
        &'a self,
        component: Component,
        node: &'a str,
    ) -> impl Iterator<Item = &'a Instance> {
        self.instances.iter().filter(move |it| it.component == component && it.node == node)
    }

    /// The latest checkpoint of a node's standby.
    pub fn checkpoint(&self, node: &str) -> Option<&Pod> {
        self.standbys.get(node)?.first()
    }

    /// Whether anything of a control plane is to be seen as Pods or DaemonSets.
    pub fn is_control_plane_visible(&self) -> bool {
        !self.instances.is_empty() || !self.daemonsets.is_empty() || !self.standbys.is_empty()
    }
}

/// One Pod of a component on a node.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Which component.
    pub component: Component,
    /// On which node.
    pub node: String,
    /// [`Hosting::StaticPod`] or [`Hosting::SelfHosted`].
    pub hosting: Hosting,
    /// The Pod; for a static Pod, its mirror Pod.
    pub pod: Pod,
}

impl Instance {
    /// Whether somebody has deleted the Pod: it drains, and will be gone.
    pub const fn is_ending(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }
}

/// The operation that the Lease and the ConfigMap `selfhost-operation` tell of.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenOperation {
    /// Who runs, or ran, it: `user@host`.
    pub holder: String,
    /// What it is: `pivot`, `upgrade v1.37.2`.
    pub what: String,
    /// The command that began it, and that goes on with it.
    pub command: Option<String>,
    /// The step that it was last known to be at.
    pub step: Option<String>,
    /// When it began.
    pub since: Option<Timestamp>,
    /// When the holder last renewed the Lease; older than its duration means that it was interrupted.
    pub renewed: Option<Timestamp>,
    /// Whether the holder still renews the Lease.
    pub running: bool,
    /// What the operation wrote down when it began: what `resume` and `abort` need.
    pub record: Option<Record>,
}
