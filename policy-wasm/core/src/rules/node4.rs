//! NODE-4: a control-plane node leaves after its members.

use super::{Checked, Reach, Rule};
use crate::component::Component;
use crate::labels;
use crate::review::facts::Lookup;
use crate::review::{Facts, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "NODE-4",
    title: "a control-plane node is deleted after its components and its etcd member have left",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Wide,
    why: "With the Node object go its Pods. A member of etcd that is gone still counts for the quorum until it is removed.",
    evasion: "- `deletecollection`, a cloud's node controller: judged alike, by what is on the node.",
    blind: "Whether the member was removed: etcd's static Pod, as the API shows it, stands for it. External etcd.",
    check,
};

fn check(request: &Request, _: &Settings, facts: &Facts) -> Checked {
    if !request.is("", "nodes") || request.operation != Operation::Delete {
        return Ok(Vec::new());
    }
    let Some(node) = request.old() else { return Ok(Vec::new()) };
    let own = node.labels();
    let hosts: Vec<&str> = Component::ALL
        .into_iter()
        .filter(|it| own.contains_key(labels::node_label(*it)))
        .map(Component::name)
        .collect();
    let is_control_plane = !hosts.is_empty() || labels::CONTROL_PLANE_ROLES.iter().any(|role| own.contains_key(role));
    if !is_control_plane {
        return Ok(Vec::new());
    }
    let mut violations = Vec::new();
    if !hosts.is_empty() {
        let next = "take the control plane from the node first: kubectl selfhost unpivot";
        violations.push(Violation::new("", format!("{} would end with it", hosts.join(", ")), next));
    }
    let etcd = Lookup::get("v1", "Pod", labels::NAMESPACE, &format!("etcd-{}", node.name_of()));
    if facts.object(&etcd)?.is_some() {
        let next = "remove the member first: kubeadm reset on the node, or etcdctl member remove";
        violations.push(Violation::new("", "a member of etcd is on it", next));
    }
    Ok(violations)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{World, table};

    #[test]
    fn members_leave_first() {
        let mut world = World::new();
        let node = |name: &str, labels: serde_json::Value| {
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
        };
        let role = json!({"node-role.kubernetes.io/control-plane": ""});
        world.objects.push(node("left", role.clone()));
        world.objects.push(node("member", role));
        world.objects.push(node("worker", json!({})));
        world.objects.push(node("hosts", json!({"kubectl-selfhost.dev/kube-scheduler": "true"})));
        world.objects.push(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "etcd-member", "namespace": "kube-system"}}));
        table(
            &RULE,
            &world,
            [
                ("one that hosts, cordoned", world.update("Node", "cp1", |it| it["spec"]["unschedulable"] = json!(true)), false),
                ("one that hosts", world.delete("v1", "Node", "cp1"), true),
                ("one that hosts, without its role", world.delete("v1", "Node", "hosts"), true),
                ("one with a member", world.delete("v1", "Node", "member"), true),
                ("one that has left", world.delete("v1", "Node", "left"), false),
                ("a worker", world.delete("v1", "Node", "worker"), false),
            ],
        );
    }
}
