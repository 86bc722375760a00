//! AR-6: nobody comes before the control plane at the API.

use super::{Checked, Reach, Rule};
use crate::review::object::{at, is_empty};
use crate::review::settings::Identity;
use crate::review::{Facts, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "AR-6",
    title: "the control plane's own requests keep their place at the API",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Wide,
    why: "Priority and fairness decides whose requests wait. With the shares of leader election gone a busy cluster loses its \
          controllers; a flow schema that comes first can take any request to a level without shares.",
    evasion: "- A new schema with a lower `matchingPrecedence` than the built-in ones: denied below 1000.\n\
              - A level that is there, with fewer shares: denied, more or less alike.",
    blind: "",
    check,
};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// The objects that the API server makes for the system.
pub(crate) const OWN: [&str; 16] = [
    "catch-all",
    "endpoint-controller",
    "exempt",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-system-service-accounts",
    "leader-election",
    "node-high",
    "probes",
    "system",
    "system-leader-election",
    "system-node-high",
    "system-nodes",
    "workload-high",
    "workload-leader-election",
    "workload-low",
];

/// Below this the built-in schemas are matched.
pub(crate) const FIRST: i64 = 1000;

fn check(request: &Request, settings: &Settings, _: &Facts) -> Checked {
    let is_schema = request.is(GROUP, "flowschemas");
    if !(is_schema || request.is(GROUP, "prioritylevelconfigurations")) || settings.is(&request.user, Identity::ApiServer) {
        return Ok(Vec::new());
    }
    let changed = request.operation == Operation::Delete || request.changes(&["spec"]);
    if OWN.contains(&request.name()) && changed && request.operation != Operation::Create {
        let message = format!("{} is where the control plane's own requests wait", request.name());
        return Ok(vec![Violation::new("spec", message, "make a schema and a level of your own")]);
    }
    let precedence = at(&request.object, &["spec", "matchingPrecedence"]);
    if is_schema && changed && !is_empty(precedence) && precedence.as_i64().is_none_or(|it| it < FIRST) {
        let message = "it would be matched before the control plane's own";
        let next = format!("set matchingPrecedence to {FIRST} or more");
        return Ok(vec![Violation::new("spec.matchingPrecedence", message, next)]);
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{World, create, table};

    #[test]
    fn nobody_comes_first() {
        let api = "flowcontrol.apiserver.k8s.io/v1";
        let mut world = World::new();
        world.objects.push(json!({"apiVersion": api, "kind": "PriorityLevelConfiguration",
            "metadata": {"name": "leader-election"}, "spec": {"limited": {"nominalConcurrencyShares": 10}}}));
        let schema = |precedence: i64| {
            create(&json!({"apiVersion": api, "kind": "FlowSchema", "metadata": {"name": "x"},
                "spec": {"matchingPrecedence": precedence}}))
        };
        let key = "leader-election";
        let kind = "PriorityLevelConfiguration";
        let starve = || world.update(kind, key, |it| it["spec"]["limited"]["nominalConcurrencyShares"] = json!(0));
        let mut own = starve();
        own["userInfo"]["username"] = json!("system:apiserver");
        table(
            &RULE,
            &world,
            [
                ("behind", schema(1000), false),
                ("before", schema(999), true),
                ("first of all", schema(1), true),
                ("no shares", starve(), true),
                ("no shares, by the API server", own, false),
                ("labelled", world.update(kind, key, |it| it["metadata"]["labels"] = json!({"x": "y"})), false),
                ("deleted", world.delete(api, kind, key), true),
            ],
        );
    }
}
