//! DS-3: nobody else comes to own a guarded object, or to hold its end.

use super::{Checked, Reach, Rule};
use crate::labels;
use crate::review::pod::component_of;
use crate::review::usage::guarded_store;
use crate::review::{Facts, Object, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "DS-3",
    title: "a guarded object has no owner, no foreign finalizer, and keeps its marks",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "The garbage collector deletes what its owner does not outlive; a finalizer that nobody removes leaves an \
          object half deleted; and what is told apart by a label is lost without it. It holds for the DaemonSets, and \
          for the Secrets and ConfigMaps that they mount.",
    evasion: "- An owner that does not exist, or one in another namespace: the collector deletes at once; denied alike.\n\
              - Through `daemonsets/status`: DS-2.\n\
              - While the object is being deleted (CVE-2023-34091 in another engine): judged like any other.",
    blind: "",
    check,
};

/// Finalizers that the API server itself sets while it deletes.
const OWN: [&str; 2] = ["foregroundDeletion", "orphan"];

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    if !request.writes() {
        return Ok(Vec::new());
    }
    let component = component_of(request);
    if component.is_none() && guarded_store(request, settings, facts)?.is_none() {
        return Ok(Vec::new());
    }
    let Some(new) = request.new_object() else { return Ok(Vec::new()) };
    let old = request.old();
    let mut violations = Vec::new();
    let owners = old.map(Object::owners).unwrap_or_default();
    if new.owners().iter().any(|owner| !owners.contains(owner)) {
        violations.push(Violation::new(
            "metadata.ownerReferences",
            "the object would be deleted together with its owner",
            "leave ownerReferences empty",
        ));
    }
    let known = old.map(Object::finalizers).unwrap_or_default();
    for finalizer in new.finalizers().iter().filter(|it| !known.contains(*it) && !OWN.contains(it)) {
        violations.push(Violation::new(
            "metadata.finalizers",
            format!("{finalizer:?} would hold the object when it is deleted"),
            "leave finalizers empty",
        ));
    }
    if request.operation == Operation::Update {
        violations.extend(marks(new, old));
    }
    if component.is_some_and(|it| new.labels().get(labels::K8S_APP) != Some(&it.daemonset_name()))
        && old.is_none_or(|old| old.labels().get(labels::K8S_APP) != new.labels().get(labels::K8S_APP))
    {
        violations.push(Violation::new(
            "metadata.labels",
            format!("the label {} does not name the DaemonSet", labels::K8S_APP),
            "keep the label",
        ));
    }
    Ok(violations)
}

/// Labels and annotations of ours that are lost. Another value is an edit like any other.
fn marks(new: Object<'_>, old: Option<Object<'_>>) -> Vec<Violation> {
    let Some(old) = old else { return Vec::new() };
    let mut violations = Vec::new();
    for (path, before, after) in [
        ("metadata.labels", old.labels(), new.labels()),
        ("metadata.annotations", old.annotations(), new.annotations()),
    ] {
        let ours = before.iter().filter(|(name, _)| name.starts_with(labels::PREFIX));
        for (name, _) in ours.filter(|(name, _)| **name != crate::review::approval::ANNOTATION) {
            if !after.contains_key(name) {
                let message = format!("{name} is lost");
                violations.push(Violation::new(path, message, "keep what begins with kubectl-selfhost.dev"));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::component::Component;
    use crate::rules::testing::{World, create, daemonset, table};

    #[test]
    fn an_object_keeps_its_own_end() {
        let mut world = World::new();
        world.settings.secrets.insert("kube-system/ca".into());
        for name in ["ca", "other"] {
            world.objects.push(json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {},
                "metadata": {"name": name, "namespace": "kube-system", "uid": "s", "resourceVersion": "1"}}));
        }
        let edit = |change: fn(&mut Value)| world.edit(Component::ApiServer, |it| change(&mut it["metadata"]));
        let owner = |it: &mut Value| {
            it["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "y"}]);
        };
        let mut made = daemonset(Component::ApiServer);
        owner(&mut made["metadata"]);
        let mut marked = World::new();
        marked.object_mut("DaemonSet", "kube-system/self-hosted-kube-scheduler")["metadata"]["annotations"] =
            json!({"kubectl-selfhost.dev/mark": "1"});
        let unmark = marked.edit(Component::Scheduler, |it| it["metadata"]["annotations"] = json!({}));
        table(
            &RULE,
            &world,
            [
                ("made", create(&daemonset(Component::ApiServer)), false),
                ("a label more", edit(|it| it["labels"]["team"] = json!("x")), false),
                ("an owner", edit(owner), true),
                ("made with an owner", create(&made), true),
                ("a finalizer", edit(|it| it["finalizers"] = json!(["example.org/hold"])), true),
                ("the API server's finalizer", edit(|it| it["finalizers"] = json!(["foregroundDeletion"])), false),
                ("without its label", edit(|it| it["labels"] = json!({})), true),
                ("an owner while it ends", edit(|it| {
                    it["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                    it["ownerReferences"] = json!([{"kind": "Node", "name": "x", "uid": "y"}]);
                }), true),
                ("a mark lost", unmark, true),
                ("a guarded Secret", world.update("Secret", "kube-system/ca", |it| owner(&mut it["metadata"])), true),
                ("any Secret", world.update("Secret", "kube-system/other", |it| owner(&mut it["metadata"])), false),
            ],
        );
    }
}
