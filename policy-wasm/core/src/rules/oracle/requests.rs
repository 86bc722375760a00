//! The requests of the cases: something that is in the cluster, or could be, and what is done to it.

use serde_json::{Value, json};

use super::edits::{self, Edit};
use super::pki::{REQUESTS, made};
use super::worlds::object_of;
use crate::component::Component;
use crate::rules::testing::{World, connect, create, daemonset, review};

/// A kind of request, and what may be changed about its object.
pub(super) struct Target {
    /// How often it comes, in relation to the others.
    pub(super) weight: usize,
    pub(super) make: fn(&World, usize) -> Option<Value>,
    pub(super) edits: &'static [Edit],
}

const fn target(weight: usize, make: fn(&World, usize) -> Option<Value>, edits: &'static [Edit]) -> Target {
    Target { weight, make, edits }
}

pub(super) const TARGETS: &[Target] = &[
    target(24, |world, n| of(world, "UPDATE", "DaemonSet", component(n).daemonset_name()), edits::DAEMONSET),
    target(5, |_, n| Some(create(&daemonset(component(n)))), edits::DAEMONSET),
    target(4, |world, n| of(world, "DELETE", "DaemonSet", component(n).daemonset_name()), edits::ANY),
    target(2, daemonset_sub, edits::ANY),
    target(4, workload, edits::WORKLOAD),
    target(1, guards_own, edits::GUARDS_OWN),
    target(2, revision, edits::ANY),
    target(8, secret, edits::SECRET),
    target(2, |world, n| of(world, "DELETE", "Secret", SECRETS[n % SECRETS.len()]), edits::ANY),
    target(1, token_secret, edits::ANY),
    target(
        4,
        |world, n| of(world, "UPDATE", "ConfigMap", ["apiserver-config", "scheduler-config"][n % 2]),
        edits::CONFIG,
    ),
    target(3, config_map, edits::CLUSTER_CONFIG),
    target(4, |_, n| Some(create(&pod(n))), edits::POD),
    target(3, bridge, edits::BRIDGE),
    target(2, |_, n| Some(create(&task(n))), edits::TASK),
    target(2, control_plane_pod, edits::CONTROL_PLANE_POD),
    target(3, |world, n| of(world, "UPDATE", "Pod", &pod_name(n)), edits::CONTROL_PLANE_POD),
    target(5, |world, n| of(world, "DELETE", "Pod", &pod_name(n)), edits::ANY),
    target(3, pod_sub, edits::ANY),
    target(2, connection, edits::ANY),
    target(2, token, edits::ANY),
    target(4, |world, n| of(world, "UPDATE", "Node", NODES[n % 4]), edits::NODE),
    target(2, |world, n| of(world, "DELETE", "Node", NODES[n % 4]), edits::NODE),
    target(3, |world, n| through_status(of(world, "UPDATE", "Node", NODES[n % 4])?), edits::NODE),
    target(4, |world, n| through_status(of(world, "UPDATE", "Pod", &pod_name(n))?), edits::CONTROL_PLANE_POD),
    target(6, named_file, edits::FILES),
    target(2, new_node, edits::NODE),
    target(2, node_proxy, edits::ANY),
    target(2, namespace, edits::NAMESPACE),
    target(3, limit, edits::ANY),
    target(1, class, edits::ANY),
    target(4, service, edits::SERVICE),
    target(4, slice, edits::SLICE),
    target(4, role, edits::ROLE),
    target(4, binding, edits::BINDING),
    target(1, account, edits::ANY),
    target(3, signing_request, edits::ANY),
    target(3, registration, edits::REGISTRATION),
    target(2, api_service, edits::API_SERVICE),
    target(2, definition, edits::DEFINITION),
    target(2, flow, edits::FLOW),
    target(1, never, edits::ANY),
];

/// Who asks.
pub(super) const USERS: [(&str, &str); 18] = [
    ("ann", "system:authenticated"),
    ("system:serviceaccount:kube-system:daemon-set-controller", "system:serviceaccounts"),
    ("system:serviceaccount:kube-system:generic-garbage-collector", "system:serviceaccounts"),
    ("system:serviceaccount:kube-system:namespace-controller", "system:serviceaccounts"),
    ("system:node:cp1", "system:nodes"),
    ("system:node:cp1", "system:authenticated"),
    ("system:node:w", "system:nodes"),
    ("system:apiserver", "system:masters"),
    ("system:kube-controller-manager", "system:authenticated"),
    ("system:kube-scheduler", "system:authenticated"),
    ("system:serviceaccount:kube-system:node-controller", "system:serviceaccounts"),
    ("system:serviceaccount:kube-system:certificate-controller", "system:serviceaccounts"),
    ("system:serviceaccount:kube-system:clusterrole-aggregation-controller", "system:serviceaccounts"),
    ("system:serviceaccount:kube-system:bootstrap-signer", "system:serviceaccounts"),
    ("system:serviceaccount:kube-system:root-ca-cert-publisher", "system:serviceaccounts"),
    ("system:serviceaccount:rotation:rotator", "system:serviceaccounts"),
    ("system:serviceaccount:kube-system:pod-garbage-collector", "system:serviceaccounts"),
    ("system:serviceaccount:kube-system:disruption-controller", "system:serviceaccounts"),
];

const SECRETS: [&str; 13] = [
    "apiserver",
    "apiserver",
    "ca",
    "ca",
    "sa",
    "encryption",
    "apiserver-kubelet-client",
    "apiserver-etcd-client",
    "front-proxy-ca",
    "front-proxy-client",
    "scheduler.conf",
    "controller-manager.conf",
    "mine",
];

const NODES: [&str; 4] = ["cp1", "w", "cp2", "cp3"];

fn component(n: usize) -> Component {
    Component::ALL[n % 3]
}

fn pod_name(n: usize) -> String {
    match n % 12 {
        9 => "control-plane-standby-a-cp1".to_owned(),
        10 => "coredns-1".to_owned(),
        11 => format!("{}-bridge-cp{}", component(n / 12), n / 36 % 3 + 1),
        it => format!("{}-abcd{}", component(it).daemonset_name(), it / 3 + 1),
    }
}

/// What is done to an object of the cluster; none where it is not there.
fn of(world: &World, operation: &str, kind: &str, name: &str) -> Option<Value> {
    let found = world.objects.iter().find(|it| it["kind"] == kind && it["metadata"]["name"] == name)?;
    let api = found["apiVersion"].as_str()?;
    let new = (operation != "DELETE").then_some(found);
    Some(review(operation, api, kind, new, Some(found)))
}

/// The same write, by way of the status.
fn through_status(mut request: Value) -> Option<Value> {
    request["subResource"] = json!("status");
    Some(request)
}

/// A DaemonSet whose flags are about to name other files: edited, or now and then made again.
fn named_file(world: &World, n: usize) -> Option<Value> {
    let name = component(n).daemonset_name();
    let request = of(world, "UPDATE", "DaemonSet", name)?;
    Some(if (n / 3).is_multiple_of(8) { create(&request["object"]) } else { request })
}

fn daemonset_sub(world: &World, n: usize) -> Option<Value> {
    let mut request = of(world, "UPDATE", "DaemonSet", component(n).daemonset_name())?;
    request["subResource"] = json!(["status", "status", "status", "scale"][n / 3 % 4]);
    request["object"]["metadata"]["resourceVersion"] = json!("99");
    match n / 12 % 6 {
        0 => request["object"]["metadata"]["labels"]["x"] = json!("y"),
        1 => request["object"]["spec"]["minReadySeconds"] = json!(9),
        2 => request["object"]["status"]["numberReady"] = json!(0),
        _ => {}
    }
    request["userInfo"]["username"] = json!(USERS[1].0);
    Some(request)
}

/// Another workload, in the control plane's namespace or elsewhere.
fn workload(_: &World, n: usize) -> Option<Value> {
    let kinds = [
        ("apps/v1", "Deployment"),
        ("apps/v1", "DaemonSet"),
        ("apps/v1", "StatefulSet"),
        ("apps/v1", "ReplicaSet"),
        ("extensions/v1beta1", "Deployment"),
        ("batch/v1", "Job"),
        ("batch/v1", "CronJob"),
        ("v1", "PodTemplate"),
        ("v1", "ReplicationController"),
    ];
    let (api, kind) = kinds[n % kinds.len()];
    let template = json!({"metadata": {"labels": {"k8s-app": "coredns"}},
        "spec": {"containers": [{"name": "c", "image": "x"}]}});
    let selector = json!({"matchLabels": {"k8s-app": "coredns"}});
    let fields = match kind {
        "CronJob" => json!({"spec": {"jobTemplate": {"spec": {"template": template}}}}),
        "PodTemplate" => json!({"template": template}),
        "ReplicationController" => {
            json!({"spec": {"selector": {"k8s-app": "coredns"}, "template": template}})
        }
        _ => json!({"spec": {"selector": selector, "template": template}}),
    };
    let namespace = ["kube-system", "kube-system", "default", "vault"][n / 9 % 4];
    let new = object_of(api, kind, namespace, "x", &fields);
    if (n / 36).is_multiple_of(2) {
        Some(create(&new))
    } else {
        Some(review("UPDATE", api, kind, Some(&new), Some(&new)))
    }
}

/// The guard's own DaemonSet, or one that looks like it.
fn guards_own(_: &World, n: usize) -> Option<Value> {
    let namespace = ["selfhost-guard", "guards", "selfhost-guard", "default"][n % 4];
    let name = ["selfhost-guard", "mine", "selfhost-guard", "x"][n / 4 % 4];
    let template = json!({"spec": {"tolerations": [{"operator": "Exists"}],
        "initContainers": [{"name": "i", "image": "ghcr.io/kubectl-selfhost/selfhost-node:v0.1.0"}],
        "containers": [{"name": "c", "image": "ghcr.io/kubectl-selfhost/selfhost-guard:v0.1.0"}],
        "volumes": [{"name": "v", "hostPath": {"path": "/etc/kubernetes/pki/selfhost-guard"}}]}});
    let fields = json!({"spec": {"selector": {"matchLabels": {"k8s-app": name}}, "template": template}});
    let object = object_of("apps/v1", "DaemonSet", namespace, name, &fields);
    let operations = ["UPDATE", "UPDATE", "UPDATE", "CREATE"];
    let old = (n / 16 % 4 != 3).then_some(&object);
    Some(review(operations[n / 16 % 4], "apps/v1", "DaemonSet", Some(&object), old))
}

fn revision(_: &World, n: usize) -> Option<Value> {
    let ours = component(n).daemonset_name();
    let owner = json!([{"kind": "DaemonSet", "name": ([ours, "kube-proxy"][n / 3 % 2]), "uid": "x"}]);
    let fields = json!({"labels": {"k8s-app": ([ours, "kube-proxy"][n / 6 % 2])}, "revision": 3});
    let name = format!("{}-5d", [ours, "kube-proxy"][n / 12 % 2]);
    let mut object = object_of("apps/v1", "ControllerRevision", "kube-system", &name, &fields);
    object["metadata"]["ownerReferences"] = owner;
    Some(operation(n / 24, &object, "apps/v1", "ControllerRevision"))
}

fn operation(n: usize, object: &Value, api: &str, kind: &str) -> Value {
    match n % 3 {
        0 => create(object),
        1 => review("UPDATE", api, kind, Some(object), Some(object)),
        _ => review("DELETE", api, kind, None, Some(object)),
    }
}

fn secret(world: &World, n: usize) -> Option<Value> {
    let name = SECRETS[n % SECRETS.len()];
    if (n / SECRETS.len()).is_multiple_of(8) {
        let found =
            world.objects.iter().find(|it| it["kind"] == "Secret" && it["metadata"]["name"] == name)?;
        return Some(create(found));
    }
    of(world, "UPDATE", "Secret", name)
}

fn token_secret(_: &World, n: usize) -> Option<Value> {
    let (namespace, account) = ACCOUNTS[n % ACCOUNTS.len()];
    let fields = json!({"type": (["kubernetes.io/service-account-token", "Opaque"][n / 8 % 2]),
        "annotations": {"kubernetes.io/service-account.name": account}});
    Some(create(&object_of("v1", "Secret", namespace, "x", &fields)))
}

const ACCOUNTS: [(&str, &str); 6] = [
    ("kube-system", "daemon-set-controller"),
    ("kube-system", "coredns"),
    ("default", "daemon-set-controller"),
    ("selfhost-guard", "selfhost-guard"),
    ("rotation", "rotator"),
    ("guards", "mine"),
];

fn config_map(world: &World, n: usize) -> Option<Value> {
    let names = [
        "kubeadm-config",
        "kubeadm-config",
        "extension-apiserver-authentication",
        "kube-root-ca.crt",
        "cluster-info",
        "mine",
    ];
    let name = names[n % names.len()];
    let operation = ["UPDATE", "UPDATE", "UPDATE", "DELETE"][n / 6 % 4];
    of(world, operation, "ConfigMap", name)
}

fn pod(n: usize) -> Value {
    let namespace = ["default", "kube-system", "selfhost-guard", "vault"][n % 4];
    let mut pod = object_of(
        "v1",
        "Pod",
        namespace,
        "x",
        &json!({"labels": {},
        "spec": {"containers": [{"name": "c", "image": "x"}]}}),
    );
    if (n / 4).is_multiple_of(2) {
        pod["spec"]["nodeName"] = json!(NODES[n / 8 % 4]);
    }
    pod
}

fn bridge(_: &World, n: usize) -> Option<Value> {
    let component = component(n);
    let mut pod = daemonset(component)["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"] = json!({"name": format!("{component}-bridge-cp1"), "namespace": (["kube-system", "kube-system", "default"][n / 3 % 3]),
        "labels": {"kubectl-selfhost.dev/bridge": component.name()}});
    pod["spec"]["nodeName"] = json!("cp1");
    if (n / 9).is_multiple_of(2) {
        let containers = pod["spec"]["containers"].as_array_mut()?;
        containers.push(
            json!({"name": "gate", "image": "ghcr.io/kubectl-selfhost/selfhost-node:v0.1.0", "args": ["gate"],
            "securityContext": {"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}}}),
        );
        let volumes = pod["spec"]["volumes"].as_array_mut()?;
        volumes.push(json!({"name": "selfhost-ca", "hostPath": {"path": "/etc/kubernetes/pki/ca.crt", "type": "File"}}));
    }
    Some(create(&pod))
}

fn task(n: usize) -> Value {
    let mut task = object_of(
        "v1",
        "Pod",
        ["kube-system", "kube-system", "default"][n % 3],
        "selfhost-inspect-cp1",
        &json!({
        "labels": {"kubectl-selfhost.dev/task": "inspect"}, "spec": {"nodeName": "cp1", "hostNetwork": true, "hostPID": true,
            "containers": [{"name": "inspect", "image": "ghcr.io/kubectl-selfhost/selfhost-node:v0.1.0",
                "args": ["task", "inspect"], "securityContext": {"privileged": true}}],
            "volumes": [{"name": "host-0", "hostPath": {"path": "/var/lib/selfhost"}}]}}),
    );
    if (n / 3).is_multiple_of(2) {
        let asks = json!({"name": "kube-scheduler", "image": "registry.k8s.io/kube-scheduler:v1.37.2",
            "command": ["kube-scheduler", "--help"]});
        task["spec"]["containers"].as_array_mut().unwrap().push(asks);
    }
    task
}

/// A Pod as the DaemonSet controller or a kubelet makes it.
fn control_plane_pod(_: &World, n: usize) -> Option<Value> {
    let component = component(n);
    let mut pod = daemonset(component)["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!(format!("{}-new", component.daemonset_name()));
    pod["metadata"]["namespace"] = json!("kube-system");
    pod["spec"]["nodeName"] = json!("cp1");
    match n / 3 % 3 {
        0 => {
            pod["metadata"]["ownerReferences"] =
                json!([{"kind": "DaemonSet", "name": component.daemonset_name(), "controller": true}]);
        }
        1 => pod["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!("x"),
        _ => {}
    }
    let mut request = create(&pod);
    let (user, group) = [USERS[1], USERS[4], USERS[0]][n / 9 % 3];
    request["userInfo"] = json!({"username": user, "groups": [group]});
    Some(request)
}

fn pod_sub(world: &World, n: usize) -> Option<Value> {
    let name = pod_name(n);
    match n / 108 % 4 {
        0 => {
            let mut request = create(&object_of("policy/v1", "Eviction", "kube-system", &name, &json!({})));
            request["resource"] = json!({"group": "", "version": "v1", "resource": "pods"});
            request["name"] = json!(name);
            request["subResource"] = json!("eviction");
            Some(request)
        }
        1 => {
            let node = NODES[n % 4];
            let mut request = create(&object_of(
                "v1",
                "Binding",
                "default",
                "x",
                &json!({"target": {"kind": "Node", "name": node}}),
            ));
            let old = (n / 4).is_multiple_of(2);
            request["resource"]["resource"] = json!(if old { "bindings" } else { "pods" });
            request["subResource"] = json!(if old { "" } else { "binding" });
            Some(request)
        }
        it => {
            let mut request = of(world, "UPDATE", "Pod", &name)?;
            request["subResource"] = json!(if it == 2 { "resize" } else { "ephemeralcontainers" });
            Some(request)
        }
    }
}

fn connection(_: &World, n: usize) -> Option<Value> {
    let subs = ["exec", "attach", "portforward", "proxy"];
    let names = [
        "kube-apiserver-cp1",
        "etcd-cp1",
        "self-hosted-kube-scheduler-x",
        "control-plane-standby-a-cp1",
        "coredns-1",
        "kube-apiserverx-1",
    ];
    let namespace = ["kube-system", "kube-system", "default", "selfhost-guard"][n / 24 % 4];
    let options = json!({"kind": "PodExecOptions", "command": ["sh"]});
    Some(connect("Pod", subs[n % 4], &format!("{namespace}/{}", names[n / 4 % 6]), &options))
}

fn token(_: &World, n: usize) -> Option<Value> {
    let (namespace, account) = ACCOUNTS[n % ACCOUNTS.len()];
    let bound = if (n / 6).is_multiple_of(2) { json!({"kind": "Pod"}) } else { json!(null) };
    let fields = json!({"spec": {"boundObjectRef": bound}});
    let mut request =
        create(&object_of("authentication.k8s.io/v1", "TokenRequest", namespace, account, &fields));
    request["resource"] = json!({"group": "", "version": "v1", "resource": "serviceaccounts"});
    request["subResource"] = json!("token");
    request["name"] = json!(account);
    Some(request)
}

fn new_node(_: &World, n: usize) -> Option<Value> {
    let labels = [json!({}), json!({"node-role.kubernetes.io/control-plane": ""}), json!({"zone": "a"})];
    Some(create(&object_of("v1", "Node", "", "new", &json!({"labels": labels[n % 3]}))))
}

fn node_proxy(_: &World, n: usize) -> Option<Value> {
    let names = ["cp1", "w", "cp2:10250", "https:cp3:10250", "other"];
    let paths = [
        "configz",
        "/configz",
        "run/x",
        "//configz",
        "",
        "metrics/cadvisor",
        "/pods",
        "metrics/../run",
        "Configz",
    ];
    let options = json!({"kind": "NodeProxyOptions", "path": paths[n / 5 % 9]});
    Some(connect("Node", "proxy", names[n % 5], &options))
}

fn namespace(world: &World, n: usize) -> Option<Value> {
    let name = ["kube-system", "selfhost-guard", "default"][n % 3];
    if (n / 3).is_multiple_of(4) {
        return of(world, "DELETE", "Namespace", name);
    }
    let mut request = of(world, "UPDATE", "Namespace", name)?;
    if n / 3 % 4 == 1 {
        request["subResource"] = json!(["finalize", "status"][n / 12 % 2]);
        request["userInfo"]["username"] = json!(USERS[[3, 0][n / 24 % 2]].0);
    }
    Some(request)
}

fn limit(_: &World, n: usize) -> Option<Value> {
    let namespace = ["kube-system", "selfhost-guard", "default"][n % 3];
    let classes = |operator: &str, class: &str| json!([{"scopeName": "PriorityClass", "operator": operator, "values": [class]}]);
    let scopes = [
        json!([]),
        classes("In", "low"),
        classes("In", "system-node-critical"),
        classes("NotIn", "system-node-critical"),
        classes("NotIn", "low"),
        classes("DoesNotExist", ""),
        json!([{"scopeName": "BestEffort", "operator": "DoesNotExist"}]),
    ];
    let selectors = [
        json!({}),
        json!({"matchLabels": {"k8s-app": "coredns"}}),
        json!({"matchLabels": {"tier": "control-plane"}}),
        json!({"matchExpressions": [{"key": "x", "operator": "Exists"}]}),
        json!({"matchLabels": {"component": "kube-scheduler", "x": "y"}}),
        json!({"matchLabels": {"k8s-app": "self-hosted-kube-apiserver"}}),
        json!({"matchLabels": {}}),
    ];
    let limits = [
        json!({"type": "Container", "default": {"memory": "1Mi"}}),
        json!({"type": "Pod", "max": {}}),
        json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}),
        json!({"type": "Pod", "min": {"cpu": "1"}}),
    ];
    let at = n / 12;
    let (api, kind, spec) = match n / 3 % 4 {
        0 => ("v1", "ResourceQuota", json!({"scopeSelector": {"matchExpressions": scopes[at % 7]}})),
        1 => ("v1", "LimitRange", json!({"limits": [limits[at % 4]]})),
        2 => ("networking.k8s.io/v1", "NetworkPolicy", json!({"podSelector": selectors[at % 7]})),
        _ => ("policy/v1", "PodDisruptionBudget", json!({"selector": selectors[at % 7]})),
    };
    let object = object_of(api, kind, namespace, "x", &json!({"spec": spec}));
    let mut old = object.clone();
    old["spec"] = json!({"x": 1});
    match n / 84 % 3 {
        0 => Some(create(&object)),
        1 => Some(review("UPDATE", api, kind, Some(&object), Some(&object))),
        _ => Some(review("UPDATE", api, kind, Some(&object), Some(&old))),
    }
}

fn class(_: &World, n: usize) -> Option<Value> {
    let name = ["system-node-critical", "low", "system-cluster-critical"][n % 3];
    let object = object_of("scheduling.k8s.io/v1", "PriorityClass", "", name, &json!({}));
    Some(review("DELETE", "scheduling.k8s.io/v1", "PriorityClass", None, Some(&object)))
}

fn service(world: &World, n: usize) -> Option<Value> {
    if n.is_multiple_of(5) {
        return of(world, ["UPDATE", "DELETE"][n / 5 % 2], "Service", "kubernetes");
    }
    let specs = [
        json!({}),
        json!({"externalIPs": ["192.0.2.1"]}),
        json!({"externalIPs": ["192.0.2.1", "10.0.0.11"]}),
        json!({"loadBalancerIP": "10.96.0.1"}),
        json!({"externalIPs": ["::ffff:10.0.0.11", "x"]}),
        json!({"loadBalancerIP": " 10.0.0.12"}),
    ];
    let old = object_of("v1", "Service", "default", "x", &json!({"spec": specs[n / 5 % 6]}));
    let mut new = object_of("v1", "Service", "default", "x", &json!({"spec": specs[n / 30 % 6]}));
    if (n / 180).is_multiple_of(2) {
        new["status"] =
            json!({"loadBalancer": {"ingress": [{"ip": (["10.0.0.12", "192.0.2.9"][n / 360 % 2])}]}});
    }
    let mut request =
        if n % 5 < 3 { create(&new) } else { review("UPDATE", "v1", "Service", Some(&new), Some(&old)) };
    if n % 5 == 4 {
        request["subResource"] = json!("status");
    }
    Some(request)
}

fn slice(world: &World, n: usize) -> Option<Value> {
    match n % 4 {
        0 => of(world, ["UPDATE", "DELETE"][n / 4 % 2], "EndpointSlice", "kubernetes"),
        1 => of(world, "UPDATE", "EndpointSlice", "mine"),
        it => {
            let name = ["kubernetes-bridge", "x"][n / 4 % 2];
            let address = ["10.0.0.12", "10.9.9.9", "evil.org"][n / 8 % 3];
            let namespace = ["default", "default", "default", "other"][n / 24 % 4];
            let object = object_of(
                "discovery.k8s.io/v1",
                "EndpointSlice",
                namespace,
                name,
                &json!({
                "labels": {"kubernetes.io/service-name": "kubernetes"}, "endpoints": [{"addresses": [address]}],
                "ports": [{"name": "https", "port": ([6443, 22][n / 96 % 2])}]}),
            );
            Some(operation([0, 1, 2, 0][(it + n / 192) % 4], &object, "discovery.k8s.io/v1", "EndpointSlice"))
        }
    }
}

fn role(world: &World, n: usize) -> Option<Value> {
    let names = ["system:kube-scheduler", "cluster-admin", "system:other", "view", "mine", "reader"];
    match n % 3 {
        0 => of(
            world,
            ["UPDATE", "DELETE"][n / 3 % 2],
            ["ClusterRole", "ClusterRole", "Role"][n / 6 % 3],
            names[n / 18 % 6],
        )
        .or_else(|| of(world, "UPDATE", "ClusterRole", names[n % 5])),
        1 => of(world, "UPDATE", "ClusterRole", names[n / 3 % 5]),
        _ => {
            let (kind, namespace) =
                [("ClusterRole", ""), ("Role", "kube-system"), ("Role", "default")][n / 3 % 3];
            Some(create(&object_of(
                "rbac.authorization.k8s.io/v1",
                kind,
                namespace,
                "x",
                &json!({"labels": {}, "rules": []}),
            )))
        }
    }
}

fn binding(world: &World, n: usize) -> Option<Value> {
    match n % 4 {
        0 => of(world, ["UPDATE", "DELETE"][n / 4 % 2], "ClusterRoleBinding", "cluster-admin"),
        1 => of(world, "UPDATE", "RoleBinding", "mine"),
        _ => {
            let (kind, namespace) =
                [("ClusterRoleBinding", ""), ("RoleBinding", "kube-system"), ("RoleBinding", "default")]
                    [n / 4 % 3];
            let role = [
                ("ClusterRole", "cluster-admin"),
                ("ClusterRole", "view"),
                ("ClusterRole", "gone"),
                ("Role", "reader"),
            ][n / 12 % 4];
            Some(create(&object_of(
                "rbac.authorization.k8s.io/v1",
                kind,
                namespace,
                "x",
                &json!({
                "subjects": [{"kind": "User", "name": "bob"}], "roleRef": {"kind": role.0, "name": role.1}}),
            )))
        }
    }
}

fn account(_: &World, n: usize) -> Option<Value> {
    let (namespace, name) = ACCOUNTS[n % ACCOUNTS.len()];
    let object = object_of("v1", "ServiceAccount", namespace, name, &json!({}));
    Some(review("DELETE", "v1", "ServiceAccount", None, Some(&object)))
}

fn signing_request(_: &World, n: usize) -> Option<Value> {
    let (name, group) = REQUESTS[n % REQUESTS.len()];
    let signers = [
        "kubernetes.io/kube-apiserver-client",
        "kubernetes.io/kube-apiserver-client-kubelet",
        "example.org/mine",
        "kubernetes.io/legacy-unknown",
    ];
    let request = if (n / 20).is_multiple_of(8) { "AAAA" } else { made().request(name, group) };
    let old = object_of(
        "certificates.k8s.io/v1",
        "CertificateSigningRequest",
        "",
        "x",
        &json!({
        "spec": {"signerName": signers[n / 5 % 4], "request": request}}),
    );
    let mut new = old.clone();
    let (kind, api) = ("CertificateSigningRequest", "certificates.k8s.io/v1");
    match n / 160 % 4 {
        0 => return Some(create(&old)),
        1 => new["status"] = json!({"conditions": [{"type": "Approved", "status": "True"}]}),
        2 => new["status"] = json!({"certificate": "AAAA"}),
        _ => new["status"] = json!({"conditions": [{"type": "Denied", "status": "True"}]}),
    }
    let mut review = review("UPDATE", api, kind, Some(&new), Some(&old));
    review["subResource"] = json!(if n / 160 % 4 == 2 { "status" } else { "approval" });
    Some(review)
}

fn registration(_: &World, n: usize) -> Option<Value> {
    let kind = ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"][n % 2];
    let name =
        ["selfhost-guard", "selfhost-guardian", "selfhost-guard.x", "other", "x.static.k8s.io", "mine-2"]
            [n / 2 % 6];
    let api = "admissionregistration.k8s.io/v1";
    let resources = [
        ("", "pods"),
        ("", "nodes"),
        ("*", "*"),
        ("apps", "deployments"),
        ("coordination.k8s.io", "leases"),
        ("", "*/*"),
        ("apps", "daemonsets"),
    ];
    let (group, resource) = resources[n / 12 % 7];
    let webhook = json!({"name": "a", "failurePolicy": (["Fail", "Ignore"][n / 84 % 2]), "rules": [{"apiGroups": [group],
        "apiVersions": ["*"], "resources": [resource], "operations": [(["CREATE", "CONNECT", "*"][n / 168 % 3])]}]});
    let object = object_of(api, kind, "", name, &json!({"webhooks": [webhook]}));
    Some(operation(n / 504, &object, api, kind))
}

fn api_service(_: &World, n: usize) -> Option<Value> {
    let groups = [
        "apps",
        "",
        "metrics.k8s.io",
        "example.org",
        "rbac.authorization.k8s.io",
        "storage.k8s.io",
        "a.b.k8s.io",
        "internal.apiserver.k8s.io",
    ];
    let group = groups[n % 8];
    let service = [json!(null), json!({"name": "x", "namespace": "default"})][n / 8 % 2].clone();
    let spec = json!({"group": group, "version": "v1", "service": service});
    let object = object_of(
        "apiregistration.k8s.io/v1",
        "APIService",
        "",
        &format!("v1.{group}"),
        &json!({"spec": spec}),
    );
    Some(operation(n / 16, &object, "apiregistration.k8s.io/v1", "APIService"))
}

fn definition(_: &World, n: usize) -> Option<Value> {
    let groups = ["example.org", "apps.k8s.io", "a.kubernetes.io", "notk8s.io", "k8s.io"];
    let approvals = [
        "unapproved, x",
        "https://github.com/kubernetes/enhancements/pull/1",
        "https://github.com/kubernetes-evil/x",
        "https://github.com/kubernetes-sigs/gateway-api/pull/1",
        "https://github.com/kubernetes",
    ];
    let object = object_of(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "",
        "x",
        &json!({
        "spec": {"group": groups[n % 5]}, "annotations": {"api-approved.kubernetes.io": approvals[n / 5 % 5]}}),
    );
    Some(operation(n / 25, &object, "apiextensions.k8s.io/v1", "CustomResourceDefinition"))
}

fn flow(_: &World, n: usize) -> Option<Value> {
    let kind = ["FlowSchema", "PriorityLevelConfiguration"][n % 2];
    let name = ["leader-election", "x", "system-nodes", "exempt"][n / 2 % 4];
    let object = object_of("flowcontrol.apiserver.k8s.io/v1", kind, "", name, &json!({"spec": {}}));
    Some(operation(n / 8, &object, "flowcontrol.apiserver.k8s.io/v1", kind))
}

/// What no rule is about.
fn never(_: &World, n: usize) -> Option<Value> {
    let (api, kind) = [
        ("coordination.k8s.io/v1", "Lease"),
        ("v1", "Endpoint"),
        ("v1", "Event"),
        ("example.org/v1", "Widget"),
    ][n % 4];
    let object = object_of(api, kind, "kube-system", "kube-scheduler", &json!({"spec": {}}));
    Some(operation(n / 4, &object, api, kind))
}
