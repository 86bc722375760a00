//! Targets that cannot start: refused, or found out by their bridge, and nothing that serves is touched; or found out
//! later, and taken back.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};

use anyhow::{Result, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use selfhost_tests::drive::{Load, Outcome, components, run, run_seeing, with_flag};
use selfhost_tests::{Cluster, left};

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

    taken_back(&cluster)?;

    let availability = load.stop()?;
    println!("{}", availability.table());
    availability.expect_none_failed()
}

/// An upgrade whose scheduler starts as a bridge and not in its place takes itself back, the two components before it
/// included.
fn taken_back(cluster: &Cluster) -> Result<()> {
    // Whoever comes first has the port: the old scheduler now, this one when it has gone.
    let mut squatter = Some(Squatter::start(cluster, 10259)?);
    let outcome = run_seeing(cluster, &["upgrade", "v1.37.2", "--yes"], |line| {
        if line.contains("taking `upgrade v1.37.2` back") {
            squatter = None;
        }
    })?;
    expect_as_before(cluster, &outcome, 1, &["SH0301", "taking `upgrade v1.37.2` back", "was taken back"])
}

/// Somebody on a node who takes a port as soon as nobody has it, for as long as this value lives.
struct Squatter(Child);

impl Squatter {
    fn start(cluster: &Cluster, port: u16) -> Result<Self> {
        // Ends by itself, too, should nobody be left to end it.
        let listen = format!(
            "until timeout --foreground 600 socat TCP-LISTEN:{port},reuseaddr,fork /dev/null; do sleep 0.02; done"
        );
        let mut shell = cluster.command("cp1", "sh")?;
        shell.args(["-c", &listen]).stdin(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Ok(Self(shell.spawn()?))
    }
}

impl Drop for Squatter {
    fn drop(&mut self) {
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

/// The plugin said what it should, and the cluster is what it was.
fn expect(cluster: &Cluster, outcome: &Outcome, code: i32, parts: &[&str]) -> Result<()> {
    expect_as_before(cluster, outcome, code, &[parts, &["Nothing was changed."]].concat())?;
    let status = run(cluster, &["status", "-o", "json"])?.json()?;
    for component in components(&status) {
        ensure!(component["restarts"] == 0, "{component:#}");
    }
    Ok(())
}

/// The same, where Pods may have been replaced, and replaced again.
fn expect_as_before(cluster: &Cluster, outcome: &Outcome, code: i32, parts: &[&str]) -> Result<()> {
    let said = format!("{}{}", outcome.out, outcome.err);
    println!("{said}");
    ensure!(outcome.code == Some(code), "exit code {:?} instead of {code}:\n{said}", outcome.code);
    for part in parts {
        ensure!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
    left::nothing_of_an_operation(cluster)?;
    let status = run(cluster, &["status", "-o", "json"])?.json()?;
    ensure!(common::versions(&status) == ["v1.36.3"; 3], "{status:#}");
    for component in components(&status) {
        ensure!(component["ready"] == true, "{component:#}");
    }
    Ok(())
}
