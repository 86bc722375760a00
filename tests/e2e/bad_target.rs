//! Targets that cannot start: refused, or found out by their bridge, and nothing that serves is touched.

use anyhow::{Result, ensure};
use selfhost_tests::Cluster;
use selfhost_tests::drive::{Load, Outcome, components, run};

use crate::common;

/// One cluster, one target after another, under load all along.
#[test]
fn a_target_that_cannot_start_changes_nothing() -> Result<()> {
    let cluster = common::self_hosted("bad-target")?;
    let load = Load::start(&cluster, 200)?;

    let image =
        run(&cluster, &["upgrade", "v1.37.2", "--yes", "--image-repository", "registry.invalid/none"])?;
    expect(&cluster, &image, 4, &["SH0204", "registry.invalid/none/kube-apiserver:v1.37.2"])?;

    let unknown = with_flag(&cluster, "--no-such-flag=1", &["upgrade", "v1.37.2", "--yes"])?;
    expect(&cluster, &unknown, 4, &["SH0217", "kube-apiserver:v1.37.2", "unknown flag: --no-such-flag"])?;

    // It is read without complaint, and refused when the server starts.
    let bad = "--etcd-cafile=/etc/kubernetes/pki/no-such-file.crt";
    let crashing = with_flag(&cluster, bad, &["upgrade", "v1.37.2", "--yes"])?;
    expect(
        &cluster,
        &crashing,
        1,
        &["SH0301", "kube-apiserver-bridge-cp1", "it last said:", "no-such-file.crt"],
    )?;

    let far = run(&cluster, &["upgrade", "v1.38.0", "--yes"])?;
    expect(&cluster, &far, 4, &["SH0215", "more than one minor ahead"])?;
    let back = run(&cluster, &["upgrade", "v1.35.0", "--yes"])?;
    expect(&cluster, &back, 4, &["SH0216"])?;

    let availability = load.stop()?;
    println!("{}", availability.table());
    availability.expect_none_failed()
}

/// The plugin said what it should, and the cluster is what it was.
fn expect(cluster: &Cluster, outcome: &Outcome, code: i32, parts: &[&str]) -> Result<()> {
    let said = format!("{}{}", outcome.out, outcome.err);
    println!("{said}");
    ensure!(outcome.code == Some(code), "exit code {:?} instead of {code}:\n{said}", outcome.code);
    for part in parts {
        ensure!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
    ensure!(said.contains("Nothing was changed."), "{said}");
    common::nothing_left(cluster)?;
    let status = run(cluster, &["status", "-o", "json"])?.json()?;
    ensure!(common::versions(&status) == ["v1.36.3"; 3], "{status:#}");
    for component in components(&status) {
        ensure!(component["restarts"] == 0 && component["ready"] == true, "{component:#}");
    }
    Ok(())
}

/// Runs the plugin while the API server's DaemonSet has a further flag, which it would roll with.
fn with_flag(cluster: &Cluster, flag: &str, arguments: &[&str]) -> Result<Outcome> {
    let path = "/spec/template/spec/containers/0/command";
    let name = ["-n", "kube-system", "patch", "ds", "self-hosted-kube-apiserver", "--type=json", "-p"];
    let read = ["-n", "kube-system", "get", "ds", "self-hosted-kube-apiserver", "-o"];
    let command =
        cluster.kubectl(&[&read[..], &["jsonpath={.spec.template.spec.containers[0].command}"]].concat())?;
    let mut changed: Vec<String> = serde_json::from_str(&command)?;
    let flag_name = flag.split('=').next().unwrap_or(flag);
    changed.retain(|argument| argument.split('=').next() != Some(flag_name));
    changed.push(flag.to_owned());
    let replacing = |command: &str| format!(r#"[{{"op":"replace","path":"{path}","value":{command}}}]"#);
    let with = replacing(&serde_json::to_string(&changed)?);
    cluster.kubectl(&[&name[..], &[&with]].concat())?;
    let outcome = run(cluster, arguments);
    cluster.kubectl(&[&name[..], &[&replacing(&command)]].concat())?;
    outcome
}
