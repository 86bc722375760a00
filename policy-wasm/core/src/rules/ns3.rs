//! NS-3: the priority classes that the control plane has stay.

use super::{Checked, Reach, Rule};
use crate::review::object::text;
use crate::review::usage::templates;
use crate::review::{Facts, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "NS-3",
    title: "a priority class that the control plane has is not deleted",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Wide,
    why: "A Pod whose class does not exist is refused. The API server protects its own two classes; a control plane with \
          another one has nobody for that.",
    evasion: "",
    blind: "",
    check,
};

fn check(request: &Request, _: &Settings, facts: &Facts) -> Checked {
    if !request.is("scheduling.k8s.io", "priorityclasses") || request.operation != Operation::Delete {
        return Ok(Vec::new());
    }
    let name = request.name();
    let used = templates(facts)?.into_iter().find(|(_, it)| text(&it["spec"], "priorityClassName") == name);
    let violation = used.map(|(component, _)| {
        Violation::new("", format!("{} has it", component.daemonset_name()), "give the DaemonSet another class first")
    });
    Ok(violation.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{World, create, review, table};

    #[test]
    fn classes_stay() {
        let class = |name: &str| {
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}})
        };
        let delete = |name: &str| review("DELETE", "scheduling.k8s.io/v1", "PriorityClass", None, Some(&class(name)));
        table(
            &RULE,
            &World::new(),
            [
                ("one that is used", delete("system-node-critical"), true),
                ("one that is used, made again", create(&class("system-node-critical")), false),
                ("another", delete("low"), false),
            ],
        );
    }
}
