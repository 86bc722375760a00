//! What an API server's template has while a guard is installed: the certificate by which the guard knows it.
//!
//! Invariant: the path names the credential. Another credential is another path, so that a template says which one its
//! Pods have read, and what they read never changes under them.

use k8s_openapi::api::core::v1::{HostPathVolumeSource, PodTemplateSpec, Volume, VolumeMount};
use selfhost_core::component::Component;
use selfhost_core::flags;

use super::{command_line, seal};

/// Where the node keeps the credentials: beside the others, so that whatever saves those saves these.
pub const ON_HOST: &str = "/etc/kubernetes/pki/selfhost-guard";

/// Where API servers see them: apart from where their other credentials are mounted, which may be a Secret.
pub const IN_POD: &str = "/etc/kubernetes/selfhost-guard";

/// The admission configuration in a credential's directory.
pub const CONFIGURATION: &str = "admission.yaml";

/// The kubeconfig in a credential's directory.
pub const KUBECONFIG: &str = "kubeconfig";

/// The key of the static manifest in the Secret.
pub const MANIFEST: &str = "guard.json";

/// The directory of static manifests in a credential's directory. Nothing else may be in it (KEP-5793).
pub const MANIFESTS: &str = "static";

/// The end of the name of a credential that has static manifests.
const WITH_MANIFESTS: &str = "-static";

const FLAG: &str = "admission-control-config-file";

const GATES: &str = "feature-gates";

/// The feature without which an API server reads no static manifests; off unless it is asked for, up to v1.37.
const GATE: &str = "ManifestBasedAdmissionControlConfig";

const VOLUME: &str = "selfhost-guard";

/// An API server that has an admission configuration of its operator's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("has an admission configuration of its own, {0}")]
pub struct Foreign(pub String);

/// The name of a credential with this hash of its content.
pub fn credential_name(hash: &str, has_manifests: bool) -> String {
    if has_manifests { format!("{hash}{WITH_MANIFESTS}") } else { hash.to_owned() }
}

/// Whether API servers that read `credential` have static manifests: its name says so, so that whoever knows the name
/// can write the template.
pub fn has_manifests(credential: &str) -> bool {
    credential.ends_with(WITH_MANIFESTS)
}

/// The template with which an API server reads `credential`.
pub fn arm(template: PodTemplateSpec, credential: &str) -> Result<PodTemplateSpec, Foreign> {
    let mut template = switched(template, has_manifests(credential));
    let command = command_line(Component::ApiServer, &template);
    let named = flags::value(&command, FLAG);
    if let Some(other) = named.filter(|path| !is_ours(path)) {
        return Err(Foreign(other.to_owned()));
    }
    let spec = template.spec.get_or_insert_default();
    for container in spec.containers.iter_mut().filter(|it| it.name == Component::ApiServer.name()) {
        let path = format!("{IN_POD}/{credential}/{CONFIGURATION}");
        // kubeadm writes the whole command line as the command; others may have split it.
        let line = container.args.as_mut().filter(|args| flags::value(args, FLAG).is_some());
        flags::set(line.or(container.command.as_mut()).unwrap_or(&mut Vec::new()), FLAG, &path);
        let mounts = container.volume_mounts.get_or_insert_default();
        mounts.retain(|mount| mount.name != VOLUME);
        mounts.push(VolumeMount {
            name: VOLUME.to_owned(),
            mount_path: IN_POD.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
    let volumes = spec.volumes.get_or_insert_default();
    volumes.retain(|volume| volume.name != VOLUME);
    volumes.push(Volume {
        name: VOLUME.to_owned(),
        host_path: Some(HostPathVolumeSource {
            path: ON_HOST.to_owned(),
            type_: Some("Directory".to_owned()),
        }),
        ..Volume::default()
    });
    Ok(seal(template))
}

/// The template without what [`arm`] added.
pub fn disarm(template: PodTemplateSpec) -> PodTemplateSpec {
    if credential(&template).is_none() {
        return template;
    }
    let mut template = switched(template, false);
    let spec = template.spec.get_or_insert_default();
    for container in spec.containers.iter_mut().filter(|it| it.name == Component::ApiServer.name()) {
        for line in [&mut container.command, &mut container.args].into_iter().flatten() {
            flags::remove(line, FLAG);
        }
        container.volume_mounts = without(container.volume_mounts.take(), |mount| mount.name == VOLUME);
    }
    spec.volumes = without(spec.volumes.take(), |volume| volume.name == VOLUME);
    seal(template)
}

/// The template with the feature on; or, where the guard had it on, as it was before.
fn switched(mut template: PodTemplateSpec, on: bool) -> PodTemplateSpec {
    if !on && !credential(&template).is_some_and(|it| has_manifests(&it)) {
        return template;
    }
    let spec = template.spec.get_or_insert_default();
    for container in spec.containers.iter_mut().filter(|it| it.name == Component::ApiServer.name()) {
        let has_gates = |line: &&mut Vec<String>| flags::value(line, GATES).is_some();
        let Some(line) = container.args.as_mut().filter(has_gates).or(container.command.as_mut()) else {
            continue;
        };
        let items = flags::values(line, GATES).flat_map(|value| value.split(','));
        let mut items: Vec<String> = items
            .filter(|item| item.split_once('=').is_none_or(|(name, _)| name != GATE))
            .map(str::to_owned)
            .collect();
        if on {
            items.push(format!("{GATE}=true"));
        }
        if items.is_empty() {
            flags::remove(line, GATES);
        } else {
            flags::set(line, GATES, &items.join(","));
        }
    }
    template
}

/// The list without what is ours; none where nothing else was in it.
fn without<T>(list: Option<Vec<T>>, is_ours: impl Fn(&T) -> bool) -> Option<Vec<T>> {
    let mut list = list?;
    list.retain(|item| !is_ours(item));
    (!list.is_empty()).then_some(list)
}

/// The credential that the template's API servers read.
pub fn credential(template: &PodTemplateSpec) -> Option<String> {
    let command = command_line(Component::ApiServer, template);
    let path = flags::value(&command, FLAG)?;
    let credential = path.strip_prefix(IN_POD)?.strip_prefix('/')?.strip_suffix(CONFIGURATION)?;
    Some(credential.trim_end_matches('/').to_owned())
}

fn is_ours(path: &str) -> bool {
    path.strip_prefix(IN_POD).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::normalize::tests::api_server_template;

    #[test]
    fn what_is_armed_is_disarmed_without_a_trace() {
        let plain = api_server_template();
        assert_eq!(credential(&plain), None);
        let armed = arm(plain.clone(), "0a1b").unwrap();
        assert_eq!(credential(&armed).as_deref(), Some("0a1b"));
        assert_ne!(armed, plain);
        let again = arm(armed.clone(), "2c3d").unwrap();
        assert_eq!(credential(&again).as_deref(), Some("2c3d"));
        assert_eq!(arm(again, "0a1b").unwrap(), armed);
        assert_eq!(disarm(armed), plain);
        assert_eq!(disarm(plain.clone()), plain);
    }

    #[test]
    fn static_manifests_turn_the_feature_on_and_leave_it_as_it_was() {
        let plain = api_server_template();
        let gates = |template: &PodTemplateSpec| {
            let command = command_line(Component::ApiServer, template);
            flags::values(&command, GATES).map(str::to_owned).collect::<Vec<_>>()
        };
        let name = credential_name("0a1b", true);
        for (before, with) in [
            (None, "ManifestBasedAdmissionControlConfig=true"),
            (Some("A=true,B=false"), "A=true,B=false,ManifestBasedAdmissionControlConfig=true"),
        ] {
            let mut template = plain.clone();
            if let Some(gates) = before {
                let command = template.spec.as_mut().unwrap().containers[0].command.as_mut().unwrap();
                command.push(format!("--{GATES}={gates}"));
                template = seal(template);
            }
            let armed = arm(template.clone(), &name).unwrap();
            assert_eq!(gates(&armed), [with]);
            assert_eq!(credential(&armed).as_ref(), Some(&name));
            assert_eq!(arm(armed.clone(), &name).unwrap(), armed);
            assert_eq!(gates(&arm(armed.clone(), "0a1b").unwrap()), gates(&template), "another without them");
            assert_eq!(disarm(armed), template);
        }
    }

    #[test]
    fn a_configuration_of_the_operators_is_left_alone() {
        let mut template = api_server_template();
        let spec = template.spec.as_mut().unwrap();
        spec.containers[0].command.as_mut().unwrap().push(format!("--{FLAG}=/etc/admission.yaml"));
        assert_eq!(arm(template.clone(), "0a1b"), Err(Foreign("/etc/admission.yaml".to_owned())));
        assert_eq!(disarm(template.clone()), template);
    }
}
