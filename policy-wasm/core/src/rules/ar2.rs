//! AR-2: no other webhook can stop or change the control plane.

use serde_json::Value;

use super::ar1::GROUP;
use super::{Checked, Reach, Rule};
use crate::labels;
use crate::review::object::{is_empty, list, text, texts};
use crate::review::{Facts, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "AR-2",
    title: "no other webhook can stop what the control plane needs, or change its objects",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Static,
    why: "A webhook that fails closed on Leases, Nodes, or Pods of `kube-system` has stopped many clusters for good: what \
          would bring it back needs what it stops. One that changes objects can change the control plane's before the \
          guard sees them.",
    evasion: "- `*` for groups, resources or versions; a subresource; a second webhook in one configuration: each looked at.\n\
              - A `namespaceSelector` that leaves `kube-system` out by its `kubernetes.io/metadata.name` is what clears it.",
    blind: "`matchConditions` and label selectors of objects: they are taken to exclude nothing. \
            ValidatingAdmissionPolicies of others.",
    check,
};

/// What a cluster needs to start, by group and resource; whether it is in a namespace.
pub(crate) const NEEDED: [(&str, &str, bool); 10] = [
    ("coordination.k8s.io", "leases", true),
    ("", "nodes", false),
    ("", "pods", true),
    ("", "secrets", true),
    ("", "configmaps", true),
    ("", "serviceaccounts", true),
    ("", "namespaces", false),
    ("apps", "daemonsets", true),
    ("apps", "controllerrevisions", true),
    ("discovery.k8s.io", "endpointslices", true),
];

fn check(request: &Request, settings: &Settings, _: &Facts) -> Checked {
    let mutates = request.resource.resource == "mutatingwebhookconfigurations";
    let is_webhook = mutates || request.resource.resource == "validatingwebhookconfigurations";
    if request.resource.group != GROUP || !is_webhook || !request.writes() || request.name() == settings.guard.name {
        return Ok(Vec::new());
    }
    let known = list(&request.old_object, "webhooks");
    let mut violations = Vec::new();
    for (index, webhook) in list(&request.object, "webhooks").iter().enumerate() {
        if known.contains(webhook) {
            continue;
        }
        let closed = text(webhook, "failurePolicy") != "Ignore";
        let Some((group, resource, _)) = NEEDED.iter().find(|needed| matches(webhook, needed)) else { continue };
        let what = if group.is_empty() { (*resource).to_owned() } else { format!("{resource}.{group}") };
        let path = format!("webhooks[{index}]");
        let next = format!("exclude {} by a namespaceSelector, or set failurePolicy: Ignore", labels::NAMESPACE);
        if closed {
            let message = format!("while it does not answer, nobody can write {what}");
            violations.push(Violation::new(path, message, next));
        } else if mutates {
            let message = format!("it could change {what} of the control plane");
            violations.push(Violation::new(path, message, format!("exclude {} by a namespaceSelector", labels::NAMESPACE)));
        }
    }
    Ok(violations)
}

/// Whether the webhook is asked about a resource, of `kube-system` where that is in a namespace.
fn matches(webhook: &Value, (group, resource, namespaced): &(&str, &str, bool)) -> bool {
    if *namespaced && excludes_system(&webhook["namespaceSelector"]) {
        return false;
    }
    list(webhook, "rules").iter().any(|rule| {
        let any = |field: &str, wanted: &str| texts(rule, field).iter().any(|it| *it == "*" || *it == wanted);
        let resources = texts(rule, "resources");
        let of_resource = resources.iter().any(|it| matches!(*it, "*" | "*/*") || it == resource);
        let operations = texts(rule, "operations");
        let writes = operations.is_empty() || operations.iter().any(|it| matches!(*it, "*" | "CREATE" | "UPDATE" | "DELETE"));
        let scope = text(rule, "scope");
        let in_scope = match scope {
            "Cluster" => !namespaced,
            "Namespaced" => *namespaced,
            _ => true,
        };
        any("apiGroups", group) && of_resource && writes && in_scope
    })
}

/// Whether the selector certainly does not select `kube-system`.
fn excludes_system(selector: &Value) -> bool {
    const NAME: &str = "kubernetes.io/metadata.name";
    let by_label = &selector["matchLabels"][NAME];
    if !is_empty(by_label) {
        return by_label != labels::NAMESPACE;
    }
    list(selector, "matchExpressions").iter().any(|it| {
        let values = texts(it, "values");
        text(it, "key") == NAME
            && match text(it, "operator") {
                "NotIn" => values.contains(&labels::NAMESPACE),
                "In" => !values.contains(&labels::NAMESPACE),
                "DoesNotExist" => true,
                _ => false,
            }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{World, create, table};

    #[test]
    fn no_webhook_stops_the_control_plane() {
        let make = |kind: &str, policy: Value, selector: Value, group: &str, resource: &str| {
            create(&json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "x"},
                "webhooks": [{"name": "w", "failurePolicy": policy, "namespaceSelector": selector, "rules": [{
                    "apiGroups": [group], "apiVersions": ["*"], "resources": [resource], "operations": ["CREATE"]}]}]}))
        };
        let (check, change) = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration");
        let not = |operator: &str, name: &str| {
            json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": operator, "values": [name]}]})
        };
        let named = |name: &str| json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
        let scoped = |scope: &str, resource: &str| {
            let mut request = make(check, json!("Fail"), json!({}), "", resource);
            request["object"]["webhooks"][0]["rules"][0]["scope"] = json!(scope);
            request
        };
        let of = |object: &Value| {
            let mut object = object.clone();
            object["webhooks"] = json!([{"name": "w", "rules": [{"apiGroups": [""], "apiVersions": ["*"],
                "resources": ["pods"], "operations": ["CREATE"]}]}]);
            create(&object)
        };
        table(
            &RULE,
            &World::new(),
            [
                ("Pods", make(check, json!("Fail"), json!({}), "", "pods"), true),
                ("Pods, by default", make(check, json!(null), json!({}), "", "pods"), true),
                ("Pods, open", make(check, json!("Ignore"), json!({}), "", "pods"), false),
                ("Pods, changed", make(change, json!("Ignore"), json!({}), "", "pods"), true),
                ("Pods elsewhere", make(check, json!("Fail"), not("NotIn", "kube-system"), "", "pods"), false),
                ("Pods not there", make(check, json!("Fail"), not("NotIn", "kube-public"), "", "pods"), true),
                ("Pods of one namespace", make(change, json!("Fail"), not("In", "default"), "", "pods"), false),
                ("Pods of one namespace, by its label", make(check, json!("Fail"), named("default"), "", "pods"), false),
                ("Pods of kube-system, by its label", make(check, json!("Fail"), named("kube-system"), "", "pods"), true),
                ("Pods of nameless namespaces", make(check, json!("Fail"), not("DoesNotExist", ""), "", "pods"), false),
                ("everything", make(check, json!("Fail"), json!({}), "*", "*"), true),
                ("everything elsewhere, and nodes", make(check, json!("Fail"), not("NotIn", "kube-system"), "*", "*"), true),
                ("leases", make(check, json!("Fail"), json!({}), "coordination.k8s.io", "leases"), true),
                ("Pods, if they were in no namespace", scoped("Cluster", "pods"), false),
                ("nodes, if they were in one", scoped("Namespaced", "nodes"), false),
                ("nodes", scoped("Cluster", "nodes"), true),
                ("others", make(check, json!("Fail"), json!({}), "networking.k8s.io", "ingresses"), false),
                ("of another group", of(&json!({"apiVersion": "example.org/v1", "kind": change, "metadata": {"name": "x"}})), false),
                ("what is no webhook", of(&json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "Other", "metadata": {"name": "x"}})), false),
                ("the guard's own", of(&json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": check,
                    "metadata": {"name": "selfhost-guard"}})), false),
            ],
        );
    }
}
