//! CR-1: revisions are the DaemonSet controller's.

use super::{Checked, Reach, Rule};
use crate::component::Component;
use crate::labels;
use crate::review::facts::Lookup;
use crate::review::object::text;
use crate::review::pod::of_daemonset_name;
use crate::review::settings::Identity;
use crate::review::{Facts, Object, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "CR-1",
    title: "the revisions of a guarded DaemonSet are written by its controller alone",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "`kubectl rollout undo` puts back what a ControllerRevision holds. Whoever can write one decides what the next \
          undo brings; whoever can delete them takes the way back away. The undo itself is an edit of the DaemonSet, and \
          has to pass every rule.",
    evasion: "- By owner, by label or by name alone: each of the three tells that it is one of ours.\n\
              - As the garbage collector, while the DaemonSet is there: denied.",
    blind: "",
    check,
};

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    if !request.is_any("apps", "controllerrevisions") || request.namespace() != labels::NAMESPACE {
        return Ok(Vec::new());
    }
    let both = [request.new_object(), request.old()];
    let Some(component) = both.into_iter().flatten().find_map(daemonset_of) else { return Ok(Vec::new()) };
    if settings.is(&request.user, Identity::DaemonSetController) {
        return Ok(Vec::new());
    }
    if request.operation == Operation::Delete && settings.is(&request.user, Identity::GarbageCollector) {
        let daemonset = facts.object(&Lookup::daemonset(component))?;
        if daemonset.is_none_or(|it| Object(it).is_ending()) {
            return Ok(Vec::new());
        }
    }
    Ok(vec![Violation::new(
        "",
        format!("it is a revision of {}", component.daemonset_name()),
        "edit the DaemonSet, and let its controller keep the revisions",
    )])
}

/// The component of whose DaemonSet an object is, by any mark, a revision.
fn daemonset_of(revision: Object<'_>) -> Option<Component> {
    let by_owner = revision.owners().iter().find_map(|owner| of_daemonset_name(text(owner, "name")));
    let by_label = revision.labels().get(labels::K8S_APP).and_then(|app| of_daemonset_name(app));
    let by_name = || {
        let fits = |it: &Component| {
            revision.name_of().strip_prefix(it.daemonset_name()).is_some_and(|rest| rest.starts_with('-'))
        };
        Component::ALL.into_iter().find(fits)
    };
    by_owner.or(by_label).or_else(by_name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::testing::{CONTROLLER, World, create, table};

    #[test]
    fn revisions_are_the_controllers() {
        let revision = |name: &str, app: &str, owner: &str| {
            json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 3, "data": {},
                "metadata": {"name": name, "namespace": "kube-system", "labels": {"k8s-app": app},
                    "ownerReferences": [{"kind": "DaemonSet", "name": owner, "uid": "x"}]}})
        };
        let ours = "self-hosted-kube-apiserver";
        let mut world = World::new();
        world.objects.push(revision("self-hosted-kube-apiserver-5d", ours, ours));
        let by = |mut request: Value, user: &str| {
            request["userInfo"]["username"] = json!(user);
            request
        };
        let delete = || world.delete("apps/v1", "ControllerRevision", "kube-system/self-hosted-kube-apiserver-5d");
        let collector = "system:serviceaccount:kube-system:generic-garbage-collector";
        let mut edited = world.update("ControllerRevision", "kube-system/self-hosted-kube-apiserver-5d", |it| {
            it["revision"] = json!(9);
        });
        edited["object"]["metadata"]["ownerReferences"] = json!([]);
        edited["object"]["metadata"]["labels"] = json!({});
        let mut elsewhere = revision("x", ours, ours);
        elsewhere["metadata"]["namespace"] = json!("default");
        table(
            &RULE,
            &world,
            [
                ("made by the controller", by(create(&revision("x", ours, ours)), CONTROLLER), false),
                ("made by somebody", create(&revision("x", ours, ours)), true),
                ("made by label", create(&revision("x", ours, "x")), true),
                ("made by owner", create(&revision("x", "x", ours)), true),
                ("made by name", create(&revision("self-hosted-kube-apiserver-1", "x", "x")), true),
                ("of another DaemonSet", create(&revision("kube-proxy-1", "kube-proxy", "kube-proxy")), false),
                ("edited by somebody", edited, true),
                ("deleted by somebody", delete(), true),
                ("deleted by the controller", by(delete(), CONTROLLER), false),
                ("collected while it is needed", by(delete(), collector), true),
                ("in another namespace", create(&elsewhere), false),
            ],
        );
        let mut gone = world.clone();
        gone.remove("DaemonSet", "kube-system/self-hosted-kube-apiserver");
        table(
            &RULE,
            &gone,
            [
                ("collected after the DaemonSet", by(delete(), collector), false),
                ("deleted after the DaemonSet", delete(), true),
            ],
        );
    }
}
