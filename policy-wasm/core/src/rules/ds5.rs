//! DS-5: an edit never rolls by itself, and no two Pods fight for a port.

use serde_json::Value;

use super::{Checked, Reach, Rule};
use crate::review::object::{at, list};
use crate::review::pod::{Pod, component_of};
use crate::review::{Facts, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "DS-5",
    title: "an edit never rolls by itself, and no Pod reserves a port",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "With `OnDelete` an edit changes nothing that runs until somebody replaces a Pod, which is what \
          `kubectl selfhost upgrade` does behind a bridge. With `RollingUpdate` the edit itself takes each API server \
          away. A declared port becomes a host port on the host's network, and the scheduler then refuses the \
          second Pod that a swap needs on the node (k/k#132776).",
    evasion: "- No strategy at all, which the API reads as `RollingUpdate`: denied.\n\
              - `hostPort` in any container, init containers included: denied.\n\
              - A DaemonSet that rolls by itself from before the guard: it may be relabelled, but its template only \
              be edited together with its strategy.",
    blind: "",
    check,
};

fn check(request: &Request, _: &Settings, _: &Facts) -> Checked {
    if component_of(request).is_none() || !request.writes() {
        return Ok(Vec::new());
    }
    let mut violations = Vec::new();
    let strategy = at(&request.object, &["spec", "updateStrategy", "type"]).as_str();
    let touched = request.changes(&["spec", "template"]) || request.changes(&["spec", "updateStrategy"]);
    if strategy != Some("OnDelete") && touched {
        violations.push(Violation::new(
            "spec.updateStrategy.type",
            format!("{} replaces the Pods by itself, without a bridge", strategy.unwrap_or("RollingUpdate")),
            "set it to OnDelete, and let kubectl selfhost upgrade replace the Pods",
        ));
    }
    if request.changes(&["spec", "template"]) {
        let pod = Pod::template_of(&request.object);
        let with_ports = pod.containers().filter(|(_, container): &(_, &Value)| !list(container, "ports").is_empty());
        violations.extend(with_ports.map(|(path, _)| {
            Violation::new(
                format!("spec.template.spec.{path}.ports"),
                "a declared port keeps the second Pod of a swap from the node",
                "remove it; probes take the number",
            )
        }));
    }
    Ok(violations)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::component::Component;
    use crate::rules::testing::{World, create, daemonset, table};

    #[test]
    fn nothing_rolls_by_itself() {
        let world = World::new();
        let edit = |change: fn(&mut Value)| world.edit(Component::ApiServer, |it| change(&mut it["spec"]));
        let mut rolling = daemonset(Component::ApiServer);
        rolling["spec"]["updateStrategy"] = json!({"type": "RollingUpdate"});
        let mut old = World::new();
        *old.object_mut("DaemonSet", "kube-system/self-hosted-kube-apiserver") = rolling.clone();
        let of_old = |change: fn(&mut Value)| old.edit(Component::ApiServer, change);
        table(
            &RULE,
            &world,
            [
                ("made OnDelete", create(&daemonset(Component::ApiServer)), false),
                ("made rolling", create(&rolling), true),
                ("deleted", world.delete("apps/v1", "DaemonSet", "kube-system/self-hosted-kube-apiserver"), false),
                ("set to roll", edit(|it| it["updateStrategy"] = json!({"type": "RollingUpdate"})), true),
                ("no strategy", edit(|it| it["updateStrategy"] = json!(null)), true),
                ("a strategy alike", edit(|it| it["updateStrategy"] = json!({"type": "onDelete"})), true),
                ("a port", edit(|it| it["template"]["spec"]["containers"][0]["ports"] = json!([{"containerPort": 6443}])), true),
                ("a port of an init container", edit(|it| {
                    it["template"]["spec"]["initContainers"] = json!([{"name": "x", "ports": [{"hostPort": 6443}]}]);
                }), true),
                ("adopted", of_old(|it| it["spec"]["updateStrategy"] = json!({"type": "OnDelete"})), false),
                ("relabelled as it is", of_old(|it| it["metadata"]["labels"]["x"] = json!("y")), false),
                ("edited as it is", of_old(|it| {
                    it["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry.k8s.io/kube-apiserver:v1.37.2");
                }), true),
            ],
        );
    }
}
