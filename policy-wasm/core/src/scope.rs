//! Which requests the rules have anything to say of: what a registration may send, and what a policy's metadata names.
//!
//! Invariant: a request that a rule objects to is in [`ALL`]. The tables of the rules check that with every request that
//! they deny.

use crate::review::{Operation, Request};
use crate::rules::Reach;

use Operation::{Connect, Create, Delete, Update};

/// Resources of one group, with what is done to them.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// Empty for the core group.
    pub group: &'static str,
    /// As a registration names them: `pods`, `pods/exec`, `daemonsets/*`.
    pub resources: &'static [&'static str],
    /// What is done to them.
    pub operations: &'static [Operation],
    /// Whether every registration sends them, or only one for more than the objects that are guarded by name.
    pub reach: Reach,
}

const WRITES: &[Operation] = &[Create, Update];
const ALL_WRITES: &[Operation] = &[Create, Update, Delete];

const fn named(
    group: &'static str,
    resources: &'static [&'static str],
    operations: &'static [Operation],
) -> Scope {
    Scope { group, resources, operations, reach: Reach::Named }
}

const fn wide(
    group: &'static str,
    resources: &'static [&'static str],
    operations: &'static [Operation],
) -> Scope {
    Scope { group, resources, operations, reach: Reach::Wide }
}

/// Every request that a rule may object to.
pub const ALL: &[Scope] = &[
    named("apps", &["daemonsets", "daemonsets/*", "controllerrevisions"], ALL_WRITES),
    named("extensions", &["daemonsets", "daemonsets/*"], ALL_WRITES),
    named("", &["secrets", "configmaps"], ALL_WRITES),
    named("", &["namespaces", "namespaces/*"], &[Update, Delete]),
    named("", &["pods/exec", "pods/attach", "pods/portforward", "pods/proxy"], &[Connect]),
    named("", &["services", "services/status"], ALL_WRITES),
    named("discovery.k8s.io", &["endpointslices"], ALL_WRITES),
    wide(
        "",
        &["pods", "pods/ephemeralcontainers", "pods/resize", "pods/eviction", "pods/binding"],
        ALL_WRITES,
    ),
    wide("", &["bindings", "serviceaccounts/token"], &[Create]),
    wide("", &["podtemplates", "replicationcontrollers", "resourcequotas", "limitranges"], WRITES),
    wide("apps", &["deployments", "replicasets", "statefulsets"], WRITES),
    wide("extensions", &["deployments"], WRITES),
    wide("batch", &["jobs", "cronjobs"], WRITES),
    wide("networking.k8s.io", &["networkpolicies"], WRITES),
    wide("policy", &["poddisruptionbudgets"], WRITES),
    wide("", &["nodes"], ALL_WRITES),
    // By which labels can be changed, too; a registration leaves heartbeats out.
    wide("", &["nodes/status", "pods/status"], &[Update]),
    wide("", &["nodes/proxy"], &[Connect]),
    wide("", &["serviceaccounts"], &[Delete]),
    // Others than those that are guarded by name.
    wide("apps", &["daemonsets"], WRITES),
    wide("", &["secrets", "services", "services/status"], WRITES),
    wide("", &["configmaps"], ALL_WRITES),
    wide(
        "rbac.authorization.k8s.io",
        &["clusterroles", "clusterrolebindings", "roles", "rolebindings"],
        ALL_WRITES,
    ),
    wide("certificates.k8s.io", &["certificatesigningrequests", "certificatesigningrequests/*"], WRITES),
    wide("apiregistration.k8s.io", &["apiservices"], ALL_WRITES),
    wide("apiextensions.k8s.io", &["customresourcedefinitions"], WRITES),
    wide("flowcontrol.apiserver.k8s.io", &["flowschemas", "prioritylevelconfigurations"], ALL_WRITES),
    wide("scheduling.k8s.io", &["priorityclasses"], &[Delete]),
    Scope {
        group: "admissionregistration.k8s.io",
        resources: &["*"],
        operations: ALL_WRITES,
        reach: Reach::Static,
    },
];

/// Whether a rule may object to the request.
pub fn covers(request: &Request) -> bool {
    ALL.iter().any(|scope| {
        scope.group == request.resource.group
            && scope.operations.contains(&request.operation)
            && scope
                .resources
                .iter()
                .any(|pattern| is(pattern, &request.resource.resource, request.sub_resource()))
    })
}

/// Whether a pattern of a registration names the resource, or the subresource of it.
fn is(pattern: &str, resource: &str, sub_resource: &str) -> bool {
    match pattern.split_once('/') {
        Some((name, sub)) => {
            name == resource && !sub_resource.is_empty() && (sub == "*" || sub == sub_resource)
        }
        None => sub_resource.is_empty() && (pattern == "*" || pattern == resource),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_registrations() {
        for (pattern, resource, sub, expected) in [
            ("pods", "pods", "", true),
            ("pods", "pods", "exec", false),
            ("pods", "secrets", "", false),
            ("pods/exec", "pods", "exec", true),
            ("pods/exec", "pods", "attach", false),
            ("pods/exec", "pods", "", false),
            ("daemonsets/*", "daemonsets", "status", true),
            ("daemonsets/*", "daemonsets", "", false),
            ("*", "validatingwebhookconfigurations", "", true),
            ("*", "validatingadmissionpolicies", "status", false),
        ] {
            assert_eq!(is(pattern, resource, sub), expected, "{pattern} {resource}/{sub}");
        }
    }

    #[test]
    fn leader_election_and_heartbeats_are_never_sent() {
        for scope in ALL {
            assert!(
                scope.group != "coordination.k8s.io" && scope.group != "*" && !scope.group.contains("events")
            );
            for resource in ["events", "endpoints"] {
                let (name, sub) = resource.split_once('/').unwrap_or((resource, ""));
                let core = scope.group.is_empty() || scope.group == "*";
                assert!(!core || !scope.resources.iter().any(|pattern| is(pattern, name, sub)), "{resource}");
            }
        }
    }
}
