//! etcd comes along with an upgrade, and is taken back where its image does not start.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use selfhost_tests::binaries::{ETCD_BAD_TAG, ETCD_TAG, ETCD_UPGRADE_TAG};
use selfhost_tests::drive::{Load, Outcome, run, settled};
use selfhost_tests::verify::TEST_CLUSTERS;
use selfhost_tests::{Cluster, Progress, Spec, left};

use crate::common;

/// One cluster, under load: first an image that does not start, which costs a pause and nothing else, and then one that
/// does. What was stored before is there all along.
#[test]
fn etcd_comes_along() -> Result<()> {
    let mut spec = Spec::new(format!("{TEST_CLUSTERS}etcd").parse()?);
    spec.more.etcd_upgrade = true;
    let cluster = Cluster::up(&spec, &Progress::stderr())?;
    settled(&cluster)?;
    run(&cluster, &["pivot", "--yes"])?.success()?;
    cluster.kubectl(&["create", "configmap", "before", "--from-literal=key=value"])?;
    let manifest = cluster.node_dir("cp1", "/etc/kubernetes/manifests")?.join("etcd.yaml");
    let written = fs::read_to_string(&manifest)?;

    let bad = pause(&cluster, ETCD_BAD_TAG)?;
    ensure!(bad.code == Some(1), "{bad:?}");
    for part in
        ["SH0301: pod etcd-cp1 does not start", "3.6.8 serves again", "it last said:", "Nothing was changed."]
    {
        ensure!(bad.err.contains(part), "{part:?} is missing in:\n{}", bad.err);
    }
    ensure!(fs::read_to_string(&manifest)? == written, "the manifest is not what kubeadm wrote");
    as_it_should_be(&cluster, ETCD_TAG)?;

    pause(&cluster, ETCD_UPGRADE_TAG)?.success()?;
    ensure!(fs::read_to_string(&manifest)? == written.replace(ETCD_TAG, ETCD_UPGRADE_TAG), "only the image");
    as_it_should_be(&cluster, ETCD_UPGRADE_TAG)?;
    let backups = fs::read_dir(cluster.node_dir("cp1", "/var/lib/selfhost/backups")?)?;
    let snapshots = backups.flatten().filter(|backup| backup.path().join("snapshot.db").is_file()).count();
    ensure!(snapshots == 2, "one for each try, and there are {snapshots}");
    let recorded = cluster.kubectl(&["-n", "kube-system", "get", "cm", "kubeadm-config", "-o", "yaml"])?;
    ensure!(recorded.contains(&format!("imageTag: {ETCD_UPGRADE_TAG}")), "{recorded}");
    Ok(())
}

/// Upgrades etcd alone, under load, and prints what that cost.
fn pause(cluster: &Cluster, tag: &str) -> Result<Outcome> {
    let load = Load::start(cluster, 50)?;
    let outcome = run(cluster, &["upgrade", &format!("--etcd={tag}"), "--yes"]);
    println!("etcd {tag}:\n{}", load.stop()?.table());
    let outcome = outcome?;
    println!("{}{}", outcome.out, outcome.err);
    Ok(outcome)
}

/// etcd runs the image, everything is ready, and what was stored is there.
fn as_it_should_be(cluster: &Cluster, tag: &str) -> Result<()> {
    settled(cluster)?;
    left::nothing_of_an_operation(cluster)?;
    let image = format!("registry.k8s.io/etcd:{tag}");
    let begin = Instant::now();
    let status = loop {
        let status = run(cluster, &["status", "-o", "json", "--fail-on", "never"])?.json()?;
        let rows = status["components"].as_array().into_iter().flatten();
        let etcd: Vec<_> = rows.filter(|row| row["component"] == "etcd").collect();
        ensure!(etcd.len() == 1 && etcd[0]["image"] == image, "{etcd:#?}");
        // It serves; the kubelet asks it every ten seconds, and later where it had to start it twice.
        if etcd[0]["ready"] == true {
            break status;
        }
        ensure!(begin.elapsed() < Duration::from_secs(90), "{etcd:#?}");
        thread::sleep(Duration::from_secs(1));
    };
    ensure!(common::hosting(&status) == ["self-hosted"; 3], "{status:#}");
    let value = cluster.kubectl(&["get", "configmap", "before", "-o", "jsonpath={.data.key}"])?;
    ensure!(value == "value", "{value}");
    Ok(())
}
