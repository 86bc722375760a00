//! Whether the components' Pods are there, ready, and stay up.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use selfhost_core::component::Component;
use selfhost_core::finding::{Code, Finding, Severity};
use selfhost_core::labels;

use crate::inventory::{Inventory, Part, recognize};
use crate::render::age;
use crate::status::report::ETCD;

/// From how many restarts on they are worth a word: one or two come with a reboot of the node, or with etcd's.
const MANY_RESTARTS: i32 = 3;

/// A last restart that is longer ago, in seconds, is history.
const RECENT: i64 = 3600;

/// SH0101: a component has no Pod on a control-plane node.
pub fn missing(inventory: &Inventory) -> Vec<Finding> {
    // Without any Pod of a control plane there is none here; without the right to see Pods nothing is known.
    if !inventory.is_control_plane_visible() || inventory.unread.contains(&Part::Pods) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for component in Component::ALL {
        for node in inventory.control_plane.keys() {
            if inventory.instances_on(component, node).next().is_none() {
                let subject = format!("{component} on {node}");
                let finding = Finding::new(Code::Missing, subject, "has no Pod there");
                let finding = bridged(inventory, component, node, finding);
                findings.push(finding.hint(match inventory.checkpoint(node) {
                    Some(_) => "its standby serves; to bring it back: kubectl selfhost pivot".to_owned(),
                    None => {
                        format!("kubectl -n kube-system get pods --field-selector spec.nodeName={node}")
                    }
                }));
            }
        }
    }
    findings
}

/// SH0201: a control-plane node is not ready.
pub fn node_not_ready(inventory: &Inventory) -> Vec<Finding> {
    if inventory.unread.contains(&Part::Nodes) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (name, node) in &inventory.control_plane {
        if !recognize::is_node_ready(node) {
            findings.push(
                Finding::new(Code::NodeNotReady, format!("node {name}"), "is not ready")
                    .hint(format!("kubectl describe node {name}")),
            );
        }
    }
    findings
}

/// SH0103: a component, or etcd, is not ready on a node.
pub fn not_ready(inventory: &Inventory) -> Vec<Finding> {
    let mut findings = Vec::new();
    for component in Component::ALL {
        for node in inventory.control_plane.keys() {
            let here: Vec<&Pod> =
                inventory.instances_on(component, node).map(|instance| &instance.pod).collect();
            // While one Pod takes over from another, one that serves is enough.
            if !here.iter().any(|pod| recognize::is_ready(pod)) {
                findings.extend(here.iter().map(|pod| {
                    bridged(inventory, component, node, unready(inventory, component.name(), node, pod))
                }));
            }
        }
    }
    for (node, pod) in &inventory.etcd {
        if !recognize::is_ready(pod) {
            findings.push(unready(inventory, ETCD, node, pod));
        }
    }
    findings
}

/// The finding; only a note where a running operation replaces the component, and its bridge serves meanwhile.
fn bridged(inventory: &Inventory, component: Component, node: &str, mut finding: Finding) -> Finding {
    let running = inventory.operation.as_ref().is_some_and(|operation| operation.running);
    let serves = |bridge: &Pod| {
        recognize::label(bridge, labels::BRIDGE) == Some(component.name())
            && recognize::node_name(bridge) == Some(node)
            && recognize::is_ready(bridge)
    };
    if running && inventory.bridges.iter().any(serves) {
        finding.severity = Severity::Info;
        finding.message.push_str("; its bridge serves");
    }
    finding
}

fn unready(inventory: &Inventory, component: &str, node: &str, pod: &Pod) -> Finding {
    let since = pod
        .status
        .as_ref()
        .and_then(|status| {
            status
                .conditions
                .as_ref()?
                .iter()
                .find(|condition| condition.type_ == "Ready" && condition.status != "True")
        })
        .and_then(|condition| condition.last_transition_time.as_ref())
        .map_or_else(String::new, |time| format!(" for {}", age::age(Some(time.0), inventory.taken_at)));
    let reason = reason(pod, component);
    let why = reason.as_deref().map_or_else(String::new, |reason| format!(" ({reason})"));
    let name = pod.name_any();
    let crashed =
        reason.as_deref().is_some_and(|reason| matches!(reason, "CrashLoopBackOff" | "Error" | "OOMKilled"));
    let hint = if crashed {
        format!("kubectl -n kube-system logs {name} --previous")
    } else {
        format!("kubectl -n kube-system describe pod {name}")
    };
    Finding::new(Code::NotReady, format!("{component} on {node}"), format!("not ready{since}{why}"))
        .hint(hint)
}

/// Why a Pod is not ready, in the API's own words.
pub fn reason(pod: &Pod, component: &str) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Some("Terminating".to_owned());
    }
    let state = recognize::main_status(pod, component).and_then(|status| status.state.as_ref());
    let of_state = state.and_then(|state| {
        let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.clone());
        waiting.or_else(|| state.terminated.as_ref().and_then(|terminated| terminated.reason.clone()))
    });
    let phase =
        || pod.status.as_ref().and_then(|status| status.phase.clone()).filter(|phase| phase != "Running");
    of_state.or_else(|| pod.status.as_ref().and_then(|status| status.reason.clone())).or_else(phase)
}

/// SH0104: a component's Pod restarted several times, the last time not long ago.
pub fn restarts(inventory: &Inventory) -> Vec<Finding> {
    let of_components = inventory.instances.iter().map(|it| (it.component.name(), it.node.as_str(), &it.pod));
    let of_etcd = inventory.etcd.iter().map(|(node, pod)| (ETCD, node.as_str(), pod));
    of_components
        .chain(of_etcd)
        .filter_map(|(component, node, pod)| {
            let status = recognize::main_status(pod, component)?;
            let last = last_restart(
                status.last_state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0,
                inventory,
            )?;
            (MANY_RESTARTS <= status.restart_count).then(|| {
                let message = format!("restarted {} times, last {last} ago", status.restart_count);
                Finding::new(Code::Restarts, format!("{component} on {node}"), message)
                    .hint(format!("kubectl -n kube-system logs {} --previous", pod.name_any()))
            })
        })
        .collect()
}

fn last_restart(then: Timestamp, inventory: &Inventory) -> Option<String> {
    let recent = inventory.taken_at.as_second() - then.as_second() < RECENT;
    recent.then(|| age::age(Some(then), inventory.taken_at))
}
