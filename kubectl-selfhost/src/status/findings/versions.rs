//! Versions: whether copies agree, and the version skew policy of Kubernetes.

use std::collections::{BTreeMap, BTreeSet};

use selfhost_core::component::Component;
use selfhost_core::emulation::Running;
use selfhost_core::finding::{Code, Finding};
use selfhost_core::version::KubeVersion;

use super::some_of;
use crate::inventory::Inventory;
use crate::status::report::running_of;

/// SH0105: copies of one component run different versions.
pub fn differ(inventory: &Inventory) -> Vec<Finding> {
    Component::ALL
        .into_iter()
        .filter_map(|component| {
            let nodes = nodes_by_version(inventory, component);
            (1 < nodes.len()).then(|| {
                let parts: Vec<String> =
                    nodes.iter().map(|(version, nodes)| format!("{version} on {}", some_of(nodes))).collect();
                Finding::new(Code::VersionsDiffer, component.name(), parts.join(", "))
                    .hint("kubectl selfhost upgrade brings all to one version")
            })
        })
        .collect()
}

/// SH0106: API servers are more than one minor apart, or a controller manager or scheduler is newer than an API
/// server that it may talk to, or more than one minor older.
pub fn component_skew(inventory: &Inventory) -> Vec<Finding> {
    let servers = api_servers(inventory);
    let mut findings = Vec::new();
    if let (Some(oldest), Some(newest)) = (servers.first(), servers.last())
        && !newest.admits_controller(oldest)
    {
        let message = format!("{oldest} and {newest} at a time: more than one minor apart");
        findings.push(
            Finding::new(Code::ComponentSkew, Component::ApiServer.name(), message)
                .hint("bring the older one up first, one minor at a time"),
        );
    }
    for component in [Component::ControllerManager, Component::Scheduler] {
        for (version, nodes) in nodes_by_version(inventory, component) {
            if let Some(server) = servers.iter().find(|server| !server.admits_controller(&version)) {
                let newer = version.is_newer_minor_than(server);
                let relation = if newer { "newer than" } else { "too old for" };
                findings.push(
                    Finding::new(
                        Code::ComponentSkew,
                        format!("{component} on {}", some_of(&nodes)),
                        format!("{version} is {relation} kube-apiserver {server}"),
                    )
                    .hint("kubectl selfhost upgrade brings all to one version, API servers first"),
                );
            }
        }
    }
    findings
}

/// SH0107: a kubelet is newer than an API server, or too many minors older. One finding for each version.
pub fn kubelet_skew(inventory: &Inventory) -> Vec<Finding> {
    let servers = api_servers(inventory);
    let mut nodes: BTreeMap<&KubeVersion, Vec<&str>> = BTreeMap::new();
    for (node, version) in &inventory.kubelets {
        if let Some(version) = version {
            nodes.entry(version).or_default().push(node);
        }
    }
    nodes
        .into_iter()
        .filter_map(|(version, nodes)| {
            let server = servers.iter().find(|server| !server.admits_kubelet(version))?;
            let (relation, hint) = if server.behaves_like() < version.minor_version() {
                ("newer than", "upgrade the control plane, or bring the kubelets back".to_owned())
            } else {
                let lag = server.binary.max_kubelet_lag();
                ("too old for", format!("upgrade these kubelets: at most {lag} minors behind are supported"))
            };
            let subject = format!("kubelet on {}", some_of(&nodes));
            let message = format!("{version} is {relation} kube-apiserver {server}");
            Some(Finding::new(Code::KubeletSkew, subject, message).hint(hint))
        })
        .collect()
}

/// The versions of the API servers, oldest first; where their Pods cannot be seen, that of the one that answered.
fn api_servers(inventory: &Inventory) -> BTreeSet<Running> {
    let seen: BTreeSet<Running> = nodes_by_version(inventory, Component::ApiServer).into_keys().collect();
    if seen.is_empty() { inventory.server_version.iter().cloned().map(Running::from).collect() } else { seen }
}

fn nodes_by_version(inventory: &Inventory, component: Component) -> BTreeMap<Running, Vec<&str>> {
    let mut nodes: BTreeMap<Running, Vec<&str>> = BTreeMap::new();
    for instance in inventory.instances.iter().filter(|instance| instance.component == component) {
        if let Some(version) = running_of(instance) {
            nodes.entry(version).or_default().push(&instance.node);
        }
    }
    nodes
}
