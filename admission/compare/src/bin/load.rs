//! `cargo bench-guard-load`: the guard's server at a rate of reviews over TLS, while its certificates are rotated.
//!
//! Invariant: open loop. A review that was due is sent and counted, whatever became of those before, and its time runs from
//! when it was due.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use selfhost_compare::rig::Rig;
use selfhost_compare::times::{Times, milliseconds};
use tokio::task::spawn_blocking;

/// Sends reviews of a DaemonSet's update at a rate, and rotates certificates meanwhile.
#[derive(Debug, Parser)]
#[command(name = "cargo bench-guard-load", bin_name = "cargo bench-guard-load")]
struct Cli {
    /// Reviews in a second.
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// For how long.
    #[arg(long, default_value = "20")]
    seconds: u32,
    /// How often certificates change in that time; each tenth time the authorities do, too.
    #[arg(long, default_value = "100")]
    rotations: u32,
    /// Connections, each with a review at a time.
    #[arg(long, default_value = "32", value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let mut rig = Rig::start().await?;
    let client = rig.client()?;
    let length = Duration::from_secs(cli.seconds.into());
    let (rotations, pause) = (cli.rotations, length / cli.rotations.max(1));
    let rotator = spawn_blocking(move || {
        for rotation in 0..rotations {
            std::thread::sleep(pause);
            rig.rotate(rotation);
        }
        // The server goes on while it is here.
        rig
    });
    let results = client.open_loop(cli.rate, length, cli.connections).await;
    drop(rotator.await?);
    report(&cli, results)
}

fn report(cli: &Cli, results: Vec<Result<Duration>>) -> Result<ExitCode> {
    let sent = results.len();
    let (good, bad): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    let times = Times::new(good.into_iter().flatten().collect());
    let mut out = anstream::stdout().lock();
    writeln!(out, "reviews    {sent} at {} a second, {} rotations of certificates", cli.rate, cli.rotations)?;
    writeln!(out, "failures   {}", bad.len())?;
    let [half, most, nearly, all] = [500, 990, 999, 1000].map(|it| milliseconds(times.per_mille(it)));
    writeln!(
        out,
        "latency    p50 {half:.2} ms, p99 {most:.2} ms, p99.9 {nearly:.2} ms, longest {all:.2} ms"
    )?;
    for error in bad.into_iter().filter_map(Result::err).take(5) {
        writeln!(out, "           {error:#}")?;
    }
    Ok(if times.count() == sent { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
