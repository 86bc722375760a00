//! SIGKILL of the plugin at every step: the cluster goes on serving, and the same command or `resume` finishes.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use selfhost_tests::Cluster;
use selfhost_tests::drive::{Load, run, run_and_kill};

use crate::common;

/// A pivot and an upgrade that are killed once at each of their steps, at its beginning and some time into it by turns.
#[test]
fn killed_at_every_step() -> Result<()> {
    let cluster = common::cluster("kill", 1)?;
    let load = Load::start(&cluster, 200)?;
    // The steps come from the plans themselves, so that a new one cannot be forgotten.
    for arguments in [&["pivot", "--yes"][..], &["upgrade", "v1.37.2", "--yes"]] {
        let planned = planned(&cluster, arguments)?;
        let killed = kill_everywhere(&cluster, arguments, &planned)?;
        ensure!(killed == planned, "not killed at: {:?}", planned.difference(&killed).collect::<Vec<_>>());
        common::nothing_left(&cluster)?;
    }
    let availability = load.stop()?;
    println!("{}", availability.table());
    availability.expect_none_failed()?;
    let status = run(&cluster, &["status", "-o", "json"])?.json()?;
    ensure!(common::hosting(&status) == ["self-hosted"; 3], "{status:#}");
    ensure!(common::versions(&status) == ["v1.37.2"; 3], "{status:#}");
    Ok(())
}

/// The names of the plan's steps, from its own dry run.
fn planned(cluster: &Cluster, arguments: &[&str]) -> Result<BTreeSet<String>> {
    let dry = run(cluster, &[arguments, &["--dry-run=client", "-o", "wide"]].concat())?.success()?;
    let table = dry.out.lines().skip_while(|line| !line.starts_with("STEP")).skip(1);
    let steps: BTreeSet<String> = table
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (node, component) = (words.next()?, words.next()?);
            Some(step_name(node, component, &words.collect::<Vec<_>>().join(" ")))
        })
        .collect();
    ensure!(steps.len() > 10, "{}", dry.out);
    Ok(steps)
}

/// The name as progress lines have it.
fn step_name(node: &str, component: &str, action: &str) -> String {
    match (node, component) {
        ("-", "-") => action.to_owned(),
        (node, "-") => format!("{node} {action}"),
        ("-", component) => format!("{component}: {action}"),
        (node, component) => format!("{node} {component}: {action}"),
    }
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
            |line: &str| step(line).is_some_and(|step| planned.contains(step) && !killed.contains(step));
        let arguments = if round % 2 == 0 { arguments } else { &["resume", "--yes"] };
        let met = run_and_kill(cluster, arguments, delay, new)?;
        if met.is_empty() {
            return Ok(killed);
        }
        for step in met.iter().filter_map(|line| step(line)) {
            println!("killed at, or at most {} ms after, the beginning of: {step}", delay.as_millis());
            killed.insert(step.to_owned());
        }
    }
    anyhow::bail!("it does not end")
}

/// The step in a progress line: `  12.3s [ 4/20] cp1 kube-apiserver: replace Pod`.
fn step(line: &str) -> Option<&str> {
    let (clock, rest) = line.trim_start().split_once(" [")?;
    clock.strip_suffix('s')?.parse::<f64>().ok()?;
    Some(rest.split_once("] ")?.1)
}
