//! What a Pod in `kube-system` is to a control plane.
//!
//! Invariant: pure. A static Pod is told by the kubelet's mirror annotation, a self-hosted one by its controller, and
//! neither by its name, which anybody may choose.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Node, NodeAddress, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use selfhost_core::component::{Component, Hosting};
use selfhost_core::emulation::Running;
use selfhost_core::labels;
use selfhost_core::version::{self, KubeVersion};

/// What a Pod is to a control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It runs a component.
    Instance(Component, Hosting),
    /// It serves while a component is replaced.
    Bridge,
    /// It would bring the control plane back after a reboot.
    Standby,
    /// It runs etcd.
    Etcd,
    /// Nothing of ours.
    Other,
}

/// The role of `pod`.
pub fn role(pod: &Pod) -> Role {
    let static_pod = annotation(pod, labels::MIRROR).is_some();
    if label(pod, labels::BRIDGE).is_some() {
        return Role::Bridge;
    }
    if label(pod, labels::TASK).is_some() || (!static_pod && is_over(pod)) {
        return Role::Other;
    }
    if static_pod {
        let labelled = label(pod, labels::COMPONENT);
        if labelled == Some(labels::STANDBY) {
            return Role::Standby;
        }
        if labelled == Some("etcd") || container(pod, "etcd").is_some() {
            return Role::Etcd;
        }
        return Component::ALL
            .into_iter()
            .find(|component| {
                labelled == Some(component.name()) || container(pod, component.name()).is_some()
            })
            .map_or(Role::Other, |component| Role::Instance(component, Hosting::StaticPod));
    }
    let Some(owner) = controller(pod) else {
        return Role::Other;
    };
    Component::ALL
        .into_iter()
        .find(|component| is_self_hosted(pod, owner, *component))
        .map_or(Role::Other, |component| Role::Instance(component, Hosting::SelfHosted))
}

/// Whether `owner` makes `pod` a self-hosted `component`: the DaemonSet of ours and of kubeadm 1.5 to 1.18, or another
/// controller whose Pods are labelled and run like one (bootkube's and its heirs', which are shown, not changed).
fn is_self_hosted(pod: &Pod, owner: &OwnerReference, component: Component) -> bool {
    if owner.kind == "DaemonSet" && owner.name == component.daemonset_name() {
        return true;
    }
    let names = [label(pod, labels::COMPONENT), label(pod, labels::K8S_APP)];
    matches!(owner.kind.as_str(), "DaemonSet" | "ReplicaSet")
        && names.contains(&Some(component.name()))
        && container(pod, component.name()).is_some()
}

/// Which checkpoint a standby's Pod is; later ones have greater numbers.
pub fn generation(pod: &Pod) -> u64 {
    annotation(pod, labels::CHECKPOINT).and_then(|generation| generation.parse().ok()).unwrap_or_default()
}

/// The node that `pod` runs on, or that its DaemonSet means it for while no scheduler has bound it.
pub fn node_name(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
        return Some(node);
    }
    let terms = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = terms.required_during_scheduling_ignored_during_execution.as_ref()?;
    terms
        .node_selector_terms
        .iter()
        .flat_map(|term| term.match_fields.iter().flatten())
        .find(|field| field.key == "metadata.name" && field.operator == "In")
        .and_then(|field| field.values.as_ref()?.first().map(String::as_str))
}

/// The container of this name.
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    pod.spec.as_ref()?.containers.iter().find(|container| container.name == name)
}

/// The container that runs the component: the one of its name, or the only one.
///
/// kubeadm up to 1.9 and hand-written manifests may name it otherwise.
pub fn main_container<'a>(pod: &'a Pod, component: &str) -> Option<&'a Container> {
    container(pod, component).or_else(|| match pod.spec.as_ref()?.containers.as_slice() {
        [only] => Some(only),
        _ => None,
    })
}

/// The status of [`main_container`].
pub fn main_status<'a>(pod: &'a Pod, component: &str) -> Option<&'a ContainerStatus> {
    let name = &main_container(pod, component)?.name;
    pod.status.as_ref()?.container_statuses.as_ref()?.iter().find(|status| &status.name == name)
}

/// The image of the component's container, as the Pod asks for it.
pub fn image<'a>(pod: &'a Pod, component: &str) -> Option<&'a str> {
    main_container(pod, component)?.image.as_deref()
}

/// The version that runs now: by the image of the *running* container. `None` where it does not run, or where the
/// image's tag is no version.
pub fn running_version(pod: &Pod, component: &str) -> Option<KubeVersion> {
    let status = main_status(pod, component)?;
    status.state.as_ref()?.running.as_ref()?;
    // A runtime may report the image's id in the place of its name; the container was made from the Pod's image.
    version::of_image(&status.image).or_else(|| image(pod, component).and_then(version::of_image))
}

/// [`running_version`], with the minor that the container's command line makes it emulate.
pub fn running(pod: &Pod, component: &str) -> Option<Running> {
    Some(Running::new(running_version(pod, component)?, &command(pod, component)))
}

/// Command and arguments of the component's container, as one list.
pub fn command(pod: &Pod, component: &str) -> Vec<String> {
    main_container(pod, component).map_or_else(Vec::new, |container| {
        container.command.iter().flatten().chain(container.args.iter().flatten()).cloned().collect()
    })
}

/// Whether the Pod's condition `Ready` is true, and it is not on its way out.
pub fn is_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && condition(pod, "Ready") == Some("True")
}

/// The status of a Pod's condition.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.as_str())
}

/// Whether a node's condition `Ready` is true.
pub fn is_node_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether a node carries a control-plane role label.
pub fn is_control_plane(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    labels.is_some_and(|labels| labels::CONTROL_PLANE_ROLES.iter().any(|role| labels.contains_key(*role)))
}

/// A node's own address inside the cluster.
pub fn node_address(node: &Node) -> Option<&str> {
    let addresses: &[NodeAddress] = node.status.as_ref()?.addresses.as_deref()?;
    addresses.iter().find(|address| address.type_ == "InternalIP").map(|address| address.address.as_str())
}

/// A label's value.
pub fn label<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// An annotation's value.
pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn controller(pod: &Pod) -> Option<&OwnerReference> {
    pod.metadata.owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
}

/// A Pod that ended and is still listed: its controller has made another one.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    fn owned_by(kind: &str, name: &str, labels: &Value, container: &str) -> Pod {
        pod(json!({
            "metadata": {
                "labels": labels,
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": true}]
            },
            "spec": {"containers": [{"name": container}]}
        }))
    }

    fn mirror(labels: &Value, container: &str) -> Pod {
        pod(json!({
            "metadata": {"labels": labels, "annotations": {"kubernetes.io/config.mirror": "hash"}},
            "spec": {"containers": [{"name": container}]}
        }))
    }

    #[test]
    fn roles() {
        use Component::{ApiServer, ControllerManager, Scheduler};
        use Hosting::{SelfHosted, StaticPod};
        // On the heap: Pods are large.
        for (pod, expected) in vec![
            (mirror(&json!({"component": "kube-apiserver"}), "main"), Role::Instance(ApiServer, StaticPod)),
            (mirror(&json!({}), "kube-scheduler"), Role::Instance(Scheduler, StaticPod)),
            (mirror(&json!({"component": "etcd"}), "etcd"), Role::Etcd),
            (mirror(&json!({}), "etcd"), Role::Etcd),
            (mirror(&json!({"component": "control-plane-standby"}), "kube-apiserver"), Role::Standby),
            (mirror(&json!({}), "nginx"), Role::Other),
            (
                owned_by("DaemonSet", "self-hosted-kube-apiserver", &json!({}), "self-hosted-kube-apiserver"),
                Role::Instance(ApiServer, SelfHosted),
            ),
            (
                owned_by(
                    "ReplicaSet",
                    "kube-controller-manager-7d4b",
                    &json!({"k8s-app": "kube-controller-manager"}),
                    "kube-controller-manager",
                ),
                Role::Instance(ControllerManager, SelfHosted),
            ),
            // A name alone makes nobody a component.
            (owned_by("ReplicaSet", "kube-scheduler", &json!({}), "kube-scheduler"), Role::Other),
            (
                owned_by("DaemonSet", "kube-proxy", &json!({"k8s-app": "kube-proxy"}), "kube-proxy"),
                Role::Other,
            ),
            (
                owned_by(
                    "DaemonSet",
                    "temp-upgrade-self-hosted-kube-apiserver",
                    &json!({}),
                    "kube-apiserver",
                ),
                Role::Other,
            ),
            (
                pod(
                    json!({"metadata": {"labels": {"component": "kube-apiserver"}}, "spec": {"containers": [{"name": "kube-apiserver"}]}}),
                ),
                Role::Other,
            ),
            (
                pod(
                    json!({"metadata": {"labels": {"kubectl-selfhost.dev/bridge": "kube-apiserver", "component": "kube-apiserver"}}}),
                ),
                Role::Bridge,
            ),
        ] {
            assert_eq!(role(&pod), expected, "{pod:?}");
        }
    }

    #[test]
    fn a_pod_that_ended_runs_nothing() {
        let mut pod = owned_by("DaemonSet", "self-hosted-kube-scheduler", &json!({}), "kube-scheduler");
        pod.status = serde_json::from_value(json!({"phase": "Failed"})).unwrap();
        assert_eq!(role(&pod), Role::Other);
        let mut pod = mirror(&json!({"component": "kube-scheduler"}), "kube-scheduler");
        pod.status = serde_json::from_value(json!({"phase": "Failed"})).unwrap();
        assert_eq!(role(&pod), Role::Instance(Component::Scheduler, Hosting::StaticPod));
    }

    #[test]
    fn an_unscheduled_daemon_pod_has_a_node() {
        let pending = pod(json!({"spec": {"containers": [], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["cp-1"]}]}
            ]}
        }}}}));
        assert_eq!(node_name(&pending), Some("cp-1"));
        assert_eq!(node_name(&pod(json!({"spec": {"containers": [], "nodeName": "cp-2"}}))), Some("cp-2"));
        assert_eq!(node_name(&pod(json!({"spec": {"containers": []}}))), None);
    }

    #[test]
    fn versions_are_of_what_runs() {
        let with = |state: Value, image: &str| {
            pod(json!({
                "spec": {"containers": [{"name": "kube-apiserver", "image": "registry.k8s.io/kube-apiserver:v1.37.2"}]},
                "status": {"containerStatuses": [{
                    "name": "kube-apiserver", "image": image, "imageID": "", "ready": true, "restartCount": 0, "state": state
                }]}
            }))
        };
        let running = json!({"running": {}});
        for (pod, expected) in [
            (with(running.clone(), "registry.k8s.io/kube-apiserver:v1.36.3"), Some("v1.36.3")),
            (with(running.clone(), "sha256:00"), Some("v1.37.2")),
            (
                with(
                    json!({"waiting": {"reason": "CrashLoopBackOff"}}),
                    "registry.k8s.io/kube-apiserver:v1.36.3",
                ),
                None,
            ),
        ] {
            assert_eq!(running_version(&pod, "kube-apiserver").map(|v| v.to_string()).as_deref(), expected);
        }
    }
}
