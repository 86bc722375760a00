//! DS-4: the DaemonSet selects its own Pods, and nobody else selects or makes such Pods.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Checked, Reach, Rule};
use crate::component::Component;
use crate::labels;
use crate::review::object::{at, list, pairs, selects, text, texts};
use crate::review::pod::{Pod, component_of, template_path};
use crate::review::{Facts, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "DS-4",
    title: "a DaemonSet selects its own Pods, and no other workload makes or selects such Pods",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "A controller adopts any Pod that its selector fits, and deletes those that are too many. Two controllers \
          with one set of labels fight over the control plane's Pods.",
    evasion: "- A template that has lost a label of the selector, or has another value: denied.\n\
              - A selector with other labels than the DaemonSet's name, or with expressions: denied.\n\
              - Another workload in `kube-system` with the same `k8s-app`, or with a selector that fits: denied, where \
              the registration sends it.\n\
              - A single Pod with the labels: PO-4.",
    blind: "",
    check,
};

fn check(request: &Request, _: &Settings, _: &Facts) -> Checked {
    let Some(path) = template_path(request).filter(|_| request.writes()) else { return Ok(Vec::new()) };
    let template = Pod(at(&request.object, path));
    let selector = at(&request.object, &["spec", "selector"]);
    let changed = request.changes(path) || request.changes(&["spec", "selector"]);
    match component_of(request) {
        Some(component) if changed => Ok(own(component, template, selector)),
        None if changed && !path.is_empty() && request.namespace() == labels::NAMESPACE => {
            Ok(foreign(template, selector))
        }
        _ => Ok(Vec::new()),
    }
}

fn own(component: Component, template: Pod<'_>, selector: &Value) -> Vec<Violation> {
    let name = component.daemonset_name();
    let wanted = BTreeMap::from([(labels::K8S_APP, name)]);
    let next = format!("keep {}={name} in the selector and in the template", labels::K8S_APP);
    let mut violations = Vec::new();
    if pairs(selector, "matchLabels") != wanted || !selector["matchExpressions"].is_null() {
        violations.push(Violation::new("spec.selector", "it is not the DaemonSet's own label", &next));
    }
    if !selects(&wanted, &template.labels()) {
        violations.push(Violation::new("spec.template.metadata.labels", "the selector does not fit", &next));
    }
    let by_tier = [(labels::COMPONENT, component.name()), (labels::TIER, labels::TIER_CONTROL_PLANE)];
    if !selects(&BTreeMap::from(by_tier), &template.labels()) {
        let next = format!(
            "keep {}={component} and {}={} in the template",
            labels::COMPONENT,
            labels::TIER,
            labels::TIER_CONTROL_PLANE
        );
        let message = "other tools, and the guard, find the control plane by them";
        violations.push(Violation::new("spec.template.metadata.labels", message, next));
    }
    violations
}

/// Another workload: no Pod of it may look like one of the control plane's, and it may select none of those.
fn foreign(template: Pod<'_>, selector: &Value) -> Vec<Violation> {
    let next = "choose other labels";
    let mut violations = Vec::new();
    if template.component().is_some() || template.bridge_of().is_some() {
        violations.push(Violation::new(
            "spec.template.metadata.labels",
            "its Pods would look like the control plane's",
            next,
        ));
    }
    let selects_ours = Component::ALL.into_iter().any(|component| {
        let own = BTreeMap::from([
            (labels::K8S_APP, component.daemonset_name()),
            (labels::COMPONENT, component.name()),
            (labels::TIER, labels::TIER_CONTROL_PLANE),
        ]);
        fits(selector, &own)
    });
    if selects_ours {
        violations.push(Violation::new("spec.selector", "it selects the control plane's Pods", next));
    }
    violations
}

/// Whether a selector fits Pods with these labels. One that says nothing fits none: such a workload is refused.
fn fits(selector: &Value, own: &BTreeMap<&str, &str>) -> bool {
    let expressions = list(selector, "matchExpressions");
    if selector["matchLabels"].is_null() && selector["matchExpressions"].is_null() {
        // A ReplicationController has the labels themselves.
        let fields = selector.as_object().into_iter().flatten();
        let wanted: BTreeMap<&str, &str> = fields.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect();
        return !wanted.is_empty() && selects(&wanted, own);
    }
    let wanted = pairs(selector, "matchLabels");
    let says_something = !wanted.is_empty() || !expressions.is_empty();
    says_something && selects(&wanted, own) && expressions.iter().all(|it| holds(it, own))
}

/// Whether an expression of a selector holds for these labels. One that is not known may.
fn holds(expression: &Value, own: &BTreeMap<&str, &str>) -> bool {
    let value = own.get(text(expression, "key"));
    let among = value.is_some_and(|value| texts(expression, "values").contains(value));
    match text(expression, "operator") {
        "In" => among,
        "NotIn" => !among,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{World, create, daemonset, table};

    #[test]
    fn labels_belong_to_one() {
        let world = World::new();
        let mut alpha = World::new();
        alpha.object_mut("DaemonSet", "kube-system/self-hosted-kube-scheduler")["spec"]["template"]["metadata"]["labels"]["tier"] =
            json!("x");
        let edit = |change: fn(&mut Value)| world.edit(Component::Scheduler, |it| change(&mut it["spec"]));
        let other = |kind: &str, namespace: &str, app: &str, selector: Value| {
            create(&json!({"apiVersion": "apps/v1", "kind": kind,
                "metadata": {"name": "x", "namespace": namespace}, "spec": {"selector": selector,
                "template": {"metadata": {"labels": {"k8s-app": app}}, "spec": {"containers": []}}}}))
        };
        let name = "self-hosted-kube-scheduler";
        let controller = |selector: Value| {
            create(&json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "x", "namespace": "kube-system"},
                "spec": {"selector": selector, "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": []}}}}))
        };
        let by = |app: &str| json!({"matchLabels": {"k8s-app": app}});
        let of = |operator: &str, tier: &str| json!({"matchExpressions": [{"key": "tier", "operator": operator, "values": [tier]}]});
        table(
            &RULE,
            &world,
            [
                ("nothing", edit(|_| {}), false),
                ("made anew", create(&daemonset(Component::Scheduler)), false),
                ("another selector", edit(|it| it["selector"]["matchLabels"] = json!({"tier": "control-plane"})), true),
                ("an expression", edit(|it| {
                    it["selector"]["matchExpressions"] = json!([{"key": "x", "operator": "Exists"}]);
                }), true),
                ("a template without the label", edit(|it| it["template"]["metadata"]["labels"]["k8s-app"] = json!("x")), true),
                ("a template without the tier", edit(|it| it["template"]["metadata"]["labels"]["tier"] = json!("x")), true),
                ("relabelled as it is", alpha.edit(Component::Scheduler, |it| it["metadata"]["labels"]["x"] = json!("y")), false),
                ("edited as it is", alpha.edit(Component::Scheduler, |it| it["spec"]["template"]["spec"]["x"] = json!("y")), true),
                ("a Deployment of its own", other("Deployment", "kube-system", "coredns", by("coredns")), false),
                ("a Deployment with the label", other("Deployment", "kube-system", name, by("x")), true),
                ("a DaemonSet that selects", other("DaemonSet", "kube-system", "x", by(name)), true),
                ("a StatefulSet that selects by tier", other("StatefulSet", "kube-system", "x",
                    json!({"matchLabels": {"tier": "control-plane"}})), true),
                ("in another namespace", other("Deployment", "default", name, by(name)), false),
                ("a DaemonSet that selects by an expression", other("DaemonSet", "kube-system", "x", of("In", "control-plane")), true),
                ("by an expression of others", other("DaemonSet", "kube-system", "x", of("In", "node")), false),
                ("by one that leaves others out", other("DaemonSet", "kube-system", "x", of("NotIn", "node")), true),
                ("by one that leaves them out", other("DaemonSet", "kube-system", "x", of("NotIn", "control-plane")), false),
                ("by a label that they have", other("DaemonSet", "kube-system", "x", of("Exists", "")), true),
                ("by a label that they lack", other("DaemonSet", "kube-system", "x", of("DoesNotExist", "")), false),
                ("by an operator that is not known", other("DaemonSet", "kube-system", "x", of("Like", "x")), true),
                ("by an expression and other labels", other("DaemonSet", "kube-system", "x", json!({"matchLabels": {"k8s-app": "coredns"},
                    "matchExpressions": [{"key": "tier", "operator": "Exists"}]})), false),
                ("by nothing", other("DaemonSet", "kube-system", "x", json!({"matchExpressions": []})), false),
                ("by a label of others that is there", other("DaemonSet", "kube-system", "x", json!({"matchExpressions": [
                    {"key": "x", "operator": "Exists"}]})), false),
                ("a ReplicationController", controller(json!({"app": "x"})), false),
                ("a ReplicationController that selects", controller(json!({"tier": "control-plane"})), true),
                ("a ReplicationController of its template", controller(json!(null)), false),
            ],
        );
    }
}
