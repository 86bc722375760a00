//! Planning the way back to templates that were in use before: the abort of an upgrade, and a rollback.
//!
//! Invariant: the version skew policy holds on the way back, too: what is older than its API server is admitted, what
//! is newer is not, so that the API servers come last where the way leads to an older version.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::ResourceExt as _;
use selfhost_core::component::{Component, Hosting};
use selfhost_core::emulation::Running;
use selfhost_core::finding::{Code, Finding};
use selfhost_core::flags;
use selfhost_core::version::{self, KubeVersion};

use super::upgrade::{not_self_hosted, recorded_version};
use super::{Goal, Plan, Step, Verb, around, preconditions, survey, swap};
use crate::inventory::Inventory;
use crate::template;

/// Where the way back leads.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Destination {
    /// What each DaemonSet is to make its Pods from.
    pub templates: BTreeMap<Component, PodTemplateSpec>,
    /// What kubeadm's ConfigMap is to name; none where it is to stay as it is.
    pub recorded: Option<KubeVersion>,
}

impl Destination {
    /// What its API servers run, where their images are of version `target`.
    pub fn api_server(&self, target: &KubeVersion) -> Running {
        let template = self.templates.get(&Component::ApiServer);
        template
            .and_then(|template| template::emulation::running(Component::ApiServer, template))
            .unwrap_or_else(|| target.clone().into())
    }
}

/// The plan that brings every DaemonSet to `destination`, or what speaks against it.
pub fn plan(
    inventory: &Inventory,
    goal: Goal,
    destination: &Destination,
    node_image: &str,
) -> Result<Plan, Vec<Finding>> {
    let (nodes, mut findings) = survey(inventory, &goal);
    let mut templates = BTreeMap::new();
    for component in Component::ALL {
        let subject = format!("daemonset kube-system/{}", component.daemonset_name());
        let Some(template) = destination.templates.get(&component) else {
            findings.push(
                Finding::new(Code::NoRevision, subject, "has no earlier template that is known")
                    .hint("kubectl selfhost status -o wide"),
            );
            continue;
        };
        findings.extend(not_self_hosted(inventory, component));
        let metadata = template.metadata.clone().unwrap_or_default();
        let spec = template.spec.clone().unwrap_or_default();
        match template::normalize(component, &metadata, &spec, None) {
            Ok(template) => drop(templates.insert(component, template)),
            Err(error) => findings.push(Finding::new(Code::LayoutUnknown, subject, error.to_string())),
        }
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    let mut steps = preconditions::adoptions(inventory);
    let mut order = Component::ALL;
    if goal.goes_back() {
        order.reverse();
    }
    for component in order {
        let hash = templates.get(&component).and_then(|template| template.metadata.as_ref());
        let hash = hash.and_then(template::sealed_hash).unwrap_or_default();
        let mut swaps: Vec<Step> =
            nodes.keys().flat_map(|node| swap(inventory, component, node, hash)).collect();
        // An operation that came no further than to write the DaemonSet changed no Pod.
        let written = inventory.daemonsets.get(&component).and_then(|d| d.spec.template.metadata.as_ref());
        if swaps.iter().all(|step| step.verb != Verb::Apply)
            && written.and_then(template::sealed_hash) != Some(hash)
        {
            swaps.insert(0, Step { verb: Verb::Apply, component: Some(component), node: None });
        }
        steps.extend(swaps);
    }
    let plan = Plan {
        goal,
        steps,
        templates,
        nodes,
        around: around(inventory, node_image),
        record: destination.recorded.clone(),
        etcd: None,
    };
    let mut plan = plan.with_checkpoints(inventory, |_| true);
    let recorded = inventory.kubeadm.as_deref().and_then(recorded_version);
    if recorded.is_some() && destination.recorded.is_some() && recorded != destination.recorded {
        plan.steps.push(Step { verb: Verb::Record, component: None, node: None });
    }
    Ok(plan)
}

/// The template of a revision, newest first: what the DaemonSet controller keeps of each edit.
fn templates_of(
    component: Component,
    revisions: &[ControllerRevision],
) -> Vec<(&ControllerRevision, PodTemplateSpec)> {
    let mut found: Vec<_> = revisions
        .iter()
        .filter(|revision| {
            let owners = revision.owner_references();
            owners.iter().any(|o| o.kind == "DaemonSet" && o.name == component.daemonset_name())
        })
        .filter_map(|revision| {
            let template = revision.data.0.get("spec")?.get("template")?.clone();
            Some((revision, serde_json::from_value(template).ok()?))
        })
        .collect();
    found.sort_by_key(|(revision, _)| std::cmp::Reverse(revision.revision));
    found
}

fn version_of(component: Component, template: &PodTemplateSpec) -> Option<KubeVersion> {
    template::image(component, template).and_then(version::of_image)
}

/// What the Pods run now, by component: the revision that made all of them, or else the DaemonSet's template.
pub fn running(
    inventory: &Inventory,
    revisions: &[ControllerRevision],
) -> BTreeMap<Component, PodTemplateSpec> {
    let of = |component: Component, daemonset: &k8s_openapi::api::apps::v1::DaemonSet| {
        let mut hashes = inventory
            .instances
            .iter()
            .filter(|i| i.component == component && i.hosting == Hosting::SelfHosted)
            .map(|i| i.pod.labels().get("controller-revision-hash"));
        let first = hashes.next().flatten();
        let all = first.filter(|first| hashes.all(|hash| hash == Some(first)));
        let name = all.map(|hash| format!("{}-{hash}", component.daemonset_name()));
        let revision = templates_of(component, revisions)
            .into_iter()
            .find(|(revision, _)| name.as_deref() == Some(revision.name_any().as_str()));
        revision.map_or_else(|| daemonset.spec.template.clone(), |(_, template)| template)
    };
    inventory
        .daemonsets
        .iter()
        .map(|(component, daemonset)| (*component, of(*component, daemonset)))
        .collect()
}

/// The version to which a rollback leads if nobody names one: the newest revision of the API server's DaemonSet whose
/// image is of another version than its template.
pub fn previous_version(
    inventory: &Inventory,
    revisions: &[ControllerRevision],
) -> Result<KubeVersion, Finding> {
    let component = Component::ApiServer;
    let now = inventory.daemonsets.get(&component).and_then(|d| version_of(component, &d.spec.template));
    templates_of(component, revisions)
        .iter()
        .filter_map(|(_, template)| version_of(component, template))
        .find(|version| Some(version) != now.as_ref())
        .ok_or_else(|| no_revision(component, "has no revision of another version"))
}

fn no_revision(component: Component, message: impl Into<String>) -> Finding {
    Finding::new(Code::NoRevision, format!("daemonset kube-system/{}", component.daemonset_name()), message)
        .hint(format!("kubectl -n kube-system rollout history daemonset {}", component.daemonset_name()))
}

/// Where a rollback to `version` leads: of each DaemonSet the newest revision of that version.
pub fn revisions_of(
    version: &KubeVersion,
    revisions: &[ControllerRevision],
) -> Result<Destination, Vec<Finding>> {
    let mut templates = BTreeMap::new();
    let mut findings = Vec::new();
    for component in Component::ALL {
        let found = templates_of(component, revisions)
            .into_iter()
            .find(|(_, template)| version_of(component, template).as_ref() == Some(version));
        match found {
            Some((_, template)) => drop(templates.insert(component, template)),
            None => findings.push(no_revision(component, format!("has no revision of version {version}"))),
        }
    }
    if findings.is_empty() {
        Ok(Destination { templates, recorded: Some(version.clone()) })
    } else {
        Err(findings)
    }
}

/// Whether Kubernetes allows to go back to `target`.
///
/// One minor at most: by its deprecation policy (rule 4b) a version of an API becomes the one that is stored only after
/// a release that reads it, too. That promise does not cover alpha APIs. No kubelet may be newer than its API server.
///
/// What emulates the older minor has stored nothing newer, so that this way is open from there for as long as nothing
/// else changes.
pub fn skew(inventory: &Inventory, target: &Running) -> Vec<Finding> {
    let mut findings = Vec::new();
    for instance in &inventory.instances {
        let subject = format!("{} on {}", instance.component, instance.node);
        match preconditions::running(inventory, instance) {
            None => findings.push(
                Finding::new(Code::VersionUnknown, subject, "runs an image whose tag is not a version")
                    .hint("a rollback must know where it starts"),
            ),
            Some(runs) if runs.minors_from(target).is_none_or(|minors| 1 < minors) => {
                findings.push(
                    Finding::new(
                        Code::MinorSkipped,
                        subject,
                        format!("runs {runs}, and {target} is more than one minor away"),
                    )
                    .hint("an older version promises to read what the next minor stored, and no more"),
                );
            }
            Some(_) => {}
        }
    }
    findings.extend(preconditions::kubelet_skew(inventory, target));
    findings.extend(alpha_apis(inventory, target));
    findings
}

/// Alpha APIs that are served: no promise of Kubernetes covers what is stored of them.
pub(super) fn alpha_apis(inventory: &Inventory, reader: &dyn fmt::Display) -> Option<Finding> {
    let api_server = inventory.daemonsets.get(&Component::ApiServer).map(|d| &d.spec.template);
    let command = api_server.map(|template| template::command_line(Component::ApiServer, template))?;
    let served = flags::value(&command, "runtime-config")?;
    let alpha =
        |api: &&str| (api.contains("alpha") || api.starts_with("api/all")) && !api.ends_with("=false");
    served.split(',').find(alpha).map(|api| {
        Finding::new(
            Code::StorageUnreadable,
            Component::ApiServer.name(),
            format!("serves alpha APIs (--runtime-config={api}), which {reader} may not be able to read"),
        )
        .hint("take the flag away first: kubectl -n kube-system edit daemonset self-hosted-kube-apiserver")
    })
}

#[cfg(test)]
#[path = "back_tests.rs"]
mod tests;
