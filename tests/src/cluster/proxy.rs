//! kube-proxy as a process of the node: no image of it is needed, and the `client` node has no kubelet to run it.

use anyhow::Result;
use serde_json::json;

use super::machine::Machine;
use super::spec::ProxyMode;
use super::state::Role;

/// Name of the user kube-proxy is; Kubernetes binds it to `system:node-proxier` itself.
pub(super) const USER: &str = "system:kube-proxy";

/// Puts kube-proxy on the node; it speaks to the API server as `kubeconfig` says.
pub(super) fn install(machine: &Machine, kubeconfig: &str, mode: ProxyMode) -> Result<()> {
    let node = machine.node();
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode,
        "clusterCIDR": "10.244.0.0/16",
        // It wants to see its Node object. The client has none and may take any: only its address is read from it.
        "hostnameOverride": if node.role == Role::Client { "cp1" } else { node.name.as_str() },
        "clientConnection": {"kubeconfig": "/var/lib/kube-proxy/kubeconfig"},
        // Limits of connection tracking belong to the whole machine.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    });
    machine.write("/var/lib/kube-proxy/kubeconfig", kubeconfig)?;
    machine.write("/var/lib/kube-proxy/config.json", &config.to_string())?;
    machine.service("kube-proxy", "exec kube-proxy --config=/var/lib/kube-proxy/config.json")
}
