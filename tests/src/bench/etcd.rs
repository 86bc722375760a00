//! `cargo bench-etcd`: etcd on three control-plane nodes is upgraded member by member under load, and then all of it is
//! restored from one snapshot.
//!
//! Invariant: etcd is judged by itself: every member is healthy, runs what was asked for, and has the same contents.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;

use super::{Row, say, selfhost};
use crate::binaries::{ETCD_TAG, ETCD_UPGRADE_TAG};
use crate::cluster::Cluster;
use crate::drive::{self, NODE_PART, ready_within, run as run_plugin, settled, whole};
use crate::progress::Progress;
use crate::{Spec, left};

const MEMBERS: usize = 3;

/// What is copied to every node.
const SNAPSHOT: &str = "/root/snapshot.db";

/// How long etcd's members may take to agree after a restore.
const AGREE: Duration = Duration::from_secs(60);

pub(super) fn run(progress: &Progress) -> Result<()> {
    let mut spec = Spec { control_planes: 3, ..Spec::new("bench-etcd".parse()?) };
    spec.more.etcd_upgrade = true;
    let cluster = Cluster::up(&spec, progress)?;
    progress.step("the control plane has settled", || settled(&cluster))?;
    progress.step("kubectl selfhost pivot", || selfhost(&cluster, &["pivot", "--yes"]))?;
    runs(&cluster, ETCD_TAG)?;
    cluster.kubectl(&["create", "configmap", "before", "--from-literal=key=1"])?;

    let upgrade = ["upgrade", &format!("--etcd={ETCD_UPGRADE_TAG}"), "--yes"];
    let row = Row::measure("etcd, three members", &cluster, || selfhost(&cluster, &upgrade))?;
    say(&format!("{}\n{}", Row::HEADER, row.line()))?;
    for failure in row.failures() {
        say(&format!("  {failure}"))?;
    }
    whole(&cluster)?;
    runs(&cluster, ETCD_UPGRADE_TAG)?;
    left::nothing_of_an_operation(&cluster)?;

    let backups = progress.step("kubectl selfhost backup", || backup(&cluster))?;
    cluster.kubectl(&["create", "configmap", "after", "--from-literal=key=1"])?;
    cluster.kubectl(&["patch", "configmap", "before", "--type=merge", "-p", r#"{"data":{"key":"2"}}"#])?;
    let begin = Instant::now();
    progress.step("restored on every node at once", || restore(&cluster, &backups))?;
    ready_within(&cluster, Duration::from_secs(60))?;
    let took = begin.elapsed();
    whole(&cluster)?;
    runs(&cluster, ETCD_UPGRADE_TAG)?;
    let value = cluster.kubectl(&["get", "configmap", "before", "-o", "jsonpath={.data.key}"])?;
    ensure!(value == "1", "what was written after the backup is there: {value}");
    let after = cluster.kubectl(&["get", "configmap", "after", "--ignore-not-found", "-o", "name"])?;
    ensure!(after.is_empty(), "what was made after the backup is there: {after}");
    say(&format!(
        "restored on {MEMBERS} nodes from one snapshot: an API server is ready after {:.1} s",
        took.as_secs_f64()
    ))
}

/// A node, the directory of its backup, and the revision of that.
type Backup = (String, String, u64);

fn backup(cluster: &Cluster) -> Result<Vec<Backup>> {
    let made = run_plugin(cluster, &["backup", "-o", "json"])?.success()?.json()?;
    let rows = made["backups"].as_array().context("backups")?.iter();
    let read = |row: &Value| {
        let text = |name: &str| row[name].as_str().map(ToOwned::to_owned);
        Some((text("node")?, text("directory")?, row["revision"].as_u64()?))
    };
    let backups: Vec<Backup> = rows.map(read).collect::<Option<_>>().with_context(|| made.to_string())?;
    ensure!(backups.len() == MEMBERS, "{made}");
    Ok(backups)
}

/// As the guide has it: the newest snapshot goes to every node, and each restores it with its own backup.
fn restore(cluster: &Cluster, backups: &[Backup]) -> Result<()> {
    let (newest, directory, _) = backups.iter().max_by_key(|(.., revision)| *revision).context("a backup")?;
    let snapshot = std::fs::read(cluster.node_dir(newest, directory)?.join("snapshot.db"))?;
    for (node, ..) in backups {
        std::fs::write(cluster.node_dir(node, "/root")?.join("snapshot.db"), &snapshot)?;
    }
    thread::scope(|scope| {
        let nodes: Vec<_> = backups
            .iter()
            .map(|(node, directory, _)| {
                scope.spawn(move || {
                    let restore = [NODE_PART, "restore", "--from", directory, "--snapshot", SNAPSHOT];
                    cluster.exec(node, &restore).with_context(|| format!("restore on {node}"))
                })
            })
            .collect();
        for node in nodes {
            let words = node.join().map_err(|_| anyhow!("a restore panicked"))??;
            ensure!(words.trim_end().ends_with("Next: kubectl selfhost status"), "{words}");
        }
        Ok(())
    })
}

/// Waits until every member is healthy, and has what the others have; each runs the image.
fn runs(cluster: &Cluster, tag: &str) -> Result<()> {
    let begin = Instant::now();
    loop {
        let health = etcdctl(cluster, &["endpoint", "health", "--cluster"])?;
        let hashes = etcdctl(cluster, &["endpoint", "hashkv", "--cluster"])?;
        let healthy = health.iter().filter(|member| member["health"] == true).count();
        let contents: Vec<_> = hashes.iter().map(|member| &member["HashKV"]["hash"]).collect();
        if healthy == MEMBERS && contents.len() == MEMBERS && contents.windows(2).all(|two| two[0] == two[1])
        {
            break;
        }
        // Two of them may have been asked before and after a write.
        ensure!(begin.elapsed() < AGREE, "{health:#?} {hashes:#?}");
        thread::sleep(Duration::from_millis(500));
    }
    let status = run_plugin(cluster, &["status", "-o", "json", "--fail-on", "never"])?.json()?;
    let rows = status["components"].as_array().into_iter().flatten();
    let images: Vec<_> =
        rows.filter(|row| row["component"] == "etcd").map(|row| row["image"].as_str()).collect();
    let wanted = format!("registry.k8s.io/etcd:{tag}");
    ensure!(images == [Some(wanted.as_str()); MEMBERS], "{images:?}");
    Ok(())
}

/// What etcd's own client says, one value for each member.
fn etcdctl(cluster: &Cluster, words: &[&str]) -> Result<Vec<Value>> {
    let answer = drive::etcdctl(cluster, "cp1", &[words, &["--write-out=json"]].concat())?;
    serde_json::from_str(&answer).with_context(|| answer)
}
