//! `cargo bench-footprint`: size and speed of the plugin, and what a dormant standby costs a node.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{fresh, say, selfhost};
use crate::cluster::Cluster;
use crate::drive::{plugin, whole};
use crate::progress::Progress;

/// For how long the standby is watched.
const WATCH: Duration = Duration::from_secs(60);

pub(super) fn run(progress: &Progress) -> Result<()> {
    of_plugin()?;
    let cluster = fresh("bench-footprint", 1, progress)?;
    progress.step("pivot", || selfhost(&cluster, &["pivot", "--yes"]))?;
    whole(&cluster)?;
    of_standby(&cluster)?;
    say("gate, tasks: cargo test -p selfhost-node --features netns --test netns figures -- --nocapture")
}

fn of_plugin() -> Result<()> {
    let plugin = plugin()?;
    let megabytes = plugin.metadata()?.len() / 1_000_000;
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..20 {
        let begin = Instant::now();
        let status = Command::new(&plugin).arg("--help").stdout(Stdio::null()).status()?;
        ensure!(status.success(), "--help ended with {status}");
        times.push(begin.elapsed());
    }
    times.sort();
    say(&format!("plugin: {megabytes} MB (limit 20 MB)"))?;
    say(&format!(
        "--help: median {:.1} ms, slowest of {} {:.1} ms (limit 20 ms)",
        times[times.len() / 2].as_secs_f64() * 1000.0,
        times.len(),
        times[times.len() - 1].as_secs_f64() * 1000.0
    ))
}

/// Resident memory and processor time of each process of the standby.
#[expect(clippy::cast_precision_loss, reason = "some MiB, and some hundredths of a second")]
fn of_standby(cluster: &Cluster) -> Result<()> {
    let before = processes(cluster)?;
    thread::sleep(WATCH);
    let after = processes(cluster)?;
    ensure!(!after.is_empty(), "no standby runs");
    for process in &after {
        let earlier = before.iter().find(|it| it.pid == process.pid).context("a process was replaced")?;
        let busy = (process.ticks - earlier.ticks) as f64 / 100.0 / WATCH.as_secs_f64() * 100.0;
        say(&format!(
            "dormant {}: {:.1} MiB resident (limit 6 MiB), {busy:.2} % of a core (limit 0.2 %)",
            process.what,
            process.rss_kib as f64 / 1024.0
        ))?;
    }
    Ok(())
}

/// A process of the standby.
struct Process {
    pid: u32,
    what: String,
    rss_kib: u64,
    /// User and system time, in hundredths of a second.
    ticks: u64,
}

/// The supervisors and gates of the standby; their children's time does not count.
fn processes(cluster: &Cluster) -> Result<Vec<Process>> {
    // The shell's own command line has those words, too. Of `stat`, what comes behind the name: the 14th and 15th fields are the times.
    let script = "for p in /proc/[0-9]*; do c=$(tr '\\0' ' ' < $p/cmdline 2>/dev/null); case \"$c\" in sh*) ;; \
                  *selfhost-node?standby*|*selfhost-node?gate*--only-while*) \
                  echo \"${p#/proc/} $(sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\).*/\\1/p' $p/status) \
                  $(sed 's/.*) //' $p/stat | cut -d' ' -f12,13) $c\";; esac; done";
    let listing = cluster.exec("cp1", &["sh", "-c", script])?;
    let parse = |line: &str| -> Option<Process> {
        let mut words = line.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        let rss_kib = words.next()?.parse().ok()?;
        let user: u64 = words.next()?.parse().ok()?;
        let system: u64 = words.next()?.parse().ok()?;
        let component = line.split("--component=").nth(1).and_then(|rest| rest.split_whitespace().next());
        let what = component.map_or_else(|| "gate".to_owned(), |it| format!("supervisor of {it}"));
        Some(Process { pid, what, rss_kib, ticks: user + system })
    };
    Ok(listing.lines().filter_map(parse).collect())
}
