//! Edits of ConfigMaps.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Edit, METADATA, at, forget};
use crate::rules::oracle::worlds::{KUBEADM, policy};

/// What the configurations of the API servers and the scheduler may become.
fn reconfigure(object: &mut Value, n: usize) {
    let own = "apiVersion: apiserver.config.k8s.io/v1\nkind: ";
    let (key, texts): (&str, &[&str]) = if object["metadata"]["name"] == "scheduler-config" {
        (
            "config.yaml",
            &[
                "leaderElection: {leaderElect: true}",
                "leaderElection: {leaderElect: false}",
                "leaderElection: {resourceName: x}",
                "leaderElection: {resourceNamespace: kube-system}",
                "profiles: [{schedulerName: default-scheduler}]",
                "profiles: [{schedulerName: x}]",
                "profiles: [{plugins: {filter: {disabled: [{name: NodeAffinity}]}}}]",
                "profiles: [{plugins: {score: {disabled: [{name: ImageLocality}]}}}, {schedulerName: x}]",
                "profiles: [{plugins: {multiPoint: {disabled: [{name: '*'}]}}}]",
            ],
        )
    } else {
        [
            (
                "authorization.yaml",
                &[
                    "authorizers: [{type: Node}, {type: RBAC}]",
                    "authorizers: [{type: RBAC}]",
                    "authorizers: [{type: Node}, {type: RBAC}, {type: AlwaysAllow}]",
                    "authorizers: [{type: Webhook, webhook: {failurePolicy: NoOpinion}}, {type: Node}, {type: RBAC}]",
                    "authorizers: [{type: Webhook, webhook: {failurePolicy: Deny}}, {type: Node}, {type: RBAC}]",
                    "authorizers: [{type: Node}, {type: RBAC}, {type: Webhook, webhook: {failurePolicy: NoOpinion}}]",
                    "authorizers: [{type: Webhook, name: w}, {type: Node}, {type: RBAC}, {type: Webhook, name: w}]",
                    "",
                ][..],
            ),
            (
                "audit.yaml",
                &[
                    "rules: [{level: Metadata}]",
                    "rules: [{level: None}, {level: Metadata}]",
                    "rules: []",
                    "rules: [{level: None, verbs: [watch]}]",
                    "rules: [{level: None, users: []}]",
                ][..],
            ),
            (
                "authentication.yaml",
                &[
                    "anonymous: {enabled: true, conditions: [{path: /livez}]}",
                    "anonymous: {enabled: false}",
                    "anonymous: {enabled: true}",
                    "",
                    "anonymous: {enabled: true, conditions: [{path: /livez}, {path: /api}]}",
                    "jwt: [{issuer: {url: https://a}}]",
                    "anonymous: {enabled: true, conditions: [{path: /readyz}]}",
                ][..],
            ),
            (
                "admission.yaml",
                &[
                    "plugins: [{name: ValidatingAdmissionPolicy, configuration: {staticManifestsDir: /m}}]",
                    "plugins: [{name: ValidatingAdmissionPolicy, configuration: {staticManifestsDir: /n}}]",
                    "plugins: []",
                    "plugins: [{name: PodSecurity}, {name: ValidatingAdmissionPolicy, configuration: {staticManifestsDir: /m}}]",
                    "plugins: [{name: ValidatingAdmissionPolicy}]",
                ][..],
            ),
        ][n % 4]
    };
    let n = n / 4;
    let rest = texts[n % texts.len()];
    let kind = match key {
        "authorization.yaml" => format!("{own}AuthorizationConfiguration"),
        "authentication.yaml" => format!("{own}AuthenticationConfiguration"),
        "admission.yaml" => format!("{own}AdmissionConfiguration"),
        "audit.yaml" => "apiVersion: audit.k8s.io/v1\nkind: Policy".to_owned(),
        _ => "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration".to_owned(),
    };
    let kind = match n / texts.len() % 12 {
        0 => "apiVersion: v1\nkind: Config".to_owned(),
        1 => "{".to_owned(),
        2 => format!("{kind}\nkind: x"),
        _ => kind,
    };
    *at(object, &["data", key]) = json!(format!("{kind}\n{rest}\n"));
}

fn manifests(object: &mut Value, n: usize) {
    let (one, two) = (policy("one", "false"), policy("two", "false"));
    let texts = [
        format!("{two}---\n{one}"),
        format!("{one}---\n{two}---\n{}", policy("three", "true")),
        format!("# x\n{one}---\n{two}"),
        one.clone(),
        format!("{one}---\n{}", policy("two", "true")),
        format!("{one}---\n{}", two.replace("two.static", "too.static")),
        String::new(),
        format!("{one}---\n{two}---\n{{.static.k8s.io"),
        two.replace("{name: two.static.k8s.io}", "{name: two.static.k8s.io, labels: {x: y}}")
            + "---\n"
            + &one,
    ];
    *at(object, &["data", ["policies.yaml", "policies.yaml", "moved.yaml"][n / 9 % 3]]) = json!(texts[n % 9]);
}

pub(in crate::rules::oracle) const CONFIG: &[Edit] = &[
    reconfigure,
    reconfigure,
    reconfigure,
    manifests,
    |it, n| forget(at(it, &["data"]), n),
    |it, n| {
        // Moved into the other map.
        let taken = at(it, &["data"]).as_object_mut().and_then(|it| {
            let name = it.keys().nth(n % it.len().max(1)).cloned()?;
            Some((name.clone(), it.remove(&name)?))
        });
        if let Some((name, text)) = taken {
            *at(it, &["binaryData", &name]) = json!(STANDARD.encode(text.as_str().unwrap_or("")));
        }
    },
    |it, n| *at(it, &["immutable"]) = json!(n.is_multiple_of(2)),
    |it, _| *at(it, &["data", "x"]) = json!("{"),
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
];

pub(in crate::rules::oracle) const CLUSTER_CONFIG: &[Edit] = &[
    |it, n| {
        if it["metadata"]["name"] == "kubeadm-config" {
            let texts = [
                KUBEADM.replace("v1.35.9", "v1.36.3"),
                KUBEADM.replace("v1.35.9", "v1.37.2"),
                format!("{}x: y\n", KUBEADM.replace("v1.35.9", "v1.36.3")),
                KUBEADM.replace("ClusterConfiguration", "Other"),
                KUBEADM.replace("v1.35.9", "\"v1.36.3\""),
                KUBEADM.replace("kubernetesVersion", "x"),
                KUBEADM.replace("v1.35.9", "v1.36.3").replace("v1beta4", "v1beta3"),
            ];
            *at(it, &["data", "ClusterConfiguration"]) = json!(texts[n % 7]);
        }
    },
    |it, n| {
        *at(
            it,
            &[
                "data",
                ["kubeconfig", "jws-kubeconfig-a", "jws-kubeconfig-b", "client-ca-file", "ca.crt"][n % 5],
            ],
        ) = json!("y")
    },
    |it, _| *at(it, &["binaryData"]) = json!({"x": ""}),
    |it, n| forget(at(it, &["data"]), n),
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
];
