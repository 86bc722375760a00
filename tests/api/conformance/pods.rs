//! Pods, and workloads that are not the control plane's.

use serde_json::{Value, json};

use super::call::Call;
use super::case::{Cases, object};
use super::seed::{SYSTEM, TEAM};

const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";

/// A Pod with this spec.
fn pod(namespace: &str, spec: &Value) -> Value {
    object("v1/Pod", namespace, "mine", &json!({"spec": with_container(spec)}))
}

/// One container, unless the spec has its own.
fn with_container(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if spec["containers"].is_null() {
        spec["containers"] = json!([{"name": "a", "image": "example.org/a:v1"}]);
    }
    spec
}

fn container(content: &Value) -> Value {
    let mut container = content.clone();
    container["name"] = json!("a");
    container["image"] = json!("example.org/a:v1");
    json!([container])
}

fn create_pod(namespace: &str, spec: &Value) -> Call {
    Call::post(&format!("/api/v1/namespaces/{namespace}/pods"), &pod(namespace, spec))
}

pub(crate) fn cases(cases: &mut Cases) {
    running(cases);
    goes(cases);
    bindings(cases);
    secrets(cases);
    nodes(cases);
    impersonated(cases);
    bridges(cases);
    mirrors(cases);
}

fn running(cases: &mut Cases) {
    let (own, other) =
        (format!("{SYSTEM}/pods/self-hosted-kube-apiserver-abcd1"), format!("{TEAM}/pods/web"));
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "example.org/a:v1"}]}});
    let resize = |name: &str| json!({"spec": {"containers": [{"name": name, "resources": {"requests": {"cpu": "20m"}}}]}});
    let status = format!("{own}/status");
    let unready =
        Call::strategic(&status, &json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}));
    let note = Call::merge(&own, &json!({"metadata": {"annotations": {"example.org/team": "a"}}}));
    cases
        .of(1)
        .add(
            "`pods/ephemeralcontainers`",
            "PO-2",
            Call::strategic(&format!("{own}/ephemeralcontainers"), &debug),
            "of another Pod",
            Call::strategic(&format!("{other}/ephemeralcontainers"), &debug),
        )
        .add(
            "`pods/resize`",
            "PO-2",
            Call::strategic(&format!("{own}/resize"), &resize("kube-apiserver")),
            "of another Pod",
            Call::strategic(&format!("{other}/resize"), &resize("a")),
        )
        .add(
            "`pods/status`: a label",
            "PO-2",
            Call::merge(&status, &json!({"metadata": {"labels": {"k8s-app": "mine"}}})),
            "readiness, by its kubelet",
            unready.clone().by_kubelet("cp1"),
        )
        .add(
            "`pods/status`: a label, as the scheduler",
            "PO-2",
            Call::merge(&status, &json!({"metadata": {"labels": {"k8s-app": "mine"}}}))
                .by("system:kube-scheduler"),
            "readiness, by its kubelet",
            unready.clone().by_kubelet("cp1"),
        )
        .add(
            "`pods/status`: readiness by somebody else",
            "PO-2",
            unready.clone(),
            "by its kubelet",
            unready.by_kubelet("cp1"),
        )
        .of(14)
        .add(
            "another image in a Pod that runs",
            "PO-2",
            Call::strategic(
                &own,
                &json!({"spec": {"containers": [{"name": "kube-apiserver", "image": "example.org/a:v1"}]}}),
            ),
            "an annotation more",
            note.clone(),
        )
        .add(
            "a deadline for a Pod that runs",
            "PO-2",
            Call::merge(&own, &json!({"spec": {"activeDeadlineSeconds": 600}})),
            "an annotation more",
            note,
        );
}

fn goes(cases: &mut Cases) {
    let path = |name: &str| format!("{SYSTEM}/pods/{name}");
    // Its peer on cp3 is not ready, while every API server is.
    let (needed, spare) = ("self-hosted-kube-controller-manager-abcd1", "self-hosted-kube-apiserver-abcd1");
    let evict = |name: &str| {
        let content = object("policy/v1/Eviction", "kube-system", name, &json!({}));
        Call::post(&format!("{}/eviction", path(name)), &content)
    };
    let collection = |app: &str| Call::delete(&format!("{SYSTEM}/pods?labelSelector=k8s-app%3D{app}"));
    let while_others = "while every other one is ready";
    cases
        .of(1)
        .add("`pods/eviction`", "PO-3", evict(needed), while_others, evict(spare))
        .of(2)
        .add(
            "`deletecollection` of Pods",
            "PO-3",
            collection("self-hosted-kube-controller-manager"),
            "of others",
            collection("other"),
        )
        .of(4)
        .add(
            "DELETE of a Pod by the garbage collector",
            "PO-3",
            Call::delete(&path(needed)).by(COLLECTOR),
            while_others,
            Call::delete(&path(spare)).by(COLLECTOR),
        )
        .of(30)
        .add(
            "DELETE of a Pod while its peer is not ready",
            "PO-3",
            Call::delete(&path(needed)),
            while_others,
            Call::delete(&path(spare)),
        )
        .add(
            "DELETE of a Pod at once",
            "PO-3",
            Call::delete(&format!("{}?gracePeriodSeconds=0", path(needed))),
            while_others,
            Call::delete(&format!("{}?gracePeriodSeconds=0", path(spare))),
        );
}

fn bindings(cases: &mut Cases) {
    let binding = |node: &str| {
        let content = json!({"target": {"apiVersion": "v1", "kind": "Node", "name": node}});
        object("v1/Binding", "team", "pending", &content)
    };
    cases
        .of(1)
        .add(
            "`pods/binding` to a control-plane node",
            "PO-6",
            Call::post(&format!("{TEAM}/pods/pending/binding"), &binding("cp1")),
            "to another node",
            Call::post(&format!("{TEAM}/pods/pending/binding"), &binding("w1")),
        )
        .add(
            "`bindings` to a control-plane node",
            "PO-6",
            Call::post(&format!("{TEAM}/bindings"), &binding("cp1")),
            "to another node",
            Call::post(&format!("{TEAM}/bindings"), &binding("w1")),
        );
}

/// Ways to mount a Secret, with the name of it left open.
fn mounts(secret: &str) -> Vec<(&'static str, Value)> {
    vec![
        ("a volume", json!({"volumes": [{"name": "s", "secret": {"secretName": secret}}]})),
        (
            "a projected volume",
            json!({"volumes": [{"name": "s", "projected": {"sources": [{"secret": {"name": secret}}]}}]}),
        ),
        (
            "a CSI volume",
            json!({"volumes": [{"name": "s", "csi": {"driver": "example.org", "nodePublishSecretRef": {"name": secret}}}]}),
        ),
        (
            "a variable",
            json!({"containers": container(&json!({"env": [{"name": "S",
                "valueFrom": {"secretKeyRef": {"name": secret, "key": "a"}}}]}))}),
        ),
        (
            "all variables",
            json!({"containers": container(&json!({"envFrom": [{"secretRef": {"name": secret}}]}))}),
        ),
        ("pull secrets", json!({"imagePullSecrets": [{"name": secret}]})),
        (
            "an init container",
            json!({"initContainers": container(&json!({"envFrom": [{"secretRef": {"name": secret}}]})),
                "containers": [{"name": "b", "image": "example.org/a:v1"}]}),
        ),
    ]
}

fn secrets(cases: &mut Cases) {
    cases.of(22);
    for ((form, attack), (_, good)) in mounts("ca").into_iter().zip(mounts("mine")) {
        cases.add(
            &format!("a Pod with a Secret of the control plane as {form}"),
            "SEC-12",
            create_pod("kube-system", &attack),
            "with another Secret",
            create_pod("kube-system", &good),
        );
    }
    for (kind, collection) in WORKLOADS {
        let create = |secret: &str| workload("kube-system", kind, collection, &mounts(secret)[0].1);
        cases.add(
            &format!("a {} that mounts one", kind.rsplit('/').next().unwrap_or_default()),
            "SEC-12",
            create("ca"),
            "with another Secret",
            create("mine"),
        );
    }
}

/// The kinds with a template, and their collections.
const WORKLOADS: [(&str, &str); 8] = [
    ("apps/v1/Deployment", "/apis/apps/v1/{}/deployments"),
    ("apps/v1/DaemonSet", "/apis/apps/v1/{}/daemonsets"),
    ("apps/v1/ReplicaSet", "/apis/apps/v1/{}/replicasets"),
    ("apps/v1/StatefulSet", "/apis/apps/v1/{}/statefulsets"),
    ("batch/v1/Job", "/apis/batch/v1/{}/jobs"),
    ("batch/v1/CronJob", "/apis/batch/v1/{}/cronjobs"),
    ("v1/ReplicationController", "/api/v1/{}/replicationcontrollers"),
    ("v1/PodTemplate", "/api/v1/{}/podtemplates"),
];

/// The creation of a workload whose Pods have this spec.
fn workload(namespace: &str, kind: &str, collection: &str, spec: &Value) -> Call {
    let mut spec = with_container(spec);
    let is_job = kind.starts_with("batch/");
    if is_job {
        spec["restartPolicy"] = json!("Never");
    }
    let template = json!({"metadata": {"labels": {"app": "mine"}}, "spec": spec});
    let selector = json!({"matchLabels": {"app": "mine"}});
    let content = match kind {
        "batch/v1/Job" => json!({"spec": {"template": template}}),
        "batch/v1/CronJob" => {
            json!({"spec": {"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": template}}}})
        }
        "v1/PodTemplate" => json!({"template": template}),
        "v1/ReplicationController" => json!({"spec": {"selector": {"app": "mine"}, "template": template}}),
        _ => json!({"spec": {"selector": selector, "template": template}}),
    };
    let path = collection.replace("{}", &format!("namespaces/{namespace}"));
    Call::post(&path, &object(kind, namespace, "mine", &content))
}

fn nodes(cases: &mut Cases) {
    let tolerates = json!([{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]);
    let keys = json!([{"name": "k", "hostPath": {"path": "/etc/kubernetes"}}]);
    let tainted = |mut spec: Value| {
        spec["tolerations"] = tolerates.clone();
        spec
    };
    let elsewhere = "on other nodes";
    cases.of(23);
    for (form, spec) in [
        ("keys by a host path", json!({"volumes": keys})),
        ("the whole disk", json!({"volumes": [{"name": "k", "hostPath": {"path": "/"}}]})),
        (
            "a path in another spelling",
            json!({"volumes": [{"name": "k", "hostPath": {"path": "/var/./lib//kubelet/pki"}}]}),
        ),
        ("processes of the node", json!({"hostPID": true})),
        ("its shared memory", json!({"hostIPC": true})),
        (
            "a privileged container",
            json!({"containers": container(&json!({"securityContext": {"privileged": true}}))}),
        ),
        (
            "a privileged init container",
            json!({"initContainers": container(&json!({"securityContext": {"privileged": true}})),
                "containers": [{"name": "b", "image": "example.org/a:v1"}]}),
        ),
        (
            "a capability",
            json!({"containers": container(&json!({"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}))}),
        ),
        (
            "the API server's port",
            json!({"hostNetwork": true, "containers": container(&json!({"ports": [{"containerPort": 6443}]}))}),
        ),
    ] {
        cases.add(
            &format!("a Pod with {form} that tolerates the taint"),
            "PO-5",
            create_pod("team", &tainted(spec.clone())),
            elsewhere,
            create_pod("team", &spec),
        );
    }
    let mut by_name = json!({"volumes": keys, "nodeName": "cp1"});
    let attack = create_pod("team", &by_name);
    by_name["nodeName"] = json!("w1");
    cases
        .add("a Pod with keys by the node's name", "PO-5", attack, elsewhere, create_pod("team", &by_name))
        .add(
            "a Pod with keys by the role's label",
            "PO-5",
            create_pod(
                "team",
                &json!({"volumes": keys, "nodeSelector": {"node-role.kubernetes.io/control-plane": ""}}),
            ),
            elsewhere,
            create_pod("team", &json!({"volumes": keys, "nodeSelector": {"disk": "fast"}})),
        )
        .add(
            "a Pod with keys that tolerates everything",
            "PO-5",
            create_pod("team", &json!({"volumes": keys, "tolerations": [{"operator": "Exists"}]})),
            elsewhere,
            create_pod("team", &json!({"volumes": keys})),
        );
    for (kind, collection) in WORKLOADS {
        let create = |spec: &Value| workload("team", kind, collection, spec);
        cases.add(
            &format!("a {} with keys", kind.rsplit('/').next().unwrap_or_default()),
            "PO-5",
            create(&tainted(json!({"volumes": keys}))),
            elsewhere,
            create(&json!({"volumes": keys})),
        );
    }
    let agent = "/apis/apps/v1/namespaces/team/daemonsets/agent";
    let edit = |spec: &Value| Call::merge(agent, &json!({"spec": {"template": {"spec": spec}}}));
    cases.add(
        "an edit that brings an agent to the keys",
        "PO-5",
        edit(&tainted(json!({"volumes": keys}))),
        elsewhere,
        edit(&json!({"volumes": keys})),
    );
}

/// What the registration leaves to the controllers, and no more.
fn impersonated(cases: &mut Cases) {
    const REPLICAS: &str = "system:serviceaccount:kube-system:replicaset-controller";
    let elsewhere = json!({"volumes": [{"name": "k", "hostPath": {"path": "/etc/kubernetes"}}]});
    let mut there = elsewhere.clone();
    there["tolerations"] = json!([{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]);
    let daemonset = |spec: &Value| workload("team", "apps/v1/DaemonSet", "/apis/apps/v1/{}/daemonsets", spec);
    cases
        .of(19)
        .add(
            "a DaemonSet with keys as another controller",
            "PO-5",
            daemonset(&there).by(REPLICAS),
            "on other nodes",
            daemonset(&elsewhere).by(REPLICAS),
        )
        .add(
            "a Pod with keys as a controller, without an owner",
            "PO-5",
            create_pod("team", &there).by(REPLICAS),
            "on other nodes",
            create_pod("team", &elsewhere).by(REPLICAS),
        );
}

fn bridges(cases: &mut Cases) {
    let bridge = |privileged: bool| {
        let mut object = pod("kube-system", &json!({}));
        object["metadata"]["name"] = json!("kube-apiserver-bridge-w1");
        object["metadata"]["labels"] = json!({"kubectl-selfhost.dev/bridge": "kube-apiserver"});
        object["spec"]["nodeName"] = json!("w1");
        if privileged {
            object["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
        } else {
            object["metadata"]["labels"] = json!({"app": "mine"});
        }
        Call::post(&format!("{SYSTEM}/pods"), &object)
    };
    cases.of(23).add(
        "a Pod that claims to be a bridge",
        "PO-5",
        bridge(true),
        "without the claim",
        bridge(false),
    );
}

fn mirrors(cases: &mut Cases) {
    let mirror = |labels: &Value| {
        let content = json!({"spec": with_container(&json!({"nodeName": "cp2"})),
            "metadata": {"labels": labels, "annotations": {"kubernetes.io/config.mirror": "x"}}});
        Call::post(
            &format!("{SYSTEM}/pods"),
            &object("v1/Pod", "kube-system", "kube-apiserver-cp2", &content),
        )
    };
    cases.of(24).add(
        "a mirror of a control-plane Pod by somebody else",
        "PO-4",
        mirror(&json!({"component": "kube-apiserver", "tier": "control-plane"})),
        "of another Pod",
        mirror(&json!({"app": "mine"})),
    );
}
