//! Whether the standby would bring back what runs now.

use kube::ResourceExt as _;
use selfhost_core::component::{Component, Hosting};
use selfhost_core::finding::{Code, Finding, Severity};
use selfhost_core::version;

use super::some_of;
use crate::inventory::{Inventory, Part, checkpoints, drift};
use crate::template::{self, standby};

/// What mends both.
const REFRESH: &str = "kubectl selfhost checkpoint refresh";

/// SH0111: nothing on a node would bring its self-hosted control plane back after a reboot.
pub fn missing(inventory: &Inventory) -> Vec<Finding> {
    if inventory.unread.contains(&Part::Pods) {
        return Vec::new();
    }
    let mut bare: Vec<&str> = inventory
        .instances
        .iter()
        .filter(|it| it.component == Component::ApiServer && it.hosting == Hosting::SelfHosted)
        .map(|it| it.node.as_str())
        .filter(|node| !inventory.standbys.contains_key(*node))
        // A node that has the static Pod, too, comes back with that.
        .filter(|node| {
            !inventory.instances_on(Component::ApiServer, node).any(|it| it.hosting == Hosting::StaticPod)
        })
        .collect();
    bare.dedup();
    if bare.is_empty() {
        return Vec::new();
    }
    let message = format!(
        "nothing on {} starts it again after a power cut: the kubelet learns of it from the API alone",
        some_of(&bare)
    );
    vec![
        Finding::new(Code::NoStandby, "control plane", message)
            .hint("kubectl selfhost pivot writes a standby"),
    ]
}

/// SH0116: one of a node's checkpoints would not act.
pub fn damaged(inventory: &Inventory) -> Vec<Finding> {
    let of = |node: &str| {
        let damage = checkpoints::damage(inventory, node).into_iter();
        let finding =
            |it| Finding::new(Code::CheckpointDamaged, format!("standby on {node}"), format!("{it}"));
        damage.map(|it| finding(it).hint(REFRESH)).collect::<Vec<_>>()
    };
    inventory.standbys.keys().flat_map(|node| of(node)).collect()
}

/// SH0117: a node's latest checkpoint is not what runs there. An error where it could not even join the others.
pub fn stale(inventory: &Inventory) -> Vec<Finding> {
    // What an operation is about to bring is written down at its end.
    if inventory.operation.is_some() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (node, generations) in &inventory.standbys {
        let Some(latest) = generations.first() else { continue };
        let kept = standby::templates(latest);
        let mut differ = Vec::new();
        let mut severity = Severity::Warning;
        for (component, daemonset) in &inventory.daemonsets {
            let Some(kept) = kept.get(component) else { continue };
            let runs = &daemonset.spec.template;
            // What was edited and not rolled has not served; SH0109 says so.
            if !drift::stale_nodes(inventory, *component, daemonset).is_empty()
                || same(*component, kept, runs)
            {
                continue;
            }
            differ.push(component.name());
            let minor = |template| Some(version::of_image(template::image(*component, template)?)?.minor);
            if let (Some(kept), Some(runs)) = (minor(kept), minor(runs))
                && runs.abs_diff(kept) > 1
            {
                severity = Severity::Error;
            }
        }
        if !differ.is_empty() {
            let message = match severity {
                Severity::Error => "is of a version that must not join what runs",
                Severity::Info | Severity::Warning => "is not what runs",
            };
            let subject = format!("checkpoint {} on {node}", latest.name_any());
            let mut finding =
                Finding::new(Code::CheckpointStale, subject, format!("{message}: {}", some_of(&differ)));
            finding.severity = severity;
            findings.push(finding.hint(REFRESH));
        }
    }
    findings
}

/// Whether both become the same once they are laid out as this tool lays them out.
fn same(
    component: Component,
    kept: &k8s_openapi::api::core::v1::PodTemplateSpec,
    runs: &k8s_openapi::api::core::v1::PodTemplateSpec,
) -> bool {
    let metadata = runs.metadata.clone().unwrap_or_default();
    let spec = runs.spec.clone().unwrap_or_default();
    match template::normalize(component, &metadata, &spec, None) {
        Ok(runs) => runs.spec == kept.spec,
        // What cannot be laid out so is no checkpoint's business.
        Err(_) => true,
    }
}
