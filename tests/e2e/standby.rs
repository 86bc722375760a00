//! The standby: what comes back by itself when nobody is left who could bring it back.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use selfhost_tests::Cluster;
use selfhost_tests::drive::{run, run_and_kill, settled};

use crate::common;

/// From the kubelet's start to an API server that is ready.
const BACK: Duration = Duration::from_secs(60);

/// From the deletion of every DaemonSet to an API server that answers.
const STAND_IN: Duration = Duration::from_secs(20);

/// From an API server that is ready to a control plane of DaemonSet Pods with a dormant standby.
const WHOLE: Duration = Duration::from_secs(180);

/// One cluster that is switched off at rest, while its standby serves, and in the middle of an upgrade; then loses its
/// DaemonSets.
#[test]
fn what_nobody_is_left_to_start_comes_back() -> Result<()> {
    let cluster = common::self_hosted("standby")?;
    cluster.kubectl(&["create", "namespace", "before-the-cut"])?;

    power_cut(&cluster)?;
    // The standby's copy serves now, and nothing else does.
    power_cut(&cluster)?;
    whole(&cluster)?;

    let upgrade = ["upgrade", "v1.37.2", "--yes"];
    for step in ["kube-apiserver: replace Pod", "kube-controller-manager: wait until ready"] {
        let met = run_and_kill(&cluster, &upgrade, Duration::ZERO, |line| line.contains(step))?;
        ensure!(!met.is_empty(), "no step {step}");
        power_cut(&cluster)?;
    }
    run(&cluster, &upgrade)?.success()?;
    whole(&cluster)?;
    let status = run(&cluster, &["status", "-o", "json"])?.json()?;
    ensure!(common::versions(&status) == ["v1.37.2"; 3], "{status:#}");
    common::nothing_left(&cluster)?;
    // Both generations are there by now, and the later one is what serves.
    ensure!(images(&cluster, "a")? != images(&cluster, "b")?, "two generations of one version");
    power_cut(&cluster)?;
    whole(&cluster)?;

    cluster.kubectl(&["-n", "kube-system", "delete", "ds", "--all", "--wait=false"])?;
    // The old server still drains: whoever answers after that is the standby.
    thread::sleep(Duration::from_secs(5));
    let answers = answers_within(&cluster, STAND_IN)?;
    println!("without DaemonSets: an API server answers after {:.1} s", 5.0 + answers.as_secs_f64());
    run(&cluster, &["pivot", "--yes"])?.success()?;
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

/// The images of a generation.
fn images(cluster: &Cluster, generation: &str) -> Result<String> {
    let pod = format!("control-plane-standby-{generation}-cp1");
    cluster.kubectl(&["-n", "kube-system", "get", "pod", &pod, "-o", "jsonpath={.spec.containers[*].image}"])
}
