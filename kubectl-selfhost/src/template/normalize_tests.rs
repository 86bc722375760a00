//! Tables and goldens of [`super`], on what a kubeadm cluster really reports.

use k8s_openapi::api::core::v1::Pod;
use selfhost_core::component::Component;

use super::*;
use crate::template::{command_line, daemonset, sealed_hash};

/// A mirror Pod as kubeadm v1.36 and its kubelet make it, cut to what matters.
pub(crate) fn mirror_api_server() -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": {
            "name": "kube-apiserver-cp1", "namespace": "kube-system",
            "labels": {"component": "kube-apiserver", "tier": "control-plane"},
            "annotations": {
                "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint": "10.0.0.11:6443",
                "kubernetes.io/config.hash": "d1", "kubernetes.io/config.mirror": "d1",
                "kubernetes.io/config.seen": "2026-01-01T00:00:00Z", "kubernetes.io/config.source": "file",
                "example.org/kept": "yes"
            }
        },
        "spec": {
            "containers": [{
                "name": "kube-apiserver", "image": "registry.k8s.io/kube-apiserver:v1.36.3",
                "command": ["kube-apiserver", "--advertise-address=10.0.0.11", "--secure-port=6443",
                    "--client-ca-file=/etc/kubernetes/pki/ca.crt", "--etcd-servers=https://127.0.0.1:2379"],
                "ports": [{"name": "probe-port", "containerPort": 6443, "hostPort": 6443, "protocol": "TCP"}],
                "livenessProbe": {"httpGet": {"host": "10.0.0.11", "path": "/livez", "port": "probe-port",
                    "scheme": "HTTPS"}, "initialDelaySeconds": 10, "failureThreshold": 8, "periodSeconds": 10},
                "readinessProbe": {"httpGet": {"host": "10.0.0.11", "path": "/readyz", "port": "probe-port",
                    "scheme": "HTTPS"}, "periodSeconds": 1, "failureThreshold": 3},
                "startupProbe": {"httpGet": {"host": "10.0.0.11", "path": "/livez", "port": "probe-port",
                    "scheme": "HTTPS"}, "initialDelaySeconds": 10, "failureThreshold": 24, "periodSeconds": 10},
                "resources": {"requests": {"cpu": "250m"}},
                "volumeMounts": [{"mountPath": "/etc/kubernetes/pki", "name": "k8s-certs", "readOnly": true}]
            }],
            "hostNetwork": true, "nodeName": "cp1", "priority": 2_000_001_000,
            "priorityClassName": "system-node-critical",
            "tolerations": [{"effect": "NoExecute", "operator": "Exists"}],
            "volumes": [{"name": "k8s-certs", "hostPath": {"path": "/etc/kubernetes/pki",
                "type": "DirectoryOrCreate"}}]
        },
        "status": {"hostIP": "10.0.0.11"}
    }))
    .unwrap()
}

fn normalized(pod: &Pod) -> Result<PodTemplateSpec, TemplateError> {
    let host_ip = pod.status.as_ref().and_then(|status| status.host_ip.as_deref());
    normalize(Component::ApiServer, &pod.metadata, pod.spec.as_ref().unwrap(), host_ip)
}

/// The template that it becomes.
pub(crate) fn api_server_template() -> PodTemplateSpec {
    normalized(&mirror_api_server()).unwrap()
}

#[test]
fn one_template_serves_every_node() {
    let template = normalized(&mirror_api_server()).unwrap();
    insta::assert_json_snapshot!(template);
}

#[test]
fn normalizing_again_changes_nothing() {
    let once = normalized(&mirror_api_server()).unwrap();
    let metadata = once.metadata.clone().unwrap();
    let again = normalize(Component::ApiServer, &metadata, once.spec.as_ref().unwrap(), None).unwrap();
    assert_eq!(once, again);
}

/// The environment of the API server in a template that is made of `variables`.
fn environment(variables: serde_json::Value) -> Result<serde_json::Value, TemplateError> {
    let mut pod = mirror_api_server();
    let container = &mut pod.spec.as_mut().unwrap().containers[0];
    container.env = serde_json::from_value(variables).unwrap();
    container.command.as_mut().unwrap()[1] = "--advertise-address=$(HOST_IP)".into();
    Ok(serde_json::to_value(&normalized(&pod)?.spec.unwrap().containers[0].env).unwrap())
}

#[test]
fn the_variable_of_the_nodes_address_changes_the_meaning_of_no_other() {
    use serde_json::json;
    let field = json!({"name": "HOST_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.hostIP"}}});
    let old_field = json!({"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}});
    let address = json!({"name": "HOST_IP", "value": "10.0.0.11"});
    let names_it = json!({"name": "X", "value": "https://$(HOST_IP):6443"});
    for (variables, expected) in [
        (json!([]), json!([field])),
        // Nothing is known of it there, and the kubelet leaves it as it is.
        (json!([names_it]), json!([names_it, field])),
        (json!([field, names_it]), json!([field, names_it])),
        (json!([old_field, names_it]), json!([field, names_it])),
        (json!([address, names_it]), json!([field, names_it])),
    ] {
        assert_eq!(environment(variables.clone()), Ok(expected), "{variables}");
    }
}

#[test]
fn the_name_of_the_nodes_address_is_ours() {
    use serde_json::json;
    for (variable, advertised) in [
        (json!({"name": "HOST_IP", "value": "192.0.2.7"}), "192.0.2.7"),
        (json!({"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}), "$(HOST_IP)"),
    ] {
        let expected =
            TemplateError::AdvertiseAddress { advertised: advertised.into(), node: "10.0.0.11".into() };
        assert_eq!(environment(json!([variable])), Err(expected));
    }
}

#[test]
fn the_hash_depends_on_what_runs_and_on_nothing_else() {
    let hash = |pod: &Pod| {
        let template = normalized(pod).unwrap();
        sealed_hash(template.metadata.as_ref().unwrap()).unwrap().to_owned()
    };
    let base = mirror_api_server();
    let mut other_node = base.clone();
    let spec = other_node.spec.as_mut().unwrap();
    spec.node_name = Some("cp2".into());
    spec.containers[0].command.as_mut().unwrap()[1] = "--advertise-address=10.0.0.12".into();
    other_node.status.as_mut().unwrap().host_ip = Some("10.0.0.12".into());
    assert_eq!(hash(&base), hash(&other_node));

    let mut other_flag = base.clone();
    other_flag.spec.as_mut().unwrap().containers[0].command.as_mut().unwrap().push("--v=2".into());
    assert_ne!(hash(&base), hash(&other_flag));
}

#[test]
fn what_the_operator_chose_stays() {
    let mut pod = mirror_api_server();
    let command = pod.spec.as_mut().unwrap().containers[0].command.as_mut().unwrap();
    command.push("--shutdown-delay-duration=70s".into());
    let template = normalized(&pod).unwrap();
    let line = command_line(Component::ApiServer, &template);
    assert!(line.contains(&"--shutdown-delay-duration=70s".to_owned()), "{line:?}");
    assert!(!line.contains(&"--shutdown-delay-duration=5s".to_owned()), "{line:?}");
}

#[test]
fn old_servers_get_only_the_flags_they_know() {
    for (version, expected) in [("v1.11.3", 0), ("v1.18.0", 1), ("v1.24.0", 2), ("v1.36.3", 3)] {
        let mut pod = mirror_api_server();
        pod.spec.as_mut().unwrap().containers[0].image = Some(format!("k8s.gcr.io/kube-apiserver:{version}"));
        let line = command_line(Component::ApiServer, &normalized(&pod).unwrap());
        let n_flags = line.iter().filter(|flag| flag.starts_with("--shutdown-")).count();
        assert_eq!(n_flags, expected, "{version}");
    }
}

#[test]
fn refuses_what_it_would_break() {
    type Change = fn(&mut Pod);
    let cases: [(Change, TemplateError); 5] = [
        (|pod| pod.spec.as_mut().unwrap().host_network = None, TemplateError::NotHostNetwork),
        (
            |pod| pod.spec.as_mut().unwrap().containers[0].name = "server".into(),
            TemplateError::NoContainer(Component::ApiServer),
        ),
        (
            |pod| pod.status.as_mut().unwrap().host_ip = Some("192.0.2.7".into()),
            TemplateError::AdvertiseAddress { advertised: "10.0.0.11".into(), node: "192.0.2.7".into() },
        ),
        (
            |pod| {
                let command = pod.spec.as_mut().unwrap().containers[0].command.as_mut();
                command.unwrap().push("--bind-address=10.0.0.11".into());
            },
            TemplateError::BindAddress("10.0.0.11".into()),
        ),
        (
            |pod| pod.spec.as_mut().unwrap().containers[0].ports = None,
            TemplateError::ProbePort("probe-port".into()),
        ),
    ];
    for (change, expected) in cases {
        let mut pod = mirror_api_server();
        change(&mut pod);
        assert_eq!(normalized(&pod), Err(expected));
    }
}

#[test]
fn the_daemonset_never_rolls_by_itself() {
    let daemonset = daemonset(Component::ApiServer, normalized(&mirror_api_server()).unwrap());
    let strategy = daemonset.spec.update_strategy.unwrap();
    assert_eq!(strategy.type_.as_deref(), Some("OnDelete"));
}
