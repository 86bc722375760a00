//! `cargo bench-guard`: what a verdict takes in each host, in one run.
//!
//! Invariant: the three take turns, request by request, so that whatever else the machine does hits all of them alike. What
//! counts are the ratios.

use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use selfhost_compare::times::Times;
use selfhost_compare::{Case, Hosts, cases, empty, fixtures, module};

/// Measures what a verdict takes: the rules by themselves, the guard's host, Kubewarden's host with the same module.
#[derive(Debug, Parser)]
#[command(name = "cargo bench-guard", bin_name = "cargo bench-guard")]
struct Cli {
    /// How often each request is judged by each.
    #[arg(long, default_value = "500")]
    rounds: usize,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let hosts = Hosts::new(&module()?)?;
    let mut cases = cases(&fixtures(), &hosts)?;
    cases.insert(0, empty());
    let mut out = anstream::stdout().lock();
    writeln!(
        out,
        "{:<24} {:>21} {:>21} {:>21} {:>11} {:>11}",
        "", "rules", "guard", "Kubewarden's", "to rules", "to Kubewd."
    )?;
    writeln!(
        out,
        "{:<24} {:>21} {:>21} {:>21} {:>11} {:>11}",
        "request", "p50 p99 us", "p50 p99 us", "p50 p99 us", "p50", "p50 p99"
    )?;
    for case in &cases {
        let [rules, own, other] = measure(&hosts, case, cli.rounds)?;
        let cell = |times: &Times| {
            format!("{:.0} {:.0}", microseconds(times.per_mille(500)), microseconds(times.per_mille(990)))
        };
        let ratio = |of: &Times, to: &Times, per_mille| {
            microseconds(of.per_mille(per_mille)) / microseconds(to.per_mille(per_mille))
        };
        writeln!(
            out,
            "{:<24} {:>21} {:>21} {:>21} {:>11.2} {:>11}",
            case.name,
            cell(&rules),
            cell(&own),
            cell(&other),
            ratio(&own, &rules, 500),
            format!("{:.2} {:.2}", ratio(&own, &other, 500), ratio(&own, &other, 990)),
        )?;
    }
    Ok(())
}

fn measure(hosts: &Hosts, case: &Case, rounds: usize) -> Result<[Times; 3]> {
    let mut times = [const { Vec::new() }; 3];
    // The first tenth warms caches and pools up.
    for round in 0..rounds + rounds / 10 {
        let taken =
            [time(|| Ok(hosts.native(case)))?, time(|| hosts.own(case))?, time(|| hosts.other(case))?];
        if round >= rounds / 10 {
            for (all, one) in times.iter_mut().zip(taken) {
                all.push(one);
            }
        }
    }
    Ok(times.map(Times::new))
}

fn time<T>(work: impl FnOnce() -> Result<T>) -> Result<Duration> {
    let begun = Instant::now();
    black_box(work()?);
    Ok(begun.elapsed())
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
