//! Golden plans, and the table of refusals.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt as _;
use selfhost_core::component::{Component, Hosting};
use selfhost_core::finding::{Code, Finding};
use selfhost_core::labels;
use selfhost_core::version::{KubeVersion, VersionRequest};
use serde_json::json;

use super::*;
use crate::inventory::testing::standby;
use crate::inventory::{Inventory, OpenOperation};
use crate::template::normalize;

pub(crate) const IMAGE: &str = "example.org/selfhost-node@sha256:00";

/// A healthy kubeadm cluster with this many control-plane nodes.
pub(crate) fn kubeadm(n_nodes: usize, version: &str) -> Inventory {
    let mut inventory = Inventory::empty(Timestamp::UNIX_EPOCH);
    inventory.server_version = version.parse().ok();
    inventory.service_ip = "10.96.0.1".parse().ok();
    inventory.kubeadm = Some(format!("apiVersion: kubeadm.k8s.io/v1beta4\nkubernetesVersion: {version}\n"));
    for index in 1..=n_nodes {
        let (name, address) = (format!("cp{index}"), format!("10.0.0.1{index}"));
        inventory.control_plane.insert(name.clone(), node(&name, &address));
        inventory.kubelets.insert(name.clone(), version.parse().ok());
        for component in Component::ALL {
            let pod = static_pod(component, &name, &address, version);
            inventory.instances.push(Instance {
                component,
                node: name.clone(),
                hosting: Hosting::StaticPod,
                pod,
            });
        }
    }
    inventory
}

fn node(name: &str, address: &str) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "images": [
                {"names": ["registry.k8s.io/kube-apiserver@sha256:11", "registry.k8s.io/kube-apiserver:v1.37.2"]},
                {"names": ["registry.k8s.io/kube-apiserver:v1.37.0"]},
                {"names": ["registry.k8s.io/kube-apiserver:v1.38.0-rc.1"]},
                {"names": ["registry.k8s.io/kube-scheduler:v1.37.9"]}
            ]
        }
    }))
    .unwrap()
}

fn static_pod(component: Component, node: &str, address: &str, version: &str) -> Pod {
    let command = match component {
        Component::ApiServer => vec![component.name().to_owned(), format!("--advertise-address={address}")],
        _ => vec![component.name().to_owned(), "--leader-elect=true".to_owned()],
    };
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("{component}-{node}"), "namespace": "kube-system",
            "labels": {"component": component.name(), "tier": "control-plane"},
            "annotations": {"kubernetes.io/config.mirror": "x",
                labels::ADVERTISE_ADDRESS: format!("{address}:6443")}
        },
        "spec": {
            "nodeName": node, "hostNetwork": true,
            "containers": [{"name": component.name(), "command": command,
                "image": format!("registry.k8s.io/{component}:{version}")}]
        },
        "status": {
            "hostIP": address,
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": component.name(), "ready": true, "restartCount": 0, "imageID": "",
                "image": format!("registry.k8s.io/{component}:{version}")}]
        }
    }))
    .unwrap()
}

/// What a finished swap leaves: the DaemonSet, its Pod, no static Pod.
pub(crate) fn swapped(
    inventory: &mut Inventory,
    component: Component,
    node: &str,
    template: &PodTemplateSpec,
) {
    inventory.daemonsets.insert(component, template::daemonset(component, template.clone()));
    let at = inventory.instances.iter_mut().find(|i| i.component == component && i.node == node).unwrap();
    at.hosting = Hosting::SelfHosted;
    at.pod.metadata = template.metadata.clone().unwrap();
    at.pod.metadata.name = Some(format!("{}-abcde", component.daemonset_name()));
    let mut spec = template.spec.clone().unwrap();
    spec.node_name = Some(node.to_owned());
    let image = spec.containers[0].image.clone().unwrap();
    at.pod.spec = Some(spec);
    at.pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0].image = image;
}

pub(crate) fn self_hosted(n_nodes: usize, version: &str) -> Inventory {
    let mut inventory = kubeadm(n_nodes, version);
    let plan = pivot::plan(&inventory, IMAGE, None).unwrap();
    for component in Component::ALL {
        for node in plan.nodes.keys() {
            swapped(&mut inventory, component, node, &plan.templates[&component]);
        }
    }
    checkpointed(&mut inventory, &plan);
    inventory
}

/// Every node's standby is what the plan ends with.
pub(crate) fn checkpointed(inventory: &mut Inventory, plan: &Plan) {
    for node in plan.nodes.keys() {
        let latest: Pod = serde_json::from_str(&plan.standby(node).unwrap()).unwrap();
        inventory.standbys.entry(node.clone()).or_default().insert(0, latest);
    }
}

pub(crate) fn listing(plan: &Plan) -> String {
    verify::verify(plan).expect("the verifier accepts what the planner makes");
    let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    steps.join("\n")
}

pub(crate) fn codes(result: Result<Plan, Vec<Finding>>) -> Vec<&'static str> {
    let mut codes: Vec<_> =
        result.err().unwrap_or_default().iter().map(|finding| finding.code.as_str()).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

pub(crate) fn v(text: &str) -> KubeVersion {
    text.parse().unwrap()
}

#[test]
fn pivot_of_one_node() {
    insta::assert_snapshot!(listing(&pivot::plan(&kubeadm(1, "v1.36.3"), IMAGE, None).unwrap()));
}

#[test]
fn pivot_of_three_nodes_goes_component_by_component() {
    insta::assert_snapshot!(listing(&pivot::plan(&kubeadm(3, "v1.36.3"), IMAGE, None).unwrap()));
}

#[test]
fn upgrade_of_one_node() {
    let inventory = self_hosted(1, "v1.36.3");
    insta::assert_snapshot!(listing(&upgrade::plan(&inventory, &v("v1.37.2"), IMAGE, None, None).unwrap()));
}

#[test]
fn what_is_done_is_not_planned_again() {
    let mut inventory = self_hosted(3, "v1.36.3");
    inventory.standbys.clear();
    let plan = pivot::plan(&inventory, IMAGE, None).unwrap();
    let checkpoints = plan.steps.iter().map(ToString::to_string);
    assert_eq!(
        checkpoints.collect::<Vec<_>>(),
        ["cp1", "cp2", "cp3"].map(|node| format!("{node} write checkpoint"))
    );
    inventory.standbys = ["cp1", "cp2", "cp3"].map(|node| (node.to_owned(), vec![standby(node)])).into();
    checkpointed(&mut inventory, &plan);
    assert!(pivot::plan(&inventory, IMAGE, None).unwrap().is_empty());
    assert!(upgrade::plan(&inventory, &v("v1.36.3"), IMAGE, None, None).unwrap().is_empty());
}

/// Somebody deleted a DaemonSet: its Pods are gone, the standby serves, and a pivot writes it as it was.
#[test]
fn a_deleted_daemonset_is_restored_from_the_checkpoint() {
    let mut inventory = self_hosted(1, "v1.36.3");
    let whole = pivot::plan(&inventory, IMAGE, None).unwrap();
    let latest: Pod = serde_json::from_str(&whole.standby("cp1").unwrap()).unwrap();
    inventory.standbys.insert("cp1".to_owned(), vec![latest]);
    for component in [Component::ApiServer, Component::Scheduler] {
        inventory.daemonsets.remove(&component);
        inventory.instances.retain(|instance| instance.component != component);
    }
    let plan = pivot::plan(&inventory, IMAGE, None).unwrap();
    assert_eq!(plan.templates, whole.templates);
    assert_eq!(
        plan.steps.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "cp1 kube-apiserver: write DaemonSet",
            "cp1 kube-apiserver: start Pod",
            "cp1 kube-apiserver: wait until ready",
            "cp1 kube-scheduler: write DaemonSet",
            "cp1 kube-scheduler: start Pod",
            "cp1 kube-scheduler: wait until ready",
        ]
    );
    assert_eq!(verify::verify(&plan), Ok(()));
    assert!(
        upgrade::plan(&inventory, &v("v1.37.2"), IMAGE, None, None).is_err(),
        "first whole, then another version"
    );
    inventory.standbys.clear();
    assert!(pivot::plan(&inventory, IMAGE, None).is_err(), "nothing is left to start from");
}

/// `selfhost-node recover` made a static Pod of the DaemonSet, whose own Pod cannot have the port.
#[test]
fn what_was_recovered_is_pivoted_again() {
    let mut inventory = self_hosted(1, "v1.36.3");
    let api_server = Component::ApiServer;
    let daemonset = inventory.daemonsets.get_mut(&api_server).unwrap();
    let template = daemonset.spec.template.spec.as_mut().unwrap();
    let uses_it = json!({"name": "X", "value": "$(HOST_IP):1"});
    template.containers[0].env.as_mut().unwrap().push(serde_json::from_value(uses_it).unwrap());
    let mut pod = static_pod(api_server, "cp1", "10.0.0.11", "v1.36.3");
    pod.metadata.annotations.as_mut().unwrap().insert(labels::RECOVERED.into(), "true".into());
    let mut spec = template.clone();
    spec.node_selector = None;
    spec.automount_service_account_token = None;
    let variable = &mut spec.containers[0].env.as_mut().unwrap()[0];
    (variable.value, variable.value_from) = (Some("10.0.0.11".into()), None);
    pod.spec = Some(spec);
    let fails = inventory.instances.iter_mut().find(|instance| instance.component == api_server).unwrap();
    fails.pod.status.as_mut().unwrap().conditions = None;
    let instance = Instance { component: api_server, node: "cp1".into(), hosting: Hosting::StaticPod, pod };
    inventory.instances.push(instance);
    inventory.standbys.clear();

    let plan = pivot::plan(&inventory, IMAGE, None).unwrap();
    let steps = listing(&plan);
    insta::assert_snapshot!(steps, @r"
    cp1 kube-apiserver: start bridge
    cp1 kube-apiserver: keep address announced
    cp1 kube-apiserver: write checkpoint
    cp1 kube-apiserver: write DaemonSet
    cp1 kube-apiserver: withdraw from DaemonSet
    cp1 kube-apiserver: move static manifest away
    cp1 kube-apiserver: wait until ready
    cp1 kube-apiserver: release bridge
    ");
    assert!(!format!("{:?}", plan.templates[&api_server]).contains(labels::RECOVERED));

    inventory.daemonsets.remove(&api_server);
    let plan = pivot::plan(&inventory, IMAGE, None).unwrap();
    assert!(
        !format!("{:?}", plan.templates[&api_server]).contains(labels::RECOVERED),
        "nor without a DaemonSet"
    );
}

#[test]
fn a_plan_has_the_same_id_when_made_again_and_another_for_another_target() {
    let inventory = self_hosted(1, "v1.36.3");
    let id = |target| upgrade::plan(&inventory, &v(target), IMAGE, None, None).unwrap().id();
    assert_eq!(id("v1.37.2"), id("v1.37.2"));
    assert_ne!(id("v1.37.2"), id("v1.37.1"));
    let plan = |target| upgrade::plan(&inventory, &v(target), IMAGE, None, None).unwrap();
    assert!(!plan("v1.37.2").ends_as(&plan("v1.37.1")));
}

/// Whatever an interrupted pivot leaves, planning again gives the rest: never more, and never a step out of order.
#[test]
fn an_interrupted_pivot_is_finished() {
    let whole = pivot::plan(&kubeadm(1, "v1.36.3"), IMAGE, None).unwrap();
    let mut inventory = kubeadm(1, "v1.36.3");
    inventory.operation = Some(interrupted("pivot"));
    let api_server = Component::ApiServer;
    inventory.bridges.push(whole.bridge(api_server, "cp1").unwrap());
    assert_eq!(pivot::plan(&inventory, IMAGE, None).unwrap().steps, whole.steps, "bridge started");

    inventory.daemonsets.insert(api_server, whole.daemonset(api_server).unwrap());
    assert_eq!(pivot::plan(&inventory, IMAGE, None).unwrap().steps, whole.steps, "DaemonSet written");

    let mut moved = inventory.clone();
    moved.instances.retain(|instance| instance.component != api_server);
    let plan = pivot::plan(&moved, IMAGE, None).unwrap();
    assert_eq!(plan.steps[3].verb, Verb::Delete, "nothing is left to move away: {}", listing(&plan));

    swapped(&mut inventory, api_server, "cp1", &whole.templates[&api_server]);
    let plan = pivot::plan(&inventory, IMAGE, None).unwrap();
    assert_eq!(plan.steps[..2], whole.steps[5..7], "{}", listing(&plan));

    inventory.bridges.clear();
    checkpointed(&mut inventory, &whole);
    let rest = pivot::plan(&inventory, IMAGE, None).unwrap();
    assert_eq!(rest.steps, whole.steps[7..], "API server done");
    assert!(rest.ends_as(&whole));
}

pub(crate) fn interrupted(what: &str) -> OpenOperation {
    OpenOperation {
        holder: "ann@desk".into(),
        what: what.into(),
        command: None,
        step: None,
        since: None,
        renewed: None,
        running: false,
        record: None,
    }
}

#[test]
fn a_daemonset_of_kubeadms_is_adopted_first() {
    let mut inventory = self_hosted(1, "v1.36.3");
    let daemonset = inventory.daemonsets.get_mut(&Component::Scheduler).unwrap();
    daemonset.spec.update_strategy.as_mut().unwrap().type_ = Some("RollingUpdate".into());
    let pod = daemonset.spec.template.spec.as_mut().unwrap();
    let master = "node-role.kubernetes.io/master".to_owned();
    pod.node_selector = Some(BTreeMap::from([(master, String::new())]));
    let plan = upgrade::plan(&inventory, &v("v1.37.2"), IMAGE, None, None).unwrap();
    let first = &plan.steps[0];
    assert_eq!((first.verb, first.component), (Verb::Adopt, Some(Component::Scheduler)));
    listing(&plan);
}

#[test]
fn the_images_follow_the_target_and_nothing_else_does() {
    let inventory = self_hosted(1, "v1.36.3");
    let image = |repository| {
        let plan = upgrade::plan(&inventory, &v("v1.37.2"), IMAGE, repository, None).unwrap();
        template::image(Component::ApiServer, &plan.templates[&Component::ApiServer]).unwrap().to_owned()
    };
    assert_eq!(image(None), "registry.k8s.io/kube-apiserver:v1.37.2");
    assert_eq!(image(Some("example.org/mirror/")), "example.org/mirror/kube-apiserver:v1.37.2");
}

#[test]
fn refusals_of_an_upgrade() {
    type Change = fn(&mut Inventory);
    let cases: [(&str, &str, Change, &[Code]); 11] = [
        ("two minors", "v1.38.0", |_| {}, &[Code::MinorSkipped]),
        ("downgrade", "v1.35.9", |_| {}, &[Code::KubeletSkew, Code::Downgrade]),
        (
            "old kubelet",
            "v1.37.2",
            |i| drop(i.kubelets.insert("w1".into(), "v1.33.0".parse().ok())),
            &[Code::KubeletSkew],
        ),
        ("static Pods", "v1.37.2", |i| *i = kubeadm(1, "v1.36.3"), &[Code::NotSelfHosted]),
        (
            "another operation",
            "v1.37.2",
            |i| i.operation = Some(interrupted("upgrade v1.37.1")),
            &[Code::Locked],
        ),
        (
            "node not ready",
            "v1.37.2",
            |i| i.control_plane.get_mut("cp1").unwrap().status.as_mut().unwrap().conditions = None,
            &[Code::NodeNotReady],
        ),
        (
            "component not ready",
            "v1.37.2",
            |i| i.instances[2].pod.status.as_mut().unwrap().conditions = None,
            &[Code::Unhealthy],
        ),
        ("component missing", "v1.37.2", |i| drop(i.instances.remove(1)), &[Code::Missing]),
        (
            "image without a version",
            "v1.37.2",
            |i| {
                let instance = &mut i.instances[1];
                instance.pod.spec.as_mut().unwrap().containers[0].image = Some("kcm:latest".into());
                let status = instance.pod.status.as_mut().unwrap();
                status.container_statuses.as_mut().unwrap()[0].image = "kcm:latest".into();
            },
            &[Code::VersionUnknown],
        ),
        (
            "unreadable",
            "v1.37.2",
            |i| i.findings.push(Finding::new(Code::Unreadable, "nodes", "forbidden")),
            &[Code::Unreadable],
        ),
        (
            "left bridge",
            "v1.37.2",
            |i| {
                let plan = upgrade::plan(i, &v("v1.37.2"), IMAGE, None, None).unwrap();
                i.bridges.push(plan.bridge(Component::ApiServer, "cp1").unwrap());
            },
            &[Code::BridgeLeft],
        ),
    ];
    for (name, target, change, expected) in cases {
        let mut inventory = self_hosted(1, "v1.36.3");
        change(&mut inventory);
        let expected: Vec<_> = expected.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes(upgrade::plan(&inventory, &v(target), IMAGE, None, None)), expected, "{name}");
    }
}

#[test]
fn manifests_that_differ_are_refused_with_the_difference() {
    let mut inventory = kubeadm(3, "v1.36.3");
    let command = inventory.instances[3].pod.spec.as_mut().unwrap().containers[0].command.as_mut().unwrap();
    command.push("--v=4".into());
    let findings = pivot::plan(&inventory, IMAGE, None).unwrap_err();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].code, Code::ManifestsDiffer);
    assert_eq!(findings[0].subject, "kube-apiserver on cp2");
    assert!(findings[0].message.contains("--v=4"), "{}", findings[0].message);
}

#[test]
fn one_minor_means_the_newest_patch_known() {
    let known = upgrade::versions_on_nodes(&kubeadm(1, "v1.36.3"));
    assert_eq!(known, [v("v1.37.0"), v("v1.37.2"), v("v1.38.0-rc.1")]);
    for (request, expected) in [("v1.37", Some("v1.37.2")), ("v1.38", None), ("v1.37.1", Some("v1.37.1"))] {
        let request: VersionRequest = request.parse().unwrap();
        assert_eq!(upgrade::resolve(&request, &known), expected.map(v), "{request}");
    }
}

#[test]
pub(crate) fn kubeadms_record_changes_in_one_line() {
    let before = "a: 1\nkubernetesVersion: v1.36.3\nnetworking:\n  x: y\n";
    assert_eq!(upgrade::recorded_version(before), Some(v("v1.36.3")));
    let after = upgrade::record_version(before, &v("v1.37.2"));
    assert_eq!(after, "a: 1\nkubernetesVersion: v1.37.2\nnetworking:\n  x: y\n");
    assert_eq!(
        upgrade::record_version("kubernetesVersion: v1.36.3", &v("v1.37.2")),
        "kubernetesVersion: v1.37.2"
    );
}

#[test]
fn normalizing_is_stable_for_every_component() {
    for (component, template) in pivot::plan(&kubeadm(1, "v1.36.3"), IMAGE, None).unwrap().templates {
        let (metadata, spec) = (template.metadata.clone().unwrap(), template.spec.clone().unwrap());
        assert_eq!(normalize(component, &metadata, &spec, None), Ok(template));
    }
}

/// Every DaemonSet was deleted a moment ago: the Pods drain, and the standby serves.
#[test]
fn what_drains_is_brought_back_like_what_is_gone() {
    let mut inventory = self_hosted(1, "v1.36.3");
    inventory.daemonsets.clear();
    for instance in &mut inventory.instances {
        instance.pod.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        instance.pod.status.as_mut().unwrap().conditions = None;
    }
    let expected: Vec<String> = Component::ALL
        .iter()
        .flat_map(|it| {
            ["write DaemonSet", "start Pod", "wait until ready"].map(|act| format!("cp1 {it}: {act}"))
        })
        .collect();
    assert_eq!(listing(&pivot::plan(&inventory, IMAGE, None).unwrap()), expected.join("\n"));
}

/// The component's DaemonSet was edited, and not rolled: no Pod has run it.
pub(crate) fn edited(inventory: &mut Inventory, component: Component) {
    let daemonset = inventory.daemonsets.get_mut(&component).unwrap();
    let generation = ("deprecated.daemonset.template.generation".to_owned(), "2".to_owned());
    daemonset.metadata.annotations = Some([generation].into());
    for instance in &mut inventory.instances {
        instance.pod.labels_mut().insert("pod-template-generation".into(), "1".into());
    }
}

#[test]
fn a_refresh_writes_what_has_served() {
    let refresh = |inventory: &Inventory| refresh::plan(inventory, Goal::Refresh, IMAGE);
    let mut inventory = self_hosted(2, "v1.36.3");
    assert!(refresh(&inventory).unwrap().is_empty(), "every standby holds what runs");

    let template = &mut inventory.daemonsets.get_mut(&Component::Scheduler).unwrap().spec.template;
    template.spec.as_mut().unwrap().containers[0].command.as_mut().unwrap().push("--v=4".into());
    assert_eq!(listing(&refresh(&inventory).unwrap()), "cp1 write checkpoint\ncp2 write checkpoint");
    let abort = Goal::Abort(Box::new(Goal::Refresh));
    assert!(refresh::plan(&inventory, abort, IMAGE).unwrap().is_empty());

    edited(&mut inventory, Component::Scheduler);
    assert_eq!(codes(refresh(&inventory)), ["SH0109"]);
    assert_eq!(codes(refresh(&kubeadm(1, "v1.36.3"))), ["SH0222"]);
}
