//! Pivot and upgrade of a one-node cluster under load: nothing is lost, and nothing is left.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use selfhost_tests::drive::{COMPONENTS, Load, run};
use selfhost_tests::{Cluster, docs};

use crate::common;

/// Who operates, and how.
const OPERATOR: [&str; 7] = ["--yes", "-o", "json", "--as", "ann", "--as-group", "control-plane-operators"];

/// The main job, once: a kubeadm cluster becomes self-hosted and is upgraded, at 200 requests a second, by a user with
/// the rights that the documentation hands out and no others.
#[test]
fn pivot_and_upgrade_lose_no_request() -> Result<()> {
    let cluster = common::cluster("operations", 1)?;
    let manifests = manifests(&cluster)?;
    docs::apply_roles(cluster.kubectl_command()?)?;

    let before = run(&cluster, &["status", "-o", "json"])?.json()?;
    ensure!(common::hosting(&before) == ["static-pod"; 3], "{before:#}");

    let load = Load::start(&cluster, 200)?;
    let pivot = run(&cluster, &[&["pivot"], &OPERATOR[..]].concat())?.success()?;
    let upgrade = run(&cluster, &[&["upgrade", "v1.37"], &OPERATOR[..]].concat())?.success()?;
    let availability = load.stop()?;
    println!("{}", availability.table());
    availability.expect_none_failed()?;
    for report in [pivot.json()?, upgrade.json()?] {
        ensure!(report["availability"]["total"]["counts"]["failed"] == 0, "{report:#}");
        ensure!(report["changed"] == true, "{report:#}");
    }

    let after = run(&cluster, &["status", "-o", "json"])?.json()?;
    ensure!(common::hosting(&after) == ["self-hosted"; 3], "{after:#}");
    ensure!(common::versions(&after) == ["v1.37.2"; 3], "{after:#}");
    common::nothing_left(&cluster)?;
    let recorded = cluster.kubectl(&["-n", "kube-system", "get", "cm", "kubeadm-config", "-o", "yaml"])?;
    ensure!(recorded.contains("kubernetesVersion: v1.37.2"), "{recorded}");

    let kept = cluster.node_dir("cp1", "/var/lib/selfhost/manifests")?;
    for (component, text) in COMPONENTS.into_iter().zip(&manifests) {
        let kept = fs::read_to_string(kept.join(format!("{component}.yaml")))?;
        ensure!(kept == *text, "the kept manifest of {component} is not what kubeadm wrote");
    }

    for again in [&["pivot", "--yes", "-o", "json"][..], &["upgrade", "v1.37.2", "--yes", "-o", "json"]] {
        let report = run(&cluster, again)?.success()?.json()?;
        ensure!(report["changed"] == false, "{report:#}");
    }
    Ok(())
}

fn manifests(cluster: &Cluster) -> Result<Vec<String>> {
    let directory = cluster.node_dir("cp1", "/etc/kubernetes/manifests")?;
    let read = |component: &&str| {
        let path = directory.join(format!("{component}.yaml"));
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    COMPONENTS.iter().map(read).collect()
}
