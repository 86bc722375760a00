//! The inventory: what was observed of a control plane, when, and what could not be read.
//!
//! Invariant: an inventory is data. It is incomplete and stale by nature; what could not be read is a finding or an
//! `Unknown` in it, never a missing value that reads as fine.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use selfhost_core::component::{Component, Hosting};
use selfhost_core::finding::Finding;
use selfhost_core::version::KubeVersion;

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
    /// kubeadm's ClusterConfiguration, as text, from ConfigMap `kubeadm-config`.
    pub kubeadm: Option<String>,
    /// The operation that is open: running, or interrupted.
    pub operation: Option<OpenOperation>,
    /// The `kubernetes` Service's ClusterIP.
    pub service_ip: Option<IpAddr>,
    /// What could not be read, or is wrong.
    pub findings: Vec<Finding>,
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

/// The operation that the Lease and the ConfigMap `selfhost-operation` tell of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOperation {
    /// Who runs, or ran, it: `user@host`.
    pub holder: String,
    /// What it is: `pivot`, `upgrade to v1.37.2`.
    pub what: String,
    /// The step that it was last known to be at.
    pub step: Option<String>,
    /// When it began.
    pub since: Option<Timestamp>,
    /// When the holder last renewed the Lease; older than its duration means that it was interrupted.
    pub renewed: Option<Timestamp>,
    /// Whether the holder still renews the Lease.
    pub running: bool,
}
