//! Edits of Pods, and of what makes Pods.

use serde_json::{Value, json};

use super::daemonsets::IMAGES;
use super::{Edit, METADATA, at, drop_from, push};

/// Edits of a Pod, or of a Pod's template.
fn of_pod(pod: &mut Value, n: usize) {
    let kind = n % 8;
    let n = n / 8;
    let paths = [
        "/etc/kubernetes/pki",
        "/etc",
        "/",
        "/usr/../etc/kubernetes",
        "//etc/./kubernetes/",
        "/var/run/containerd/containerd.sock",
        "/lib/modules",
        "/etc/kubernetes-x",
        "/run",
        "/var/run",
        "/var/lib",
        "/proc/1",
        "relative",
    ];
    match kind {
        0 => push(
            at(pod, &["spec", "volumes"]),
            json!({"name": "v", "hostPath": {"path": paths[n % paths.len()]}}),
        ),
        1 => {
            let secret = ["ca", "sa", "mine", "root", "gone"][n % 5];
            let volumes = [
                json!({"name": "s", "secret": {"secretName": secret}}),
                json!({"name": "s", "projected": {"sources": [{"secret": {"name": secret}}]}}),
                json!({"name": "s", "csi": {"nodePublishSecretRef": {"name": secret}}}),
                json!({"name": "s", "rbd": {"secretRef": {"name": secret}}}),
                json!({"name": "s", "azureFile": {"secretName": secret}}),
                json!({"name": "s", "configMap": {"name": secret}}),
            ];
            push(at(pod, &["spec", "volumes"]), volumes[n / 5 % 6].clone());
        }
        2 => {
            let secret = ["ca", "mine", "root"][n % 3];
            let container = at(pod, &["spec", "containers", "0"]);
            match n / 3 % 3 {
                0 => push(
                    at(container, &["env"]),
                    json!({"name": "K", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}}),
                ),
                1 => push(at(container, &["envFrom"]), json!({"secretRef": {"name": secret}})),
                _ => push(at(pod, &["spec", "imagePullSecrets"]), json!({"name": secret})),
            }
        }
        3 => {
            let tolerations = [
                json!({"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}),
                json!({"operator": "Exists"}),
                json!({"key": "x", "operator": "Exists"}),
                json!({"key": "node-role.kubernetes.io/master", "effect": "NoSchedule"}),
                json!({"operator": "Equal"}),
            ];
            push(at(pod, &["spec", "tolerations"]), tolerations[n % 5].clone());
        }
        4 => {
            let labels =
                ["node-role.kubernetes.io/control-plane", "kubectl-selfhost.dev/kube-scheduler", "zone"];
            *at(pod, &["spec", "nodeSelector", labels[n % 3]]) = json!("");
        }
        5 => {
            let (field, value) =
                [("hostPID", true), ("hostIPC", true), ("hostNetwork", true), ("hostPID", false)][n % 4];
            *at(pod, &["spec", field]) = json!(value);
        }
        6 => {
            let container = at(pod, &["spec", ["containers", "initContainers"][n % 2], "0"]);
            if container.is_object() {
                let (field, value) = [
                    ("securityContext", json!({"privileged": true})),
                    ("securityContext", json!({"capabilities": {"add": ["NET_ADMIN", "CAP_SYS_ADMIN"]}})),
                    ("securityContext", json!({"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}})),
                    ("ports", json!([{"hostPort": 6443}])),
                    ("ports", json!([{"containerPort": 10250}])),
                    ("ports", json!([{"containerPort": 80, "hostPort": 80}])),
                    ("image", json!("y")),
                ][n / 2 % 7]
                    .clone();
                container[field] = value;
            }
        }
        _ => {
            let labels = [
                ("k8s-app", "self-hosted-kube-apiserver"),
                ("component", "kube-scheduler"),
                ("tier", "control-plane"),
                ("component", "control-plane-standby"),
                ("kubectl-selfhost.dev/bridge", "kube-scheduler"),
                ("kubectl-selfhost.dev/bridge", "x"),
                ("kubectl-selfhost.dev/task", "inspect"),
                ("x", "y"),
            ];
            let (name, value) = labels[n % 8];
            *at(pod, &["metadata", "labels", name]) = json!(value);
        }
    }
}

pub(in crate::rules::oracle) const POD: &[Edit] = &[
    of_pod,
    of_pod,
    of_pod,
    |it, n| {
        let names = ["daemon-set-controller", "coredns", "selfhost-guard", "mine"];
        *at(it, &["spec", "serviceAccountName"]) = json!(names[n % 4]);
    },
    |it, n| {
        *at(it, &["metadata", "ownerReferences"]) = json!([{"kind": (["DaemonSet", "ReplicaSet"][n % 2]), "controller": n % 4 < 3,
        "name": (["self-hosted-kube-apiserver", "cni"][n / 4 % 2])}])
    },
    |it, _| *at(it, &["metadata", "annotations", "kubernetes.io/config.mirror"]) = json!("x"),
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
];

pub(in crate::rules::oracle) const WORKLOAD: &[Edit] = &[
    of_template,
    of_template,
    of_template,
    |it, n| {
        let labels = [
            json!({"tier": "control-plane"}),
            json!({"k8s-app": "self-hosted-kube-scheduler"}),
            json!({"component": "kube-apiserver", "x": "y"}),
            json!({}),
            json!({"k8s-app": "coredns"}),
        ];
        let expressions = [
            json!(null),
            json!([{"key": "tier", "operator": "In", "values": ["control-plane", "x"]}]),
            json!([{"key": "tier", "operator": "NotIn", "values": ["x"]}]),
            json!([{"key": "k8s-app", "operator": "Exists"}]),
            json!([{"key": "k8s-app", "operator": "DoesNotExist"}]),
            json!([]),
            json!([{"key": "k8s-app", "operator": "In", "values": ["coredns"]}]),
        ];
        let labels = labels[n % 5].clone();
        *at(it, &["spec", "selector"]) = match n / 5 % 3 {
            0 => json!({"matchLabels": labels}),
            1 => json!({"matchLabels": labels, "matchExpressions": expressions[n / 15 % 7]}),
            _ => json!({"matchExpressions": expressions[n / 15 % 7]}),
        };
    },
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
];

pub(in crate::rules::oracle) const GUARDS_OWN: &[Edit] = &[
    |_, _| {},
    of_version,
    of_version,
    of_version,
    of_template,
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
];

/// Another image of the guard's.
fn of_version(object: &mut Value, n: usize) {
    let images = [
        "ghcr.io/kubectl-selfhost/selfhost-guard:v0.2.0",
        "ghcr.io/kubectl-selfhost/selfhost-guard@sha256:00",
        "ghcr.io/kubectl-selfhost/selfhost-node:v0.2.0",
        "ghcr.io:5000/kubectl-selfhost/selfhost-guard:v0.1.0",
        "ghcr.io/kubectl-selfhost/selfhost-node",
    ];
    let container = ["containers", "containers", "initContainers"][n % 3];
    *at(object, &["spec", "template", "spec", container, "0", "image"]) = json!(images[n / 3 % images.len()]);
}

fn of_template(object: &mut Value, n: usize) {
    let path: &[&str] = if object["kind"] == "CronJob" {
        &["spec", "jobTemplate", "spec", "template"]
    } else if object["kind"] == "PodTemplate" {
        &["template"]
    } else {
        &["spec", "template"]
    };
    of_pod(at(object, path), n);
}

pub(in crate::rules::oracle) const BRIDGE: &[Edit] = &[
    |_, _| {},
    |it, n| {
        push(
            at(it, &["spec", "containers", "0", "command"]),
            json!(["--secure-port=6444", "serve", "--v=2", "$(X)"][n % 4]),
        )
    },
    |it, n| *at(it, &["spec", "containers", "0", "image"]) = json!(IMAGES[n % IMAGES.len()]),
    |it, n| *at(it, &["spec", "containers", "0", "command"]) = [json!(["sh"]), json!(null)][n % 2].clone(),
    |it, n| *at(it, &["spec", "containers", "0", "name"]) = json!(["x", "gate"][n % 2]),
    |it, n| {
        push(
            at(it, &["spec", "containers"]),
            json!({"name": (["x", "gate"][n % 2]), "image": (["evil", "ghcr.io/kubectl-selfhost/selfhost-node"][n / 2 % 2])}),
        )
    },
    |it, n| {
        if it["spec"]["containers"][1].is_object() {
            let (field, value) = [
                ("image", json!("evil")),
                ("command", json!(["sh"])),
                ("securityContext", json!({"privileged": true})),
                ("lifecycle", json!({})),
                ("securityContext", json!({"capabilities": {"add": ["NET_ADMIN", "SYS_ADMIN"]}})),
                ("envFrom", json!([{}])),
                ("image", json!("ghcr.io/kubectl-selfhost/selfhost-node@sha256:00")),
            ][n % 7]
                .clone();
            it["spec"]["containers"][1][field] = value;
        }
    },
    |it, n| {
        if it["spec"]["volumes"][1].is_object() {
            let (field, value) = [
                ("path", "/etc/kubernetes/pki/ca.key"),
                ("type", ""),
                ("path", "/x/../ca.crt"),
                ("path", "/y/ca.crt"),
                ("path", "/ycrt"),
            ][n % 5];
            it["spec"]["volumes"][1]["hostPath"][field] = json!(value);
        }
    },
    |it, n| {
        push(at(it, &["spec", "volumes"]), [json!({"name": "selfhost-ca", "hostPath": {"path": "/a.crt", "type": "File"}, "emptyDir": {}}),
        json!({"name": "v", "emptyDir": {}})][n % 2].clone())
    },
    of_pod,
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
];

pub(in crate::rules::oracle) const TASK: &[Edit] = &[
    |_, _| {},
    |it, n| {
        *at(it, &["spec", "containers", "0", "image"]) = json!(
            [
                "evil",
                "ghcr.io/kubectl-selfhost/selfhost-node.evil/x:v1",
                "ghcr.io/kubectl-selfhost/selfhost-node"
            ][n % 3]
        )
    },
    |it, n| *at(it, &["spec", "containers", "0", "command"]) = [json!(["sh"]), json!([])][n % 2].clone(),
    |it, _| *at(it, &["spec", "initContainers"]) = json!([{"name": "x", "image": "evil"}]),
    |it, n| {
        if it["spec"]["containers"][1].is_object() {
            let (field, value) = [
                ("image", json!("evil.org/kube-scheduler:v1.37.2")),
                ("command", json!(["kube-scheduler"])),
                ("command", json!(["kube-scheduler", "--help", "x"])),
                ("volumeMounts", json!([{"name": "host-0", "mountPath": "/x"}])),
                ("volumeMounts", json!([])),
                ("name", json!("kube-apiserver")),
                ("name", json!("x")),
                ("ports", json!([{}])),
            ][n % 8]
                .clone();
            it["spec"]["containers"][1][field] = value;
        }
    },
    |it, _| drop_from(at(it, &["spec", "containers"]), 0),
    of_pod,
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
];

pub(in crate::rules::oracle) const CONTROL_PLANE_POD: &[Edit] = &[
    |_, _| {},
    |it, n| {
        *at(
            it,
            &["metadata", "annotations", "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"],
        ) = json!(["10.0.0.11:6443", "10.0.0.12:6443", "cp1", "[::1]:6443", "10.0.0.11"][n % 5])
    },
    |it, n| {
        *at(
            it,
            &[
                "metadata",
                "annotations",
                [
                    "kubectl-selfhost.dev/template-hash",
                    "x/y",
                    "kubernetes.io/config.hash",
                    "kubectl-selfhost.dev/approval",
                ][n % 4],
            ],
        ) = json!("z")
    },
    |it, _| *at(it, &["spec", "activeDeadlineSeconds"]) = json!(1),
    |it, n| {
        *at(it, &["metadata", "ownerReferences"]) = [
            json!([]),
            json!([{"kind": "DaemonSet", "name": "self-hosted-kube-scheduler", "controller": true}]),
            json!([{"kind": "ReplicaSet", "name": "self-hosted-kube-scheduler", "controller": true}]),
        ][n % 3]
            .clone()
    },
    |it, n| *at(it, &["spec", "nodeName"]) = json!(["cp1", "w"][n % 2]),
    |it, n| {
        *at(it, &["status", "conditions"]) = json!([{"type": "Ready", "status": (["True", "False"][n % 2])}])
    },
    of_pod,
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
];
