//! NS-2: nothing starves the control plane's or the guard's namespace.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Checked, Reach, Rule};
use crate::component::Component;
use crate::labels;
use crate::review::object::{is_empty, list, pairs, selects, text, texts};
use crate::review::{Facts, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "NS-2",
    title: "no quota, limit or network policy starves the control plane or the guard",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Wide,
    why: "A quota in `kube-system` refuses the next control-plane Pod as well as anybody else's; a limit range gives it a \
          memory limit by which the kernel kills it.",
    evasion: "- A quota for other priority classes alone is admitted: one that excludes `system-node-critical`.\n\
              - A quota that is raised, and one that is there: judged by what it becomes.",
    blind: "Network policies do not reach Pods on the host's network, which the control plane and the guard use; some \
            network plugins have kinds of their own that do.",
    check,
};

fn check(request: &Request, settings: &Settings, _: &Facts) -> Checked {
    if !request.writes() || !settings.is_guarded_namespace(request.namespace()) || !request.changes(&["spec"]) {
        return Ok(Vec::new());
    }
    let spec = &request.object["spec"];
    let message = match (request.resource.group.as_str(), request.resource.resource.as_str()) {
        ("", "resourcequotas") if !spares_critical(spec) => "it would refuse control-plane Pods",
        ("", "limitranges") if limits(spec) => "it would limit control-plane Pods",
        ("networking.k8s.io", "networkpolicies") if selects_ours(&spec["podSelector"], request, settings) => {
            "it would cut the guard or the control plane off"
        }
        ("policy", "poddisruptionbudgets") if selects_ours(&spec["selector"], request, settings) => {
            "nothing evicts these Pods but what must"
        }
        _ => return Ok(Vec::new()),
    };
    Ok(vec![Violation::new("spec", message, "limit it to other priority classes, or to other Pods")])
}

/// Whether the quota does not count Pods of the class that the control plane has.
fn spares_critical(spec: &Value) -> bool {
    list(&spec["scopeSelector"], "matchExpressions").iter().any(|it| {
        let values = texts(it, "values");
        text(it, "scopeName") == "PriorityClass"
            && match text(it, "operator") {
                "In" => !values.contains(&"system-node-critical"),
                "NotIn" => values.contains(&"system-node-critical"),
                "DoesNotExist" => true,
                _ => false,
            }
    })
}

fn limits(spec: &Value) -> bool {
    list(spec, "limits").iter().any(|limit| {
        matches!(text(limit, "type"), "Container" | "Pod")
            && ["max", "min", "default", "maxLimitRequestRatio"].iter().any(|field| !is_empty(&limit[*field]))
    })
}

/// Whether a selector may select the guard's or the control plane's Pods.
fn selects_ours(selector: &Value, request: &Request, settings: &Settings) -> bool {
    if request.namespace() == settings.guard.namespace || !is_empty(&selector["matchExpressions"]) {
        return true;
    }
    let wanted = pairs(selector, "matchLabels");
    Component::ALL.into_iter().any(|component| {
        let own = BTreeMap::from([
            (labels::K8S_APP, component.daemonset_name()),
            (labels::COMPONENT, component.name()),
            (labels::TIER, labels::TIER_CONTROL_PLANE),
        ]);
        selects(&wanted, &own)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{World, create, table};

    #[test]
    fn nothing_starves_it() {
        let make = |api: &str, kind: &str, namespace: &str, spec: Value| {
            create(&json!({"apiVersion": api, "kind": kind, "metadata": {"name": "x", "namespace": namespace}, "spec": spec}))
        };
        let quota = |namespace: &str, scope: Value| {
            make("v1", "ResourceQuota", namespace, json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": scope}}))
        };
        let class = |operator: &str, class: &str| json!([{"scopeName": "PriorityClass", "operator": operator, "values": [class]}]);
        let policy = |namespace: &str, selector: Value| {
            make("networking.k8s.io/v1", "NetworkPolicy", namespace, json!({"podSelector": selector}))
        };
        let budget = |selector: Value| {
            make("policy/v1", "PodDisruptionBudget", "kube-system", json!({"maxUnavailable": 0, "selector": selector}))
        };
        let mut world = World::new();
        world.objects.push(json!({"apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"name": "q", "namespace": "kube-system"}, "spec": {"hard": {"pods": "1"}}}));
        table(
            &RULE,
            &world,
            [
                ("a quota", quota("kube-system", json!([])), true),
                ("a quota elsewhere", quota("default", json!([])), false),
                ("a quota of the guard's", quota("selfhost-guard", json!([])), true),
                ("a quota of others", quota("kube-system", class("In", "low")), false),
                ("a quota of critical ones", quota("kube-system", class("In", "system-node-critical")), true),
                ("a quota of all but critical ones", quota("kube-system", class("NotIn", "system-node-critical")), false),
                ("a quota of those without a class", quota("kube-system", class("DoesNotExist", "")), false),
                ("a quota relabelled", world.update("ResourceQuota", "kube-system/q", |it| it["metadata"]["labels"] = json!({})), false),
                ("a limit", make("v1", "LimitRange", "kube-system", json!({"limits": [{"type": "Container",
                    "default": {"memory": "1Mi"}}]})), true),
                ("a limit of nothing", make("v1", "LimitRange", "kube-system", json!({"limits": [{"type": "Pod", "max": {}}]})), false),
                ("a limit of claims", make("v1", "LimitRange", "kube-system", json!({"limits": [{"type": "PersistentVolumeClaim",
                    "max": {"storage": "1Gi"}}]})), false),
                ("a policy for all", policy("kube-system", json!({})), true),
                ("a policy for others", policy("kube-system", json!({"matchLabels": {"k8s-app": "coredns"}})), false),
                ("a policy for the guard", policy("selfhost-guard", json!({"matchLabels": {"x": "y"}})), true),
                ("a budget for all", budget(json!({})), true),
                ("a budget for others", budget(json!({"matchLabels": {"k8s-app": "coredns"}})), false),
            ],
        );
    }
}
