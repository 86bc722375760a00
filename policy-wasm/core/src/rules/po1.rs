//! PO-1: nobody steps into a control-plane Pod.

use super::{Checked, Reach, Rule};
use crate::review::pod::is_part_by_name;
use crate::review::{Facts, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "PO-1",
    title: "nobody executes in, attaches to, or connects through a control-plane Pod",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Named,
    why: "A shell in an API server's Pod has its keys, and a port forward to one reaches what is open to the machine \
          itself alone.",
    evasion: "- `exec`, `attach`, `portforward`, `proxy`, by either HTTP method: all are CONNECT.\n\
              - Through the kubelet: NODE-3.\n\
              - Such a review has no Pod in it, so that a Pod is known by its name: the names that the DaemonSets, the \
              kubelets (static Pods, etcd's too) and the plugin give.",
    blind: "Whoever reaches the kubelet's own port with a client certificate, or the machine.",
    check,
};

fn check(request: &Request, settings: &Settings, _: &Facts) -> Checked {
    let connects = request.is_sub("pods", &["exec", "attach", "portforward", "proxy"]);
    if !connects || !is_part_by_name(request.namespace(), request.name(), &settings.guard.namespace) {
        return Ok(Vec::new());
    }
    let message = format!("{} leads to the control plane's keys", request.sub_resource());
    Ok(vec![Violation::new("", message, "kubectl logs and kubectl selfhost status need no way in")])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{World, connect, table};

    #[test]
    fn nobody_steps_in() {
        let to = |sub: &str, key: &str| connect("Pod", sub, key, &json!({"kind": "PodExecOptions", "command": ["sh"]}));
        table(
            &RULE,
            &World::new(),
            [
                ("exec", to("exec", "kube-system/self-hosted-kube-apiserver-x7x2p"), true),
                ("attach", to("attach", "kube-system/self-hosted-kube-scheduler-x7x2p"), true),
                ("a port", to("portforward", "kube-system/kube-controller-manager-bridge-cp1"), true),
                ("a proxy", to("proxy", "kube-system/kube-apiserver-cp1"), true),
                ("etcd", to("exec", "kube-system/etcd-cp1"), true),
                ("a standby", to("exec", "kube-system/control-plane-standby-a-cp1"), true),
                ("the guard", to("exec", "selfhost-guard/anything"), true),
                ("another Pod", to("exec", "kube-system/coredns-x7x2p"), false),
                ("a name that begins alike", to("exec", "kube-system/kube-apiserverx-1"), false),
                ("another namespace", to("exec", "default/kube-apiserver-cp1"), false),
            ],
        );
    }
}
