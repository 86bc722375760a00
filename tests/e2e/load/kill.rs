//! SIGKILL of the plugin at one step after the other: the cluster goes on serving, and the same command or `resume` finishes,
//! or `abort` brings it back to where it began.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use selfhost_tests::cluster::Cluster;
use selfhost_tests::drive::{Load, kill_at_each, planned_steps, run, run_and_kill, step_of};
use selfhost_tests::left;
use selfhost_tests::tree::Tree;

use crate::common;

/// A pivot and an unpivot that are killed at every other of their steps, and each aborted once before. In the end the node is
/// what it was. `cargo bench-kills` does it at every step, and to an upgrade, too.
#[test]
fn killed_at_every_other_step() -> Result<()> {
    let cluster = common::cluster("kill", 1)?;
    let before = Tree::of(&cluster, "cp1", "/etc/kubernetes")?;
    let load = Load::start(&cluster, 200)?;
    // The one while a bridge serves beside what it stands in for, the other while it is all that serves.
    let aborted = ["cp1 kube-apiserver: write checkpoint", "cp1 kube-apiserver: put static manifest back"];
    for (first, arguments) in [["pivot", "--yes"], ["unpivot", "--yes"]].iter().enumerate() {
        abort(&cluster, arguments, aborted[first])?;
        if first == 0 {
            left::nothing(&cluster)?;
        }
        // The steps come from the plans themselves, so that a new one cannot be forgotten.
        let planned = planned_steps(&cluster, arguments)?;
        let steps: BTreeSet<String> = planned.into_iter().skip(first).step_by(2).collect();
        kill_at_each(&cluster, arguments, &steps, |kill| println!("{kill}"))?;
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

/// Kills the operation at the step, aborts it, and demands that everything is hosted as it was.
fn abort(cluster: &Cluster, arguments: &[&str], step: &str) -> Result<()> {
    let status = || run(cluster, &["status", "-o", "json", "--fail-on", "never"])?.json();
    let before = status()?;
    let at_step = |line: &str| step_of(line) == Some(step);
    let killed = run_and_kill(cluster, arguments, Duration::from_millis(300), at_step)?;
    ensure!(!killed.met.is_empty(), "{arguments:?} did not come to {step}");
    let report = run(cluster, &["abort", "--yes", "-o", "json"])?.success()?.json()?;
    ensure!(report["changed"] == true, "{report:#}");
    let after = status()?;
    ensure!(common::hosting(&after) == common::hosting(&before), "{after:#}");
    left::nothing_of_an_operation(cluster)
}
