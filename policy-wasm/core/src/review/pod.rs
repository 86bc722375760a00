//! A Pod, or the template of one, as the rules look at it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::command::CommandLine;
use super::object::{list, pairs, text};
use super::{Object, Request};
use crate::component::Component;
use crate::labels;
use crate::version::{self, KubeVersion};

/// The lists of containers in a Pod's spec.
pub const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// The metadata and spec of a Pod.
#[derive(Debug, Clone, Copy)]
pub struct Pod<'a>(pub &'a Value);

impl<'a> Pod<'a> {
    /// The template of a workload.
    pub fn template_of(workload: &'a Value) -> Self {
        Self(&workload["spec"]["template"])
    }

    /// Its spec.
    pub fn spec(self) -> &'a Value {
        &self.0["spec"]
    }

    /// Its labels.
    pub fn labels(self) -> BTreeMap<&'a str, &'a str> {
        Object(self.0).labels()
    }

    /// Every container of it, with where it stands: `containers[0]`.
    pub fn containers(self) -> impl Iterator<Item = (String, &'a Value)> {
        let spec = self.spec();
        CONTAINERS.into_iter().flat_map(move |kind| {
            list(spec, kind).iter().enumerate().map(move |(index, it)| (format!("{kind}[{index}]"), it))
        })
    }

    /// The container of a component.
    pub fn container(self, component: Component) -> Option<&'a Value> {
        list(self.spec(), "containers").iter().find(|container| text(container, "name") == component.name())
    }

    /// The component's command line; none where it has no container.
    pub fn command(self, component: Component) -> Option<CommandLine> {
        Some(CommandLine::of(component, self.container(component)?))
    }

    /// The component's image.
    pub fn image(self, component: Component) -> &'a str {
        self.container(component).map(|container| text(container, "image")).unwrap_or_default()
    }

    /// The component's version, by its image.
    pub fn version(self, component: Component) -> Option<KubeVersion> {
        version::of_image(self.image(component))
    }

    /// Its volumes, by name.
    pub fn volumes(self) -> BTreeMap<&'a str, &'a Value> {
        list(self.spec(), "volumes").iter().map(|volume| (text(volume, "name"), volume)).collect()
    }

    /// What it asks of its node.
    pub fn node_selector(self) -> BTreeMap<&'a str, &'a str> {
        pairs(self.spec(), "nodeSelector")
    }

    /// The node it is on, or bound to.
    pub fn node(self) -> &'a str {
        text(self.spec(), "nodeName")
    }

    /// Whether it is the shadow of a static Pod.
    pub fn is_mirror(self) -> bool {
        Object(self.0).annotations().contains_key(labels::MIRROR)
    }

    /// The component that it runs, by the labels of the control plane.
    pub fn component(self) -> Option<Component> {
        let labels = self.labels();
        let by_app = labels.get(labels::K8S_APP).and_then(|app| of_daemonset_name(app));
        let by_tier = labels.get(labels::TIER).filter(|tier| **tier == labels::TIER_CONTROL_PLANE);
        by_app.or_else(|| by_tier.and_then(|_| labels.get(labels::COMPONENT)?.parse().ok()))
    }

    /// The component that it stands in for, as a bridge.
    pub fn bridge_of(self) -> Option<Component> {
        self.labels().get(labels::BRIDGE)?.parse().ok()
    }
}

/// The component whose DaemonSet has this name.
pub fn of_daemonset_name(name: &str) -> Option<Component> {
    Component::ALL.into_iter().find(|component| component.daemonset_name() == name)
}

/// The component whose DaemonSet a request is about.
pub fn component_of(request: &Request) -> Option<Component> {
    let ours = request.is_daemonset() && request.namespace() == labels::NAMESPACE;
    of_daemonset_name(request.name()).filter(|_| ours)
}

/// The kinds of workload, by group and resource, with the path to their Pod's template.
const WORKLOADS: [(&str, &str, &[&str]); 11] = [
    ("", "pods", &[]),
    ("", "podtemplates", &["template"]),
    ("", "replicationcontrollers", &["spec", "template"]),
    ("apps", "daemonsets", &["spec", "template"]),
    ("apps", "deployments", &["spec", "template"]),
    ("apps", "replicasets", &["spec", "template"]),
    ("apps", "statefulsets", &["spec", "template"]),
    ("extensions", "daemonsets", &["spec", "template"]),
    ("extensions", "deployments", &["spec", "template"]),
    ("batch", "jobs", &["spec", "template"]),
    ("batch", "cronjobs", &["spec", "jobTemplate", "spec", "template"]),
];

/// The path to the Pod's template in the object of a request; none where it has none.
pub fn template_path(request: &Request) -> Option<&'static [&'static str]> {
    let found = WORKLOADS.iter().find(|(group, resource, _)| request.is(group, resource));
    found.map(|(_, _, path)| *path)
}

/// The Pod (or template) that a request would make, and the one before.
pub fn pods_of(request: &Request) -> Option<(Pod<'_>, Pod<'_>)> {
    let path = template_path(request)?;
    Some((Pod(super::object::at(&request.object, path)), Pod(super::object::at(&request.old_object, path))))
}

/// What a Pod is to the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A component.
    Component(Component),
    /// A bridge of a component.
    Bridge(Component),
    /// A node's standby.
    Standby,
    /// The guard itself.
    Guard,
}

/// What a Pod is to the control plane, by its namespace and labels; `None` for any other Pod.
pub fn part_of(pod: Pod<'_>, namespace: &str, guard: &str) -> Option<Part> {
    if namespace == guard {
        return Some(Part::Guard);
    }
    if namespace != labels::NAMESPACE {
        return None;
    }
    let is_standby = pod.labels().get(labels::COMPONENT) == Some(&labels::STANDBY);
    let bridge = pod.bridge_of().map(Part::Bridge);
    bridge.or(pod.component().map(Part::Component)).or(is_standby.then_some(Part::Standby))
}

/// Whether a Pod of this name is a part of the control plane or of the guard: what can be told where a review has no
/// Pod in it. Names are given by controllers and kubelets; etcd's static Pods count.
pub fn is_part_by_name(namespace: &str, name: &str, guard: &str) -> bool {
    let starts = |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('-'));
    let ours = || Component::ALL.into_iter().any(|it| starts(it.name()) || starts(it.daemonset_name()));
    namespace == guard
        || (namespace == labels::NAMESPACE && (ours() || starts(labels::STANDBY) || starts("etcd")))
}
