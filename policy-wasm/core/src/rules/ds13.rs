//! DS-13: one thing at a time.

use super::{Checked, Reach, Rule};
use crate::component::Component;
use crate::review::facts::Lookup;
use crate::review::object::at;
use crate::review::record::Edit;
use crate::review::{Facts, Object, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "DS-13",
    title: "a DaemonSet is edited while the others have settled and every control-plane node is ready",
    severity: Severity::Warn,
    fixed: false,
    reach: Reach::Named,
    why: "What fails while two things change is hard to tell apart, and harder to take back. It is a warning: with \
          `OnDelete` an edit alone replaces nothing (DS-5), and the edit may be the repair.",
    evasion: "- The edited DaemonSet's own state does not count, so that a bad edit can be taken back.",
    blind: "Whether etcd has a quorum: its members are no objects. The API server's own readiness, without which no \
            review gets here, says that it has. Status lags behind by seconds.",
    check,
};

fn check(request: &Request, _: &Settings, facts: &Facts) -> Checked {
    let Some(edit) = Edit::of_template(request, facts)? else { return Ok(Vec::new()) };
    let mut violations = Vec::new();
    for component in Component::ALL.into_iter().filter(|other| *other != edit.component) {
        let Some(other) = facts.object(&Lookup::daemonset(component))? else { continue };
        let number = |name: &str| at(other, &["status", name]).as_i64().unwrap_or_default();
        let wanted = number("desiredNumberScheduled");
        let settled = at(other, &["status", "observedGeneration"]) == at(other, &["metadata", "generation"])
            && number("updatedNumberScheduled") == wanted
            && number("numberReady") == wanted;
        if !settled {
            violations.push(Violation::new(
                "",
                format!("{} has not settled", component.daemonset_name()),
                "wait for it, or finish what is open: kubectl selfhost status",
            ));
        }
    }
    for node in facts.items(&Lookup::control_plane())?.iter().map(Object).filter(|node| !node.is_ready()) {
        let next = "bring the node back first";
        violations.push(Violation::new("", format!("node {} is not ready", node.name_of()), next));
    }
    Ok(violations)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{World, table};

    #[test]
    fn one_thing_at_a_time() {
        let edit = |world: &World| {
            world.edit_container(Component::ControllerManager, |it| {
                it["command"].as_array_mut().unwrap().push(json!("--v=2"));
            })
        };
        let settled = World::new();
        let mut rolling = World::new();
        rolling.object_mut("DaemonSet", "kube-system/self-hosted-kube-apiserver")["status"]["updatedNumberScheduled"] =
            json!(1);
        let mut unseen = World::new();
        unseen.object_mut("DaemonSet", "kube-system/self-hosted-kube-scheduler")["metadata"]["generation"] = json!(3);
        let mut own = World::new();
        own.object_mut("DaemonSet", "kube-system/self-hosted-kube-controller-manager")["status"]["numberReady"] = json!(0);
        let mut down = World::new();
        down.object_mut("Node", "cp2")["status"]["conditions"][0]["status"] = json!("Unknown");
        for (name, world, expected) in [
            ("settled", settled, false),
            ("another one rolls", rolling, true),
            ("another one is not seen yet", unseen, true),
            ("it is broken itself", own, false),
            ("a node is down", down, true),
        ] {
            let request = edit(&world);
            assert!(world.verdict(&request).allowed, "{name}: a warning stops nothing");
            table(&RULE, &world, [(name, request, expected)]);
        }
    }
}
