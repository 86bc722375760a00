//! `cargo bench-guard-host`: what the guard's server takes, and what it does where it is given too much.
//!
//! Invariant: every figure is measured in this run and printed beside what it should be. None is asserted: they depend on the
//! machine, and on what else runs there.

use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use selfhost_admission::engine::{Engine, Limits, Program as Policy};
use selfhost_compare::harm::{self, Harm};
use selfhost_compare::module;
use selfhost_compare::process::{Memory, Program};
use selfhost_compare::rig::{Server, runtime};
use selfhost_compare::times::{ClockId, Stopwatch, Taken, Times, milliseconds};
use selfhost_compare::traffic::{Client, TIMEOUT};

/// Measures the guard's server: memory, cold start, guests that do harm, more reviews than it can judge.
#[derive(Debug, Parser)]
#[command(name = "cargo bench-guard-host", bin_name = "cargo bench-guard-host")]
struct Cli {
    /// A tenth of everything: to see that it works.
    #[arg(long)]
    quick: bool,
}

/// Reviews a second where memory is measured, and connections of an open loop.
const RATE: u32 = 1000;
const CONNECTIONS: u32 = 32;

/// Reviews a second beside guests that do harm: what the processor that is left has time for.
const NEIGHBOURS: u32 = 300;

/// Connections of a closed loop. What is best of these is the peak.
const CLOSED: [u32; 3] = [4, 16, 64];

/// The flood: so many times the peak, on so many connections with so many reviews at a time each, which is more than the
/// queue has places for.
const FLOOD: u32 = 10;
const FLOOD_CONNECTIONS: u32 = 32;
const FLOOD_WINDOW: u32 = 32;

/// How often each is done, and for how long.
struct Plan {
    starts: u32,
    idle: Duration,
    load: Duration,
    harms: u32,
    rounds: u32,
    round: Duration,
    flood: Duration,
}

impl Plan {
    fn new(quick: bool) -> Self {
        let seconds = |seconds| Duration::from_secs(seconds) / if quick { 10 } else { 1 };
        Self {
            starts: if quick { 2 } else { 10 },
            // By then the policy was tried once more.
            idle: seconds(15),
            load: seconds(20),
            harms: if quick { 10 } else { 100 },
            rounds: if quick { 1 } else { 4 },
            round: seconds(5),
            flood: seconds(10),
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let plan = Plan::new(Cli::parse().quick);
    let module = module()?;
    let [program, anew] = [Program::ahead(&module)?, Program::new(&module)?];
    row("figure", "measured", "target")?;
    memory(&plan, &program, &anew).await?;
    cold_start(&plan, &program, &anew)?;
    compilation(&plan, &module)?;
    for harm in [Harm::Runaway, Harm::MemoryBomb] {
        harms(&plan, harm).await?;
    }
    overload(&plan, &program).await
}

fn row(figure: &str, measured: impl Display, target: &str) -> Result<()> {
    Ok(writeln!(anstream::stdout().lock(), "{figure:<40} {measured:<56} {target}")?)
}

async fn memory(plan: &Plan, program: &Program, anew: &Program) -> Result<()> {
    let [process, other] = [program.start()?, anew.start()?];
    tokio::time::sleep(plan.idle).await;
    for (figure, process, target) in
        [("resident, idle", &process, "30 MiB"), ("  where it compiled its module", &other, "")]
    {
        let Memory { resident, peak } = process.memory()?;
        row(figure, format!("{} MiB ({} at the most since its start)", mib(resident), mib(peak)), target)?;
    }
    drop(other);
    process.forget_peak()?;
    let results = process.client.open_loop(RATE, plan.load, CONNECTIONS).await;
    let Memory { resident, peak } = process.memory()?;
    row(
        &format!("resident, {RATE} reviews a second"),
        format!("{} MiB ({} at the most)", mib(resident), mib(peak)),
        "80 MiB",
    )?;
    row("  those reviews", latency(results), "")
}

fn cold_start(plan: &Plan, program: &Program, anew: &Program) -> Result<()> {
    let (mut ahead, mut compiled) = (Vec::new(), Vec::new());
    // They take turns, so that what else the machine does hits both.
    for _ in 0..plan.starts {
        for (program, starts) in [(program, &mut ahead), (anew, &mut compiled)] {
            let process = program.start()?;
            starts.push((process.ready, process.processor));
        }
    }
    for (figure, starts, target) in
        [("cold start until it is ready", ahead, "100 ms"), ("  where it compiles its module", compiled, "")]
    {
        let (ready, processor) = starts.into_iter().unzip();
        row(figure, spread(&Times::new(ready)), target)?;
        row("  processor time until then", spread(&Times::new(processor)), "")?;
    }
    let checks = (0..plan.starts).map(|_| program.check()).collect::<Result<_>>()?;
    row("  load and try the policy, and end", spread(&Times::new(checks)), "")
}

fn compilation(plan: &Plan, module: &[u8]) -> Result<()> {
    let compile = |_| -> Result<_> {
        let runtime = runtime()?;
        let stopwatch = Stopwatch::start(ClockId::ProcessCPUTime);
        Policy::compile(&runtime, module)?;
        let Taken { wall, processor } = stopwatch.stop();
        Ok((wall, processor))
    };
    let (wall, processor) = (0..plan.starts).map(compile).collect::<Result<(Vec<_>, Vec<_>)>>()?;
    row("compile the module, in this process", spread(&Times::new(wall)), "")?;
    row("  processor time of that", spread(&Times::new(processor)), "")
}

async fn harms(plan: &Plan, harm: Harm) -> Result<()> {
    let runtime = runtime()?;
    let policy = harm.policy(&runtime)?;
    let taken = (0..plan.harms).map(|_| harm.time(&policy)).collect::<Result<Vec<_>>>()?;
    let processor = Times::new(taken.iter().map(|it| it.processor).collect());
    let wall = Times::new(taken.iter().map(|it| it.wall).collect());
    let limits = Limits::default();
    match harm {
        Harm::Runaway => {
            let target = milliseconds(limits.time + Duration::from_millis(2));
            row("runaway guest, processor time", spread(&processor), &format!("{target} ms"))?;
            row("  by the clock", spread(&wall), "")?;
        }
        Harm::MemoryBomb => row(
            "memory bomb, until its trap",
            format!("{} of {} trapped; {}", taken.len(), plan.harms, spread(&wall)),
            &format!("a trap at {} MiB", limits.memory >> 20),
        )?,
    }
    neighbours(plan, harm, policy).await
}

/// Reviews alone and beside harm take turns, so that what else the machine does hits both.
async fn neighbours(plan: &Plan, harm: Harm, policy: Engine) -> Result<()> {
    let server = Server::start(policy).await?;
    let (harmless, harmful) = (server.client(&harm::harmless()), server.client(&harm::request()));
    let words = harm.end().to_string();
    let (mut alone, mut beside, mut done) = (Vec::new(), Vec::new(), 0);
    for _ in 0..plan.rounds {
        alone.extend(reviews(plan, &harmless).await?);
        let (reviews, harms) =
            tokio::join!(reviews(plan, &harmless), harmful.denied_loop(plan.round, &words));
        beside.extend(reviews?);
        done += harms?;
    }
    let [alone, beside] = [alone, beside].map(|times| milliseconds(Times::new(times).per_mille(990)));
    row(
        "  p99 of reviews beside it",
        format!("{:.1} x ({beside:.2} ms of {alone:.2} ms; {done} times harm)", beside / alone),
        "2 x",
    )
}

async fn reviews(plan: &Plan, client: &Client) -> Result<Vec<Duration>> {
    client.open_loop(NEIGHBOURS, plan.round, CONNECTIONS).await.into_iter().collect()
}

async fn overload(plan: &Plan, program: &Program) -> Result<()> {
    let process = program.start()?;
    let mut peak = 0.0_f64;
    for connections in CLOSED {
        let good = process.client.closed_loop(plan.flood, connections).await?;
        peak = peak.max(per_second(good, plan.flood));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some thousands")]
    let rate = peak as u32 * FLOOD;
    let flood = process.client.flood(rate, plan.flood, FLOOD_CONNECTIONS, FLOOD_WINDOW).await?;
    let [sent, good, shed] = [flood.sent, flood.good, flood.shed].map(|it| per_second(it, plan.flood));
    row(
        "overload, goodput of the peak's",
        format!(
            "{:.0} % ({good:.0} of {peak:.0} a second, in {} s each)",
            100.0 * good / peak,
            TIMEOUT.as_secs()
        ),
        "90 %",
    )?;
    row(
        "  what was sent meanwhile",
        format!("{:.1} x the peak ({sent:.0} a second), {shed:.0} of it shed", sent / peak),
        "10 x",
    )
}

#[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
fn per_second(count: usize, length: Duration) -> f64 {
    count as f64 / length.as_secs_f64()
}

/// Mebibytes, with a digit after the point.
fn mib(bytes: u64) -> String {
    let tenths = (bytes * 10) >> 20;
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn spread(times: &Times) -> String {
    let [median, longest] = [times.median(), times.longest()].map(milliseconds);
    format!("median {median:.1} ms, longest {longest:.1} ms")
}

fn latency(results: Vec<Result<Duration>>) -> String {
    let sent = results.len();
    let times = Times::new(results.into_iter().flatten().collect());
    let [median, most] = [500, 990].map(|it| milliseconds(times.per_mille(it)));
    format!("p50 {median:.2} ms, p99 {most:.2} ms; {} of {sent} failed", sent - times.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rounded_down_to_a_digit() {
        assert_eq!(mib(30 << 20), "30.0");
        assert_eq!(mib((30 << 20) + (1 << 19)), "30.5");
        assert_eq!(mib((31 << 20) - 1), "30.9");
    }
}
