//! The standby: the static Pod that brings the control plane back when no API server is left to tell the kubelet of it.
//!
//! Invariant: it refers to nothing in the API and holds no value that is known only there: the kubelet runs it alone,
//! after a power cut, from one file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{
    Container, EnvVar, HostPathVolumeSource, Pod, PodSpec, PodTemplateSpec, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use selfhost_core::component::Component;
use selfhost_core::{labels, version};
use serde::Serialize;
use serde_json::Value;

use super::{bridge, command_line, image, short_hash};

/// What each container asks for: enough to be heard on a busy node, and little for two generations of four.
const DORMANT_CPU: &str = "10m";

/// The priority of `system-node-critical` (k8s.io/kubernetes, `scheduling.SystemCriticalPriority` and 1000).
const NODE_CRITICAL: i32 = 2_000_001_000;

/// Where the supervisors of a node keep their locks: on a file system in memory.
pub const RUN: &str = "/run/selfhost-standby";

/// Where the node part's program is mounted: the components' images have only the component.
const PROGRAMS: &str = "/selfhost";

/// The directory of the node part's program on the host; the task that writes a checkpoint puts it there.
const PROGRAMS_ON_HOST: &str = "/var/lib/selfhost/bin";

/// The standby Pod of the node at `address`, as the node task that writes it expects it, in JSON.
///
/// `peers` are the addresses of the other control-plane nodes.
pub fn content(
    templates: &BTreeMap<Component, PodTemplateSpec>,
    node: &str,
    address: IpAddr,
    peers: &[IpAddr],
    around: &bridge::Surroundings,
) -> String {
    let mut pod = pod(templates, node, address, peers, around);
    let templates: BTreeMap<&str, _> =
        templates.iter().map(|(component, it)| (component.name(), it)).collect();
    let templates = json(&templates).to_string();
    pod.metadata.annotations = Some(BTreeMap::from([(labels::TEMPLATES.to_owned(), templates)]));
    let hash = short_hash(json(&pod).to_string().as_bytes());
    pod.metadata.annotations.get_or_insert_default().insert(labels::TEMPLATE_HASH.to_owned(), hash);
    json(&pod).to_string()
}

/// The templates of the DaemonSets that a standby's Pod stands in for: what is left of them when somebody deletes them.
pub fn templates(pod: &Pod) -> BTreeMap<Component, PodTemplateSpec> {
    let text = pod.metadata.annotations.as_ref().and_then(|all| all.get(labels::TEMPLATES));
    let templates =
        text.and_then(|text| serde_json::from_str::<BTreeMap<String, PodTemplateSpec>>(text).ok());
    let named = templates.unwrap_or_default().into_iter();
    named.filter_map(|(name, template)| Some((name.parse().ok()?, template))).collect()
}

/// The hash in the annotation of a Pod that [`content`] made.
pub fn hash(content: &str) -> Option<String> {
    let pod: Value = serde_json::from_str(content).ok()?;
    Some(pod["metadata"]["annotations"][labels::TEMPLATE_HASH].as_str()?.to_owned())
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("Kubernetes' objects are always JSON")
}

fn pod(
    templates: &BTreeMap<Component, PodTemplateSpec>,
    node: &str,
    address: IpAddr,
    peers: &[IpAddr],
    around: &bridge::Surroundings,
) -> Pod {
    let mut spec = PodSpec {
        host_network: Some(true),
        priority_class_name: Some("system-node-critical".to_owned()),
        // Admission derives it from the class; a kubelet alone ignores a class without it.
        priority: Some(NODE_CRITICAL),
        termination_grace_period_seconds: Some(30),
        ..PodSpec::default()
    };
    let mut volumes = vec![
        host_path("selfhost-bin", PROGRAMS_ON_HOST, "Directory"),
        host_path("selfhost-run", RUN, "DirectoryOrCreate"),
    ];
    for (component, template) in templates {
        // On another port, apart from the endpoints, with a log of its own: exactly what a bridge is.
        let bridge = bridge::pod(*component, template, node, around).spec.unwrap_or_default();
        let port = bridge::port(*component, &command_line(*component, template));
        let minor = image(*component, template).and_then(version::of_image).map(|version| version.minor);
        for container in bridge.containers {
            let mut container = local(container, *component, address);
            if container.name == component.name() {
                supervise(&mut container, *component, port, minor.unwrap_or_default(), peers);
            } else if container.name == bridge::GATE {
                follow(&mut container);
            } else {
                // A side-car belongs to the component's own Pod.
                continue;
            }
            spec.containers.push(container);
        }
        let named = bridge.volumes.into_iter().flatten();
        volumes.extend(named.map(|volume| Volume { name: scoped(*component, &volume.name), ..volume }));
    }
    let used: BTreeSet<&str> = spec
        .containers
        .iter()
        .flat_map(|it| it.volume_mounts.iter().flatten())
        .map(|it| it.name.as_str())
        .collect();
    volumes.retain(|volume| used.contains(volume.name.as_str()));
    spec.volumes = Some(volumes);
    Pod {
        metadata: ObjectMeta {
            name: Some(labels::STANDBY.to_owned()),
            namespace: Some(labels::NAMESPACE.to_owned()),
            labels: Some(BTreeMap::from([
                (labels::COMPONENT.to_owned(), labels::STANDBY.to_owned()),
                (labels::TIER.to_owned(), labels::TIER_CONTROL_PLANE.to_owned()),
            ])),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// The container without probes, which are the supervisor's business, with every value of this node in its place, and
/// with volume names that three components can share a Pod with.
fn local(mut container: Container, component: Component, address: IpAddr) -> Container {
    container.liveness_probe = None;
    container.readiness_probe = None;
    container.startup_probe = None;
    // Dormant, it needs nothing; and while it serves, little else runs.
    container.resources = Some(bridge::cpu_request(DORMANT_CPU));
    for variable in container.env.iter_mut().flatten().filter(|variable| variable.name == "HOST_IP") {
        *variable =
            EnvVar { name: variable.name.clone(), value: Some(address.to_string()), value_from: None };
    }
    let env = container.env.clone().unwrap_or_default();
    for argument in container.command.iter_mut().flatten().chain(container.args.iter_mut().flatten()) {
        *argument = expand(argument, &env);
    }
    for mount in container.volume_mounts.iter_mut().flatten() {
        mount.name = scoped(component, &mount.name);
    }
    container
}

/// What the kubelet would make of `$(NAME)`: the supervisor checks the digest of its arguments, so that they must be
/// written as they arrive.
fn expand(argument: &str, env: &[EnvVar]) -> String {
    env.iter().fold(argument.to_owned(), |text, variable| match &variable.value {
        Some(value) => text.replace(&format!("$({})", variable.name), value),
        None => text,
    })
}

/// Puts the component's command line behind the supervisor's.
fn supervise(container: &mut Container, component: Component, port: u16, minor: u32, peers: &[IpAddr]) {
    let command: Vec<String> =
        container.command.take().into_iter().chain(container.args.take()).flatten().collect();
    let mut args = vec![
        "standby".to_owned(),
        format!("--component={component}"),
        format!("--port={port}"),
        format!("--standby-port={}", component.bridge_port()),
        format!("--run={RUN}"),
        format!("--minor={minor}"),
    ];
    if component == Component::ApiServer {
        args.push(format!("--ca={}", bridge::client_ca(&command)));
        if !peers.is_empty() {
            let peers: Vec<String> =
                peers.iter().map(|peer| SocketAddr::new(*peer, port).to_string()).collect();
            args.push(format!("--peers={}", peers.join(",")));
        }
    }
    args.push("--".to_owned());
    args.extend(command);
    container.command = Some(vec![format!("{PROGRAMS}/selfhost-node")]);
    container.args = Some(args);
    let mounts = container.volume_mounts.get_or_insert_default();
    mounts.push(mount("selfhost-bin", PROGRAMS, true));
    mounts.push(mount("selfhost-run", RUN, false));
}

/// Makes the gate divert only while the API server's supervisor says so.
fn follow(gate: &mut Container) {
    let args = gate.args.get_or_insert_default();
    args.push(format!("--only-while={RUN}/{}.serving", Component::ApiServer));
    gate.volume_mounts.get_or_insert_default().push(mount("selfhost-run", RUN, true));
}

/// A volume name of one component's template, in a Pod of all three.
fn scoped(component: Component, name: &str) -> String {
    let scoped = format!("{component}-{name}");
    // The name of a volume is a DNS label.
    if scoped.len() <= 63 { scoped } else { format!("{component}-{}", short_hash(name.as_bytes())) }
}

fn host_path(name: &str, path: &str, kind: &str) -> Volume {
    let source = HostPathVolumeSource { path: path.to_owned(), type_: Some(kind.to_owned()) };
    Volume { name: name.to_owned(), host_path: Some(source), ..Volume::default() }
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

#[cfg(test)]
#[path = "standby_tests.rs"]
mod tests;
