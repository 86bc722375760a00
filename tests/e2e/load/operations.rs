//! Pivot and upgrade of a one-node cluster under load: nothing is lost, and nothing is left.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use selfhost_tests::drive::{COMPONENTS, Load, run};
use selfhost_tests::{Cluster, docs, left};
use serde_json::Value;

use crate::common;

/// Who operates, and how.
const OPERATOR: [&str; 7] = ["--yes", "-o", "json", "--as", "ann", "--as-group", "control-plane-operators"];

/// The main job, once: a kubeadm cluster becomes self-hosted and is upgraded, at 200 requests a second, by a user with
/// the rights that the documentation hands out and no others. Between the two its DaemonSets are laid out as kubeadm 1.8
/// to 1.18 did, so that the upgrade has to adopt them first.
#[test]
fn pivot_and_upgrade_lose_no_request() -> Result<()> {
    let cluster = common::cluster("operations", 1)?;
    let manifests = manifests(&cluster)?;
    docs::apply_roles(cluster.kubectl_command()?)?;

    let before = run(&cluster, &["status", "-o", "json"])?.json()?;
    ensure!(common::hosting(&before) == ["static-pod"; 3], "{before:#}");

    let load = Load::start(&cluster, 200)?;
    let pivot = run(&cluster, &[&["pivot"], &OPERATOR[..]].concat())?.success()?;
    as_kubeadm_laid_out(&cluster)?;
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
    adopted(&cluster)?;
    left::nothing_of_an_operation(&cluster)?;
    let recorded = cluster.kubectl(&["-n", "kube-system", "get", "cm", "kubeadm-config", "-o", "yaml"])?;
    ensure!(recorded.contains("kubernetesVersion: v1.37.2"), "{recorded}");

    let kept = cluster.node_dir("cp1", "/var/lib/selfhost/manifests")?;
    for (component, text) in COMPONENTS.into_iter().zip(&manifests) {
        let kept = fs::read_to_string(kept.join(format!("{component}.yaml")))?;
        ensure!(kept == *text, "the kept manifest of {component} is not what kubeadm wrote");
    }

    for again in [&["pivot", "--yes"][..], &["upgrade", "v1.37.2", "--yes"], &["resume"], &["abort"]] {
        let report = run(&cluster, &[again, &["-o", "json"]].concat())?.success()?.json()?;
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

/// Gives the DaemonSets the shape in which kubeadm 1.8 to 1.18 made them: they roll by themselves, select nodes by role,
/// and know no hash of ours.
fn as_kubeadm_laid_out(cluster: &Cluster) -> Result<()> {
    for component in COMPONENTS {
        let name = format!("self-hosted-{component}");
        let edits = [
            r#"{"op":"replace","path":"/spec/updateStrategy","value":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":1}}}"#,
            r#"{"op":"replace","path":"/spec/template/spec/nodeSelector","value":{"node-role.kubernetes.io/control-plane":""}}"#,
            r#"{"op":"remove","path":"/spec/template/metadata/annotations/kubectl-selfhost.dev~1template-hash"}"#,
        ];
        let patch = |edits: &[&str]| {
            let patch = format!("[{}]", edits.join(","));
            cluster.kubectl(&["-n", "kube-system", "patch", "ds", &name, "--type=json", "-p", &patch])
        };
        patch(&edits[1..])?;
        // Its Pod counts as made from that template, or the strategy would roll it at once.
        thread::sleep(Duration::from_secs(5));
        let app = format!("k8s-app={name}");
        let newest = "jsonpath={.items[-1:].metadata.labels.controller-revision-hash}";
        let revisions =
            ["-n", "kube-system", "get", "controllerrevisions", "-l", &app, "--sort-by=.revision"];
        let revision = cluster.kubectl(&[&revisions[..], &["-o", newest]].concat())?;
        let label = format!("controller-revision-hash={}", revision.trim());
        cluster.kubectl(&["-n", "kube-system", "label", "pod", "-l", &app, "--overwrite", &label])?;
        patch(&edits[..1])?;
        cluster.kubectl(&["label", "node", "cp1", &format!("kubectl-selfhost.dev/{component}-")])?;
    }
    let status = run(cluster, &["status", "-o", "json"])?.json()?;
    let codes = common::codes(&status);
    ensure!(codes.contains(&"SH0108".to_owned()), "rolls by itself: {codes:?}");
    Ok(())
}

/// The DaemonSets are laid out as this tool does it.
fn adopted(cluster: &Cluster) -> Result<()> {
    let sets = cluster.kubectl(&["-n", "kube-system", "get", "ds", "-o", "json"])?;
    let sets: Value = serde_json::from_str(&sets)?;
    for set in sets["items"].as_array().context("a list")? {
        ensure!(set["spec"]["updateStrategy"]["type"] == "OnDelete", "{set:#}");
        let selector = &set["spec"]["template"]["spec"]["nodeSelector"];
        ensure!(selector.as_object().is_some_and(|selector| selector.len() == 1), "{selector}");
    }
    Ok(())
}
