//! Taking a cluster away, whole or half made.
//!
//! Invariant: what is found first goes last: processes, groups, links, disks, and at the end the record.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::network::Subnet;
use super::spec::Name;
use super::state::{self, State};
use crate::cgroup::{Group, Layout};
use crate::paths;

/// Removes everything of the cluster `name`; its lock must be held.
pub(super) fn tear_down(name: &Name, layout: &Layout) -> Result<()> {
    let group = Group::of_cluster(layout, name.as_ref());
    group.kill()?;
    group.remove()?;
    let directory = state::directory(name);
    if let Some(state) = State::read(&directory)? {
        Subnet(state.subnet).remove(&state)?;
    }
    // The record goes last: without it nobody would know the rest.
    let nodes = directory.join("nodes");
    if nodes.exists() {
        fs::remove_dir_all(&nodes).with_context(|| format!("remove {}", nodes.display()))?;
    }
    fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))?;
    // These go with the last cluster.
    for around in Path::new(paths::STATE).ancestors().take(2) {
        if fs::remove_dir(around).is_err() {
            break;
        }
    }
    Ok(())
}
