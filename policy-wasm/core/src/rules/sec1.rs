//! SEC-1: what the control plane mounts stays there.

use super::{Checked, Reach, Rule};
use crate::review::object::{flag, names, text};
use crate::review::usage::{Store, guarded_store};
use crate::review::{Facts, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "SEC-1",
    title: "a Secret that the control plane mounts is not deleted, emptied, retyped or frozen",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "A running Pod does not notice that its Secret is gone; the next one does not start. Which Secrets these are \
          is read from the templates that mount them, so that no list can be out of date.",
    evasion: "- `deletecollection`, the garbage collector, the namespace controller: judged by the object, whoever asks.\n\
              - Key by key, or by another type: denied. `immutable: true` would end every rotation: denied.\n\
              - Delete and create: the deletion is denied.",
    blind: "Reads. Nothing that is read is admitted: `get`, `list` and `watch` of Secrets are for RBAC, \
            and `kubectl selfhost audit` to show.",
    check,
};

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    lost(Store::Secret, request, settings, facts)
}

/// What SEC-1 and CM-1 have in common.
pub(super) fn lost(store: Store, request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    if request.operation == Operation::Create || Store::of(request) != Some(store) {
        return Ok(Vec::new());
    }
    if guarded_store(request, settings, facts)?.is_none() {
        return Ok(Vec::new());
    }
    let kind = store.kind();
    if request.operation == Operation::Delete {
        let next = "mount another one first, on every node, and let the old Pods go";
        return Ok(vec![Violation::new("", format!("the control plane mounts this {kind}"), next)]);
    }
    let (new, old) = (&request.object, &request.old_object);
    let mut violations = Vec::new();
    if text(new, "type") != text(old, "type") {
        violations.push(Violation::new("type", "it is not what it was", "keep it, or create another Secret"));
    }
    let keys = |value| names(value, "data").into_iter().chain(names(value, "binaryData")).collect::<Vec<_>>();
    let left = keys(new);
    for key in keys(old).into_iter().filter(|key| !left.contains(key)) {
        let next = "keep the key until nothing mounts it any more";
        violations.push(Violation::new(format!("data[{key}]"), "the key is lost", next));
    }
    if flag(new, "immutable") && !flag(old, "immutable") {
        violations.push(Violation::new("immutable", "it could never be rotated", "leave it out"));
    }
    Ok(violations)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::testing::{World, create, secrets, table};

    #[test]
    fn what_is_mounted_stays() {
        let world = secrets();
        let edit = |change: fn(&mut Value)| world.update("Secret", "kube-system/apiserver", change);
        let delete = |change: fn(&mut Value)| {
            let mut request = world.delete("v1", "Secret", "kube-system/apiserver");
            change(&mut request);
            request
        };
        let mut listed = World::new();
        listed.settings.secrets.insert("vault/root".into());
        listed.objects.push(json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "root", "namespace": "vault"}}));
        table(
            &RULE,
            &world,
            [
                ("made", create(world.object("Secret", "kube-system/apiserver")), false),
                ("relabelled", edit(|it| it["metadata"]["labels"] = json!({"x": "y"})), false),
                ("deleted", delete(|_| {}), true),
                ("deleted with all others", delete(|it| it["name"] = json!("")), true),
                ("deleted by the namespace controller", delete(|it| {
                    it["userInfo"]["username"] = json!("system:serviceaccount:kube-system:namespace-controller");
                }), true),
                ("of another namespace", delete(|it| {
                    it["namespace"] = json!("default");
                    it["oldObject"]["metadata"]["namespace"] = json!("default");
                }), false),
                ("a key less", edit(|it| drop(it["data"].as_object_mut().unwrap().remove("tls.key"))), true),
                ("a key more", edit(|it| it["data"]["x"] = json!("")), false),
                ("no data", edit(|it| it["data"] = json!(null)), true),
                ("another type", edit(|it| it["type"] = json!("Opaque")), true),
                ("frozen", edit(|it| it["immutable"] = json!(true)), true),
                ("not frozen", edit(|it| it["immutable"] = json!(false)), false),
            ],
        );
        table(&RULE, &listed, [("listed", listed.delete("v1", "Secret", "vault/root"), true)]);
    }
}
