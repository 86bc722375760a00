//! Roles and bindings.

use serde_json::{Value, json};

use super::call::Call;
use super::case::{Cases, label, object};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const GROUP: &str = "rbac.authorization.k8s.io";

fn role(name: &str, labels: &Value, rules: &Value) -> Call {
    let content = json!({"metadata": {"labels": labels}, "rules": rules});
    Call::post(
        &format!("{RBAC}/clusterroles"),
        &object(&format!("{GROUP}/v1/ClusterRole"), "", name, &content),
    )
}

fn binding(role: &str, subject: &Value) -> Call {
    let content =
        json!({"roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role}, "subjects": [subject]});
    Call::post(
        &format!("{RBAC}/clusterrolebindings"),
        &object(&format!("{GROUP}/v1/ClusterRoleBinding"), "", "mine", &content),
    )
}

/// A right to one thing.
fn rule(group: &str, resource: &str, verb: &str) -> Value {
    json!([{"apiGroups": [group], "resources": [resource], "verbs": [verb]}])
}

/// A `ClusterRole` of nobody's concern.
fn weak() -> Call {
    role("mine", &json!({}), &rule("", "pods", "get"))
}

fn subject(kind: &str, name: &str) -> Value {
    json!({"apiGroup": GROUP, "kind": kind, "name": name})
}

/// The creation of a binding in a namespace.
fn bind_in(namespace: &str, role: &str, subject: &Value) -> Call {
    let content =
        json!({"roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role}, "subjects": [subject]});
    Call::post(
        &format!("{RBAC}/namespaces/{namespace}/rolebindings"),
        &object(&format!("{GROUP}/v1/RoleBinding"), namespace, "mine", &content),
    )
}

pub(crate) fn cases(cases: &mut Cases) {
    roles(cases);
    bindings(cases);
    kept(cases);
}

fn roles(cases: &mut Cases) {
    let (none, weak) = (json!({}), weak());
    cases.of(18);
    for (form, rules) in [
        ("everything", rule("*", "*", "*")),
        ("`escalate`", rule(GROUP, "clusterroles", "escalate")),
        ("`bind`", rule(GROUP, "clusterroles", "bind")),
        (
            "writing registrations",
            rule("admissionregistration.k8s.io", "validatingwebhookconfigurations", "delete"),
        ),
        ("reading Secrets", rule("", "secrets", "list")),
        ("`exec`", rule("", "pods/exec", "create")),
        ("any `exec`", rule("", "*/exec", "create")),
        ("debugging Pods", rule("", "pods/ephemeralcontainers", "patch")),
        ("the kubelets' proxy", rule("", "nodes/proxy", "get")),
        (
            "approving certificates",
            rule("certificates.k8s.io", "certificatesigningrequests/approval", "update"),
        ),
    ] {
        let attack = role("mine", &none, &rules);
        cases.add(&format!("a ClusterRole for {form}"), "RB-2", attack, "for reading Pods", weak.clone());
    }
    let aggregates = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    let selectors = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
    let growing = object(
        &format!("{GROUP}/v1/ClusterRole"),
        "",
        "mine",
        &json!({"aggregationRule": selectors, "rules": []}),
    );
    let by_name = |secret: &str| {
        let mut rules = rule("", "secrets", "get");
        rules[0]["resourceNames"] = json!([secret]);
        Call::post(
            &format!("{RBAC}/namespaces/kube-system/roles"),
            &object(&format!("{GROUP}/v1/Role"), "kube-system", "mine", &json!({"rules": rules})),
        )
    };
    let of_namespace = |namespace: &str| {
        let content = json!({"rules": rule("", "secrets", "get")});
        Call::post(
            &format!("{RBAC}/namespaces/{namespace}/roles"),
            &object(&format!("{GROUP}/v1/Role"), namespace, "mine", &content),
        )
    };
    cases
        .add(
            "a right that `view` takes in",
            "RB-2",
            role("mine", &aggregates, &rule("", "secrets", "get")),
            "a harmless one",
            role("mine", &aggregates, &rule("", "pods", "get")),
        )
        .add(
            "a ClusterRole that grows by itself",
            "RB-2",
            Call::post(&format!("{RBAC}/clusterroles"), &growing),
            "for reading Pods",
            weak.clone(),
        )
        .add(
            "a Role for one of the control plane's Secrets",
            "RB-2",
            by_name("ca"),
            "for another one",
            by_name("mine"),
        )
        .add(
            "a Role for Secrets of `kube-system`",
            "RB-2",
            of_namespace("kube-system"),
            "of another namespace",
            of_namespace("team"),
        )
        .of(19);
    for kind in ["users", "groups", "serviceaccounts"] {
        let attack = role("mine", &none, &rule("", kind, "impersonate"));
        cases.add(&format!("the right to impersonate {kind}"), "RB-2", attack, "to read Pods", weak.clone());
    }
}

fn bindings(cases: &mut Cases) {
    let jane = subject("User", "jane");
    let named = binding("reader", &jane);
    let grown = |subject: &Value| {
        Call::merge(&format!("{RBAC}/clusterrolebindings/reader"), &json!({"subjects": [jane, subject]}))
    };
    let harmless = "to a harmless one";
    cases
        .of(18)
        .add("a binding to such a role", "RB-2", binding("strong", &jane), harmless, named.clone())
        .add(
            "a RoleBinding to such a role in `kube-system`",
            "RB-2",
            bind_in("kube-system", "strong", &jane),
            harmless,
            bind_in("kube-system", "reader", &jane),
        )
        .add(
            "a subject more for a binding",
            "RB-3",
            grown(&subject("Group", "system:authenticated")),
            "a named one more",
            grown(&subject("User", "john")),
        );
    for group in
        ["system:masters", "system:authenticated", "system:unauthenticated", "system:serviceaccounts"]
    {
        let attack = binding("reader", &subject("Group", group));
        cases.add(&format!("a binding to `{group}`"), "RB-3", attack, "to a user", named.clone());
    }
    cases.add(
        "a RoleBinding to anonymous users anywhere",
        "RB-3",
        bind_in("team", "reader", &subject("User", "system:anonymous")),
        "to a user",
        bind_in("team", "strong", &jane),
    );
}

/// What the control plane itself works with.
fn kept(cases: &mut Cases) {
    let bindings = format!("{RBAC}/clusterrolebindings");
    let scheduler = format!("{RBAC}/clusterroles/system:kube-scheduler");
    let only = |name: &str| Call::delete(&format!("{bindings}?fieldSelector=metadata.name%3D{name}"));
    let unrepaired = json!({"rbac.authorization.kubernetes.io/autoupdate": "false"});
    let more = "a label more";
    cases
        .of(18)
        .add(
            "DELETE of a binding of the control plane's",
            "RB-1",
            Call::delete(&format!("{bindings}/system:kube-scheduler")),
            "of another",
            Call::delete(&format!("{bindings}/reader")),
        )
        .add(
            "`deletecollection` of bindings",
            "RB-1",
            only("system:kube-scheduler"),
            "of others",
            only("reader"),
        )
        .add(
            "a role of the control plane's emptied",
            "RB-1",
            Call::merge(&scheduler, &json!({"rules": []})),
            more,
            label(&scheduler),
        )
        .add(
            "the API server's repair of a role turned off",
            "RB-1",
            Call::merge(&scheduler, &json!({"metadata": {"annotations": unrepaired}})),
            more,
            label(&scheduler),
        );
}
