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
            let before = powers(&request.old_object, in_system, settings, facts)?;
            for power in powers(&request.object, in_system, settings, facts)?.into_iter().filter(|it| !before.contains(it)) {
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
                if !powers(&request.object, true, settings, facts)?.is_empty() {
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
            let namespace = if kind == "Role" { request.namespace() } else { "" };
            let lookup = Lookup::get("rbac.authorization.k8s.io/v1", kind, namespace, name);
            let Some(granting) = facts.object(&lookup)? else { return Ok(violations) };
            for power in powers(granting, in_system, settings, facts)? {
                violations.push(Violation::new("subjects", format!("by {kind} {name} they could {power}"), next));
            }
        }
        _ => {}
    }
    Ok(violations)
}

/// What a role lets its holders do, of what matters.
fn powers(
    role: &Value,
    in_system: bool,
    settings: &Settings,
    facts: &Facts,
) -> Result<Vec<&'static str>, Unknown> {
    let rules = list(role, "rules");
    // Most roles name no object, and need no look at what is guarded.
    let names_some = rules.iter().any(|rule| !list(rule, "resourceNames").is_empty());
    let guarded = if names_some { guarded(Store::Secret, settings, facts)? } else { BTreeSet::new() };
    let mut found = Vec::new();
    for (verbs, group, resource, power, only_system) in RIGHTS {
        if only_system && !in_system {
            continue;
        }
        let grants = rules.iter().any(|rule| {
            let has = |field: &str, wanted: &str| {
                texts(rule, field).iter().any(|it| *it == "*" || wanted == "*" || *it == wanted)
            };
            let of_resource = has("resources", resource)
                || resource.split_once('/').is_some_and(|(_, sub)| has("resources", &format!("*/{sub}")));
            let named = texts(rule, "resourceNames");
            let is_guarded = |name: &&str| guarded.iter().any(|it| it.split_once('/').is_some_and(|(_, it)| it == *name));
            let by_name = resource == "secrets" && !named.is_empty() && !named.iter().any(is_guarded);
            verbs.iter().any(|verb| has("verbs", verb)) && has("apiGroups", group) && of_resource && !by_name
        });
        if grants {
            found.push(power);
        }
    }
    Ok(found)
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
        for (name, rules) in [("cluster-admin", rule("*", "*", "*")), ("viewer", rule("get", "", "pods"))] {
            world.objects.push(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": name}, "rules": rules}));
        }
        let bind = |kind: &str, namespace: &str, role: &str| {
            create(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
                "metadata": {"name": "x", "namespace": namespace}, "roleRef": {"kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "User", "name": "bob"}]}))
        };
        let named = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine"]}]);
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
                ("to read one Secret", role("Role", "kube-system", &named), false),
                ("to read one that is guarded", role("Role", "kube-system", &guarded), true),
                ("any subresource", role("Role", "kube-system", &rule("create", "", "*/exec")), true),
                ("to impersonate", role("ClusterRole", "", &rule("impersonate", "", "users")), true),
                ("to escalate", role("ClusterRole", "", &rule("escalate", "rbac.authorization.k8s.io", "clusterroles")), true),
                ("to remove webhooks", role("ClusterRole", "", &rule("delete", "admissionregistration.k8s.io", "validatingwebhookconfigurations")), true),
                ("to read webhooks", role("ClusterRole", "", &rule("get", "admissionregistration.k8s.io", "validatingwebhookconfigurations")), false),
                ("by aggregation", aggregated, true),
                ("bound to everything", bind("ClusterRoleBinding", "", "cluster-admin"), true),
                ("bound to everything in kube-system", bind("RoleBinding", "kube-system", "cluster-admin"), true),
                ("bound to little", bind("ClusterRoleBinding", "", "viewer"), false),
                ("bound to what is not there", bind("ClusterRoleBinding", "", "gone"), false),
            ],
        );
    }
}
