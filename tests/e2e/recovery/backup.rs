//! A backup, and the way back to it.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use selfhost_tests::drive::{NODE_PART, etcdctl, ready_within, run, whole};
use selfhost_tests::{Cluster, left};
use serde_json::Value;

use crate::common;

/// What is written all the time, by nobody's wish: heartbeats and news.
const RESTLESS: [&str; 3] = ["/registry/events/", "/registry/leases/", "/registry/masterleases/"];

/// What a restored revision is ahead of its snapshot.
const AHEAD: u64 = 1_000_000_000;

/// How long the kubelet may take to show its static Pods.
const SHOWN: Duration = Duration::from_secs(60);

/// Seconds that a restore may take until etcd has ended.
const ENDED: &str = "120";

/// A self-hosted cluster is backed up and changed; a damaged copy of the backup is refused; a restore is killed and run
/// again. Then everything in etcd is what it was, and the control plane serves as before.
#[test]
fn what_was_backed_up_comes_back() -> Result<()> {
    let cluster = common::self_hosted("backup")?;
    whole(&cluster)?;
    refuses_nonsense(&cluster)?;
    // The kubelet shows the Pod of a manifest within twenty seconds.
    eventually("the standby's Pod", || {
        let standby = ["-n", "kube-system", "get", "pod", "control-plane-standby-a-cp1"];
        Ok(cluster.kubectl(&standby).err().map(|error| error.to_string()))
    })?;
    cluster.kubectl(&["create", "namespace", "before"])?;
    for (name, value) in [("deleted", "value=1"), ("edited", "value=1")] {
        cluster.kubectl(&["-n", "before", "create", "configmap", name, "--from-literal", value])?;
    }
    let made = run(&cluster, &["backup", "-o", "json"])?.success()?.json()?;
    let backup = &made["backups"][0];
    println!("backup: {backup}");
    let directory = backup["directory"].as_str().context("a directory")?.to_owned();
    ensure!(backup["node"] == "cp1" && backup["checkedBy"] == "etcdutl", "{backup}");
    is_private(&cluster, &directory)?;
    // Those of the snapshot: controllers may write before it and after it. The Pod that took it is a part of it, and is
    // deleted below.
    let mut keys = keys(&cluster, backup["revision"].as_u64())?;
    keys.remove("/registry/pods/kube-system/selfhost-backup-cp1");

    cluster.kubectl(&["create", "namespace", "after"])?;
    cluster.kubectl(&["-n", "before", "delete", "configmap", "deleted"])?;
    let edit = r#"{"data":{"value":"2"}}"#;
    cluster.kubectl(&["-n", "before", "patch", "configmap", "edited", "--type=merge", "-p", edit])?;
    refuses_a_cut_snapshot(&cluster, &directory)?;

    let from = ["restore", "--from", directory.as_str()];
    let rehearsal = cluster.exec("cp1", &[&[NODE_PART], &from[..], &["--dry-run"]].concat())?;
    ensure!(rehearsal.contains("Would rename /var/lib/etcd/member"), "{rehearsal}");
    killed_in_the_middle(&cluster, &from)?;
    let restored = cluster.exec("cp1", &[&[NODE_PART], &from[..]].concat())?;
    println!("restore:\n{restored}");
    ensure!(restored.contains("Going on with what began at"), "{restored}");
    ensure!(restored.trim_end().ends_with("Next: kubectl selfhost status"), "{restored}");

    ready_within(&cluster, Duration::from_secs(30))?;
    whole(&cluster)?;
    cluster.kubectl(&["-n", "kube-system", "delete", "pod", "selfhost-backup-cp1"])?;
    eventually("the keys of the backup", || {
        let now = self::keys(&cluster, None)?;
        let gone = keys.difference(&now).map(|key| format!("-{key}"));
        let new = now.difference(&keys).map(|key| format!("+{key}"));
        let differ: Vec<String> = gone.chain(new).collect();
        Ok((!differ.is_empty()).then(|| differ.join(" ")))
    })?;
    for name in ["deleted", "edited"] {
        let value =
            cluster.kubectl(&["-n", "before", "get", "configmap", name, "-o", "jsonpath={.data.value}"])?;
        ensure!(value == "1", "{name}: {value}");
    }
    let list: Value =
        serde_json::from_str(&cluster.kubectl(&["get", "--raw", "/api/v1/namespaces?limit=1"])?)?;
    let revision: u64 = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().parse()?;
    ensure!(revision > AHEAD, "a watch from before must not wait for revision {revision}");
    cluster.kubectl(&["create", "namespace", "later"])?;
    left::nothing_of_an_operation(&cluster)
}

/// Asks until nothing is wrong any more.
fn eventually(what: &str, mut wrong: impl FnMut() -> Result<Option<String>>) -> Result<()> {
    let begin = Instant::now();
    while let Some(wrong) = wrong()? {
        ensure!(begin.elapsed() < SHOWN, "{what}: {wrong}");
        thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

/// Kills a restore after it has taken the data of etcd away, and before it has put other data there.
fn killed_in_the_middle(cluster: &Cluster, from: &[&str]) -> Result<()> {
    // In the node: its kill reaches the program itself, and is there within hundredths of a second.
    const SCRIPT: &str = r#"
        "$@" &
        until [ ! -e /var/lib/etcd/member ] && [ ! -e /etc/kubernetes/manifests/etcd.yaml ]; do
            kill -0 $! || exit 0
            sleep 0.02
        done
        kill -KILL $!
        wait $!
    "#;
    let mut restore = cluster.command("cp1", "timeout")?;
    restore.args([ENDED, "sh", "-c", SCRIPT, "sh", NODE_PART]).args(from);
    let killed = restore.output()?;
    let words = String::from_utf8_lossy(&killed.stdout);
    println!("killed:\n{words}");
    ensure!(killed.status.code() == Some(128 + 9), "{}: {words}", killed.status);
    Ok(())
}

/// The keys in etcd at a revision, or now, but for those that come and go by themselves.
fn keys(cluster: &Cluster, revision: Option<u64>) -> Result<BTreeSet<String>> {
    let revision = format!("--rev={}", revision.unwrap_or_default());
    let keys = etcdctl(cluster, "cp1", &["get", "/registry", "--prefix", "--keys-only", &revision])?;
    let lasting = |key: &&str| !key.is_empty() && !RESTLESS.iter().any(|prefix| key.starts_with(prefix));
    Ok(keys.lines().filter(lasting).map(ToOwned::to_owned).collect())
}

fn refuses_nonsense(cluster: &Cluster) -> Result<()> {
    for (arguments, message) in [
        (vec!["--node", "cp9"], "there is no node cp9"),
        (vec!["--to", "here"], "is no absolute path of a directory"),
    ] {
        let refused = run(cluster, &[&["backup"], &arguments[..]].concat())?;
        ensure!(refused.code == Some(4) && refused.err.contains(message), "{refused:?}");
    }
    Ok(())
}

/// Nobody but root can look into a backup, and keys have the modes that they have on the node.
fn is_private(cluster: &Cluster, directory: &str) -> Result<()> {
    let key = "etc/kubernetes/pki/ca.key";
    let paths =
        [directory.to_owned(), format!("{directory}/snapshot.db"), format!("{directory}/files/{key}")];
    let modes = cluster.exec("cp1", &["stat", "-c", "%a", &paths[0], &paths[1], &paths[2]])?;
    ensure!(modes.split_whitespace().collect::<Vec<_>>() == ["700", "600", "600"], "{modes}");
    let same = ["cmp", &paths[2], &format!("/{key}")].map(ToOwned::to_owned);
    cluster.exec("cp1", &same.each_ref().map(String::as_str))?;
    Ok(())
}

/// A copy of which the end is missing is refused by name, and nothing is touched for it.
fn refuses_a_cut_snapshot(cluster: &Cluster, directory: &str) -> Result<()> {
    let copy = "/var/lib/selfhost/backups/cut";
    cluster.exec("cp1", &["cp", "-a", directory, copy])?;
    let snapshot = cluster.node_dir("cp1", &format!("{copy}/snapshot.db"))?;
    let whole = fs::metadata(&snapshot)?.len();
    fs::OpenOptions::new().write(true).open(&snapshot)?.set_len(whole - 512)?;
    let refused = cluster.command("cp1", NODE_PART)?.args(["restore", "--from", copy]).output()?;
    let words = String::from_utf8_lossy(&refused.stderr);
    let expected = format!("{copy}/snapshot.db is damaged: it has {} bytes", whole - 512);
    ensure!(refused.status.code() == Some(1) && words.contains(&expected), "{words}");
    cluster.kubectl(&["get", "namespace", "after"])?;
    cluster.exec("cp1", &["ls", "/etc/kubernetes/manifests/etcd.yaml"])?;
    Ok(())
}
