//! The clusters and the settings of the cases.

#![expect(clippy::semicolon_if_nothing_returned, reason = "each change is an expression of its own")]

use serde_json::{Value, json};

use super::pki::made;
use crate::component::Component;
use crate::labels;
use crate::rules::testing::{World, configured, encryption, kubeconfig, put, secrets};

/// How many clusters there are.
pub(super) const WORLDS: usize = 256;

type Change = fn(&mut World, usize);

/// The cluster of this number: plain, or with its credentials and configurations in Secrets and ConfigMaps; as it is, or
/// after one or two things have happened.
pub(super) fn world(number: usize) -> World {
    let mut world = if number.is_multiple_of(2) { plain() } else { stored() };
    // The first few are as they are; every other one is one of its own.
    if number >= 8 {
        let n = number / 2;
        CHANGES[n % CHANGES.len()](&mut world, n / CHANGES.len());
        if n.is_multiple_of(3) {
            let other = n.wrapping_mul(7) + 3;
            CHANGES[other % CHANGES.len()](&mut world, n);
        }
    }
    world
}

fn plain() -> World {
    let mut world = World::new();
    others(&mut world);
    world
}

/// Everything in Secrets and ConfigMaps, with certificates of which is known what they are.
fn stored() -> World {
    let mut world = secrets();
    let made = made();
    for (secret, certificate) in [
        ("ca", "cluster"),
        ("apiserver", "server"),
        ("apiserver-kubelet-client", "kubelet"),
        ("apiserver-etcd-client", "etcd-client"),
        ("front-proxy-ca", "front"),
        ("front-proxy-client", "front-proxy"),
        ("etcd-ca", "etcd"),
    ] {
        let object = world.object_mut("Secret", &format!("kube-system/{secret}"));
        put(object, "tls.crt", made.certificate(certificate));
        put(object, "tls.key", made.key(certificate));
    }
    let sa = world.object_mut("Secret", "kube-system/sa");
    put(sa, "sa.pub", made.public("other"));
    put(sa, "sa.key", made.key("other"));
    // What no flag names yet.
    for (key, text) in [
        ("one.crt", made.certificate("other")),
        ("both.crt", &format!("{}{}", made.certificate("cluster"), made.certificate("other"))),
        ("longer.crt", made.certificate("server-longer")),
        ("longer.key", made.key("server-longer")),
        ("less.crt", made.certificate("server-less")),
        ("shorter.crt", made.certificate("server-shorter")),
        ("foreign.crt", made.certificate("server-of-other")),
        ("new.pub", made.public("twin")),
        ("new.key", made.key("twin")),
    ] {
        put(world.object_mut("Secret", "kube-system/sa"), key, text);
    }
    let encrypted = world.object_mut("Secret", "kube-system/encryption");
    put(encrypted, "second.yaml", &encryption(&["one", "two"]));
    put(encrypted, "changed.yaml", &encryption(&["two"]));
    for (name, who) in [("controller-manager.conf", "manager"), ("scheduler.conf", "scheduler")] {
        let lead = |server: &str| {
            kubeconfig(server, made.certificate("cluster"), made.certificate(who), made.key(who))
        };
        let secret = world.object_mut("Secret", &format!("kube-system/{name}"));
        put(secret, name, &lead("https://10.0.0.10:6443"));
        put(secret, "other.conf", &lead("https://10.9.9.9:6443"));
    }
    // What the API servers read from a ConfigMap.
    let other = configured();
    let config = other.object("ConfigMap", "kube-system/apiserver-config").clone();
    world.objects.push(config);
    let object = world.object_mut("ConfigMap", "kube-system/apiserver-config");
    object["data"]["policies.yaml"] =
        json!(format!("{}---\n{}", policy("one", "false"), policy("two", "false")));
    let own = "apiVersion: apiserver.config.k8s.io/v1\nkind: ";
    for (key, text) in [
        ("nothing.yaml", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []\n".to_owned()),
        ("open.yaml", format!("{own}AuthenticationConfiguration\nanonymous: {{enabled: true}}\n")),
        (
            "same.yaml",
            format!("{own}AuthorizationConfiguration\nauthorizers: [{{type: Node}}, {{type: RBAC}}]\n"),
        ),
        ("weak.yaml", format!("{own}AuthorizationConfiguration\nauthorizers: [{{type: AlwaysAllow}}]\n")),
        ("other.yaml", format!("{own}AdmissionConfiguration\nplugins: []\n")),
    ] {
        object["data"][key] = json!(text);
    }
    mount(
        &mut world,
        Component::ApiServer,
        "apiserver-config",
        &[
            "--audit-policy-file=/etc/config/audit.yaml",
            "--authentication-config=/etc/config/authentication.yaml",
            "--authorization-config=/etc/config/authorization.yaml",
            "--admission-control-config-file=/etc/config/admission.yaml",
        ],
    );
    world.objects.push(object_of("v1", "ConfigMap", "kube-system", "scheduler-config", &json!({"data": {
        "config.yaml": "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles: []\n",
        "single.yaml": "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nleaderElection: {leaderElect: false}\n"}})));
    mount(&mut world, Component::Scheduler, "scheduler-config", &["--config=/etc/config/config.yaml"]);
    others(&mut world);
    world
}

/// A policy of a static manifest.
pub(super) fn policy(name: &str, expression: &str) -> String {
    format!(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\n\
         metadata: {{name: {name}.static.k8s.io}}\nspec: {{validations: [{{expression: {expression:?}}}]}}\n"
    )
}

fn mount(world: &mut World, component: Component, name: &str, flags: &[&str]) {
    let spec = &mut daemonset(world, component)["spec"]["template"]["spec"];
    push(&mut spec["volumes"], json!({"name": "config", "configMap": {"name": name}}));
    push(&mut spec["containers"][0]["volumeMounts"], json!({"name": "config", "mountPath": "/etc/config"}));
    for flag in flags {
        push(&mut spec["containers"][0]["command"], json!(flag));
    }
}

/// An object, with these fields beside its name.
pub(super) fn object_of(api: &str, kind: &str, namespace: &str, name: &str, fields: &Value) -> Value {
    let mut object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": name, "uid": "u", "resourceVersion": "1"}});
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    for (field, value) in fields.as_object().unwrap() {
        if field == "labels" || field == "annotations" {
            object["metadata"][field] = value.clone();
        } else {
            object[field] = value.clone();
        }
    }
    object
}

pub(super) const KUBEADM: &str =
    "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.35.9\n";

/// What there is in every cluster beside its control plane.
fn others(world: &mut World) {
    let rbac = "rbac.authorization.k8s.io/v1";
    let rule = |verb: &str, group: &str, resource: &str| json!([{"verbs": [verb], "apiGroups": [group], "resources": [resource]}]);
    let bootstrapped = json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
    for name in ["kube-system", "selfhost-guard", "default"] {
        world.objects.push(object_of(
            "v1",
            "Namespace",
            "",
            name,
            &json!({"labels": {"kubernetes.io/metadata.name": name, "team": "x"}}),
        ));
    }
    world.objects.extend([
        object_of("v1", "Node", "", "w", &json!({"labels": {}})),
        object_of("v1", "Pod", "kube-system", "etcd-cp1", &json!({"labels": {"component": "etcd", "tier": "control-plane"}})),
        object_of("v1", "Pod", "kube-system", "coredns-1", &json!({"labels": {"k8s-app": "coredns"},
            "spec": {"nodeName": "cp1", "containers": [{"name": "coredns", "image": "coredns"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}})),
        object_of(rbac, "ClusterRole", "", "cluster-admin", &json!({"labels": bootstrapped, "rules": rule("*", "*", "*")})),
        object_of(rbac, "ClusterRole", "", "system:kube-scheduler", &json!({"labels": bootstrapped, "rules": rule("get", "", "pods")})),
        object_of(rbac, "ClusterRole", "", "system:other", &json!({"labels": bootstrapped, "rules": []})),
        object_of(rbac, "ClusterRole", "", "view", &json!({"labels": bootstrapped, "rules": rule("get", "", "pods")})),
        object_of(rbac, "ClusterRole", "", "mine", &json!({"labels": {}, "rules": rule("get", "", "pods")})),
        object_of(rbac, "Role", "kube-system", "reader", &json!({"rules": rule("get", "", "secrets")})),
        object_of(rbac, "ClusterRoleBinding", "", "cluster-admin", &json!({"subjects": [{"kind": "Group", "name": "system:masters"}],
            "roleRef": {"kind": "ClusterRole", "name": "cluster-admin"}})),
        object_of(rbac, "RoleBinding", "kube-system", "mine", &json!({"subjects": [{"kind": "User", "name": "bob"}],
            "roleRef": {"kind": "ClusterRole", "name": "view"}})),
        object_of("discovery.k8s.io/v1", "EndpointSlice", "default", "kubernetes", &json!({
            "labels": {"kubernetes.io/service-name": "kubernetes"}, "endpoints": [{"addresses": ["10.0.0.11"]}],
            "ports": [{"name": "https", "port": 6443}]})),
        object_of("discovery.k8s.io/v1", "EndpointSlice", "default", "mine", &json!({
            "labels": {"kubernetes.io/service-name": "mine"}, "endpoints": [{"addresses": ["10.9.9.9"]}]})),
        object_of("v1", "Secret", "kube-system", "mine", &json!({"type": "Opaque", "data": {"k": ""}})),
        object_of("v1", "Secret", "vault", "root", &json!({"type": "Opaque", "data": {"k": ""}})),
        object_of("v1", "ConfigMap", "kube-system", "mine", &json!({"data": {"k": ""}})),
        object_of("v1", "ConfigMap", "kube-system", "kubeadm-config", &json!({"data": {"ClusterConfiguration": KUBEADM}})),
        object_of("v1", "ConfigMap", "kube-system", "extension-apiserver-authentication", &json!({"data": {"client-ca-file": "x"}})),
        object_of("v1", "ConfigMap", "default", "kube-root-ca.crt", &json!({"data": {"ca.crt": "x"}})),
        object_of("v1", "ConfigMap", "kube-public", "cluster-info", &json!({"data": {"kubeconfig": "x", "jws-kubeconfig-a": "x"}})),
    ]);
}

fn push(list: &mut Value, item: Value) {
    if let Some(items) = list.as_array_mut() {
        items.push(item);
    } else {
        *list = json!([item]);
    }
}

fn component(n: usize) -> Component {
    Component::ALL[n % 3]
}

/// The object, or, where it is gone, one that nobody looks at.
fn object<'a>(world: &'a mut World, kind: &str, name: &str) -> &'a mut Value {
    let at = world.objects.iter().position(|it| it["kind"] == kind && it["metadata"]["name"] == name);
    let at = at.unwrap_or_else(|| {
        world.objects.push(json!({"kind": "Nothing"}));
        world.objects.len() - 1
    });
    &mut world.objects[at]
}

fn gone(world: &mut World, kind: &str, name: &str) {
    world.objects.retain(|it| it["kind"] != kind || it["metadata"]["name"] != name);
}

fn daemonset(world: &mut World, component: Component) -> &mut Value {
    object(world, "DaemonSet", component.daemonset_name())
}

fn pod(world: &mut World, n: usize) -> &mut Value {
    object(world, "Pod", &format!("{}-abcd{}", component(n).daemonset_name(), n / 3 % 3 + 1))
}

fn pods(world: &mut World, component: Component) -> Vec<&mut Value> {
    let prefix = component.daemonset_name();
    let of = |it: &&mut Value| it["kind"] == "Pod" && it["metadata"]["labels"]["k8s-app"] == prefix;
    world.objects.iter_mut().filter(of).collect()
}

fn node(world: &mut World, n: usize) -> &mut Value {
    object(world, "Node", &format!("cp{}", n % 3 + 1))
}

/// Writes into a Secret, where the cluster has it.
fn store(world: &mut World, secret: &str, key: &str, text: &str) {
    for object in
        world.objects.iter_mut().filter(|it| it["kind"] == "Secret" && it["metadata"]["name"] == secret)
    {
        put(object, key, text);
    }
}

/// What happens in a cluster.
const CHANGES: &[Change] = &[
    |it, n| it.add_bridge(component(n), &format!("cp{}", n / 3 % 3 + 1), true),
    |it, n| it.add_bridge(component(n), &format!("cp{}", n / 3 % 3 + 1), false),
    |it, n| it.add_bridge(Component::ApiServer, &format!("cp{}", n % 3 + 1), true),
    |it, n| gone(it, "Pod", &format!("{}-abcd{}", component(n).daemonset_name(), n / 3 % 3 + 1)),
    |it, n| {
        let name = component(n).daemonset_name();
        it.objects.retain(|it| it["kind"] != "Pod" || it["metadata"]["labels"]["k8s-app"] != name);
    },
    |it, n| pod(it, n)["status"] = json!({"conditions": [{"type": "Ready", "status": "False"}]}),
    |it, n| pod(it, n)["status"] = json!({}),
    |it, n| pod(it, n)["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z"),
    |it, n| {
        it.objects.retain(|it| it["metadata"]["name"] != format!("control-plane-standby-a-cp{}", n % 3 + 1))
    },
    |it, _| it.objects.retain(|it| it["metadata"]["labels"]["component"] != "control-plane-standby"),
    |it, n| {
        let name = component(n).daemonset_name();
        it.objects.retain(|it| {
            it["metadata"]["name"] != "control-plane-standby-a-cp1"
                && it["metadata"]["labels"]["k8s-app"] != name
        });
    },
    |it, n| {
        let name = component(n).daemonset_name();
        let standby = |it: &Value| it["metadata"]["labels"]["component"] == "control-plane-standby";
        let runs = |it: &Value| it["kind"] == "Pod" && it["metadata"]["labels"]["k8s-app"] == name;
        it.objects.retain(|it| !standby(it) && !runs(it));
    },
    |it, n| gone(it, "DaemonSet", component(n).daemonset_name()),
    |it, n| daemonset(it, component(n))["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z"),
    |it, n| daemonset(it, component(n))["status"]["updatedNumberScheduled"] = json!(1),
    |it, n| daemonset(it, component(n))["status"]["numberReady"] = json!(2),
    |it, n| daemonset(it, component(n))["metadata"]["generation"] = json!(3),
    |it, n| node(it, n)["status"]["conditions"] = json!([{"type": "Ready", "status": "Unknown"}]),
    |it, n| it.forget_labels(component(n)),
    |it, _| Component::ALL.into_iter().for_each(|component| it.forget_labels(component)),
    |it, n| {
        it.forget_labels(component(n));
        it.forget_labels(component(n + 1));
    },
    |it, _| it.objects.retain(|it| it["kind"] != "Pod"),
    |it, n| {
        let node = node(it, n);
        if let Some(labels) = node["metadata"]["labels"].as_object_mut() {
            labels.remove(labels::CONTROL_PLANE_ROLES[0]);
        }
    },
    |it, _| {
        for pod in pods(it, Component::ApiServer) {
            pod["spec"]["containers"][0]["image"] = json!("registry.k8s.io/kube-apiserver:v1.37.2");
        }
    },
    |it, n| {
        let component = component(n);
        for pod in pods(it, component) {
            pod["spec"]["containers"][0]["image"] = json!(format!("registry.k8s.io/{component}:v1.35.9"));
        }
    },
    |it, n| daemonset(it, component(n))["spec"]["updateStrategy"] = json!({"type": "RollingUpdate"}),
    |it, _| {
        it.objects.push(object_of("v1", "Pod", "kube-system", "fake", &json!({
        "labels": {"component": "control-plane-standby", "tier": "control-plane"}, "spec": {"nodeName": "cp2", "containers": []}})))
    },
    |it, _| {
        store(
            it,
            "ca",
            "tls.crt",
            &format!("{}{}", made().certificate("cluster"), made().certificate("twin")),
        )
    },
    |it, _| {
        store(
            it,
            "ca",
            "tls.crt",
            &format!("{}{}", made().certificate("cluster"), made().certificate("short")),
        )
    },
    |it, _| store(it, "sa", "sa.pub", &format!("{}{}", made().public("other"), made().public("twin"))),
    |it, _| store(it, "encryption", "encryption.yaml", &encryption(&["one", "two"])),
    |it, _| store(it, "apiserver", "tls.crt", made().certificate("server-master")),
    |it, n| {
        push(
            &mut container(it, n)["command"],
            json!(
                ["--anonymous-auth=false", "--feature-gates=AllAlpha=true", "--audit-log-path=/var/log/a"]
                    [n % 3]
            ),
        )
    },
    |it, n| container(it, n)["resources"]["limits"] = json!({"memory": "128Mi"}),
    |it, n| {
        daemonset(it, component(n))["spec"]["template"]["spec"]["nodeSelector"] =
            json!({"node-role.kubernetes.io/master": ""})
    },
    |it, n| container(it, n)["ports"] = json!([{"containerPort": 6443}]),
    |it, n| {
        let times = ["2027-01-15T07:59:30Z", "2027-01-15T07:00:00Z", "2027-01-15T07:50:00Z", "now"];
        daemonset(it, component(n))["metadata"]["managedFields"] = json!([{"manager": "a", "time": "2026-12-31T23:00:00Z"}, {"manager": "b", "time": times[n % 4]},
                {"manager": "c", "time": "2027-01-15T07:59:59Z", "subresource": "status"}]);
    },
    |it, _| gone(it, "EndpointSlice", "kubernetes"),
    |it, n| {
        let object = daemonset(it, component(n));
        object["metadata"]["annotations"]["kubectl-selfhost.dev/mark"] = json!("1");
        object["metadata"]["finalizers"] = json!(["example.org/old"]);
        object["metadata"]["ownerReferences"] = json!([{"kind": "ConfigMap", "name": "old", "uid": "o"}]);
    },
    |it, n| {
        let component = component(n);
        let mut pod = object_of(
            "v1",
            "Pod",
            "kube-system",
            &format!("{component}-cp1"),
            &json!({
            "labels": {"component": component.name(), "tier": "control-plane"}, "annotations": {labels::MIRROR: "x"}}),
        );
        pod["spec"] = daemonset(it, component)["spec"]["template"]["spec"].clone();
        pod["spec"]["nodeName"] = json!("cp1");
        pod["status"] = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        it.objects.push(pod);
    },
];

fn container(world: &mut World, n: usize) -> &mut Value {
    let containers = &mut daemonset(world, component(n))["spec"]["template"]["spec"]["containers"];
    if containers.is_null() {
        *containers = json!([{}]);
    }
    &mut containers[0]
}

/// The settings of the cases; the usual ones come most often.
pub(super) fn settings() -> Vec<Value> {
    let off = |ids: &[&str], severity: &str| {
        let rules: serde_json::Map<_, _> = ids.iter().map(|id| ((*id).to_owned(), json!(severity))).collect();
        json!({"rules": rules})
    };
    let some = [
        "DS-1", "DS-5", "DS-8", "DS-11", "SEC-1", "SEC-2", "SEC-6", "CM-1", "PO-1", "PO-3", "PO-5", "NODE-1",
        "NS-1", "RB-2",
    ];
    vec![
        json!({}),
        json!({"pause": 600}),
        json!({"freeze": [{"from": 1_799_990_000, "until": 1_800_000_001, "reason": "x"}]}),
        json!({"freeze": [{"from": 1_799_990_000, "until": 1_800_000_000, "reason": "x"},
            {"from": 1_800_000_001, "until": 1_800_000_009, "reason": "y"}], "pause": 60}),
        off(&some, "warn"),
        off(&some, "off"),
        off(&some, "needs-approval"),
        off(&["DS-9", "DS-13", "DS-14"], "deny"),
        json!({"exempt": [{"rule": "DS-8", "users": ["ann"]}, {"rule": "DS-11", "groups": ["system:authenticated"]},
            {"rule": "SEC-2", "users": ["bob"]}, {"rule": "SEC-7", "users": ["ann"], "objects": ["kube-system/sa"]},
            {"rule": "DS-1", "users": ["ann"], "objects": ["kube-system/self-hosted-kube-scheduler"]}]}),
        json!({"identities": {"daemon-set-controller": ["system:kube-controller-manager"], "scheduler": [],
            "api-server": ["system:apiserver", "ann"]}}),
        json!({"secrets": ["vault/root", "kube-system/mine"], "configMaps": ["kube-system/mine", "default/kube-root-ca.crt"]}),
        json!({"writers": ["system:serviceaccount:rotation:rotator", "ann"]}),
        json!({"writers": ["system:serviceaccount:rotation:rotator"], "certificates": {"remaining": 0, "skew": 86_400}}),
        json!({"guard": {"namespace": "guards", "name": "mine"}, "nodeImages": ["registry.k8s.io/kube-scheduler"]}),
        json!({"certificates": {"remaining": 31_536_000}}),
    ]
}
