//! NODE-3: nobody goes through a control-plane node's kubelet.

use super::{Checked, Reach, Rule};
use crate::review::facts::Lookup;
use crate::review::object::text;
use crate::review::{Facts, Object, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "NODE-3",
    title: "nobody reaches a control-plane node's kubelet through the API server, but to read its state",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Wide,
    why: "`nodes/proxy` has all that the kubelet's own port has: `exec` in any Pod of the node among it.",
    evasion: "- A path written another way (`//run`, `/x/../run`, in capitals, with `%2e`): only a few exact paths are \
              admitted.\n- A port in the node's name (`cp1:10250`): seen through.",
    blind: "The HTTP method: a review does not have it. The paths that are admitted only read.",
    check,
};

/// What only reads. The plugin asks `configz` for the directory of static manifests.
pub(crate) const READS: [&str; 8] = [
    "configz",
    "healthz",
    "metrics",
    "metrics/cadvisor",
    "metrics/probes",
    "metrics/resource",
    "stats/summary",
    "pods",
];

fn check(request: &Request, _: &Settings, facts: &Facts) -> Checked {
    if !request.is_sub("nodes", &["proxy"]) {
        return Ok(Vec::new());
    }
    let path = text(&request.object, "path");
    if READS.contains(&path.strip_prefix('/').unwrap_or(path)) {
        return Ok(Vec::new());
    }
    // `https:cp1:10250` is a node's name here, too.
    let names: Vec<&str> = request.name().split(':').collect();
    let nodes = facts.items(&Lookup::control_plane())?;
    if !nodes.iter().any(|node| names.contains(&Object(node).name_of())) {
        return Ok(Vec::new());
    }
    let message = "the kubelet's proxy leads into every Pod of the node";
    Ok(vec![Violation::new("", message, "ask for one of configz, healthz, metrics, stats/summary, pods")])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{World, connect, table};

    #[test]
    fn a_kubelet_is_only_read() {
        let to = |node: &str, path: &str| connect("Node", "proxy", node, &json!({"kind": "NodeProxyOptions", "path": path}));
        table(
            &RULE,
            &World::new(),
            [
                ("its configuration", to("cp1", "configz"), false),
                ("its configuration, from the root", to("cp1", "/configz"), false),
                ("a command", to("cp1", "run/kube-system/x/y"), true),
                ("a way around", to("cp1", "/configz/../run/x"), true),
                ("two slashes", to("cp1", "//configz"), true),
                ("nothing", to("cp1", ""), true),
                ("with a port", to("cp1:10250", "exec/x"), true),
                ("with a scheme", to("https:cp1:10250", "exec/x"), true),
                ("a worker", to("worker", "exec/x"), false),
            ],
        );
    }
}
