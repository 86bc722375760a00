//! The guard before a self-hosted control plane, under load: what is unsafe is denied, and the tool's own operations go on.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use selfhost_tests::drive::{Load, run, selfhost};
use selfhost_tests::{Cluster, left, lockout};

use crate::common;

/// Installed, an upgrade of one minor with it, and uninstalled again: no request fails.
#[test]
fn a_guard_is_installed_and_worked_with() -> Result<()> {
    let cluster = common::guarded("guarded")?;
    let load = Load::start(&cluster, 100)?;
    run(&cluster, &["pivot", "--yes"])?.success()?;
    run(&cluster, &["guard", "install", "--wide", "--yes"])?.success()?;
    run(&cluster, &["guard", "status"])?.success()?;
    denies(&cluster)?;
    approves(&cluster)?;
    run(&cluster, &["upgrade", "v1.37.2", "--yes"])?.success()?;
    run(&cluster, &["upgrade", "--rollback", "--yes"])?.success()?;
    run(&cluster, &["guard", "status"])?.success()?;
    let early = run(&cluster, &["unpivot", "--yes"])?;
    ensure!(early.code == Some(4) && early.err.contains("SH0250"), "{}", early.err);
    run(&cluster, &["guard", "uninstall", "--yes"])?.success()?;
    run(&cluster, &["unpivot", "--yes"])?.success()?;
    let availability = load.stop()?;
    println!("{}", availability.table());
    availability.expect_none_failed()?;
    left::nothing_of_the_guard(&cluster)?;
    left::nothing(&cluster)
}

/// Unsafe edits of what is guarded are denied, each by its rule; harmless ones go through.
fn denies(cluster: &Cluster) -> Result<()> {
    let scheduler = "ds/self-hosted-kube-scheduler";
    let roll = r#"{"spec":{"updateStrategy":{"type":"RollingUpdate"}}}"#;
    for (words, rule) in [
        (&["delete", scheduler][..], "DS-1"),
        (&["patch", scheduler, "--type=merge", "-p", roll], "DS-5"),
        (&["set", "image", scheduler, "kube-scheduler=registry.k8s.io/kube-scheduler:v1.39.0"], "DS-6"),
    ] {
        let error = cluster.kubectl(&[&["-n", "kube-system", "--dry-run=server"], words].concat());
        let error = error.err().with_context(|| format!("{words:?} goes through"))?;
        ensure!(format!("{error:#}").contains(rule), "{error:#}");
    }
    lockout::harmless(cluster).map(drop)
}

/// A container beside the scheduler is denied, and admitted with an approval of just that.
fn approves(cluster: &Cluster) -> Result<()> {
    let daemonset = ["-n", "kube-system", "get", "ds", "self-hosted-kube-scheduler", "-o", "json"];
    let mut edited: serde_json::Value = serde_json::from_str(&cluster.kubectl(&daemonset)?)?;
    let containers = &mut edited["spec"]["template"]["spec"]["containers"];
    let mut other = containers[0].clone();
    other["name"] = "tracing".into();
    other["command"] = serde_json::json!(["sleep", "1d"]);
    containers.as_array_mut().context("containers")?.push(other);
    let edited = edited.to_string();
    let denied = replace(cluster, &edited)?;
    ensure!(denied.contains("DS-11"), "{denied}");
    let mut child = selfhost(cluster, &["guard", "approve", "-", "--rule", "DS-11", "--reason", "a test"])?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("standard input")?.write_all(edited.as_bytes())?;
    let approved = child.wait_with_output()?;
    ensure!(approved.status.success(), "guard approve: {}", approved.status);
    let admitted = replace(cluster, &String::from_utf8(approved.stdout)?)?;
    ensure!(admitted.contains("replaced"), "{admitted}");
    Ok(())
}

/// What kubectl says to an object in the place of what is there, as a dry run.
fn replace(cluster: &Cluster, object: &str) -> Result<String> {
    let mut kubectl = cluster.kubectl_command()?;
    let mut child = kubectl
        .args(["replace", "--dry-run=server", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("standard input")?.write_all(object.as_bytes())?;
    let output = child.wait_with_output()?;
    Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}
