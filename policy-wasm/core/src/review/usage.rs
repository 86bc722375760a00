//! What a Secret or ConfigMap is to the control plane: computed from the templates that mount it, never from a list of
//! names.
//!
//! A flag names a file, a mount has a volume at its directory, and the volume has a key of a Secret there. So the rules
//! know that `tls.crt` of one Secret is the API server's serving certificate, and that of another a signing CA.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Request;
use super::facts::{Facts, Lookup, Unknown};
use super::object::{list, text};
use super::pod::{CONTAINERS, Pod, component_of};
use super::settings::Settings;
use crate::component::Component;
use crate::labels;

/// Where a value is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Store {
    /// In a Secret.
    Secret,
    /// In a ConfigMap.
    ConfigMap,
}

impl Store {
    /// `Secret`
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }

    /// The store that a request is about.
    pub fn of(request: &Request) -> Option<Self> {
        if request.is("", "secrets") {
            Some(Self::Secret)
        } else if request.is("", "configmaps") {
            Some(Self::ConfigMap)
        } else {
            None
        }
    }
}

/// A file that a component's command line names, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// The component that reads it.
    pub component: Component,
    /// The flag that names it.
    pub flag: String,
    /// What holds it.
    pub store: Store,
    /// Its name.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// A Secret or ConfigMap that a Pod refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Which of the two.
    pub store: Store,
    /// Its name.
    pub name: String,
    /// The key, where just one is named.
    pub key: Option<String>,
    /// Whether the Pod would start without it.
    pub optional: bool,
    /// Where in the Pod's spec: `volumes[0].secret`.
    pub path: String,
}

/// Every Secret and ConfigMap that a Pod refers to, in any of the ways there are.
pub fn references(pod: Pod<'_>) -> Vec<Reference> {
    let mut found = Vec::new();
    let spec = pod.spec();
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let path = format!("volumes[{index}]");
        volume_references(volume, &path, &mut found);
        for (at, source) in list(&volume["projected"], "sources").iter().enumerate() {
            volume_references(source, &format!("{path}.projected.sources[{at}]"), &mut found);
        }
    }
    for kind in CONTAINERS {
        for (index, container) in list(spec, kind).iter().enumerate() {
            for (at, variable) in list(container, "env").iter().enumerate() {
                let path = format!("{kind}[{index}].env[{at}].valueFrom");
                for (store, name) in [(Store::Secret, "secretKeyRef"), (Store::ConfigMap, "configMapKeyRef")]
                {
                    push(&mut found, store, &variable["valueFrom"][name], "name", format!("{path}.{name}"));
                }
            }
            for (at, source) in list(container, "envFrom").iter().enumerate() {
                let path = format!("{kind}[{index}].envFrom[{at}]");
                for (store, name) in [(Store::Secret, "secretRef"), (Store::ConfigMap, "configMapRef")] {
                    push(&mut found, store, &source[name], "name", format!("{path}.{name}"));
                }
            }
        }
    }
    for (index, secret) in list(spec, "imagePullSecrets").iter().enumerate() {
        push(&mut found, Store::Secret, secret, "name", format!("imagePullSecrets[{index}]"));
    }
    found
}

/// In-tree volumes that refer to a Secret, by the field that does.
const SECRET_REFS: [(&str, &str); 8] = [
    ("csi", "nodePublishSecretRef"),
    ("cephfs", "secretRef"),
    ("flexVolume", "secretRef"),
    ("iscsi", "secretRef"),
    ("rbd", "secretRef"),
    ("scaleIO", "secretRef"),
    ("storageos", "secretRef"),
    ("cinder", "secretRef"),
];

fn volume_references(volume: &Value, path: &str, found: &mut Vec<Reference>) {
    // A volume has `secretName`, a projected source `name`.
    let secret = &volume["secret"];
    let field = if secret["secretName"].is_null() { "name" } else { "secretName" };
    push(found, Store::Secret, secret, field, format!("{path}.secret"));
    push(found, Store::ConfigMap, &volume["configMap"], "name", format!("{path}.configMap"));
    push(found, Store::Secret, &volume["azureFile"], "secretName", format!("{path}.azureFile"));
    for (kind, field) in SECRET_REFS {
        push(found, Store::Secret, &volume[kind][field], "name", format!("{path}.{kind}.{field}"));
    }
}

fn push(found: &mut Vec<Reference>, store: Store, source: &Value, field: &str, path: String) {
    let name = text(source, field);
    if !name.is_empty() {
        found.push(Reference {
            store,
            name: name.to_owned(),
            key: source["key"].as_str().map(ToOwned::to_owned),
            optional: super::object::flag(source, "optional"),
            path,
        });
    }
}

/// The files that the component's command line names and that a Secret or ConfigMap holds.
pub fn uses(component: Component, pod: Pod<'_>) -> Vec<Use> {
    named_files(component, pod).into_iter().flatten().collect()
}

/// The same by file: a volume of several sources has each of them that could hold it.
pub fn named_files(component: Component, pod: Pod<'_>) -> Vec<Vec<Use>> {
    let (Some(container), Some(command)) = (pod.container(component), pod.command(component)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for flag in command.names() {
        let paths = command.occurrences(flag).into_iter().flat_map(|value| value.split(','));
        for path in paths.filter(|path| path.starts_with('/')) {
            let Some((volume, inside)) = file(pod, container, path) else { continue };
            let held = sources(volume)
                .into_iter()
                .filter_map(|(store, name, source)| Some((store, name, key_at(source, &inside)?)));
            let used = held.map(|(store, name, key)| Use {
                component,
                flag: flag.to_owned(),
                store,
                name: name.to_owned(),
                key,
            });
            found.push(used.collect());
        }
    }
    found
}

/// The volume that a path inside of a container is on, and the path inside of the volume.
pub fn file<'a>(pod: Pod<'a>, container: &'a Value, path: &str) -> Option<(&'a Value, String)> {
    let mounts = list(container, "volumeMounts").iter();
    let (mount, rest) = mounts
        .filter_map(|mount| {
            let rest = path.strip_prefix(text(mount, "mountPath").trim_end_matches('/'))?;
            (rest.is_empty() || rest.starts_with('/')).then_some((mount, rest))
        })
        .max_by_key(|(mount, _)| text(mount, "mountPath").len())?;
    let volume = *pod.volumes().get(text(mount, "name"))?;
    let inside = format!("{}{rest}", text(mount, "subPath"));
    Some((volume, inside.trim_matches('/').to_owned()))
}

/// What a volume is filled from.
fn sources(volume: &Value) -> Vec<(Store, &str, &Value)> {
    let mut found = Vec::new();
    if volume["secret"].is_object() {
        found.push((Store::Secret, text(&volume["secret"], "secretName"), &volume["secret"]));
    }
    if volume["configMap"].is_object() {
        found.push((Store::ConfigMap, text(&volume["configMap"], "name"), &volume["configMap"]));
    }
    for source in list(&volume["projected"], "sources") {
        for (store, kind) in [(Store::Secret, "secret"), (Store::ConfigMap, "configMap")] {
            if source[kind].is_object() {
                found.push((store, text(&source[kind], "name"), &source[kind]));
            }
        }
    }
    found
}

/// The key that a source puts at a path.
fn key_at(source: &Value, path: &str) -> Option<String> {
    match source["items"].as_array() {
        None => (!path.is_empty() && !path.contains('/')).then(|| path.to_owned()),
        Some(items) => {
            let item = items.iter().find(|item| text(item, "path").trim_matches('/') == path)?;
            Some(text(item, "key").to_owned())
        }
    }
}

/// The templates of the DaemonSets that there are.
pub fn templates(facts: &Facts) -> Result<Vec<(Component, &Value)>, Unknown> {
    // All three are asked for at once.
    let found: Vec<_> =
        Component::ALL.into_iter().map(|it| (it, facts.object(&Lookup::daemonset(it)))).collect();
    let there = found.into_iter().filter_map(|(component, found)| match found {
        Ok(found) => found.map(|daemonset| Ok((component, &daemonset["spec"]["template"]))),
        Err(unknown) => Some(Err(unknown)),
    });
    there.collect()
}

/// The template of the API servers, as it will be after the request; none where there is none.
pub fn server_template<'a>(request: &'a Request, facts: &'a Facts) -> Result<Option<Pod<'a>>, Unknown> {
    if request.writes() && component_of(request) == Some(Component::ApiServer) {
        return Ok(Some(Pod::template_of(&request.object)));
    }
    let stored = facts.object(&Lookup::daemonset(Component::ApiServer))?;
    Ok(stored.map(Pod::template_of))
}

/// Every file of the control plane that a Secret or ConfigMap holds.
pub fn all_uses(facts: &Facts) -> Result<Vec<Use>, Unknown> {
    let templates = templates(facts)?;
    Ok(templates.into_iter().flat_map(|(component, template)| uses(component, Pod(template))).collect())
}

/// The names of the guarded Secrets or ConfigMaps, as `namespace/name`: what the control plane mounts, and what the
/// settings add.
pub fn guarded(store: Store, settings: &Settings, facts: &Facts) -> Result<BTreeSet<String>, Unknown> {
    let mut names = match store {
        Store::Secret => settings.secrets.clone(),
        Store::ConfigMap => settings.config_maps.clone(),
    };
    for (_, template) in templates(facts)? {
        let here = references(Pod(template)).into_iter().filter(|it| it.store == store);
        names.extend(here.map(|it| format!("{}/{}", labels::NAMESPACE, it.name)));
    }
    Ok(names)
}

/// The store of a request, if what it is about is guarded.
pub fn guarded_store(
    request: &Request,
    settings: &Settings,
    facts: &Facts,
) -> Result<Option<Store>, Unknown> {
    let Some(store) = Store::of(request) else { return Ok(None) };
    let listed = match store {
        Store::Secret => &settings.secrets,
        Store::ConfigMap => &settings.config_maps,
    };
    let key = request.key();
    if listed.contains(&key) {
        return Ok(Some(store));
    }
    if request.namespace() != labels::NAMESPACE {
        return Ok(None);
    }
    Ok(guarded(store, settings, facts)?.contains(&key).then_some(store))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_flag_leads_to_a_key() {
        let pod = json!({"spec": {
            "containers": [{"name": "kube-apiserver",
                "command": ["kube-apiserver", "--tls-cert-file=/pki/apiserver.crt", "--client-ca-file=/pki/ca.crt",
                    "--service-account-key-file=/sa/sa.pub", "--service-account-key-file=/one/key.pub",
                    "--audit-policy-file=/etc/audit/policy.yaml", "--etcd-cafile=/host/ca.crt"],
                "volumeMounts": [{"name": "pki", "mountPath": "/pki"}, {"name": "sa", "mountPath": "/sa/"},
                    {"name": "one", "mountPath": "/one/key.pub", "subPath": "sub.pub"},
                    {"name": "audit", "mountPath": "/etc/audit"}, {"name": "host", "mountPath": "/host"}]}],
            "volumes": [
                {"name": "pki", "projected": {"sources": [
                    {"secret": {"name": "apiserver", "items": [{"key": "tls.crt", "path": "apiserver.crt"}]}},
                    {"secret": {"name": "ca", "items": [{"key": "tls.crt", "path": "ca.crt"}]}}]}},
                {"name": "sa", "secret": {"secretName": "sa"}},
                {"name": "one", "secret": {"secretName": "one"}},
                {"name": "audit", "configMap": {"name": "audit"}},
                {"name": "host", "hostPath": {"path": "/x"}}]}});
        let found = uses(Component::ApiServer, Pod(&pod));
        let found: Vec<_> =
            found.iter().map(|it| (it.flag.as_str(), it.name.as_str(), it.key.as_str())).collect();
        assert_eq!(
            found,
            [
                ("audit-policy-file", "audit", "policy.yaml"),
                ("client-ca-file", "ca", "tls.crt"),
                ("service-account-key-file", "sa", "sa.pub"),
                ("service-account-key-file", "one", "sub.pub"),
                ("tls-cert-file", "apiserver", "tls.crt"),
            ]
        );
    }

    #[test]
    fn every_way_to_a_secret_is_seen() {
        for (name, spec) in [
            ("volume", json!({"volumes": [{"secret": {"secretName": "s"}}]})),
            ("projected", json!({"volumes": [{"projected": {"sources": [{"secret": {"name": "s"}}]}}]})),
            ("csi", json!({"volumes": [{"csi": {"nodePublishSecretRef": {"name": "s"}}}]})),
            ("azure", json!({"volumes": [{"azureFile": {"secretName": "s"}}]})),
            (
                "env",
                json!({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]}),
            ),
            ("init", json!({"initContainers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]})),
            ("ephemeral", json!({"ephemeralContainers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]})),
            ("pull", json!({"imagePullSecrets": [{"name": "s"}]})),
        ] {
            let pod = json!({"spec": spec});
            let found = references(Pod(&pod));
            assert!(
                matches!(found.as_slice(), [it] if it.name == "s" && it.store == Store::Secret),
                "{name}: {found:?}"
            );
        }
    }
}
