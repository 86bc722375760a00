//! DS-10: what the flags and volumes name is there.

use serde_json::Value;

use super::{Checked, Reach, Rule};
use crate::labels;
use crate::review::facts::Lookup;
use crate::review::object::{list, names, text};
use crate::review::pod::Pod;
use crate::review::record::Edit;
use crate::review::usage::{Reference, Store, file, references};
use crate::review::{Facts, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "DS-10",
    title: "every file that a flag names is mounted, and every Secret that is mounted is there",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "A component whose certificate is not where its flag says does not start; a Pod whose Secret is missing \
          waits for ever. Neither shows before the Pod is replaced.",
    evasion: "- `optional: true`, which lets the Pod start without its credentials: denied.\n\
              - `subPath`, whose file never follows a rotation: denied for Secrets and ConfigMaps.\n\
              - A volume that another one hides, by a longer mount path: the longest is looked at, as the kernel does.",
    blind: "Whether a file is on the node's disk, behind a hostPath. The bridge of a swap finds that out before \
            anything is replaced.",
    check,
};

/// Whether a flag names a file that must be there for the component to start.
fn names_a_file(flag: &str) -> bool {
    ["-file", "cafile", "certfile", "keyfile", "kubeconfig", "-config", "client-certificate", "client-key", "certificate-authority"]
        .iter()
        .any(|end| flag.ends_with(end))
        || flag == "config"
}

fn check(request: &Request, _: &Settings, facts: &Facts) -> Checked {
    let Some(edit) = Edit::of_template(request, facts)? else { return Ok(Vec::new()) };
    let component = edit.component;
    let (Some(container), Some(command)) = (edit.new.container(component), edit.new.command(component)) else {
        return Ok(Vec::new());
    };
    let mut violations = Vec::new();
    for flag in command.names().into_iter().filter(|flag| names_a_file(flag)) {
        for path in command.occurrences(flag).into_iter().filter(|path| path.starts_with('/')) {
            if path.contains("/../") || file(edit.new, container, path).is_none() {
                violations.push(Violation::new(
                    "spec.template.spec.containers[].volumeMounts",
                    format!("--{flag} names {path}, which no volume brings"),
                    "mount what holds it",
                ));
            }
        }
    }
    violations.extend(mounts(edit.new, container));
    let references = references(edit.new);
    let lookup = |it: &Reference| Lookup::get("v1", it.store.kind(), labels::NAMESPACE, &it.name);
    // All are asked for at once.
    let found: Vec<_> = references.iter().map(|it| facts.object(&lookup(it))).collect();
    for (reference, found) in references.iter().zip(found) {
        let path = format!("spec.template.spec.{}", reference.path);
        if reference.optional {
            let message = format!("{} would start without {}", component, reference.name);
            violations.push(Violation::new(format!("{path}.optional"), message, "remove it"));
        }
        let Some(found) = found? else {
            let message = format!("there is no {} {}", reference.store.kind(), reference.name);
            violations.push(Violation::new(path, message, "create it first"));
            continue;
        };
        let mut keys = names(found, "data");
        if reference.store == Store::ConfigMap {
            keys.extend(names(found, "binaryData"));
        }
        let wanted = reference.key.iter().map(String::as_str).chain(items(edit.new, &reference.path));
        for key in wanted.filter(|key| !keys.contains(key)) {
            let message = format!("{} {} has no key {key}", reference.store.kind(), reference.name);
            violations.push(Violation::new(path.clone(), message, "add the key first"));
        }
    }
    Ok(violations)
}

/// Mounts of Secrets and ConfigMaps that would never follow a change.
fn mounts(pod: Pod<'_>, container: &Value) -> Vec<Violation> {
    let volumes = pod.volumes();
    let fixed = list(container, "volumeMounts").iter().filter(|mount| {
        let volume = volumes.get(text(mount, "name"));
        let held = volume.is_some_and(|it| ["secret", "configMap", "projected"].iter().any(|kind| it[*kind].is_object()));
        held && !(text(mount, "subPath").is_empty() && text(mount, "subPathExpr").is_empty())
    });
    let violation = |mount: &Value| {
        let message = format!("{} would never follow a rotation", text(mount, "mountPath"));
        Violation::new("spec.template.spec.containers[].volumeMounts", message, "mount the directory, without subPath")
    };
    fixed.map(violation).collect()
}

/// The keys that a volume picks out of what it is filled from.
fn items<'a>(pod: Pod<'a>, path: &str) -> Vec<&'a str> {
    let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
    let source = pod.spec().pointer(&pointer).unwrap_or(&Value::Null);
    list(source, "items").iter().map(|item| text(item, "key")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::component::Component;
    use crate::rules::testing::{World, create, daemonset, table};

    #[test]
    fn what_is_named_is_there() {
        let mut world = World::new();
        world.objects.push(json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": "encryption", "namespace": "kube-system"}, "data": {"config.yaml": ""}}));
        world.objects.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "binaryData": {"config.yaml": ""},
            "metadata": {"name": "more", "namespace": "kube-system"}}));
        let flag = |flag: &str| {
            world.edit_container(Component::ApiServer, |it| it["command"].as_array_mut().unwrap().push(json!(flag)))
        };
        let mounted = |source: Value, mount: Value| {
            world.edit(Component::ApiServer, |it| {
                let spec = &mut it["spec"]["template"]["spec"];
                let mut volume = source;
                volume["name"] = json!("e");
                spec["volumes"].as_array_mut().unwrap().push(volume);
                let mut mount = mount;
                mount["name"] = json!("e");
                spec["containers"][0]["volumeMounts"].as_array_mut().unwrap().push(mount);
                spec["containers"][0]["command"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!("--encryption-provider-config=/etc/encryption/config.yaml"));
            })
        };
        let at = json!({"mountPath": "/etc/encryption"});
        let secret = |extra: Value| {
            let mut source = json!({"secretName": "encryption"});
            source.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            json!({"secret": source})
        };
        table(
            &RULE,
            &world,
            [
                ("made", create(&daemonset(Component::ControllerManager)), false),
                ("a file that is mounted", flag("--audit-policy-file=/etc/kubernetes/pki/audit.yaml"), false),
                ("a file that is not", flag("--audit-policy-file=/etc/audit/policy.yaml"), true),
                ("a directory that begins alike", flag("--audit-policy-file=/etc/kubernetes/pkix/audit.yaml"), true),
                ("a way around", flag("--audit-policy-file=/etc/kubernetes/pki/../audit.yaml"), true),
                ("a log", flag("--audit-log-path=/var/log/audit.log"), false),
                ("a Secret", mounted(secret(json!({})), at.clone()), false),
                ("an optional one", mounted(secret(json!({"optional": true})), at.clone()), true),
                ("a Secret that is not there", mounted(json!({"secret": {"secretName": "other"}}), at.clone()), true),
                ("a key", mounted(secret(json!({"items": [{"key": "config.yaml", "path": "config.yaml"}]})), at.clone()), false),
                ("a key that is not there", mounted(secret(json!({"items": [{"key": "x", "path": "config.yaml"}]})), at), true),
                ("a binary key of a ConfigMap", mounted(json!({"configMap": {"name": "more", "items": [
                    {"key": "config.yaml", "path": "config.yaml"}]}}), json!({"mountPath": "/etc/encryption"})), false),
                ("a subPath", mounted(secret(json!({})), json!({"mountPath": "/etc/encryption/config.yaml",
                    "subPath": "config.yaml"})), true),
                ("a projected one that is not there", mounted(json!({"projected": {"sources": [
                    {"secret": {"name": "other"}}]}}), json!({"mountPath": "/etc/encryption"})), true),
            ],
        );
    }
}
