//! The checkpoints of a node, as its standby's Pods show them.
//!
//! Invariant: pure. What is said of a checkpoint is what the kubelet says of the Pod that is made from it: nobody reads
//! the node's files.

use std::fmt;

use k8s_openapi::api::core::v1::Pod;

use super::{Inventory, recognize};

/// What is wrong with one of a node's two generations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// It does not run, and would not act.
    Ended {
        /// Which one.
        generation: u64,
        /// What its supervisor, or the kubelet, says.
        reason: String,
    },
    /// The kubelet shows no Pod for it: its manifest is gone, or is none any more.
    Missing {
        /// The generation that is still there.
        left: u64,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended { generation, reason } => write!(f, "checkpoint {generation} does not run: {reason}"),
            Self::Missing { left } => write!(f, "of two checkpoints only {left} is there"),
        }
    }
}

/// What is wrong with the checkpoints of `node`.
pub fn damage(inventory: &Inventory, node: &str) -> Vec<Damage> {
    let generations = inventory.standbys.get(node).map(Vec::as_slice).unwrap_or_default();
    let mut damage: Vec<Damage> = generations
        .iter()
        .filter_map(|pod| Some(Damage::Ended { generation: recognize::generation(pod), reason: ended(pod)? }))
        .collect();
    if let [only] = generations
        && recognize::generation(only) > 1
    {
        damage.push(Damage::Missing { left: recognize::generation(only) });
    }
    damage
}

/// Why some container of the Pod has ended; a supervisor and a gate run as long as their Pod.
fn ended(pod: &Pod) -> Option<String> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let broken = statuses.iter().find(|status| {
        let state = status.state.as_ref();
        state
            .is_some_and(|state| state.running.is_none() && (state.terminated.is_some() || was_ended(status)))
    })?;
    let of = |state: Option<&k8s_openapi::api::core::v1::ContainerState>| {
        let terminated = state?.terminated.as_ref()?;
        let words = terminated.message.as_deref().unwrap_or_default().trim();
        let words = words.lines().rfind(|line| line.starts_with("error:")).or_else(|| words.lines().last());
        Some(words.map_or_else(|| format!("exit code {}", terminated.exit_code), ToOwned::to_owned))
    };
    let reason = of(broken.state.as_ref()).or_else(|| of(broken.last_state.as_ref()))?;
    Some(format!("{}: {reason}", broken.name))
}

/// Whether the container ran before: one that never did is still being made.
fn was_ended(status: &k8s_openapi::api::core::v1::ContainerStatus) -> bool {
    status.last_state.as_ref().is_some_and(|state| state.terminated.is_some())
}
