//! Driving the plugin as a user does, and load on a cluster meanwhile.
//!
//! Invariant: nothing here looks into the plugin; it runs the released binary and reads what that prints. Load goes to
//! the cluster's own addresses only, and ends by itself.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cluster::{Cluster, KUBERNETES_SERVICE};
use crate::refusal::Refusal;

/// Environment variable with the plugin to test, instead of the one in the target directory.
pub const PLUGIN: &str = "SELFHOST_PLUGIN";

/// Load that nobody stopped ends after this.
const LONGEST_LOAD: &str = "40m";

/// The plugin's release binary.
pub fn plugin() -> Result<PathBuf> {
    let path = std::env::var_os(PLUGIN)
        .map_or_else(|| crate::paths::target().join("release/kubectl-selfhost"), PathBuf::from);
    ensure!(
        path.is_file(),
        Refusal::new(format!("there is no {}", path.display()), "cargo build --release -p kubectl-selfhost")
    );
    Ok(path)
}

/// The plugin, aimed at a cluster, with the node image that the bed loaded there.
pub fn selfhost(cluster: &Cluster, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(plugin()?);
    command
        .args(arguments)
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("SELFHOST_NODE_IMAGE", cluster.node_image()?)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    Ok(command)
}

/// What the plugin printed, and how it ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Outcome {
    /// Standard output as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("not JSON: {}\n{}", self.out, self.err))
    }

    /// The same, if it succeeded.
    pub fn success(self) -> Result<Self> {
        ensure!(self.code == Some(0), "exit code {:?}\n{}\n{}", self.code, self.out, self.err);
        Ok(self)
    }
}

/// Runs the plugin to its end.
pub fn run(cluster: &Cluster, arguments: &[&str]) -> Result<Outcome> {
    let output = selfhost(cluster, arguments)?.output().context("run the plugin")?;
    Ok(Outcome {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs the plugin to its end, and shows each line of its standard error as it comes.
pub fn run_seeing(cluster: &Cluster, arguments: &[&str], mut see: impl FnMut(&str)) -> Result<Outcome> {
    let mut child = selfhost(cluster, arguments)?
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run the plugin")?;
    let mut stdout = child.stdout.take().context("its standard output")?;
    let reader = thread::spawn(move || {
        let mut out = String::new();
        stdout.read_to_string(&mut out).map(|_| out)
    });
    let mut err = String::new();
    for line in BufReader::new(child.stderr.take().context("its standard error")?).lines() {
        let line = line?;
        see(&line);
        err += &line;
        err.push('\n');
    }
    let status = child.wait().context("wait for the plugin")?;
    let out = reader.join().map_err(|_| anyhow!("the reader of its standard output panicked"))??;
    Ok(Outcome { code: status.code(), out, err })
}

/// Runs the plugin until a line of its standard error satisfies `when`, and kills it with SIGKILL after `delay`, or as
/// soon as another such line comes. Returns those lines; none where it ended by itself, which must be with success.
pub fn run_and_kill(
    cluster: &Cluster,
    arguments: &[&str],
    delay: Duration,
    when: impl Fn(&str) -> bool,
) -> Result<Vec<String>> {
    let mut child = selfhost(cluster, arguments)?
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("run the plugin")?;
    let stderr = BufReader::new(child.stderr.take().context("its standard error")?);
    let (sender, lines) = mpsc::channel();
    let reader =
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let mut seen = Vec::new();
    let mut met: Vec<String> = Vec::new();
    let mut limit = Duration::MAX;
    // It ends when the time is over, and when the plugin has ended.
    while let Ok(line) = lines.recv_timeout(limit.min(Duration::from_secs(600))) {
        if when(&line) {
            met.push(line.clone());
            if 1 < met.len() || delay.is_zero() {
                break;
            }
            limit = delay;
        }
        seen.push(line);
    }
    if !met.is_empty() {
        // It may have ended by itself within the delay.
        let _ = child.kill();
    }
    let status = child.wait().context("wait for the plugin")?;
    drop(lines);
    let _ = reader.join();
    ensure!(!met.is_empty() || status.success(), "{status}:\n{}", seen.join("\n"));
    Ok(met)
}

/// The components that a pivot moves.
pub const COMPONENTS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// How long the control plane must have been ready. `kubeadm init` ends with a restart of the kubelet, which takes some
/// seconds to doubt the Pods that it finds, and some more to ask them.
const CALM: Duration = Duration::from_secs(12);

/// Waits until every Pod of the control plane is ready, and stays so.
pub fn settled(cluster: &Cluster) -> Result<()> {
    let begin = Instant::now();
    let mut calm = None;
    loop {
        let status = run(cluster, &["status", "-o", "json", "--fail-on", "never"])?;
        let ready = status.json().is_ok_and(|status| {
            let components = components(&status);
            components.len() >= COMPONENTS.len() * cluster.control_planes().len()
                && components.iter().all(|component| component["ready"] == true)
        });
        let since = calm.get_or_insert_with(Instant::now);
        if !ready {
            calm = None;
        } else if since.elapsed() > CALM {
            return Ok(());
        }
        ensure!(begin.elapsed() < Duration::from_secs(180), "not ready: {}{}", status.out, status.err);
        thread::sleep(Duration::from_secs(1));
    }
}

/// The rows of the three components in what `status -o json` printed, in order.
pub fn components(status: &Value) -> Vec<&Value> {
    let rows = status["components"].as_array().into_iter().flatten();
    rows.filter(|row| COMPONENTS.iter().any(|name| row["component"] == *name)).collect()
}

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
