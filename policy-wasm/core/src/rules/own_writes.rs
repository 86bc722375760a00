//! Every write of the plugin is admitted, because it is safe and not because of who makes it.
//!
//! The templates are the plugin's own goldens, so that a change there that no rule would admit fails here.

use serde_json::{Value, json};

use super::testing::{World, create, update};
use crate::component::Component;
use crate::labels;

fn golden(text: &str) -> Value {
    let json = text.splitn(3, "---\n").nth(2).unwrap();
    serde_json::from_str(json).unwrap()
}

/// The template of an API server's DaemonSet, as a pivot makes it.
fn template() -> Value {
    golden(include_str!(
        "../../../../kubectl-selfhost/src/template/snapshots/kubectl_selfhost__template__normalize__tests__one_template_serves_every_node.snap"
    ))
}

/// The bridge of that API server.
fn bridge() -> Value {
    golden(include_str!(
        "../../../../kubectl-selfhost/src/template/snapshots/kubectl_selfhost__template__bridge__tests__the_bridge_of_an_api_server.snap"
    ))
}

fn daemonset() -> Value {
    let app = json!({"k8s-app": "self-hosted-kube-apiserver"});
    json!({"apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "self-hosted-kube-apiserver", "namespace": "kube-system", "labels": app},
        "spec": {"selector": {"matchLabels": app}, "updateStrategy": {"type": "OnDelete"}, "template": template()}})
}

/// The static Pod that the golden was made from, cut to what its test has.
fn mirror() -> Value {
    let mut pod = template();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"] = json!({"name": "kube-apiserver-cp1", "namespace": "kube-system", "uid": "m",
        "labels": {"component": "kube-apiserver", "tier": "control-plane"}, "annotations": {labels::MIRROR: "d1"}});
    let spec = pod["spec"].as_object_mut().unwrap();
    for field in ["automountServiceAccountToken", "nodeSelector", "terminationGracePeriodSeconds"] {
        spec.remove(field);
    }
    spec.insert("nodeName".into(), json!("cp1"));
    spec.insert("tolerations".into(), json!([{"effect": "NoExecute", "operator": "Exists"}]));
    let container = &mut pod["spec"]["containers"][0];
    container["command"] = json!([
        "kube-apiserver",
        "--advertise-address=10.0.0.11",
        "--secure-port=6443",
        "--client-ca-file=/etc/kubernetes/pki/ca.crt",
        "--etcd-servers=https://127.0.0.1:2379",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction"
    ]);
    container["env"] = json!(null);
    container["ports"] = json!([{"name": "probe-port", "containerPort": 6443, "hostPort": 6443}]);
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        container[probe]["httpGet"]["host"] = json!("10.0.0.11");
        container[probe]["httpGet"]["port"] = json!("probe-port");
    }
    pod["status"] = json!({"hostIP": "10.0.0.11", "conditions": [{"type": "Ready", "status": "True"}]});
    pod
}

/// What kubeadm sets and the golden's source leaves out.
fn with_kubeadms_flags(mut pod: Value) -> Value {
    let template = if pod["kind"] == "DaemonSet" { &mut pod["spec"]["template"] } else { &mut pod };
    for container in template["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .filter(|it| it["name"] == "kube-apiserver")
    {
        container["command"].as_array_mut().unwrap().extend(
            ["--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"]
                .map(|flag| json!(flag)),
        );
    }
    pod
}

/// A cluster before its pivot.
fn before() -> World {
    let mut world = World::new();
    world.settings.node_images.insert("example.org/selfhost-node@sha256:00".into());
    for component in Component::ALL {
        world.forget_labels(component);
        world.remove("DaemonSet", &format!("kube-system/{}", component.daemonset_name()));
    }
    world.objects.retain(|it| it["kind"] != "Pod");
    world.objects.push(mirror());
    world
}

#[track_caller]
fn admitted(world: &World, what: &str, request: &Value) {
    let verdict = world.verdict(request);
    assert!(verdict.allowed, "{what}: {}", verdict.message());
}

#[test]
fn a_pivot_is_admitted() {
    let world = before();
    admitted(&world, "the bridge", &create(&with_kubeadms_flags(bridge())));
    let daemonset = with_kubeadms_flags(daemonset());
    admitted(&world, "the DaemonSet", &create(&daemonset));
    let mut pivoted = world.clone();
    pivoted.objects.push(daemonset);
    admitted(
        &pivoted,
        "the node's label",
        &pivoted.update("Node", "cp1", |it| {
            it["metadata"]["labels"]["kubectl-selfhost.dev/kube-apiserver"] = json!("true");
            it["metadata"]["annotations"] = json!({"kubectl-selfhost.dev/kube-apiserver.kept": "v1.36.3"});
        }),
    );
    admitted(
        &world,
        "the announcement",
        &create(&json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes-bridge", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes",
            "endpointslice.kubernetes.io/managed-by": "kubectl-selfhost"}},
        "endpoints": [{"addresses": ["10.0.0.11"]}], "ports": [{"name": "https", "port": 6443}]})),
    );
    let journal = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"what": "pivot"},
        "metadata": {"name": "selfhost-operation", "namespace": "kube-system"}});
    admitted(&world, "the journal", &create(&journal));
    admitted(
        &world,
        "the lock",
        &create(&json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "selfhost-operation", "namespace": "kube-system"}})),
    );
}

#[test]
fn an_upgrade_and_the_way_back_are_admitted() {
    let world = World::new();
    for image in ["registry.k8s.io/kube-apiserver:v1.37.2", "registry.k8s.io/kube-apiserver:v1.36.1"] {
        let edit = world.edit_container(Component::ApiServer, |it| it["image"] = json!(image));
        admitted(&world, image, &edit);
    }
    let mut bridged = World::new();
    bridged.add_bridge(Component::ApiServer, "cp2", true);
    let pod = "kube-system/self-hosted-kube-apiserver-abcd2";
    admitted(&bridged, "replacing the Pod", &bridged.delete("v1", "Pod", pod));
    admitted(
        &bridged,
        "its address",
        &bridged.update("Pod", pod, |it| {
            it["metadata"]["annotations"][labels::ADVERTISE_ADDRESS] = json!("10.0.0.12:6443");
        }),
    );
    admitted(
        &bridged,
        "the bridge's end",
        &bridged.delete("v1", "Pod", "kube-system/kube-apiserver-bridge-cp2"),
    );
}

#[test]
fn an_unpivot_is_admitted() {
    let mut world = World::new();
    world.add_bridge(Component::ApiServer, "cp1", true);
    admitted(
        &world,
        "withdrawing the node",
        &world.update("Node", "cp1", |it| {
            it["metadata"]["labels"].as_object_mut().unwrap().remove("kubectl-selfhost.dev/kube-apiserver");
        }),
    );
    world.forget_labels(Component::ApiServer);
    admitted(
        &world,
        "removing the DaemonSet",
        &world.delete("apps/v1", "DaemonSet", "kube-system/self-hosted-kube-apiserver"),
    );
}

#[test]
fn an_adoption_is_admitted() {
    let mut world = World::new();
    let old = world.object_mut("DaemonSet", "kube-system/self-hosted-kube-scheduler");
    old["spec"]["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}});
    old["spec"]["template"]["spec"]["nodeSelector"] = json!({"node-role.kubernetes.io/master": ""});
    let old = old.clone();
    let mut new = old.clone();
    new["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    admitted(&world, "adopting", &update(&new, &old));
}
