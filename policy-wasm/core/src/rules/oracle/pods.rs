//! PO-1 to PO-6 and NODE-1 to NODE-4 once more.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use super::daemonsets::{adds, serves};
use super::flags::Line;
use super::judge::{
    COMPONENTS, Case, ROLES, Said, annotation, bridges, container, containers, empty, ending, get, keys,
    label, list, mirror, name_of, node_of, ready, repository, runs, text, texts, yes,
};
use super::shape::template_path;

/// Whether a Pod of this name is one of the control plane's or the guard's.
fn named_alike(case: &Case) -> bool {
    let names = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
    let mut prefixes: Vec<String> = names.iter().map(|it| format!("{it}-")).collect();
    prefixes.extend(names.iter().map(|it| format!("self-hosted-{it}-")));
    prefixes.extend(["etcd-", "control-plane-standby-"].map(ToOwned::to_owned));
    case.namespace() == case.guard_namespace()
        || (case.namespace() == "kube-system" && prefixes.iter().any(|it| case.name().starts_with(it)))
}

/// Whether a Pod is a component, a bridge, a standby, or the guard.
fn ours(case: &Case, pod: &Value) -> bool {
    let of_system = runs(pod).is_some()
        || bridges(pod).is_some()
        || label(pod, "component") == Some("control-plane-standby");
    case.namespace() == case.guard_namespace() || (case.namespace() == "kube-system" && of_system)
}

pub(super) fn po1(case: &Case) -> Said {
    let connects = ["exec", "attach", "portforward", "proxy"].contains(&case.sub());
    (case.resource() == "/pods" && connects).then(|| named_alike(case))
}

pub(super) fn po2(case: &Case) -> Said {
    let sub = case.sub();
    if case.resource() != "/pods"
        || !case.updates()
        || !["", "ephemeralcontainers", "resize", "status"].contains(&sub)
    {
        return None;
    }
    let (new, old) = (case.object(), case.old());
    if !ours(case, new) && !ours(case, old) {
        return Some(false);
    }
    if ["ephemeralcontainers", "resize"].contains(&sub) {
        return Some(true);
    }
    if sub.is_empty() && case.by("daemon-set-controller") {
        return Some(false);
    }
    let controllers = [
        "controller-manager",
        "daemon-set-controller",
        "node-controller",
        "pod-garbage-collector",
        "scheduler",
    ];
    let tells = case.kubelet() == Some(node_of(old))
        || case.user() == "system:serviceaccount:kube-system:disruption-controller"
        || controllers.iter().any(|it| case.by(it));
    let belongs = ["labels", "ownerReferences", "finalizers"];
    let mut bad = sub == "status" && case.changes(&["status"]) && !tells;
    bad |= case.changes(&["spec"]) || belongs.iter().any(|it| case.changes(&["metadata", it]));
    let names = [keys(&new["metadata"], "annotations"), keys(&old["metadata"], "annotations")].concat();
    for name in names.into_iter().filter(|it| annotation(new, it) != annotation(old, it)) {
        if name == "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint" {
            // What a Pod was decides what it is; a bridge is none of the components.
            let was = if ours(case, old) { old } else { new };
            let is_component =
                runs(was).is_some() && bridges(was).is_none() && case.namespace() != case.guard_namespace();
            let address: Option<SocketAddr> = text(&new["metadata"]["annotations"], name).parse().ok();
            let mut own: Vec<&str> =
                list(&old["status"], "hostIPs").iter().map(|it| text(it, "ip")).collect();
            own.push(text(&old["status"], "hostIP"));
            let known = address.is_some_and(|it| own.iter().any(|own| own.parse() == Ok(it.ip())));
            bad |= !(is_component && known);
        } else {
            let told =
                ["kubectl-selfhost.dev", "kubernetes.io/config."].iter().any(|it| name.starts_with(it));
            bad |= told && name != "kubectl-selfhost.dev/approval";
        }
    }
    Some(bad)
}

pub(super) fn po3(case: &Case) -> Said {
    let deletes = case.is("/pods") && case.deletes();
    let evicts = case.resource() == "/pods" && case.sub() == "eviction" && case.creates();
    if !deletes && !evicts {
        return None;
    }
    if ["daemon-set-controller", "node-controller", "pod-garbage-collector"].iter().any(|it| case.by(it)) {
        return Some(false);
    }
    let pod = if deletes { case.old() } else { case.find("Pod", case.namespace(), case.name()) };
    if pod.is_null() || (evicts && !named_alike(case)) || !ours(case, pod) {
        return Some(false);
    }
    let node = node_of(pod);
    if mirror(pod)
        || ending(pod)
        || !ready(pod)
        || case.kubelet() == Some(node)
        || case.namespace() != "kube-system"
    {
        return Some(false);
    }
    let serving = |it: &Value| node_of(it) == node && ready(it) && !ending(it);
    let pods = case.control_plane_pods();
    if let Some(component) = bridges(pod) {
        return Some(!pods.into_iter().any(|it| runs(it) == Some(component) && serving(it)));
    }
    let Some(component) = runs(pod) else { return Some(false) };
    let daemonset = case.daemonset(component);
    let collected = case.by("garbage-collector") && (daemonset.is_null() || ending(daemonset));
    let bridged = case.bridges(component).into_iter().any(serving);
    let mut others = pods;
    others.retain(|it| runs(it) == Some(component) && node_of(it) != node);
    let all_serve = others.iter().all(|it| ready(it) && !ending(it));
    let enough = !others.is_empty() && others.len() + 1 >= case.control_plane_nodes().len();
    Some(!(collected || bridged || (all_serve && enough)))
}

pub(super) fn po4(case: &Case) -> Said {
    if !case.is("/pods") || !case.creates() || case.namespace() != "kube-system" {
        return None;
    }
    let pod = case.object();
    let owned = list(&pod["metadata"], "ownerReferences").iter().any(|owner| {
        text(owner, "kind") == "DaemonSet" && COMPONENTS.iter().any(|it| it.daemonset == text(owner, "name"))
    });
    let looks = runs(pod).is_some() || label(pod, "component") == Some("control-plane-standby");
    let by_controller = owned && !mirror(pod) && case.by("daemon-set-controller");
    let by_kubelet = !owned && mirror(pod) && case.kubelet() == Some(node_of(pod));
    Some((owned || looks) && !by_controller && !by_kubelet)
}

pub(super) fn po5(case: &Case) -> Said {
    let path = template_path(case).filter(|_| case.writes() && case.component().is_none())?;
    let pod = get(case.object(), &path);
    if pod["spec"] == get(case.old(), &path)["spec"] {
        return None;
    }
    if case.is("/pods") {
        let owners = list(&pod["metadata"], "ownerReferences");
        let of_template = ["daemon-set", "job", "replicaset", "replication", "statefulset"]
            .iter()
            .any(|it| case.user() == format!("system:serviceaccount:kube-system:{it}-controller"));
        let by_controller = of_template && owners.iter().any(|it| yes(it, "controller"));
        let by_kubelet = mirror(pod) && case.kubelet() == Some(node_of(pod));
        if !case.creates() || by_controller || by_kubelet {
            return None;
        }
        if case.namespace() == "kube-system" {
            if let Some(component) = bridges(pod) {
                return Some(!stands_in(case, component, pod));
            }
            if is_task(case, pod) {
                return Some(false);
            }
        }
    }
    Some(reaches_in(pod) && is_there(case, pod) && !updates_guard(case))
}

/// Whether the guard's own DaemonSet runs the same as before but for tags and digests.
fn updates_guard(case: &Case) -> bool {
    let mut specs = [case.object(), case.old()].map(|it| it["spec"]["template"]["spec"].clone());
    for spec in &mut specs {
        for field in ["containers", "initContainers", "ephemeralContainers"] {
            if let Some(all) = spec[field].as_array_mut() {
                for container in all {
                    *container = json!([repository(text(container, "image")), without_image(container)]);
                }
            }
        }
    }
    case.is("apps/daemonsets")
        && case.updates()
        && case.namespace() == case.guard_namespace()
        && case.name() == case.guard_name()
        && specs[0] == specs[1]
}

fn without_image(container: &Value) -> Value {
    let mut rest = container.clone();
    if let Some(fields) = rest.as_object_mut() {
        fields.remove("image");
    }
    rest
}

/// Whether a Pod gets hold of what is the control plane's on its node.
fn reaches_in(pod: &Value) -> bool {
    let spec = &pod["spec"];
    let mut bad = yes(spec, "hostPID") || yes(spec, "hostIPC");
    for volume in list(spec, "volumes") {
        bad |= volume["hostPath"]["path"].as_str().is_some_and(holds_keys);
    }
    for container in containers(pod) {
        let security = &container["securityContext"];
        bad |= yes(security, "privileged");
        for capability in texts(&security["capabilities"], "add") {
            let strong = "ALL BPF DAC_READ_SEARCH SYS_ADMIN SYS_BOOT SYS_MODULE SYS_PTRACE SYS_RAWIO";
            let name = capability.strip_prefix("CAP_").unwrap_or(capability);
            bad |= strong.split_whitespace().any(|it| it == name);
        }
        for port in list(container, "ports") {
            let port = if yes(spec, "hostNetwork") { &port["containerPort"] } else { &port["hostPort"] };
            let taken = COMPONENTS.iter().flat_map(|it| [it.port, it.bridge_port]).chain([2379, 2380, 10250]);
            bad |= port.as_u64().is_some_and(|port| taken.into_iter().any(|it| it == port));
        }
    }
    bad
}

/// Whether a path is above, below, or one of those that hold keys and state.
fn holds_keys(path: &str) -> bool {
    let clean = |path: &str| {
        let parts: Vec<&str> = path.split('/').filter(|it| !["", "."].contains(it)).collect();
        let mut clean = format!("/{}/", parts.join("/")).replace("//", "/");
        // A link.
        if clean.starts_with("/var/run/") { clean.split_off("/var".len()) } else { clean }
    };
    let sensitive = [
        "/etc/kubernetes/",
        "/var/lib/etcd/",
        "/var/lib/kubelet/",
        "/var/lib/selfhost/",
        "/run/containerd/",
        "/run/crio/",
        "/run/selfhost-standby/",
        "/root/",
        "/proc/",
    ];
    let path = clean(path);
    path.contains("/../") || sensitive.iter().any(|it| it.starts_with(&path) || path.starts_with(it))
}

/// Whether a Pod may come to a control-plane node.
fn is_there(case: &Case, pod: &Value) -> bool {
    let spec = &pod["spec"];
    let mut labels = ROLES.to_vec();
    labels.extend(COMPONENTS.iter().map(|it| it.label));
    let by_label = keys(spec, "nodeSelector").iter().any(|it| labels.contains(it));
    let tolerates = list(spec, "tolerations").iter().any(|it| {
        ROLES.contains(&text(it, "key")) || (text(it, "key").is_empty() && text(it, "operator") == "Exists")
    });
    by_label
        || tolerates
        || case.control_plane_nodes().iter().any(|it| !node_of(pod).is_empty() && name_of(it) == node_of(pod))
}

/// Whether a container is the node part, as it is.
fn is_node_part(case: &Case, container: &Value) -> bool {
    let image = text(container, "image");
    let mut allowed = texts(case.settings, "nodeImages");
    if !case.settings["nodeImages"].is_array() {
        allowed.push("ghcr.io/kubectl-selfhost/selfhost-node");
    }
    let ours = allowed.iter().any(|it| *it == image || *it == repository(image));
    ours && ["command", "envFrom"].iter().all(|it| list(container, it).is_empty())
        && container["lifecycle"].is_null()
}

/// What a component runs as: its DaemonSet's template, or else what serves.
fn runs_as(case: &Case, component: usize) -> Option<Value> {
    let daemonset = case.daemonset(component);
    if daemonset.is_null() { serves(case, component) } else { Some(daemonset["spec"]["template"].clone()) }
}

fn is_task(case: &Case, pod: &Value) -> bool {
    let all = containers(pod);
    label(pod, "kubectl-selfhost.dev/task").is_some()
        && !all.is_empty()
        && all.into_iter().all(|it| is_node_part(case, it) || asks_for_flags(case, it))
}

fn asks_for_flags(case: &Case, container_of_task: &Value) -> bool {
    let Some(component) = COMPONENTS.iter().position(|it| it.name == text(container_of_task, "name")) else {
        return false;
    };
    let sees = ["volumeMounts", "volumeDevices", "securityContext", "envFrom", "lifecycle", "ports"];
    let line = Line::of(component, container_of_task);
    let image = |it: &Value| repository(text(it, "image"));
    let own = runs_as(case, component).map(|it| image(container(&it, component)));
    sees.iter().all(|it| empty(&container_of_task[*it]))
        && !line.unclear
        && line.has("help")
        && own == Some(image(container_of_task))
}

/// Whether a bridge is the component as it runs, with a gate beside it.
fn stands_in(case: &Case, component: usize, pod: &Value) -> bool {
    let Some(template) = runs_as(case, component) else { return false };
    let mut rest = pod.clone();
    if component == 0 {
        let is_gate = |it: &Value| {
            let security = &it["securityContext"];
            text(it, "name") == "gate"
                && is_node_part(case, it)
                && !yes(security, "privileged")
                && texts(&security["capabilities"], "add").iter().all(|it| *it == "NET_ADMIN")
        };
        let is_authority = |it: &Value| {
            let path = text(&it["hostPath"], "path");
            text(it, "name") == "selfhost-ca"
                && text(&it["hostPath"], "type") == "File"
                && path.rsplit_once('.').is_some_and(|it| it.1 == "crt")
                && !path.contains("..")
                && it.as_object().is_some_and(|it| it.len() == 2)
        };
        if let Some(all) = rest["spec"]["containers"].as_array_mut() {
            all.retain(|it| !is_gate(it));
        }
        if let Some(all) = rest["spec"]["volumes"].as_array_mut() {
            all.retain(|it| !is_authority(it));
        }
    }
    let own = container(&rest, component);
    !own.is_null() && !Line::of(component, own).unclear && !adds(component, &rest, &template)
}

pub(super) fn po6(case: &Case) -> Said {
    if !(case.resource() == "/bindings" || (case.resource() == "/pods" && case.sub() == "binding")) {
        return None;
    }
    let node = text(&case.object()["target"], "name");
    let to_control_plane = case.control_plane_nodes().into_iter().any(|it| name_of(it) == node);
    Some(to_control_plane && !case.by("scheduler"))
}

/// Whether the labels of a node may be written: its status brings them too.
fn labels_node(case: &Case) -> bool {
    case.resource() == "/nodes" && (case.writes() || (case.updates() && case.sub() == "status"))
}

pub(super) fn node1(case: &Case) -> Said {
    if !labels_node(case) {
        return None;
    }
    let (new, old) = (case.object(), case.old());
    let role = |node: &Value| ROLES.iter().any(|it| label(node, it).is_some());
    let mut bad = false;
    let mut hosts = false;
    for (at, component) in COMPONENTS.iter().enumerate() {
        let has = |node: &Value| label(node, component.label) == Some("true");
        hosts |= has(new);
        if has(old) && !has(new) && case.updates() {
            let on_it = |it: &&Value| node_of(it) == case.name() && !ending(it);
            let bridged = case.bridges(at).iter().filter(|it| on_it(it)).any(|it| ready(it));
            let pods = case.control_plane_pods();
            let needed = pods.iter().filter(|it| on_it(it)).any(|it| !mirror(it) && runs(it) == Some(at));
            bad |= needed && !bridged;
        }
        bad |= !has(old) && has(new) && !role(new);
    }
    Some(bad || (role(old) && !role(new) && hosts))
}

pub(super) fn node2(case: &Case) -> Said {
    if !labels_node(case) {
        return None;
    }
    let names =
        [keys(&case.object()["metadata"], "labels"), keys(&case.old()["metadata"], "labels")].concat();
    let ours =
        |it: &str| it.starts_with("kubectl-selfhost.dev/") || it.starts_with("node-role.kubernetes.io/");
    let changed = names.iter().any(|it| ours(it) && label(case.object(), it) != label(case.old(), it));
    Some(changed && case.kubelet().is_some())
}

pub(super) fn node3(case: &Case) -> Said {
    if case.resource() != "/nodes" || case.sub() != "proxy" {
        return None;
    }
    let path = text(case.object(), "path");
    let reads = "configz healthz metrics metrics/cadvisor metrics/probes metrics/resource stats/summary pods";
    let only_reads = reads.split(' ').any(|it| path == it || path == format!("/{it}"));
    let nodes = case.control_plane_nodes();
    let there = case.name().split(':').any(|part| nodes.iter().any(|it| name_of(it) == part));
    Some(there && !only_reads)
}

pub(super) fn node4(case: &Case) -> Said {
    if !case.is("/nodes") || !case.deletes() {
        return None;
    }
    let node = case.old();
    let hosts = COMPONENTS.iter().any(|it| label(node, it.label).is_some());
    let role = ROLES.iter().any(|it| label(node, it).is_some());
    let member = !case.find("Pod", "kube-system", &format!("etcd-{}", name_of(node))).is_null();
    Some(hosts || (role && member))
}

/// The addresses of the control-plane nodes.
pub(super) fn addresses(case: &Case) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for node in case.control_plane_nodes() {
        for address in list(&node["status"], "addresses") {
            found.extend(text(address, "address").parse::<IpAddr>().ok());
        }
    }
    found
}
