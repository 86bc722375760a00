//! DS-2: the status of a DaemonSet is a status, and its controller's.

use super::{Checked, Reach, Rule};
use crate::review::pod::component_of;
use crate::review::settings::Identity;
use crate::review::{Facts, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "DS-2",
    title: "a DaemonSet's status is written by its controller, and changes nothing else",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "A write to `daemonsets/status` may change labels, annotations, owners and finalizers too (k/k#45539, \
          k/k#92022): a rule that looks at `daemonsets` alone is passed by in one request.",
    evasion: "- Through any subresource that there is or will be: all but `status` are denied.\n\
              - By somebody else than the DaemonSet controller: denied, by exact username.",
    blind: "",
    check,
};

/// What every write changes.
const ALWAYS: [&str; 3] = ["managedFields", "resourceVersion", "generation"];

fn check(request: &Request, settings: &Settings, _: &Facts) -> Checked {
    if component_of(request).is_none() || request.sub_resource().is_empty() {
        return Ok(Vec::new());
    }
    if request.sub_resource() != "status" {
        let message = format!("there is no subresource {:?} that the guard knows", request.sub_resource());
        return Ok(vec![Violation::new("", message, "edit the DaemonSet itself")]);
    }
    let mut violations = Vec::new();
    if !settings.is(&request.user, Identity::DaemonSetController) {
        violations.push(Violation::new(
            "status",
            "only the DaemonSet controller writes it",
            "if the controller manager runs without --use-service-account-credentials, name its user in the settings \
             under identities",
        ));
    }
    if request.changes(&["spec"]) {
        violations.push(Violation::new("spec", "a write of the status changes it", "edit the DaemonSet itself"));
    }
    let empty = serde_json::Map::new();
    let metadata = |value: &serde_json::Value| value["metadata"].as_object().unwrap_or(&empty).clone();
    let (new, old) = (metadata(&request.object), metadata(&request.old_object));
    let mut names: Vec<&String> = new.keys().chain(old.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let changed = names.into_iter().filter(|name| !ALWAYS.contains(&name.as_str()) && new.get(*name) != old.get(*name));
    violations.extend(changed.map(|name| {
        Violation::new(format!("metadata.{name}"), "a write of the status changes it", "edit the DaemonSet itself")
    }));
    Ok(violations)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::component::Component;
    use crate::rules::testing::{CONTROLLER, World, table};

    #[test]
    fn a_status_is_a_status() {
        let world = World::new();
        let status = |user: &str, sub: &str, change: fn(&mut Value)| {
            let mut request = world.edit(Component::Scheduler, |_| {});
            request["subResource"] = json!(sub);
            request["userInfo"]["username"] = json!(user);
            request["object"]["metadata"]["resourceVersion"] = json!("99");
            change(&mut request["object"]);
            request
        };
        table(
            &RULE,
            &world,
            [
                ("its controller", status(CONTROLLER, "status", |it| it["status"] = json!({"x": 1})), false),
                ("somebody", status("ann", "status", |it| it["status"] = json!({"x": 1})), true),
                ("a name alike", status(&format!("{CONTROLLER}x"), "status", |_| {}), true),
                ("a label", status(CONTROLLER, "status", |it| it["metadata"]["labels"]["x"] = json!("y")), true),
                ("an owner", status(CONTROLLER, "status", |it| {
                    it["metadata"]["ownerReferences"] = json!([{"kind": "ConfigMap", "name": "x", "uid": "y"}]);
                }), true),
                ("a finalizer", status(CONTROLLER, "status", |it| it["metadata"]["finalizers"] = json!(["x/y"])), true),
                ("an annotation less", status(CONTROLLER, "status", |it| it["metadata"]["annotations"] = json!(null)), true),
                ("the spec", status(CONTROLLER, "status", |it| it["spec"]["minReadySeconds"] = json!(9)), true),
                ("another subresource", status(CONTROLLER, "scale", |_| {}), true),
                ("none", status("ann", "", |_| {}), false),
            ],
        );
    }
}
