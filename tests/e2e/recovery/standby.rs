//! The standby: what comes back by itself when nobody is left who could bring it back.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use selfhost_tests::drive::{ready_within, run, run_and_kill, settled, whole};
use selfhost_tests::{Cluster, left};

use crate::common;

/// From the kubelet's start to an API server that is ready.
const BACK: Duration = Duration::from_secs(60);

/// From the deletion of every DaemonSet to an API server that answers.
const STAND_IN: Duration = Duration::from_secs(20);

/// One cluster that is switched off in the middle of a pivot, again with a damaged checkpoint, and again while its standby
/// serves; then loses every DaemonSet. `cargo bench-power-cuts` goes on with the other operations, at random moments.
#[test]
fn what_nobody_is_left_to_start_comes_back() -> Result<()> {
    let cluster = common::cluster("standby", 1)?;
    cluster.kubectl(&["create", "namespace", "before-the-cut"])?;

    // Neither the static manifest nor a DaemonSet's Pod is there at that moment.
    let killed = run_and_kill(&cluster, &["pivot", "--yes"], Duration::ZERO, |line| {
        line.contains("kube-apiserver: wait until ready")
    })?;
    ensure!(!killed.met.is_empty(), "a pivot waits for its API server");
    power_cut(&cluster)?;
    settled(&cluster)?;
    let other = run(&cluster, &["unpivot", "--yes"])?;
    ensure!(other.code == Some(4) && other.err.contains("SH0202"), "{}", other.err);
    run(&cluster, &["resume", "--yes"])?.success()?;
    whole(&cluster)?;

    drift(&cluster)?;
    damage(&cluster)?;
    delete(&cluster)?;

    cluster.kubectl(&["get", "namespace", "before-the-cut"])?;
    left::nothing_of_an_operation(&cluster)
}

/// Switches the only node off and on again, and waits until the API is ready.
fn power_cut(cluster: &Cluster) -> Result<()> {
    cluster.power_cut("cp1")?;
    cluster.boot("cp1")?;
    let back = ready_within(cluster, BACK)?;
    println!("power cut: the API is ready {:.1} s after the kubelet's start", back.as_secs_f64());
    Ok(())
}

/// Somebody edits a DaemonSet and replaces its Pod by hand: the checkpoint is not what runs then, and a refresh writes the
/// second generation.
fn drift(cluster: &Cluster) -> Result<()> {
    let system = ["-n", "kube-system"];
    let name = "self-hosted-kube-scheduler";
    let edit = r#"[{"op":"add","path":"/spec/template/spec/containers/0/command/-","value":"--v=1"}]"#;
    cluster.kubectl(&[&system[..], &["patch", "ds", name, "--type=json", "-p", edit]].concat())?;
    let status = run(cluster, &["status", "-o", "json", "--fail-on", "never"])?.json()?;
    ensure!(common::codes(&status) == ["SH0109"], "{status:#}");
    let early = run(cluster, &["checkpoint", "refresh", "--yes"])?;
    ensure!(
        early.code == Some(4) && early.err.contains("SH0109"),
        "what has not served is not kept: {}",
        early.err
    );
    let app = format!("k8s-app={name}");
    cluster.kubectl(&[&system[..], &["delete", "pod", "-l", &app]].concat())?;
    settled(cluster)?;
    let status = run(cluster, &["status", "-o", "json", "--fail-on", "never"])?.json()?;
    ensure!(common::codes(&status) == ["SH0117"], "{status:#}");
    refresh(cluster)
}

/// Writes what runs now into the standby, and waits until the kubelet shows it.
fn refresh(cluster: &Cluster) -> Result<()> {
    run(cluster, &["checkpoint", "refresh", "--yes"])?.success()?;
    let begin = Instant::now();
    loop {
        let status = run(cluster, &["status", "-o", "json", "--fail-on", "never"])?.json()?;
        // etcd was started again after each power cut, which is worth a finding of its own.
        if common::codes(&status).iter().all(|code| code == "SH0104") {
            return Ok(());
        }
        // The kubelet sees the new manifest within twenty seconds, and shows its Pod.
        ensure!(begin.elapsed() < Duration::from_secs(60), "{status:#}");
        thread::sleep(Duration::from_secs(1));
    }
}

/// Two power cuts with a later generation that is damaged: the earlier one brings the control plane back, `status` says
/// what is wrong, and a refresh mends it.
fn damage(cluster: &Cluster) -> Result<()> {
    let manifests = cluster.node_dir("cp1", "/etc/kubernetes/manifests")?;
    let of = |slot: &str| manifests.join(format!("control-plane-standby-{slot}.yaml"));
    let generation = |slot: &str| -> Result<u64> {
        let manifest: serde_json::Value = serde_json::from_slice(&fs::read(of(slot))?)?;
        let text = &manifest["metadata"]["annotations"]["kubectl-selfhost.dev/generation"];
        Ok(text.as_str().unwrap_or_default().parse()?)
    };
    let latest = if generation("a")? > generation("b")? { "a" } else { "b" };
    let text = fs::read_to_string(of(latest))?;
    ensure!(text.contains("--etcd-servers="), "{text}");
    fs::write(of(latest), text.replace("--etcd-servers=", "--etcd-servers=http://127.0.0.1:1,"))?;
    power_cut(cluster)?;
    // The standby's copy serves now, and nothing else does.
    power_cut(cluster)?;
    whole(cluster)?;
    let status = run(cluster, &["status", "-o", "json", "--fail-on", "never"])?.json()?;
    let damaged = common::codes(&status).contains(&"SH0116".to_owned());
    ensure!(damaged && status.to_string().contains("is damaged"), "{status:#}");
    refresh(cluster)?;
    ensure!(generation(latest)? > generation(if latest == "a" { "b" } else { "a" })?);
    Ok(())
}

/// Every DaemonSet is deleted at once: the standby stands in, and a pivot brings them back.
fn delete(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["-n", "kube-system", "delete", "ds", "--all", "--wait=false"])?;
    // The old server still drains: whoever answers after that is the standby.
    let drained = Duration::from_secs(5);
    thread::sleep(drained);
    let answers = ready_within(cluster, STAND_IN.saturating_sub(drained))?;
    println!("without DaemonSets: an API server answers after {:.1} s", (drained + answers).as_secs_f64());
    run(cluster, &["pivot", "--yes"])?.success()?;
    whole(cluster)
}
