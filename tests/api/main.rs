//! Tests against a real API server: etcd and kube-apiserver only, no cluster, no root.
//!
//! `cargo verify` runs them; alone: `cargo test -p selfhost-tests --features bed --test api`.

mod conformance;
mod rights;

use anyhow::{Result, ensure};
use selfhost_tests::cluster::{DEFAULT_VERSION, UPGRADE_VERSION};
use selfhost_tests::{ApiServer, Progress};

#[test]
fn it_serves_the_version_that_was_asked_for_and_ends_with_its_handle() -> Result<()> {
    for version in [DEFAULT_VERSION, UPGRADE_VERSION] {
        let server = ApiServer::start(&version.parse()?, &Progress::stderr())?;
        let answer: serde_json::Value =
            serde_json::from_str(&server.kubectl(&["get", "--raw", "/version"])?)?;
        assert_eq!(answer["gitVersion"], version);
        let (kubeconfig, mut late) = (server.kubeconfig(), server.kubectl_command());
        drop(server);
        assert!(!kubeconfig.exists());
        let output = late.args(["get", "--raw", "/version", "--request-timeout=2s"]).output()?;
        ensure!(!output.status.success(), "still answers: {output:?}");
    }
    Ok(())
}

#[test]
fn it_authorizes_by_rbac() -> Result<()> {
    let server = ApiServer::start(&DEFAULT_VERSION.parse()?, &Progress::stderr())?;
    let may = |verb: &str| {
        let mut kubectl = server.kubectl_command();
        kubectl.args(["auth", "can-i", verb, "configmaps", "--as", "jane", "--as-group", "readers"]);
        kubectl.output().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    assert_eq!(may("list")?, "no");
    server.kubectl(&["create", "clusterrole", "reader", "--verb=get,list", "--resource=configmaps"])?;
    server.kubectl(&["create", "clusterrolebinding", "reader", "--clusterrole=reader", "--group=readers"])?;
    // Its authorizer hears of new rules through a watch.
    let begin = std::time::Instant::now();
    while may("list")? != "yes" {
        ensure!(begin.elapsed().as_secs() < 10, "readers may not list after 10 s");
    }
    assert_eq!(may("delete")?, "no");
    Ok(())
}

#[test]
fn two_of_them_do_not_see_each_other() -> Result<()> {
    let start = || ApiServer::start(&DEFAULT_VERSION.parse()?, &Progress::stderr());
    let (one, other) = (start()?, start()?);
    one.kubectl(&["create", "configmap", "mine"])?;
    assert_eq!(one.kubectl(&["get", "configmap", "mine", "-o", "name"])?, "configmap/mine\n");
    assert_eq!(other.kubectl(&["get", "configmap", "mine", "-o", "name", "--ignore-not-found"])?, "");
    Ok(())
}
