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
use crate::{limits, lock, paths};

/// Record of raised limits, beside the clusters.
pub(super) const LIMITS: &str = ".limits.json";

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
    settle_up()
}

/// What goes with the last cluster: raised limits, and the directories around all clusters.
fn settle_up() -> Result<()> {
    let all = Path::new(paths::STATE);
    // Whoever has the lock is making a cluster.
    let Some(_lock) = lock::try_directory(all)? else { return Ok(()) };
    if state::names()?.is_empty() {
        limits::restore(&all.join(LIMITS))?;
        for around in all.ancestors().take(2) {
            if fs::remove_dir(around).is_err() {
                break;
            }
        }
    }
    Ok(())
}
