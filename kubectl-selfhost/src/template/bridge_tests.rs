//! Goldens of [`super`].

use selfhost_core::component::Component;

use super::*;
use crate::template::normalize;
use crate::template::normalize::tests::mirror_api_server;

fn bridge_with(change: impl FnOnce(&mut Vec<String>)) -> Pod {
    let mirror = mirror_api_server();
    let mut spec = mirror.spec.unwrap();
    change(spec.containers[0].command.as_mut().unwrap());
    let template = normalize(Component::ApiServer, &mirror.metadata, &spec, Some("10.0.0.11")).unwrap();
    let around = Surroundings {
        node_image: "example.org/selfhost-node@sha256:00".into(),
        service_ip: Some("10.96.0.1".parse().unwrap()),
    };
    pod(Component::ApiServer, &template, "cp1", &around)
}

#[test]
fn the_bridge_of_an_api_server() {
    insta::assert_json_snapshot!(bridge_with(|_| {}));
}

#[test]
fn the_bridge_writes_its_own_audit_log() {
    for (path, own) in [
        ("/var/log/kubernetes/audit.log", "/var/log/kubernetes/audit-bridge.log"),
        ("/var/log.d/audit", "/var/log.d/audit-bridge"),
        ("-", "-"),
    ] {
        let pod = bridge_with(|command| command.push(format!("--audit-log-path={path}")));
        let command = pod.spec.unwrap().containers[0].command.clone().unwrap();
        assert_eq!(flags::value(&command, "audit-log-path"), Some(own));
    }
}

#[test]
fn the_gate_finds_the_authority_where_it_lies_on_the_host() {
    let pod = bridge_with(|_| {});
    let volume = pod.spec.unwrap().volumes.unwrap().into_iter().find(|v| v.name == "selfhost-ca").unwrap();
    assert_eq!(volume.host_path.unwrap().path, "/etc/kubernetes/pki/ca.crt");
}

#[test]
fn names_stay_within_the_limit() {
    assert_eq!(name(Component::Scheduler, "cp1"), "kube-scheduler-bridge-cp1");
    assert!(name(Component::ControllerManager, &"n".repeat(250)).len() <= 253);
}

#[test]
fn the_bridge_of_who_elects_a_leader_asks_often() {
    let mut mirror = mirror_api_server();
    let spec = mirror.spec.as_mut().unwrap();
    for component in [Component::ControllerManager, Component::Scheduler] {
        spec.containers[0].name = component.name().to_owned();
        spec.containers[0].command =
            Some(vec![component.name().to_owned(), "--leader-elect=true".to_owned()]);
        let template = PodTemplateSpec { metadata: None, spec: Some(spec.clone()) };
        let around = Surroundings { node_image: "example.org/selfhost-node".into(), service_ip: None };
        let command =
            pod(component, &template, "cp1", &around).spec.unwrap().containers[0].command.clone().unwrap();
        assert_eq!(flags::value(&command, "leader-elect-retry-period"), Some("500ms"), "{command:?}");
    }
}
