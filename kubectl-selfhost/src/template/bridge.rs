//! The bridge: a Pod, pinned to a node, that runs the target of a swap on another port while the component itself is
//! replaced.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EnvVar, ExecAction, HostPathVolumeSource, Pod, PodTemplateSpec, Probe,
    ResourceRequirements, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use selfhost_core::component::Component;
use selfhost_core::{flags, labels};

use super::{sealed_hash, short_hash};

/// What the gate asks for: it runs `nft` once a second, and a divert that is not renewed lapses.
const GATE_CPU: &str = "50m";

/// How often the bridge of a component that elects a leader asks for the lease. Whoever asks every two seconds, as
/// client-go does by default, waits up to 2.2 times as long for a lease that is free (its jitter), and nobody leads
/// meanwhile.
const RETRY_PERIOD: &str = "500ms";

/// The name of the gate's container in an API server's bridge.
pub const GATE: &str = "gate";

/// What an API server's bridge needs to know of its surroundings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The node part's image, for the gate.
    pub node_image: String,
    /// The `kubernetes` Service's ClusterIP: the other address that is diverted. `None` where there is none.
    pub service_ip: Option<IpAddr>,
}

/// The name of the bridge Pod of `component` on `node`.
pub fn name(component: Component, node: &str) -> String {
    let name = format!("{component}-bridge-{node}");
    // A Pod's name has at most 253 characters, and so has a node's.
    if name.len() <= 253 { name } else { format!("{component}-bridge-{}", short_hash(node.as_bytes())) }
}

/// The port on which the component itself serves, as its command line says.
pub fn port(component: Component, command: &[String]) -> u16 {
    flags::value(command, "secure-port")
        .and_then(|port| port.parse().ok())
        .unwrap_or(component.default_port())
}

/// The bridge Pod of `component` on `node`, made from the template that the swap ends with.
pub fn pod(component: Component, template: &PodTemplateSpec, node: &str, around: &Surroundings) -> Pod {
    let mut spec = template.spec.clone().unwrap_or_default();
    spec.node_name = Some(node.to_owned());
    spec.node_selector = None;
    // Short: it drains while the replaced component already serves.
    spec.termination_grace_period_seconds = Some(30);
    // Without an API server nobody else could start it again.
    spec.restart_policy = Some("Always".to_owned());
    let mut gate_volume = None;
    for container in spec.containers.iter_mut().filter(|container| container.name == component.name()) {
        let public = port(component, container.command.as_deref().unwrap_or_default());
        move_port(component, container);
        if component == Component::ApiServer {
            gate_volume = Some(gate(container, spec.volumes.as_deref().unwrap_or_default(), public, around));
        }
    }
    if let Some((container, volume)) = gate_volume {
        spec.containers.push(container);
        spec.volumes.get_or_insert_default().push(volume);
    }
    Pod {
        metadata: ObjectMeta {
            name: Some(name(component, node)),
            namespace: Some(labels::NAMESPACE.to_owned()),
            labels: Some(BTreeMap::from([(labels::BRIDGE.to_owned(), component.name().to_owned())])),
            annotations: template
                .metadata
                .as_ref()
                .and_then(sealed_hash)
                .map(|hash| BTreeMap::from([(labels::TEMPLATE_HASH.to_owned(), hash.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

fn move_port(component: Component, container: &mut Container) {
    if let Some(command) = &mut container.command {
        flags::set(command, "secure-port", &component.bridge_port().to_string());
        if component == Component::ApiServer {
            // API servers with one advertised address share one lease: the bridge must not touch it.
            flags::set(command, "endpoint-reconciler-type", "none");
            // Two writers spoil one audit log.
            if let Some(path) = flags::value(command, "audit-log-path").filter(|path| *path != "-") {
                let own = bridge_log(path);
                flags::set(command, "audit-log-path", &own);
            }
        }
        if component.leader_lease().is_some() {
            flags::set(command, "leader-elect-retry-period", RETRY_PERIOD);
        }
    }
    let probes =
        [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
    for get in probes.into_iter().flatten().filter_map(|probe| probe.http_get.as_mut()) {
        get.port = IntOrString::Int(i32::from(component.bridge_port()));
    }
    // The last words of a target that does not start are in the Pod's status, without a right to read logs.
    container.termination_message_policy = Some("FallbackToLogsOnError".to_owned());
}

/// `/var/log/audit.log` -> `/var/log/audit-bridge.log`, in the same directory, which is the one that is mounted.
fn bridge_log(path: &str) -> String {
    match path.rsplit_once('.') {
        Some((stem, extension)) if !extension.contains('/') => format!("{stem}-bridge.{extension}"),
        _ => format!("{path}-bridge"),
    }
}

/// The gate's container and the volume with the certificate authority by which it knows the bridge.
fn gate(server: &Container, volumes: &[Volume], public: u16, around: &Surroundings) -> (Container, Volume) {
    let command = server.command.as_deref().unwrap_or_default();
    let ca = client_ca(command);
    let ca_on_host = host_path(server, volumes, ca).unwrap_or_else(|| ca.to_owned());
    let mut args = vec![
        "gate".to_owned(),
        "--node-ip=$(HOST_IP)".to_owned(),
        format!("--port={public}"),
        format!("--bridge-port={}", Component::ApiServer.bridge_port()),
        "--ca=/run/selfhost/ca.crt".to_owned(),
    ];
    if let Some(ip) = around.service_ip {
        args.push(format!("--service-ip={ip}"));
        args.push("--service-port=443".to_owned());
    }
    let container = Container {
        name: GATE.to_owned(),
        image: Some(around.node_image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(args),
        env: server.env.as_ref().map(|env| host_ip_only(env)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                add: Some(vec!["NET_ADMIN".to_owned()]),
                drop: Some(vec!["ALL".to_owned()]),
            }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        readiness_probe: Some(Probe {
            exec: Some(ExecAction {
                command: Some(vec!["/usr/local/bin/selfhost-node".to_owned(), "gate-check".to_owned()]),
            }),
            period_seconds: Some(1),
            timeout_seconds: Some(2),
            ..Probe::default()
        }),
        resources: Some(cpu_request(GATE_CPU)),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![VolumeMount {
            name: "selfhost-ca".to_owned(),
            mount_path: "/run/selfhost/ca.crt".to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    };
    let volume = Volume {
        name: "selfhost-ca".to_owned(),
        host_path: Some(HostPathVolumeSource { path: ca_on_host, type_: Some("File".to_owned()) }),
        ..Volume::default()
    };
    (container, volume)
}

/// A weight among the node's containers: what asks for nothing gets next to nothing of a busy CPU.
pub fn cpu_request(cpu: &str) -> ResourceRequirements {
    let requests = BTreeMap::from([("cpu".to_owned(), Quantity(cpu.to_owned()))]);
    ResourceRequirements { requests: Some(requests), ..ResourceRequirements::default() }
}

/// The certificate authority by which an API server of this command line is known, as its container sees it.
pub fn client_ca(command: &[String]) -> &str {
    flags::value(command, "client-ca-file").unwrap_or("/etc/kubernetes/pki/ca.crt")
}

fn host_ip_only(env: &[EnvVar]) -> Vec<EnvVar> {
    env.iter().filter(|variable| variable.name == "HOST_IP").cloned().collect()
}

/// Where `path` inside of `container` lies on the host.
fn host_path(container: &Container, volumes: &[Volume], path: &str) -> Option<String> {
    let mounts = container.volume_mounts.iter().flatten();
    let (mount, rest) = mounts
        .filter_map(|mount| {
            let rest = path.strip_prefix(mount.mount_path.trim_end_matches('/'))?;
            (rest.is_empty() || rest.starts_with('/')).then_some((mount, rest))
        })
        .max_by_key(|(mount, _)| mount.mount_path.len())?;
    let volume = volumes.iter().find(|volume| volume.name == mount.name)?.host_path.as_ref()?;
    Some(format!("{}{rest}", volume.path.trim_end_matches('/')))
}

/// The EndpointSlice that keeps the `kubernetes` Service from going empty: API servers with one address share one
/// lease key, so that the old server's exit removes the address although the bridge serves.
///
/// It has no owner reference: the bridge Pod is in another namespace, which the garbage collector reads as an owner
/// that is gone. The executor removes it, and a rerun removes one that was left.
pub fn endpoint_slice(address: IpAddr, port: u16) -> EndpointSlice {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(labels::BRIDGE_SLICE.to_owned()),
            namespace: Some("default".to_owned()),
            labels: Some(BTreeMap::from([
                ("kubernetes.io/service-name".to_owned(), "kubernetes".to_owned()),
                ("endpointslice.kubernetes.io/managed-by".to_owned(), labels::FIELD_MANAGER.to_owned()),
            ])),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(vec![Endpoint {
            addresses: vec![address.to_string()],
            conditions: Some(EndpointConditions { ready: Some(true), ..EndpointConditions::default() }),
            ..Endpoint::default()
        }]),
        ports: Some(vec![EndpointPort {
            name: Some("https".to_owned()),
            port: Some(i32::from(port)),
            protocol: Some("TCP".to_owned()),
            ..EndpointPort::default()
        }]),
    }
}

#[cfg(test)]
#[path = "bridge_tests.rs"]
mod tests;
