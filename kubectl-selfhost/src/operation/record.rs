//! What an operation writes down before its first change: where it began, and how it was asked for.
//!
//! Invariant: written once, and never overwritten by whoever goes on. With it alone `resume` knows the rest, and
//! `abort` the way back.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PodTemplateSpec;
use selfhost_core::component::{Component, Hosting};
use selfhost_core::etcd::EtcdTag;
use selfhost_core::version::KubeVersion;
use serde::{Deserialize, Serialize};

use crate::inventory::Inventory;
use crate::plan::upgrade::recorded_version;
use crate::plan::{Plan, Scope};

/// How an operation was asked for, beyond its goal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Asked {
    /// `upgrade --image-repository`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_repository: Option<String>,
    /// `upgrade --etcd`, with the tag that was meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdTag>,
    /// `guard install`: the credential that API servers are to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard_credential: Option<String>,
    /// `unpivot --discard-changes`.
    pub discard_changes: bool,
}

/// Where an operation began, and how it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// How it was asked for.
    pub asked: Asked,
    /// The components that were static Pods, by node.
    pub static_pods: BTreeMap<String, BTreeSet<Component>>,
    /// What each DaemonSet made its Pods from; none where the operation does not change that.
    pub templates: BTreeMap<Component, PodTemplateSpec>,
    /// `kubernetesVersion` in kubeadm's ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeadm_version: Option<KubeVersion>,
}

impl Record {
    /// What is to be written down before `plan` is carried out. `before` are the templates that the Pods run now.
    pub fn new(
        inventory: &Inventory,
        plan: &Plan,
        asked: &Asked,
        before: BTreeMap<Component, PodTemplateSpec>,
    ) -> Self {
        let mut static_pods: BTreeMap<String, BTreeSet<Component>> = BTreeMap::new();
        for instance in inventory.instances.iter().filter(|i| i.hosting == Hosting::StaticPod) {
            static_pods.entry(instance.node.clone()).or_default().insert(instance.component);
        }
        let templates = if plan.goal.changes_templates() { before } else { BTreeMap::new() };
        let kubeadm_version = inventory.kubeadm.as_deref().and_then(recorded_version);
        Self { asked: asked.clone(), static_pods, templates, kubeadm_version }
    }

    /// What was static when the operation began.
    pub fn was_static(&self) -> Scope {
        self.static_pods
            .iter()
            .flat_map(|(node, components)| components.iter().map(|component| (*component, node.clone())))
            .collect()
    }
}
