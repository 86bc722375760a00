//! A cluster that comes up while the guard is dead, registered at its widest and closed.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::call::{Call, Proxy};
use super::seed::{SYSTEM, TEAM};
use super::{case, cluster};

const PODS: &str = "/api/v1/namespaces/kube-system/pods";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const REVISIONS: &str = "/apis/apps/v1/namespaces/kube-system/controllerrevisions";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

fn object(kind: &str, name: &str, content: &Value) -> Value {
    case::object(kind, "kube-system", name, content)
}

fn controller(name: &str) -> String {
    format!("system:serviceaccount:kube-system:{name}")
}

/// A Pod with the privileges of the control plane's and the network's.
fn spec(node: Option<&str>) -> Value {
    json!({"nodeName": node, "hostNetwork": true, "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "a", "image": "example.org/a:v1", "securityContext": {"privileged": true}}]})
}

/// What kubelets and API servers write.
fn nodes(node_uid: &Value) -> Result<Vec<(&'static str, Call)>> {
    let labels = json!({"component": "kube-apiserver", "tier": "control-plane"});
    let owner =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "cp1", "uid": node_uid, "controller": true}]);
    let mirror = json!({"spec": spec(Some("cp1")), "metadata": {"labels": labels, "ownerReferences": owner,
        "annotations": {"kubernetes.io/config.mirror": "x"}}});
    let heartbeat = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let own_label = json!({"metadata": {"labels": {"kubernetes.io/os": "linux"}}});
    let slice = json!({"addressType": "IPv4", "metadata": {"labels": {"kubernetes.io/service-name": "kubernetes"}},
        "endpoints": [{"addresses": ["10.0.0.11"]}], "ports": [{"name": "https", "port": 6443}]});
    let slice = case::object("discovery.k8s.io/v1/EndpointSlice", "default", "kubernetes", &slice);
    let request = cluster::request(
        "again",
        "kubernetes.io/kube-apiserver-client-kubelet",
        "system:node:cp1",
        Some("system:nodes"),
    )?;
    Ok(vec![
        ("a node's heartbeat", Call::merge("/api/v1/nodes/cp1/status", &heartbeat).by_kubelet("cp1")),
        ("a node's own label", Call::merge("/api/v1/nodes/cp1", &own_label).by_kubelet("cp1")),
        ("the API's address is published", Call::post(SLICES, &slice).by("system:apiserver")),
        (
            "a kubelet shows a static Pod",
            Call::post(PODS, &object("v1/Pod", "kube-apiserver-cp1", &mirror)).by_kubelet("cp1"),
        ),
        (
            "a Pod's status",
            Call::merge(&format!("{PODS}/kube-apiserver-cp1/status"), &heartbeat).by_kubelet("cp1"),
        ),
        ("a kubelet asks for a certificate", Call::post(REQUESTS, &request).by_kubelet("cp1")),
    ])
}

/// What the controllers and the scheduler write.
fn controllers() -> Vec<(&'static str, Call)> {
    let has_owner = |kind: &str, spec: &Value| {
        let owner =
            json!([{"apiVersion": "apps/v1", "kind": kind, "name": "a", "uid": "1", "controller": true}]);
        json!({"metadata": {"ownerReferences": owner}, "spec": spec})
    };
    let token = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["a"]}});
    let target = json!({"target": {"apiVersion": "v1", "kind": "Node", "name": "cp1"}});
    let template = json!({"metadata": {"labels": {"app": "dns"}}, "spec": spec(None)});
    let mut replicas = has_owner("Deployment", &json!({}));
    replicas["spec"] = json!({"selector": {"matchLabels": {"app": "dns"}}, "template": template});
    let lease = object("coordination.k8s.io/v1/Lease", "kube-scheduler", &json!({"spec": {}}));
    let revision = object(
        "apps/v1/ControllerRevision",
        "self-hosted-kube-apiserver-1",
        &json!({"revision": 1, "data": {}}),
    );
    let root = object("v1/ConfigMap", "kube-root-ca.crt", &json!({"data": {"ca.crt": "x"}}));
    let account = object("v1/ServiceAccount", "daemon-set-controller", &json!({}));
    let network = object("v1/Pod", "network-x1", &has_owner("DaemonSet", &spec(Some("cp1"))));
    let dns = object("v1/Pod", "dns-x1", &has_owner("ReplicaSet", &spec(None)));
    let accounts = format!("{SYSTEM}/serviceaccounts");
    let (manager, daemonsets) = ("system:kube-controller-manager", controller("daemon-set-controller"));
    vec![
        ("a leader is elected", Call::post(LEASES, &lease).by("system:kube-scheduler")),
        ("a controller's account is made", Call::post(&accounts, &account).by(manager)),
        (
            "the controller manager gets that controller's token",
            Call::post(&format!("{accounts}/daemon-set-controller/token"), &token).by(manager),
        ),
        (
            "Pods get their authority",
            Call::post(&format!("{SYSTEM}/configmaps"), &root).by(&controller("root-ca-cert-publisher")),
        ),
        ("a DaemonSet gets its revision", Call::post(REVISIONS, &revision).by(&daemonsets)),
        ("a DaemonSet gets a Pod", Call::post(PODS, &network).by(&daemonsets)),
        (
            "a Deployment gets its ReplicaSet",
            Call::post(
                "/apis/apps/v1/namespaces/kube-system/replicasets",
                &object("apps/v1/ReplicaSet", "dns", &replicas),
            )
            .by(&controller("deployment-controller")),
        ),
        ("a ReplicaSet gets a Pod", Call::post(PODS, &dns).by(&controller("replicaset-controller"))),
        (
            "the scheduler binds it",
            Call::post(&format!("{PODS}/dns-x1/binding"), &object("v1/Binding", "dns-x1", &target))
                .by("system:kube-scheduler"),
        ),
        (
            "a lost node's Pod goes",
            Call::delete(&format!("{PODS}/network-x1?gracePeriodSeconds=0"))
                .by(&controller("node-controller")),
        ),
    ]
}

/// What users do that is not the control plane's business.
fn work() -> Vec<(&'static str, Call)> {
    let template = json!({"metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "a", "image": "example.org/a:v1"}]}});
    let deployment = json!({"spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template}});
    let secret = case::object("v1/Secret", "team", "mine", &json!({"stringData": {"a": "b"}}));
    let role = json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]});
    let group = "rbac.authorization.k8s.io";
    let binding = json!({"roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "jane"}]});
    vec![
        (
            "a Deployment",
            Call::post(
                "/apis/apps/v1/namespaces/team/deployments",
                &case::object("apps/v1/Deployment", "team", "web", &deployment),
            ),
        ),
        ("a Secret", Call::post(&format!("{TEAM}/secrets"), &secret)),
        ("an edit of it", Call::merge(&format!("{TEAM}/secrets/mine"), &json!({"stringData": {"a": "c"}}))),
        (
            "a role",
            Call::post(
                &format!("/apis/{group}/v1/clusterroles"),
                &case::object(&format!("{group}/v1/ClusterRole"), "", "mine", &role),
            ),
        ),
        (
            "an administrator of a namespace",
            Call::post(
                &format!("/apis/{group}/v1/namespaces/team/rolebindings"),
                &case::object(&format!("{group}/v1/RoleBinding"), "team", "mine", &binding),
            ),
        ),
        ("a node is cordoned", Call::merge("/api/v1/nodes/cp1", &json!({"spec": {"unschedulable": true}}))),
        ("the namespace goes", Call::delete(TEAM)),
    ]
}

/// While nobody answers for the guard, all that can be written, and what is guarded cannot.
pub(crate) fn check(proxy: &Proxy) -> Result<()> {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "cp1"}});
    let node = proxy.send(&Call::post("/api/v1/nodes", &node).by_kubelet("cp1"))?;
    let node = node.object().context("with a dead guard, a node registers")?;
    for name in ["team", "selfhost-guard"] {
        let namespace = json!({"metadata": {"name": name}});
        proxy.send(&Call::post("/api/v1/namespaces", &namespace))?.object()?;
    }
    let starts = nodes(&node["metadata"]["uid"])?.into_iter().chain(controllers());
    for (what, call) in starts.chain(work()) {
        let answer = proxy.send(&call)?;
        ensure!(answer.is_good(), "with a dead guard, {what}: {} {}", answer.status, answer.body);
    }
    let answer = proxy.try_out(&Call::delete("/api/v1/namespaces/selfhost-guard"))?;
    ensure!(
        answer.message().contains("failed calling webhook"),
        "with a dead guard, what is guarded can be deleted: {} {}",
        answer.status,
        answer.body
    );
    Ok(())
}
