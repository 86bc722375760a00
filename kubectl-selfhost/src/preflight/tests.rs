//! What speaks against a plan on one node.

use selfhost_core::component::Component;

use super::inspect::{Divert, NodeFacts, Port, Process, Report};
use super::*;
use crate::plan::pivot;
use crate::plan::tests::{IMAGE, checkpointed, kubeadm};

fn healthy() -> NodeFacts {
    let manifests = Component::ALL.map(|component| (format!("{component}.yaml"), "00".to_owned()));
    NodeFacts {
        manifest_dir: "/etc/kubernetes/manifests".into(),
        report: Report {
            ports: Component::ALL.map(|c| Port { port: c.bridge_port(), free: true }).into(),
            memory_available_bytes: 4 << 30,
            processes: vec![Process { name: "kube-apiserver".into(), rss_bytes: 400 << 20 }],
            kept_free_bytes: 1 << 30,
            divert: Divert { supported: true, error: None },
            manifests: manifests.into(),
            kept: BTreeMap::new(),
        },
    }
}

#[test]
fn each_lack_has_its_finding() {
    type Change = fn(&mut NodeFacts);
    let cases: [(Change, Option<Code>); 7] = [
        (|_| {}, None),
        (|facts| facts.report.ports[0].free = false, Some(Code::PortTaken)),
        (|facts| facts.report.memory_available_bytes = 499 << 20, Some(Code::Memory)),
        (|facts| facts.report.memory_available_bytes = 501 << 20, None),
        (|facts| facts.report.divert.supported = false, Some(Code::NoNftables)),
        (|facts| facts.report.kept_free_bytes = 1 << 20, Some(Code::DiskFull)),
        (|facts| drop(facts.report.manifests.remove("kube-scheduler.yaml")), Some(Code::LayoutUnknown)),
    ];
    let inventory = kubeadm(1, "v1.36.3");
    let plan = pivot::plan(&inventory, IMAGE, None).unwrap();
    for (index, (change, expected)) in cases.into_iter().enumerate() {
        let mut facts = healthy();
        change(&mut facts);
        let found: Vec<Code> =
            node_findings(&inventory, &plan, "cp1", &facts).iter().map(|finding| finding.code).collect();
        assert_eq!(found, Vec::from_iter(expected), "case {index}");
    }
}

#[test]
fn a_bridge_of_ours_does_not_stand_in_its_own_way() {
    let mut inventory = kubeadm(1, "v1.36.3");
    let plan = pivot::plan(&inventory, IMAGE, None).unwrap();
    inventory.bridges.push(plan.bridge(Component::ApiServer, "cp1").unwrap());
    let mut facts = healthy();
    facts.report.ports[0].free = false;
    assert_eq!(node_findings(&inventory, &plan, "cp1", &facts), []);
}

#[test]
fn a_standby_without_a_manifest_is_none() {
    let mut inventory = kubeadm(1, "v1.36.3");
    let found = |inventory: &Inventory, facts: &NodeFacts| {
        let plan = pivot::plan(inventory, IMAGE, None).unwrap();
        node_findings(inventory, &plan, "cp1", facts).iter().map(|it| it.code).collect::<Vec<_>>()
    };
    let mut facts = healthy();
    assert_eq!(found(&inventory, &facts), [], "the plan writes one first");
    let plan = pivot::plan(&inventory, IMAGE, None).unwrap();
    checkpointed(&mut inventory, &plan);
    assert_eq!(found(&inventory, &facts), [Code::Unhealthy]);
    facts.report.manifests.insert("control-plane-standby-b.yaml".into(), "00".into());
    assert_eq!(found(&inventory, &facts), []);
}

#[test]
fn a_manifest_that_was_moved_away_already_is_known_by_its_kept_copy() {
    let mut facts = healthy();
    let hash = facts.report.manifests.remove("kube-scheduler.yaml").unwrap();
    facts.report.kept.insert("kube-scheduler.yaml".into(), hash);
    assert_eq!(facts.manifest_hash(Component::Scheduler), Some("00"));
}

#[test]
fn what_cannot_be_put_back_has_its_finding() {
    type Change = fn(&mut NodeFacts);
    let cases: [(&str, Change, Option<Code>); 3] = [
        ("nothing is kept", |_| {}, Some(Code::NotKept)),
        ("kept", |facts| drop(facts.report.kept.insert("kube-scheduler.yaml".into(), "00".into())), None),
        (
            "put back already",
            |facts| drop(facts.report.manifests.insert("kube-scheduler.yaml".into(), "00".into())),
            None,
        ),
    ];
    let mut plan = pivot::plan(&kubeadm(1, "v1.36.3"), IMAGE, None).unwrap();
    let restore =
        Step { verb: Verb::Restore, component: Some(Component::Scheduler), node: Some("cp1".into()) };
    plan.steps = vec![restore];
    for (name, change, expected) in cases {
        let mut facts = healthy();
        facts.report.manifests.clear();
        change(&mut facts);
        let found: Vec<Code> =
            nothing_to_restore(&plan, "cp1", &facts).iter().map(|finding| finding.code).collect();
        assert_eq!(found, Vec::from_iter(expected), "{name}");
    }
}
