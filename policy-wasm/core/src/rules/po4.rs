//! PO-4: only those make control-plane Pods whose work it is.

use super::{Checked, Reach, Rule};
use crate::labels;
use crate::review::object::text;
use crate::review::pod::{Pod, of_daemonset_name};
use crate::review::settings::Identity;
use crate::review::{Facts, Object, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "PO-4",
    title: "Pods that look like the control plane's are made by the DaemonSet controller and the kubelets",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Wide,
    why: "A Pod with the DaemonSet's labels is adopted and counted, and the real one deleted for it. Other tools, and the \
          guard itself, find the control plane by such labels.",
    evasion: "- By labels, or by a controller's reference alone: each tells.\n\
              - As a mirror Pod: only by the kubelet of the node that it is on.\n\
              - By relabelling a Pod that is there: PO-2.",
    blind: "Static Pods: a kubelet runs what lies in its directory, whoever denies its mirror. A kubelet, a worker's too, may show a mirror of any name on its own node: a control-plane node that joins has no label yet by which it could be told.",
    check,
};

fn check(request: &Request, settings: &Settings, _: &Facts) -> Checked {
    if request.operation != Operation::Create || !request.is("", "pods") || request.namespace() != labels::NAMESPACE {
        return Ok(Vec::new());
    }
    let pod = Pod(&request.object);
    let object = Object(&request.object);
    let owned = object.owners().iter().any(|owner| {
        text(owner, "kind") == "DaemonSet" && of_daemonset_name(text(owner, "name")).is_some()
    });
    let looks = pod.component().is_some() || pod.labels().get(labels::COMPONENT) == Some(&labels::STANDBY);
    if !owned && !looks {
        return Ok(Vec::new());
    }
    let by_controller = owned && !pod.is_mirror() && settings.is(&request.user, Identity::DaemonSetController);
    let by_kubelet = pod.is_mirror() && !owned && request.user.kubelet_of() == Some(pod.node());
    if by_controller || by_kubelet {
        return Ok(Vec::new());
    }
    let message = "it would be taken for a part of the control plane";
    Ok(vec![Violation::new("metadata.labels", message, "choose other labels")])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::testing::{CONTROLLER, World, create, table};

    #[test]
    fn only_those_make_them() {
        let world = World::new();
        let own = world.object("Pod", "kube-system/self-hosted-kube-apiserver-abcd1").clone();
        let by = |pod: &Value, user: &str, group: &str| {
            let mut request = create(pod);
            request["userInfo"] = json!({"username": user, "groups": [group]});
            request
        };
        let labelled = |labels: Value| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": "kube-system",
                "labels": labels}, "spec": {"containers": [], "nodeName": "cp1"}})
        };
        let mut mirror = labelled(json!({"component": "kube-apiserver", "tier": "control-plane"}));
        mirror["metadata"]["annotations"] = json!({labels::MIRROR: "x"});
        let mut owned = labelled(json!({}));
        owned["metadata"]["ownerReferences"] = own["metadata"]["ownerReferences"].clone();
        let mut other = labelled(json!({"k8s-app": "kube-proxy"}));
        other["metadata"]["ownerReferences"] = json!([{"kind": "DaemonSet", "name": "kube-proxy", "controller": true}]);
        let app = labelled(json!({"k8s-app": "self-hosted-kube-scheduler"}));
        let mut elsewhere = app.clone();
        elsewhere["metadata"]["namespace"] = json!("default");
        table(
            &RULE,
            &world,
            [
                ("by the controller", by(&own, CONTROLLER, "x"), false),
                ("by somebody", by(&own, "ann", "x"), true),
                ("a label", create(&app), true),
                ("a label, by the controller, of no owner", by(&app, CONTROLLER, "x"), true),
                ("a label elsewhere", create(&elsewhere), false),
                ("an owner", create(&owned), true),
                ("a standby", create(&labelled(json!({"component": "control-plane-standby"}))), true),
                ("a mirror by its kubelet", by(&mirror, "system:node:cp1", "system:nodes"), false),
                ("a mirror by another kubelet", by(&mirror, "system:node:cp2", "system:nodes"), true),
                ("a mirror by somebody", create(&mirror), true),
                ("any Pod", create(&labelled(json!({"k8s-app": "coredns"}))), false),
                ("of another DaemonSet", create(&other), false),
                ("edited", world.update("Pod", "kube-system/self-hosted-kube-apiserver-abcd1", |it| it["metadata"]["labels"]["x"] = json!("y")), false),
            ],
        );
    }
}
