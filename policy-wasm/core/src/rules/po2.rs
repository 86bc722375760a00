//! PO-2: a running control-plane Pod stays what it is.

use std::net::IpAddr;

use super::{Checked, Reach, Rule};
use crate::labels;
use crate::review::object::{list, text};
use crate::review::pod::{Part, Pod, part_of};
use crate::review::settings::Identity;
use crate::review::{Facts, Object, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "PO-2",
    title: "a control-plane Pod that runs is not changed",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Wide,
    why: "An ephemeral container is code beside the keys; another image restarts the component with it; a label less takes \
          the Pod from its DaemonSet, which then makes a second one on the same port.",
    evasion: "- `pods/ephemeralcontainers`, `pods/resize`: denied.\n\
              - `pods/status`, by which labels can be changed too, and by which a Pod would look ready or not: left to its \
              kubelet and the controllers, without the labels.\n\
              - `activeDeadlineSeconds`, which ends the Pod later: denied, with every other change of the spec.\n\
              - An owner or a finalizer more: denied.\n\
              - kubeadm's annotation with the advertised address, which the plugin writes: only with the Pod's own address.",
    blind: "",
    check,
};

fn check(request: &Request, settings: &Settings, _: &Facts) -> Checked {
    let guard = &settings.guard.namespace;
    let sub = request.sub_resource();
    if request.operation != Operation::Update
        || !(request.is("", "pods") || request.is_sub("pods", &["ephemeralcontainers", "resize", "status"]))
    {
        return Ok(Vec::new());
    }
    // What it was counts: a label that makes it something else would be the way out.
    let (Some(new), Some(old)) = (request.new_object(), request.old()) else { return Ok(Vec::new()) };
    let part = part_of(Pod(old.0), request.namespace(), guard).or_else(|| part_of(Pod(new.0), request.namespace(), guard));
    let Some(part) = part else { return Ok(Vec::new()) };
    let next = "edit the DaemonSet, and let kubectl selfhost upgrade replace the Pod";
    let is_status = sub == "status";
    if !sub.is_empty() && !is_status {
        return Ok(vec![Violation::new("", format!("pods/{sub} changes what runs beside the keys"), next)]);
    }
    if settings.is(&request.user, Identity::DaemonSetController) && !is_status {
        return Ok(Vec::new());
    }
    let mut violations = Vec::new();
    if is_status && request.changes(&["status"]) && !tells_status(request, settings, Pod(old.0)) {
        violations.push(Violation::new(
            "status",
            "whether it is ready decides what may be done to the others",
            "leave it to its kubelet",
        ));
    }
    if request.changes(&["spec"]) {
        violations.push(Violation::new("spec", "it changes what runs", next));
    }
    for field in ["labels", "ownerReferences", "finalizers"] {
        if request.changes(&["metadata", field]) {
            violations.push(Violation::new(
                format!("metadata.{field}"),
                "it decides to whom the Pod belongs",
                "leave it to the DaemonSet controller",
            ));
        }
    }
    let (after, before) = (new.annotations(), old.annotations());
    let mut names: Vec<&str> = after.keys().chain(before.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    for name in names.into_iter().filter(|name| after.get(name) != before.get(name)) {
        let ours = name.starts_with(labels::PREFIX) || name.starts_with(labels::KUBELET_CONFIG_PREFIX);
        let is_approval = name == crate::review::approval::ANNOTATION;
        let is_address = name == labels::ADVERTISE_ADDRESS
            && !(matches!(part, Part::Component(_)) && is_own_address(old, after.get(name).copied().unwrap_or_default()));
        if (ours && !is_approval) || is_address {
            violations.push(Violation::new(
                "metadata.annotations",
                format!("{name} tells others what the Pod is"),
                "leave it as it is",
            ));
        }
    }
    Ok(violations)
}

/// Whose word the status of a Pod is: its kubelet's, and that of those who know of its node or place it.
fn tells_status(request: &Request, settings: &Settings, pod: Pod<'_>) -> bool {
    request.user.kubelet_of().is_some_and(|node| node == pod.node())
        || settings.is_any(&request.user, &STATUS)
        || request.user.username == DISRUPTION
}

/// The system's identities that write the status of Pods, besides kubelets.
pub(crate) const STATUS: [Identity; 5] = [
    Identity::ControllerManager,
    Identity::DaemonSetController,
    Identity::NodeController,
    Identity::PodGarbageCollector,
    Identity::Scheduler,
];

/// Takes back what an eviction noted that did not happen.
pub(crate) const DISRUPTION: &str = "system:serviceaccount:kube-system:disruption-controller";

/// Whether the value is an address of the Pod's node, with a port.
fn is_own_address(pod: Object<'_>, value: &str) -> bool {
    let Ok(address) = value.parse::<std::net::SocketAddr>() else { return false };
    let status = &pod.0["status"];
    let all = list(status, "hostIPs").iter().map(|it| text(it, "ip")).chain([text(status, "hostIP")]);
    all.filter_map(|it| it.parse::<IpAddr>().ok()).any(|it| it == address.ip())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::component::Component;
    use crate::rules::testing::{CONTROLLER, World, table};

    const NODES: &str = "system:serviceaccount:kube-system:node-controller";

    #[test]
    fn what_runs_stays_what_it_is() {
        let world = World::new();
        let edit = |change: fn(&mut Value)| {
            world.update("Pod", "kube-system/self-hosted-kube-apiserver-abcd1", change)
        };
        let sub = |name: &str, key: &str| {
            let mut request = world.update("Pod", key, |it| it["spec"]["ephemeralContainers"] = json!([{"name": "x"}]));
            request["subResource"] = json!(name);
            request
        };
        let api = "kube-system/self-hosted-kube-apiserver-abcd1";
        let status = |change: fn(&mut Value), user: &str| {
            let mut request = edit(change);
            request["subResource"] = json!("status");
            request["userInfo"] = json!({"username": user, "groups": ["system:nodes"]});
            request
        };
        let unready: fn(&mut Value) = |it| it["status"]["conditions"][0]["status"] = json!("False");
        let mut adopted = edit(|it| it["metadata"]["ownerReferences"] = json!([]));
        adopted["userInfo"]["username"] = json!(CONTROLLER);
        let address = |value: &'static str| {
            world.update("Pod", api, move |it| it["metadata"]["annotations"][labels::ADVERTISE_ADDRESS] = json!(value))
        };
        let mut other = World::new();
        other.objects.push(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x",
            "namespace": "kube-system", "labels": {"k8s-app": "coredns"}}, "spec": {"containers": []}}));
        table(
            &RULE,
            &world,
            [
                ("a debugger", sub("ephemeralcontainers", api), true),
                ("a debugger of a standby", sub("ephemeralcontainers", "kube-system/control-plane-standby-a-cp1"), true),
                ("a size", sub("resize", api), true),
                ("a label less, through its status", status(|it| it["metadata"]["labels"] = json!({}), "system:node:cp1"), true),
                ("its status, by its kubelet", status(unready, "system:node:cp1"), false),
                ("its status, by another's", status(unready, "system:node:cp2"), true),
                ("its status, by the node controller", status(unready, NODES), false),
                ("its status, by somebody", status(unready, "ann"), true),
                ("its status, as it was", status(|it| it["metadata"]["annotations"]["x/y"] = json!("z"), "ann"), false),
                ("an image", edit(|it| it["spec"]["containers"][0]["image"] = json!("x")), true),
                ("a deadline", edit(|it| it["spec"]["activeDeadlineSeconds"] = json!(1)), true),
                ("a label less", edit(|it| it["metadata"]["labels"] = json!({})), true),
                ("a label more", edit(|it| it["metadata"]["labels"]["x"] = json!("y")), true),
                ("an owner", edit(|it| it["metadata"]["ownerReferences"] = json!([])), true),
                ("an owner, by the controller", adopted, false),
                ("its address", address("10.0.0.11:6443"), false),
                ("another address", address("10.0.0.12:6443"), true),
                ("no address", address("cp1"), true),
                ("its hash", edit(|it| it["metadata"]["annotations"][labels::TEMPLATE_HASH] = json!("x")), true),
                ("the DaemonSet, which is no Pod", world.edit_container(Component::ApiServer, |it| it["image"] = json!("x")), false),
                ("an annotation of others", edit(|it| it["metadata"]["annotations"]["x/y"] = json!("z")), false),
            ],
        );
        let label = other.update("Pod", "kube-system/x", |it| it["metadata"]["labels"]["x"] = json!("y"));
        let disguise = other.update("Pod", "kube-system/x", |it| {
            it["metadata"]["labels"]["k8s-app"] = json!("self-hosted-kube-apiserver");
        });
        table(&RULE, &other, [("another Pod", label, false), ("another Pod in disguise", disguise, true)]);
    }
}
