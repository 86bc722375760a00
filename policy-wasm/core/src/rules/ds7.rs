//! DS-7: the DaemonSet runs where its nodes carry its label, on all of those, and nowhere else.

use std::collections::BTreeMap;

use super::{Checked, Reach, Rule};
use crate::labels;
use crate::review::object::{is_empty, list, text};
use crate::review::record::Edit;
use crate::review::{Facts, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "DS-7",
    title: "a DaemonSet runs on all nodes that carry its label, and on no other",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "A selector that fits no node takes the component away from all of them, which has cost a large site five \
          hours; one that fits workers puts the control plane's keys on them.",
    evasion: "- `nodeSelector`, `affinity`, `nodeName`, a toleration less, another scheduler, a runtime class that the \
              node lacks: each denied.\n\
              - By the labels of the nodes instead: NODE-1 and NODE-2.",
    blind: "",
    check,
};

fn check(request: &Request, _: &Settings, facts: &Facts) -> Checked {
    let Some(edit) = Edit::of_template(request, facts)? else { return Ok(Vec::new()) };
    let label = labels::node_label(edit.component);
    let spec = edit.new.spec();
    let mut violations = Vec::new();
    let mut violation = |field: &str, message: String, next: String| {
        violations.push(Violation::new(format!("spec.template.spec.{field}"), message, next));
    };
    if edit.new.node_selector() != BTreeMap::from([(label, "true")]) {
        let message = "it decides on which nodes the component runs";
        violation("nodeSelector", message.to_owned(), format!("keep it at {label}: \"true\", and label nodes"));
    }
    for field in ["affinity", "nodeName", "runtimeClassName", "topologySpreadConstraints"] {
        if !is_empty(&spec[field]) {
            violation(field, "it keeps Pods from nodes that carry the label".into(), "remove it".into());
        }
    }
    let scheduler = text(spec, "schedulerName");
    if !matches!(scheduler, "" | "default-scheduler") {
        let message = format!("{scheduler:?} must be there before the control plane is");
        violation("schedulerName", message, "remove it".into());
    }
    let everywhere = list(spec, "tolerations").iter().any(|toleration| {
        text(toleration, "operator") == "Exists"
            && text(toleration, "key").is_empty()
            && text(toleration, "effect").is_empty()
            && toleration["tolerationSeconds"].is_null()
    });
    if !everywhere {
        let message = "a taint would take the component from its node";
        violation("tolerations", message.to_owned(), "keep {operator: Exists} among them".into());
    }
    Ok(violations)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::component::Component;
    use crate::rules::testing::{World, create, daemonset, table};

    #[test]
    fn it_stays_on_its_nodes() {
        let world = World::new();
        let edit = |change: fn(&mut Value)| {
            world.edit(Component::ApiServer, |it| change(&mut it["spec"]["template"]["spec"]))
        };
        let mut kubeadm = World::new();
        kubeadm.object_mut("DaemonSet", "kube-system/self-hosted-kube-apiserver")["spec"]["template"]["spec"]
            ["nodeSelector"] = json!({"node-role.kubernetes.io/master": ""});
        table(
            &RULE,
            &world,
            [
                ("made", create(&daemonset(Component::ApiServer)), false),
                ("a flag", world.edit_container(Component::ApiServer, |it| {
                    it["command"].as_array_mut().unwrap().push(json!("--v=2"));
                }), false),
                ("no selector", edit(|it| it["nodeSelector"] = json!(null)), true),
                ("another value", edit(|it| it["nodeSelector"] = json!({"kubectl-selfhost.dev/kube-apiserver": "yes"})), true),
                ("one label more", edit(|it| it["nodeSelector"]["zone"] = json!("a")), true),
                ("another component's", edit(|it| it["nodeSelector"] = json!({"kubectl-selfhost.dev/kube-scheduler": "true"})), true),
                ("affinity", edit(|it| it["affinity"] = json!({"nodeAffinity": {}})), true),
                ("an empty affinity", edit(|it| it["affinity"] = json!({})), false),
                ("a node", edit(|it| it["nodeName"] = json!("cp1")), true),
                ("a scheduler", edit(|it| it["schedulerName"] = json!("mine")), true),
                ("a runtime class", edit(|it| it["runtimeClassName"] = json!("kata")), true),
                ("no toleration", edit(|it| it["tolerations"] = json!([])), true),
                ("some tolerations", edit(|it| it["tolerations"] = json!([{"operator": "Exists", "effect": "NoExecute"}])), true),
                ("for a while", edit(|it| it["tolerations"] = json!([{"operator": "Exists", "tolerationSeconds": 9}])), true),
                ("one more", edit(|it| it["tolerations"].as_array_mut().unwrap().push(json!({"key": "x"}))), false),
                ("adopted as it is", kubeadm.edit(Component::ApiServer, |it| it["spec"]["minReadySeconds"] = json!(1)), false),
            ],
        );
    }
}
