//! What a policy may ask for while it evaluates: objects of the cluster, as they are now.
//!
//! Invariant: reads alone, of a fixed list of kinds, and Secrets by name alone. An answer is certain or it is none: what
//! was not found is told apart from what could not be read.

pub mod live;
pub mod recorded;

use std::time::Instant;

use selfhost_core::review::Lookup;

pub use live::Live;
pub use recorded::{Objects, Recorder, Recording};

/// A kind that may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// `apps/v1`
    pub api_version: &'static str,
    /// `DaemonSet`
    pub kind: &'static str,
    /// `daemonsets`
    pub plural: &'static str,
    /// Whether all of them may be read by their labels, or only one by its name.
    pub lists: bool,
}

const fn kind(api_version: &'static str, kind: &'static str, plural: &'static str, lists: bool) -> Kind {
    Kind { api_version, kind, plural, lists }
}

/// Every kind that may be read. The guard's role grants this and no more.
pub const KINDS: [Kind; 10] = [
    kind("apps/v1", "DaemonSet", "daemonsets", true),
    kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", true),
    kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", true),
    kind("rbac.authorization.k8s.io/v1", "Role", "roles", true),
    kind("v1", "ConfigMap", "configmaps", false),
    kind("v1", "Node", "nodes", true),
    kind("v1", "Pod", "pods", true),
    kind("v1", "Secret", "secrets", false),
    kind("v1", "Service", "services", true),
    kind("v1", "ServiceAccount", "serviceaccounts", true),
];

impl Kind {
    /// The kind that is looked up, if it may be.
    pub fn of(lookup: &Lookup) -> Option<&'static Self> {
        let (api_version, kind, is_list) = match lookup {
            Lookup::Get { api_version, kind, .. } => (api_version, kind, false),
            Lookup::List { api_version, kind, .. } => (api_version, kind, true),
        };
        KINDS.iter().find(|it| it.api_version == api_version && it.kind == kind && (it.lists || !is_list))
    }
}

/// What came of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The object, or a list with `items`, in JSON.
    Found(Vec<u8>),
    /// There is no such object.
    Missing,
    /// It could not be read, for this reason: which quotes nothing that was read.
    Unavailable(String),
}

/// Where objects come from.
pub trait Source: Send + Sync {
    /// Looks something up; at `deadline` nobody waits for it any more.
    fn fetch(&self, lookup: &Lookup, deadline: Instant) -> Reply;
}

/// No objects at all: every lookup is one that could not be made.
#[derive(Debug, Clone, Copy)]
pub struct Nothing;

impl Source for Nothing {
    fn fetch(&self, _: &Lookup, _: Instant) -> Reply {
        Reply::Unavailable("this host reads no objects".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_rules_read_may_be_read() {
        let here = KINDS.map(|kind| (kind.api_version, kind.kind));
        assert_eq!(here, selfhost_core::review::facts::KINDS);
    }
}
