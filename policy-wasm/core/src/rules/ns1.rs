//! NS-1: the namespaces of the control plane and of the guard stay what they are.

use super::{Checked, Reach, Rule};
use crate::review::settings::Identity;
use crate::review::{Facts, Object, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "NS-1",
    title: "the namespaces of the control plane and of the guard are not deleted, relabelled or finalized",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "With a namespace goes all that is in it, the guard too. Its labels decide which Pods are let in (Pod Security) \
          and which webhooks look at it.",
    evasion: "- `namespaces/finalize`, which skips the orderly end: left to the namespace controller.\n\
              - `enforce=restricted`, which would refuse the next control-plane Pod: denied; `privileged` is what they need.\n\
              - A label more is admitted, unless it is Pod Security's.",
    blind: "Which labels other webhooks select on.",
    check,
};

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

fn check(request: &Request, settings: &Settings, _: &Facts) -> Checked {
    if !request.is_any("", "namespaces") || !settings.is_guarded_namespace(request.name()) {
        return Ok(Vec::new());
    }
    let mut violations = Vec::new();
    match (request.operation, request.sub_resource()) {
        (Operation::Delete, _) => {
            let message = "all that is in it would be deleted";
            violations.push(Violation::new("", message, "delete what you mean by name"));
        }
        (_, "finalize") if !settings.is(&request.user, Identity::NamespaceController) => {
            violations.push(Violation::new("", "only the namespace controller ends a namespace", "leave it to it"));
        }
        (Operation::Update, _) => {
            let after = request.new_object().map(Object::labels).unwrap_or_default();
            let before = request.old().map(Object::labels).unwrap_or_default();
            for (name, value) in &before {
                let is_loosened = *name == ENFORCE && matches!(after.get(name), None | Some(&"privileged"));
                if after.get(name) != Some(value) && !is_loosened {
                    let message = format!("{name} decides what happens in the namespace");
                    violations.push(Violation::new("metadata.labels", message, "keep it"));
                }
            }
            let enforced = after.get(ENFORCE).filter(|level| **level != "privileged");
            if enforced.is_some() && !before.contains_key(ENFORCE) {
                let message = "the next control-plane Pod would be refused";
                violations.push(Violation::new("metadata.labels", message, format!("set {ENFORCE}=privileged")));
            }
        }
        _ => {}
    }
    Ok(violations)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::testing::{World, table};

    #[test]
    fn namespaces_stay() {
        let mut world = World::new();
        for name in ["kube-system", "selfhost-guard", "default"] {
            world.objects.push(json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name, "team": "x"}}}));
        }
        let edit = |change: fn(&mut Value)| {
            world.update("Namespace", "kube-system", |it| change(&mut it["metadata"]["labels"]))
        };
        let finalize = |user: &str| {
            let mut request = world.update("Namespace", "selfhost-guard", |it| it["spec"] = json!({"finalizers": []}));
            request["subResource"] = json!("finalize");
            request["userInfo"]["username"] = json!(user);
            request
        };
        table(
            &RULE,
            &world,
            [
                ("deleted", world.delete("v1", "Namespace", "kube-system"), true),
                ("the guard's deleted", world.delete("v1", "Namespace", "selfhost-guard"), true),
                ("another deleted", world.delete("v1", "Namespace", "default"), false),
                ("a label more", edit(|it| it["x"] = json!("y")), false),
                ("a label less", edit(|it| drop(it.as_object_mut().unwrap().remove("team"))), true),
                ("another name", edit(|it| it["kubernetes.io/metadata.name"] = json!("x")), true),
                ("restricted", edit(|it| it[ENFORCE] = json!("restricted")), true),
                ("privileged", edit(|it| it[ENFORCE] = json!("privileged")), false),
                ("finalized by its controller", finalize("system:serviceaccount:kube-system:namespace-controller"), false),
                ("finalized by somebody", finalize("ann"), true),
            ],
        );
    }
}
