//! NODE-1: a node is taken from a DaemonSet while somebody else serves there, and only control-plane nodes get one.

use super::{Checked, Reach, Rule};
use crate::component::Component;
use crate::labels;
use crate::review::facts::{Lookup, Unknown};
use crate::review::pod::Pod;
use crate::review::{Facts, Object, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "NODE-1",
    title: "a node loses a component while its bridge serves, and only control-plane nodes get one",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Wide,
    why: "The DaemonSets follow a label of the node for each component. Taking it away ends the Pod there, whatever the \
          update strategy says; giving it to a worker puts the control plane's keys on it. The label of the role itself is \
          what other things select on: its loss has cost a large site five hours.",
    evasion: "- Another value, a value less, the whole map of labels: each is a loss.\n\
              - Cordoning and taints do nothing to Pods that tolerate everything, and are not looked at (DS-7 keeps the \
              tolerations).\n\
              - On a new node object, and through `nodes/status`: looked at too.",
    blind: "",
    check,
};

fn check(request: &Request, _: &Settings, facts: &Facts) -> Checked {
    if !is_labelled(request) {
        return Ok(Vec::new());
    }
    let Some(new) = request.new_object() else { return Ok(Vec::new()) };
    let after = new.labels();
    let before = request.old().map(Object::labels).unwrap_or_default();
    let is_there = |labels: &std::collections::BTreeMap<&str, &str>, component| {
        labels.get(labels::node_label(component)) == Some(&"true")
    };
    let role = |labels: &std::collections::BTreeMap<&str, &str>| {
        labels::CONTROL_PLANE_ROLES.iter().any(|role| labels.contains_key(role))
    };
    let mut violations = Vec::new();
    for component in Component::ALL {
        let label = labels::node_label(component);
        match (is_there(&before, component), is_there(&after, component)) {
            (true, false) if request.operation == Operation::Update && !serves(component, request.name(), facts)? => {
                violations.push(Violation::new(
                    "metadata.labels",
                    format!("without {label} the {component} on {} ends, and nobody else serves there", request.name()),
                    "kubectl selfhost unpivot takes it away behind a bridge",
                ));
            }
            (false, true) if !role(&after) => violations.push(Violation::new(
                "metadata.labels",
                format!("{label} brings the keys of the control plane to {}, which is no control-plane node", request.name()),
                "join the node as a control-plane node first",
            )),
            _ => {}
        }
    }
    if role(&before) && !role(&after) && Component::ALL.into_iter().any(|it| is_there(&after, it)) {
        violations.push(Violation::new(
            "metadata.labels",
            "the node runs the control plane, and would no longer be known for it",
            "take the control plane away first: kubectl selfhost unpivot",
        ));
    }
    Ok(violations)
}

/// Whether the request may change the labels of a node: a write of its status may, too.
pub(super) fn is_labelled(request: &Request) -> bool {
    let through_status = request.is_sub("nodes", &["status"]) && request.operation == Operation::Update;
    (request.is("", "nodes") && request.writes()) || through_status
}

/// Whether a bridge serves on the node, or nothing of the component's DaemonSet runs there.
fn serves(component: Component, node: &str, facts: &Facts) -> Result<bool, Unknown> {
    let bridges = facts.items(&Lookup::bridges(component));
    let pods = facts.items(&Lookup::control_plane_pods());
    let here = |pod: &Pod<'_>| pod.node() == node && !Object(pod.0).is_ending();
    if bridges?.iter().map(Pod).any(|pod| here(&pod) && Object(pod.0).is_ready()) {
        return Ok(true);
    }
    Ok(!pods?.iter().map(Pod).any(|pod| here(&pod) && !pod.is_mirror() && pod.component() == Some(component)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::testing::{World, create, table, update};

    #[test]
    fn a_node_is_taken_behind_a_bridge() {
        let world = World::new();
        let mut bridged = World::new();
        bridged.add_bridge(Component::ApiServer, "cp1", true);
        let mut starting = World::new();
        starting.add_bridge(Component::ApiServer, "cp1", false);
        let mut lost = World::new();
        lost.remove("Pod", "kube-system/self-hosted-kube-apiserver-abcd1");
        let label = labels::node_label(Component::ApiServer);
        let edit = |world: &World, change: fn(&mut Value)| world.update("Node", "cp1", |it| change(&mut it["metadata"]));
        let unlabel: fn(&mut Value) =
            |it| drop(it["labels"].as_object_mut().unwrap().remove("kubectl-selfhost.dev/kube-apiserver"));
        for (name, world, expected) in [
            ("nobody serves", &world, true),
            ("a bridge serves", &bridged, false),
            ("a bridge starts", &starting, true),
            ("nothing runs there", &lost, false),
        ] {
            table(&RULE, world, [(name, edit(world, unlabel), expected)]);
        }
        let mut workers = world.clone();
        workers.objects.push(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "w", "labels": {}}}));
        let mut through_status = edit(&workers, unlabel);
        through_status["subResource"] = json!("status");
        let mut heartbeat = workers.update("Node", "cp1", |it| it["status"]["conditions"] = json!([]));
        heartbeat["subResource"] = json!("status");
        let joined = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {label: "true"}}});
        let mut member = joined.clone();
        member["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = json!("");
        let mut machine = joined.clone();
        machine["apiVersion"] = json!("cluster.x-k8s.io/v1beta1");
        machine["kind"] = json!("Machine");
        let mut plain = machine.clone();
        plain["metadata"]["labels"] = json!({});
        table(
            &RULE,
            &workers,
            [
                ("another value", edit(&workers, |it| it["labels"]["kubectl-selfhost.dev/kube-apiserver"] = json!("no")), true),
                ("through its status", through_status, true),
                ("a heartbeat", heartbeat, false),
                ("no labels", edit(&workers, |it| it["labels"] = json!({})), true),
                ("any label", edit(&workers, |it| it["labels"]["zone"] = json!("a")), false),
                ("cordoned", workers.update("Node", "cp1", |it| it["spec"]["unschedulable"] = json!(true)), false),
                ("its role", edit(&workers, |it| {
                    it["labels"].as_object_mut().unwrap().remove("node-role.kubernetes.io/control-plane");
                }), true),
                ("a worker", workers.update("Node", "w", |it| {
                    it["metadata"]["labels"]["kubectl-selfhost.dev/kube-scheduler"] = json!("true");
                }), true),
                ("a new node", create(&joined), true),
                ("a new control-plane node", create(&member), false),
                ("what is no node", create(&machine), false),
                ("what is no node, edited", update(&machine, &plain), false),
            ],
        );
    }
}
