//! What the tests share: clusters, and reading what `status` says.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
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

/// Nothing of this tool is left at all: as before the first pivot.
pub(crate) fn nothing_of_ours(cluster: &Cluster) -> Result<()> {
    nothing_left(cluster)?;
    let objects = ["-n", "kube-system", "get", "ds,pods,cm,leases", "-o", "name"];
    let objects = cluster.kubectl(&objects)?;
    let nodes = cluster.kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].metadata}"])?;
    for (what, text, mark) in [
        ("objects", &objects, "self-hosted-"),
        ("objects", &objects, "standby"),
        ("nodes", &nodes, "selfhost"),
    ] {
        ensure!(!text.contains(mark), "{mark} is left among {what}: {text}");
    }
    for node in cluster.control_planes() {
        let left = "ls -d /var/lib/selfhost /run/selfhost* 2>/dev/null; nft list tables | grep selfhost";
        let left = cluster.exec(node, &["sh", "-c", &format!("{left}; true")])?;
        ensure!(left.trim().is_empty(), "left on {node}: {left}");
    }
    Ok(())
}

/// Every file of a node's directory, with its permissions and content.
pub(crate) fn tree(
    cluster: &Cluster,
    node: &str,
    directory: &str,
) -> Result<BTreeMap<PathBuf, (u32, Vec<u8>)>> {
    let mut files = BTreeMap::new();
    read_tree(&cluster.node_dir(node, directory)?, &mut files)?;
    Ok(files)
}

fn read_tree(directory: &Path, files: &mut BTreeMap<PathBuf, (u32, Vec<u8>)>) -> Result<()> {
    for entry in std::fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            read_tree(&path, files)?;
        } else {
            let mode = path.metadata()?.permissions().mode();
            files.insert(path.clone(), (mode, std::fs::read(&path)?));
        }
    }
    Ok(())
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
