//! Golden plans of the way back to static Pods, and what it refuses.

use selfhost_core::component::{Component, Hosting};
use selfhost_core::finding::Code;
use selfhost_core::labels;

use super::*;
use crate::plan::tests::{IMAGE, codes, interrupted, kubeadm, listing, self_hosted, v};
use crate::plan::{pivot, upgrade};
use crate::template;

/// What the pivot of `kubeadm(n, version)` notes on each node.
fn noted(n_nodes: usize, version: &str) -> Inventory {
    let mut inventory = self_hosted(n_nodes, version);
    let plan = pivot::plan(&kubeadm(n_nodes, version), IMAGE, None).unwrap();
    for node in inventory.control_plane.values_mut() {
        for (component, template) in &plan.templates {
            let kept = Kept::of(*component, template).unwrap().to_string();
            let metadata = &mut node.metadata;
            metadata.annotations.get_or_insert_default().insert(kept::annotation(*component), kept);
            let label = labels::node_label(*component).to_owned();
            metadata.labels.get_or_insert_default().insert(label, "true".to_owned());
        }
    }
    inventory
}

fn unpivot(inventory: &Inventory) -> Result<Plan, Vec<Finding>> {
    plan(inventory, IMAGE, Options::default())
}

/// What a finished swap leaves on `node`: a static Pod, no label.
fn returned(inventory: &mut Inventory, component: Component, node: &str) {
    let labels = &mut inventory.control_plane.get_mut(node).unwrap().metadata.labels;
    labels.as_mut().unwrap().remove(labels::node_label(component));
    let before = kubeadm(3, "v1.36.3").instances.into_iter();
    let is = |i: &Instance| i.component == component && i.node == node;
    inventory.instances.retain(|instance| !is(instance));
    inventory.instances.extend(before.filter(is));
}

#[test]
fn unpivot_of_one_node() {
    insta::assert_snapshot!(listing(&unpivot(&noted(1, "v1.36.3")).unwrap()));
}

#[test]
fn unpivot_of_three_nodes_goes_component_by_component() {
    insta::assert_snapshot!(listing(&unpivot(&noted(3, "v1.36.3")).unwrap()));
}

#[test]
fn what_is_static_is_left_alone() {
    assert!(unpivot(&kubeadm(3, "v1.36.3")).unwrap().is_empty());
}

/// Whatever an interrupted unpivot leaves, planning again gives the rest.
#[test]
fn an_interrupted_unpivot_is_finished() {
    let whole = unpivot(&noted(1, "v1.36.3")).unwrap();
    let mut inventory = noted(1, "v1.36.3");
    inventory.operation = Some(interrupted("unpivot"));
    let api_server = Component::ApiServer;
    let mut bridge = whole.bridge(api_server, "cp1").unwrap();
    let ready = serde_json::json!({"conditions": [{"type": "Ready", "status": "True"}]});
    bridge.status = serde_json::from_value(ready).unwrap();
    inventory.bridges.push(bridge);
    assert_eq!(unpivot(&inventory).unwrap().steps, whole.steps, "bridge started");

    let mut withdrawn = inventory.clone();
    withdrawn.instances.retain(|instance| instance.component != api_server);
    let labels = &mut withdrawn.control_plane.get_mut("cp1").unwrap().metadata.labels;
    labels.as_mut().unwrap().remove(labels::node_label(api_server));
    let plan = unpivot(&withdrawn).unwrap();
    assert_eq!(plan.steps, whole.steps, "withdrawn, and not put back: {}", listing(&plan));

    // The power was cut at that moment: the standby serves, and holds the bridge's port.
    withdrawn.bridges[0].status = None;
    let plan = unpivot(&withdrawn).unwrap();
    let verbs: Vec<Verb> = plan.steps[..3].iter().map(|step| step.verb).collect();
    assert_eq!(verbs, [Verb::Withdraw, Verb::Restore, Verb::Await], "{}", listing(&plan));

    returned(&mut inventory, api_server, "cp1");
    let plan = unpivot(&inventory).unwrap();
    assert_eq!(plan.steps, whole.steps[4..], "put back: {}", listing(&plan));

    inventory.bridges.clear();
    let plan = unpivot(&inventory).unwrap();
    assert_eq!(plan.steps, whole.steps[6..], "released: {}", listing(&plan));

    inventory.daemonsets.remove(&api_server);
    let plan = unpivot(&inventory).unwrap();
    assert_eq!(plan.steps, whole.steps[7..], "DaemonSet deleted: {}", listing(&plan));

    for component in Component::ALL {
        returned(&mut inventory, component, "cp1");
    }
    inventory.daemonsets.clear();
    inventory.control_plane.get_mut("cp1").unwrap().metadata.annotations = None;
    let plan = unpivot(&inventory).unwrap();
    assert_eq!(plan.steps, whole.steps[whole.steps.len() - 1..], "{}", listing(&plan));
}

/// A pivot that took in two of three nodes is aborted: what was self-hosted before stays so.
#[test]
fn the_abort_of_a_pivot_takes_back_what_it_did() {
    let mut inventory = noted(3, "v1.36.3");
    inventory.operation = Some(interrupted("pivot"));
    for component in Component::ALL {
        returned(&mut inventory, component, "cp3");
    }
    let was_static: Scope =
        ["cp2", "cp3"].iter().flat_map(|n| Component::ALL.map(|c| (c, (*n).to_owned()))).collect();
    let options = Options { discard_changes: false, undo: Some(&was_static) };
    let plan = plan(&inventory, IMAGE, options).unwrap();
    listing(&plan);
    assert!(plan.steps.iter().all(|step| step.node.as_deref() != Some("cp1")), "{}", listing(&plan));
    assert!(plan.steps.iter().all(|step| step.verb != Verb::Remove), "cp1 still needs them");
    let of = |verb| plan.steps.iter().filter(|step| step.verb == verb).count();
    assert_eq!((of(Verb::Withdraw), of(Verb::Restore), of(Verb::Clean)), (3, 3, 2));
}

#[test]
fn another_version_is_put_back_with_the_image_that_runs() {
    let inventory = noted(1, "v1.36.3");
    assert_eq!(unpivot(&inventory).unwrap().nodes["cp1"].images, BTreeMap::new());
    let upgraded = upgraded(inventory);
    let images = &unpivot(&upgraded).unwrap().nodes["cp1"].images;
    let image = |component, version| format!("registry.k8s.io/{component}:{version}");
    let expected =
        Component::ALL.map(|c| (c, OtherImage { kept: image(c, "v1.36.3"), runs: image(c, "v1.37.2") }));
    assert_eq!(*images, BTreeMap::from(expected));
}

fn upgraded(mut inventory: Inventory) -> Inventory {
    let upgrade = upgrade::plan(&inventory, &v("v1.37.2"), IMAGE, None, None).unwrap();
    for (component, template) in &upgrade.templates {
        inventory.daemonsets.insert(*component, template::daemonset(*component, template.clone()));
    }
    inventory
}

#[test]
fn refusals_of_an_unpivot() {
    type Change = fn(&mut Inventory);
    let edit: Change = |i| {
        let template = &mut i.daemonsets.get_mut(&Component::Scheduler).unwrap().spec.template;
        template.spec.as_mut().unwrap().containers[0].command.as_mut().unwrap().push("--v=4".into());
    };
    let forget: Change = |i| i.control_plane.get_mut("cp1").unwrap().metadata.annotations = None;
    let cases: [(&str, Change, &[Code], &[Code]); 5] = [
        ("edited", edit, &[Code::ChangedSincePivot], &[]),
        ("not noted", forget, &[Code::ChangedSincePivot], &[]),
        ("open", |i| i.operation = Some(interrupted("pivot")), &[Code::Locked], &[Code::Locked]),
        ("no DaemonSet", |i| i.daemonsets.clear(), &[Code::NotSelfHosted], &[Code::NotSelfHosted]),
        (
            "not ready",
            |i| i.instances[1].pod.status.as_mut().unwrap().conditions = None,
            &[Code::Unhealthy],
            &[Code::Unhealthy],
        ),
    ];
    for (name, change, expected, discarding) in cases {
        let mut inventory = noted(1, "v1.36.3");
        change(&mut inventory);
        let strings = |codes: &[Code]| codes.iter().map(|code| code.as_str()).collect::<Vec<_>>();
        assert_eq!(codes(unpivot(&inventory)), strings(expected), "{name}");
        let options = Options { discard_changes: true, undo: None };
        assert_eq!(codes(plan(&inventory, IMAGE, options)), strings(discarding), "{name}");
    }
}

#[test]
fn a_daemonset_that_a_node_needs_is_not_deleted() {
    let mut plan = unpivot(&noted(3, "v1.36.3")).unwrap();
    plan.steps.retain(|step| {
        !(step.component == Some(Component::Scheduler) && step.node.as_deref() == Some("cp2"))
    });
    let refused = crate::plan::verify::verify(&plan);
    assert!(matches!(refused, Err(crate::plan::verify::Unsafe::StillNeeded(_))), "{refused:?}");
    assert_eq!(plan.nodes["cp2"].hosting[&Component::Scheduler], Hosting::SelfHosted);
}
