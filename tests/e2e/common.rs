//! What the tests share: clusters, and reading what `status` says.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use selfhost_tests::drive::{components, run, settled};
use selfhost_tests::verify::TEST_CLUSTERS;
use selfhost_tests::{Cluster, Progress, Spec};
use serde_json::Value;

/// A kubeadm cluster of static Pods, all of them ready.
pub(crate) fn cluster(name: &str, control_planes: u8) -> Result<Cluster> {
    let mut spec = Spec::new(format!("{TEST_CLUSTERS}{name}").parse()?);
    spec.control_planes = control_planes;
    let cluster = Cluster::up(&spec, &Progress::stderr())?;
    settled(&cluster)?;
    Ok(cluster)
}

/// The same, made self-hosted.
pub(crate) fn self_hosted(name: &str) -> Result<Cluster> {
    let cluster = cluster(name, 1)?;
    run(&cluster, &["pivot", "--yes"])?.success()?;
    Ok(cluster)
}

/// How each component is hosted.
pub(crate) fn hosting(status: &Value) -> Vec<&str> {
    components(status).iter().filter_map(|row| row["hosting"].as_str()).collect()
}

/// What each component runs.
pub(crate) fn versions(status: &Value) -> Vec<&str> {
    components(status).iter().filter_map(|row| row["version"].as_str()).collect()
}

/// The codes of the findings.
pub(crate) fn codes(status: &Value) -> Vec<String> {
    let findings = status["findings"].as_array().into_iter().flatten();
    findings.filter_map(|finding| finding["code"].as_str().map(ToOwned::to_owned)).collect()
}

/// Nothing of an operation is left: no bridge, task, lock, journal or endpoint of ours in the cluster, and no divert in
/// the kernel of a node.
pub(crate) fn nothing_left(cluster: &Cluster) -> Result<()> {
    let begin = Instant::now();
    loop {
        let left = leftovers(cluster)?;
        if left.is_empty() {
            return Ok(());
        }
        // A gate stays until the connections that it diverted have ended.
        ensure!(begin.elapsed() < Duration::from_secs(90), "left over: {left}");
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn leftovers(cluster: &Cluster) -> Result<String> {
    let mut left = String::new();
    for selector in ["kubectl-selfhost.dev/bridge", "kubectl-selfhost.dev/task"] {
        left += &cluster.kubectl(&["-n", "kube-system", "get", "pods", "-l", selector, "-o", "name"])?;
    }
    let named = ["lease/selfhost-operation", "cm/selfhost-operation"];
    for object in named {
        left +=
            &cluster.kubectl(&["-n", "kube-system", "get", object, "--ignore-not-found", "-o", "name"])?;
    }
    let slice =
        ["-n", "default", "get", "endpointslice/kubernetes-bridge", "--ignore-not-found", "-o", "name"];
    left += &cluster.kubectl(&slice)?;
    for node in cluster.control_planes() {
        let tables = cluster.exec(node, &["nft", "list", "tables"])?;
        // The standby has a table of its own, in which nothing is diverted while it is dormant.
        left.extend(tables.lines().filter(|line| line.trim() == "table inet selfhost"));
    }
    Ok(left)
}
