//! `cargo demo`: the tour, on a real cluster made from nothing: status, pivot, status, upgrade under load.
//!
//! Invariant: shows what a user would see: each command is printed, and its output goes to this terminal as it is.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use crate::cluster::Cluster;
use crate::drive::{self, Load};
use crate::progress::Progress;
use crate::{Spec, command, host, refusal};

/// Name of the cluster, which stays for a look around.
const NAME: &str = "demo";

/// Load during the upgrade, in requests per second.
const RATE: u32 = 200;

/// From nothing to an upgraded self-hosted control plane, under load.
#[derive(Debug, Parser)]
#[command(name = "cargo demo", bin_name = "cargo demo")]
struct Cli {
    /// Remove the cluster at the end.
    #[arg(long)]
    down: bool,
}

/// `cargo demo`, from the arguments of this process to its exit code.
pub fn main() -> ExitCode {
    refusal::exit_code(run(&Cli::parse()).map(|()| ExitCode::SUCCESS))
}

fn run(cli: &Cli) -> Result<()> {
    host::check()?;
    let progress = Progress::stderr();
    build(&progress)?;
    let name = NAME.parse()?;
    Cluster::down(&name, &progress)?;
    let cluster = Cluster::up(&Spec::new(name), &progress)?;
    progress.step("the control plane has settled", || drive::settled(&cluster))?;

    show(&cluster, &["status"])?;
    show(&cluster, &["pivot", "--yes"])?;
    show(&cluster, &["status"])?;
    say("")?;
    say(&format!("# {RATE} requests per second from here on, half of them through the kubernetes Service"))?;
    let load = Load::start(&cluster, RATE)?;
    show(&cluster, &["upgrade", "v1.37", "--yes"])?;
    let availability = load.stop()?;
    say("")?;
    say(&availability.table())?;
    show(&cluster, &["status"])?;
    if cli.down {
        Cluster::down(cluster.name(), &progress)?;
    } else {
        say("")?;
        say(&format!("The cluster stays: export KUBECONFIG={}", cluster.kubeconfig().display()))?;
        say(&format!("To remove it: cargo bed down --name {NAME}"))?;
        cluster.keep()?;
    }
    availability.expect_none_failed()
}

/// Builds the plugin as it is released.
pub(crate) fn build(progress: &Progress) -> Result<()> {
    progress.step("plugin built", || {
        let status = command::cargo()
            .args(["build", "--release", "--package", "kubectl-selfhost"])
            .status()
            .context("run cargo")?;
        ensure!(status.success(), "cargo build ended with {status}");
        Ok(())
    })
}

/// Runs the plugin on this terminal.
fn show(cluster: &Cluster, arguments: &[&str]) -> Result<()> {
    say(&format!("\n$ kubectl selfhost {}", arguments.join(" ")))?;
    let mut command = drive::selfhost(cluster, arguments)?;
    let status = command.env_remove("NO_COLOR").status().context("run the plugin")?;
    ensure!(status.success(), "kubectl selfhost {} ended with {status}", arguments.join(" "));
    Ok(())
}

fn say(text: &str) -> Result<()> {
    Ok(writeln!(anstream::stdout().lock(), "{text}")?)
}
