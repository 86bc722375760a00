//! NODE-2: a kubelet does not make its node a control-plane node.

use super::node1::is_labelled;
use super::{Checked, Reach, Rule};
use crate::labels;
use crate::review::{Facts, Object, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "NODE-2",
    title: "a kubelet does not label its own node into, or out of, the control plane",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Wide,
    why: "NodeRestriction keeps kubelets from labels below `kubernetes.io` and `k8s.io`, and from no others: without this \
          rule the kubelet of a worker could label its node for the API server's DaemonSet, and be brought the Pod with \
          all its Secrets.",
    evasion: "- On registration (`--node-labels`), later, and through `nodes/status`: all are looked at.",
    blind: "A kubelet that runs the keys' Pod rightly has them.",
    check,
};

fn check(request: &Request, _: &Settings, _: &Facts) -> Checked {
    if !is_labelled(request) || request.user.kubelet_of().is_none() {
        return Ok(Vec::new());
    }
    let after = request.new_object().map(Object::labels).unwrap_or_default();
    let before = request.old().map(Object::labels).unwrap_or_default();
    let names = after.keys().chain(before.keys()).copied().filter(|name| after.get(name) != before.get(name));
    let mut names: Vec<&str> = names.filter(|name| is_ours(name)).collect();
    names.sort_unstable();
    names.dedup();
    let violation = |name: &str| {
        Violation::new("metadata.labels", format!("{name} is not a kubelet's to set"), "kubectl label node, as an administrator")
    };
    Ok(names.into_iter().map(violation).collect())
}

fn is_ours(name: &str) -> bool {
    let prefix = name.split_once('/').map_or("", |(prefix, _)| prefix);
    prefix == labels::PREFIX || prefix == "node-role.kubernetes.io"
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::testing::{World, create, table};

    #[test]
    fn kubelets_do_not_promote_themselves() {
        let mut world = World::new();
        world.objects.push(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "w", "labels": {}}}));
        let by = |mut request: Value| {
            request["userInfo"] = json!({"username": "system:node:w", "groups": ["system:nodes"]});
            request
        };
        let label = |name: &'static str| {
            world.update("Node", "w", move |it| it["metadata"]["labels"] = json!({name: "true"}))
        };
        let mut admin = label("kubectl-selfhost.dev/kube-apiserver");
        admin["object"]["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = json!("");
        let new = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n",
            "labels": {"kubectl-selfhost.dev/kube-apiserver": "true"}}});
        table(
            &RULE,
            &world,
            [
                ("our label", by(label("kubectl-selfhost.dev/kube-apiserver")), true),
                ("a role", by(label("node-role.kubernetes.io/control-plane")), true),
                ("any label", by(label("zone")), false),
                ("a label that begins alike", by(label("kubectl-selfhost.dev.example.org/x")), false),
                ("on registration", by(create(&new)), true),
                ("its own taken", by(world.update("Node", "cp1", |it| it["metadata"]["labels"] = json!({}))), true),
                ("by an administrator", admin, false),
            ],
        );
    }
}
