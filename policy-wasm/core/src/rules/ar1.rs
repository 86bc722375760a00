//! AR-1: the guard's own registration stays.

use super::{Checked, Reach, Rule};
use crate::review::object::at;
use crate::review::{Facts, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "AR-1",
    title: "the guard's registration is not removed, changed, or imitated",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Static,
    why: "The first thing that a rule in the way suggests is to delete the rule. The API server never asks a webhook about \
          webhooks that are registered through it, so that this holds only from a static manifest (`kubectl selfhost guard \
          install --static`). Without one the registration goes when somebody deletes it, and `kubectl selfhost guard \
          status` exits 4 from then on.",
    evasion: "- `failurePolicy: Ignore`, a narrower scope, another address, instead of a deletion: every change wants the approval.\n\
              - A name that ends in `.static.k8s.io`, which looks like a manifest and is none: denied.",
    blind: "An API server without the manifest, or with its plugin off: `kubectl selfhost guard status` asks each.",
    check,
};

pub(super) const GROUP: &str = "admissionregistration.k8s.io";

fn check(request: &Request, settings: &Settings, _: &Facts) -> Checked {
    if request.resource.group != GROUP || !request.sub_resource().is_empty() {
        return Ok(Vec::new());
    }
    let name = request.name();
    if request.operation == Operation::Create && name.ends_with(".static.k8s.io") {
        let message = "names that end so are those of static manifests";
        return Ok(vec![Violation::new("metadata.name", message, "choose another name")]);
    }
    let guard = &settings.guard.name;
    let is_own = name == guard || name.strip_prefix(guard.as_str()).is_some_and(|rest| rest.starts_with(['.', '-']));
    let content = ["webhooks", "spec"];
    let changed = request.operation == Operation::Delete
        || content.iter().any(|it| at(&request.object, &[*it]) != at(&request.old_object, &[*it]));
    if !is_own || !changed || request.operation == Operation::Create {
        return Ok(Vec::new());
    }
    let next = "kubectl selfhost guard install and uninstall change it";
    Ok(vec![Violation::new("", "it is how the guard is asked at all", next)])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::testing::{World, create, table};

    #[test]
    fn the_registration_stays() {
        let mut world = World::new();
        let kind = "ValidatingWebhookConfiguration";
        for name in ["selfhost-guard", "selfhost-guardian", "other"] {
            world.objects.push(json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
                "metadata": {"name": name}, "webhooks": [{"name": "a", "failurePolicy": "Fail"}]}));
        }
        world.objects.push(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "selfhost-guard"}, "rules": []}));
        let delete = |name: &str| world.delete("admissionregistration.k8s.io/v1", kind, name);
        let edit = |change: fn(&mut Value)| world.update(kind, "selfhost-guard", change);
        let mut fake = world.object(kind, "other").clone();
        fake["metadata"]["name"] = json!("x.static.k8s.io");
        table(
            &RULE,
            &world,
            [
                ("deleted", delete("selfhost-guard"), true),
                ("another deleted", delete("other"), false),
                ("one that begins alike deleted", delete("selfhost-guardian"), false),
                ("made to ignore", edit(|it| it["webhooks"][0]["failurePolicy"] = json!("Ignore")), true),
                ("emptied", edit(|it| it["webhooks"] = json!([])), true),
                ("labelled", edit(|it| it["metadata"]["labels"] = json!({"x": "y"})), false),
                ("its rights deleted", world.delete("rbac.authorization.k8s.io/v1", "ClusterRole", "selfhost-guard"), false),
                ("made", create(world.object(kind, "selfhost-guard")), false),
                ("imitated", create(&fake), true),
            ],
        );
    }
}
