//! The objects that the guard is made of. Pure.
//!
//! Invariant: what the guard's account may read is what the rules look up, and of Secrets and ConfigMaps those by name
//! that the control plane mounts; it may list none and write nothing.

use std::collections::{BTreeMap, BTreeSet};

use selfhost_core::labels;
use selfhost_core::review::settings::Guard;
use serde_json::{Value, json};

use super::address::{LOOPBACK, host};
use super::credentials::{AUTHORITY, CERTIFICATE, CLIENT, KEY};
use crate::inventory::Inventory;
use crate::template::guard::{CONFIGURATION, KUBECONFIG, MANIFEST, MANIFESTS, ON_HOST, has_manifests};

/// Where the module is in the guard's image.
const POLICY: &str = "/policy.wasm";

/// Where the image has it as it was compiled.
const COMPILED: &str = "/compiled";

/// A user that owns nothing on a node.
const NOBODY: i64 = 65532;

/// What is installed, and from which images.
#[derive(Debug)]
pub struct Installation<'a> {
    /// The guard's place.
    pub guard: &'a Guard,
    /// The image of the server and the policy.
    pub image: &'a str,
    /// The image of the node part, which gives the API servers their files.
    pub node_image: &'a str,
    /// The policy's settings.
    pub settings: &'a Value,
    /// The name of the API servers' credential.
    pub credential: &'a str,
    /// Where the guard listens; its health and metrics are one port on.
    pub port: u16,
    /// The port of the API servers.
    pub api_port: u16,
    /// The guarded Secrets, as `namespace/name`.
    pub secrets: &'a BTreeSet<String>,
    /// The guarded ConfigMaps, as `namespace/name`.
    pub config_maps: &'a BTreeSet<String>,
}

/// What the control plane mounts by name, of Secrets and of ConfigMaps, as `namespace/name`.
pub fn mounted(inventory: &Inventory) -> [BTreeSet<String>; 2] {
    let mut found = [BTreeSet::new(), BTreeSet::new()];
    let specs = inventory.daemonsets.values().filter_map(|daemonset| daemonset.spec.template.spec.as_ref());
    for volume in specs.flat_map(|spec| spec.volumes.iter().flatten()) {
        let sources = volume.projected.iter().flat_map(|it| it.sources.iter().flatten());
        let projected = sources.flat_map(|source| {
            let secret = source.secret.as_ref().map(|it| (0, it.name.clone()));
            let map = source.config_map.as_ref().map(|it| (1, it.name.clone()));
            secret.into_iter().chain(map)
        });
        let secret = volume.secret.iter().filter_map(|it| Some((0, it.secret_name.clone()?)));
        let map = volume.config_map.iter().map(|it| (1, it.name.clone()));
        for (kind, name) in secret.chain(map).chain(projected) {
            found[kind].insert(format!("{}/{name}", labels::NAMESPACE));
        }
    }
    found
}

/// Everything but the Secret and the registration, in the order in which it is written; it is removed the other way
/// round.
pub fn all(it: &Installation<'_>) -> Vec<Value> {
    let mut objects = vec![namespace(it.guard), account(it.guard)];
    objects.extend(rights(it));
    objects.push(settings(it));
    objects.push(daemonset(it));
    objects
}

/// Its own, because nothing else should be able to stop it by a quota or a policy.
pub fn namespace(guard: &Guard) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": guard.namespace, "labels": {
            labels::GUARD: guard.name,
            // The host's network, and one directory of it.
            "pod-security.kubernetes.io/enforce": "privileged",
        }},
    })
}

fn account(guard: &Guard) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": guard.name, "namespace": guard.namespace},
    })
}

/// Its rights, in all namespaces, and in those that have guarded Secrets or ConfigMaps.
fn rights(it: &Installation<'_>) -> Vec<Value> {
    let read = |group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list"]});
    let mut objects = role(
        it.guard,
        None,
        &[
            read("", &["nodes", "pods", "services", "serviceaccounts"]),
            read("apps", &["daemonsets"]),
            read("discovery.k8s.io", &["endpointslices"]),
            read("rbac.authorization.k8s.io", &["clusterroles", "roles"]),
        ],
    );
    // Without a name, a right is to all of them.
    let mut by_namespace: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (resource, keys) in [("secrets", it.secrets), ("configmaps", it.config_maps)] {
        let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (namespace, name) in keys.iter().filter_map(|key| key.split_once('/')) {
            names.entry(namespace).or_default().push(name);
        }
        for (namespace, names) in names {
            by_namespace.entry(namespace).or_default().push(json!({
                "apiGroups": [""], "resources": [resource], "resourceNames": names, "verbs": ["get"],
            }));
        }
    }
    for (namespace, rules) in by_namespace {
        objects.extend(role(it.guard, Some(namespace), &rules));
    }
    objects
}

/// A role and who has it.
fn role(guard: &Guard, namespace: Option<&str>, rules: &[Value]) -> Vec<Value> {
    let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
    let metadata = namespace.map_or_else(
        || json!({"name": guard.name}),
        |namespace| json!({"name": guard.name, "namespace": namespace}),
    );
    vec![
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, "rules": rules,
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": format!("{kind}Binding"), "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": guard.name},
            "subjects": [{"kind": "ServiceAccount", "name": guard.name, "namespace": guard.namespace}],
        }),
    ]
}

fn settings(it: &Installation<'_>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": it.guard.name, "namespace": it.guard.namespace},
        "data": {"settings.json": format!("{:#}\n", it.settings)},
    })
}

/// Keys of a Secret, as files of the same names.
fn items(keys: &[&str]) -> Vec<Value> {
    keys.iter().map(|key| json!({"key": key, "path": key})).collect()
}

/// One on each control-plane node, whatever its taints say.
fn daemonset(it: &Installation<'_>) -> Value {
    let app = json!({labels::K8S_APP: it.guard.name});
    let probe = |path: &str| json!({"httpGet": {"host": LOOPBACK, "port": it.port + 1, "path": path}});
    let with = |mut probe: Value, more: &[(&str, i64)]| {
        for (field, value) in more {
            probe[*field] = json!(value);
        }
        probe
    };
    let directory = format!("{ON_HOST}/{}", it.credential);
    let mut placed = items(&[CONFIGURATION, KUBECONFIG]);
    if has_manifests(it.credential) {
        placed.push(json!({"key": MANIFEST, "path": format!("{MANIFESTS}/{MANIFEST}")}));
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": it.guard.name, "namespace": it.guard.namespace, "labels": app},
        "spec": {
            "selector": {"matchLabels": app},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": app},
                "spec": {
                    "serviceAccountName": it.guard.name,
                    "hostNetwork": true,
                    "priorityClassName": "system-node-critical",
                    "nodeSelector": {labels::CONTROL_PLANE_ROLES[0]: ""},
                    "tolerations": [{"operator": "Exists"}],
                    "terminationGracePeriodSeconds": 15,
                    "securityContext": {"fsGroup": NOBODY, "seccompProfile": {"type": "RuntimeDefault"}},
                    "initContainers": [{
                        // A node that joins gets them by itself.
                        "name": "place-files",
                        "image": it.node_image,
                        "imagePullPolicy": "IfNotPresent",
                        "args": ["task", "place-files", "--from=/credentials", format!("--to={directory}")],
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                        },
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                        "volumeMounts": [
                            {"name": "api-server", "mountPath": "/credentials", "readOnly": true},
                            {"name": "on-host", "mountPath": ON_HOST},
                        ],
                    }],
                    "containers": [{
                        "name": "guard",
                        "image": it.image,
                        "imagePullPolicy": "IfNotPresent",
                        "args": [
                            format!("--policy={POLICY}"),
                            format!("--compiled={COMPILED}"),
                            "--settings=/settings/settings.json",
                            format!("--tls-cert-file=/tls/{CERTIFICATE}"),
                            format!("--tls-private-key-file=/tls/{KEY}"),
                            format!("--client-ca-file=/tls/{AUTHORITY}"),
                            format!("--client-name={CLIENT}"),
                            format!("--listen={}", host(it.port)),
                            format!("--status-listen={}", host(it.port + 1)),
                        ],
                        // The node's own API server: the Service would need kube-proxy, and lead to another node.
                        "env": [
                            {"name": "KUBERNETES_SERVICE_HOST", "valueFrom": {"fieldRef": {
                                "apiVersion": "v1", "fieldPath": "status.hostIP",
                            }}},
                            {"name": "KUBERNETES_SERVICE_PORT", "value": it.api_port.to_string()},
                        ],
                        "resources": {"requests": {"cpu": "25m", "memory": "64Mi"}},
                        "securityContext": {
                            "runAsNonRoot": true,
                            "runAsUser": NOBODY,
                            "runAsGroup": NOBODY,
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        // The module is compiled at the start: a second on a quiet node.
                        "startupProbe": with(probe("/readyz"), &[("periodSeconds", 1), ("failureThreshold", 120)]),
                        "readinessProbe": with(probe("/readyz"), &[("periodSeconds", 5), ("timeoutSeconds", 2)]),
                        "livenessProbe": with(probe("/livez"), &[("periodSeconds", 10), ("timeoutSeconds", 5)]),
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                        "volumeMounts": [
                            {"name": "tls", "mountPath": "/tls", "readOnly": true},
                            {"name": "settings", "mountPath": "/settings", "readOnly": true},
                        ],
                    }],
                    "volumes": [
                        {"name": "tls", "secret": {"secretName": it.guard.name, "defaultMode": 0o440,
                            "items": items(&[AUTHORITY, CERTIFICATE, KEY])}},
                        {"name": "api-server", "secret": {"secretName": it.guard.name, "items": placed}},
                        {"name": "settings", "configMap": {"name": it.guard.name}},
                        {"name": "on-host", "hostPath": {"path": ON_HOST, "type": "DirectoryOrCreate"}},
                    ],
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::self_hosted;

    fn installation<'a>(
        guard: &'a Guard,
        secrets: &'a BTreeSet<String>,
        config_maps: &'a BTreeSet<String>,
        settings: &'a Value,
    ) -> Installation<'a> {
        Installation {
            guard,
            image: "example.org/guard@sha256:1",
            node_image: "example.org/node@sha256:2",
            settings,
            credential: "0a1b",
            port: 9443,
            api_port: 6443,
            secrets,
            config_maps,
        }
    }

    #[test]
    fn what_is_installed() {
        let secrets = BTreeSet::from(["kube-system/ca".to_owned(), "vault/kms".to_owned()]);
        let settings = json!({"nodeImages": ["example.org/node@sha256:2"]});
        let guard = Guard::default();
        insta::assert_json_snapshot!(all(&installation(&guard, &secrets, &BTreeSet::new(), &settings)));
    }

    /// A rule without names would be a right to every Secret.
    #[test]
    fn nothing_by_name_is_no_right_at_all() {
        let (none, guard, settings) = (BTreeSet::new(), Guard::default(), json!({}));
        let objects = all(&installation(&guard, &none, &none, &settings));
        for rule in objects.iter().flat_map(|it| it["rules"].as_array().into_iter().flatten()) {
            let resources = rule["resources"].to_string();
            assert!(!resources.contains("secrets") && !resources.contains("configmaps"), "{rule}");
        }
    }

    #[test]
    fn what_is_mounted_is_found_in_every_form() {
        let mut inventory = self_hosted(1, "v1.36.3");
        let daemonset =
            inventory.daemonsets.get_mut(&selfhost_core::component::Component::ApiServer).unwrap();
        let volumes = daemonset.spec.template.spec.as_mut().unwrap().volumes.get_or_insert_default();
        volumes.extend(
            serde_json::from_value::<Vec<_>>(json!([
                {"name": "a", "secret": {"secretName": "one"}},
                {"name": "b", "projected": {"sources": [{"secret": {"name": "two"}}, {"configMap": {"name": "three"}}]}},
                {"name": "c", "configMap": {"name": "four"}},
            ]))
            .unwrap(),
        );
        let [secrets, maps] = mounted(&inventory).map(|keys| keys.into_iter().collect::<Vec<_>>());
        assert_eq!(secrets, ["kube-system/one", "kube-system/two"]);
        assert_eq!(maps, ["kube-system/four", "kube-system/three"]);
    }
}
