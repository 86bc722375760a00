//! `cargo verify`: everything that CI checks, stage by stage.
//!
//! Invariant: one run at a time on a machine; what an earlier run left is removed before clusters are made, and clusters
//! of anybody else are not touched.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};

use crate::binaries::Binaries;
use crate::cluster::{Cluster, DEFAULT_VERSION, UPGRADE_VERSION};
use crate::progress::Progress;
use crate::{command, host, images, lock, packages, paths, refusal, wasm};

/// Beginning of the names of clusters that tests make.
pub const TEST_CLUSTERS: &str = "e2e-";

/// Format, lints, Wasm module, unit tests, release build, tests against a real API server, tests on real clusters.
#[derive(Debug, Parser)]
#[command(name = "cargo verify", bin_name = "cargo verify")]
struct Cli {
    /// Run only these stages.
    #[arg(value_enum)]
    stages: Vec<Stage>,
}

/// A stage, in the order in which they run: what fails fastest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Stage {
    /// The code is formatted.
    Fmt,
    /// No lint warns.
    Clippy,
    /// The policy is built as a Wasm module, twice, with the same bytes; the webhook's tests run it.
    Wasm,
    /// Tests that need neither root nor cluster.
    Unit,
    /// The plugin and the images of node part and guard are built as they are released.
    Release,
    /// Kubernetes and etcd are in the cache.
    Binaries,
    /// Tests against etcd and kube-apiserver alone.
    Api,
    /// Tests of the node part in network namespaces, and of the bed itself.
    Bed,
    /// Tests of what comes back by itself, by a backup, or by hand, on real clusters.
    Recovery,
    /// Tests of the plugin on real clusters under load.
    Load,
}

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed(Duration),
    Failed(Duration),
    NotRun,
}

/// `cargo verify`, from the arguments of this process to its exit code.
pub fn main() -> ExitCode {
    refusal::exit_code(run(Cli::parse()))
}

fn run(cli: Cli) -> Result<ExitCode> {
    let mut stages = if cli.stages.is_empty() { Stage::value_variants().to_vec() } else { cli.stages };
    stages.sort();
    stages.dedup();
    if stages.iter().any(|stage| stage.needs_root()) {
        // Before half an hour of other stages.
        host::check()?;
    }
    let progress = Progress::stderr();
    let _lock = lock::directory(&paths::cache()?.join("verify"), || {
        progress.line("another cargo verify runs on this machine; waiting");
    })?;
    if stages.iter().any(|stage| stage.makes_images()) {
        packages::prepare(&progress)?;
    }
    let mut results: Vec<(Stage, Outcome)> = stages.iter().map(|stage| (*stage, Outcome::NotRun)).collect();
    for (stage, outcome) in &mut results {
        progress.line(format_args!("=== {}", stage.name()));
        let start = Instant::now();
        if let Err(error) = stage.run(&progress) {
            *outcome = Outcome::Failed(start.elapsed());
            refusal::report(anstream::stderr().lock(), &error)?;
            break;
        }
        *outcome = Outcome::Passed(start.elapsed());
    }
    anstream::stdout().lock().write_all(table(&results).as_bytes())?;
    let passed = results.iter().all(|(_, outcome)| matches!(outcome, Outcome::Passed(_)));
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Stage {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether it takes a C compiler and what goes into images.
    fn makes_images(self) -> bool {
        self >= Self::Release
    }

    /// Clusters take root.
    fn needs_root(self) -> bool {
        self >= Self::Bed
    }

    fn run(self, progress: &Progress) -> Result<()> {
        match self {
            Self::Fmt => cargo(&["fmt", "--all", "--check"]),
            Self::Clippy => cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--features",
                "selfhost-tests/bed,selfhost-node/netns",
                "--",
                "--deny",
                "warnings",
            ]),
            Self::Unit => cargo(&["test", "--workspace"]),
            Self::Wasm => {
                let built = wasm::reproduce(progress)?;
                built.to_string().lines().for_each(|line| progress.line(line));
                Ok(())
            }
            Self::Release => {
                cargo(&["build", "--release", "--package", "kubectl-selfhost"])?;
                images::node::image(progress)?;
                images::guard::image(progress).map(drop)
            }
            Self::Binaries => {
                for version in [DEFAULT_VERSION, UPGRADE_VERSION] {
                    images::of_version(&Binaries::ensure(&version.parse()?, progress)?, progress)?;
                }
                images::of_etcd_upgrade(progress).map(drop)
            }
            Self::Api => bed_test("api", &[]),
            Self::Bed => {
                // The node part in network namespaces of its own, with the kernel's real nftables.
                let netns = ["--package", "selfhost-node", "--features", "netns", "--test", "netns"];
                test(&netns, &["--test-threads=4", "--nocapture"])?;
                Cluster::sweep(TEST_CLUSTERS, progress)?;
                bed_test("bed", &["--test-threads=1", "--nocapture"])
            }
            Self::Recovery => {
                Cluster::sweep(TEST_CLUSTERS, progress)?;
                bed_test("e2e", &["--test-threads=2", "--nocapture", "recovery::"])
            }
            Self::Load => {
                Cluster::sweep(TEST_CLUSTERS, progress)?;
                bed_test("e2e", &["--test-threads=1", "--nocapture", "load::"])
            }
        }
    }
}

/// Tests of this package.
fn bed_test(name: &str, arguments: &[&str]) -> Result<()> {
    test(&["--package", "selfhost-tests", "--features", "bed", "--test", name], arguments)
}

/// Runs tests. What the ones that fail return is said once more at the end: others go on beside them, and what matters
/// would be minutes back.
fn test(which: &[&str], arguments: &[&str]) -> Result<()> {
    let arguments = [&["test"], which, &["--"], arguments].concat();
    // An error names its object; where in the harness it was made helps nobody, and takes a page.
    let mut child =
        command::cargo().args(&arguments).env("RUST_LIB_BACKTRACE", "0").stderr(Stdio::piped()).spawn()?;
    let written = child.stderr.take().context("a pipe")?;
    let mut failures = Failures::default();
    for line in BufReader::new(written).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        anstream::eprintln!("{line}");
        failures.read(line);
    }
    let status = child.wait()?;
    if !status.success() {
        let command = arguments.join(" ");
        bail!("cargo {command} ended with {status}{failures}");
    }
    Ok(())
}

/// What tests return when they fail, picked out of what they write.
#[derive(Debug, Default)]
struct Failures(Vec<Vec<String>>);

/// Lines of a failure that are shown: an error with its causes, and the beginning of what it quotes.
const SHOWN: usize = 16;

impl Failures {
    fn read(&mut self, line: String) {
        let begins = ["Error: ", "thread '"].iter().any(|word| line.starts_with(word));
        if begins {
            self.0.push(vec![line]);
        } else if let Some(failure) = self.0.last_mut().filter(|failure| failure.len() < SHOWN) {
            failure.push(line);
        }
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().flatten().try_for_each(|line| write!(out, "\n  {line}"))
    }
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let status = command::cargo().args(arguments).status()?;
    if !status.success() {
        bail!("cargo {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}

/// A line per stage and a sum.
fn table(results: &[(Stage, Outcome)]) -> String {
    let mut lines = vec![format!("{:<10} {:<8} {:>8}", "STAGE", "RESULT", "SECONDS")];
    let mut sum = Duration::ZERO;
    for (stage, outcome) in results {
        let (result, time) = match outcome {
            Outcome::Passed(time) => ("ok", Some(*time)),
            Outcome::Failed(time) => ("FAILED", Some(*time)),
            Outcome::NotRun => ("not run", None),
        };
        sum += time.unwrap_or_default();
        let seconds = time.map_or_else(|| "-".to_owned(), |time| format!("{:.1}", time.as_secs_f64()));
        lines.push(format!("{:<10} {result:<8} {seconds:>8}", stage.name()));
    }
    lines.push(format!("{:<10} {:<8} {:>8.1}\n", "all", "", sum.as_secs_f64()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_failed_is_found_in_what_was_written() {
        let mut failures = Failures::default();
        for line in ["   0.1s  a cluster", "Error: no answer", "", "Caused by:", "    refused"] {
            failures.read(line.to_owned());
        }
        assert_eq!(failures.to_string(), "\n  Error: no answer\n  \n  Caused by:\n      refused");
    }

    #[test]
    fn the_table_tells_what_failed_and_what_did_not_run() {
        let results = [
            (Stage::Fmt, Outcome::Passed(Duration::from_millis(1500))),
            (Stage::Clippy, Outcome::Failed(Duration::from_secs(20))),
            (Stage::Load, Outcome::NotRun),
        ];
        assert_eq!(
            table(&results),
            "STAGE      RESULT    SECONDS\n\
             fmt        ok            1.5\n\
             clippy     FAILED       20.0\n\
             load       not run         -\n\
             all                     21.5\n"
        );
    }
}
