//! Pod templates: from the Pod that runs a component now to the DaemonSet that hosts it, and to its bridge.
//!
//! Invariant: pure. One template serves every node: what differs by node is a downward-API value, and whatever else
//! differs is refused, with the difference, before anything is changed.

pub mod bridge;
pub mod emulation;
pub mod guard;
pub mod kept;
pub mod normalize;
pub mod standby;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use selfhost_core::component::Component;
use selfhost_core::labels;
use selfhost_core::version::{self, KubeVersion, MinorVersion};
use sha2::{Digest, Sha256};

pub use normalize::{TemplateError, normalize};

/// The image of the component's container in `template`.
pub fn image(component: Component, template: &PodTemplateSpec) -> Option<&str> {
    let containers = &template.spec.as_ref()?.containers;
    containers.iter().find(|c| c.name == component.name())?.image.as_deref()
}

/// The component's whole command line: command and arguments.
pub fn command_line(component: Component, template: &PodTemplateSpec) -> Vec<String> {
    let container = template
        .spec
        .as_ref()
        .and_then(|spec| spec.containers.iter().find(|container| container.name == component.name()));
    container.map_or_else(Vec::new, |container| {
        let command = container.command.iter().flatten();
        command.chain(container.args.iter().flatten()).cloned().collect()
    })
}

/// The same template at another version: the image's tag is replaced, it emulates `emulated` or what its operator chose,
/// and the hash is renewed. Nothing else changes.
pub fn at_version(
    component: Component,
    mut template: PodTemplateSpec,
    target: &KubeVersion,
    repository: Option<&str>,
    emulated: Option<MinorVersion>,
) -> PodTemplateSpec {
    let spec = template.spec.get_or_insert_default();
    for container in spec.containers.iter_mut().filter(|container| container.name == component.name()) {
        if let Some(image) = &mut container.image {
            *image = match repository {
                Some(repository) => format!("{}/{component}:{target}", repository.trim_end_matches('/')),
                None => version::retag(image, target),
            };
        }
    }
    emulation::set(component, &mut template, emulated);
    seal(template)
}

/// The template with the annotation that tells its hash.
///
/// The hash covers the whole Pod spec, so that a running Pod can be compared with what is wanted without a guess
/// about defaults that the API server fills in.
pub fn seal(mut template: PodTemplateSpec) -> PodTemplateSpec {
    let hash = hash(&template);
    let annotations = template.metadata.get_or_insert_default().annotations.get_or_insert_default();
    annotations.insert(labels::TEMPLATE_HASH.to_owned(), hash);
    template
}

/// The hash in the annotation of a template or of a Pod made from it.
pub fn sealed_hash(metadata: &ObjectMeta) -> Option<&str> {
    metadata.annotations.as_ref()?.get(labels::TEMPLATE_HASH).map(String::as_str)
}

/// Sixteen hexadecimal digits of the SHA-256 of the template's spec, as JSON with sorted keys.
fn hash(template: &PodTemplateSpec) -> String {
    let value = serde_json::to_value(&template.spec).expect("a Pod spec is always JSON");
    short_hash(value.to_string().as_bytes())
}

/// Sixteen hexadecimal digits of the SHA-256 of `bytes`.
pub fn short_hash(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().take(8).fold(String::with_capacity(16), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

/// The DaemonSet that hosts `component` with `template` on every node that carries the component's label.
///
/// `OnDelete`: an edit never rolls by itself; a swap is always an act of this tool.
pub fn daemonset(component: Component, template: PodTemplateSpec) -> DaemonSet {
    let app = BTreeMap::from([(labels::K8S_APP.to_owned(), component.daemonset_name().to_owned())]);
    DaemonSet {
        metadata: ObjectMeta {
            name: Some(component.daemonset_name().to_owned()),
            namespace: Some(labels::NAMESPACE.to_owned()),
            labels: Some(app.clone()),
            ..ObjectMeta::default()
        },
        spec: DaemonSetSpec {
            selector: LabelSelector { match_labels: Some(app), ..LabelSelector::default() },
            template,
            update_strategy: Some(DaemonSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                rolling_update: None,
            }),
            ..DaemonSetSpec::default()
        },
        status: None,
    }
}
