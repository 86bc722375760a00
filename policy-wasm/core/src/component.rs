//! The control-plane components that are hosted by the cluster itself, and the fixed facts about each.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A control-plane component that a pivot turns from a static Pod into a DaemonSet.
///
/// The order is the order in which components are replaced: the version skew policy wants the API server first,
/// then the controller manager, then the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Component {
    /// kube-apiserver.
    #[serde(rename = "kube-apiserver")]
    ApiServer,
    /// kube-controller-manager.
    #[serde(rename = "kube-controller-manager")]
    ControllerManager,
    /// kube-scheduler.
    #[serde(rename = "kube-scheduler")]
    Scheduler,
}

impl Component {
    /// Every component, in the order of replacement.
    pub const ALL: [Self; 3] = [Self::ApiServer, Self::ControllerManager, Self::Scheduler];

    /// The component's name: of its binary, its container, its image and its `component` label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
        }
    }

    /// The name of its DaemonSet, and the value of that DaemonSet's `k8s-app` label.
    ///
    /// These are kubeadm's own names (`kubeadm alpha selfhosting pivot`, 1.5 to 1.18), so that a cluster made
    /// self-hosted by kubeadm is recognised and tools that know the one layout know the other.
    pub const fn daemonset_name(self) -> &'static str {
        match self {
            Self::ApiServer => "self-hosted-kube-apiserver",
            Self::ControllerManager => "self-hosted-kube-controller-manager",
            Self::Scheduler => "self-hosted-kube-scheduler",
        }
    }

    /// The port on which the component serves unless `--secure-port` says otherwise.
    ///
    /// kubeadm binds the API server to 6443; 10257 and 10259 are the components' own defaults.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::ApiServer => 6443,
            Self::ControllerManager => 10257,
            Self::Scheduler => 10259,
        }
    }

    /// The port of the component's bridge: the copy that serves while the component itself is replaced.
    pub const fn bridge_port(self) -> u16 {
        match self {
            Self::ApiServer => 6444,
            Self::ControllerManager => 10267,
            Self::Scheduler => 10269,
        }
    }

    /// The name of the Lease in `kube-system` with which the component elects its leader; none for the API server.
    pub const fn leader_lease(self) -> Option<&'static str> {
        match self {
            Self::ApiServer => None,
            Self::ControllerManager => Some("kube-controller-manager"),
            Self::Scheduler => Some("kube-scheduler"),
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no control-plane component's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a self-hostable component (kube-apiserver, kube-controller-manager, kube-scheduler)")]
pub struct UnknownComponent(String);

impl FromStr for Component {
    type Err = UnknownComponent;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|c| c.name() == name).ok_or_else(|| UnknownComponent(name.to_owned()))
    }
}

/// How a component is run on a node, or in the whole cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hosting {
    /// By the kubelet, from a manifest file on the node.
    StaticPod,
    /// By a DaemonSet of the cluster itself.
    SelfHosted,
    /// Both kinds are present.
    Mixed,
    /// Outside of the cluster's view, as managed offerings do.
    External,
    /// It should be here, and is not.
    Missing,
    /// It could not be read.
    Unknown,
}

impl fmt::Display for Hosting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::StaticPod => "static-pod",
            Self::SelfHosted => "self-hosted",
            Self::Mixed => "mixed",
            Self::External => "external",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for component in Component::ALL {
            assert_eq!(component.name().parse(), Ok(component));
            assert_eq!(component.daemonset_name(), format!("self-hosted-{component}"));
        }
        assert!("etcd".parse::<Component>().is_err());
    }

    #[test]
    fn no_two_ports_are_the_same() {
        let ports: std::collections::BTreeSet<u16> =
            Component::ALL.iter().flat_map(|c| [c.default_port(), c.bridge_port()]).collect();
        assert_eq!(ports.len(), 6);
    }
}
