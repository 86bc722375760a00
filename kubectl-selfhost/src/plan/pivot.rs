//! Planning a pivot: from static Pods to DaemonSets, on every control-plane node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use selfhost_core::component::{Component, Hosting};
use selfhost_core::finding::{Code, Finding};

use super::{Goal, Plan, Scope, Step, around, preconditions, survey, swap};
use crate::inventory::Inventory;
use crate::template;

/// The plan that makes the cluster self-hosted, or what speaks against it.
///
/// Nodes whose components are self-hosted already are left alone, so that a node that joined later is adopted, and a
/// pivot that was interrupted is finished, by the same command.
///
/// `undo` has what an unpivot that is aborted found static: that stays static.
pub fn plan(inventory: &Inventory, node_image: &str, undo: Option<&Scope>) -> Result<Plan, Vec<Finding>> {
    let goal = match undo {
        None => Goal::Pivot,
        Some(_) => Goal::Abort(Box::new(Goal::Unpivot)),
    };
    let (nodes, mut findings) = survey(inventory, &goal);
    let mut templates = BTreeMap::new();
    for component in Component::ALL {
        match current_template(inventory, component) {
            Ok(template) => {
                templates.insert(component, template);
            }
            Err(more) => findings.extend(more),
        }
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    let mut steps = Vec::new();
    for (component, template) in &templates {
        let hash = template.metadata.as_ref().and_then(template::sealed_hash).unwrap_or_default();
        let stays = |node: &String| undo.is_some_and(|stays| stays.contains(&(*component, node.clone())));
        for node in nodes.keys().filter(|node| !stays(node)) {
            steps.extend(swap(inventory, *component, node, hash));
        }
    }
    let plan = Plan {
        goal,
        steps: preconditions::adoptions(inventory).into_iter().chain(steps).collect::<Vec<Step>>(),
        templates,
        nodes,
        around: around(inventory, node_image),
        record: None,
        etcd: None,
    };
    let goes = |node: &str| {
        undo.is_none_or(|stays| Component::ALL.iter().any(|c| !stays.contains(&(*c, node.to_owned()))))
    };
    Ok(plan.with_checkpoints(inventory, goes))
}

/// The template that `component` has today: of its DaemonSet, and of every static Pod, which must agree.
pub(super) fn current_template(
    inventory: &Inventory,
    component: Component,
) -> Result<PodTemplateSpec, Vec<Finding>> {
    let mut findings = Vec::new();
    let mut found: Vec<(String, PodTemplateSpec)> = Vec::new();
    let guard = super::guard::credential(inventory).filter(|_| component == Component::ApiServer);
    let mut take = |subject: String, result: Result<PodTemplateSpec, template::TemplateError>| match result {
        Ok(template) => found.push((subject, template)),
        Err(error) => findings.push(
            Finding::new(Code::LayoutUnknown, subject, error.to_string())
                .hint("only components laid out as kubeadm lays them out can be moved"),
        ),
    };
    if let Some(spec) = inventory.daemonsets.get(&component).map(|daemonset| &daemonset.spec) {
        let metadata = spec.template.metadata.clone().unwrap_or_default();
        let pod = spec.template.spec.clone().unwrap_or_default();
        let subject = format!("daemonset kube-system/{}", component.daemonset_name());
        take(subject, template::normalize(component, &metadata, &pod, None));
    }
    let is_static =
        |i: &&crate::inventory::Instance| i.component == component && i.hosting == Hosting::StaticPod;
    for instance in inventory.instances.iter().filter(is_static) {
        let host_ip = instance.pod.status.as_ref().and_then(|status| status.host_ip.as_deref());
        let spec = instance.pod.spec.clone().unwrap_or_default();
        let subject = format!("{component} on {}", instance.node);
        let normalized = template::normalize(component, &instance.pod.metadata, &spec, host_ip);
        // A static manifest knows nothing of a guard that was installed since.
        take(subject, normalized.map(|template| like(guard.as_deref(), template)));
    }
    if let Some(((first, template), others)) = found.split_first() {
        for (other, theirs) in others {
            let difference = difference(template, theirs);
            if !difference.is_empty() {
                findings.push(
                    Finding::new(
                        Code::ManifestsDiffer,
                        other.clone(),
                        format!("differs from {first}: {}", difference.join("; ")),
                    )
                    .hint("one template serves every node: make them equal first"),
                );
            }
        }
    } else if let Some(template) = from_checkpoint(inventory, component) {
        return Ok(template);
    } else if findings.is_empty() {
        findings.push(
            Finding::new(Code::Missing, component.name(), "has no static Pod and no DaemonSet to start from")
                .hint("kubectl selfhost status -o wide"),
        );
    }
    match found.into_iter().next() {
        Some((_, template)) if findings.is_empty() => Ok(template),
        _ => Err(findings),
    }
}

/// The template, with the credential for the guard that the DaemonSet's has.
fn like(credential: Option<&str>, template: PodTemplateSpec) -> PodTemplateSpec {
    let armed = credential.map(|credential| template::guard::arm(template.clone(), credential));
    armed.and_then(Result::ok).unwrap_or(template)
}

/// The template in the latest checkpoint of some node: somebody deleted the DaemonSet, and the standby serves.
fn from_checkpoint(inventory: &Inventory, component: Component) -> Option<PodTemplateSpec> {
    let mut latest = inventory.control_plane.keys().filter_map(|node| inventory.checkpoint(node));
    latest.find_map(|pod| template::standby::templates(pod).remove(&component))
}

/// The differences between two Pod specs, each as `path: one value, other value`.
fn difference(ours: &PodTemplateSpec, theirs: &PodTemplateSpec) -> Vec<String> {
    let value =
        |template: &PodTemplateSpec| serde_json::to_value(&template.spec).expect("a Pod spec is always JSON");
    let (ours, theirs) = (value(ours), value(theirs));
    json_patch::diff(&ours, &theirs)
        .iter()
        .map(|operation| {
            let pointer = operation.path().to_string();
            let show = |root: &serde_json::Value| {
                root.pointer(&pointer).map_or_else(|| "nothing".to_owned(), ToString::to_string)
            };
            format!("{pointer}: {} here, {} there", show(&theirs), show(&ours))
        })
        .collect()
}
