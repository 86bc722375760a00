//! SIGKILL of the plugin at every step: the cluster goes on serving, and the same command or `resume` finishes.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use selfhost_tests::drive::{Load, planned_steps, run, run_and_kill, step_of};
use selfhost_tests::tree::Tree;
use selfhost_tests::{Cluster, left};

use crate::common;

/// A pivot and an unpivot that are killed once at each of their steps, at its beginning and some time into it by turns. In
/// the end the node is what it was. `cargo bench-kills` does the same to an upgrade, and with more victims.
#[test]
fn killed_at_every_step() -> Result<()> {
    let cluster = common::cluster("kill", 1)?;
    let before = Tree::of(&cluster, "cp1", "/etc/kubernetes")?;
    let load = Load::start(&cluster, 200)?;
    // The steps come from the plans themselves, so that a new one cannot be forgotten.
    for arguments in [["pivot", "--yes"], ["unpivot", "--yes"]] {
        let planned = planned_steps(&cluster, &arguments)?;
        let killed = kill_everywhere(&cluster, &arguments, &planned)?;
        ensure!(killed == planned, "not killed at: {:?}", planned.difference(&killed).collect::<Vec<_>>());
        left::nothing_of_an_operation(&cluster)?;
    }
    let availability = load.stop()?;
    println!("{}", availability.table());
    availability.expect_none_failed()?;
    let status = run(&cluster, &["status", "-o", "json"])?.json()?;
    ensure!(common::hosting(&status) == ["static-pod"; 3], "{status:#}");
    let difference = before.difference(&Tree::of(&cluster, "cp1", "/etc/kubernetes")?);
    ensure!(difference.is_empty(), "/etc/kubernetes is not what it was: {difference:#?}");
    left::nothing(&cluster)
}

/// Runs the command, or `resume` by turns, again and again, and kills it at the first step at which it was not killed
/// before, until it ends by itself.
fn kill_everywhere(
    cluster: &Cluster,
    arguments: &[&str],
    planned: &BTreeSet<String>,
) -> Result<BTreeSet<String>> {
    let mut killed = BTreeSet::new();
    for round in 0..2 * planned.len() {
        let delay = Duration::from_millis([0, 700, 2500][round % 3]);
        let new =
            |line: &str| step_of(line).is_some_and(|step| planned.contains(step) && !killed.contains(step));
        let arguments = if round % 2 == 0 { arguments } else { &["resume", "--yes"] };
        let met = run_and_kill(cluster, arguments, delay, new)?;
        if met.is_empty() {
            return Ok(killed);
        }
        for step in met.iter().filter_map(|line| step_of(line)) {
            println!("killed at, or at most {} ms after, the beginning of: {step}", delay.as_millis());
            killed.insert(step.to_owned());
        }
    }
    anyhow::bail!("it does not end")
}
