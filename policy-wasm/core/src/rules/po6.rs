//! PO-6: only the scheduler binds Pods to control-plane nodes.

use super::{Checked, Reach, Rule};
use crate::review::facts::Lookup;
use crate::review::object::at;
use crate::review::settings::Identity;
use crate::review::{Facts, Object, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "PO-6",
    title: "only the scheduler binds a Pod to a control-plane node",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Wide,
    why: "A binding passes taints and selectors by: it puts any Pod that waits beside the control plane.",
    evasion: "- `pods/binding` and the older `bindings`: both are looked at.\n- `nodeName` in the Pod itself: PO-5.",
    blind: "",
    check,
};

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    let binds = request.is_sub("pods", &["binding"]) || request.is_any("", "bindings");
    if !binds || settings.is(&request.user, Identity::Scheduler) {
        return Ok(Vec::new());
    }
    let node = at(&request.object, &["target", "name"]).as_str().unwrap_or_default();
    let nodes = facts.items(&Lookup::control_plane())?;
    if !nodes.iter().any(|it| Object(it).name_of() == node) {
        return Ok(Vec::new());
    }
    let message = format!("{node} is a control-plane node");
    Ok(vec![Violation::new("target.name", message, "let the scheduler bind it")])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{World, create, table};

    #[test]
    fn the_scheduler_binds() {
        let bind = |user: &str, node: &str, resource: &str, sub: &str| {
            let mut request = create(&json!({"apiVersion": "v1", "kind": "Binding",
                "metadata": {"name": "x", "namespace": "default"}, "target": {"kind": "Node", "name": node}}));
            request["resource"]["resource"] = json!(resource);
            request["subResource"] = json!(sub);
            request["userInfo"]["username"] = json!(user);
            request
        };
        table(
            &RULE,
            &World::new(),
            [
                ("the scheduler", bind("system:kube-scheduler", "cp1", "pods", "binding"), false),
                ("somebody", bind("ann", "cp1", "pods", "binding"), true),
                ("somebody, the old way", bind("ann", "cp1", "bindings", ""), true),
                ("to a worker", bind("ann", "worker", "pods", "binding"), false),
            ],
        );
    }
}
