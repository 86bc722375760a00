//! What an operation, or the tool as a whole, must not leave behind.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::cluster::Cluster;

/// How long a gate may stay: until the connections that it diverted have ended.
const GATE: Duration = Duration::from_secs(90);

/// Nothing of an operation is left: no bridge, task, lock, journal or endpoint of ours in the cluster, and no divert in
/// the kernel of a node.
pub fn nothing_of_an_operation(cluster: &Cluster) -> Result<()> {
    let begin = Instant::now();
    loop {
        let left = of_an_operation(cluster)?;
        if left.is_empty() {
            return Ok(());
        }
        ensure!(begin.elapsed() < GATE, "left over: {left}");
        thread::sleep(Duration::from_secs(1));
    }
}

fn of_an_operation(cluster: &Cluster) -> Result<String> {
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
        // The standby has tables of its own, in which nothing is diverted while it is dormant.
        let of_bridge =
            |line: &&str| matches!(line.trim(), "table inet selfhost" | "table inet selfhost_closing");
        left.extend(tables.lines().filter(of_bridge));
    }
    Ok(left)
}

/// Nothing of the tool is left at all: as before the first pivot.
pub fn nothing(cluster: &Cluster) -> Result<()> {
    nothing_of_an_operation(cluster)?;
    let objects = cluster.kubectl(&["-n", "kube-system", "get", "ds,pods,cm,leases", "-o", "name"])?;
    let nodes = cluster.kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].metadata}"])?;
    for (text, mark) in [(&objects, "self-hosted-"), (&objects, "standby"), (&nodes, "selfhost")] {
        ensure!(!text.contains(mark), "{mark} is left: {text}");
    }
    for node in cluster.control_planes() {
        let look =
            "ls -d /var/lib/selfhost /run/selfhost* 2>/dev/null; nft list tables | grep selfhost; true";
        let left = cluster.exec(node, &["sh", "-c", look])?;
        ensure!(left.trim().is_empty(), "left on {node}: {left}");
    }
    Ok(())
}

/// Nothing of a guard is left, in the cluster or on its nodes.
pub fn nothing_of_the_guard(cluster: &Cluster) -> Result<()> {
    nothing_of_an_operation(cluster)?;
    let kinds = "namespaces,clusterroles,clusterrolebindings,validatingwebhookconfigurations,\
                 validatingadmissionpolicies,validatingadmissionpolicybindings";
    let mut objects = cluster.kubectl(&["get", kinds, "-o", "name"])?;
    objects += &cluster.kubectl(&["get", "roles,rolebindings", "-A", "-o", "name"])?;
    ensure!(!objects.contains("guard"), "left over: {objects}");
    let daemonsets = cluster.kubectl(&["-n", "kube-system", "get", "ds", "-o", "yaml"])?;
    ensure!(!daemonsets.contains("guard"), "{daemonsets}");
    for node in cluster.control_planes() {
        let look = [
            "sh",
            "-c",
            "grep -rl selfhost-guard /etc/kubernetes; ls -d /etc/kubernetes/pki/*guard* 2>/dev/null; true",
        ];
        let left = cluster.exec(node, &look)?;
        ensure!(left.trim().is_empty(), "left on {node}: {left}");
    }
    Ok(())
}
