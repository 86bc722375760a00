//! Registrations: what only a webhook of a static manifest is asked about.

use serde_json::{Value, json};

use super::call::Call;
use super::case::{Cases, label};

const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";

/// A configuration of somebody else's.
fn webhook(kind: &str, name: &str, change: &Value) -> Value {
    let mut webhook = json!({"name": "a.example.org", "clientConfig": {"url": "https://192.0.2.9/"},
        "rules": [{"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["*"]}],
        "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Ignore"});
    for (field, value) in change.as_object().into_iter().flatten() {
        webhook[field] = value.clone();
    }
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "webhooks": [webhook]})
}

pub(crate) fn cases(cases: &mut Cases) {
    let own = format!("{VALIDATING}/selfhost-guard");
    let policy = format!("{POLICIES}/selfhost-guard-daemonsets");
    let binding = format!("{BINDINGS}/selfhost-guard-daemonsets");
    let others = format!("{VALIDATING}/other");
    let first = |path: &str, value: &Value| {
        Call::json(&own, &json!([{"op": "replace", "path": format!("/webhooks/0/{path}"), "value": value}]))
    };
    let another = "a label more";
    let of_another = Call::delete(&others);
    cases
        .of(15)
        .add("DELETE of the guard's webhooks", "AR-1", Call::delete(&own), "of another's", of_another.clone())
        .add(
            "`deletecollection` of webhooks",
            "AR-1",
            Call::delete(&format!("{VALIDATING}?fieldSelector=metadata.name%3Dselfhost-guard")),
            "of another's",
            of_another,
        )
        .add(
            "the guard's webhook made to fail open",
            "AR-1",
            first("failurePolicy", &json!("Ignore")),
            another,
            label(&own),
        )
        .add(
            "the guard's webhook led elsewhere",
            "AR-1",
            first("clientConfig/url", &json!("https://192.0.2.9/")),
            another,
            label(&own),
        )
        .add(
            "a condition that lets everything by",
            "AR-1",
            first("matchConditions", &json!([{"name": "a", "expression": "false"}])),
            another,
            label(&own),
        )
        .add("fewer rules", "AR-1", first("rules", &json!([])), another, label(&own))
        .add("DELETE of a policy of the guard's", "AR-1", Call::delete(&policy), another, label(&policy))
        .add(
            "a policy that denies nothing",
            "AR-1",
            Call::merge(&policy, &json!({"spec": {"validations": [{"expression": "true"}]}})),
            another,
            label(&policy),
        )
        .add("DELETE of a policy's binding", "AR-1", Call::delete(&binding), another, label(&binding))
        .add(
            "a binding that only warns",
            "AR-1",
            Call::merge(&binding, &json!({"spec": {"validationActions": ["Warn"]}})),
            another,
            label(&binding),
        );
    let validating =
        |change: &Value| Call::post(VALIDATING, &webhook("ValidatingWebhookConfiguration", "mine", change));
    let mutating =
        |change: &Value| Call::post(MUTATING, &webhook("MutatingWebhookConfiguration", "mine", change));
    let elsewhere = json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]}]});
    let pods = |more: Value| {
        let mut change = json!({"failurePolicy": "Fail",
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]});
        for (field, value) in more.as_object().into_iter().flatten() {
            change[field] = value.clone();
        }
        change
    };
    let leases = json!({"failurePolicy": "Fail", "rules": [{"apiGroups": ["coordination.k8s.io"], "apiVersions": ["*"],
        "resources": ["leases"], "operations": ["UPDATE"]}]});
    cases
        .of(16)
        .add(
            "a webhook that fails closed on everything",
            "AR-2",
            validating(&json!({"failurePolicy": "Fail"})),
            "that fails open",
            validating(&json!({})),
        )
        .add("on Leases", "AR-2", validating(&leases), "that fails open", validating(&json!({})))
        .add(
            "on Pods",
            "AR-2",
            validating(&pods(json!({}))),
            "outside of `kube-system`",
            validating(&pods(json!({"namespaceSelector": elsewhere}))),
        )
        .add(
            "one that changes the control plane's objects",
            "AR-2",
            mutating(&json!({})),
            "outside of `kube-system`",
            mutating(&pods(json!({"namespaceSelector": elsewhere}))),
        );
}

/// What is registered through the API beside the guard's own.
pub(crate) fn other() -> (Call, Value) {
    let object = webhook("ValidatingWebhookConfiguration", "other", &json!({}));
    (Call::post(VALIDATING, &object), object)
}

/// The collection of a kind of registration.
pub(crate) fn collection(kind: &str) -> &'static str {
    match kind {
        "ValidatingAdmissionPolicy" => POLICIES,
        "ValidatingAdmissionPolicyBinding" => BINDINGS,
        _ => VALIDATING,
    }
}
