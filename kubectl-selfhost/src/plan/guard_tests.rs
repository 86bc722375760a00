//! Tables of [`super`], on inventories of a self-hosted cluster.

use selfhost_core::component::Component;

use super::*;
use crate::plan::tests::{
    IMAGE, checkpointed, codes, edited, interrupted, kubeadm, listing, self_hosted, swapped,
};
use crate::plan::{pivot, unpivot};

fn armed(n_nodes: usize) -> Inventory {
    let mut inventory = self_hosted(n_nodes, "v1.36.3");
    let plan = plan(&inventory, Some("0a1b"), IMAGE).unwrap();
    for node in plan.nodes.keys() {
        swapped(&mut inventory, Component::ApiServer, node, &plan.templates[&Component::ApiServer]);
    }
    checkpointed(&mut inventory, &plan);
    inventory
}

#[test]
fn every_api_server_is_replaced_and_nothing_else() {
    let inventory = self_hosted(2, "v1.36.3");
    let plan = plan(&inventory, Some("0a1b"), IMAGE).unwrap();
    insta::assert_snapshot!(listing(&plan));
    let credential = template::guard::credential(&plan.templates[&Component::ApiServer]);
    assert_eq!(credential.as_deref(), Some("0a1b"));
}

#[test]
fn what_is_done_is_not_done_again() {
    let inventory = armed(2);
    assert_eq!(credential(&inventory).as_deref(), Some("0a1b"));
    assert!(plan(&inventory, Some("0a1b"), IMAGE).unwrap().is_empty());
    assert!(!plan(&inventory, Some("2c3d"), IMAGE).unwrap().is_empty());
    let away = plan(&inventory, None, IMAGE).unwrap();
    assert_eq!(
        away.templates[&Component::ApiServer],
        self_hosted(2, "v1.36.3").daemonsets[&Component::ApiServer].spec.template
    );
    assert!(plan(&self_hosted(1, "v1.36.3"), None, IMAGE).unwrap().is_empty());
}

#[test]
fn only_a_self_hosted_control_plane_is_armed() {
    assert_eq!(codes(plan(&kubeadm(1, "v1.36.3"), Some("0a1b"), IMAGE)), ["SH0222"]);
}

#[test]
fn an_edit_that_nobody_rolled_is_not_rolled_by_the_way() {
    let mut inventory = self_hosted(1, "v1.36.3");
    edited(&mut inventory, Component::Scheduler);
    assert_eq!(codes(plan(&inventory, Some("0a1b"), IMAGE)), ["SH0109"]);
}

#[test]
fn an_admission_configuration_of_the_operators_is_in_the_way() {
    let mut inventory = self_hosted(1, "v1.36.3");
    let mut template = inventory.daemonsets[&Component::ApiServer].spec.template.clone();
    let command = template.spec.as_mut().unwrap().containers[0].command.as_mut().unwrap();
    command.push("--admission-control-config-file=/etc/kubernetes/admission.yaml".to_owned());
    let template = template::seal(template);
    swapped(&mut inventory, Component::ApiServer, "cp1", &template);
    assert_eq!(codes(plan(&inventory, Some("0a1b"), IMAGE)), ["SH0251"]);
}

#[test]
fn an_interrupted_one_goes_on() {
    let mut inventory = self_hosted(2, "v1.36.3");
    let whole = plan(&inventory, Some("0a1b"), IMAGE).unwrap();
    swapped(&mut inventory, Component::ApiServer, "cp1", &whole.templates[&Component::ApiServer]);
    inventory.operation = Some(interrupted("guard install"));
    let rest = plan(&inventory, Some("0a1b"), IMAGE).unwrap();
    let nodes: std::collections::BTreeSet<_> = rest
        .steps
        .iter()
        .filter(|step| step.component.is_some())
        .filter_map(|it| it.node.as_deref())
        .collect();
    assert_eq!(nodes.into_iter().collect::<Vec<_>>(), ["cp2"]);
}

/// The manifests of static Pods know nothing of a guard: those of a node that joined are no other layout for that, and
/// they come back only after the guard is gone.
#[test]
fn static_pods_beside_a_guard() {
    let mut inventory = armed(1);
    let joined = kubeadm(2, "v1.36.3");
    inventory.control_plane.insert("cp2".to_owned(), joined.control_plane["cp2"].clone());
    inventory.instances.extend(joined.instances.into_iter().filter(|it| it.node == "cp2"));
    inventory.etcd.extend(joined.etcd);
    let pivot = pivot::plan(&inventory, IMAGE, None).unwrap();
    let credential = template::guard::credential(&pivot.templates[&Component::ApiServer]);
    assert_eq!(credential.as_deref(), Some("0a1b"));
    let unpivot = |inventory: &Inventory| codes(unpivot::plan(inventory, IMAGE, unpivot::Options::default()));
    assert!(unpivot(&armed(1)).contains(&"SH0250"));
    assert!(!unpivot(&self_hosted(1, "v1.36.3")).contains(&"SH0250"));
}

/// What the earlier generation of a standby needs would be gone after a power cut.
#[test]
fn no_generation_of_a_standby_names_what_will_be_removed() {
    let mut inventory = armed(1);
    let away = plan(&inventory, None, IMAGE).unwrap();
    assert!(listing(&away).ends_with("cp1 write both checkpoints"), "{}", listing(&away));
    swapped(&mut inventory, Component::ApiServer, "cp1", &away.templates[&Component::ApiServer]);
    checkpointed(&mut inventory, &away);
    assert_eq!(listing(&plan(&inventory, None, IMAGE).unwrap()), "cp1 write both checkpoints");
    inventory.standbys.get_mut("cp1").unwrap().truncate(1);
    assert!(plan(&inventory, None, IMAGE).unwrap().is_empty());
}
