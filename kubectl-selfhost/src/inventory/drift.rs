//! Pods that are not what their DaemonSet says.

use k8s_openapi::api::apps::v1::DaemonSet;
use selfhost_core::component::{Component, Hosting};

use super::{Inventory, recognize};

/// The Pods' label with the generation of the template that they were made from; the DaemonSet controller sets it
/// from [`TEMPLATE_GENERATION`].
const POD_GENERATION: &str = "pod-template-generation";

/// The DaemonSet's annotation with the generation of its template (k8s.io/api, `apps/v1`,
/// `DeprecatedTemplateGeneration`; in use, whatever its name says).
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// The nodes whose Pod was made from an older template.
pub fn stale_nodes<'a>(
    inventory: &'a Inventory,
    component: Component,
    daemonset: &DaemonSet,
) -> Vec<&'a str> {
    let Some(wanted) = daemonset.metadata.annotations.as_ref().and_then(|all| all.get(TEMPLATE_GENERATION))
    else {
        return Vec::new();
    };
    // A template that was edited back has a new generation, and Pods that are as they should be: the controller,
    // which compares contents, knows. Its count is about the generation that it has seen.
    let status = daemonset.status.as_ref();
    let seen = status.and_then(|status| status.observed_generation) == daemonset.metadata.generation;
    if let Some(status) = status.filter(|_| seen)
        && status.updated_number_scheduled.unwrap_or(0) >= status.current_number_scheduled
    {
        return Vec::new();
    }
    inventory
        .instances
        .iter()
        .filter(|it| it.component == component && it.hosting == Hosting::SelfHosted)
        .filter(|it| recognize::label(&it.pod, POD_GENERATION).is_some_and(|made_from| made_from != wanted))
        .map(|it| it.node.as_str())
        .collect()
}
