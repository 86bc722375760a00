//! From the Pod that runs a component now (a mirror Pod, or a Pod template of kubeadm's or ours) to the template of
//! its DaemonSet.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, ObjectFieldSelector, PodSpec, PodTemplateSpec, Probe, Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use selfhost_core::component::Component;
use selfhost_core::version::{self, KubeVersion};
use selfhost_core::{flags, labels};

use super::seal;

/// A component that is laid out in a way this tool would break by moving it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// There is no container with the component's name.
    #[error("has no container named {0}")]
    NoContainer(Component),
    /// The Pod is not on the host's network.
    #[error("does not use the host's network")]
    NotHostNetwork,
    /// A volume refers to an API object or is of a kind that a static Pod does not have.
    #[error("mounts volume {0:?}, which is not a hostPath")]
    Volume(String),
    /// The API server binds to one address only, so that probes on 127.0.0.1 would not reach it.
    #[error("binds to {0} only, and the probes of a self-hosted component ask 127.0.0.1")]
    BindAddress(String),
    /// A probe asks for a port by a name that the container does not declare.
    #[error("has a probe on port {0:?}, which the container does not declare")]
    ProbePort(String),
    /// The address that the server advertises, or a variable of our name for it, is not the node's.
    #[error("advertises {advertised}, which is not the node's address {node}")]
    AdvertiseAddress {
        /// The flag's value.
        advertised: String,
        /// What the kubelet reports as the host's address.
        node: String,
    },
}

/// The template of the DaemonSet that hosts `component`, from the Pod (or template) that runs it now.
///
/// `host_ip` is the address that the kubelet reports for the Pod's host; `None` for a template, which has none.
/// Normalizing a normalized template changes nothing.
pub fn normalize(
    component: Component,
    metadata: &ObjectMeta,
    spec: &PodSpec,
    host_ip: Option<&str>,
) -> Result<PodTemplateSpec, TemplateError> {
    if spec.host_network != Some(true) {
        return Err(TemplateError::NotHostNetwork);
    }
    check_volumes(spec)?;
    let mut spec = spec.clone();
    forget_scheduling(&mut spec);
    spec.node_selector =
        Some(BTreeMap::from([(labels::node_label(component).to_owned(), "true".to_owned())]));
    // A static Pod has no token of a ServiceAccount; each component's own credentials are files.
    spec.automount_service_account_token = Some(false);
    // A control plane serves wherever its node runs, whatever the node's taints say.
    spec.tolerations =
        Some(vec![Toleration { operator: Some("Exists".to_owned()), ..Toleration::default() }]);

    let at = spec.containers.iter().position(|container| container.name == component.name());
    let container = &mut spec.containers[at.ok_or(TemplateError::NoContainer(component))?];
    name_probe_ports(container)?;
    check_bind_address(component, container)?;
    if component == Component::ApiServer {
        check_advertise_address(container, host_ip)?;
        serve_every_node(container, host_ip)?;
        drain_on_shutdown(container);
        // Long enough for the delay and the drain below; the kubelet kills what is left.
        spec.termination_grace_period_seconds = Some(60);
    }
    Ok(seal(PodTemplateSpec { metadata: Some(template_metadata(component, metadata)), spec: Some(spec) }))
}

/// Static Pods can mount hostPaths only; kubeadm's `StoreCertsInSecrets` added Secrets and projected volumes. Those are
/// credentials, which stay as they are.
fn check_volumes(spec: &PodSpec) -> Result<(), TemplateError> {
    let unknown = spec.volumes.iter().flatten().find(|volume| {
        volume.host_path.is_none()
            && volume.secret.is_none()
            && volume.projected.is_none()
            && volume.config_map.is_none()
            && volume.empty_dir.is_none()
    });
    unknown.map_or(Ok(()), |volume| Err(TemplateError::Volume(volume.name.clone())))
}

/// What the kubelet and the scheduler wrote into a Pod, which a template must not have.
fn forget_scheduling(spec: &mut PodSpec) {
    spec.node_name = None;
    // Admission derives the number from priorityClassName, and refuses a number that disagrees.
    spec.priority = None;
    spec.preemption_policy = None;
    spec.service_account = None;
    spec.affinity = None;
}

/// Named ports go (with hostNetwork they become hostPorts, which block a second Pod on the node: k/k#132776,
/// k/k#106417) and probes get numbers and 127.0.0.1, the one address that is never diverted.
fn name_probe_ports(container: &mut Container) -> Result<(), TemplateError> {
    let ports: BTreeMap<String, i32> = container
        .ports
        .take()
        .into_iter()
        .flatten()
        .filter_map(|port| Some((port.name?, port.container_port)))
        .collect();
    let probes =
        [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
    for probe in probes.into_iter().flatten() {
        if let Some(get) = &mut probe.http_get {
            if let IntOrString::String(name) = &get.port {
                let port = ports.get(name).ok_or_else(|| TemplateError::ProbePort(name.clone()))?;
                get.port = IntOrString::Int(*port);
            }
            get.host = Some("127.0.0.1".to_owned());
        }
    }
    if let Some(probe) = &mut container.startup_probe {
        ask_each_second(probe);
    }
    Ok(())
}

/// The same patience in total, asked once a second: a swap waits for the first success, and kubeadm's ten seconds
/// between two questions are ten seconds of two API servers in memory.
fn ask_each_second(probe: &mut Probe) {
    let period = probe.period_seconds.unwrap_or(10);
    let patience = probe.initial_delay_seconds.unwrap_or(0) + period * probe.failure_threshold.unwrap_or(3);
    probe.initial_delay_seconds = None;
    probe.period_seconds = Some(1);
    probe.failure_threshold = Some(patience);
}

fn check_bind_address(component: Component, container: &Container) -> Result<(), TemplateError> {
    let command = container.command.clone().unwrap_or_default();
    match flags::value(&command, "bind-address") {
        None | Some("0.0.0.0" | "::" | "127.0.0.1" | "::1") => Ok(()),
        Some(address) if component == Component::ApiServer => {
            Err(TemplateError::BindAddress(address.to_owned()))
        }
        Some(_) => Ok(()),
    }
}

/// `$(HOST_IP)` is the kubelet's idea of the node's address: it must be the one that the server advertises today.
fn check_advertise_address(container: &Container, host_ip: Option<&str>) -> Result<(), TemplateError> {
    let command = container.command.clone().unwrap_or_default();
    match (flags::value(&command, "advertise-address"), host_ip) {
        (Some(advertised), Some(node)) if advertised != node && !advertised.starts_with("$(") => {
            Err(TemplateError::AdvertiseAddress { advertised: advertised.to_owned(), node: node.to_owned() })
        }
        _ => Ok(()),
    }
}

/// kubeadm's own device: what differs by node comes from the downward API.
///
/// The variable comes last, unless it is there already: one that is before it and names it keeps its meaning, because
/// the kubelet expands a variable in those after it only. A command line may name it wherever it is.
fn serve_every_node(container: &mut Container, host_ip: Option<&str>) -> Result<(), TemplateError> {
    if let Some(command) = &mut container.command {
        flags::set(command, "advertise-address", "$(HOST_IP)");
    }
    let node_address = EnvVar {
        name: "HOST_IP".to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                // The API server's default, written out so that the hash is the same before and after.
                api_version: Some("v1".to_owned()),
                field_path: "status.hostIP".to_owned(),
            }),
            ..EnvVarSource::default()
        }),
    };
    let environment = container.env.get_or_insert_default();
    if environment.iter().all(|variable| variable.name != node_address.name) {
        environment.push(node_address);
        return Ok(());
    }
    for variable in environment.iter_mut().filter(|variable| variable.name == node_address.name) {
        let field = variable.value_from.as_ref().and_then(|from| from.field_ref.as_ref());
        let is_field = field.is_some_and(|field| field.field_path == "status.hostIP");
        // A static Pod that `recover` made has the address itself, which the kubelet may not know without an API.
        let is_address = host_ip.is_some() && variable.value.as_deref() == host_ip;
        if !is_field && !is_address {
            return Err(TemplateError::AdvertiseAddress {
                advertised: variable.value.clone().unwrap_or_else(|| "$(HOST_IP)".to_owned()),
                node: host_ip.unwrap_or("status.hostIP").to_owned(),
            });
        }
        *variable = node_address.clone();
    }
    Ok(())
}

/// A flag with the version that first knows it.
pub(super) const SHUTDOWN_FLAGS: [(&str, &str, u32); 3] = [
    // Keeps serving while clients and load balancers notice that /readyz fails.
    ("shutdown-delay-duration", "5s", 13),
    // Then 429 with Retry-After and `Connection: close`, which client-go follows, instead of a closed connection.
    ("shutdown-send-retry-after", "true", 22),
    // Watches end at a limited rate within this time, or they hold the old Pod for the whole grace period.
    ("shutdown-watch-termination-grace-period", "5s", 28),
];

fn drain_on_shutdown(container: &mut Container) {
    let version = container.image.as_deref().and_then(version::of_image);
    if let Some(command) = &mut container.command {
        for (flag, value, since) in SHUTDOWN_FLAGS {
            if version.as_ref().is_none_or(|v: &KubeVersion| v.minor >= since) {
                flags::set_default(command, flag, value);
            }
        }
    }
}

fn template_metadata(component: Component, metadata: &ObjectMeta) -> ObjectMeta {
    let mut own = metadata.labels.clone().unwrap_or_default();
    own.insert(labels::K8S_APP.to_owned(), component.daemonset_name().to_owned());
    own.insert(labels::COMPONENT.to_owned(), component.name().to_owned());
    own.insert(labels::TIER.to_owned(), labels::TIER_CONTROL_PLANE.to_owned());
    // The DaemonSet controller sets these on its Pods.
    own.remove("controller-revision-hash");
    own.remove("pod-template-generation");
    let kept: BTreeMap<String, String> = metadata
        .annotations
        .iter()
        .flatten()
        .filter(|(key, _)| {
            !key.starts_with(labels::KUBELET_CONFIG_PREFIX)
                && *key != labels::TEMPLATE_HASH
                && *key != labels::RECOVERED
                // By node: the executor writes it on each Pod.
                && *key != labels::ADVERTISE_ADDRESS
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    ObjectMeta { labels: Some(own), annotations: (!kept.is_empty()).then_some(kept), ..ObjectMeta::default() }
}

#[cfg(test)]
#[path = "normalize_tests.rs"]
pub(crate) mod tests;
