//! `selfhost-node recover`: what a person brings back where nothing is left that would come back by itself.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use selfhost_tests::drive::{NODE_PART, Outcome, run, whole};
use selfhost_tests::tree::Tree;
use selfhost_tests::{Cluster, left};

use crate::common;

/// Where etcd has the DaemonSet.
const STORED: &str = "/registry/daemonsets/kube-system/self-hosted-kube-apiserver";

/// What serves for this long is whole: what fails later is not what this is about.
const SETTLE: &str = "--settle=1s";

/// How long etcd may take to start, and the kubelet to run what it learns from an API server.
const START: Duration = Duration::from_secs(60);

/// One cluster with encryption at rest loses its power, its standby and the copies of that. The API server is brought back
/// from the encrypted DaemonSet in etcd, a pivot makes the control plane whole, and an unpivot has nothing to regret.
#[test]
fn recover_brings_back_what_has_no_standby() -> Result<()> {
    let cluster = common::encrypted("recover")?;
    let written = Tree::of(&cluster, "cp1", "/etc/kubernetes/manifests")?;
    cluster.kubectl(&["create", "namespace", "before-the-cut"])?;
    run(&cluster, &["pivot", "--yes", SETTLE])?.success()?;
    ensure!(stored(&cluster)?.starts_with("k8s:enc:aesgcm:v1:key1:"), "encrypted at rest");

    cluster.power_cut("cp1")?;
    fs::write(slot(&cluster, "/etc/kubernetes/manifests")?, "{")?;
    cluster.boot("cp1")?;
    until("etcd runs", || Ok(stored(&cluster).is_ok()))?;

    put_back(&cluster)?;
    refused(&cluster)?;
    from_etcd(&cluster)?;
    cluster.kubectl(&["get", "namespace", "before-the-cut"])?;

    let pivot = run(&cluster, &["pivot", "--yes", SETTLE])?.success()?;
    whole(&cluster)?;
    left::nothing_of_an_operation(&cluster)?;
    let status = run(&cluster, &["status", "-o", "json", "--fail-on", "never"])?.json()?;
    // Everything was started again after the power cut, which is worth a finding.
    ensure!(common::codes(&status).iter().all(|code| code == "SH0104"), "{status:#}\n{}", pivot.err);

    run(&cluster, &["unpivot", "--yes", SETTLE])?.success()?;
    let back = written.difference(&Tree::of(&cluster, "cp1", "/etc/kubernetes/manifests")?);
    ensure!(back.is_empty(), "not what kubeadm wrote: {back:?}");
    left::nothing(&cluster)
}

/// A manifest that is damaged is put back from its copy, and nothing else is touched.
fn put_back(cluster: &Cluster) -> Result<()> {
    let manifest = slot(cluster, "/etc/kubernetes/manifests")?;
    // It would start the standby, which is to be lost.
    cluster.exec("cp1", &["systemctl", "stop", "kubelet"])?;
    let outcome = recover(cluster, &["--timeout", "0"])?;
    expect(&outcome, 1, &["control-plane-standby-a.yaml is damaged: it is no JSON", "Put back "])?;
    expect(
        &outcome,
        1,
        &["error: no API server is ready after 0 s: no kubelet runs, etcd accepts connections"],
    )?;
    ensure!(fs::read(&manifest)? == fs::read(slot(cluster, "/var/lib/selfhost/checkpoints")?)?);

    fs::remove_file(&manifest)?;
    fs::remove_dir_all(cluster.node_dir("cp1", "/var/lib/selfhost/checkpoints")?)?;
    cluster.exec("cp1", &["systemctl", "start", "kubelet"])?;
    Ok(())
}

/// What cannot be done is refused with what it needs, and changes nothing.
fn refused(cluster: &Cluster) -> Result<()> {
    let tree = || Tree::of(cluster, "cp1", "/etc/kubernetes");
    let before = tree()?;
    let none = recover(cluster, &["--from", "checkpoint"])?;
    expect(&none, 1, &["holds a good checkpoint", "hint: selfhost-node recover --from etcd"])?;
    let none = recover(cluster, &["--from", "kept", "--state", "/var/lib/none"])?;
    expect(&none, 1, &["there is no kept manifest /var/lib/none/manifests/kube-apiserver.yaml", "hint: "])?;
    // It has a key, as much of one as any text has that is 32 bytes in base64.
    let other = "/var/lib/selfhost/other-key.yaml";
    let secret = format!("secret: {}=\n", "A".repeat(43));
    fs::write(cluster.node_dir("cp1", other)?, secret)?;
    let wrong = recover(cluster, &["--encryption-provider-config", other])?;
    expect(&wrong, 1, &["encrypted (aesgcm, key key1)", "opens it", "hint: give the file"])?;
    fs::remove_file(cluster.node_dir("cp1", other)?)?;

    let kept = recover(cluster, &["--from", "kept", "--dry-run"])?;
    let text =
        fs::read_to_string(cluster.node_dir("cp1", "/var/lib/selfhost/manifests/kube-apiserver.yaml")?)?;
    expect(&kept, 0, &["names registry.k8s.io/kube-apiserver:v1.36.3.", text.trim_end()])?;
    let dry = recover(cluster, &["--dry-run"])?;
    expect(
        &dry,
        0,
        &["No checkpoint is used", "Would write /etc/kubernetes/manifests/kube-apiserver.yaml:"],
    )?;
    let changed = before.difference(&tree()?);
    ensure!(changed.is_empty(), "{changed:?}");
    Ok(())
}

/// The static Pod that is made of the DaemonSet serves, beside the DaemonSet's own Pod, which cannot have the port.
fn from_etcd(cluster: &Cluster) -> Result<()> {
    let begin = Instant::now();
    let outcome = recover(cluster, &[])?;
    expect(&outcome, 0, &["The DaemonSet in etcd names registry.k8s.io/kube-apiserver:v1.36.3."])?;
    expect(
        &outcome,
        0,
        &["An API server is ready on 127.0.0.1:6443, after ", "Next: kubectl selfhost pivot\n"],
    )?;
    println!("recover: an API server is ready after {:.1} s", begin.elapsed().as_secs_f64());
    until("two Pods want one port, and all else is ready", || {
        let status = run(cluster, &["status", "-o", "json", "--fail-on", "never"])?;
        let Ok(status) = status.json() else { return Ok(false) };
        let rows = || status["components"].as_array().into_iter().flatten();
        let server = |hosting: &str| {
            rows().find(|row| row["component"] == "kube-apiserver" && row["hosting"] == hosting)
        };
        let fails = server("self-hosted").is_some_and(|row| row["ready"] == false);
        Ok(fails
            && server("static-pod").is_some()
            && status["standbys"] == serde_json::json!([])
            && rows().all(|row| row["ready"] == true || Some(row) == server("self-hosted")))
    })
}

/// What of the standby is in a directory: a cluster that was pivoted once has one generation.
fn slot(cluster: &Cluster, directory: &str) -> Result<PathBuf> {
    Ok(cluster.node_dir("cp1", directory)?.join("control-plane-standby-a.yaml"))
}

/// The DaemonSet of the API server as etcd has it, without an API server.
fn stored(cluster: &Cluster) -> Result<String> {
    let pki = "/etc/kubernetes/pki";
    let [ca, cert, key] = [
        format!("--cacert={pki}/etcd/ca.crt"),
        format!("--cert={pki}/apiserver-etcd-client.crt"),
        format!("--key={pki}/apiserver-etcd-client.key"),
    ];
    let etcdctl = ["etcdctl", &ca, &cert, &key, "--command-timeout=2s", "get", STORED, "--print-value-only"];
    let output = cluster.command("cp1", etcdctl[0])?.args(&etcdctl[1..]).output().context("run etcdctl")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs the program on the node, as a person would at its console.
fn recover(cluster: &Cluster, arguments: &[&str]) -> Result<Outcome> {
    let output =
        cluster.command("cp1", NODE_PART)?.arg("recover").args(arguments).output().context("run recover")?;
    Ok(Outcome {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn expect(outcome: &Outcome, code: i32, texts: &[&str]) -> Result<()> {
    let said = format!("{}{}", outcome.out, outcome.err);
    let missing: Vec<_> = texts.iter().filter(|text| !said.contains(**text)).collect();
    ensure!(outcome.code == Some(code) && missing.is_empty(), "{missing:?} with {code} in {outcome:?}");
    Ok(())
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !is_so()? {
        ensure!(begin.elapsed() < START, "not within {} s: {what}", START.as_secs());
        thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}
