//! What must be true of the inventory before anything is planned.

use selfhost_core::component::Component;
use selfhost_core::emulation::Running;
use selfhost_core::finding::{Code, Finding};
use selfhost_core::labels;
use selfhost_core::version::{self, KubeVersion};

use super::{Goal, Step, Verb, bridge_of, is_ready};
use crate::inventory::{Inventory, recognize};

/// The first minor at which everything that an execution uses is there and stable: server-side apply, EndpointSlice
/// v1, Lease v1. Older clusters are inspected and planned.
pub const OLDEST_EXECUTABLE_MINOR: u32 = 22;

/// What every operation asks for: a control plane that is seen whole, is healthy, and is not being changed by another
/// operation. What the operation itself left half done when it was interrupted is not held against it.
pub fn common(inventory: &Inventory, goal: &Goal) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Whatever could not be read could have spoken against the plan.
    let blind = |finding: &&Finding| matches!(finding.code, Code::Unreadable | Code::NoControlPlane);
    findings.extend(inventory.findings.iter().filter(blind).cloned().map(|mut finding| {
        finding.severity = selfhost_core::finding::Severity::Error;
        finding
    }));
    let own = inventory.operation.as_ref().is_some_and(|open| goal.continues(&open.what));
    if let Some(open) = &inventory.operation
        && !own
    {
        let state = if open.running { "is running" } else { "was interrupted" };
        let since = open.since.map(|since| format!(" since {since}")).unwrap_or_default();
        findings.push(
            Finding::new(
                Code::Locked,
                format!("operation {}", open.what),
                format!("{state}, held by {}{since}", open.holder),
            )
            .hint("finish it with `kubectl selfhost resume`, or go back with `kubectl selfhost abort`"),
        );
    }
    for (name, node) in &inventory.control_plane {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        if !conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True") {
            findings.push(
                Finding::new(Code::NodeNotReady, format!("node {name}"), "is not ready")
                    .hint(format!("kubectl describe node {name}")),
            );
        }
    }
    if !own {
        findings.extend(unhealthy(inventory, goal));
    }
    findings
}

fn unhealthy(inventory: &Inventory, goal: &Goal) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, component) in inventory.control_plane.keys().flat_map(|n| Component::ALL.map(|c| (n, c))) {
        let here: Vec<_> = inventory.instances_on(component, name).filter(|it| !it.is_ending()).collect();
        let subject = format!("{component} on {name}");
        if here.is_empty() && *goal == Goal::Pivot && inventory.checkpoint(name).is_some() {
            // The standby serves, and a pivot is what brings the component back.
        } else if here.is_empty() {
            findings.push(
                Finding::new(Code::Missing, subject, "has no Pod")
                    .hint(format!("kubectl -n kube-system get pods --field-selector spec.nodeName={name}")),
            );
        } else if !here.iter().any(|instance| is_ready(&instance.pod))
            && let Some(instance) = here.first()
        {
            let pod = instance.pod.metadata.name.as_deref().unwrap_or_default();
            findings.push(
                Finding::new(Code::Unhealthy, subject, "is not ready, and a swap needs a healthy start")
                    .hint(format!("kubectl -n kube-system describe pod {pod}")),
            );
        }
    }
    for (name, pod) in &inventory.etcd {
        if !is_ready(pod) {
            findings.push(
                Finding::new(Code::Unhealthy, format!("etcd on {name}"), "is not ready")
                    .hint(format!("kubectl -n kube-system logs etcd-{name}")),
            );
        }
    }
    for (component, node) in inventory.bridges.iter().filter_map(bridge_of) {
        findings.push(
            Finding::new(
                Code::BridgeLeft,
                format!("{component} on {node}"),
                "has a bridge that no open operation accounts for",
            )
            .hint(format!("kubectl -n kube-system delete pod -l {}={component}", labels::BRIDGE)),
        );
    }
    findings
}

/// The version skew policy, for an upgrade to binaries of version `target`.
pub fn skew(inventory: &Inventory, target: &KubeVersion) -> Vec<Finding> {
    let mut findings = Vec::new();
    for instance in &inventory.instances {
        let Some(Running { binary: runs, .. }) = running(inventory, instance) else {
            findings.push(
                Finding::new(
                    Code::VersionUnknown,
                    format!("{} on {}", instance.component, instance.node),
                    "runs an image whose tag is not a version",
                )
                .hint("an upgrade must know where it starts"),
            );
            continue;
        };
        let subject = format!("{} on {}", instance.component, instance.node);
        if runs > *target {
            findings.push(
                Finding::new(Code::Downgrade, subject, format!("runs {runs}, which is newer than {target}"))
                    .hint("name a version that is not older than what runs"),
            );
        } else if runs.major != target.major || target.minor - runs.minor > 1 {
            let next = KubeVersion { minor: runs.minor + 1, patch: 0, pre: None, ..runs.clone() };
            findings.push(
                Finding::new(
                    Code::MinorSkipped,
                    subject,
                    format!("runs {runs}, and {target} is more than one minor ahead"),
                )
                .hint(format!(
                    "one minor at a time: kubectl selfhost upgrade v{}.{}",
                    next.major, next.minor
                )),
            );
        }
    }
    findings
}

/// The kubelets that the version skew policy does not admit with API servers that run `target`.
pub fn kubelet_skew(inventory: &Inventory, target: &Running) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (node, kubelet) in &inventory.kubelets {
        if let Some(kubelet) = kubelet
            && !target.admits_kubelet(kubelet)
        {
            let hint = if target.behaves_like() < kubelet.minor_version() {
                "no kubelet may be newer than its API server, nor than what that emulates".to_owned()
            } else {
                format!(
                    "at most {} minors behind: upgrade the kubelet first",
                    target.binary.max_kubelet_lag()
                )
            };
            findings.push(
                Finding::new(
                    Code::KubeletSkew,
                    format!("kubelet on {node}"),
                    format!("runs {kubelet}, which {target} does not support"),
                )
                .hint(hint),
            );
        }
    }
    findings
}

/// What an instance runs: the tag of its running container's image, and the minor that its command line names.
pub fn running(inventory: &Inventory, instance: &crate::inventory::Instance) -> Option<Running> {
    let name = instance.component.name();
    let spec = instance.pod.spec.as_ref()?;
    let statuses = instance.pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let running = statuses.into_iter().flatten().find(|status| status.name == name);
    let wanted = || spec.containers.iter().find(|c| c.name == name)?.image.as_deref();
    let by_tag = running.and_then(|status| version::of_image(&status.image));
    // A runtime may report the image's id in the place of its name.
    let by_spec = || wanted().and_then(version::of_image);
    let by_server = || {
        let only = inventory.control_plane.len() == 1 && instance.component == Component::ApiServer;
        if only { inventory.server_version.clone() } else { None }
    };
    let binary = by_tag.or_else(by_spec).or_else(by_server)?;
    Some(Running::new(binary, &recognize::command(&instance.pod, name)))
}

/// The steps that take over DaemonSets which this tool did not make.
pub fn adoptions(inventory: &Inventory) -> Vec<Step> {
    inventory
        .daemonsets
        .iter()
        .filter(|(component, daemonset)| {
            let spec = &daemonset.spec;
            let strategy = spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
            let selector = spec.template.spec.as_ref().and_then(|pod| pod.node_selector.as_ref());
            strategy != Some("OnDelete")
                || selector.is_none_or(|selector| !selector.contains_key(labels::node_label(**component)))
        })
        .map(|(component, _)| Step { verb: Verb::Adopt, component: Some(*component), node: None })
        .collect()
}
