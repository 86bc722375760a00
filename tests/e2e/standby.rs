//! The standby: what comes back by itself when nobody is left who could bring it back.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use selfhost_tests::Cluster;
use selfhost_tests::drive::{run, settled};

use crate::common;

/// From the kubelet's start to an API server that is ready.
const BACK: Duration = Duration::from_secs(60);

/// From an API server that is ready to a control plane of DaemonSet Pods with a dormant standby.
const WHOLE: Duration = Duration::from_secs(180);

/// One cluster that is switched off at rest, and again while its standby serves.
#[test]
fn what_nobody_is_left_to_start_comes_back() -> Result<()> {
    let cluster = common::self_hosted("standby")?;
    cluster.kubectl(&["create", "namespace", "before-the-cut"])?;

    power_cut(&cluster)?;
    // The standby's copy serves now, and nothing else does.
    power_cut(&cluster)?;
    whole(&cluster)?;

    cluster.kubectl(&["get", "namespace", "before-the-cut"])?;
    common::nothing_left(&cluster)
}

/// Switches the only node off and on again, and waits until the API is ready.
fn power_cut(cluster: &Cluster) -> Result<()> {
    cluster.power_cut("cp1")?;
    cluster.boot("cp1")?;
    let back = answers_within(cluster, BACK)?;
    println!("power cut: the API is ready {:.1} s after the kubelet's start", back.as_secs_f64());
    Ok(())
}

/// How long it takes until the API is ready.
fn answers_within(cluster: &Cluster, limit: Duration) -> Result<Duration> {
    let begin = Instant::now();
    while cluster.kubectl(&["get", "--raw", "/readyz", "--request-timeout=2s"]).is_err() {
        ensure!(begin.elapsed() < limit, "no API server is ready after {} s", limit.as_secs());
        thread::sleep(Duration::from_millis(200));
    }
    Ok(begin.elapsed())
}

/// Waits until every component is ready from its DaemonSet, and the standby has gone back to sleep.
fn whole(cluster: &Cluster) -> Result<()> {
    settled(cluster)?;
    let status = run(cluster, &["status", "-o", "json", "--fail-on", "never"])?.json()?;
    ensure!(common::hosting(&status) == ["self-hosted"; 3], "{status:#}");
    let begin = Instant::now();
    loop {
        let copies =
            cluster.exec("cp1", &["ss", "-Hltn", "sport = :6444 or sport = :10267 or sport = :10269"])?;
        if copies.trim().is_empty() {
            return Ok(());
        }
        ensure!(begin.elapsed() < WHOLE, "the standby does not go back to sleep: {copies}");
        thread::sleep(Duration::from_secs(1));
    }
}
