//! Edits of nodes, namespaces, Services, roles and registrations.

use serde_json::json;

use super::{Edit, METADATA, at, drop_from, forget, push};

pub(in crate::rules::oracle) const NODE: &[Edit] = &[
    |it, n| {
        let labels = [
            "kubectl-selfhost.dev/kube-apiserver",
            "kubectl-selfhost.dev/kube-controller-manager",
            "kubectl-selfhost.dev/kube-scheduler",
        ];
        *at(it, &["metadata", "labels", labels[n % 3]]) = [json!("true"), json!("no")][n / 3 % 2].clone();
    },
    |it, n| {
        let labels = [
            "kubectl-selfhost.dev/kube-apiserver",
            "kubectl-selfhost.dev/kube-controller-manager",
            "kubectl-selfhost.dev/kube-scheduler",
            "node-role.kubernetes.io/control-plane",
        ];
        if let Some(own) = at(it, &["metadata", "labels"]).as_object_mut() {
            own.remove(labels[n % 4]);
        }
    },
    |it, n| {
        *at(
            it,
            &[
                "metadata",
                "labels",
                [
                    "node-role.kubernetes.io/control-plane",
                    "node-role.kubernetes.io/master",
                    "kubectl-selfhost.dev.x/y",
                    "zone",
                ][n % 4],
            ],
        ) = json!("true")
    },
    |it, _| *at(it, &["spec", "unschedulable"]) = json!(true),
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
];

pub(in crate::rules::oracle) const NAMESPACE: &[Edit] = &[
    |it, n| {
        let level = "pod-security.kubernetes.io/enforce";
        *at(it, &["metadata", "labels", level]) = json!(["restricted", "privileged", "baseline"][n % 3]);
    },
    |it, n| {
        *at(it, &["metadata", "labels", ["x", "team", "kubernetes.io/metadata.name"][n % 3]]) =
            json!(["x", "y"][n / 3 % 2])
    },
    |it, n| forget(at(it, &["metadata", "labels"]), n),
    |it, _| *at(it, &["spec"]) = json!({"finalizers": []}),
];

pub(in crate::rules::oracle) const SERVICE: &[Edit] = &[
    |_, _| {},
    |it, n| {
        *at(it, &["spec", "externalIPs"]) =
            json!([(["10.0.0.13", "010.0.0.13", "10.96.0.1", "198.51.100.1"][n % 4])])
    },
    |it, _| *at(it, &["spec", "externalName"]) = json!("x"),
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
];

pub(in crate::rules::oracle) const SLICE: &[Edit] = &[
    |_, _| {},
    |it, n| {
        *at(it, &["metadata", "labels", "kubernetes.io/service-name"]) = json!(["kubernetes", "mine"][n % 2])
    },
    |it, n| {
        *at(it, &["endpoints"]) =
            [json!([]), json!([{"addresses": ["10.0.0.11"]}, {"addresses": ["10.0.0.12", "10.9.9.9"]}])]
                [n % 2]
                .clone()
    },
    |it, n| *at(it, &["ports"]) = [json!([]), json!([{"port": 6443}, {"port": 22}])][n % 2].clone(),
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
];

pub(in crate::rules::oracle) const ROLE: &[Edit] = &[
    |it, n| {
        let (verbs, groups, resources) = (
            ["get", "*", "impersonate", "escalate", "create", "delete", "update", "patch", "list"],
            ["", "*", "rbac.authorization.k8s.io", "admissionregistration.k8s.io", "certificates.k8s.io"],
            [
                "pods",
                "*",
                "secrets",
                "*/exec",
                "pods/exec",
                "users",
                "clusterroles",
                "validatingwebhookconfigurations",
                "serviceaccounts/token",
                "nodes/proxy",
                "certificatesigningrequests/approval",
                "pods/ephemeralcontainers",
            ],
        );
        let mut rule = json!({"verbs": [verbs[n % 9]], "apiGroups": [groups[n / 9 % 5]], "resources": [resources[n / 45 % 12]]});
        match n / 540 % 4 {
            0 => rule["resourceNames"] = json!(["mine"]),
            1 => rule["resourceNames"] = json!(["x", (["ca", "root", "apiserver"][n / 2160 % 3])]),
            _ => {}
        }
        push(at(it, &["rules"]), rule);
    },
    |it, n| {
        push(
            at(it, &["rules"]),
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": [(["mine", "ca", "root"][n % 3])]}),
        )
    },
    |it, _| *at(it, &["aggregationRule"]) = json!({"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]}),
    |it, n| {
        *at(
            it,
            &[
                "metadata",
                "labels",
                ["rbac.authorization.k8s.io/aggregate-to-view", "kubernetes.io/bootstrapping"][n % 2],
            ],
        ) = json!(["true", "rbac-defaults"][n / 2 % 2])
    },
    |it, n| {
        *at(it, &["metadata", "annotations"]) =
            [json!({}), json!({"rbac.authorization.kubernetes.io/autoupdate": "false"})][n % 2].clone()
    },
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
];

pub(in crate::rules::oracle) const BINDING: &[Edit] = &[
    |_, _| {},
    |it, n| {
        let subjects = [
            ("Group", "admins"),
            ("Group", "system:authenticated"),
            ("User", "system:anonymous"),
            ("Group", "system:serviceaccounts"),
            ("Group", "system:masters"),
            ("User", "system:authenticated"),
            ("Group", "system:unauthenticated"),
            ("ServiceAccount", "x"),
        ];
        let (kind, name) = subjects[n % 8];
        push(at(it, &["subjects"]), json!({"kind": kind, "name": name}));
    },
    |it, n| {
        *at(it, &["roleRef"]) =
            json!({"kind": "ClusterRole", "name": (["cluster-admin", "mine", "gone"][n % 3])})
    },
    |it, n| drop_from(at(it, &["subjects"]), n),
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
];

pub(in crate::rules::oracle) const REGISTRATION: &[Edit] = &[
    |_, _| {},
    |it, n| {
        *at(it, &["webhooks", "0", "failurePolicy"]) =
            [json!("Ignore"), json!("Fail"), json!(null)][n % 3].clone()
    },
    |it, n| {
        let name = "kubernetes.io/metadata.name";
        let selector = [
            json!({"matchExpressions": [{"key": name, "operator": "NotIn", "values": ["kube-system"]}]}),
            json!({"matchExpressions": [{"key": name, "operator": "NotIn", "values": ["x"]}]}),
            json!({"matchExpressions": [{"key": name, "operator": "In", "values": ["default"]}]}),
            json!({"matchLabels": {name: "default"}}),
            json!({"matchLabels": {name: "kube-system"}}),
            json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}),
            json!({"matchExpressions": [{"key": name, "operator": "DoesNotExist"}]}),
        ];
        *at(it, &["webhooks", "0", "namespaceSelector"]) = selector[n % 7].clone();
    },
    |it, n| *at(it, &["webhooks", "0", "rules", "0", "scope"]) = json!(["Cluster", "Namespaced", "*"][n % 3]),
    |it, n| {
        *at(it, &["webhooks", "0", "rules", "0", "operations"]) =
            [json!([]), json!(["CONNECT"]), json!(["UPDATE"])][n % 3].clone()
    },
    |it, n| *at(it, &["webhooks"]) = [json!([]), json!(null)][n % 2].clone(),
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
];

pub(in crate::rules::oracle) const API_SERVICE: &[Edit] = &[
    |_, _| {},
    |it, n| *at(it, &["spec", "service"]) = [json!(null), json!({"name": "y"})][n % 2].clone(),
    |it, _| *at(it, &["spec", "insecureSkipTLSVerify"]) = json!(true),
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
];

pub(in crate::rules::oracle) const DEFINITION: &[Edit] = &[
    |_, _| {},
    |it, n| {
        *at(it, &["spec", "conversion", "webhook", "clientConfig", "service", "namespace"]) =
            json!(["selfhost-guard", "default", "guards"][n % 3])
    },
    |it, n| *at(it, &["spec", "group"]) = json!(["b.k8s.io", "example.com"][n % 2]),
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
];

pub(in crate::rules::oracle) const FLOW: &[Edit] = &[
    |it, n| {
        *at(it, &["spec", "matchingPrecedence"]) =
            [json!(1), json!(999), json!(1000), json!("1"), json!(null), json!(1.5)][n % 6].clone()
    },
    |it, n| *at(it, &["spec", "limited"]) = json!({"nominalConcurrencyShares": n}),
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
];
