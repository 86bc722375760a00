//! Each question, asked of a healthy cluster and of one with a single thing wrong.

use selfhost_core::component::{Component, Hosting};
use selfhost_core::finding::{Code, Finding, Severity};
use selfhost_core::labels;
use serde_json::json;

use super::*;
use crate::inventory::testing::{self, break_down, instance, restarted, self_hosted_cluster, static_cluster};
use crate::inventory::{Certificate, Instance, OpenOperation, Part, Place};

const V: &str = "v1.37.2";

/// `CODE severity subject: message | hint`
fn lines(findings: Vec<Finding>) -> Vec<String> {
    let line = |it: Finding| {
        format!(
            "{} {} {}: {} | {}",
            it.code,
            it.severity,
            it.subject,
            it.message,
            it.hint.unwrap_or_default()
        )
    };
    findings.into_iter().map(line).collect()
}

fn check(inventory: &Inventory, expected: &[&str]) {
    assert_eq!(lines(all(inventory)), expected);
}

fn of<'a>(inventory: &'a mut Inventory, component: Component, node: &str) -> &'a mut Instance {
    inventory.instances.iter_mut().find(|it| it.component == component && it.node == node).unwrap()
}

#[test]
fn a_healthy_control_plane_has_none() {
    check(&static_cluster(&["cp-1"], V), &[]);
    check(&static_cluster(&["cp-1", "cp-2", "cp-3"], V), &[]);
    check(&self_hosted_cluster(&["cp-1", "cp-2", "cp-3"], V), &[]);
}

#[test]
fn nothing_visible_is_nothing_missing() {
    let mut inventory = Inventory::empty(testing::now());
    inventory.control_plane.insert("cp-1".into(), testing::node("cp-1", V));
    check(&inventory, &[]);
}

#[test]
fn sh0201_node_not_ready() {
    let mut inventory = static_cluster(&["cp-1", "cp-2"], V);
    for condition in inventory
        .control_plane
        .get_mut("cp-2")
        .and_then(|node| node.status.as_mut()?.conditions.as_mut())
        .unwrap()
    {
        condition.status = "Unknown".into();
    }
    check(&inventory, &["SH0201 error node cp-2: is not ready | kubectl describe node cp-2"]);
    inventory.unread.insert(Part::Nodes);
    check(&inventory, &[]);
}

#[test]
fn sh0101_missing() {
    let mut inventory = static_cluster(&["cp-1", "cp-2"], V);
    inventory.instances.retain(|it| (it.component, it.node.as_str()) != (Component::Scheduler, "cp-2"));
    check(
        &inventory,
        &["SH0101 error kube-scheduler on cp-2: has no Pod there | kubectl -n kube-system get pods \
           --field-selector spec.nodeName=cp-2"],
    );
    // Whoever cannot see Pods cannot miss them.
    inventory.unread.insert(Part::Pods);
    check(&inventory, &[]);
    // DaemonSets without any Pod are a control plane that lacks everything.
    let mut inventory = self_hosted_cluster(&["cp-1"], V);
    inventory.instances.clear();
    assert_eq!(all(&inventory).iter().filter(|it| it.code == Code::Missing).count(), 3);
}

#[test]
fn sh0102_mixed() {
    let mut inventory = self_hosted_cluster(&["cp-1", "cp-2"], V);
    *of(&mut inventory, Component::ApiServer, "cp-2") =
        instance(Component::ApiServer, "cp-2", Hosting::StaticPod, V);
    check(
        &inventory,
        &[
            "SH0102 warning kube-apiserver: a static Pod on cp-2, self-hosted on cp-1 | kubectl selfhost pivot \
           moves the rest",
        ],
    );
}

#[test]
fn sh0102_both_on_one_node() {
    let mut inventory = self_hosted_cluster(&["cp-1", "cp-2"], V);
    inventory.instances.push(instance(Component::ApiServer, "cp-2", Hosting::StaticPod, V));
    let found = lines(all(&inventory));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("both a static Pod and self-hosted on cp-2, on one port"), "{found:?}");
}

#[test]
fn a_bridge_that_serves_makes_it_a_note() {
    for (running, on, severity) in
        [(true, "cp-1", Severity::Info), (false, "cp-1", Severity::Error), (true, "cp-2", Severity::Error)]
    {
        let mut inventory = self_hosted_cluster(&["cp-1", "cp-2"], V);
        inventory.bridges.push(testing::bridge(Component::Scheduler, on));
        inventory.operation = Some(operation(running));
        break_down(&mut of(&mut inventory, Component::Scheduler, "cp-1").pod, "ContainerCreating");
        let found = all(&inventory).into_iter().find(|it| it.code == Code::NotReady).unwrap();
        assert_eq!(found.severity, severity, "{running} {on}");
        inventory.instances.retain(|it| (it.component, it.node.as_str()) != (Component::Scheduler, "cp-1"));
        let found = all(&inventory).into_iter().find(|it| it.code == Code::Missing).unwrap();
        assert_eq!(found.severity, severity, "{running} {on}");
        assert_eq!(found.message.ends_with("; its bridge serves"), severity == Severity::Info);
    }
}

fn operation(running: bool) -> OpenOperation {
    OpenOperation {
        holder: "ann@desk".into(),
        what: "upgrade v1.37.2".into(),
        command: Some("kubectl selfhost upgrade v1.37.2".into()),
        step: Some("swap kube-apiserver on cp-1".into()),
        since: Some("2026-06-01T11:57:00Z".parse().unwrap()),
        renewed: Some("2026-06-01T11:58:00Z".parse().unwrap()),
        running,
        record: None,
    }
}

#[test]
fn sh0103_not_ready() {
    let mut inventory = static_cluster(&["cp-1", "cp-2"], V);
    break_down(&mut of(&mut inventory, Component::Scheduler, "cp-2").pod, "CrashLoopBackOff");
    break_down(inventory.etcd.get_mut("cp-1").unwrap(), "ImagePullBackOff");
    check(
        &inventory,
        &[
            "SH0103 error kube-scheduler on cp-2: not ready for 5m (CrashLoopBackOff) | kubectl -n kube-system logs \
             kube-scheduler-cp-2 --previous",
            "SH0103 error etcd on cp-1: not ready for 5m (ImagePullBackOff) | kubectl -n kube-system describe pod \
             etcd-cp-1",
        ],
    );
}

#[test]
fn sh0103_one_that_serves_is_enough() {
    let mut inventory = self_hosted_cluster(&["cp-1"], V);
    let mut leaving = instance(Component::Scheduler, "cp-1", Hosting::SelfHosted, V);
    leaving.pod.metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-06-01T12:00:00Z")).unwrap());
    inventory.instances.push(leaving.clone());
    check(&inventory, &[]);
    inventory.instances.retain(|it| it.component != Component::Scheduler);
    inventory.instances.push(leaving);
    check(
        &inventory,
        &["SH0103 error kube-scheduler on cp-1: not ready (Terminating) | kubectl -n kube-system describe \
           pod self-hosted-kube-scheduler-cp-1x"],
    );
}

#[test]
fn sh0104_restarts() {
    for (times, last, expected) in [
        (7, "2026-06-01T11:55:00Z", Some("restarted 7 times, last 5m ago")),
        (3, "2026-06-01T11:59:00Z", Some("restarted 3 times, last 60s ago")),
        // Few, or long ago.
        (2, "2026-06-01T11:55:00Z", None),
        (7, "2026-06-01T10:00:00Z", None),
    ] {
        let mut inventory = static_cluster(&["cp-1"], V);
        restarted(&mut of(&mut inventory, Component::ControllerManager, "cp-1").pod, times, last);
        let found = all(&inventory);
        assert_eq!(found.first().map(|it| it.message.as_str()), expected, "{times} {last}");
        assert!(found.iter().all(|it| it.code == Code::Restarts));
    }
}

#[test]
fn sh0105_versions_differ() {
    let mut inventory = static_cluster(&["cp-1", "cp-2", "cp-3"], "v1.37.1");
    *of(&mut inventory, Component::ApiServer, "cp-2") =
        instance(Component::ApiServer, "cp-2", Hosting::StaticPod, V);
    check(
        &inventory,
        &[
            "SH0105 warning kube-apiserver: v1.37.1 on cp-1 and cp-3, v1.37.2 on cp-2 | kubectl selfhost upgrade \
           brings all to one version",
        ],
    );
}

#[test]
fn sh0106_component_skew() {
    for (server, scheduler, expected) in [
        ("v1.37.2", "v1.36.0", None),
        ("v1.36.3", "v1.37.2", Some("v1.37.2 is newer than kube-apiserver v1.36.3")),
        ("v1.37.2", "v1.35.9", Some("v1.35.9 is too old for kube-apiserver v1.37.2")),
    ] {
        let mut inventory = static_cluster(&["cp-1"], server);
        *of(&mut inventory, Component::Scheduler, "cp-1") =
            instance(Component::Scheduler, "cp-1", Hosting::StaticPod, scheduler);
        let found = versions::component_skew(&inventory);
        assert_eq!(found.first().map(|it| it.message.as_str()), expected, "{server} {scheduler}");
    }
    let mut inventory = static_cluster(&["cp-1", "cp-2"], "v1.37.2");
    *of(&mut inventory, Component::ApiServer, "cp-2") =
        instance(Component::ApiServer, "cp-2", Hosting::StaticPod, "v1.35.0");
    let found = lines(versions::component_skew(&inventory));
    assert!(
        found[0].contains("kube-apiserver: v1.35.0 and v1.37.2 at a time: more than one minor apart"),
        "{found:?}"
    );
}

/// Each copy counts as what it emulates, too.
#[test]
fn sh0105_sh0106_while_emulating() {
    let mut inventory = testing::emulating(static_cluster(&["cp-1", "cp-2"], V), V, "1.36");
    inventory.kubelets.clear();
    check(&inventory, &[]);
    *of(&mut inventory, Component::Scheduler, "cp-1") =
        instance(Component::Scheduler, "cp-1", Hosting::StaticPod, V);
    check(
        &inventory,
        &[
            "SH0105 warning kube-scheduler: v1.37.2 (as 1.36) on cp-2, v1.37.2 on cp-1 | kubectl selfhost upgrade \
             brings all to one version",
            "SH0106 error kube-scheduler on cp-1: v1.37.2 is newer than kube-apiserver v1.37.2 (as 1.36) | kubectl \
             selfhost upgrade brings all to one version, API servers first",
        ],
    );
}

#[test]
fn sh0107_kubelet_skew() {
    let mut inventory = static_cluster(&["cp-1"], V);
    for n in 1..=5 {
        inventory.kubelets.insert(format!("worker-{n}"), Some("v1.33.1".parse().unwrap()));
    }
    inventory.kubelets.insert("worker-6".into(), Some("v1.34.1".parse().unwrap()));
    inventory.kubelets.insert("worker-7".into(), None);
    inventory.kubelets.insert("worker-8".into(), Some("v1.38.0".parse().unwrap()));
    check(
        &inventory,
        &[
            "SH0107 error kubelet on worker-1, worker-2 and 3 more: v1.33.1 is too old for kube-apiserver v1.37.2 | \
             upgrade these kubelets: at most 3 minors behind are supported",
            "SH0107 error kubelet on worker-8: v1.38.0 is newer than kube-apiserver v1.37.2 | upgrade the control \
             plane, or bring the kubelets back",
        ],
    );
}

#[test]
fn sh0108_rolls_by_itself() {
    let mut inventory = self_hosted_cluster(&["cp-1"], V);
    let daemonset = inventory.daemonsets.get_mut(&Component::Scheduler).unwrap();
    daemonset.spec.update_strategy = None;
    check(
        &inventory,
        &[
            "SH0108 warning daemonset kube-system/self-hosted-kube-scheduler: updateStrategy RollingUpdate: an edit \
           replaces its Pods at once | kubectl selfhost upgrade adopts it, and sets OnDelete",
        ],
    );
}

#[test]
fn sh0109_drift() {
    let edited = |observed: i64, updated: i32| {
        let mut inventory = self_hosted_cluster(&["cp-1", "cp-2"], V);
        let daemonset = inventory.daemonsets.get_mut(&Component::ApiServer).unwrap();
        daemonset.metadata.generation = Some(2);
        let annotations = daemonset.metadata.annotations.as_mut().unwrap();
        annotations.insert("deprecated.daemonset.template.generation".into(), "2".into());
        let status = daemonset.status.as_mut().unwrap();
        status.observed_generation = Some(observed);
        status.current_number_scheduled = 2;
        status.updated_number_scheduled = Some(updated);
        of(&mut inventory, Component::ApiServer, "cp-2")
            .pod
            .metadata
            .labels
            .as_mut()
            .unwrap()
            .insert("pod-template-generation".into(), "2".into());
        inventory
    };
    let line = "SH0109 warning daemonset kube-system/self-hosted-kube-apiserver: was edited, and cp-1 still runs what \
                it said before | kubectl selfhost upgrade rolls it node by node";
    check(&edited(2, 1), &[line]);
    // The controller has not seen the edit yet: its count says nothing.
    check(&edited(1, 2), &[line]);
    // Edited there and back: the generation grew, and the Pods are as they should be.
    check(&edited(2, 2), &[]);
}

#[test]
fn sh0110_made_by_kubeadm() {
    let mut inventory = self_hosted_cluster(&["cp-1"], V);
    for daemonset in inventory.daemonsets.values_mut() {
        let selector = [("node-role.kubernetes.io/master".to_owned(), String::new())].into();
        daemonset.spec.template.spec.as_mut().unwrap().node_selector = Some(selector);
    }
    check(
        &inventory,
        &[
            "SH0110 info control plane: kube-apiserver, kube-controller-manager and kube-scheduler laid out by kubeadm \
           1.5 to 1.18, not by this tool | kubectl selfhost upgrade adopts them",
        ],
    );
}

#[test]
fn sh0111_no_standby() {
    let mut inventory = self_hosted_cluster(&["cp-1", "cp-2"], V);
    inventory.standbys.remove("cp-2");
    let found = lines(all(&inventory));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("SH0111 warning control plane: nothing on cp-2 starts it again"),
        "{found:?}"
    );
    // Half way of a pivot the static Pod is still there.
    inventory.instances.push(instance(Component::ApiServer, "cp-2", Hosting::StaticPod, V));
    assert!(standby::missing(&inventory).is_empty());
}

#[test]
fn sh0112_and_sh0113_certificates() {
    for (not_after, expected) in [
        (
            "2026-06-01T11:00:00Z",
            Some(
                "SH0113 error kube-apiserver on cp-1: the certificate served at 10.0.0.1:6443 expired 60m ago",
            ),
        ),
        (
            "2026-06-11T12:00:00Z",
            Some(
                "SH0112 warning kube-apiserver on cp-1: the certificate served at 10.0.0.1:6443 expires in 10d",
            ),
        ),
        (
            "2026-07-01T11:59:59Z",
            Some(
                "SH0112 warning kube-apiserver on cp-1: the certificate served at 10.0.0.1:6443 expires in 29d",
            ),
        ),
        ("2026-07-01T12:00:00Z", None),
    ] {
        let mut inventory = static_cluster(&["cp-1"], V);
        inventory.certificates.push(Certificate {
            component: Component::ApiServer,
            node: Some("cp-1".into()),
            place: Place::Served("10.0.0.1:6443".into()),
            not_after: not_after.parse().unwrap(),
        });
        let found = lines(all(&inventory));
        let found = found.first().map(|line| line.split(" | ").next().unwrap());
        assert_eq!(found, expected);
    }
}

#[test]
fn sh0114_operation() {
    let mut inventory = static_cluster(&["cp-1"], V);
    inventory.operation = Some(operation(true));
    check(
        &inventory,
        &[
            "SH0114 info operation upgrade v1.37.2: run by ann@desk for 3m at \"swap kube-apiserver on cp-1\" | \
           kubectl selfhost status --watch follows it",
        ],
    );
    inventory.operation = Some(operation(false));
    check(
        &inventory,
        &[
            "SH0114 warning operation upgrade v1.37.2: interrupted at \"swap kube-apiserver on cp-1\"; run by ann@desk, \
           last seen 2m ago | kubectl selfhost resume goes on where it stopped, kubectl selfhost abort goes back",
        ],
    );
}

#[test]
fn sh0115_bridge_left() {
    let mut inventory = static_cluster(&["cp-1"], V);
    inventory.bridges.push(testing::bridge(Component::ApiServer, "cp-1"));
    check(
        &inventory,
        &[
            "SH0115 warning pod kube-system/bridge-kube-apiserver-cp-1: is on cp-1, and no operation accounts for it | \
           kubectl -n kube-system delete pod bridge-kube-apiserver-cp-1, once the component itself is ready",
        ],
    );
    inventory.unread.insert(Part::Lease);
    check(&inventory, &[]);
}

/// Two generations of a standby on the node, the latest first, which the kubelet shows as running.
fn generations(inventory: &mut Inventory, node: &str) {
    let pod = |number: u64| {
        let mut pod = testing::standby(node);
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(labels::CHECKPOINT.to_owned(), number.to_string());
        pod
    };
    inventory.standbys.insert(node.to_owned(), vec![pod(7), pod(6)]);
}

#[test]
fn sh0116_checkpoint_damaged() {
    let mut inventory = self_hosted_cluster(&["cp-1", "cp-2"], V);
    generations(&mut inventory, "cp-2");
    check(&inventory, &[]);
    let mut gone = inventory.clone();
    gone.standbys.get_mut("cp-2").unwrap().remove(1);
    check(
        &gone,
        &[
            "SH0116 warning standby on cp-2: of two checkpoints only 7 is there | kubectl selfhost checkpoint refresh",
        ],
    );
    // A container that was not made yet is not one that ended.
    let latest = &mut inventory.standbys.get_mut("cp-2").unwrap()[0];
    break_down(latest, "ContainerCreating");
    check(&inventory, &[]);
    let latest = &mut inventory.standbys.get_mut("cp-2").unwrap()[0];
    for container in latest.status.as_mut().unwrap().container_statuses.iter_mut().flatten() {
        let message = "12:00 started\nerror: checkpoint 7 is damaged\n  hint: write it anew";
        let ended = json!({"terminated": {"exitCode": 1, "message": message}});
        container.last_state = Some(serde_json::from_value(ended).unwrap());
    }
    check(
        &inventory,
        &[
            "SH0116 warning standby on cp-2: checkpoint 7 does not run: control-plane-standby: error: checkpoint 7 is \
           damaged | kubectl selfhost checkpoint refresh",
        ],
    );
}

#[test]
fn sh0117_checkpoint_stale() {
    use crate::plan::tests::{self_hosted, v};
    let inventory = self_hosted(1, "v1.36.3");
    assert_eq!(lines(standby::stale(&inventory)), [""; 0]);
    let edited = |inventory: &mut Inventory, tag: &str| {
        let template = &mut inventory.daemonsets.get_mut(&Component::Scheduler).unwrap().spec.template;
        let image = template.spec.as_mut().unwrap().containers[0].image.as_mut().unwrap();
        *image = selfhost_core::version::retag(image, &v(tag));
    };
    for (tag, severity, message) in [
        ("v1.36.4", "warning", "is not what runs"),
        ("v1.38.0", "error", "is of a version that must not join what runs"),
    ] {
        let mut inventory = inventory.clone();
        edited(&mut inventory, tag);
        let expected = format!(
            "SH0117 {severity} checkpoint control-plane-standby on cp1: {message}: kube-scheduler | kubectl selfhost \
             checkpoint refresh"
        );
        assert_eq!(lines(standby::stale(&inventory)), [expected]);
        inventory.operation = Some(operation(false));
        assert_eq!(lines(standby::stale(&inventory)), [""; 0], "its end writes it down");
    }
}
