//! PO-5: nothing reaches into a control-plane node from a Pod.

use serde_json::Value;

use super::ds11::injected;
use super::{Checked, Reach, Rule};
use crate::component::Component;
use crate::labels;
use crate::review::facts::{Lookup, Unknown};
use crate::review::command::CommandLine;
use crate::review::object::{at, flag, is_empty, list, text, texts};
use crate::review::settings::repository;
use crate::review::pod::{CONTAINERS, Pod, component_of, pods_of};
use crate::review::record::running;
use crate::review::{Facts, Object, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "PO-5",
    title: "no other Pod reaches into a control-plane node's files, processes or ports",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Wide,
    why: "A Pod that mounts `/etc/kubernetes` of a control-plane node has the cluster's keys, and needs no Secret for it. \
          Of this project's own Pods, node tasks are known by the node part's image, and a bridge by being the component \
          as it runs, on another port, with a gate beside it.",
    evasion: "- By `nodeName`, by a selector, or by tolerating the control plane's taint: each counts as being there.\n\
              - By a workload instead of a Pod: its template is judged when it is written.\n\
              - A path above (`/`), below, or written another way (`/etc/../etc`): compared part by part; `..` is denied.\n\
              - A Pod with a bridge's label: compared with the DaemonSet, or with what runs before a pivot.\n\
              - The guard's own DaemonSet, which has a directory there: only other tags and digests of the same images.",
    blind: "On a cluster whose control-plane nodes carry no taint any Pod may land there. Volumes that a CSI driver fills \
            from the node. Networking and storage agents need such mounts: their next edit wants an approval, or an \
            exemption.",
    check,
};

/// Controllers that make Pods of templates which were judged.
const CONTROLLERS: [&str; 5] = ["daemon-set", "job", "replicaset", "replication", "statefulset"];

/// What of a control-plane node nobody else should see.
const PATHS: [&str; 9] = [
    "/etc/kubernetes",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/lib/selfhost",
    "/run/containerd",
    "/run/crio",
    "/run/selfhost-standby",
    "/root",
    "/proc",
];

/// Capabilities that are as good as root.
const CAPABILITIES: [&str; 8] =
    ["ALL", "BPF", "DAC_READ_SEARCH", "SYS_ADMIN", "SYS_BOOT", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO"];

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    let Some((pod, old)) = pods_of(request).filter(|_| request.writes()) else { return Ok(Vec::new()) };
    if component_of(request).is_some() || pod.spec() == old.spec() {
        return Ok(Vec::new());
    }
    let is_pod = request.is("", "pods");
    // A running Pod cannot get more of its node.
    if is_pod && (request.operation != Operation::Create || by_system(request, pod)) {
        return Ok(Vec::new());
    }
    let in_system = request.namespace() == labels::NAMESPACE && is_pod;
    // Whatever it reaches: other rules take a bridge's word for it that the component is served.
    if let Some(component) = pod.bridge_of().filter(|_| in_system) {
        return bridge(component, pod, settings, facts);
    }
    let reaches = reaches(pod);
    if reaches.is_empty() || is_next_guard(request, settings, pod, old) || !is_there(pod, facts)? {
        return Ok(Vec::new());
    }
    if in_system && is_task(pod, settings, facts)? {
        return Ok(Vec::new());
    }
    let next = "keep it from control-plane nodes";
    Ok(reaches.into_iter().map(|(path, message)| Violation::new(path, message, next)).collect())
}

/// Whether it is the guard's own DaemonSet, which reaches what it reached, in another version and nothing else.
fn is_next_guard(request: &Request, settings: &Settings, pod: Pod<'_>, old: Pod<'_>) -> bool {
    let without_versions = |pod: Pod<'_>| {
        let mut spec = pod.spec().clone();
        for field in CONTAINERS {
            let containers = spec.get_mut(field).and_then(Value::as_array_mut);
            for image in containers.into_iter().flatten().filter_map(|it| it.get_mut("image")) {
                *image = image.as_str().map(repository).into();
            }
        }
        spec
    };
    request.is("apps", "daemonsets")
        && request.operation == Operation::Update
        && request.namespace() == settings.guard.namespace
        && request.name() == settings.guard.name
        && without_versions(pod) == without_versions(old)
}

/// Pods whose template was judged, and the shadows of static Pods.
fn by_system(request: &Request, pod: Pod<'_>) -> bool {
    let has_controller = Object(&request.object).owners().iter().any(|owner| flag(owner, "controller"));
    let by_controller = CONTROLLERS.iter().any(|name| {
        request.user.username == format!("system:serviceaccount:kube-system:{name}-controller")
    });
    (has_controller && by_controller) || (pod.is_mirror() && request.user.kubelet_of() == Some(pod.node()))
}

/// What of its node the Pod gets hold of.
fn reaches(pod: Pod<'_>) -> Vec<(String, String)> {
    let spec = pod.spec();
    let mut found = Vec::new();
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let path = at(volume, &["hostPath", "path"]).as_str();
        if let Some(path) = path.filter(|path| is_sensitive(path)) {
            found.push((format!("spec.volumes[{index}].hostPath"), format!("{path} holds the control plane's keys or state")));
        }
    }
    for field in ["hostPID", "hostIPC"] {
        if flag(spec, field) {
            found.push((format!("spec.{field}"), "it sees the control plane's processes".to_owned()));
        }
    }
    for (path, container) in pod.containers() {
        let security = &container["securityContext"];
        let capabilities = texts(&security["capabilities"], "add");
        let strong = capabilities.iter().find(|it| CAPABILITIES.contains(&it.strip_prefix("CAP_").unwrap_or(it)));
        if flag(security, "privileged") {
            found.push((format!("spec.{path}.securityContext"), "privileged is root on the node".to_owned()));
        } else if let Some(capability) = strong {
            found.push((format!("spec.{path}.securityContext"), format!("{capability} is as good as root on the node")));
        }
        let network = flag(spec, "hostNetwork");
        let ports = list(container, "ports").iter().filter_map(|port| {
            let port = if network { &port["containerPort"] } else { &port["hostPort"] };
            port.as_u64()
        });
        let ours = |port: &u64| {
            Component::ALL.into_iter().any(|it| *port == u64::from(it.default_port()) || *port == u64::from(it.bridge_port()))
                || matches!(port, 2379 | 2380 | 10250)
        };
        for port in ports.filter(ours) {
            found.push((format!("spec.{path}.ports"), format!("port {port} is the control plane's")));
        }
    }
    found
}

/// Whether the path is one of those, or above or below one.
fn is_sensitive(path: &str) -> bool {
    let parts = |path: &str| -> Vec<String> {
        let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
        // `/var/run` is a link to `/run`.
        let parts: Vec<String> = parts.map(ToOwned::to_owned).collect();
        match parts.strip_prefix(["var".to_owned(), "run".to_owned()].as_slice()) {
            Some(rest) => std::iter::once("run".to_owned()).chain(rest.iter().cloned()).collect(),
            None => parts,
        }
    };
    let parts_of = parts(path);
    parts_of.iter().any(|part| part == "..")
        || PATHS.iter().any(|other| {
            let other = parts(other);
            other.starts_with(&parts_of) || parts_of.starts_with(&other)
        })
}

/// Whether the Pod may come to a control-plane node.
fn is_there(pod: Pod<'_>, facts: &Facts) -> Result<bool, Unknown> {
    let selector = pod.node_selector();
    let by_label = labels::CONTROL_PLANE_ROLES.iter().any(|role| selector.contains_key(role))
        || Component::ALL.into_iter().any(|it| selector.contains_key(labels::node_label(it)));
    let tolerates = list(pod.spec(), "tolerations").iter().any(|toleration| {
        let key = text(toleration, "key");
        labels::CONTROL_PLANE_ROLES.contains(&key) || (key.is_empty() && text(toleration, "operator") == "Exists")
    });
    if by_label || tolerates {
        return Ok(true);
    }
    if pod.node().is_empty() {
        return Ok(false);
    }
    Ok(facts.items(&Lookup::control_plane())?.iter().any(|node| Object(node).name_of() == pod.node()))
}

/// A node task: the node part's image as it is, and containers that ask a component's image for its flags.
fn is_task(pod: Pod<'_>, settings: &Settings, facts: &Facts) -> Result<bool, Unknown> {
    if !pod.labels().contains_key(labels::TASK) || pod.containers().next().is_none() {
        return Ok(false);
    }
    for (_, container) in pod.containers().filter(|(_, container)| !is_node_part(container, settings)) {
        if !asks_flags(container, facts)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A component's own image with `--help`, which sees nothing of the node.
fn asks_flags(container: &Value, facts: &Facts) -> Result<bool, Unknown> {
    let Ok(component) = text(container, "name").parse::<Component>() else { return Ok(false) };
    let sees_nothing = ["volumeMounts", "volumeDevices", "securityContext", "envFrom", "lifecycle", "ports"]
        .iter()
        .all(|field| is_empty(&container[*field]));
    let command = CommandLine::of(component, container);
    if !sees_nothing || !command.trouble.is_empty() || !command.has("help") {
        return Ok(false);
    }
    let daemonset = facts.object(&Lookup::daemonset(component))?;
    let before = running(component, facts)?;
    let template = daemonset.map(Pod::template_of).or_else(|| before.as_ref().map(|before| before.pod()));
    Ok(template.is_some_and(|it| repository(it.image(component)) == repository(text(container, "image"))))
}

/// The node part's image, with its own entry point.
fn is_node_part(container: &Value, settings: &Settings) -> bool {
    settings.is_node_image(text(container, "image"))
        && list(container, "command").is_empty()
        && list(container, "envFrom").is_empty()
        && container["lifecycle"].is_null()
}

/// What a bridge has that the component as it runs has not.
fn bridge(component: Component, pod: Pod<'_>, settings: &Settings, facts: &Facts) -> Checked {
    let daemonset = facts.object(&Lookup::daemonset(component))?;
    let before = running(component, facts)?;
    let template = daemonset.map(Pod::template_of).or_else(|| before.as_ref().map(|before| before.pod()));
    let next = "kubectl selfhost makes bridges; what they need beyond the component wants an approval";
    let Some(template) = template else {
        let message = format!("no {component} runs that it could stand in for");
        return Ok(vec![Violation::new("metadata.labels", message, next)]);
    };
    let gate = |it: &Value| {
        let security = &it["securityContext"];
        text(it, "name") == "gate"
            && is_node_part(it, settings)
            && !flag(security, "privileged")
            && texts(&security["capabilities"], "add").iter().all(|it| *it == "NET_ADMIN")
    };
    let mut without = pod.0.clone();
    if component == Component::ApiServer {
        if let Some(containers) = without["spec"]["containers"].as_array_mut() {
            containers.retain(|it| !gate(it));
        }
        if let Some(volumes) = without["spec"]["volumes"].as_array_mut() {
            volumes.retain(|it| !(text(it, "name") == "selfhost-ca" && is_file(it)));
        }
    }
    let mut violations = injected(component, Pod(&without), template);
    if Pod(&without).container(component).is_none() {
        let message = format!("it has no container {component}");
        violations.push(Violation::new("spec.containers", message, next));
    }
    if let Some(trouble) = Pod(&without).command(component).map(|command| command.trouble).filter(|it| !it.is_empty()) {
        violations.push(Violation::new("spec.containers[].command", format!("it {}", trouble.join(", and ")), next));
    }
    Ok(violations.into_iter().map(|it| Violation { next: next.to_owned(), ..it }).collect())
}

/// A certificate on the node.
fn is_file(volume: &Value) -> bool {
    let source = &volume["hostPath"];
    let path = text(source, "path");
    // By its name, as OpenSSL and kubeadm give it.
    let is_certificate = path.rsplit_once('.').is_some_and(|(_, end)| end == "crt");
    let alone = volume.as_object().is_some_and(|it| it.len() == 2);
    alone && text(source, "type") == "File" && is_certificate && !path.contains("..")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{CONTROLLER, World, create, table, update};

    fn pod(spec: Value) -> Value {
        let mut spec = spec;
        if spec["containers"].is_null() {
            spec["containers"] = json!([{"name": "c", "image": "x"}]);
        }
        create(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": "default"}, "spec": spec}))
    }

    fn on(node: &str, path: &str) -> Value {
        pod(json!({"nodeName": node, "volumes": [{"name": "v", "hostPath": {"path": path}}]}))
    }

    #[test]
    fn nothing_reaches_in() {
        let world = World::new();
        let tolerating = json!([{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]);
        let container = |extra: Value| {
            let mut container = json!({"name": "c", "image": "x"});
            container.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            json!([container])
        };
        let workload = create(&json!({"apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": "x", "namespace": "default"}, "spec": {"template": {"spec": {
                "tolerations": [{"operator": "Exists"}], "containers": [{"name": "c", "image": "x"}],
                "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}}}));
        let mut made = on("cp1", "/etc/kubernetes");
        made["userInfo"]["username"] = json!(CONTROLLER);
        let mut owned = made.clone();
        owned["object"]["metadata"]["ownerReferences"] = json!([{"kind": "DaemonSet", "name": "cni", "controller": true}]);
        let by_kubelet = |node: &str, annotations: Value| {
            let mut request = on("cp1", "/etc/kubernetes");
            request["object"]["metadata"]["annotations"] = annotations;
            request["userInfo"] = json!({"username": format!("system:node:{node}"), "groups": ["system:nodes"]});
            request
        };
        let mut by_hand = owned.clone();
        by_hand["userInfo"]["username"] = json!("ann");
        let mut labelled = workload["object"].clone();
        labelled["metadata"]["labels"] = json!({"x": "y"});
        let relabelled = update(&labelled, &workload["object"]);
        table(
            &RULE,
            &world,
            [
                ("keys", on("cp1", "/etc/kubernetes/pki"), true),
                ("above the keys", on("cp1", "/etc"), true),
                ("the root", on("cp1", "/"), true),
                ("around", on("cp1", "/usr/../etc/kubernetes"), true),
                ("with a dot", on("cp1", "//etc/./kubernetes/"), true),
                ("another name of /run", on("cp1", "/var/run/containerd/containerd.sock"), true),
                ("modules", on("cp1", "/lib/modules"), false),
                ("a name that begins alike", on("cp1", "/etc/kubernetes-x"), false),
                ("on a worker", on("worker", "/etc/kubernetes/pki"), false),
                ("by a toleration", pod(json!({"tolerations": tolerating, "hostPID": true})), true),
                ("by a toleration of others", pod(json!({"tolerations": [{"key": "gpu", "operator": "Exists"}], "hostPID": true})), false),
                ("by a toleration of all", pod(json!({"tolerations": [{"operator": "Exists"}], "hostPID": true})), true),
                ("by a label", pod(json!({"nodeSelector": {"node-role.kubernetes.io/control-plane": ""}, "hostIPC": true})), true),
                ("nowhere", pod(json!({"hostPID": true})), false),
                ("privileged", pod(json!({"nodeName": "cp1", "containers": container(json!({"securityContext": {"privileged": true}}))})), true),
                ("a capability", pod(json!({"nodeName": "cp1", "containers":
                    container(json!({"securityContext": {"capabilities": {"add": ["CAP_SYS_ADMIN"]}}}))})), true),
                ("a port", pod(json!({"nodeName": "cp1", "containers": container(json!({"ports": [{"hostPort": 6443}]}))})), true),
                ("another port", pod(json!({"nodeName": "cp1", "containers": container(json!({"ports": [{"hostPort": 80}]}))})), false),
                ("nothing", pod(json!({"nodeName": "cp1"})), false),
                ("a DaemonSet", workload, true),
                ("of a DaemonSet, by its controller", owned, false),
                ("of none, by its controller", made, true),
                ("of a DaemonSet, by somebody", by_hand, true),
                ("a static Pod, by its kubelet", by_kubelet("cp1", json!({labels::MIRROR: "x"})), false),
                ("a static Pod, by another kubelet", by_kubelet("cp2", json!({labels::MIRROR: "x"})), true),
                ("a Pod, by its kubelet", by_kubelet("cp1", json!({})), true),
                ("a DaemonSet relabelled", relabelled, false),
                ("the control plane's own DaemonSet", world.edit_container(Component::ApiServer, |it| it["image"] = json!("x")), false),
            ],
        );
    }

    #[test]
    fn the_guard_itself_gets_another_version_and_nothing_else() {
        let world = World::new();
        let (guard, init) = ("ghcr.io/kubectl-selfhost/selfhost-guard", "ghcr.io/kubectl-selfhost/selfhost-node");
        let own = |namespace: &str, name: &str| {
            json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"namespace": namespace, "name": name},
                "spec": {"template": {"spec": {"tolerations": [{"operator": "Exists"}],
                    "initContainers": [{"name": "place-files", "image": format!("{init}:v0.1.0")}],
                    "containers": [{"name": "guard", "image": format!("{guard}:v0.1.0"), "args": ["--policy=x"]}],
                    "volumes": [{"name": "v", "hostPath": {"path": "/etc/kubernetes/pki/selfhost-guard"}}]}}}})
        };
        let before = own("selfhost-guard", "selfhost-guard");
        let edit = |change: &dyn Fn(&mut Value)| {
            let mut after = before.clone();
            change(&mut after["spec"]["template"]["spec"]);
            update(&after, &before)
        };
        let next = |it: &mut Value| {
            it["containers"][0]["image"] = json!(format!("{guard}:v0.2.0@sha256:00"));
            it["initContainers"][0]["image"] = json!(format!("{init}:v0.2.0"));
        };
        let elsewhere = |namespace: &str, name: &str| {
            let before = own(namespace, name);
            let mut after = before.clone();
            next(&mut after["spec"]["template"]["spec"]);
            update(&after, &before)
        };
        table(
            &RULE,
            &world,
            [
                ("another version", edit(&next), false),
                ("another image", edit(&|it| it["containers"][0]["image"] = json!("evil:v0.1.0")), true),
                ("another image that begins", edit(&|it| it["initContainers"][0]["image"] = json!("evil:v0.1.0")), true),
                ("another argument", edit(&|it| it["containers"][0]["args"] = json!(["--policy=y"])), true),
                ("another directory", edit(&|it| it["volumes"][0]["hostPath"]["path"] = json!("/etc/kubernetes/pki")), true),
                ("made", create(&before), true),
                ("another's of its name", elsewhere("default", "selfhost-guard"), true),
                ("another one beside it", elsewhere("selfhost-guard", "x"), true),
            ],
        );
    }

    #[test]
    fn our_own_are_known_by_what_they_are() {
        let world = World::new();
        let image = "ghcr.io/kubectl-selfhost/selfhost-node:v0.1.0";
        let task = |change: fn(&mut Value)| {
            let mut task = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "selfhost-inspect-cp1",
                "namespace": "kube-system", "labels": {labels::TASK: "inspect"}}, "spec": {"nodeName": "cp1",
                "hostNetwork": true, "hostPID": true, "containers": [{"name": "inspect", "image": image,
                "args": ["task", "inspect"], "securityContext": {"privileged": true}}],
                "volumes": [{"name": "host-0", "hostPath": {"path": "/var/lib/selfhost"}}]}});
            change(&mut task);
            create(&task)
        };
        let mut bridged = World::new();
        bridged.add_bridge(Component::ApiServer, "cp1", true);
        let mut bridge = bridged.object("Pod", "kube-system/kube-apiserver-bridge-cp1").clone();
        bridge["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "gate", "image": image,
            "args": ["gate"], "securityContext": {"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}}}));
        bridge["spec"]["volumes"].as_array_mut().unwrap().push(json!({"name": "selfhost-ca",
            "hostPath": {"path": "/etc/kubernetes/pki/ca.crt", "type": "File"}}));
        let with = |change: fn(&mut Value)| {
            let mut bridge = bridge.clone();
            change(&mut bridge);
            create(&bridge)
        };
        table(
            &RULE,
            &world,
            [
                ("a task", task(|_| {}), false),
                ("a task of another image", task(|it| it["spec"]["containers"][0]["image"] = json!("evil")), true),
                ("a task with another command", task(|it| it["spec"]["containers"][0]["command"] = json!(["sh"])), true),
                ("a task with more", task(|it| {
                    it["spec"]["initContainers"] = json!([{"name": "x", "image": "evil"}]);
                }), true),
                ("a task that asks for flags", task(|it| it["spec"]["containers"].as_array_mut().unwrap().push(json!({
                    "name": "kube-scheduler", "image": "registry.k8s.io/kube-scheduler:v1.37.2",
                    "command": ["kube-scheduler", "--help"]}))), false),
                ("a task that asks another image", task(|it| it["spec"]["containers"].as_array_mut().unwrap().push(json!({
                    "name": "kube-scheduler", "image": "evil.org/kube-scheduler:v1.37.2",
                    "command": ["kube-scheduler", "--help"]}))), true),
                ("a task that asks nothing", task(|it| it["spec"]["containers"].as_array_mut().unwrap().push(json!({
                    "name": "kube-scheduler", "image": "registry.k8s.io/kube-scheduler:v1.37.2",
                    "command": ["kube-scheduler"]}))), true),
                ("a task that asks and mounts", task(|it| it["spec"]["containers"].as_array_mut().unwrap().push(json!({
                    "name": "kube-scheduler", "image": "registry.k8s.io/kube-scheduler:v1.37.2",
                    "volumeMounts": [{"name": "host-0", "mountPath": "/x"}], "command": ["kube-scheduler", "--help"]}))), true),
                ("a task elsewhere", task(|it| it["metadata"]["namespace"] = json!("default")), true),
                ("a task without its label", task(|it| it["metadata"]["labels"] = json!({})), true),
                ("a bridge", with(|_| {}), false),
                ("a bridge of the next version", with(|it| {
                    it["spec"]["containers"][0]["image"] = json!("registry.k8s.io/kube-apiserver:v1.37.2");
                    it["spec"]["containers"][0]["command"].as_array_mut().unwrap().push(json!("--secure-port=6444"));
                }), false),
                ("a bridge of another registry", with(|it| {
                    it["spec"]["containers"][0]["image"] = json!("evil.org/kube-apiserver:v1.37.2");
                }), true),
                ("a bridge with a shell", with(|it| it["spec"]["containers"][0]["command"] = json!(["sh"])), true),
                ("a bridge with more", with(|it| {
                    it["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "x", "image": "evil"}));
                }), true),
                ("a bridge by its label alone", with(|it| {
                    it["spec"] = json!({"containers": [{"name": "c", "image": "evil"}],
                        "volumes": [{"name": "v", "secret": {"secretName": "ca"}}]});
                }), true),
                ("a bridge of another program", with(|it| {
                    it["spec"] = json!({"containers": [{"name": "kube-apiserver", "image": "evil"}]});
                }), true),
                ("a gate of another image", with(|it| it["spec"]["containers"][1]["image"] = json!("evil")), true),
                ("a gate with all rights", with(|it| {
                    it["spec"]["containers"][1]["securityContext"]["privileged"] = json!(true);
                }), true),
                ("a key for the gate", with(|it| {
                    it["spec"]["volumes"][1]["hostPath"]["path"] = json!("/etc/kubernetes/pki/ca.key");
                }), true),
            ],
        );
        let more = with(|it| it["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "x", "image": "evil"})));
        assert!(world.verdict(&more).message().contains("kubectl selfhost makes bridges"), "who makes them is told");
    }
}
