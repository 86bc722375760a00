//! From a DaemonSet's template to the static Pod that a kubelet runs without an API server.
//!
//! Invariant: pure. The manifest refers to nothing in the API (kubelets refuse that: k/k#131837), and differs from the
//! template only in what it leaves out, which is told, in the node's address, in the priority's number, and in being marked as
//! no Pod of the DaemonSet. So `pivot` finds in it the template that the DaemonSet has.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

/// The component that is started.
pub(super) const NAME: &str = "kube-apiserver";

/// The annotation with the hash of a template, which a Pod that is not made of it must not have.
const TEMPLATE_HASH: &str = "kubectl-selfhost.dev/template-hash";

/// The annotation that marks a manifest as made here: it holds nothing of anybody's that the DaemonSet has not.
const RECOVERED: &str = "kubectl-selfhost.dev/recovered";

/// The label by which the DaemonSet, and whoever looks for its Pods, knows them.
const SELECTED_BY: &str = "k8s-app";

/// What a Pod spec has for others than the kubelet.
const LEFT_OUT: [&str; 13] = [
    // The scheduler and the controllers.
    "nodeSelector",
    "nodeName",
    "affinity",
    "topologySpreadConstraints",
    "schedulingGates",
    "schedulingGroup",
    "preemptionPolicy",
    "evictionResponders",
    "readinessGates",
    // Objects in the API. The image of what ran here is on the node.
    "serviceAccountName",
    "serviceAccount",
    "automountServiceAccountToken",
    "imagePullSecrets",
];

/// The classes that every cluster has, with their numbers, which an API server would fill in.
const PRIORITIES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// What refers to objects in the API, wherever it is in a Pod spec; volumes have a rule of their own.
const REFERENCES: [&str; 7] = [
    "envFrom",
    "configMapKeyRef",
    "secretKeyRef",
    "fileKeyRef",
    "resourceClaims",
    "claims",
    "ephemeralContainers",
];

/// The static Pod.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) text: Vec<u8>,
    /// What of the template is not in it.
    pub(super) left_out: Vec<&'static str>,
}

/// The template cannot become a static Pod.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("the template has no container {NAME}")]
    NoContainer,
    #[error("the template does not use the host's network")]
    NotHostNetwork,
    #[error("volume {volume} of the template is of kind {kind}, which a static Pod cannot have")]
    Volume { volume: String, kind: String },
    #[error("the template has {0}, which a static Pod cannot have")]
    Reference(String),
    #[error("variable {variable} of the template is {field}, which is not known on a node alone")]
    Field { variable: String, field: String },
    #[error(
        "the template names the node's address, which is not known: this node has none, or more than one"
    )]
    NoAddress,
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::NoAddress => "give the address that the API server is to advertise: --node-ip IP",
            Self::NoContainer
            | Self::NotHostNetwork
            | Self::Volume { .. }
            | Self::Reference(_)
            | Self::Field { .. } => {
                "selfhost-node recover --from kept starts the API server of before the pivot"
            }
        }
    }
}

/// The image of the API server in a Pod or a template.
pub(super) fn image(pod: &Value) -> Option<&str> {
    let containers = pod["spec"]["containers"].as_array()?;
    containers.iter().find(|container| container["name"] == NAME)?["image"].as_str()
}

/// The static Pod of `template` on the node with this address.
pub(super) fn from_template(template: &Value, address: Option<IpAddr>) -> Result<Manifest, Error> {
    let mut fields = template["spec"].as_object().cloned().unwrap_or_default();
    let left_out = LEFT_OUT.into_iter().filter(|name| fields.remove(*name).is_some()).collect();
    let mut spec = Value::Object(fields);
    if let Some((_, priority)) = PRIORITIES.iter().find(|(class, _)| spec["priorityClassName"] == *class) {
        // The kubelet goes by the number, and kubeadm writes it, too.
        spec["priority"] = json!(priority);
    }
    if spec["hostNetwork"] != true {
        return Err(Error::NotHostNetwork);
    }
    check_volumes(&spec)?;
    for containers in ["initContainers", "containers"] {
        for container in elements(&mut spec, containers) {
            resolve(container, address)?;
        }
    }
    if let Some(path) = reference(&spec, "spec") {
        return Err(Error::Reference(path));
    }
    let own = |name: &str| template["metadata"][name].as_object().cloned().unwrap_or_default();
    let mut annotations = own("annotations");
    annotations.remove(TEMPLATE_HASH);
    annotations.insert(RECOVERED.to_owned(), json!("true"));
    let mut labels = own("labels");
    labels.remove(SELECTED_BY);
    let metadata =
        json!({"name": NAME, "namespace": "kube-system", "labels": labels, "annotations": annotations});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    image(&pod).ok_or(Error::NoContainer)?;
    Ok(Manifest { text: format!("{pod:#}\n").into_bytes(), left_out })
}

/// Whether [`from_template`] made this manifest.
pub(crate) fn is_recovered(manifest: &[u8]) -> bool {
    let pod: Value = serde_json::from_slice(manifest).unwrap_or_default();
    pod["metadata"]["annotations"][RECOVERED] == "true"
}

fn check_volumes(spec: &Value) -> Result<(), Error> {
    let volumes = spec["volumes"].as_array();
    for volume in volumes.into_iter().flatten() {
        let mut kinds = volume.as_object().into_iter().flat_map(Map::keys).filter(|key| *key != "name");
        if let Some(kind) = kinds.find(|kind| !["hostPath", "emptyDir"].contains(&kind.as_str())) {
            return Err(Error::Volume { volume: text(&volume["name"]).to_owned(), kind: kind.clone() });
        }
    }
    Ok(())
}

/// Gives the variables that are the node's address that address. Everything else a container may ask of its Pod the
/// kubelet knows by itself, and it puts variables where they are named.
fn resolve(container: &mut Value, address: Option<IpAddr>) -> Result<(), Error> {
    for variable in elements(container, "env") {
        let name = text(&variable["name"]).to_owned();
        let field = text(&variable["valueFrom"]["fieldRef"]["fieldPath"]).to_owned();
        if field.is_empty() || field.starts_with("metadata.") || field == "spec.nodeName" {
            continue;
        }
        if !["status.hostIP", "status.podIP"].contains(&field.as_str()) {
            return Err(Error::Field { variable: name, field });
        }
        let value = address.ok_or(Error::NoAddress)?.to_string();
        *variable = json!({"name": name, "value": value});
    }
    Ok(())
}

/// The elements of a list, if it is there.
fn elements<'a>(object: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Where a part of a Pod spec refers to the API, or is of a kind that nobody here has read.
fn reference(part: &Value, path: &str) -> Option<String> {
    match part {
        Value::Null => Some(path.to_owned()),
        Value::Object(map) => map.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            if REFERENCES.contains(&key.as_str()) { Some(path) } else { reference(value, &path) }
        }),
        Value::Array(list) => {
            list.iter().enumerate().find_map(|(at, value)| reference(value, &format!("{path}[{at}]")))
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn template() -> Value {
        json!({
            "metadata": {
                "creationTimestamp": null,
                "labels": {"component": NAME, "k8s-app": "self-hosted-kube-apiserver", "tier": "control-plane"},
                "annotations": {TEMPLATE_HASH: "62517a021328c2d5", "example.org/kept": "yes"},
            },
            "spec": {
                "automountServiceAccountToken": false,
                "containers": [{
                    "command": [NAME, "--advertise-address=$(HOST_IP)", "--secure-port=6443"],
                    "env": [
                        {"name": "HOST_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.hostIP"}}},
                        {"name": "NODE", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}}},
                    ],
                    "image": "registry.k8s.io/kube-apiserver:v1.36.3",
                    "name": NAME,
                    "volumeMounts": [{"mountPath": "/etc/kubernetes/pki", "name": "k8s-certs", "readOnly": true}],
                }],
                "hostNetwork": true,
                "nodeSelector": {"kubectl-selfhost.dev/kube-apiserver": "true"},
                "priorityClassName": "system-node-critical",
                "schedulerName": "default-scheduler",
                "tolerations": [{"operator": "Exists"}],
                "volumes": [{"hostPath": {"path": "/etc/kubernetes/pki", "type": "DirectoryOrCreate"}, "name": "k8s-certs"}],
            },
        })
    }

    const ADDRESS: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 11)));

    fn made(template: &Value) -> Value {
        serde_json::from_slice(&from_template(template, ADDRESS).unwrap().text).unwrap()
    }

    #[test]
    fn the_static_pod_of_an_api_server() {
        let manifest = from_template(&template(), ADDRESS).unwrap();
        assert_eq!(manifest.left_out, ["nodeSelector", "automountServiceAccountToken"]);
        let expected = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": NAME,
                "namespace": "kube-system",
                "labels": {"component": NAME, "tier": "control-plane"},
                "annotations": {"example.org/kept": "yes", RECOVERED: "true"},
            },
            "spec": {
                "containers": [{
                    "command": [NAME, "--advertise-address=$(HOST_IP)", "--secure-port=6443"],
                    "env": [
                        {"name": "HOST_IP", "value": "10.0.0.11"},
                        {"name": "NODE", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}}},
                    ],
                    "image": "registry.k8s.io/kube-apiserver:v1.36.3",
                    "name": NAME,
                    "volumeMounts": [{"mountPath": "/etc/kubernetes/pki", "name": "k8s-certs", "readOnly": true}],
                }],
                "hostNetwork": true,
                "priority": 2_000_001_000,
                "priorityClassName": "system-node-critical",
                "schedulerName": "default-scheduler",
                "tolerations": [{"operator": "Exists"}],
                "volumes": [{"hostPath": {"path": "/etc/kubernetes/pki", "type": "DirectoryOrCreate"}, "name": "k8s-certs"}],
            },
        });
        assert_eq!(serde_json::from_slice::<Value>(&manifest.text).unwrap(), expected);
        assert!(is_recovered(&manifest.text));
        for other in [&b"metadata: {}"[..], br#"{"metadata": {"annotations": {"a": "true"}}}"#] {
            assert!(!is_recovered(other));
        }
    }

    #[test]
    fn a_variable_that_is_the_address_has_it_and_stays_where_it_is() {
        let variable =
            |name: &str, field: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}});
        let address = |name: &str| json!({"name": name, "value": "10.0.0.11"});
        let before = json!({"name": "X", "value": "$(A) is not known here"});
        let after = json!({"name": "Y", "value": "https://$(A):6443"});
        let own = variable("NAME", "metadata.name");
        let container = |a: Value, b: Value| json!({"args": ["$(A)"], "env": [before, a, after, b, own]});
        let mut resolved = container(variable("A", "status.hostIP"), variable("B", "status.podIP"));
        resolve(&mut resolved, ADDRESS).unwrap();
        assert_eq!(resolved, container(address("A"), address("B")));
    }

    #[test]
    fn an_address_is_needed_only_where_it_is_asked_for() {
        assert_eq!(from_template(&template(), None).unwrap_err(), Error::NoAddress);
        let mut template = template();
        template["spec"]["containers"][0]["env"] = json!([]);
        from_template(&template, None).unwrap();
    }

    #[test]
    fn what_refers_to_the_api_is_refused_by_its_name() {
        let volume = |kind: &str| Error::Volume { volume: "certs".to_owned(), kind: kind.to_owned() };
        let reference = |path: &str| Error::Reference(path.to_owned());
        for (at, value, expected) in [
            ("/spec/volumes/0", json!({"name": "certs", "secret": {"secretName": "x"}}), volume("secret")),
            ("/spec/volumes/0", json!({"name": "certs", "projected": null}), volume("projected")),
            (
                "/spec/containers/0/envFrom",
                json!([{"secretRef": {}}]),
                reference("spec.containers[0].envFrom"),
            ),
            (
                "/spec/containers/0/env/1/valueFrom",
                json!({"secretKeyRef": {"name": "x"}}),
                reference("spec.containers[0].env[1].valueFrom.secretKeyRef"),
            ),
            ("/spec/resourceClaims", json!([null]), reference("spec.resourceClaims")),
            (
                "/spec/containers/0/volumeDevices",
                json!([null]),
                reference("spec.containers[0].volumeDevices[0]"),
            ),
            (
                "/spec/containers/0/env/1/valueFrom",
                json!({"fieldRef": {"fieldPath": "status.hostIPs"}}),
                Error::Field { variable: "NODE".to_owned(), field: "status.hostIPs".to_owned() },
            ),
            ("/spec/hostNetwork", json!(false), Error::NotHostNetwork),
            ("/spec/containers/0/name", json!("other"), Error::NoContainer),
        ] {
            let mut template = template();
            let (parent, key) = at.rsplit_once('/').unwrap();
            match template.pointer_mut(parent).unwrap() {
                Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
                parent => parent[key] = value,
            }
            assert_eq!(from_template(&template, ADDRESS).unwrap_err(), expected, "{at}");
        }
    }

    #[test]
    fn what_is_left_out_is_told() {
        let mut template = template();
        template["spec"]["imagePullSecrets"] = json!([null]);
        template["spec"]["serviceAccountName"] = json!("x");
        let left_out = from_template(&template, ADDRESS).unwrap().left_out;
        assert_eq!(
            left_out,
            ["nodeSelector", "serviceAccountName", "automountServiceAccountToken", "imagePullSecrets"]
        );
        assert_eq!(made(&template)["spec"].get("imagePullSecrets"), None);
    }
}
