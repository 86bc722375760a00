//! SIGKILL of the plugin at one step after the other: the cluster goes on serving, and the same command or `resume` finishes.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use selfhost_tests::drive::{Load, kill_at_each, planned_steps, run};
use selfhost_tests::left;
use selfhost_tests::tree::Tree;

use crate::common;

/// A pivot and an unpivot that are killed at every other of their steps. In the end the node is what it was.
/// `cargo bench-kills --sweep` does it at every step, and to an upgrade, too.
#[test]
fn killed_at_every_other_step() -> Result<()> {
    let cluster = common::cluster("kill", 1)?;
    let before = Tree::of(&cluster, "cp1", "/etc/kubernetes")?;
    let load = Load::start(&cluster, 200)?;
    for (first, arguments) in [["pivot", "--yes"], ["unpivot", "--yes"]].iter().enumerate() {
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
