//! Driving the plugin as a user does.
//!
//! Invariant: nothing here looks into the plugin; it runs the released binary and reads what that prints.

mod kill;
mod load;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::images;
use crate::progress::Progress;
use crate::refusal::Refusal;

pub use kill::kill_at_each;
pub use load::{Availability, Load, Series};

/// Environment variable with the plugin to test, instead of the one in the target directory.
pub const PLUGIN: &str = "SELFHOST_PLUGIN";

/// Environment variable with the guard's program to test, instead of the one of this checkout.
pub const ADMISSION: &str = "SELFHOST_ADMISSION";

/// The node part on a node, where the pivot has put it.
pub const NODE_PART: &str = "/var/lib/selfhost/bin/selfhost-node";

/// What etcd's own client on a node prints, asking the member there.
pub fn etcdctl(cluster: &Cluster, node: &str, words: &[&str]) -> Result<String> {
    let pki = "/etc/kubernetes/pki/etcd";
    let who = [
        format!("--cacert={pki}/ca.crt"),
        format!("--cert={pki}/healthcheck-client.crt"),
        format!("--key={pki}/healthcheck-client.key"),
        "--endpoints=https://127.0.0.1:2379".to_owned(),
    ];
    cluster.exec(node, &[&["etcdctl"], words, &who.each_ref().map(String::as_str)].concat())
}

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

/// The guard's program, as its image has it; seconds where it is built.
pub fn admission() -> Result<PathBuf> {
    std::env::var_os(ADMISSION)
        .map_or_else(|| images::guard::program(&Progress::stderr()), |path| Ok(PathBuf::from(path)))
}

/// The plugin, aimed at a cluster, with the node image that the bed loaded there.
pub fn selfhost(cluster: &Cluster, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(plugin()?);
    command
        .args(arguments)
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("SELFHOST_NODE_IMAGE", cluster.node_image()?)
        .envs(cluster.guard_image().map(|image| ("SELFHOST_GUARD_IMAGE", image)))
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

/// What a plugin came to that was to be killed.
#[derive(Debug)]
pub struct Killed {
    /// The lines at which it was to be; none where none came before its end, which was a success.
    pub met: Vec<String>,
    /// Whether it came to its end all the same, within the delay.
    pub finished: bool,
}

/// Runs the plugin until a line of its standard error satisfies `when`, and kills it with SIGKILL after `delay`, or as
/// soon as another such line comes.
pub fn run_and_kill(
    cluster: &Cluster,
    arguments: &[&str],
    delay: Duration,
    when: impl Fn(&str) -> bool,
) -> Result<Killed> {
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
    Ok(Killed { met, finished: status.success() })
}

/// Runs the plugin while the API server's DaemonSet has a further flag, which it would roll with.
pub fn with_flag(cluster: &Cluster, flag: &str, arguments: &[&str]) -> Result<Outcome> {
    let path = "/spec/template/spec/containers/0/command";
    let name = ["-n", "kube-system", "patch", "ds", "self-hosted-kube-apiserver", "--type=json", "-p"];
    let read = ["-n", "kube-system", "get", "ds", "self-hosted-kube-apiserver", "-o"];
    let command =
        cluster.kubectl(&[&read[..], &["jsonpath={.spec.template.spec.containers[0].command}"]].concat())?;
    let mut changed: Vec<String> = serde_json::from_str(&command)?;
    let flag_name = flag.split('=').next().unwrap_or(flag);
    changed.retain(|argument| argument.split('=').next() != Some(flag_name));
    changed.push(flag.to_owned());
    let replacing = |command: &str| format!(r#"[{{"op":"replace","path":"{path}","value":{command}}}]"#);
    let with = replacing(&serde_json::to_string(&changed)?);
    cluster.kubectl(&[&name[..], &[&with]].concat())?;
    let outcome = run(cluster, arguments);
    cluster.kubectl(&[&name[..], &[&replacing(&command)]].concat())?;
    outcome
}

/// The names of the plan's steps, from its own dry run.
pub fn planned_steps(cluster: &Cluster, arguments: &[&str]) -> Result<BTreeSet<String>> {
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
    // The guard's are of one component.
    let least = if arguments.first() == Some(&"guard") { 5 } else { 10 };
    ensure!(steps.len() > least, "{}", dry.out);
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

/// The step in a progress line: `  12.3s [ 4/20] cp1 kube-apiserver: replace Pod`.
pub fn step_of(line: &str) -> Option<&str> {
    let (clock, rest) = line.trim_start().split_once(" [")?;
    clock.strip_suffix('s')?.parse::<f64>().ok()?;
    Some(rest.split_once("] ")?.1)
}

/// The components that a pivot moves.
pub const COMPONENTS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// How long the control plane must have been ready. `kubeadm init` ends with a restart of the kubelet, which takes some
/// seconds to doubt the Pods that it finds, and some more to ask them.
const CALM: Duration = Duration::from_secs(9);

/// Waits until every component has a Pod on every node that is ready, and stays so.
pub fn settled(cluster: &Cluster) -> Result<()> {
    calm_when(cluster, |component| component["ready"] == true)
}

/// Waits until every Pod that an interrupted operation left is ready, and stays so. What has none has its standby.
pub fn at_rest(cluster: &Cluster) -> Result<()> {
    calm_when(cluster, |component| component["ready"] == true || component["hosting"] == "missing")
}

fn calm_when(cluster: &Cluster, good: impl Fn(&Value) -> bool) -> Result<()> {
    let begin = Instant::now();
    let mut calm = None;
    loop {
        let status = run(cluster, &["status", "-o", "json", "--fail-on", "never"])?;
        let ready = status.json().is_ok_and(|status| {
            let components = components(&status);
            components.len() >= COMPONENTS.len() * cluster.control_planes().len()
                && components.iter().all(|component| good(component))
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

/// How long the API takes until it is ready; an error after `limit`.
pub fn ready_within(cluster: &Cluster, limit: Duration) -> Result<Duration> {
    let begin = Instant::now();
    while cluster.kubectl(&["get", "--raw", "/readyz", "--request-timeout=2s"]).is_err() {
        ensure!(begin.elapsed() < limit, "no API server is ready after {} s", limit.as_secs());
        thread::sleep(Duration::from_millis(200));
    }
    Ok(begin.elapsed())
}

/// How long a standby may take to go back to sleep once the control plane is ready.
const ASLEEP: Duration = Duration::from_secs(180);

/// Waits until every component is ready from its DaemonSet, and the standby of each node has gone back to sleep.
pub fn whole(cluster: &Cluster) -> Result<()> {
    settled(cluster)?;
    let status = run(cluster, &["status", "-o", "json", "--fail-on", "never"])?.json()?;
    let hosted = components(&status).iter().all(|row| row["hosting"] == "self-hosted");
    ensure!(hosted, "{status:#}");
    for node in cluster.control_planes() {
        let begin = Instant::now();
        let ports = ["ss", "-Hltn", "sport = :6444 or sport = :10267 or sport = :10269"];
        loop {
            let copies = cluster.exec(node, &ports)?;
            if copies.trim().is_empty() {
                break;
            }
            ensure!(begin.elapsed() < ASLEEP, "the standby of {node} does not go back to sleep: {copies}");
            thread::sleep(Duration::from_secs(1));
        }
    }
    Ok(())
}

/// The rows of the three components in what `status -o json` printed, in order.
pub fn components(status: &Value) -> Vec<&Value> {
    let rows = status["components"].as_array().into_iter().flatten();
    rows.filter(|row| COMPONENTS.iter().any(|name| row["component"] == *name)).collect()
}
