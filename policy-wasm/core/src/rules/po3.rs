//! PO-3: the last one that serves is not taken away.

use super::{Checked, Reach, Rule};
use crate::component::Component;
use crate::review::facts::{Lookup, Unknown};
use crate::review::pod::{Part, Pod, part_of};
use crate::review::settings::Identity;
use crate::review::{Facts, Object, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "PO-3",
    title: "a control-plane Pod is deleted while somebody else serves",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Wide,
    why: "With one API server less than one there is nobody to take the deletion back. A Pod may go while its bridge is \
          ready on the node, or while every other one of its kind is ready; a bridge, while the component itself is.",
    evasion: "- `pods/eviction`, `deletecollection`: judged alike. A grace period of zero: alike.\n\
              - One after the other, faster than they come back: the second is denied while the first is missing.\n\
              - A Pod that is not ready may always go: that is how it is repaired.",
    blind: "Readiness lags behind by a probe's period. Preemption and the kubelet's own evictions ask nobody; \
            `system-node-critical` keeps them away.",
    check,
};

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    let evicts = request.is_sub("pods", &["eviction"]) && request.operation == Operation::Create;
    let deletes = request.is("", "pods") && request.operation == Operation::Delete;
    if !evicts && !deletes {
        return Ok(Vec::new());
    }
    let system = [Identity::DaemonSetController, Identity::NodeController, Identity::PodGarbageCollector];
    if settings.is_any(&request.user, &system) {
        return Ok(Vec::new());
    }
    let pod = if deletes {
        Pod(&request.old_object)
    } else {
        if !crate::review::pod::is_part_by_name(request.namespace(), request.name(), &settings.guard.namespace) {
            return Ok(Vec::new());
        }
        let lookup = Lookup::get("v1", "Pod", request.namespace(), request.name());
        match facts.object(&lookup)? {
            Some(pod) => Pod(pod),
            None => return Ok(Vec::new()),
        }
    };
    let object = Object(pod.0);
    let by_own_kubelet = request.user.kubelet_of().is_some_and(|node| node == pod.node());
    if pod.is_mirror() || object.is_ending() || !object.is_ready() || by_own_kubelet {
        return Ok(Vec::new());
    }
    let (component, next) = match part_of(pod, request.namespace(), &settings.guard.namespace) {
        Some(Part::Component(component)) => {
            if collected(request, settings, component, facts)? || served(component, pod, facts)? {
                return Ok(Vec::new());
            }
            (component, "kubectl selfhost upgrade and unpivot replace it behind a bridge")
        }
        Some(Part::Bridge(component)) => {
            if ready_on(component, pod.node(), facts)? {
                return Ok(Vec::new());
            }
            (component, "wait until the component itself is ready on the node: kubectl selfhost status")
        }
        Some(Part::Standby | Part::Guard) | None => return Ok(Vec::new()),
    };
    let message = format!("nobody else may be there to serve as {component} on {}", pod.node());
    Ok(vec![Violation::new("", message, next)])
}

/// Whether the garbage collector takes what a deleted DaemonSet has left.
fn collected(request: &Request, settings: &Settings, component: Component, facts: &Facts) -> Result<bool, Unknown> {
    if !settings.is(&request.user, Identity::GarbageCollector) {
        return Ok(false);
    }
    let daemonset = facts.object(&Lookup::daemonset(component))?;
    Ok(daemonset.is_none_or(|it| Object(it).is_ending()))
}

/// Whether a bridge is ready on the Pod's node, or all others of the component are ready, of which there must be one.
fn served(component: Component, pod: Pod<'_>, facts: &Facts) -> Result<bool, Unknown> {
    let bridges = facts.items(&Lookup::bridges(component));
    let pods = facts.items(&Lookup::control_plane_pods());
    let here = |it: &Pod<'_>| it.node() == pod.node() && Object(it.0).is_ready() && !Object(it.0).is_ending();
    if bridges?.iter().map(Pod).any(|bridge| here(&bridge)) {
        return Ok(true);
    }
    let of_component = pods?.iter().map(Pod).filter(|it| it.component() == Some(component) && it.node() != pod.node());
    let mut count = 0;
    for other in of_component {
        if !Object(other.0).is_ready() || Object(other.0).is_ending() {
            return Ok(false);
        }
        count += 1;
    }
    // A node without its Pod is one that is not ready either.
    let nodes = facts.items(&Lookup::control_plane())?.len();
    Ok(count > 0 && count + 1 >= nodes)
}

/// Whether the component itself is ready on the node.
fn ready_on(component: Component, node: &str, facts: &Facts) -> Result<bool, Unknown> {
    let pods = facts.items(&Lookup::control_plane_pods())?;
    Ok(pods.iter().map(Pod).any(|it| {
        it.component() == Some(component) && it.node() == node && Object(it.0).is_ready() && !Object(it.0).is_ending()
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::labels;
    use crate::rules::testing::{CONTROLLER, World, create, table};

    const POD: &str = "kube-system/self-hosted-kube-apiserver-abcd1";
    const PEER: &str = "kube-system/self-hosted-kube-apiserver-abcd2";

    fn single() -> World {
        let mut world = World::new();
        for index in [2, 3] {
            world.remove("Node", &format!("cp{index}"));
            for component in Component::ALL {
                world.remove("Pod", &format!("kube-system/{}-abcd{index}", component.daemonset_name()));
            }
        }
        world
    }

    fn delete(world: &World, key: &str) -> Value {
        world.delete("v1", "Pod", key)
    }

    fn by(mut request: Value, user: &str, group: &str) -> Value {
        request["userInfo"] = json!({"username": user, "groups": [group]});
        request
    }

    fn evict(name: &str) -> Value {
        let mut request = create(&json!({"apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name, "namespace": "kube-system"}}));
        request["resource"] = json!({"group": "", "version": "v1", "resource": "pods"});
        request["subResource"] = json!("eviction");
        request["name"] = json!(name);
        request
    }

    #[test]
    fn somebody_serves() {
        let three = World::new();
        let one = single();
        let mut bridged = single();
        bridged.add_bridge(Component::ApiServer, "cp1", true);
        let mut starting = single();
        starting.add_bridge(Component::ApiServer, "cp1", false);
        let mut elsewhere = single();
        elsewhere.add_bridge(Component::ApiServer, "cp2", true);
        let mut down = World::new();
        down.object_mut("Pod", PEER)["status"]["conditions"][0]["status"] = json!("False");
        let mut missing = World::new();
        missing.remove("Pod", PEER);
        let mut broken = single();
        broken.object_mut("Pod", POD)["status"]["conditions"][0]["status"] = json!("False");
        let mut fixed = single();
        fixed.object_mut("Pod", POD)["metadata"]["annotations"][labels::MIRROR] = json!("x");
        let mut ending = single();
        ending.object_mut("Pod", POD)["metadata"]["deletionTimestamp"] = json!("2027-01-15T07:59:59Z");
        for (name, world, expected) in [
            ("three are ready", &three, false),
            ("it is the only one", &one, true),
            ("its bridge is ready", &bridged, false),
            ("its bridge is not ready", &starting, true),
            ("a bridge is ready elsewhere", &elsewhere, true),
            ("another is down", &down, true),
            ("another is missing", &missing, true),
            ("it is not ready itself", &broken, false),
            ("it is a static Pod", &fixed, false),
            ("it ends already", &ending, false),
        ] {
            table(&RULE, world, [(name, delete(world, POD), expected)]);
        }
        let name = POD.split_once('/').unwrap().1;
        let mut collection = delete(&one, POD);
        collection["name"] = json!(null);
        table(
            &RULE,
            &one,
            [
                ("evicted", evict(name), true),
                ("another one evicted", evict("coredns-x"), false),
                ("one that is gone", evict("self-hosted-kube-apiserver-gone"), false),
                ("of a collection", collection, true),
                ("by its controller", by(delete(&one, POD), CONTROLLER, "x"), false),
                ("by its kubelet", by(delete(&one, POD), "system:node:cp1", "system:nodes"), false),
                ("by another kubelet", by(delete(&one, POD), "system:node:cp2", "system:nodes"), true),
                ("collected", by(delete(&one, POD), "system:serviceaccount:kube-system:generic-garbage-collector", "x"), true),
                ("a mirror", delete(&one, "kube-system/control-plane-standby-a-cp1"), false),
                ("a label more", one.update("Pod", POD, |it| it["metadata"]["labels"]["x"] = json!("y")), false),
                ("another object deleted", one.delete("apps/v1", "DaemonSet", "kube-system/self-hosted-kube-apiserver"), false),
                ("made", create(one.object("Pod", POD)), false),
            ],
        );
    }

    #[test]
    fn what_a_deleted_daemonset_leaves_is_collected() {
        let mut left = single();
        left.remove("DaemonSet", "kube-system/self-hosted-kube-apiserver");
        let collector = "system:serviceaccount:kube-system:generic-garbage-collector";
        table(
            &RULE,
            &left,
            [("collected", by(delete(&left, POD), collector, "x"), false), ("by somebody", delete(&left, POD), true)],
        );
    }

    #[test]
    fn a_bridge_that_alone_serves_stays() {
        let bridge = "kube-system/kube-apiserver-bridge-cp1";
        let mut served = single();
        served.add_bridge(Component::ApiServer, "cp1", true);
        let mut alone = served.clone();
        alone.remove("Pod", POD);
        let mut bad = alone.clone();
        bad.object_mut("Pod", bridge)["status"]["conditions"][0]["status"] = json!("False");
        table(&RULE, &served, [("the component is ready", delete(&served, bridge), false)]);
        table(&RULE, &alone, [("the component is gone", delete(&alone, bridge), true)]);
        table(&RULE, &bad, [("it never started", delete(&bad, bridge), false)]);
    }
}
