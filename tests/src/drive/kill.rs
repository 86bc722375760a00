//! SIGKILL of the plugin at one step after the other.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::{run_and_kill, step_of};
use crate::cluster::Cluster;

/// Runs the command, or `resume` by turns, again and again, and kills it once at each of `steps`, at its beginning and some
/// time into it by turns, until it ends by itself. `tell` is called with each kill.
pub fn kill_at_each(
    cluster: &Cluster,
    arguments: &[&str],
    steps: &BTreeSet<String>,
    mut tell: impl FnMut(&str),
) -> Result<()> {
    let mut killed = BTreeSet::new();
    for round in 0..2 * steps.len() {
        let delay = Duration::from_millis([0, 700, 2500][round % 3]);
        let new =
            |line: &str| step_of(line).is_some_and(|step| steps.contains(step) && !killed.contains(step));
        let arguments = if round % 2 == 0 { arguments } else { &["resume", "--yes"] };
        let met = run_and_kill(cluster, arguments, delay, new)?.met;
        if met.is_empty() {
            ensure!(killed == *steps, "not killed at: {:?}", steps.difference(&killed).collect::<Vec<_>>());
            return Ok(());
        }
        for step in met.iter().filter_map(|line| step_of(line)) {
            tell(&format!("killed at, or at most {} ms after, the beginning of: {step}", delay.as_millis()));
            killed.insert(step.to_owned());
        }
    }
    bail!("{arguments:?} does not end")
}
