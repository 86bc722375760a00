//! Golden plans with etcd, and the table of refusals.

use serde_json::json;

use super::*;
use crate::plan::tests::{IMAGE, codes, interrupted, listing, self_hosted, v};
use crate::plan::{Plan, upgrade};

/// A self-hosted cluster of v1.36.3 whose etcd members run this image.
fn cluster(n_nodes: usize, image: &str) -> Inventory {
    let mut inventory = self_hosted(n_nodes, "v1.36.3");
    let nodes: Vec<String> = inventory.control_plane.keys().cloned().collect();
    inventory.etcd = nodes.iter().map(|node| (node.clone(), pod(node, image))).collect();
    inventory
}

fn pod(node: &str, image: &str) -> Pod {
    let mut command = vec!["etcd".to_owned(), format!("--name={node}")];
    command.extend(NEEDED.map(|flag| format!("--{flag}=https://127.0.0.1:2379")));
    serde_json::from_value(json!({
        "metadata": {"name": format!("etcd-{node}"), "labels": {"component": "etcd"}},
        "spec": {"nodeName": node, "containers": [{"name": "etcd", "image": image, "command": command,
            "volumeMounts": [{"name": "etcd-data", "mountPath": "/var/lib/etcd"}]}],
            "volumes": [{"name": "etcd-data", "hostPath": {"path": "/var/lib/etcd"}}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}
    }))
    .unwrap()
}

fn upgrade_to(inventory: &Inventory, version: &str, tag: &str) -> Result<Plan, Vec<Finding>> {
    upgrade::plan(inventory, &v(version), IMAGE, None, Some(&tag.parse().unwrap()))
}

#[test]
fn etcd_comes_before_any_component_one_member_at_a_time() {
    let plan = upgrade_to(&cluster(3, "registry.k8s.io/etcd:3.6.8-0"), "v1.37.2", "3.6.16-0").unwrap();
    insta::assert_snapshot!(listing(&plan));
    assert_eq!(plan.command(), "kubectl selfhost upgrade v1.37.2 --etcd=3.6.16-0");
    let etcd = plan.etcd.as_ref().unwrap();
    assert_eq!(etcd.image, "registry.k8s.io/etcd:3.6.16-0");
    assert_eq!(
        etcd.members["cp2"].backup.directory,
        "/var/lib/selfhost/backups/19700101T000000Z-before-etcd-cp2"
    );
}

#[test]
fn etcd_alone() {
    let inventory = cluster(1, "registry.k8s.io/etcd:3.6.8-0");
    let plan = upgrade_to(&inventory, "v1.36.3", "3.6.16-0").unwrap();
    assert_eq!(listing(&plan), "cp1 etcd: take snapshot\ncp1 etcd: upgrade");
    let without = upgrade::plan(&inventory, &v("v1.36.3"), IMAGE, None, None).unwrap();
    assert!(without.is_empty() && !plan.ends_as(&without) && plan.id() != without.id());
}

#[test]
fn what_an_interrupted_upgrade_left_is_finished() {
    let (old, new) = ("registry.k8s.io/etcd:3.6.8-0", "registry.k8s.io/etcd:3.6.16-0");
    let mut inventory = cluster(3, old);
    inventory.operation = Some(interrupted("upgrade v1.36.3"));
    let rest = |inventory: &Inventory| listing(&upgrade_to(inventory, "v1.36.3", "3.6.16-0").unwrap());
    inventory.etcd.insert("cp1".into(), pod("cp1", new));
    assert_eq!(rest(&inventory), "cp1 etcd: take snapshot\ncp2 etcd: upgrade\ncp3 etcd: upgrade");
    // The one that is half-way is not asked for a snapshot.
    inventory.etcd.get_mut("cp1").unwrap().status = None;
    assert_eq!(
        rest(&inventory),
        "cp2 etcd: take snapshot\ncp1 etcd: upgrade\ncp2 etcd: upgrade\ncp3 etcd: upgrade"
    );
    inventory.etcd = cluster(3, new).etcd;
    assert_eq!(rest(&inventory), "");
}

#[test]
fn refusals_of_etcds_upgrade() {
    type Change = fn(&mut Inventory);
    let nothing: Change = |_| {};
    let cases: [(&str, &str, &str, Change, &[Code]); 9] = [
        ("older", "etcd:3.6.16-0", "3.6.8-0", nothing, &[Code::Downgrade]),
        ("two minors", "etcd:3.5.26-0", "3.7.0-0", nothing, &[Code::MinorSkipped]),
        ("too old a patch", "etcd:3.6.8-0", "3.7.0-0", nothing, &[Code::EtcdPatchFirst]),
        ("new enough", "etcd:3.6.11-0", "3.7.0-0", nothing, &[]),
        ("no version", "etcd:latest", "3.7.0-0", nothing, &[Code::VersionUnknown]),
        ("elsewhere", "etcd:3.6.8-0", "3.6.16-0", |i| i.etcd.clear(), &[Code::EtcdExternal]),
        (
            "one is elsewhere",
            "etcd:3.6.8-0",
            "3.6.16-0",
            |i| drop(i.etcd.remove("cp2")),
            &[Code::EtcdExternal],
        ),
        (
            "not healthy",
            "etcd:3.6.8-0",
            "3.6.16-0",
            |i| i.etcd.get_mut("cp2").unwrap().status = None,
            &[Code::Unhealthy],
        ),
        (
            "not as kubeadm lays it out",
            "etcd:3.6.8-0",
            "3.6.16-0",
            |i| {
                let spec = i.etcd.get_mut("cp2").unwrap().spec.as_mut().unwrap();
                spec.containers[0].command = Some(vec!["etcd".into(), "--config-file=/e.yaml".into()]);
            },
            &[Code::LayoutUnknown],
        ),
    ];
    for (name, image, tag, change, expected) in cases {
        let mut inventory = cluster(3, image);
        change(&mut inventory);
        let expected: Vec<_> = expected.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes(upgrade_to(&inventory, "v1.36.3", tag)), expected, "{name}");
    }
}

#[test]
fn kubeadms_record_of_the_tag_changes_in_one_line() {
    let tag: EtcdTag = "3.6.16-0".parse().unwrap();
    for (before, recorded) in [
        (
            "dns:\n  imageTag: a\netcd:\n  local:\n    dataDir: /d\n    imageTag: 3.6.8-0\nx: y\n",
            Some("3.6.8-0"),
        ),
        (
            "etcd:\n  local:\n    extraArgs:\n    - name: a\n      value: b\n    imageTag: 3.6.8-0\n",
            Some("3.6.8-0"),
        ),
        ("etcd:\n  local:\n    dataDir: /d\ndns:\n  imageTag: 3.6.8-0\n", None),
        ("etcd:\n  external:\n    endpoints: []\nx:\n  local:\n    imageTag: 3.6.8-0\n", None),
        ("kind: ClusterConfiguration\n", None),
    ] {
        assert_eq!(recorded_tag(before), recorded, "{before}");
        let expected = recorded.map_or_else(|| before.to_owned(), |tag| before.replacen(tag, "3.6.16-0", 1));
        assert_eq!(record_tag(before, &tag), expected);
    }
    let mut inventory = cluster(1, "registry.k8s.io/etcd:3.6.16-0");
    let configuration = inventory.kubeadm.as_mut().unwrap();
    configuration.push_str("etcd:\n  local:\n    imageTag: 3.6.8-0\n");
    let plan = upgrade_to(&inventory, "v1.36.3", "3.6.16-0").unwrap();
    assert_eq!(listing(&plan), "record version", "what was interrupted before its last step");
}
