//! `cargo bench-power-cuts`: every control-plane node loses its power at once, at random moments of every operation.

use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::random::Random;
use super::{fresh, say, selfhost};
use crate::cluster::{Cluster, DEFAULT_VERSION, UPGRADE_VERSION};
use crate::drive::{at_rest, ready_within, run as run_plugin, selfhost as plugin, whole};
use crate::left;
use crate::progress::Progress;

/// From the kubelet's start to an API server that is ready.
const BACK: Duration = Duration::from_secs(60);

/// What is going on when the power is cut, in an order in which each can follow the one before, and about how many
/// seconds it takes for each node: the cut is in there somewhere.
const COURSE: [(&[&str], u64); 6] = [
    (&["pivot", "--yes"], 60),
    (&[], 30),
    (&["upgrade", UPGRADE_VERSION, "--yes"], 70),
    (&["checkpoint", "refresh", "--yes"], 6),
    (&["upgrade", "--rollback", DEFAULT_VERSION, "--yes"], 70),
    (&["unpivot", "--yes"], 100),
];

pub(super) fn run(times: u32, control_planes: u8, seed: Option<u64>, progress: &Progress) -> Result<()> {
    let (mut random, seed) = Random::new(seed);
    say(&format!("seed {seed}"))?;
    let cluster = fresh("bench-power-cuts", control_planes, progress)?;
    say("CUT  DURING                       AFTER    READY  THEN")?;
    let mut slowest = Duration::ZERO;
    for (cut, (arguments, seconds)) in (1..=times).zip(COURSE.iter().cycle()) {
        let name = format!("cut-{cut}");
        cluster.kubectl(&["create", "configmap", &name])?;
        let after = Duration::from_millis(random.below(seconds * 1000 * u64::from(control_planes)));
        let began = begin(&cluster, arguments, after)?;
        cluster.control_planes().into_iter().try_for_each(|node| cluster.power_cut(node))?;
        end(began);
        cluster.control_planes().into_iter().try_for_each(|node| cluster.boot(node))?;
        let ready = ready_within(&cluster, BACK).with_context(|| format!("cut {cut} (seed {seed})"))?;
        slowest = slowest.max(ready);
        let then = finish(&cluster, arguments).with_context(|| format!("cut {cut} (seed {seed})"))?;
        cluster.kubectl(&["get", "configmap", &name])?;
        let what = if arguments.is_empty() { "rest".to_owned() } else { arguments.join(" ") };
        say(&format!(
            "{cut:>3}  {what:<28} {:>4.1}s  {:>5.1}s  {then}",
            after.as_secs_f64(),
            ready.as_secs_f64()
        ))?;
    }
    say(&format!("{times} power cuts: the API was ready after {:.1} s at most", slowest.as_secs_f64()))
}

/// Begins the operation, and lets it run for `after`; an operation that is done by then has left nothing to interrupt.
fn begin(cluster: &Cluster, arguments: &[&str], after: Duration) -> Result<Option<Child>> {
    let child = if arguments.is_empty() {
        None
    } else {
        let mut command = plugin(cluster, arguments)?;
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Some(command.spawn().context("run the plugin")?)
    };
    thread::sleep(after);
    Ok(child)
}

/// Whoever ran the operation sits at another machine, and gives up.
fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// What an operator does after a power cut: look, and finish what was begun. Tells what that was.
fn finish(cluster: &Cluster, arguments: &[&str]) -> Result<&'static str> {
    at_rest(cluster)?;
    let resumed = run_plugin(cluster, &["resume", "--yes"])?.success()?;
    let nothing = resumed.out.contains("nothing to do");
    // One that had not come to its lock has to be begun again; for one that is done that is nothing.
    if !arguments.is_empty() {
        selfhost(cluster, arguments)?;
    }
    if arguments.first() == Some(&"unpivot") {
        left::nothing(cluster)?;
    } else {
        whole(cluster)?;
        left::nothing_of_an_operation(cluster)?;
    }
    let status = run_plugin(cluster, &["status", "-o", "json", "--fail-on", "never"])?.json()?;
    let findings = status["findings"].as_array().into_iter().flatten();
    // That everything was started again is what a power cut does.
    let serious = findings.filter(|finding| finding["code"] != "SH0104").count();
    ensure!(serious == 0, "{status:#}");
    Ok(if nothing { "whole" } else { "resumed" })
}
