//! RB-2: nobody is given the power to take the cluster.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Checked, Reach, Rule};
use crate::labels;
use crate::review::facts::{Lookup, Unknown};
use crate::review::object::{list, text, texts};
use crate::review::settings::Identity;
use crate::review::usage::{Store, guarded};
use crate::review::{Facts, Object, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "RB-2",
    title: "no new right that leads to the control plane's keys, or past the guard, is given",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Wide,
    why: "Some rights are the whole cluster under another name: to impersonate, to bind, to escalate, to write webhooks, to \
          read the Secrets or to execute in the Pods of `kube-system`, to reach kubelets, to make tokens of others.",
    evasion: "- `*` for a verb, a resource or a group: counts as each of them.\n\
              - A role that grows by `aggregationRule`, and the labels by which another one takes it in: both looked at.\n\
              - A binding to a role that has such a right already: the role is looked up.\n\
              - A right for named objects alone (`resourceNames`) is admitted for Secrets, unless one of them is guarded.",
    blind: "What is already given. `kubectl selfhost audit` shows that.",
    check,
};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Verbs, group, resource, and why it matters. `kube-system` alone: the last field.
pub(crate) const RIGHTS: [(&[&str], &str, &str, &str, bool); 12] = [
    (&["impersonate"], "", "users", "act as anybody", false),
    (&["impersonate"], "", "groups", "act as any group", false),
    (&["impersonate"], "", "serviceaccounts", "act as a controller", false),
    (&["bind", "escalate"], GROUP, "clusterroles", "give itself any right", false),
    (&["create", "update", "patch", "delete", "deletecollection"], "admissionregistration.k8s.io", "*", "change or remove admission", false),
    (&["get", "list", "watch"], "", "secrets", "read the control plane's keys", true),
    (&["create", "get"], "", "pods/exec", "execute in control-plane Pods", true),
    (&["create", "get"], "", "pods/attach", "attach to control-plane Pods", true),
    (&["update", "patch"], "", "pods/ephemeralcontainers", "run code in control-plane Pods", true),
    (&["create"], "", "serviceaccounts/token", "make tokens of controllers", true),
    (&["get", "create"], "", "nodes/proxy", "reach every Pod through its kubelet", false),
    (&["update", "patch"], "certificates.k8s.io", "certificatesigningrequests/approval", "approve certificates", false),
];

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    let resource = request.resource.resource.as_str();
    let system = [Identity::ApiServer, Identity::ClusterRoleAggregation];
    if request.resource.group != GROUP || !request.writes() || settings.is_any(&request.user, &system) {
        return Ok(Vec::new());
    }
    let next = "grant what is needed by name, or keep to another namespace";
    // What a Role in another namespace grants ends there.
    let in_system = matches!(resource, "clusterroles" | "clusterrolebindings") || request.namespace() == labels::NAMESPACE;
    let mut violations = Vec::new();
    match resource {
        "clusterroles" | "roles" => {
            let wide = resource == "clusterroles";
            let secrets = named_secrets(&[&request.object, &request.old_object], wide, settings, facts)?;
            let before = powers(&request.old_object, in_system, &secrets);
            for power in powers(&request.object, in_system, &secrets).into_iter().filter(|it| !before.contains(it)) {
                violations.push(Violation::new("rules", format!("its holders could {power}"), next));
            }
            if request.changes(&["aggregationRule"]) && !request.object["aggregationRule"].is_null() {
                let message = "it takes in whatever carries a label";
                violations.push(Violation::new("aggregationRule", message, "write the rules themselves"));
            }
            let own = request.new_object().map(Object::labels).unwrap_or_default();
            let known = request.old().map(Object::labels).unwrap_or_default();
            let aggregates = own.iter().filter(|(name, _)| name.starts_with("rbac.authorization.k8s.io/aggregate-to-"));
            for (name, _) in aggregates.filter(|(name, value)| known.get(*name) != Some(*value)) {
                if !powers(&request.object, true, &secrets).is_empty() {
                    violations.push(Violation::new("metadata.labels", format!("{name} gives it to many"), next));
                }
            }
        }
        "clusterrolebindings" | "rolebindings" => {
            let known = list(&request.old_object, "subjects");
            let added = list(&request.object, "subjects").iter().filter(|it| !known.contains(it)).count();
            if added == 0 && !request.changes(&["roleRef"]) {
                return Ok(violations);
            }
            let role = &request.object["roleRef"];
            let (kind, name) = (text(role, "kind"), text(role, "name"));
            if !matches!(kind, "ClusterRole" | "Role") {
                let message = format!("what a role of kind {kind:?} gives is not known");
                violations.push(Violation::new("roleRef.kind", message, "bind a Role or a ClusterRole"));
                return Ok(violations);
            }
            let namespace = if kind == "Role" { request.namespace() } else { "" };
            let lookup = Lookup::get("rbac.authorization.k8s.io/v1", kind, namespace, name);
            let Some(role) = facts.object(&lookup)? else { return Ok(violations) };
            let secrets = named_secrets(&[role], resource == "clusterrolebindings", settings, facts)?;
            for power in powers(role, in_system, &secrets) {
                violations.push(Violation::new("subjects", format!("by {kind} {name} they could {power}"), next));
            }
        }
        _ => {}
    }
    Ok(violations)
}

/// The guarded Secrets, by name, where a role names any: of `kube-system`, or of every namespace. Most roles name none, and
/// then nothing is looked up.
fn named_secrets(
    roles: &[&Value],
    everywhere: bool,
    settings: &Settings,
    facts: &Facts,
) -> Result<BTreeSet<String>, Unknown> {
    let all = roles.iter().flat_map(|role| list(role, "rules"));
    if all.into_iter().all(|it| texts(it, "resourceNames").is_empty()) {
        return Ok(BTreeSet::new());
    }
    let secrets = guarded(Store::Secret, settings, facts)?;
    let keys = secrets.iter().filter_map(|key| key.split_once('/'));
    let reached = keys.filter(|(namespace, _)| everywhere || *namespace == labels::NAMESPACE);
    Ok(reached.map(|(_, name)| name.to_owned()).collect())
}

/// What a role lets its holders do, of what matters. A right for Secrets that are named, and none of them guarded, is none.
fn powers(role: &Value, in_system: bool, guarded: &BTreeSet<String>) -> Vec<&'static str> {
    let mut found = Vec::new();
    for (verbs, group, resource, power, only_system) in RIGHTS {
        if only_system && !in_system {
            continue;
        }
        let grants = list(role, "rules").iter().any(|rule| {
            let has = |field: &str, wanted: &str| {
                texts(rule, field).iter().any(|it| *it == "*" || wanted == "*" || *it == wanted)
            };
            let of_resource = has("resources", resource)
                || resource.split_once('/').is_some_and(|(_, sub)| has("resources", &format!("*/{sub}")));
            let only = texts(rule, "resourceNames");
            let by_name =
                resource == "secrets" && !only.is_empty() && !only.iter().any(|name| guarded.contains(*name));
            verbs.iter().any(|verb| has("verbs", verb)) && has("apiGroups", group) && of_resource && !by_name
        });
        if grants {
            found.push(power);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{create, secrets, table};

    fn role(kind: &str, namespace: &str, rules: &Value) -> Value {
        create(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": "x", "namespace": namespace}, "rules": rules}))
    }

    fn rule(verb: &str, group: &str, resource: &str) -> Value {
        json!([{"verbs": [verb], "apiGroups": [group], "resources": [resource]}])
    }

    #[test]
    fn power_is_not_given() {
        let mut world = secrets();
        world.settings.secrets.insert("vault/root".into());
        let named = |secret: &str| {
            json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["x", secret]}])
        };
        for (name, rules) in [
            ("cluster-admin", rule("*", "*", "*")),
            ("viewer", rule("get", "", "pods")),
            ("reader", named("ca")),
            ("vault", named("root")),
        ] {
            world.objects.push(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": name}, "rules": rules}));
        }
        let bind = |kind: &str, namespace: &str, role: &str| {
            create(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
                "metadata": {"name": "x", "namespace": namespace}, "roleRef": {"kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "User", "name": "bob"}]}))
        };
        let mut admins = bind("ClusterRoleBinding", "", "cluster-admin")["object"].clone();
        admins["metadata"]["name"] = json!("admins");
        world.objects.push(admins);
        world.objects.push(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "summed"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]}}));
        let mut other_kind = bind("ClusterRoleBinding", "", "viewer");
        other_kind["object"]["roleRef"]["kind"] = json!("Other");
        let mut own = role("ClusterRole", "", &rule("*", "*", "*"));
        own["userInfo"]["username"] = json!("system:apiserver");
        let guarded = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine", "ca"]}]);
        let mut aggregated = role("ClusterRole", "", &json!([]));
        aggregated["object"]["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]});
        table(
            &RULE,
            &world,
            [
                ("to read Pods", role("ClusterRole", "", &rule("get", "", "pods")), false),
                ("everything", role("ClusterRole", "", &rule("*", "*", "*")), true),
                ("to read Secrets", role("ClusterRole", "", &rule("list", "", "secrets")), true),
                ("to read Secrets of kube-system", role("Role", "kube-system", &rule("get", "", "secrets")), true),
                ("to read Secrets elsewhere", role("Role", "default", &rule("get", "", "secrets")), false),
                ("to read one Secret", role("Role", "kube-system", &named("mine")), false),
                ("to read one of the control plane's", role("Role", "kube-system", &named("ca")), true),
                ("to read it in every namespace", role("ClusterRole", "", &named("ca")), true),
                ("to read one of another namespace", role("Role", "kube-system", &named("root")), false),
                ("to read that in every namespace", role("ClusterRole", "", &named("root")), true),
                ("bound to one of the control plane's", bind("RoleBinding", "kube-system", "reader"), true),
                ("bound to it elsewhere", bind("RoleBinding", "default", "reader"), false),
                ("bound to another kind of role", other_kind, true),
                ("to read one that is guarded", role("Role", "kube-system", &guarded), true),
                ("any subresource", role("Role", "kube-system", &rule("create", "", "*/exec")), true),
                ("to impersonate", role("ClusterRole", "", &rule("impersonate", "", "users")), true),
                ("to escalate", role("ClusterRole", "", &rule("escalate", "rbac.authorization.k8s.io", "clusterroles")), true),
                ("to remove webhooks", role("ClusterRole", "", &rule("delete", "admissionregistration.k8s.io", "validatingwebhookconfigurations")), true),
                ("to read webhooks", role("ClusterRole", "", &rule("get", "admissionregistration.k8s.io", "validatingwebhookconfigurations")), false),
                ("of another group", create(&json!({"apiVersion": "example.org/v1", "kind": "ClusterRole",
                    "metadata": {"name": "x"}, "rules": rule("*", "*", "*")})), false),
                ("another kind of the group", create(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Other",
                    "metadata": {"name": "x"}, "rules": rule("*", "*", "*")})), false),
                ("deleted", world.delete("rbac.authorization.k8s.io/v1", "ClusterRole", "cluster-admin"), false),
                ("as it is", world.update("ClusterRole", "cluster-admin", |it| it["metadata"]["labels"] = json!({"x": "y"})), false),
                ("given to more by a label", world.update("ClusterRole", "cluster-admin", |it| {
                    it["metadata"]["labels"] = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
                }), true),
                ("little given to more by a label", world.update("ClusterRole", "viewer", |it| {
                    it["metadata"]["labels"] = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
                }), false),
                ("by the API server", own, false),
                ("by aggregation", aggregated, true),
                ("bound to everything", bind("ClusterRoleBinding", "", "cluster-admin"), true),
                ("bound to everything in kube-system", bind("RoleBinding", "kube-system", "cluster-admin"), true),
                ("bound to little", bind("ClusterRoleBinding", "", "viewer"), false),
                ("bound to what is not there", bind("ClusterRoleBinding", "", "gone"), false),
                ("bound to one of another namespace", bind("RoleBinding", "kube-system", "vault"), false),
                ("bound to that in every namespace", bind("ClusterRoleBinding", "", "vault"), true),
                ("bound to everything, as it is", world.update("ClusterRoleBinding", "admins", |it| it["metadata"]["labels"] = json!({"x": "y"})), false),
                ("bound to everything, another one", world.update("ClusterRoleBinding", "admins", |it| it["subjects"][0]["name"] = json!("eve")), true),
                ("by aggregation no more", world.update("ClusterRole", "summed", |it| it["aggregationRule"] = json!(null)), false),
                ("by aggregation, as it is", world.update("ClusterRole", "summed", |it| it["metadata"]["labels"] = json!({"x": "y"})), false),
            ],
        );
    }
}
