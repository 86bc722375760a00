//! AR-5: no custom kind takes the API's names, or asks the guard to convert it.

use super::{Checked, Reach, Rule};
use crate::review::object::{at, text};
use crate::review::{Facts, Object, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "AR-5",
    title: "no custom resource takes a name of the API's, or is converted in the guard's namespace",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Wide,
    why: "A custom kind in `*.k8s.io` may stand where a built-in one comes with the next version; the API server asks for an \
          annotation on such kinds, which anybody can write. A conversion is a request that the API server makes to whoever \
          is named.",
    evasion: "- The annotation with `unapproved`: denied; with an address in one of the project's own \
              repositories, of kubernetes, kubernetes-sigs or kubernetes-csi, admitted.",
    blind: "",
    check,
};

const ANNOTATION: &str = "api-approved.kubernetes.io";

fn check(request: &Request, settings: &Settings, _: &Facts) -> Checked {
    if !request.is("apiextensions.k8s.io", "customresourcedefinitions") || !request.writes() || !request.changes(&["spec"]) {
        return Ok(Vec::new());
    }
    let spec = &request.object["spec"];
    let group = text(spec, "group");
    let mut violations = Vec::new();
    let is_reserved = ["k8s.io", "kubernetes.io"].iter().any(|it| {
        group == *it || group.strip_suffix(it).is_some_and(|rest| rest.ends_with('.'))
    });
    let approved = request.new_object().map(Object::annotations).unwrap_or_default();
    let approved = approved.get(ANNOTATION).is_some_and(|it| is_of_project(it));
    if is_reserved && !approved {
        let message = format!("the group {group:?} is Kubernetes' own");
        violations.push(Violation::new("spec.group", message, "choose a group of your own"));
    }
    let converts = at(spec, &["conversion", "webhook", "clientConfig", "service", "namespace"]).as_str();
    if converts == Some(settings.guard.namespace.as_str()) {
        let message = "the API server would ask the guard to convert it";
        violations.push(Violation::new("spec.conversion", message, "name a Service of your own"));
    }
    Ok(violations)
}

/// Whether an address is one of the project's own repositories.
fn is_of_project(address: &str) -> bool {
    let path = address.strip_prefix("https://github.com/").unwrap_or_default();
    let owner = path.split_once('/').map(|(owner, _)| owner);
    matches!(owner, Some("kubernetes" | "kubernetes-csi" | "kubernetes-sigs"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::testing::{World, create, table};

    #[test]
    fn names_are_ones_own() {
        let make = |group: &str, approved: Value, namespace: &str| {
            create(&json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": "x", "annotations": {ANNOTATION: approved}}, "spec": {"group": group,
                "conversion": {"webhook": {"clientConfig": {"service": {"namespace": namespace}}}}}}))
        };
        let pull = || json!("https://github.com/kubernetes/enhancements/pull/1111");
        let mut world = World::new();
        world.objects.push(make("apps.k8s.io", json!("unapproved, x"), "default")["object"].clone());
        let relabelled = world.update("CustomResourceDefinition", "x", |it| it["metadata"]["labels"] = json!({"a": "b"}));
        table(
            &RULE,
            &world,
            [
                ("one's own", make("example.org", json!("x"), "default"), false),
                ("Kubernetes' own", make("apps.k8s.io", json!("unapproved, x"), "default"), true),
                ("Kubernetes' own, longer", make("a.b.kubernetes.io", json!("x"), "default"), true),
                ("one that ends alike", make("notk8s.io", json!("x"), "default"), false),
                ("approved", make("gateway.networking.k8s.io", pull(), "default"), false),
                ("approved by a SIG", make("gateway.networking.k8s.io", json!("https://github.com/kubernetes-sigs/gateway-api/pull/1"), "default"), false),
                ("approved by others", make("gateway.networking.k8s.io", json!("https://github.com/kubernetes-evil/x/pull/1"), "default"), true),
                ("approved by an owner alone", make("gateway.networking.k8s.io", json!("https://github.com/kubernetes"), "default"), true),
                ("converted by the guard", make("example.org", json!("x"), "selfhost-guard"), true),
                ("relabelled as it is", relabelled, false),
                ("another kind with a group", create(&json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                    "metadata": {"name": "x"}, "spec": {"group": "metrics.k8s.io"}})), false),
            ],
        );
    }
}
