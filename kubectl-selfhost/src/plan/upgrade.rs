//! Planning an upgrade of a self-hosted control plane to another version.

use std::collections::BTreeMap;

use selfhost_core::component::{Component, Hosting};
use selfhost_core::emulation::Running;
use selfhost_core::etcd::EtcdTag;
use selfhost_core::finding::{Code, Finding};
use selfhost_core::version::{self, KubeVersion, MinorVersion, VersionRequest};

use super::pivot::current_template;
use super::{Goal, Plan, Step, Verb, around, emulation, preconditions, survey, swap};
use crate::inventory::Inventory;
use crate::template;

/// The plan that brings every component to `target`, or what speaks against it. What a two-step upgrade made emulate an
/// older minor does so no longer.
///
/// `repository` replaces the images' repository: `registry.example.org/k8s`. `etcd` is the tag to which etcd comes along.
pub fn plan(
    inventory: &Inventory,
    target: &KubeVersion,
    node_image: &str,
    repository: Option<&str>,
    etcd: Option<&EtcdTag>,
) -> Result<Plan, Vec<Finding>> {
    toward(
        inventory,
        Goal::Upgrade(target.clone()),
        &Target { version: target, repository, emulated: None, etcd },
        node_image,
    )
}

/// The plan for the first of two steps: every component comes to the binary of `target`, and goes on behaving like the
/// minor that runs now. [`plan`] is the second.
pub fn emulate(
    inventory: &Inventory,
    target: &KubeVersion,
    node_image: &str,
    repository: Option<&str>,
) -> Result<Plan, Vec<Finding>> {
    let emulated = emulation::first_step(inventory, target);
    let goal = Goal::Emulate(target.clone());
    let to = |emulated| Target { version: target, repository, emulated, etcd: None };
    match emulated {
        Ok(minor) => toward(inventory, goal, &to(Some(minor)), node_image),
        Err(mut findings) => {
            // Whatever else speaks against it is told at the same time.
            findings.extend(toward(inventory, goal, &to(None), node_image).err().into_iter().flatten());
            Err(findings)
        }
    }
}

/// Where an upgrade leads.
struct Target<'a> {
    version: &'a KubeVersion,
    repository: Option<&'a str>,
    /// The minor that the components are to emulate, beyond what their operator chose.
    emulated: Option<MinorVersion>,
    /// The tag to which etcd comes along.
    etcd: Option<&'a EtcdTag>,
}

fn toward(
    inventory: &Inventory,
    goal: Goal,
    to: &Target<'_>,
    node_image: &str,
) -> Result<Plan, Vec<Finding>> {
    let target = to.version;
    let (nodes, mut findings) = survey(inventory, &goal);
    findings.extend(preconditions::skew(inventory, target));
    let etcd = to.etcd.map(|tag| super::etcd::plan(inventory, tag, to.repository)).transpose();
    let etcd = etcd.unwrap_or_else(|more| {
        findings.extend(more);
        None
    });
    let mut templates = BTreeMap::new();
    let mut server = Running::from(target.clone());
    for component in Component::ALL {
        if let Some(finding) = not_self_hosted(inventory, component) {
            findings.push(finding);
            continue;
        }
        match current_template(inventory, component) {
            Ok(template) => {
                findings.extend(emulation::misfits(component, &template, target, to.emulated));
                let at = template::at_version(component, template, target, to.repository, to.emulated);
                if component == Component::ApiServer {
                    server = Running::new(target.clone(), &template::command_line(component, &at));
                }
                // The version decides which shutdown flags there are.
                let (metadata, spec) = (at.metadata.unwrap_or_default(), at.spec.unwrap_or_default());
                match template::normalize(component, &metadata, &spec, None) {
                    Ok(template) => drop(templates.insert(component, template)),
                    Err(error) => findings.push(Finding::new(
                        Code::LayoutUnknown,
                        format!("daemonset kube-system/{}", component.daemonset_name()),
                        error.to_string(),
                    )),
                }
            }
            Err(more) => findings.extend(more),
        }
    }
    findings.extend(preconditions::kubelet_skew(inventory, &server));
    if !findings.is_empty() {
        return Err(findings);
    }
    let mut steps = etcd.as_ref().map(super::etcd::Etcd::steps).unwrap_or_default();
    steps.extend(preconditions::adoptions(inventory));
    for (component, template) in &templates {
        let hash = template.metadata.as_ref().and_then(template::sealed_hash).unwrap_or_default();
        for node in nodes.keys() {
            steps.extend(swap(inventory, *component, node, hash));
        }
    }
    let plan = Plan {
        goal,
        steps,
        // A node that joins between the two steps gets from kubeadm what is emulated, not what is new.
        record: to.emulated.is_none().then(|| target.clone()),
        templates,
        nodes,
        around: around(inventory, node_image),
        etcd,
    };
    let mut plan = plan.with_checkpoints(inventory, |_| true);
    if let Some(configuration) = &inventory.kubeadm
        && configuration_with(configuration, &plan) != *configuration
    {
        plan.steps.push(Step { verb: Verb::Record, component: None, node: None });
    }
    Ok(plan)
}

pub(super) fn not_self_hosted(inventory: &Inventory, component: Component) -> Option<Finding> {
    let of_component = || inventory.instances.iter().filter(|instance| instance.component == component);
    if let Some(instance) = of_component().find(|instance| instance.hosting == Hosting::StaticPod) {
        return Some(
            Finding::new(
                Code::NotSelfHosted,
                format!("{component} on {}", instance.node),
                "is a static Pod, which an upgrade through the API cannot change",
            )
            .hint("kubectl selfhost pivot"),
        );
    }
    if !inventory.daemonsets.contains_key(&component) {
        return Some(
            Finding::new(Code::NotSelfHosted, component.name(), "has no DaemonSet")
                .hint("where a standby serves in its place: kubectl selfhost pivot"),
        );
    }
    None
}

/// The version that a request means: itself, or the newest patch among `known`.
///
/// `None` where a minor is asked for of which no patch is known.
pub fn resolve(request: &VersionRequest, known: &[KubeVersion]) -> Option<KubeVersion> {
    match request {
        VersionRequest::Exact(version) => Some(version.clone()),
        VersionRequest::Minor(major, minor) => {
            known.iter().filter(|v| (v.major, v.minor) == (*major, *minor) && v.pre.is_none()).max().cloned()
        }
    }
}

/// The versions of kube-apiserver whose images some control-plane node already holds, oldest first.
pub fn versions_on_nodes(inventory: &Inventory) -> Vec<KubeVersion> {
    let mut versions: Vec<KubeVersion> = inventory
        .control_plane
        .values()
        .filter_map(|node| node.status.as_ref()?.images.as_ref())
        .flatten()
        .flat_map(|image| image.names.iter().flatten())
        .filter(|name| {
            let repository = name.split(['@', ':']).next().unwrap_or_default();
            // 1.11's images carried the architecture in their names.
            repository.rsplit('/').next().is_some_and(|last| last.starts_with(Component::ApiServer.name()))
        })
        .filter_map(|name| version::of_image(name))
        .collect();
    versions.sort();
    versions.dedup();
    versions
}

/// kubeadm's `ClusterConfiguration` as it is to be when the plan is done; every other byte stays.
pub fn configuration_with(configuration: &str, plan: &Plan) -> String {
    let mut text = configuration.to_owned();
    // What is the same in another spelling stays as it is spelled.
    if let Some(target) = &plan.record
        && recorded_version(&text).is_some_and(|recorded| recorded != *target)
    {
        text = record_version(&text, target);
    }
    if let Some(etcd) = &plan.etcd
        && super::etcd::recorded_tag(&text).is_some_and(|recorded| recorded != etcd.tag.to_string())
    {
        text = super::etcd::record_tag(&text, &etcd.tag);
    }
    text
}

/// The `kubernetesVersion` of kubeadm's `ClusterConfiguration`.
pub fn recorded_version(configuration: &str) -> Option<KubeVersion> {
    let line = configuration.lines().find_map(|line| line.strip_prefix("kubernetesVersion:"))?;
    line.trim().trim_matches('"').parse().ok()
}

/// kubeadm's `ClusterConfiguration` with another `kubernetesVersion`; every other byte stays.
pub fn record_version(configuration: &str, target: &KubeVersion) -> String {
    configuration
        .split_inclusive('\n')
        .map(|line| match line.strip_prefix("kubernetesVersion:") {
            Some(rest) => {
                let end = if rest.ends_with('\n') { "\n" } else { "" };
                format!("kubernetesVersion: {target}{end}")
            }
            None => line.to_owned(),
        })
        .collect()
}
