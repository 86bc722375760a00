//! Goldens of [`super`].

use super::*;
use crate::template::normalize;
use crate::template::normalize::tests::mirror_api_server;

fn templates() -> BTreeMap<Component, PodTemplateSpec> {
    let mirror = mirror_api_server();
    let spec = mirror.spec.unwrap();
    let template = normalize(Component::ApiServer, &mirror.metadata, &spec, Some("10.0.0.11")).unwrap();
    BTreeMap::from([(Component::ApiServer, template)])
}

fn content_with(peers: &[IpAddr]) -> String {
    let around = bridge::Surroundings {
        node_image: "example.org/selfhost-node@sha256:00".into(),
        service_ip: Some("10.96.0.1".parse().unwrap()),
    };
    content(&templates(), "cp1", "10.0.0.11".parse().unwrap(), peers, &around)
}

#[test]
fn the_standby_of_an_api_server() {
    let pod: Value = serde_json::from_str(&content_with(&["10.0.0.12".parse().unwrap()])).unwrap();
    insta::assert_json_snapshot!(pod);
}

#[test]
fn it_refers_to_nothing_in_the_api() {
    let pod: Value = serde_json::from_str(&content_with(&[])).unwrap();
    let content = pod["spec"].to_string();
    for word in ["valueFrom", "serviceAccount", "secret", "configMap", "projected", "$(", "nodeName"] {
        assert!(!content.contains(word), "{word}");
    }
}

#[test]
fn its_hash_tells_whether_it_is_the_same() {
    let one = content_with(&[]);
    assert_eq!(hash(&one), hash(&content_with(&[])));
    assert_ne!(hash(&one), hash(&content_with(&["10.0.0.12".parse().unwrap()])));
    assert_eq!(hash("{}"), None);
}

#[test]
fn it_keeps_the_templates_of_what_it_stands_in_for() {
    let pod: Pod = serde_json::from_str(&content_with(&[])).unwrap();
    assert_eq!(super::templates(&pod), templates());
    assert_eq!(super::templates(&Pod::default()), BTreeMap::new());
}

#[test]
fn volume_names_of_three_components_do_not_meet() {
    assert_eq!(scoped(Component::Scheduler, "kubeconfig"), "kube-scheduler-kubeconfig");
    assert!(scoped(Component::ControllerManager, &"v".repeat(63)).len() <= 63);
}
