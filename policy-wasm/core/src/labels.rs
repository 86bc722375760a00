//! Every label, annotation and object name that this project writes or reads, once.

use crate::component::Component;

/// Our own prefix.
pub const PREFIX: &str = "kubectl-selfhost.dev";

/// The namespace of the control plane's objects.
pub const NAMESPACE: &str = "kube-system";

/// The field manager of every write.
pub const FIELD_MANAGER: &str = "kubectl-selfhost";

/// kubeadm's label that names the application; the DaemonSets' selector.
pub const K8S_APP: &str = "k8s-app";

/// The label by which other tools find a control-plane component's Pods.
pub const COMPONENT: &str = "component";

/// The label, always `control-plane`, by which other tools find all control-plane Pods.
pub const TIER: &str = "tier";

/// The value of [`TIER`].
pub const TIER_CONTROL_PLANE: &str = "control-plane";

/// kubeadm's annotation with the API server's own address and port, read again by `kubeadm join`.
pub const ADVERTISE_ADDRESS: &str = "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint";

/// The annotation by which the kubelet marks a mirror Pod: the API's shadow of a static Pod.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// The prefix of the kubelet's annotations on mirror Pods; none of them may be copied to another Pod.
pub const KUBELET_CONFIG_PREFIX: &str = "kubernetes.io/config.";

/// The labels by which a node is known as a control-plane node, newest first. `master` was dropped in 1.24.
pub const CONTROL_PLANE_ROLES: [&str; 2] =
    ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

/// The label of a bridge Pod; its value is the component's name.
pub const BRIDGE: &str = "kubectl-selfhost.dev/bridge";

/// The name of the static Pod that brings the control plane back after a reboot, before the kubelet's `-<node>`, and
/// its `component` label.
pub const STANDBY: &str = "control-plane-standby";

/// The annotation of a standby's Pod with the generation of its checkpoint; the node part writes it.
pub const CHECKPOINT: &str = "kubectl-selfhost.dev/generation";

/// The annotation of a standby's Pod with the Pod templates that it was made from, by component, in JSON.
pub const TEMPLATES: &str = "kubectl-selfhost.dev/templates";

/// The label of a node-task Pod; its value is the task's name.
pub const TASK: &str = "kubectl-selfhost.dev/task";

/// The annotation of a DaemonSet's Pod template and of each of its Pods with the hash of what the Pod runs:
/// the truth about whether a running Pod is the one that the plan wants.
pub const TEMPLATE_HASH: &str = "kubectl-selfhost.dev/template-hash";

/// The annotation of a DaemonSet's Pod template with the minor that an upgrade made it emulate. Where the flag says
/// something else, or is there without it, that is the operator's own.
pub const EMULATES: &str = "kubectl-selfhost.dev/emulates";

/// The annotation of a static Pod that `selfhost-node recover` made of the DaemonSet in etcd; the node part writes it.
pub const RECOVERED: &str = "kubectl-selfhost.dev/recovered";

/// The label of the guard's namespace; its value is the guard's name.
pub const GUARD: &str = "kubectl-selfhost.dev/guard";

/// The Lease, and the ConfigMap, of the one operation that may run at a time.
pub const OPERATION: &str = "selfhost-operation";

/// The EndpointSlice in `default` that keeps the `kubernetes` Service's address while an API server is replaced.
pub const BRIDGE_SLICE: &str = "kubernetes-bridge";

/// The label that a node carries once its copy of the component is self-hosted; its value is `true`.
///
/// One for each component, and set node by node: creating the DaemonSet must not start Pods everywhere at once, and
/// a node that joins with static Pods must not get a second set.
pub const fn node_label(component: Component) -> &'static str {
    match component {
        Component::ApiServer => "kubectl-selfhost.dev/kube-apiserver",
        Component::ControllerManager => "kubectl-selfhost.dev/kube-controller-manager",
        Component::Scheduler => "kubectl-selfhost.dev/kube-scheduler",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_keys_carry_the_prefix() {
        for key in [BRIDGE, CHECKPOINT, EMULATES, GUARD, RECOVERED, TASK, TEMPLATES, TEMPLATE_HASH]
            .into_iter()
            .chain(Component::ALL.map(node_label))
        {
            assert!(key.starts_with(&format!("{PREFIX}/")), "{key}");
        }
    }
}
