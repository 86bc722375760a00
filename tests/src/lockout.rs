//! Ways in which a guard stops answering, and what must go on all the same.
//!
//! Invariant: each is made through the API, as an operator's slip or a fault of the guard itself would be, and lasts
//! through a power cut.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use crate::cluster::Cluster;
use crate::drive::{ready_within, run, selfhost, whole};
use crate::left;

/// Where the guard is installed.
pub const NAMESPACE: &str = "selfhost-guard";

/// From the kubelet's start to an API server that is ready.
const BACK: Duration = Duration::from_secs(60);

/// How long the guard may take to be what it was told to be.
const BROKEN: Duration = Duration::from_secs(60);

/// A way in which a guard stops answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lockout {
    /// Its Pods are gone.
    Dead,
    /// It listens, and never answers.
    Hanging,
    /// Its certificate has expired.
    Expired,
    /// The API servers do not trust its certificate.
    WrongAuthority,
    /// Its policy is no module.
    BrokenModule,
    /// It has more to judge than it takes.
    FullQueue,
}

impl Lockout {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Dead, Self::Hanging, Self::Expired, Self::WrongAuthority, Self::BrokenModule, Self::FullQueue];

    /// Brings it about.
    pub fn bring_about(self, cluster: &Cluster) -> Result<()> {
        match self {
            Self::Dead => {
                patch(cluster, "ds", r#"{"spec":{"template":{"spec":{"nodeSelector":{"none":"none"}}}}}"#)?;
            }
            // Stopped by hand below, and again after the cut.
            Self::Hanging => {}
            Self::Expired => expire(cluster)?,
            Self::WrongAuthority => distrust(cluster)?,
            Self::BrokenModule => argument(cluster, "--policy=/settings/settings.json")?,
            Self::FullQueue => {
                argument(cluster, "--workers=1")?;
                argument(cluster, "--queue=1")?;
            }
        }
        if matches!(self, Self::Expired | Self::BrokenModule | Self::FullQueue) {
            // What runs goes on with what it has: the next one meets it.
            let pods = ["-n", NAMESPACE, "delete", "pods", "--all", "--wait=false", "--grace-period=1"];
            cluster.kubectl(&pods)?;
        }
        Ok(())
    }

    /// Whether an edit that is harmless is denied for it. A full queue takes some.
    pub fn denies_everything(self) -> bool {
        self != Self::FullQueue
    }
}

/// The edit that no rule has anything against.
pub fn harmless(cluster: &Cluster) -> Result<String> {
    let edit =
        ["-n", "kube-system", "annotate", "--overwrite", "--dry-run=server", "ds/self-hosted-kube-scheduler"];
    cluster.kubectl(&[&edit[..], &["lockout=tried"]].concat())
}

/// Waits until even the harmless edit is denied.
pub fn denied(cluster: &Cluster) -> Result<()> {
    let begin = Instant::now();
    while harmless(cluster).is_ok() {
        ensure!(begin.elapsed() < BROKEN, "an edit of a guarded object goes through");
        thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// Switches the only node off and on again while the guard does not answer. Then the API must be ready, the control
/// plane whole, its node alive, and leader election at work. Tells how long the API took.
pub fn survive(cluster: &Cluster, lockout: Lockout) -> Result<Duration> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        if matches!(lockout, Lockout::Hanging | Lockout::FullQueue) {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    match lockout {
                        // The node may be off; then there is nothing to stop.
                        Lockout::Hanging => drop(stop_it(cluster)),
                        _ => crowd(cluster),
                    }
                    thread::sleep(Duration::from_millis(200));
                }
            });
        }
        let survived = cut(cluster, lockout);
        over.store(true, Ordering::Relaxed);
        survived
    })
}

fn cut(cluster: &Cluster, lockout: Lockout) -> Result<Duration> {
    if lockout.denies_everything() {
        denied(cluster)?;
    }
    let before = renewed(cluster)?;
    cluster.power_cut("cp1")?;
    cluster.boot("cp1")?;
    let back = ready_within(cluster, BACK)?;
    whole(cluster)?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "node/cp1", "--timeout=60s"])?;
    let after = renewed(cluster)?;
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        ensure!(after > before, "lease {name} is not renewed: {before}, then {after}");
    }
    if lockout.denies_everything() {
        denied(cluster).context("after the power cut")?;
    }
    Ok(back)
}

/// When the Leases were renewed that a cluster lives by.
fn renewed(cluster: &Cluster) -> Result<Vec<(&'static str, String)>> {
    let leases = [
        ("kube-node-lease", "cp1"),
        ("kube-system", "kube-controller-manager"),
        ("kube-system", "kube-scheduler"),
    ];
    let read = |(namespace, name): (&'static str, &'static str)| {
        let time = ["-n", namespace, "get", "lease", name, "-o", "jsonpath={.spec.renewTime}"];
        Ok((name, cluster.kubectl(&time)?))
    };
    leases.into_iter().map(read).collect()
}

/// Stops every process of the guard where it is: by the beginning of its command line, which this one has not.
fn stop_it(cluster: &Cluster) -> Result<()> {
    let script = "for p in /proc/[0-9]*; do case \"$(tr '\\0' ' ' < $p/cmdline 2>/dev/null)\" in \
                  /usr/local/bin/selfhost-admission*) kill -STOP ${p#/proc/};; esac; done";
    cluster.exec("cp1", &["sh", "-c", script]).map(drop)
}

/// More edits at the same time than the guard takes.
fn crowd(cluster: &Cluster) {
    thread::scope(|scope| {
        for _ in 0..4 {
            // Denied or not, answered or not: they are there to be in the way.
            scope.spawn(|| {
                let _ = harmless(cluster);
            });
        }
    });
}

/// Puts the guard right, whatever is the matter with it. Not `--wide`: the guard would keep those who break it here from
/// its own DaemonSet (PO-5).
pub fn mend(cluster: &Cluster) -> Result<()> {
    run(cluster, &["guard", "install", "--static", "--yes"])?.success().map(drop)
}

/// An object with an approval of `rule` for the edit that it is.
pub fn approve(cluster: &Cluster, object: &str, rule: &str) -> Result<String> {
    let output =
        fed(selfhost(cluster, &["guard", "approve", "-", "--rule", rule, "--reason", "a test"])?, object)?;
    ensure!(output.status.success(), "guard approve: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// What kubectl says to an object in the place of what is there.
pub fn replace(cluster: &Cluster, object: &str, more: &[&str]) -> Result<String> {
    let output = kubectl(cluster, &[&["replace", "-f", "-"], more].concat(), object)?;
    Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// What comes of a kubectl with this standard input.
pub fn kubectl(cluster: &Cluster, words: &[&str], input: &str) -> Result<Output> {
    let mut kubectl = cluster.kubectl_command()?;
    kubectl.args(words);
    fed(kubectl, input)
}

/// Runs a command with this standard input.
fn fed(mut command: Command, input: &str) -> Result<Output> {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().context("run it")?;
    child.stdin.take().context("standard input")?.write_all(input.as_bytes())?;
    Ok(child.wait_with_output()?)
}

/// A guard that is dead is uninstalled all the same, and nothing is left of it.
pub fn uninstall_dead(cluster: &Cluster) -> Result<()> {
    Lockout::Dead.bring_about(cluster)?;
    denied(cluster)?;
    run(cluster, &["guard", "uninstall", "--yes"])?.success()?;
    harmless(cluster).context("without a guard")?;
    left::nothing_of_the_guard(cluster)
}

/// What is left for root on a node, with nothing but kubectl and kubeadm's own file: the registration guards everything
/// but itself.
pub fn open_the_hatch(cluster: &Cluster) -> Result<()> {
    denied(cluster)?;
    let delete =
        ["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "delete", "validatingwebhookconfiguration"];
    cluster.exec("cp1", &[&delete[..], &[NAMESPACE]].concat())?;
    let begin = Instant::now();
    while let Err(error) = harmless(cluster) {
        ensure!(begin.elapsed() < Duration::from_secs(10), "without a registration: {error:#}");
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn patch(cluster: &Cluster, kind: &str, patch: &str) -> Result<()> {
    cluster.kubectl(&["-n", NAMESPACE, "patch", kind, NAMESPACE, "--type=merge", "-p", patch]).map(drop)
}

/// Adds an argument to the guard's command line; of two with one name the last counts.
fn argument(cluster: &Cluster, argument: &str) -> Result<()> {
    let read =
        ["-n", NAMESPACE, "get", "ds", NAMESPACE, "-o", "jsonpath={.spec.template.spec.containers[0].args}"];
    let mut arguments: Vec<String> = serde_json::from_str(&cluster.kubectl(&read)?)?;
    let name = argument.split_once('=').map_or(argument, |(name, _)| name);
    arguments.retain(|it| it.split_once('=').is_none_or(|(other, _)| other != name));
    arguments.push(argument.to_owned());
    let edit =
        json!([{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": arguments}]);
    let edit = edit.to_string();
    cluster.kubectl(&["-n", NAMESPACE, "patch", "ds", NAMESPACE, "--type=json", "-p", &edit]).map(drop)
}

/// A certificate whose time is over, in the place of the guard's.
fn expire(cluster: &Cluster) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let certificate = params.self_signed(&key)?;
    let edit = json!({"stringData": {"tls.crt": certificate.pem(), "tls.key": key.serialize_pem()}});
    patch(cluster, "secret", &edit.to_string())
}

/// Another authority in the registration, which has to be approved.
fn distrust(cluster: &Cluster) -> Result<()> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["elsewhere".to_owned()])?.self_signed(&key)?;
    let webhook = ["validatingwebhookconfiguration", NAMESPACE];
    let read = [&["get"], &webhook[..], &["-o", "json"]].concat();
    let mut configuration: serde_json::Value = serde_json::from_str(&cluster.kubectl(&read)?)?;
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, certificate.pem());
    for webhook in configuration["webhooks"].as_array_mut().context("webhooks")? {
        webhook["clientConfig"]["caBundle"] = encoded.clone().into();
    }
    let approved = approve(cluster, &configuration.to_string(), "AR-1")?;
    let said = replace(cluster, &approved, &[])?;
    ensure!(said.contains("replaced"), "{said}");
    Ok(())
}
