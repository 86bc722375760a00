//! DS-1: a DaemonSet of the control plane is deleted only where it runs nowhere.

use super::{Checked, Reach, Rule};
use crate::review::facts::Lookup;
use crate::review::object::text;
use crate::review::pod::component_of;
use crate::review::{Facts, Object, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "DS-1",
    title: "a DaemonSet of the control plane is deleted only where it runs nowhere",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Named,
    why: "Deleting one takes its component away from every node at once. `kubectl selfhost unpivot` deletes it when no \
          node carries the component's label any more, which is the one case that is safe.",
    evasion: "- `deletecollection` and `kubectl delete --all`: each object has a review of its own, which names no \
              object; the name is read from `oldObject`.\n\
              - `--cascade=orphan`: the Pods would stay until their node restarts and then be gone; denied alike.\n\
              - As the garbage collector, through an owner reference: denied alike, and DS-3 denies the reference.\n\
              - An object that is already being deleted: judged like any other.",
    blind: "A DaemonSet that is removed from etcd by hand.",
    check,
};

fn check(request: &Request, _: &Settings, facts: &Facts) -> Checked {
    let Some(component) = component_of(request) else { return Ok(Vec::new()) };
    if request.operation != Operation::Delete || !request.sub_resource().is_empty() {
        return Ok(Vec::new());
    }
    let nodes = facts.items(&Lookup::nodes_of(component))?;
    if nodes.is_empty() {
        return Ok(Vec::new());
    }
    let orphans = text(&request.options, "propagationPolicy") == "Orphan";
    let names: Vec<&str> = nodes.iter().map(|node| Object(node).name_of()).collect();
    let message = if orphans {
        format!("{component} on {} would not come back after a restart", names.join(", "))
    } else {
        format!("{component} runs on {}", names.join(", "))
    };
    Ok(vec![Violation::new("", message, "kubectl selfhost unpivot goes back to static Pods without a gap")])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::component::Component;
    use crate::rules::testing::{World, table};

    #[test]
    fn it_is_deleted_where_it_runs_nowhere() {
        let world = World::new();
        let delete = |change: fn(&mut serde_json::Value)| {
            let mut request = world.delete("apps/v1", "DaemonSet", "kube-system/self-hosted-kube-apiserver");
            change(&mut request);
            request
        };
        table(
            &RULE,
            &world,
            [
                ("edited", world.edit(Component::ApiServer, |it| it["metadata"]["labels"]["x"] = json!("y")), false),
                ("by name", delete(|_| {}), true),
                ("of a collection", delete(|it| it["name"] = json!(null)), true),
                ("by the garbage collector", delete(|it| {
                    it["userInfo"]["username"] =
                        json!("system:serviceaccount:kube-system:generic-garbage-collector");
                }), true),
                ("orphaning", delete(|it| it["options"] = json!({"propagationPolicy": "Orphan"})), true),
                ("tried only", delete(|it| it["dryRun"] = json!(true)), true),
                ("of an old API group", delete(|it| it["resource"]["group"] = json!("extensions")), true),
                ("ending already", delete(|it| {
                    it["oldObject"]["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                }), true),
                ("another namespace", delete(|it| {
                    it["namespace"] = json!("default");
                    it["oldObject"]["metadata"]["namespace"] = json!("default");
                }), false),
                ("another name", delete(|it| {
                    it["name"] = json!("kube-proxy");
                    it["oldObject"]["metadata"]["name"] = json!("kube-proxy");
                }), false),
            ],
        );
        let orphaning = delete(|it| it["options"] = json!({"propagationPolicy": "Orphan"}));
        for (request, message) in [(delete(|_| {}), "runs on cp1"), (orphaning, "would not come back")] {
            assert!(world.verdict(&request).message().contains(message), "{message}");
        }
        let mut unpivoted = World::new();
        unpivoted.forget_labels(Component::ApiServer);
        table(&RULE, &unpivoted, [("no node has the label", delete(|_| {}), false)]);
    }
}
