//! Load on a cluster, and what it met.
//!
//! Invariant: load goes to the cluster's own addresses only, and ends by itself.

use std::fmt::Write as _;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::plugin;
use crate::cluster::{Cluster, KUBERNETES_SERVICE};

/// Load that nobody stopped ends after this.
const LONGEST_LOAD: &str = "40m";

/// Load on a cluster from two places: this machine, on the node's address, and another network namespace, on the
/// `kubernetes` Service's address as a Pod would use it. Half of it on new connections, half on reused ones, of which
/// every second request is a write.
#[derive(Debug)]
pub struct Load {
    sources: Vec<(&'static str, Child)>,
    began: Instant,
}

impl Load {
    /// Starts it: `rate` requests per second, half of them from each place.
    pub fn start(cluster: &Cluster, rate: u32) -> Result<Self> {
        let rate = (rate / 2).to_string();
        let plugin = plugin()?;
        let mut near = Command::new(&plugin);
        near.args(["probe", "--rate", &rate, "--target", &cluster.endpoint()]);
        let program = plugin.to_str().context("the plugin's path is not UTF-8")?;
        let mut far = cluster.network_command("client", program)?;
        far.args(["probe", "--rate", &rate, "--target", KUBERNETES_SERVICE]);
        let mut sources = Vec::new();
        for (place, mut command) in [("node", near), ("service", far)] {
            let child = command
                .args(["--write", "default/load", "--duration", LONGEST_LOAD, "-o", "json"])
                .env("KUBECONFIG", cluster.kubeconfig())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .context("start the prober")?;
            sources.push((place, child));
        }
        // Its connections are open when the operation begins.
        thread::sleep(Duration::from_secs(2));
        Ok(Self { sources, began: Instant::now() })
    }

    /// Ends it and tells what was measured.
    pub fn stop(mut self) -> Result<Availability> {
        let took = self.began.elapsed();
        let mut reports = Vec::new();
        for (place, mut child) in self.sources.drain(..) {
            interrupt(&child)?;
            let mut text = String::new();
            child.stdout.take().context("its standard output")?.read_to_string(&mut text)?;
            let mut trouble = String::new();
            child.stderr.take().context("its standard error")?.read_to_string(&mut trouble)?;
            let status: ExitStatus = child.wait()?;
            match serde_json::from_str(&text) {
                Ok(report) => reports.push((place, report)),
                Err(error) => bail!("the prober at {place} ended with {status}: {error}: {text}{trouble}"),
            }
        }
        Ok(Availability { reports, took })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for (_, child) in &mut self.sources {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn interrupt(child: &Child) -> Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
    kill_process(pid, Signal::INT).context("interrupt the prober")
}

/// What the load met.
#[derive(Debug)]
pub struct Availability {
    reports: Vec<(&'static str, Value)>,
    /// How long it was measured.
    pub took: Duration,
}

/// One place and kind of connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// `node new`, `service reused`.
    pub name: String,
    /// Requests sent.
    pub requests: u64,
    /// Requests that failed; those told to come back later are not among them.
    pub failed: u64,
    /// Requests answered 429 or 503 with Retry-After.
    pub retry_after: u64,
    /// Longest time without a served request, in seconds.
    pub longest_gap: f64,
    /// Latency below which 99 % of the answers stayed, in seconds.
    pub p99: f64,
    /// Failures by kind, and the first of them in full.
    pub failures: Vec<String>,
}

impl Availability {
    /// Every place and kind of connection.
    pub fn series(&self) -> Vec<Series> {
        let of_report = |(place, report): &(&'static str, Value)| {
            let series = report["series"].as_array().cloned().unwrap_or_default();
            series
                .iter()
                .map(|one| {
                    let summary = &one["summary"];
                    let count = |name: &str| summary["counts"][name].as_u64().unwrap_or(u64::MAX);
                    let kinds = summary["failures"].as_object().into_iter().flatten();
                    let samples = one["firstFailures"].as_array().into_iter().flatten();
                    Series {
                        name: format!("{place} {}", one["mode"].as_str().unwrap_or("?")),
                        requests: count("requests"),
                        failed: count("failed"),
                        retry_after: count("retryAfter"),
                        longest_gap: summary["longestGap"]["seconds"].as_f64().unwrap_or(f64::NAN),
                        p99: summary["latency"]["p99Seconds"].as_f64().unwrap_or(f64::NAN),
                        failures: kinds
                            .map(|(kind, n)| format!("{n} x {kind}"))
                            .chain(samples.map(ToString::to_string))
                            .collect(),
                    }
                })
                .collect::<Vec<_>>()
        };
        self.reports.iter().flat_map(of_report).collect()
    }

    /// Requests, failed ones, and those told to come back later, in all.
    pub fn totals(&self) -> (u64, u64, u64) {
        self.series().iter().fold((0, 0, 0), |(requests, failed, later), one| {
            (requests + one.requests, failed + one.failed, later + one.retry_after)
        })
    }

    /// The longest gap of any place and kind of connection, in seconds.
    pub fn longest_gap(&self) -> f64 {
        self.series().iter().map(|one| one.longest_gap).fold(0.0, f64::max)
    }

    /// A table of it.
    pub fn table(&self) -> String {
        let mut text = "LOAD               REQUESTS  FAILED  RETRY-AFTER  LONGEST-GAP    P99\n".to_owned();
        for one in self.series() {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{:<18} {:>8}  {:>6}  {:>11}  {:>10.2}s  {:>4.0}ms",
                one.name,
                one.requests,
                one.failed,
                one.retry_after,
                one.longest_gap,
                one.p99 * 1000.0
            );
        }
        text
    }

    /// An error with every failure, unless no request failed on any connection, and some were sent on each.
    pub fn expect_none_failed(&self) -> Result<()> {
        for one in self.series() {
            ensure!(one.requests > 0, "no request was sent: {one:?}");
            ensure!(one.failed == 0, "{} of {} requests failed: {:#?}", one.failed, one.requests, one);
        }
        ensure!(self.series().len() == 4, "load on two addresses, with two kinds of connection each");
        Ok(())
    }
}
