//! `cargo bench-...`: the figures that the project publishes, and the tests that take hours.
//!
//! Invariant: every figure is measured in this run, beside what it is compared with; nothing is read from a file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};

use crate::cluster::{Cluster, UPGRADE_VERSION};
use crate::demo::build;
use crate::drive::{self, Availability, Load, Series};
use crate::leaders::Leaders;
use crate::progress::Progress;
use crate::{Spec, host, refusal};

mod etcd;
mod faults;
mod footprint;
mod kills;
mod lockout;
mod power_cuts;
mod random;
mod round_trip;
mod two_step;

/// Load in requests per second.
const RATE: u32 = 200;

/// What users of a tool notice as an interruption, in seconds: the longest gap that the project allows itself.
const ALLOWED_GAP: f64 = 1.0;

/// The figures that the project publishes, measured on this machine.
#[derive(Debug, Parser)]
#[command(name = "cargo bench", bin_name = "bench")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Pivot and upgrade of a fresh cluster under load, again and again.
    Repeat {
        /// How often.
        #[arg(long, default_value_t = 10)]
        times: u32,
        /// Control-plane nodes: 1, or 3 behind a load balancer.
        #[arg(long, default_value_t = 1)]
        control_planes: u8,
    },
    /// `kubeadm upgrade apply` and `kubectl selfhost upgrade` on equal clusters under the same load.
    Upgrade,
    /// Pivot and unpivot by turns under load; each time the node's files must be what they were.
    RoundTrip {
        /// How often.
        #[arg(long, default_value_t = 3)]
        times: u32,
    },
    /// A minor upgrade in two steps under load, taken back in between.
    TwoStep,
    /// Power cuts of every control-plane node at random moments of every operation.
    PowerCuts {
        /// How many.
        #[arg(long, default_value_t = 20)]
        times: u32,
        /// Control-plane nodes: 1, or 3, which lose their power all at once.
        #[arg(long, default_value_t = 1)]
        control_planes: u8,
        /// Where the moments come from; a run is repeated with the seed that it printed.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Every step of every operation, with every victim, resumed and aborted.
    Kills {
        #[command(flatten)]
        selection: kills::Selection,
    },
    /// etcd with three members: upgraded under load, backed up, restored.
    Etcd,
    /// What speaks against an operation, one fault after the other.
    Faults,
    /// A guard that does not answer, in every way, and a power cut of the only node.
    Lockout,
    /// Size of the plugin, how long its help takes, and what a dormant standby costs.
    Footprint,
}

/// The bench, from the arguments of this process to its exit code.
pub fn main() -> ExitCode {
    refusal::exit_code(run(&Cli::parse().what).map(|()| ExitCode::SUCCESS))
}

fn run(what: &What) -> Result<()> {
    let progress = Progress::stderr();
    host::check()?;
    build(&progress)?;
    match what {
        What::Repeat { times, control_planes } => repeat(*times, *control_planes, &progress),
        What::Upgrade => compare(&progress),
        What::RoundTrip { times } => round_trip::run(*times, &progress),
        What::TwoStep => two_step::run(&progress),
        What::PowerCuts { times, control_planes, seed } => {
            power_cuts::run(*times, *control_planes, *seed, &progress)
        }
        What::Kills { selection } => kills::run(selection, &progress),
        What::Etcd => etcd::run(&progress),
        What::Faults => faults::run(&progress),
        What::Lockout => lockout::run(&progress),
        What::Footprint => footprint::run(&progress),
    }
}

/// What one operation under load came to.
struct Row {
    what: String,
    took: Duration,
    availability: Availability,
    /// The longest time without a leader, of controller manager or scheduler.
    leaderless: Duration,
}

impl Row {
    fn measure(what: &str, cluster: &Cluster, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let leaders = Leaders::watch(cluster)?;
        let load = Load::start(cluster, RATE)?;
        let begin = Instant::now();
        work()?;
        let took = begin.elapsed();
        let availability = load.stop()?;
        let leaderless = leaders.stop()?.into_iter().map(|(_, gap)| gap).max().unwrap_or_default();
        Ok(Self { what: what.to_owned(), took, availability, leaderless })
    }

    /// What failed, where, and how.
    fn failures(&self) -> Vec<String> {
        let of_series = |one: Series| {
            let name = one.name;
            one.failures.into_iter().map(move |failure| format!("{name}: {failure}"))
        };
        self.availability.series().into_iter().flat_map(of_series).collect()
    }

    const HEADER: &str =
        "WHAT                       SECONDS  REQUESTS  FAILED  RETRY-AFTER  LONGEST-GAP  GAPS>1S  NO-LEADER";

    fn line(&self) -> String {
        let (requests, failed, later) = self.availability.totals();
        let gaps = self.availability.series().iter().filter(|one| one.longest_gap >= ALLOWED_GAP).count();
        format!(
            "{:<26} {:>7.1}  {requests:>8}  {failed:>6}  {later:>11}  {:>10.2}s  {gaps:>7}  {:>8.2}s",
            self.what,
            self.took.as_secs_f64(),
            self.availability.longest_gap(),
            self.leaderless.as_secs_f64()
        )
    }
}

fn fresh(name: &str, control_planes: u8, progress: &Progress) -> Result<Cluster> {
    fresh_with(&Spec { control_planes, ..Spec::new(name.parse()?) }, progress)
}

fn fresh_with(spec: &Spec, progress: &Progress) -> Result<Cluster> {
    let cluster = Cluster::up(spec, progress)?;
    progress.step("the control plane has settled", || drive::settled(&cluster))?;
    Ok(cluster)
}

fn selfhost(cluster: &Cluster, arguments: &[&str]) -> Result<()> {
    drive::run(cluster, arguments)?.success().map(drop)
}

fn repeat(times: u32, control_planes: u8, progress: &Progress) -> Result<()> {
    say(Row::HEADER)?;
    let mut rows = Vec::new();
    for round in 1..=times {
        let cluster = fresh("bench-repeat", control_planes, progress)?;
        for arguments in [&["pivot", "--yes"][..], &["upgrade", UPGRADE_VERSION, "--yes"]] {
            let what = format!("{round}: {}", arguments[0]);
            let row = Row::measure(&what, &cluster, || selfhost(&cluster, arguments))?;
            say(&row.line())?;
            for failure in row.failures() {
                say(&format!("  {failure}"))?;
            }
            rows.push(row);
        }
    }
    say("")?;
    say(&places(&rows))?;
    let failed: u64 = rows.iter().map(|row| row.availability.totals().1).sum();
    let requests: u64 = rows.iter().map(|row| row.availability.totals().0).sum();
    let gap = rows.iter().map(|row| row.availability.longest_gap()).fold(0.0, f64::max);
    say(&format!(
        "{} operations: {failed} of {requests} requests failed, longest gap {gap:.2}s",
        rows.len()
    ))?;
    ensure!(failed == 0, "{failed} requests failed");
    Ok(())
}

/// What all operations together cost each place and kind of connection.
fn places(rows: &[Row]) -> String {
    let mut places: BTreeMap<String, (u64, u64, f64)> = BTreeMap::new();
    for one in rows.iter().flat_map(|row| row.availability.series()) {
        let (requests, failed, gap) = places.entry(one.name).or_default();
        *requests += one.requests;
        *failed += one.failed;
        *gap = gap.max(one.longest_gap);
    }
    let mut text = "LOAD               REQUESTS  FAILED  LONGEST-GAP\n".to_owned();
    for (name, (requests, failed, gap)) in places {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<18} {requests:>8}  {failed:>6}  {gap:>10.2}s");
    }
    text
}

fn compare(progress: &Progress) -> Result<()> {
    let theirs = {
        let cluster = fresh("bench-kubeadm", 1, progress)?;
        progress.step("kubeadm upgrade apply", || {
            Row::measure("kubeadm upgrade apply", &cluster, || kubeadm_upgrade(&cluster))
        })?
    };
    let ours = {
        let cluster = fresh("bench-selfhost", 1, progress)?;
        progress.step("kubectl selfhost pivot", || selfhost(&cluster, &["pivot", "--yes"]))?;
        progress.step("kubectl selfhost upgrade", || {
            Row::measure("kubectl selfhost upgrade", &cluster, || {
                selfhost(&cluster, &["upgrade", UPGRADE_VERSION, "--yes"])
            })
        })?
    };
    say(Row::HEADER)?;
    for row in [&theirs, &ours] {
        say(&row.line())?;
    }
    say(&format!(
        "kubectl selfhost takes {:.2} of kubeadm's time",
        ours.took.as_secs_f64() / theirs.took.as_secs_f64()
    ))?;
    for row in [&theirs, &ours] {
        say(&format!("\n{}:\n{}", row.what, row.availability.table()))?;
    }
    let (_, failed, _) = ours.availability.totals();
    ensure!(failed == 0, "{failed} requests failed in our own upgrade");
    Ok(())
}

/// As on any kubeadm node, but for what the bed does not have: packages to check, addons, another etcd.
fn kubeadm_upgrade(cluster: &Cluster) -> Result<()> {
    let kubeadm = format!("/run/bed-binaries/{UPGRADE_VERSION}/kubeadm");
    let status = cluster
        .command("cp1", &kubeadm)?
        .args(["upgrade", "apply", UPGRADE_VERSION, "--yes", "--etcd-upgrade=false"])
        .args(["--skip-phases=preflight,addon"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("run kubeadm")?;
    ensure!(status.success(), "kubeadm upgrade apply ended with {status}");
    Ok(())
}

fn say(text: &str) -> Result<()> {
    Ok(writeln!(anstream::stdout().lock(), "{text}")?)
}
