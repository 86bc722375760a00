//! DS-15: a DaemonSet that is made is compared with what serves.

use super::{Checked, Reach, Rule};
use crate::review::record::Edit;
use crate::review::{Facts, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "DS-15",
    title: "a DaemonSet is made from what serves",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Named,
    why: "Deleting and creating is an edit in two requests, of which neither shows what changed. A creation is \
          compared with the component's Pods that run, static or not, and else with the templates in the standbys: \
          every rule for edits then holds for it.",
    evasion: "- Delete, then create something else: compared with what still runs.\n\
              - A Pod made to be compared with: PO-4 leaves such Pods to the DaemonSet controller and the kubelets.",
    blind: "What was there before, where neither a Pod nor a standby is left.",
    check,
};

fn check(request: &Request, _: &Settings, facts: &Facts) -> Checked {
    let Some(edit) = Edit::of(request, facts)? else { return Ok(Vec::new()) };
    if request.operation != Operation::Create || edit.old.is_some() {
        return Ok(Vec::new());
    }
    let component = edit.component;
    Ok(vec![Violation::new(
        "",
        format!("no {component} runs, and no standby has its template, so that there is nothing to compare with"),
        "kubectl selfhost pivot makes the DaemonSet from the static Pods",
    )])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::component::Component;
    use crate::rules::testing::{World, create, daemonset, table};

    #[test]
    fn there_is_something_to_compare_with() {
        let made = create(&daemonset(Component::Scheduler));
        let running = World::new();
        let mut standby = World::new();
        for index in 1..=3 {
            standby.remove("Pod", &format!("kube-system/self-hosted-kube-scheduler-abcd{index}"));
        }
        let mut nothing = standby.clone();
        for index in 1..=3 {
            nothing.remove("Pod", &format!("kube-system/control-plane-standby-a-cp{index}"));
        }
        table(&RULE, &running, [("what runs", made.clone(), false)]);
        table(&RULE, &standby, [("a standby", made.clone(), false)]);
        table(&RULE, &nothing, [("nothing", made, true)]);
        // What is compared with counts.
        let mut other = daemonset(Component::Scheduler);
        other["spec"]["template"]["spec"]["containers"][0]["command"]
            .as_array_mut()
            .unwrap()
            .push(json!("--secure-port=1"));
        for world in [&running, &standby] {
            let verdict = world.verdict(&create(&other));
            assert!(verdict.violations.iter().any(|it| it.rule == "DS-8"), "{verdict:#?}");
        }
    }
}
