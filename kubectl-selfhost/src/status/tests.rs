//! Golden reports: what a user sees of a few clusters.

use selfhost_core::component::{Component, Hosting};
use selfhost_core::finding::{Code, Finding};

use super::table::{self, Columns};
use super::{Report, changes, document};
use crate::cli::output::DataFormat;
use crate::inventory::testing::{self, break_down, instance, self_hosted_cluster, static_cluster};
use crate::inventory::{Certificate, Inventory, OpenOperation, Part, Place};
use crate::theme::Theme;

const SERVER: &str = "https://10.0.0.1:6443/";

fn report(inventory: &Inventory) -> Report {
    Report::new(inventory, SERVER)
}

fn shown(inventory: &Inventory, columns: Columns) -> String {
    let mut out = Vec::new();
    table::write(&mut out, &Theme::plain(), columns, &report(inventory)).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.lines().all(|line| line == line.trim_end()), "no line ends in spaces");
    if columns == Columns::Narrow {
        // Addresses and commands are there to be copied.
        let whole = |line: &str| line.contains("https://") || line.contains("hint: kubectl ");
        let limit = if text.contains("(as 1.") { 83 } else { 80 };
        let long = text.lines().find(|line| line.chars().count() > limit && !whole(line));
        assert_eq!(long, None, "more than {limit} columns");
    }
    text
}

/// In the middle of an upgrade that was interrupted, with all that can be the matter at a time.
fn troubled() -> Inventory {
    let mut inventory = self_hosted_cluster(&["cp-1", "cp-2", "cp-3"], "v1.36.3");
    for it in &mut inventory.instances {
        if it.node == "cp-1" {
            *it = instance(it.component, "cp-1", Hosting::SelfHosted, "v1.37.2");
        }
    }
    let scheduler =
        inventory.instances.iter_mut().find(|it| it.component == Component::Scheduler && it.node == "cp-2");
    break_down(&mut scheduler.unwrap().pod, "CrashLoopBackOff");
    inventory
        .instances
        .retain(|it| (it.component, it.node.as_str()) != (Component::ControllerManager, "cp-3"));
    inventory.standbys.clear();
    inventory.certificates.push(Certificate {
        component: Component::ApiServer,
        node: Some("cp-1".into()),
        place: Place::Served("10.0.0.1:6443".into()),
        not_after: "2026-06-11T12:00:00Z".parse().unwrap(),
    });
    inventory.operation = Some(OpenOperation {
        holder: "ann@desk".into(),
        what: "upgrade v1.37.2".into(),
        command: Some("kubectl selfhost upgrade v1.37.2".into()),
        step: Some("swap kube-scheduler on cp-2".into()),
        since: Some("2026-06-01T11:50:00Z".parse().unwrap()),
        renewed: Some("2026-06-01T11:52:00Z".parse().unwrap()),
        running: false,
        record: None,
    });
    inventory
}

#[test]
fn static_pods() {
    insta::assert_snapshot!(shown(&static_cluster(&["cp-1"], "v1.37.2"), Columns::Narrow), @r#"
    Control plane   static-pod   v1.37.2   1/1 node ready

    COMPONENT                NODE  HOSTING     READY  VERSION   RESTARTS  AGE
    kube-apiserver           cp-1  static-pod  1/1    v1.37.2   0         41d
    kube-controller-manager  cp-1  static-pod  1/1    v1.37.2   0         41d
    kube-scheduler           cp-1  static-pod  1/1    v1.37.2   0         41d
    etcd                     cp-1  static-pod  1/1    v3.6.8-0  0         41d

    No findings.

    To see what a pivot would do: kubectl selfhost pivot --dry-run=client
    "#);
}

#[test]
fn a_guard_that_the_api_servers_ask_is_named() {
    let mut inventory = self_hosted_cluster(&["cp-1"], "v1.37.2");
    let daemonset = inventory.daemonsets.get_mut(&Component::ApiServer).unwrap();
    let mut template = std::mem::take(&mut daemonset.spec.template);
    template.spec.as_mut().unwrap().containers[0].command = Some(vec!["kube-apiserver".to_owned()]);
    daemonset.spec.template = crate::template::guard::arm(template, "0a1b").unwrap();
    let text = shown(&inventory, Columns::Narrow);
    let line = text.lines().find(|line| line.starts_with("Guard")).unwrap();
    assert_eq!(line, "Guard           known to the API servers   kubectl selfhost guard status");
}

#[test]
fn self_hosted() {
    insta::assert_snapshot!(shown(&self_hosted_cluster(&["cp-1", "cp-2", "cp-3"], "v1.37.2"), Columns::Narrow), @r#"
    Control plane   self-hosted   v1.37.2   3/3 nodes ready
    Standby         checkpoint of v1.37.2   3/3 nodes

    COMPONENT                NODE  HOSTING      READY  VERSION   RESTARTS  AGE
    kube-apiserver           cp-1  self-hosted  1/1    v1.37.2   0         41d
    kube-apiserver           cp-2  self-hosted  1/1    v1.37.2   0         41d
    kube-apiserver           cp-3  self-hosted  1/1    v1.37.2   0         41d
    kube-controller-manager  cp-1  self-hosted  1/1    v1.37.2   0         41d
    kube-controller-manager  cp-2  self-hosted  1/1    v1.37.2   0         41d
    kube-controller-manager  cp-3  self-hosted  1/1    v1.37.2   0         41d
    kube-scheduler           cp-1  self-hosted  1/1    v1.37.2   0         41d
    kube-scheduler           cp-2  self-hosted  1/1    v1.37.2   0         41d
    kube-scheduler           cp-3  self-hosted  1/1    v1.37.2   0         41d
    etcd                     cp-1  static-pod   1/1    v3.6.8-0  0         41d
    etcd                     cp-2  static-pod   1/1    v3.6.8-0  0         41d
    etcd                     cp-3  static-pod   1/1    v3.6.8-0  0         41d

    No findings.

    To see what an upgrade would do: kubectl selfhost upgrade
    "#);
}

/// Between the two steps of an upgrade: the version is the binary's, and the next command makes the switch.
#[test]
fn emulating() {
    let mut inventory = testing::emulating(self_hosted_cluster(&["cp-1"], "v1.37.2"), "v1.37.2", "1.36");
    inventory.kubelets.insert("cp-1".into(), "v1.36.3".parse().ok());
    insta::assert_snapshot!(shown(&inventory, Columns::Narrow), @r#"
    Control plane   self-hosted   v1.37.2 (as 1.36)   1/1 node ready
    Standby         checkpoint of v1.37.2   1/1 node

    COMPONENT                NODE  HOSTING      READY  VERSION            RESTARTS  AGE
    kube-apiserver           cp-1  self-hosted  1/1    v1.37.2 (as 1.36)  0         41d
    kube-controller-manager  cp-1  self-hosted  1/1    v1.37.2 (as 1.36)  0         41d
    kube-scheduler           cp-1  self-hosted  1/1    v1.37.2 (as 1.36)  0         41d
    etcd                     cp-1  static-pod   1/1    v3.6.8-0           0         41d

    No findings.

    To make the switch, the second step of two: kubectl selfhost upgrade v1.37.2
    "#);
    let wide = shown(&inventory, Columns::Wide);
    assert!(wide.contains("v1.37.2 (as 1.36)  0 "), "{wide}");
    let mut out = Vec::new();
    document::write(&mut out, DataFormat::Json, &report(&inventory)).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(document["versions"], serde_json::json!(["v1.37.2"]));
    assert_eq!(document["components"][0]["version"], "v1.37.2");
    assert_eq!(document["components"][0]["emulates"], "1.36");
    assert_eq!(document["nextCommand"], "kubectl selfhost upgrade v1.37.2");

    let switched = self_hosted_cluster(&["cp-1"], "v1.37.2");
    assert_eq!(
        changes::changes(&report(&inventory), &report(&switched))[0],
        "kube-apiserver on cp-1: self-hosted v1.37.2 (as 1.36) ready -> self-hosted v1.37.2 ready"
    );
}

#[test]
fn trouble() {
    insta::assert_snapshot!(shown(&troubled(), Columns::Narrow), @r#"
    Control plane   self-hosted   v1.36.3 and v1.37.2   3/3 nodes ready
    Operation       upgrade v1.37.2   interrupted   10m

    COMPONENT                NODE  HOSTING      READY  VERSION    RESTARTS  AGE
    kube-apiserver           cp-1  self-hosted  1/1    v1.37.2    0         41d
    kube-apiserver           cp-2  self-hosted  1/1    v1.36.3    0         41d
    kube-apiserver           cp-3  self-hosted  1/1    v1.36.3    0         41d
    kube-controller-manager  cp-1  self-hosted  1/1    v1.37.2    0         41d
    kube-controller-manager  cp-2  self-hosted  1/1    v1.36.3    0         41d
    kube-controller-manager  cp-3  missing
    kube-scheduler           cp-1  self-hosted  1/1    v1.37.2    0         41d
    kube-scheduler           cp-2  self-hosted  0/1    <unknown>  0         41d
    kube-scheduler           cp-3  self-hosted  1/1    v1.36.3    0         41d
    etcd                     cp-1  static-pod   1/1    v3.6.8-0   0         41d
    etcd                     cp-2  static-pod   1/1    v3.6.8-0   0         41d
    etcd                     cp-3  static-pod   1/1    v3.6.8-0   0         41d

    Errors:
      SH0101  kube-controller-manager on cp-3: has no Pod there
              hint: kubectl -n kube-system get pods --field-selector spec.nodeName=cp-3
      SH0103  kube-scheduler on cp-2: not ready for 5m (CrashLoopBackOff)
              hint: kubectl -n kube-system logs self-hosted-kube-scheduler-cp-2x --previous
      SH0106  kube-controller-manager on cp-1: v1.37.2 is newer than kube-apiserver
              v1.36.3
      SH0106  kube-scheduler on cp-1: v1.37.2 is newer than kube-apiserver v1.36.3
              hint: kubectl selfhost upgrade brings all to one version, API servers first
    Warnings:
      SH0105  kube-apiserver: v1.36.3 on cp-2 and cp-3, v1.37.2 on cp-1
      SH0105  kube-controller-manager: v1.36.3 on cp-2, v1.37.2 on cp-1
      SH0105  kube-scheduler: v1.36.3 on cp-3, v1.37.2 on cp-1
              hint: kubectl selfhost upgrade brings all to one version
      SH0111  control plane: nothing on cp-1, cp-2 and cp-3 starts it again after a
              power cut: the kubelet learns of it from the API alone
              hint: kubectl selfhost pivot writes a standby
      SH0112  kube-apiserver on cp-1: the certificate served at 10.0.0.1:6443
              expires in 10d
              hint: kubeadm certs renew all, on the node; then restart what uses
              them
      SH0114  operation upgrade v1.37.2: interrupted at "swap kube-scheduler on
              cp-2"; run by ann@desk, last seen 8m ago
              hint: kubectl selfhost resume goes on where it stopped, kubectl selfhost abort goes back
    Each code is explained at https://github.com/kubectl-selfhost/kubectl-selfhost/blob/main/docs/reference/findings.md

    To finish what was begun: kubectl selfhost upgrade v1.37.2
    "#);
}

#[test]
fn wide() {
    insta::assert_snapshot!(shown(&troubled(), Columns::Wide), @r#"
    Control plane   self-hosted   v1.36.3 and v1.37.2   3/3 nodes ready
    Operation       upgrade v1.37.2   interrupted   10m

    COMPONENT                NODE  HOSTING      READY  VERSION    RESTARTS  AGE  ADDRESS   CREDENTIALS  EXPIRES    STRATEGY  POD                                        IMAGE
    kube-apiserver           cp-1  self-hosted  1/1    v1.37.2    0         41d  10.0.0.1  hostPath     10d        OnDelete  self-hosted-kube-apiserver-cp-1x           registry.k8s.io/kube-apiserver:v1.37.2
    kube-apiserver           cp-2  self-hosted  1/1    v1.36.3    0         41d  10.0.0.2  hostPath     <on-disk>  OnDelete  self-hosted-kube-apiserver-cp-2x           registry.k8s.io/kube-apiserver:v1.36.3
    kube-apiserver           cp-3  self-hosted  1/1    v1.36.3    0         41d  10.0.0.3  hostPath     <on-disk>  OnDelete  self-hosted-kube-apiserver-cp-3x           registry.k8s.io/kube-apiserver:v1.36.3
    kube-controller-manager  cp-1  self-hosted  1/1    v1.37.2    0         41d  10.0.0.1  hostPath     <on-disk>  OnDelete  self-hosted-kube-controller-manager-cp-1x  registry.k8s.io/kube-controller-manager:v1.37.2
    kube-controller-manager  cp-2  self-hosted  1/1    v1.36.3    0         41d  10.0.0.2  hostPath     <on-disk>  OnDelete  self-hosted-kube-controller-manager-cp-2x  registry.k8s.io/kube-controller-manager:v1.36.3
    kube-controller-manager  cp-3  missing
    kube-scheduler           cp-1  self-hosted  1/1    v1.37.2    0         41d  10.0.0.1  hostPath     <on-disk>  OnDelete  self-hosted-kube-scheduler-cp-1x           registry.k8s.io/kube-scheduler:v1.37.2
    kube-scheduler           cp-2  self-hosted  0/1    <unknown>  0         41d  10.0.0.2  hostPath     <on-disk>  OnDelete  self-hosted-kube-scheduler-cp-2x           registry.k8s.io/kube-scheduler:v1.36.3
    kube-scheduler           cp-3  self-hosted  1/1    v1.36.3    0         41d  10.0.0.3  hostPath     <on-disk>  OnDelete  self-hosted-kube-scheduler-cp-3x           registry.k8s.io/kube-scheduler:v1.36.3
    etcd                     cp-1  static-pod   1/1    v3.6.8-0   0         41d  10.0.0.1  hostPath     <on-disk>  <none>    etcd-cp-1                                  registry.k8s.io/etcd:3.6.8-0
    etcd                     cp-2  static-pod   1/1    v3.6.8-0   0         41d  10.0.0.2  hostPath     <on-disk>  <none>    etcd-cp-2                                  registry.k8s.io/etcd:3.6.8-0
    etcd                     cp-3  static-pod   1/1    v3.6.8-0   0         41d  10.0.0.3  hostPath     <on-disk>  <none>    etcd-cp-3                                  registry.k8s.io/etcd:3.6.8-0

    Errors:
      SH0101  kube-controller-manager on cp-3: has no Pod there
              hint: kubectl -n kube-system get pods --field-selector spec.nodeName=cp-3
      SH0103  kube-scheduler on cp-2: not ready for 5m (CrashLoopBackOff)
              hint: kubectl -n kube-system logs self-hosted-kube-scheduler-cp-2x --previous
      SH0106  kube-controller-manager on cp-1: v1.37.2 is newer than kube-apiserver
              v1.36.3
      SH0106  kube-scheduler on cp-1: v1.37.2 is newer than kube-apiserver v1.36.3
              hint: kubectl selfhost upgrade brings all to one version, API servers first
    Warnings:
      SH0105  kube-apiserver: v1.36.3 on cp-2 and cp-3, v1.37.2 on cp-1
      SH0105  kube-controller-manager: v1.36.3 on cp-2, v1.37.2 on cp-1
      SH0105  kube-scheduler: v1.36.3 on cp-3, v1.37.2 on cp-1
              hint: kubectl selfhost upgrade brings all to one version
      SH0111  control plane: nothing on cp-1, cp-2 and cp-3 starts it again after a
              power cut: the kubelet learns of it from the API alone
              hint: kubectl selfhost pivot writes a standby
      SH0112  kube-apiserver on cp-1: the certificate served at 10.0.0.1:6443
              expires in 10d
              hint: kubeadm certs renew all, on the node; then restart what uses
              them
      SH0114  operation upgrade v1.37.2: interrupted at "swap kube-scheduler on
              cp-2"; run by ann@desk, last seen 8m ago
              hint: kubectl selfhost resume goes on where it stopped, kubectl selfhost abort goes back
    Each code is explained at https://github.com/kubectl-selfhost/kubectl-selfhost/blob/main/docs/reference/findings.md

    To finish what was begun: kubectl selfhost upgrade v1.37.2
    "#);
}

#[test]
fn managed() {
    let mut inventory = Inventory::empty(testing::now());
    inventory.server_version = Some("v1.37.2-gke.100".parse().unwrap());
    inventory.kubelets.insert("worker-1".into(), Some("v1.37.1".parse().unwrap()));
    inventory.findings.push(Finding::new(
        Code::NoControlPlane,
        "control plane",
        "runs outside of this cluster's Pods",
    ));
    insta::assert_snapshot!(shown(&inventory, Columns::Narrow), @r#"
    Control plane   external   v1.37.2-gke.100   no nodes of its own

    COMPONENT                NODE    HOSTING   READY  VERSION  RESTARTS  AGE
    kube-apiserver           <none>  external
    kube-controller-manager  <none>  external
    kube-scheduler           <none>  external

    Notes:
      SH0003  control plane: runs outside of this cluster's Pods
    Each code is explained at https://github.com/kubectl-selfhost/kubectl-selfhost/blob/main/docs/reference/findings.md
    "#);
}

#[test]
fn without_rights() {
    let mut inventory = Inventory::empty(testing::now());
    inventory.server_version = Some("v1.37.2".parse().unwrap());
    for (part, object) in [(Part::Nodes, "nodes"), (Part::Pods, "pods in kube-system")] {
        inventory.unread.insert(part);
        let message = format!("cannot list {object}: forbidden for user \"ann\"");
        inventory
            .findings
            .push(Finding::new(Code::Unreadable, object, message).hint("docs/reference/rbac.md"));
    }
    insta::assert_snapshot!(shown(&inventory, Columns::Narrow), @r#"
    Control plane   unknown   v1.37.2   nodes unknown

    COMPONENT                NODE       HOSTING  READY  VERSION  RESTARTS  AGE
    kube-apiserver           <unknown>  unknown
    kube-controller-manager  <unknown>  unknown
    kube-scheduler           <unknown>  unknown
    etcd                     <unknown>  unknown

    Warnings:
      SH0001  nodes: cannot list nodes: forbidden for user "ann"
      SH0001  pods in kube-system: cannot list pods in kube-system: forbidden for
              user "ann"
              hint: docs/reference/rbac.md
    Each code is explained at https://github.com/kubectl-selfhost/kubectl-selfhost/blob/main/docs/reference/findings.md
    "#);
}

#[test]
#[expect(clippy::too_many_lines, reason = "the document is long, the test is not")]
fn json() {
    let mut out = Vec::new();
    let mut inventory = self_hosted_cluster(&["cp-1"], "v1.37.2");
    inventory.standbys.clear();
    document::write(&mut out, DataFormat::Json, &report(&inventory)).unwrap();
    insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
    {
      "apiVersion": "kubectl-selfhost.dev/v1alpha1",
      "kind": "ControlPlaneStatus",
      "observedAt": "2026-06-01T12:00:00Z",
      "server": {
        "url": "https://10.0.0.1:6443/",
        "version": "v1.37.2"
      },
      "hosting": "self-hosted",
      "versions": [
        "v1.37.2"
      ],
      "nodes": [
        {
          "name": "cp-1",
          "ready": true,
          "kubeletVersion": "v1.37.2"
        }
      ],
      "components": [
        {
          "component": "kube-apiserver",
          "node": "cp-1",
          "hosting": "self-hosted",
          "ready": true,
          "readyContainers": 1,
          "containers": 1,
          "version": "v1.37.2",
          "emulates": null,
          "restarts": 0,
          "createdAt": "2026-04-21T12:00:00Z",
          "address": "10.0.0.1",
          "pod": "self-hosted-kube-apiserver-cp-1x",
          "image": "registry.k8s.io/kube-apiserver:v1.37.2",
          "updateStrategy": "OnDelete",
          "credentials": {
            "source": "hostPath",
            "expiresAt": null,
            "unknown": "what is on the node's disk and not served by the component"
          }
        },
        {
          "component": "kube-controller-manager",
          "node": "cp-1",
          "hosting": "self-hosted",
          "ready": true,
          "readyContainers": 1,
          "containers": 1,
          "version": "v1.37.2",
          "emulates": null,
          "restarts": 0,
          "createdAt": "2026-04-21T12:00:00Z",
          "address": "10.0.0.1",
          "pod": "self-hosted-kube-controller-manager-cp-1x",
          "image": "registry.k8s.io/kube-controller-manager:v1.37.2",
          "updateStrategy": "OnDelete",
          "credentials": {
            "source": "hostPath",
            "expiresAt": null,
            "unknown": "what is on the node's disk and not served by the component"
          }
        },
        {
          "component": "kube-scheduler",
          "node": "cp-1",
          "hosting": "self-hosted",
          "ready": true,
          "readyContainers": 1,
          "containers": 1,
          "version": "v1.37.2",
          "emulates": null,
          "restarts": 0,
          "createdAt": "2026-04-21T12:00:00Z",
          "address": "10.0.0.1",
          "pod": "self-hosted-kube-scheduler-cp-1x",
          "image": "registry.k8s.io/kube-scheduler:v1.37.2",
          "updateStrategy": "OnDelete",
          "credentials": {
            "source": "hostPath",
            "expiresAt": null,
            "unknown": "what is on the node's disk and not served by the component"
          }
        },
        {
          "component": "etcd",
          "node": "cp-1",
          "hosting": "static-pod",
          "ready": true,
          "readyContainers": 1,
          "containers": 1,
          "version": "v3.6.8-0",
          "emulates": null,
          "restarts": 0,
          "createdAt": "2026-04-21T12:00:00Z",
          "address": "10.0.0.1",
          "pod": "etcd-cp-1",
          "image": "registry.k8s.io/etcd:3.6.8-0",
          "updateStrategy": null,
          "credentials": {
            "source": "hostPath",
            "expiresAt": null,
            "unknown": "what is on the node's disk and not served by the component"
          }
        }
      ],
      "standbys": [],
      "guard": null,
      "operation": null,
      "findings": [
        {
          "code": "SH0111",
          "severity": "warning",
          "subject": "control plane",
          "message": "nothing on cp-1 starts it again after a power cut: the kubelet learns of it from the API alone",
          "hint": "kubectl selfhost pivot writes a standby",
          "docs": "https://github.com/kubectl-selfhost/kubectl-selfhost/blob/main/docs/reference/findings.md#sh0111"
        }
      ],
      "nextCommand": "kubectl selfhost upgrade"
    }
    "#);
}

#[test]
fn yaml_has_the_facts_of_json() {
    let (mut json, mut yaml) = (Vec::new(), Vec::new());
    document::write(&mut json, DataFormat::Json, &report(&troubled())).unwrap();
    document::write(&mut yaml, DataFormat::Yaml, &report(&troubled())).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let yaml: serde_json::Value = serde_saphyr::from_slice(&yaml).unwrap();
    assert_eq!(json, yaml);
    assert_eq!(json["findings"][0]["docs"].as_str().unwrap().split_once('#').unwrap().1, "sh0101");
}

#[test]
fn changes_are_told_and_time_is_not() {
    let before = report(&static_cluster(&["cp-1", "cp-2"], "v1.36.3"));
    let mut later = static_cluster(&["cp-1", "cp-2"], "v1.36.3");
    later.taken_at = "2026-06-01T13:00:00Z".parse().unwrap();
    assert_eq!(changes::changes(&before, &report(&later)), Vec::<String>::new());

    let mut after = troubled();
    after.instances.retain(|it| it.node != "cp-3");
    after.control_plane.remove("cp-3");
    after.etcd.remove("cp-3");
    let after = report(&after);
    insta::assert_snapshot!(changes::changes(&before, &after).join("\n"), @r#"
    control plane: static-pod -> self-hosted
    operation: upgrade v1.37.2 interrupted at "swap kube-scheduler on cp-2"
    kube-apiserver on cp-1: static-pod v1.36.3 ready -> self-hosted v1.37.2 ready
    kube-apiserver on cp-2: static-pod v1.36.3 ready -> self-hosted v1.36.3 ready
    kube-controller-manager on cp-1: static-pod v1.36.3 ready -> self-hosted v1.37.2 ready
    kube-controller-manager on cp-2: static-pod v1.36.3 ready -> self-hosted v1.36.3 ready
    kube-scheduler on cp-1: static-pod v1.36.3 ready -> self-hosted v1.37.2 ready
    kube-scheduler on cp-2: static-pod v1.36.3 ready -> self-hosted unknown version not ready
    found SH0103 error kube-scheduler on cp-2
    found SH0105 warning kube-apiserver
    found SH0105 warning kube-controller-manager
    found SH0106 error kube-controller-manager on cp-1
    found SH0106 error kube-scheduler on cp-1
    found SH0111 warning control plane
    found SH0112 warning kube-apiserver on cp-1
    found SH0114 warning operation upgrade v1.37.2
    "#);
    insta::assert_snapshot!(changes::changes(&after, &before).join("\n"), @r#"
    control plane: self-hosted -> static-pod
    operation: upgrade v1.37.2 interrupted at "swap kube-scheduler on cp-2" -> done
    kube-apiserver on cp-1: self-hosted v1.37.2 ready -> static-pod v1.36.3 ready
    kube-apiserver on cp-2: self-hosted v1.36.3 ready -> static-pod v1.36.3 ready
    kube-controller-manager on cp-1: self-hosted v1.37.2 ready -> static-pod v1.36.3 ready
    kube-controller-manager on cp-2: self-hosted v1.36.3 ready -> static-pod v1.36.3 ready
    kube-scheduler on cp-1: self-hosted v1.37.2 ready -> static-pod v1.36.3 ready
    kube-scheduler on cp-2: self-hosted unknown version not ready -> static-pod v1.36.3 ready
    gone SH0103 error kube-scheduler on cp-2
    gone SH0105 warning kube-apiserver
    gone SH0105 warning kube-controller-manager
    gone SH0106 error kube-controller-manager on cp-1
    gone SH0106 error kube-scheduler on cp-1
    gone SH0111 warning control plane
    gone SH0112 warning kube-apiserver on cp-1
    gone SH0114 warning operation upgrade v1.37.2
    "#);
}
