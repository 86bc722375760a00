//! What the tests share: clusters, and reading what `status` says.

use anyhow::Result;
use selfhost_tests::drive::{components, run, settled};
use selfhost_tests::verify::TEST_CLUSTERS;
use selfhost_tests::{Cluster, Progress, Spec};
use serde_json::Value;

/// A kubeadm cluster of static Pods, all of them ready.
pub(crate) fn cluster(name: &str, control_planes: u8) -> Result<Cluster> {
    up(&Spec { control_planes, ..Spec::new(format!("{TEST_CLUSTERS}{name}").parse()?) })
}

/// The same with one node, and encryption at rest of every object.
pub(crate) fn encrypted(name: &str) -> Result<Cluster> {
    up(&Spec { encrypt: true, ..Spec::new(format!("{TEST_CLUSTERS}{name}").parse()?) })
}

/// The same with one node, which has the guard's image.
pub(crate) fn guarded(name: &str) -> Result<Cluster> {
    let mut spec = Spec::new(format!("{TEST_CLUSTERS}{name}").parse()?);
    spec.more.guard = true;
    up(&spec)
}

fn up(spec: &Spec) -> Result<Cluster> {
    let cluster = Cluster::up(spec, &Progress::stderr())?;
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
