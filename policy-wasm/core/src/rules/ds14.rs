//! DS-14: there is a way back before the API server changes.

use super::{Checked, Reach, Rule};
use crate::component::Component;
use crate::labels;
use crate::review::facts::Lookup;
use crate::review::pod::Pod;
use crate::review::record::Edit;
use crate::review::{Facts, Object, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "DS-14",
    title: "an API server is edited while each of its nodes has a standby",
    severity: Severity::Warn,
    fixed: false,
    reach: Reach::Named,
    why: "The standby is what brings an API server back when nobody is left to ask. It holds what has served last, so \
          that a bad edit can be outlived.",
    evasion: "- A Pod that only looks like a standby: it must be the mirror of a static Pod, on the node.",
    blind: "Whether there is a snapshot of etcd, and whether a standby's files are whole: \
            `kubectl selfhost status` checks the latter (SH0111, SH0116).",
    check,
};

fn check(request: &Request, _: &Settings, facts: &Facts) -> Checked {
    let edit = Edit::of_template(request, facts)?.filter(|edit| edit.component == Component::ApiServer);
    if edit.is_none() || request.operation != Operation::Update {
        return Ok(Vec::new());
    }
    let nodes = facts.items(&Lookup::nodes_of(Component::ApiServer))?;
    let pods = facts.items(&Lookup::control_plane_pods())?;
    let standbys: Vec<&str> = pods
        .iter()
        .map(Pod)
        .filter(|pod| pod.is_mirror() && pod.labels().get(labels::COMPONENT) == Some(&labels::STANDBY))
        .map(Pod::node)
        .collect();
    let without = nodes.iter().map(|node| Object(node).name_of()).filter(|name| !standbys.contains(name));
    let violations = without.map(|name| {
        let message = format!("nothing would start an API server on {name} after a power cut");
        Violation::new("", message, "kubectl selfhost checkpoint writes the standby")
    });
    Ok(violations.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{World, table};

    #[test]
    fn each_node_has_a_standby() {
        let edit = |world: &World, component| {
            world.edit_container(component, |it| it["command"].as_array_mut().unwrap().push(json!("--v=2")))
        };
        let whole = World::new();
        let mut lost = World::new();
        lost.remove("Pod", "kube-system/control-plane-standby-a-cp2");
        let mut fake = lost.clone();
        fake.objects.push(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x",
            "namespace": "kube-system", "labels": {"component": "control-plane-standby", "tier": "control-plane"}},
            "spec": {"nodeName": "cp2", "containers": []}}));
        table(&RULE, &whole, [("all have", edit(&whole, Component::ApiServer), false)]);
        table(
            &RULE,
            &lost,
            [
                ("one has none", edit(&lost, Component::ApiServer), true),
                ("of a scheduler", edit(&lost, Component::Scheduler), false),
            ],
        );
        table(&RULE, &fake, [("one has a fake", edit(&fake, Component::ApiServer), true)]);
    }
}
