//! The guard before a self-hosted control plane, under load: what is unsafe is denied, and the tool's own operations go on.

use anyhow::{Context as _, Result, ensure};
use selfhost_tests::drive::{Load, run};
use selfhost_tests::{Cluster, left, lockout};

use super::bypasses;
use crate::common;

/// Installed, an upgrade of one minor with it, and uninstalled again: no request fails.
#[test]
fn a_guard_is_installed_and_worked_with() -> Result<()> {
    let cluster = common::guarded("guarded")?;
    let load = Load::start(&cluster, 100)?;
    run(&cluster, &["pivot", "--yes"])?.success()?;
    run(&cluster, &["guard", "install", "--wide", "--static", "--yes"])?.success()?;
    let status = run(&cluster, &["guard", "status"])?.success()?;
    ensure!(status.out.contains("AR-1"), "{}", status.out);
    denies(&cluster)?;
    bypasses::each_is_denied(&cluster)?;
    approves(&cluster)?;
    is_renewed(&cluster)?;
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
        (&["delete", "validatingwebhookconfiguration", "selfhost-guard"], "AR-1"),
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
    let dry_run = ["--dry-run=server"];
    let denied = lockout::replace(cluster, &edited, &dry_run)?;
    ensure!(denied.contains("DS-11"), "{denied}");
    let approved = lockout::approve(cluster, &edited, "DS-11")?;
    let admitted = lockout::replace(cluster, &approved, &dry_run)?;
    ensure!(admitted.contains("replaced"), "{admitted}");
    Ok(())
}

/// The guard, which keeps its own DaemonSet, lets another version of its image come, and nothing else. Another image is for
/// whoever may take its registration away.
fn is_renewed(cluster: &Cluster) -> Result<()> {
    let other =
        ["-n", "selfhost-guard", "set", "image", "ds/selfhost-guard", "guard=evil.invalid/guard:v0.1.0"];
    let error = cluster.kubectl(&[&other[..], &["--dry-run=server"]].concat());
    let error = error.err().context("another image of the guard goes through")?;
    ensure!(format!("{error:#}").contains("PO-5"), "{error:#}");
    // The same image, as if it were another: it runs with its digest.
    let image = cluster.guard_image().context("the guard's image")?;
    let tag = image.split_once('@').map_or(image, |(tag, _)| tag);
    run(cluster, &["guard", "install", "--wide", "--static", "--yes", "--guard-image", tag])?.success()?;
    let of = "jsonpath={.spec.template.spec.containers[0].image}";
    let runs = cluster.kubectl(&["-n", "selfhost-guard", "get", "ds", "selfhost-guard", "-o", of])?;
    ensure!(runs == tag, "{runs}");
    run(cluster, &["guard", "status"])?.success()?;

    let elsewhere = "elsewhere.invalid/guard:v0.1.0";
    cluster.exec("cp1", &["ctr", "--namespace=k8s.io", "images", "tag", tag, elsewhere])?;
    let install = ["guard", "install", "--wide", "--static", "--yes", "--guard-image", elsewhere];
    let installed = run(cluster, &install)?.success()?;
    ensure!(installed.err.contains("is not registered until it is made"), "{}", installed.err);
    run(cluster, &["guard", "status"])?.success().map(drop)
}
