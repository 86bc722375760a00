//! What a Kubewarden host reads of the policy before it runs it: a custom section of the module.
//!
//! Invariant: it names no more than what is guarded by name, and no more reads than rules make.

use std::collections::BTreeMap;

use selfhost_core::review::facts::KINDS;
use selfhost_core::rules::Reach;
use selfhost_core::scope;
use serde::Serialize;

use crate::{lookup, protocol};

/// The name of the custom section.
pub const SECTION: &str = "io.kubewarden.metadata";

const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    protocol_version: &'static str,
    rules: Vec<Rule>,
    annotations: BTreeMap<&'static str, String>,
    mutating: bool,
    background_audit: bool,
    execution_mode: &'static str,
    policy_type: &'static str,
    context_aware_resources: Vec<Kind>,
    host_capabilities: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    api_groups: [&'static str; 1],
    api_versions: [&'static str; 1],
    resources: &'static [&'static str],
    operations: Vec<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    api_version: &'static str,
    kind: &'static str,
}

/// The content of the section.
pub fn json() -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&metadata())
}

fn metadata() -> Metadata {
    Metadata {
        protocol_version: protocol::VERSION,
        rules: rules(),
        annotations: annotations(),
        mutating: false,
        // An audit sends what is there as if it were created, which the rules judge as a creation.
        background_audit: false,
        execution_mode: "kubewarden-wapc",
        policy_type: "kubernetes",
        context_aware_resources: KINDS.map(|(api_version, kind)| Kind { api_version, kind }).into(),
        host_capabilities: [lookup::GET, lookup::LIST_ALL, lookup::LIST]
            .map(|operation| format!("{}/{operation}", lookup::NAMESPACE))
            .into(),
    }
}

/// What is guarded by name, and nothing more: a policy's registration is made of this, and while whoever runs it does not
/// answer, nothing that it names can be written.
fn rules() -> Vec<Rule> {
    let named = scope::ALL.iter().filter(|scope| scope.reach == Reach::Named);
    named
        .map(|scope| Rule {
            api_groups: [scope.group],
            api_versions: ["*"],
            resources: scope.resources,
            operations: scope.operations.iter().map(|operation| operation.as_str()).collect(),
        })
        .collect()
}

fn annotations() -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("io.kubewarden.policy.title", "kubectl-selfhost-guard".to_owned()),
        ("io.kubewarden.policy.version", env!("CARGO_PKG_VERSION").to_owned()),
        (
            "io.kubewarden.policy.description",
            "Stops edits that would take a self-hosted Kubernetes control plane down or give its keys away"
                .to_owned(),
        ),
        ("io.kubewarden.policy.author", "kubectl-selfhost".to_owned()),
        ("io.kubewarden.policy.url", REPOSITORY.to_owned()),
        ("io.kubewarden.policy.source", REPOSITORY.to_owned()),
        ("io.kubewarden.policy.license", env!("CARGO_PKG_LICENSE").to_owned()),
        ("io.kubewarden.policy.usage", format!("{REPOSITORY}/blob/main/docs/reference/policy.md")),
        ("io.kubewarden.policy.severity", "critical".to_owned()),
        ("io.kubewarden.policy.category", "Control plane".to_owned()),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn metadata_is_what_hosts_read() {
        insta::assert_json_snapshot!(serde_json::from_slice::<Value>(&json().unwrap()).unwrap());
    }
}
