//! DS-11: nothing is put beside the keys.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Checked, Reach, Rule};
use crate::component::Component;
use crate::review::object::{is_empty, list, text};
use crate::review::pod::Pod;
use crate::review::record::Edit;
use crate::review::settings::repository;
use crate::review::{Facts, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "DS-11",
    title: "nothing is put into a control-plane Pod beside its component",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Named,
    why: "A container, a hook, a variable or a mount more is code, or a way for code, next to the keys of the whole \
          cluster; and one security setting less is the same. Such edits are rare, and worth a second pair of eyes.",
    evasion: "- Init containers, sidecars, ephemeral containers, `lifecycle` hooks, `exec` probes (DS-12): each denied.\n\
              - A variable such as `LD_PRELOAD` or `GODEBUG`, `envFrom`, a mount over a program or a library, a volume \
              of the same name with another source: denied.\n\
              - `hostPID`, `shareProcessNamespace`, `privileged`, a ServiceAccount's token, another registry: denied.",
    blind: "What the image itself does.",
    check,
};

/// What of a Pod's spec is compared, and what the API takes a missing value for.
const SPEC: [(&str, &str); 15] = [
    ("automountServiceAccountToken", ""),
    ("dnsConfig", ""),
    ("dnsPolicy", "ClusterFirst"),
    ("hostAliases", ""),
    ("hostIPC", ""),
    ("hostPID", ""),
    ("hostUsers", ""),
    ("hostname", ""),
    ("imagePullSecrets", ""),
    ("priorityClassName", ""),
    ("restartPolicy", "Always"),
    ("securityContext", ""),
    ("serviceAccountName", "default"),
    ("shareProcessNamespace", ""),
    ("subdomain", ""),
];

/// What of a container is compared.
const CONTAINER: [&str; 8] =
    ["envFrom", "lifecycle", "restartPolicy", "securityContext", "stdin", "tty", "volumeDevices", "workingDir"];

fn check(request: &Request, _: &Settings, facts: &Facts) -> Checked {
    let Some(edit) = Edit::of_template(request, facts)? else { return Ok(Vec::new()) };
    // Without anything to compare with: DS-15.
    let Some(before) = edit.old.as_ref() else { return Ok(Vec::new()) };
    let mut violations = injected(edit.component, edit.new, before.pod());
    if edit.new.spec()["hostNetwork"].as_bool() != Some(true) {
        let message = "the component serves on its node's own address";
        violations.push(at("hostNetwork", message, "keep hostNetwork: true"));
    }
    Ok(violations)
}

fn at(path: &str, message: impl Into<String>, next: &str) -> Violation {
    Violation::new(format!("spec.template.spec.{path}"), message, next)
}

/// What a Pod has that the one before had not. PO-5 asks the same of a bridge.
pub(super) fn injected(component: Component, new: Pod<'_>, old: Pod<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (field, default) in SPEC {
        let (after, before) = (&new.spec()[field], &old.spec()[field]);
        let usual = |value: &Value| is_empty(value) || (!default.is_empty() && value == default);
        // A static Pod has no token, so that it need not say so.
        let is_token = field == "automountServiceAccountToken" && !(after.as_bool() == Some(false) || after == before);
        let is_changed = field != "automountServiceAccountToken" && after != before && !(usual(after) && usual(before));
        if is_token || is_changed {
            violations.push(at(field, "it is not what it was", "leave it as it is"));
        }
    }
    let known: BTreeMap<(&str, &str), &Value> = named(old).collect();
    // Each of them, two of one name too.
    for ((kind, name), container) in named(new) {
        let path = format!("{kind}[{name}]");
        match known.get(&(kind, name)) {
            None => violations.push(at(&path, "it would run beside the component's keys", "run it as a Pod of its own")),
            Some(before) => container_changes(component, &path, container, before, &mut violations),
        }
    }
    let before = old.volumes();
    for volume in list(new.spec(), "volumes") {
        let name = text(volume, "name");
        if before.get(name).is_none_or(|before| source(before) != source(volume)) {
            violations.push(at(&format!("volumes[{name}]"), "it was not there", "leave the volumes as they are"));
        }
    }
    violations
}

/// Every container, by its kind and name.
fn named(pod: Pod<'_>) -> impl Iterator<Item = ((&'static str, &str), &Value)> {
    let all = crate::review::pod::CONTAINERS.into_iter();
    all.flat_map(move |kind| list(pod.spec(), kind).iter().map(move |it| ((kind, text(it, "name")), it)))
}

/// What a volume is filled from. The API adds the mode of Secrets' files.
fn source(volume: &Value) -> Value {
    let mut source = volume.clone();
    for kind in ["secret", "configMap", "projected"] {
        if let Some(fields) = source[kind].as_object_mut() {
            fields.remove("defaultMode");
        }
    }
    if let Some(fields) = source.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
        if fields.get("hostPath").is_some_and(|it| text(it, "type").is_empty()) {
            fields.insert("hostPath".to_owned(), serde_json::json!({"path": volume["hostPath"]["path"]}));
        }
    }
    source
}

fn container_changes(
    component: Component,
    path: &str,
    new: &Value,
    old: &Value,
    violations: &mut Vec<Violation>,
) {
    for field in CONTAINER {
        let (after, before) = (&new[field], &old[field]);
        if after != before && !(is_empty(after) && is_empty(before)) {
            violations.push(at(&format!("{path}.{field}"), "it is not what it was", "leave it as it is"));
        }
    }
    let (image, before) = (text(new, "image"), text(old, "image"));
    let is_component = text(new, "name") == component.name();
    if is_component && repository(image) != repository(before) {
        let message = format!("it comes from {} and no more from {}", repository(image), repository(before));
        violations.push(at(&format!("{path}.image"), message, "keep the registry, or mirror the image under its name"));
    }
    if !is_component && (image != before || new["command"] != old["command"] || new["args"] != old["args"]) {
        violations.push(at(path, "it runs something else", "leave it as it is"));
    }
    let known = list(old, "env");
    for variable in list(new, "env").iter().filter(|it| !known.contains(it) && !is_host_ip(it)) {
        let message = format!("{} is new, or has another value", text(variable, "name"));
        violations.push(at(&format!("{path}.env"), message, "leave the variables as they are"));
    }
    let known = list(old, "volumeMounts");
    for mount in list(new, "volumeMounts") {
        let same = known.iter().any(|before| {
            ["name", "mountPath", "subPath", "subPathExpr", "mountPropagation"]
                .iter()
                .all(|field| text(mount, field) == text(before, field))
                && (mount["readOnly"] == before["readOnly"] || mount["readOnly"].as_bool() == Some(true))
        });
        if !same {
            let message = format!("{} is mounted in another way", text(mount, "mountPath"));
            violations.push(at(&format!("{path}.volumeMounts"), message, "leave the mounts as they are"));
        }
    }
}

/// The one variable that the plugin adds: the node's address.
fn is_host_ip(variable: &Value) -> bool {
    text(variable, "name") == "HOST_IP" && text(&variable["valueFrom"]["fieldRef"], "fieldPath") == "status.hostIP"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{World, create, daemonset, table};

    fn push(value: &mut Value, item: Value) {
        match value.as_array_mut() {
            Some(items) => items.push(item),
            None => *value = json!([item]),
        }
    }

    #[test]
    fn nothing_is_put_beside_the_keys() {
        let world = World::new();
        let spec = |change: fn(&mut Value)| {
            world.edit(Component::ApiServer, |it| change(&mut it["spec"]["template"]["spec"]))
        };
        let container = |change: fn(&mut Value)| world.edit_container(Component::ApiServer, change);
        table(
            &RULE,
            &world,
            [
                ("made again", create(&daemonset(Component::ApiServer)), false),
                ("another version", container(|it| it["image"] = json!("registry.k8s.io/kube-apiserver:v1.37.2")), false),
                ("a flag", container(|it| push(&mut it["command"], json!("--v=2"))), false),
                ("another registry", container(|it| it["image"] = json!("evil.org/kube-apiserver:v1.36.3")), true),
                ("a container", spec(|it| push(&mut it["containers"], json!({"name": "x", "image": "x"}))), true),
                ("one before it, of its name", spec(|it| {
                    it["containers"].as_array_mut().unwrap().insert(0, json!({"name": "kube-apiserver", "image": "x"}));
                }), true),
                ("a volume before it, of its name", spec(|it| {
                    it["volumes"].as_array_mut().unwrap().insert(0, json!({"name": "k8s-certs", "hostPath": {"path": "/"}}));
                }), true),
                ("an init container", spec(|it| it["initContainers"] = json!([{"name": "x", "image": "x"}])), true),
                ("an init container of its name", spec(|it| {
                    it["initContainers"] = json!([{"name": "kube-apiserver", "image": "x"}]);
                }), true),
                ("a hook", container(|it| it["lifecycle"] = json!({"postStart": {"exec": {"command": ["x"]}}})), true),
                ("an empty hook", container(|it| it["lifecycle"] = json!({})), false),
                ("a variable", container(|it| push(&mut it["env"], json!({"name": "LD_PRELOAD", "value": "/x.so"}))), true),
                ("variables of a Secret", container(|it| it["envFrom"] = json!([{"secretRef": {"name": "x"}}])), true),
                ("a volume", spec(|it| push(&mut it["volumes"], json!({"name": "x", "hostPath": {"path": "/"}}))), true),
                ("a volume of the same name", spec(|it| it["volumes"][0]["hostPath"]["path"] = json!("/etc")), true),
                ("a mount", container(|it| {
                    push(&mut it["volumeMounts"], json!({"name": "k8s-certs", "mountPath": "/usr/local/bin"}));
                }), true),
                ("a mount to write to", container(|it| it["volumeMounts"][0]["readOnly"] = json!(false)), true),
                ("a mount that propagates", container(|it| {
                    it["volumeMounts"][0]["mountPropagation"] = json!("Bidirectional");
                }), true),
                ("its address by hand", container(|it| it["env"][0] = json!({"name": "HOST_IP", "value": "10.0.0.1"})), true),
                ("privileged", container(|it| it["securityContext"] = json!({"privileged": true})), true),
                ("no seccomp", spec(|it| it["securityContext"] = json!({})), true),
                ("the node's processes", spec(|it| it["hostPID"] = json!(true)), true),
                ("one process space", spec(|it| it["shareProcessNamespace"] = json!(true)), true),
                ("not the node's network", spec(|it| it["hostNetwork"] = json!(false)), true),
                ("a ServiceAccount", spec(|it| it["serviceAccountName"] = json!("x")), true),
                ("the default one", spec(|it| it["serviceAccountName"] = json!("default")), false),
                ("its token", spec(|it| it["automountServiceAccountToken"] = json!(true)), true),
                ("its token, by default", spec(|it| it["automountServiceAccountToken"] = json!(null)), true),
                ("another priority", spec(|it| it["priorityClassName"] = json!("")), true),
                ("other names", spec(|it| it["hostAliases"] = json!([{"ip": "1.2.3.4", "hostnames": ["etcd"]}])), true),
            ],
        );
    }

    #[test]
    fn what_stands_beside_it_stays_what_it_is() {
        let mut world = World::new();
        let spec = &mut world.object_mut("DaemonSet", "kube-system/self-hosted-kube-apiserver")["spec"]["template"]["spec"];
        push(&mut spec["containers"], json!({"name": "log", "image": "log:1", "command": ["log"], "args": ["-f"]}));
        let edit = |change: fn(&mut Value)| {
            world.edit(Component::ApiServer, |it| {
                it["spec"]["template"]["metadata"]["annotations"]["x"] = json!("y");
                change(&mut it["spec"]["template"]["spec"]["containers"][1]);
            })
        };
        table(
            &RULE,
            &world,
            [
                ("as it is", edit(|_| {}), false),
                ("another version", edit(|it| it["image"] = json!("log:2")), true),
                ("another command", edit(|it| it["command"] = json!(["sh"])), true),
                ("other arguments", edit(|it| it["args"] = json!([])), true),
            ],
        );
    }

    #[test]
    fn a_mount_may_become_narrower() {
        let mut world = World::new();
        world.object_mut("DaemonSet", "kube-system/self-hosted-kube-apiserver")["spec"]["template"]["spec"]["containers"][0]
            ["volumeMounts"][0]["readOnly"] = json!(null);
        let edit = |change: fn(&mut Value)| world.edit_container(Component::ApiServer, change);
        table(
            &RULE,
            &world,
            [
                ("as wide", edit(|it| it["image"] = json!("registry.k8s.io/kube-apiserver:v1.37.2")), false),
                ("to read only", edit(|it| it["volumeMounts"][0]["readOnly"] = json!(true)), false),
            ],
        );
    }
    #[test]
    fn a_pivot_puts_nothing_in() {
        let mut world = World::new();
        world.remove("DaemonSet", "kube-system/self-hosted-kube-apiserver");
        for index in 1..=3 {
            world.remove("Pod", &format!("kube-system/self-hosted-kube-apiserver-abcd{index}"));
        }
        let mut mirror = daemonset(Component::ApiServer)["spec"]["template"].clone();
        mirror["apiVersion"] = json!("v1");
        mirror["kind"] = json!("Pod");
        mirror["metadata"] = json!({"name": "kube-apiserver-cp1", "namespace": "kube-system", "uid": "m",
            "labels": {"component": "kube-apiserver", "tier": "control-plane"},
            "annotations": {"kubernetes.io/config.mirror": "x"}});
        mirror["spec"]["containers"][0]["env"] = json!(null);
        mirror["spec"]["containers"][0]["command"][1] = json!("--advertise-address=10.0.0.11");
        mirror["spec"]["automountServiceAccountToken"] = json!(null);
        mirror["spec"]["nodeSelector"] = json!(null);
        world.objects.push(mirror);
        let mut evil = daemonset(Component::ApiServer);
        push(&mut evil["spec"]["template"]["spec"]["containers"], json!({"name": "x", "image": "x"}));
        table(
            &RULE,
            &world,
            [("from the static Pod", create(&daemonset(Component::ApiServer)), false), ("with more", create(&evil), true)],
        );
    }
}
