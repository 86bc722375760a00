//! What the tests share: clusters, and reading what `status` says.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use selfhost_tests::drive::run;
use selfhost_tests::{Cluster, Progress, Spec};
use serde_json::Value;

/// The components that a pivot moves.
pub(crate) const COMPONENTS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// The beginning of the name of every cluster that these tests make.
const PREFIX: &str = "e2e-";

/// A kubeadm cluster of static Pods, all of them ready.
pub(crate) fn cluster(name: &str, control_planes: u8) -> Result<Cluster> {
    let mut spec = Spec::new(format!("{PREFIX}{name}").parse()?);
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

/// How long the control plane must have been ready. `kubeadm init` ends with a restart of the kubelet, which takes some
/// seconds to doubt the Pods that it finds, and some more to ask them.
const CALM: Duration = Duration::from_secs(12);

/// Waits until every Pod of the control plane is ready, and stays so.
pub(crate) fn settled(cluster: &Cluster) -> Result<()> {
    let begin = Instant::now();
    let mut calm = None;
    loop {
        let status = run(cluster, &["status", "-o", "json", "--fail-on", "never"])?;
        let ready = status.json().is_ok_and(|status| {
            components(&status).len() >= 3 * cluster.control_planes().len()
                && components(&status).iter().all(|component| component["ready"] == true)
        });
        let since = calm.get_or_insert_with(Instant::now);
        if !ready {
            calm = None;
        } else if since.elapsed() > CALM {
            return Ok(());
        }
        ensure!(begin.elapsed() < Duration::from_secs(180), "not ready: {}{}", status.out, status.err);
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// The rows of the three components, in order.
pub(crate) fn components(status: &Value) -> Vec<&Value> {
    let rows = status["components"].as_array().into_iter().flatten();
    rows.filter(|row| COMPONENTS.iter().any(|name| row["component"] == *name)).collect()
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
        left += &cluster.kubectl(&["-n", "kube-system", "get", object, "--ignore-not-found", "-o", "name"])?;
    }
    let slice = ["-n", "default", "get", "endpointslice/kubernetes-bridge", "--ignore-not-found", "-o", "name"];
    left += &cluster.kubectl(&slice)?;
    for node in cluster.control_planes() {
        let tables = cluster.exec(node, &["nft", "list", "tables"])?;
        left.extend(tables.lines().filter(|line| line.contains("selfhost")));
    }
    Ok(left)
}
