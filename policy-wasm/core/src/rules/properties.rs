//! What must hold for any input, whatever the rules are.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::testing::{NOW, World, secrets};
use super::{ALL, Judgement, decide};
use crate::component::Component;
use crate::review::{Answer, Facts, Request, Settings};

/// Any JSON, with the names that rules look for among its keys.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z/:=.$()-]{0,12}".prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        prop::sample::select(WORDS).prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(WORDS).prop_map(ToOwned::to_owned), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

const WORDS: &[&str] = &[
    "metadata",
    "name",
    "namespace",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "spec",
    "template",
    "containers",
    "initContainers",
    "command",
    "args",
    "env",
    "value",
    "valueFrom",
    "volumes",
    "volumeMounts",
    "secret",
    "data",
    "tls.crt",
    "items",
    "key",
    "path",
    "status",
    "conditions",
    "type",
    "updateStrategy",
    "selector",
    "matchLabels",
    "rules",
    "subjects",
    "webhooks",
    "kube-system",
    "self-hosted-kube-apiserver",
    "kube-apiserver",
    "kubernetes",
    "k8s-app",
    "component",
    "tier",
    "control-plane",
    "hostPath",
    "securityContext",
    "livenessProbe",
    "httpGet",
    "port",
    "kubectl-selfhost.dev/approval",
    "kubectl-selfhost.dev/bridge",
    "kubectl-selfhost.dev/kube-apiserver",
    "--authorization-mode=AlwaysAllow",
    "$(HOST_IP)",
    "endpoints",
    "addresses",
];

/// Every resource that a rule looks at, and some that none does.
const RESOURCES: &[(&str, &str, &str)] = &[
    ("apps", "daemonsets", "DaemonSet"),
    ("extensions", "daemonsets", "DaemonSet"),
    ("apps", "deployments", "Deployment"),
    ("apps", "controllerrevisions", "ControllerRevision"),
    ("batch", "cronjobs", "CronJob"),
    ("", "secrets", "Secret"),
    ("", "configmaps", "ConfigMap"),
    ("", "pods", "Pod"),
    ("", "nodes", "Node"),
    ("", "namespaces", "Namespace"),
    ("", "services", "Service"),
    ("", "serviceaccounts", "ServiceAccount"),
    ("", "bindings", "Binding"),
    ("", "resourcequotas", "ResourceQuota"),
    ("discovery.k8s.io", "endpointslices", "EndpointSlice"),
    ("rbac.authorization.k8s.io", "clusterroles", "ClusterRole"),
    ("rbac.authorization.k8s.io", "rolebindings", "RoleBinding"),
    ("certificates.k8s.io", "certificatesigningrequests", "CertificateSigningRequest"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration"),
    ("apiregistration.k8s.io", "apiservices", "APIService"),
    ("apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition"),
    ("flowcontrol.apiserver.k8s.io", "flowschemas", "FlowSchema"),
    ("scheduling.k8s.io", "priorityclasses", "PriorityClass"),
    ("coordination.k8s.io", "leases", "Lease"),
    ("example.org", "widgets", "Widget"),
];

fn any_request() -> impl Strategy<Value = Value> {
    (
        prop::sample::select(RESOURCES),
        prop::sample::select(&["CREATE", "UPDATE", "DELETE", "CONNECT", "PATCH"][..]),
        prop::sample::select(&["", "status", "exec", "proxy", "token", "eviction", "binding", "finalize", "approval"][..]),
        any_json(),
        any_json(),
        any_json(),
    )
        .prop_map(|((group, resource, kind), operation, sub, object, old, options)| {
            json!({"operation": operation, "subResource": sub, "name": "self-hosted-kube-apiserver",
                "namespace": "kube-system", "kind": {"group": group, "version": "v1", "kind": kind},
                "resource": {"group": group, "version": "v1", "resource": resource},
                "userInfo": {"username": "ann", "groups": []}, "object": object, "oldObject": old, "options": options})
        })
}

/// Every place in a value, as a path.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                places(field, &format!("{at}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                places(item, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Bytes that are no review are denied.
    #[test]
    fn noise_is_denied(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let verdict = decide(&bytes, &Settings::default(), NOW, |_| Answer::Missing);
        prop_assert!(!verdict.allowed);
    }

    /// Any JSON in any place, and any answer to a lookup: a verdict, the same each time.
    #[test]
    fn nothing_panics(request in any_request(), answer in any_json(), now in any::<i64>()) {
        let text = request.to_string();
        let fetch = |lookup: &crate::review::Lookup| match lookup {
            crate::review::Lookup::Get { .. } => Answer::Found(answer.clone()),
            crate::review::Lookup::List { .. } => Answer::Items(vec![answer.clone()]),
        };
        let verdict = decide(text.as_bytes(), &Settings::default(), now, fetch);
        prop_assert_eq!(&verdict, &decide(text.as_bytes(), &Settings::default(), now, fetch));
        let _ = (verdict.message(), verdict.warning_texts());
    }

    /// A fact that cannot be had never lets a change of a guarded object through that needs it.
    #[test]
    fn what_cannot_be_looked_up_is_denied(flag in "--[a-z-]{1,20}=[a-z0-9]{0,5}") {
        let world = World::new();
        let request = world.edit_container(Component::Scheduler, |it| {
            it["image"] = json!("registry.k8s.io/kube-scheduler:v1.36.9");
            it["command"].as_array_mut().unwrap().push(json!(flag));
        });
        let fetch = |_: &crate::review::Lookup| Answer::Unavailable("no route to host".to_owned());
        let verdict = decide(request.to_string().as_bytes(), &Settings::default(), NOW, fetch);
        prop_assert!(!verdict.allowed);
    }

    /// Settings with a rule that does not exist are refused.
    #[test]
    fn unknown_rules_are_refused(id in "[A-Za-z]{1,4}-?[0-9]{0,3}", severity in prop::sample::select(&["off", "warn", "deny"][..])) {
        prop_assume!(super::find(&id).is_none());
        let settings = json!({"rules": {id: severity}}).to_string();
        prop_assert!(Settings::parse(settings.as_bytes()).is_err());
    }

    /// No byte of a Secret gets into a verdict (SEC-13).
    #[test]
    fn secrets_stay_secret(canary in "[A-Z]{12}[0-9]{12}", key in prop::sample::select(&[
        ("apiserver", "tls.crt"), ("apiserver", "tls.key"), ("sa", "sa.key"), ("sa", "sa.pub"), ("ca", "tls.crt"),
        ("encryption", "encryption.yaml"), ("scheduler.conf", "scheduler.conf"),
    ][..])) {
        use base64::Engine as _;
        let world = secrets();
        let (name, key) = key;
        let encoded = base64::engine::general_purpose::STANDARD.encode(&canary);
        for text in [
            canary.clone(),
            format!("-----BEGIN PRIVATE KEY-----\n{encoded}\n-----END PRIVATE KEY-----\n"),
            format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n"),
            format!("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
                     providers:\n  - aescbc: {{keys: [{{name: k, secret: {canary}}}]}}\n"),
            format!("kind: Config\ncurrent-context: c\nusers: [{{name: u, user: {{token: {canary}}}}}]\n"),
        ] {
            let request = world.update("Secret", &format!("kube-system/{name}"), |it| super::testing::put(it, key, &text));
            let shown = format!("{:?}", world.verdict(&request));
            prop_assert!(!shown.contains(&canary) && !shown.contains(&encoded), "{shown}");
        }
        // Not even of what is no review.
        let broken = json!({"operation": canary, "object": {"data": {"k": canary}}}).to_string();
        let shown = format!("{:?}", decide(broken.as_bytes(), &Settings::default(), NOW, |_| Answer::Missing));
        prop_assert!(!shown.contains(&canary));
    }
}

/// A DaemonSet of the control plane with anything of another type where its type matters is denied.
#[test]
fn what_is_guarded_and_unreadable_is_denied() {
    let world = World::new();
    let request = world.edit(Component::ApiServer, |_| {});
    let mut found = Vec::new();
    places(&request["object"]["spec"]["template"], "/object/spec/template", &mut found);
    let allowed = found.iter().filter(|place| {
        let mut request = request.clone();
        let value = request.pointer_mut(place).unwrap();
        *value = if value.is_number() { json!({"not": "a number"}) } else { json!(7) };
        world.verdict(&request).allowed
    });
    let unexpected: Vec<_> = allowed.filter(|place| !is_free(place)).collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
}

/// Fields of a template that no rule looks at, so that any value may stand there.
fn is_free(place: &str) -> bool {
    [
        "/terminationMessage",
        "/imagePullPolicy",
        "/resources/",
        "Seconds",
        "Threshold",
        "/template-hash",
        // API servers know v1 alone.
        "/fieldRef/apiVersion",
    ]
    .iter()
    .any(|field| place.contains(field))
}

#[test]
fn a_dry_run_has_the_same_verdict() {
    let world = World::new();
    let mut request = world.delete("apps/v1", "DaemonSet", "kube-system/self-hosted-kube-apiserver");
    let verdict = world.verdict(&request);
    request["dryRun"] = json!(true);
    assert_eq!(verdict, world.verdict(&request));
}

#[test]
fn an_approval_lifts_what_needs_approval_and_nothing_else() {
    use crate::review::Request;
    use crate::review::approval::{ANNOTATION, Approval, Change};
    let world = World::new();
    let edit = |approval: Option<&Approval>, denied: bool| {
        world.edit(Component::ApiServer, |it| {
            let spec = &mut it["spec"]["template"]["spec"];
            spec["shareProcessNamespace"] = json!(true);
            if denied {
                spec["nodeSelector"] = json!({});
            }
            if let Some(approval) = approval {
                it["metadata"]["annotations"][ANNOTATION] = json!(serde_json::to_string(approval).unwrap());
            }
        })
    };
    let of = |request: &Value, rules: &[&str]| Approval {
        change: Change::of(&Request::parse(request.to_string().as_bytes()).unwrap()),
        rules: rules.iter().map(|it| (*it).to_owned()).collect(),
        not_after: NOW + 60,
        reason: "ticket 7".into(),
        signatures: std::collections::BTreeMap::new(),
    };
    assert!(!world.verdict(&edit(None, false)).allowed);
    let approval = of(&edit(None, false), &["DS-11"]);
    let verdict = world.verdict(&edit(Some(&approval), false));
    assert!(verdict.allowed, "{verdict:#?}");
    assert_eq!(verdict.approvals, ["approved by ann: ticket 7"]);
    let other = of(&edit(None, false), &["DS-1"]);
    assert!(!world.verdict(&edit(Some(&other), false)).allowed, "of another rule");
    let denied = of(&edit(None, true), &["DS-7", "DS-11"]);
    let verdict = world.verdict(&edit(Some(&denied), true));
    assert!(
        verdict.violations.iter().all(|it| it.rule == "DS-7") && !verdict.allowed,
        "what is denied stays denied"
    );
}

#[test]
fn a_settings_severity_and_exemption_count() {
    let mut world = World::new();
    let request = world.delete("apps/v1", "DaemonSet", "kube-system/self-hosted-kube-apiserver");
    for (settings, allowed, warned) in [
        (json!({}), false, false),
        (json!({"rules": {"DS-1": "warn"}}), true, true),
        (json!({"rules": {"DS-1": "off"}}), true, false),
        (json!({"exempt": [{"rule": "DS-1", "users": ["ann"]}]}), true, false),
        (json!({"exempt": [{"rule": "DS-1", "users": ["bob"]}]}), false, false),
        (
            json!({"exempt": [{"rule": "DS-1", "users": ["ann"], "objects": ["kube-system/other"]}]}),
            false,
            false,
        ),
        (json!({"exempt": [{"rule": "DS-2", "groups": ["system:authenticated"]}]}), false, false),
    ] {
        world.settings = Settings::parse(settings.to_string().as_bytes()).unwrap();
        let verdict = world.verdict(&request);
        assert_eq!((verdict.allowed, !verdict.warnings.is_empty()), (allowed, warned), "{settings}");
    }
}

#[test]
fn rules_are_named_once() {
    let mut ids: Vec<&str> = ALL.iter().map(|rule| rule.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), ALL.len());
}

#[test]
fn a_rule_that_asks_is_not_a_verdict() {
    let request = World::new().delete("apps/v1", "DaemonSet", "kube-system/self-hosted-kube-apiserver");
    let (request, settings) = (Request::parse(request.to_string().as_bytes()).unwrap(), Settings::default());
    let evaluation = Judgement::new(&request, &settings).round(&Facts::at(NOW));
    assert!(matches!(evaluation, super::Evaluation::Needs(lookups) if !lookups.is_empty()));
}
