//! How the components are hosted, and what that leaves to be desired.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::DaemonSet;
use selfhost_core::component::{Component, Hosting};
use selfhost_core::finding::{Code, Finding};
use selfhost_core::labels;

use super::some_of;
use crate::inventory::{Inventory, drift};

/// SH0102: a component runs both as static Pod and from a DaemonSet.
pub fn mixed(inventory: &Inventory) -> Vec<Finding> {
    let mut findings = Vec::new();
    for component in Component::ALL {
        let mut nodes: BTreeMap<Hosting, Vec<&str>> = BTreeMap::new();
        for instance in inventory.instances.iter().filter(|instance| instance.component == component) {
            nodes.entry(instance.hosting).or_default().push(&instance.node);
        }
        let (Some(fixed), Some(hosted)) = (nodes.get(&Hosting::StaticPod), nodes.get(&Hosting::SelfHosted))
        else {
            continue;
        };
        let both: Vec<&str> = fixed.iter().filter(|node| hosted.contains(node)).copied().collect();
        let message = if both.is_empty() {
            format!("a static Pod on {}, self-hosted on {}", some_of(fixed), some_of(hosted))
        } else {
            format!("both a static Pod and self-hosted on {}, on one port", some_of(&both))
        };
        findings.push(
            Finding::new(Code::Mixed, component.name(), message)
                .hint("kubectl selfhost pivot moves the rest"),
        );
    }
    findings
}

/// SH0108: an edit of a DaemonSet would roll its Pods by itself, without a bridge and without a check.
pub fn rolls_by_itself(inventory: &Inventory) -> Vec<Finding> {
    inventory
        .daemonsets
        .iter()
        .filter(|(_, daemonset)| strategy(daemonset) != "OnDelete")
        .map(|(component, daemonset)| {
            let message =
                format!("updateStrategy {}: an edit replaces its Pods at once", strategy(daemonset));
            Finding::new(Code::RollsByItself, subject(*component), message)
                .hint("kubectl selfhost upgrade adopts it, and sets OnDelete")
        })
        .collect()
}

/// A DaemonSet's update strategy; the API's default where it names none.
pub fn strategy(daemonset: &DaemonSet) -> &str {
    let strategy = daemonset.spec.update_strategy.as_ref();
    strategy.and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate")
}

/// SH0109: a running Pod is not what its DaemonSet's template says.
pub fn drift(inventory: &Inventory) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (component, daemonset) in &inventory.daemonsets {
        let stale = drift::stale_nodes(inventory, *component, daemonset);
        if !stale.is_empty() {
            findings.push(
                Finding::new(
                    Code::Drift,
                    subject(*component),
                    format!(
                        "was edited, and {} still run{} what it said before",
                        some_of(&stale),
                        plural(&stale)
                    ),
                )
                .hint("kubectl selfhost upgrade rolls it node by node"),
            );
        }
    }
    findings
}

fn plural(names: &[&str]) -> &'static str {
    if names.len() == 1 { "s" } else { "" }
}

/// SH0110: the cluster was made self-hosted by kubeadm 1.5 to 1.18: its DaemonSets do not have our selector.
pub fn made_by_kubeadm(inventory: &Inventory) -> Vec<Finding> {
    let foreign: Vec<&str> = inventory
        .daemonsets
        .iter()
        .filter(|(component, daemonset)| {
            let template = daemonset.spec.template.spec.as_ref();
            let selector = template.and_then(|pod| pod.node_selector.as_ref());
            selector.is_none_or(|selector| !selector.contains_key(labels::node_label(**component)))
        })
        .map(|(component, _)| component.name())
        .collect();
    if foreign.is_empty() {
        return Vec::new();
    }
    let message = format!("{} laid out by kubeadm 1.5 to 1.18, not by this tool", some_of(&foreign));
    vec![
        Finding::new(Code::KubeadmSelfHosted, "control plane", message)
            .hint("kubectl selfhost upgrade adopts them"),
    ]
}

fn subject(component: Component) -> String {
    format!("daemonset {}/{}", labels::NAMESPACE, component.daemonset_name())
}
