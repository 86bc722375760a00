//! Clusters for tests: whole and healthy, for a test to break one thing in.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use selfhost_core::component::{Component, Hosting};
use selfhost_core::labels;
use serde_json::{Value, json};

use super::{Instance, Inventory};

/// The present of every test.
pub(crate) fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

/// A control plane of static Pods, as kubeadm makes it.
pub(crate) fn static_cluster(nodes: &[&str], version: &str) -> Inventory {
    cluster(nodes, version, Hosting::StaticPod)
}

/// A control plane of DaemonSets, as a pivot makes it, with a standby on each node.
pub(crate) fn self_hosted_cluster(nodes: &[&str], version: &str) -> Inventory {
    let mut inventory = cluster(nodes, version, Hosting::SelfHosted);
    inventory.daemonsets = Component::ALL.map(|component| (component, daemonset(component))).into();
    inventory.standbys = nodes.iter().map(|node| ((*node).to_owned(), vec![standby(node)])).collect();
    inventory
}

/// Makes every component emulate `minor`, as the first step of an upgrade to `version` leaves it.
pub(crate) fn emulating(mut inventory: Inventory, version: &str, minor: &str) -> Inventory {
    let flag = format!("--emulated-version={minor}");
    for instance in &mut inventory.instances {
        let container = &mut instance.pod.spec.as_mut().unwrap().containers[0];
        container.command.as_mut().unwrap().push(flag.clone());
    }
    for (component, daemonset) in &mut inventory.daemonsets {
        daemonset.spec.template = parse(json!({
            "metadata": {"annotations": {labels::EMULATES: minor}},
            "spec": {
                "nodeSelector": {labels::node_label(*component): "true"},
                "containers": [{"name": component.name(), "command": [component.name(), flag],
                    "image": format!("registry.k8s.io/{component}:{version}")}]
            }
        }));
    }
    inventory
}

fn cluster(nodes: &[&str], version: &str, hosting: Hosting) -> Inventory {
    let mut inventory = Inventory::empty(now());
    inventory.server_version = Some(version.parse().unwrap());
    for name in nodes {
        inventory.control_plane.insert((*name).to_owned(), node(name, version));
        inventory.kubelets.insert((*name).to_owned(), Some(version.parse().unwrap()));
        inventory.etcd.insert((*name).to_owned(), etcd(name));
    }
    for component in Component::ALL {
        inventory.instances.extend(nodes.iter().map(|node| instance(component, node, hosting, version)));
    }
    inventory
}

/// A control-plane node that is ready.
pub(crate) fn node(name: &str, kubelet: &str) -> Node {
    parse(json!({
        "metadata": {"name": name, "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address(name)}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {
                "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "containerd://2.1.4",
                "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": kubelet, "machineID": "",
                "operatingSystem": "linux", "osImage": "", "systemUUID": ""
            }
        }
    }))
}

/// A component's Pod that is ready.
pub(crate) fn instance(component: Component, node: &str, hosting: Hosting, version: &str) -> Instance {
    let mut pod = pod(component.name(), node, &format!("registry.k8s.io/{component}:{version}"));
    if hosting == Hosting::StaticPod {
        pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "5f0e"});
    } else {
        pod["metadata"]["name"] = format!("{}-{node}x", component.daemonset_name()).into();
        pod["metadata"]["labels"]["pod-template-generation"] = "1".into();
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "DaemonSet", "name": component.daemonset_name(), "uid": "d",
            "controller": true
        }]);
    }
    Instance { component, node: node.to_owned(), hosting, pod: parse(pod) }
}

/// An etcd Pod that is ready.
pub(crate) fn etcd(node: &str) -> Pod {
    parse(pod("etcd", node, "registry.k8s.io/etcd:3.6.8-0"))
}

/// A standby's Pod.
pub(crate) fn standby(node: &str) -> Pod {
    parse(pod(labels::STANDBY, node, "registry.k8s.io/kube-apiserver:v1.37.2"))
}

/// A bridge's Pod.
pub(crate) fn bridge(component: Component, node: &str) -> Pod {
    let mut pod = pod(component.name(), node, "registry.k8s.io/kube-apiserver:v1.37.2");
    pod["metadata"]["name"] = format!("bridge-{component}-{node}").into();
    pod["metadata"]["labels"][labels::BRIDGE] = component.name().into();
    parse(pod)
}

/// A component's DaemonSet, as a pivot makes it.
pub(crate) fn daemonset(component: Component) -> DaemonSet {
    parse(json!({
        "metadata": {
            "name": component.daemonset_name(), "namespace": "kube-system", "generation": 1,
            "annotations": {"deprecated.daemonset.template.generation": "1"}
        },
        "spec": {
            "selector": {"matchLabels": {"k8s-app": component.daemonset_name()}},
            "updateStrategy": {"type": "OnDelete"},
            "template": {"spec": {
                "nodeSelector": {labels::node_label(component): "true"},
                "containers": [{"name": component.name()}]
            }}
        },
        "status": {
            "currentNumberScheduled": 1, "desiredNumberScheduled": 1, "numberMisscheduled": 0, "numberReady": 1,
            "observedGeneration": 1, "updatedNumberScheduled": 1
        }
    }))
}

/// Takes the component's container out of service: `waiting` for `reason` since five minutes.
pub(crate) fn break_down(pod: &mut Pod, reason: &str) {
    let status = pod.status.as_mut().unwrap();
    for condition in status.conditions.iter_mut().flatten() {
        condition.status = "False".to_owned();
        condition.last_transition_time = Some(parse(json!("2026-06-01T11:55:00Z")));
    }
    for container in status.container_statuses.iter_mut().flatten() {
        container.ready = false;
        container.state = Some(parse(json!({"waiting": {"reason": reason}})));
    }
}

/// Counts restarts, the last one at `last`.
pub(crate) fn restarted(pod: &mut Pod, times: i32, last: &str) {
    for container in pod.status.as_mut().unwrap().container_statuses.iter_mut().flatten() {
        container.restart_count = times;
        container.last_state = Some(parse(json!({"terminated": {"exitCode": 1, "finishedAt": last}})));
    }
}

fn pod(component: &str, node: &str, image: &str) -> Value {
    json!({
        "metadata": {
            "name": format!("{component}-{node}"),
            "namespace": "kube-system",
            "creationTimestamp": "2026-04-21T12:00:00Z",
            "labels": {"component": component, "tier": "control-plane"}
        },
        "spec": {
            "nodeName": node,
            "containers": [{
                "name": component,
                "image": image,
                "command": [component, "--kubeconfig=/etc/kubernetes/admin.conf", "--secure-port=6443"],
                "volumeMounts": [{"name": "conf", "mountPath": "/etc/kubernetes"}]
            }],
            "volumes": [{"name": "conf", "hostPath": {"path": "/etc/kubernetes"}}]
        },
        "status": {
            "phase": "Running",
            "hostIP": address(node),
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-04-21T12:00:30Z"}],
            "containerStatuses": [{
                "name": component, "image": image, "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {"startedAt": "2026-04-21T12:00:10Z"}}
            }]
        }
    })
}

/// `cp-2` has 10.0.0.2.
fn address(node: &str) -> String {
    format!("10.0.0.{}", node.rsplit('-').next().unwrap_or("0"))
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}
