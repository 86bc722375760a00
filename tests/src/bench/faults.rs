//! `cargo bench-faults`: what speaks against an operation, one after the other, on one real cluster.
//!
//! Invariant: each fault is brought about before its operation, proved to be seen, and taken away; the control plane is
//! what it was before the next.

use std::fs;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Row, fresh, say, selfhost};
use crate::cluster::{Cluster, UPGRADE_VERSION};
use crate::drive::{COMPONENTS, Outcome, at_rest, run as run_plugin, settled, whole, with_flag};
use crate::left;
use crate::progress::Progress;

/// Where the kubelet of this cluster looks for static Pods: not where kubeadm puts them.
const STATIC_PODS: &str = "/etc/kubernetes/static";

/// From the loss of a Pod to an API server that answers.
const STAND_IN: Duration = Duration::from_secs(20);

/// What is refused, or found out, and the number of its failure mode in `docs/reference/failure-modes.md`.
struct Fault {
    number: u8,
    what: &'static str,
    /// What brings it about.
    begin: fn(&Cluster) -> Result<()>,
    /// What takes it away again.
    end: fn(&Cluster) -> Result<()>,
    /// What `pivot` says of it.
    says: &'static [&'static str],
}

const REFUSED: [Fault; 4] = [
    Fault {
        number: 22,
        what: "a webhook that nobody answers",
        begin: |cluster| apply(cluster, WEBHOOK),
        end: |cluster| delete(cluster, &["validatingwebhookconfiguration", "nobody"]),
        says: &["SH0212", "nobody.example.org"],
    },
    Fault {
        number: 23,
        what: "Pod Security",
        begin: |cluster| label(cluster, "pod-security.kubernetes.io/enforce=baseline"),
        end: |cluster| label(cluster, "pod-security.kubernetes.io/enforce-"),
        says: &["SH0210"],
    },
    Fault {
        number: 23,
        what: "a quota of Pods",
        begin: |cluster| apply(cluster, QUOTA),
        end: |cluster| delete(cluster, &["-n", "kube-system", "resourcequota", "none"]),
        says: &["SH0211"],
    },
    Fault {
        number: 38,
        what: "a full disk",
        begin: |cluster| {
            let script = "mkdir -p /var/lib/selfhost && mount -t tmpfs -o size=64k full /var/lib/selfhost";
            on_node(cluster, script)
        },
        end: |cluster| on_node(cluster, "umount /var/lib/selfhost && rmdir /var/lib/selfhost"),
        says: &["SH0214", "cp1"],
    },
];

const WEBHOOK: &str = r#"{
  "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
  "metadata": {"name": "nobody"},
  "webhooks": [{
    "name": "nobody.example.org", "failurePolicy": "Fail", "sideEffects": "None", "timeoutSeconds": 1,
    "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://127.0.0.1:1/"},
    "rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
               "resources": ["daemonsets"]}]
  }]
}"#;

const QUOTA: &str = r#"{
  "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": "kube-system"},
  "spec": {"hard": {"pods": "1"}}
}"#;

const AUDIT: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n";

pub(super) fn run(progress: &Progress) -> Result<()> {
    let cluster = fresh("bench-faults", 1, progress)?;
    progress.step("static Pods elsewhere, audit log", || unusual(&cluster))?;
    say("  #  FAULT                              RESULT")?;
    for fault in &REFUSED {
        (fault.begin)(&cluster)?;
        let outcome = run_plugin(&cluster, &["pivot", "--yes"]);
        (fault.end)(&cluster)?;
        let outcome = outcome?;
        expect(&outcome, 4, &[fault.says, &["Nothing was changed."]].concat()).context(fault.what)?;
        left::nothing(&cluster).context(fault.what)?;
        told(fault.number, fault.what, &format!("refused with {}", fault.says[0]))?;
    }
    served_throughout(&cluster)?;
    hanging(&cluster)?;
    lost(&cluster)
}

/// A line of the table.
fn told(number: u8, what: &str, result: &str) -> Result<()> {
    say(&format!("{number:>3}  {what:<34} {result}"))
}

/// What the operator of a cluster may have changed long ago: the kubelet's directory, and an audit log.
fn unusual(cluster: &Cluster) -> Result<()> {
    let etc = cluster.node_dir("cp1", "/etc/kubernetes")?;
    fs::write(etc.join("audit.yaml"), AUDIT)?;
    let manifest = etc.join("manifests/kube-apiserver.yaml");
    let text = fs::read_to_string(&manifest)?;
    let flags = "    - kube-apiserver\n    - --audit-log-path=/var/log/audit/audit.log\n    - --audit-policy-file=/etc/kubernetes/audit.yaml\n";
    let mounts = "    volumeMounts:\n    - {name: audit, mountPath: /var/log/audit}\n    - {name: audit-policy, mountPath: /etc/kubernetes/audit.yaml, readOnly: true}\n";
    let volumes = "  volumes:\n  - {name: audit, hostPath: {path: /var/log/audit, type: DirectoryOrCreate}}\n  - {name: audit-policy, hostPath: {path: /etc/kubernetes/audit.yaml, type: File}}\n";
    let changed = text
        .replacen("    - kube-apiserver\n", flags, 1)
        .replacen("    volumeMounts:\n", mounts, 1)
        .replacen("  volumes:\n", volumes, 1);
    ensure!(changed.lines().count() == text.lines().count() + 6, "{text}");
    on_node(cluster, "systemctl stop kubelet")?;
    fs::write(&manifest, changed)?;
    on_node(
        cluster,
        &format!(
            "mv /etc/kubernetes/manifests {STATIC_PODS} && mkdir /etc/kubernetes/manifests && \
             sed -i 's|^staticPodPath:.*|staticPodPath: {STATIC_PODS}|' /var/lib/kubelet/config.yaml && \
             systemctl start kubelet"
        ),
    )?;
    // Until the kubelet has replaced the Pods, the old ones are ready.
    let begin = Instant::now();
    let reads =
        ["-n", "kube-system", "get", "pod", "kube-apiserver-cp1", "-o", "yaml", "--request-timeout=2s"];
    while !cluster.kubectl(&reads).is_ok_and(|pod| pod.contains("--audit-log-path")) {
        ensure!(begin.elapsed() < Duration::from_secs(120), "the kubelet does not see {STATIC_PODS}");
        thread::sleep(Duration::from_secs(1));
    }
    settled(cluster)
}

/// A pivot of that control plane, with somebody in a Pod all the while.
fn served_throughout(cluster: &Cluster) -> Result<()> {
    let session = Session::open(cluster)?;
    let row = Row::measure("pivot", cluster, || selfhost(cluster, &["pivot", "--yes"]))?;
    let (requests, failed, _) = row.availability.totals();
    ensure!(failed == 0, "{failed} of {requests} requests failed: {:#?}", row.failures());
    whole(cluster)?;
    left::nothing_of_an_operation(cluster)?;
    let left =
        on_node_reading(cluster, &format!("cd {STATIC_PODS} && ls && ls -A /etc/kubernetes/manifests"))?;
    let expected = ["control-plane-standby-a.yaml", "control-plane-standby-b.yaml", "etcd.yaml"];
    let is_generation = |name: &&str| name.starts_with("control-plane-standby-") || *name == "etcd.yaml";
    ensure!(left.lines().all(|name| is_generation(&name)), "{left:?} instead of some of {expected:?}");
    told(
        29,
        "static Pods elsewhere",
        &format!("pivot: 0 of {requests} requests failed, {STATIC_PODS} is used"),
    )?;

    let logs =
        on_node_reading(cluster, "cd /var/log/audit && for f in *.log; do echo $f $(wc -l < $f); done")?;
    let directory = cluster.node_dir("cp1", "/var/log/audit")?;
    for line in logs.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let text = fs::read_to_string(directory.join(name))?;
        // The last line may be half written now.
        let mut whole: Vec<&str> = text.split_inclusive('\n').collect();
        whole.pop_if(|line| !line.ends_with('\n'));
        for entry in whole {
            serde_json::from_str::<Value>(entry).with_context(|| format!("{name}: {entry}"))?;
        }
    }
    ensure!(logs.lines().count() == 2, "the bridge has a log of its own: {logs}");
    told(14, "an audit log", &format!("whole lines in each: {}", logs.trim().replace('\n', ", ")))?;

    let lasted = session.lasted();
    drop(Session::open(cluster)?);
    let what = "exec through a swap";
    match lasted {
        Some(after) => told(
            15,
            what,
            &format!("ended after {:.1} s, with its API server; a new one works", after.as_secs_f64()),
        ),
        None => told(15, what, "still open"),
    }
}

/// A target that starts and is never ready.
fn hanging(cluster: &Cluster) -> Result<()> {
    let begin = Instant::now();
    let flag = "--etcd-servers=https://127.0.0.1:1";
    let row = Row::measure("hanging", cluster, || {
        let outcome = with_flag(cluster, flag, &["upgrade", UPGRADE_VERSION, "--yes"])?;
        expect(&outcome, 1, &["SH0301", "Nothing was changed."])
    })?;
    let (requests, failed, _) = row.availability.totals();
    ensure!(failed == 0, "{failed} of {requests} requests failed: {:#?}", row.failures());
    left::nothing_of_an_operation(cluster)?;
    let result =
        format!("given up after {:.0} s; 0 of {requests} requests failed", begin.elapsed().as_secs_f64());
    told(6, "a target that is never ready", &result)
}

/// A node that loses our label, and each DaemonSet that is deleted: the Pod goes, and the standby stands in.
fn lost(cluster: &Cluster) -> Result<()> {
    let label = "kubectl-selfhost.dev/kube-apiserver-";
    lose(cluster, 21, "a node without its label", COMPONENTS[0], &["label", "node", "cp1", label])?;
    for component in COMPONENTS {
        let daemonset = format!("self-hosted-{component}");
        let what = format!("no DaemonSet {component}");
        let delete = ["-n", "kube-system", "delete", "daemonset", &daemonset, "--wait=false"];
        lose(cluster, 20, &what, component, &delete)?;
    }
    Ok(())
}

/// Brings it about that the component's Pod goes, measures how long nobody answers, and pivots again.
fn lose(cluster: &Cluster, number: u8, what: &str, component: &str, how: &[&str]) -> Result<()> {
    let app = format!("k8s-app=self-hosted-{component}");
    let read = ["-n", "kube-system", "get", "pods", "-l", &app, "-o", "name", "--request-timeout=2s"];
    let before = cluster.kubectl(&read)?;
    ensure!(!before.is_empty(), "no Pod of {component}");
    cluster.kubectl(how)?;
    let begin = Instant::now();
    let (mut since, mut away) = (None, Duration::ZERO);
    loop {
        if cluster.kubectl(&["get", "--raw", "/readyz", "--request-timeout=1s"]).is_err() {
            away = away.max(since.get_or_insert_with(Instant::now).elapsed());
        } else {
            since = None;
            // It drains for a while before it is away.
            if cluster.kubectl(&read).is_ok_and(|now| now != before) {
                break;
            }
        }
        ensure!(begin.elapsed() < Duration::from_secs(90), "the Pod stays: {before}");
        thread::sleep(Duration::from_millis(200));
    }
    ensure!(away < STAND_IN, "nobody answered for {away:?}");
    // Leaders that lost their API server end, and start again.
    at_rest(cluster)?;
    selfhost(cluster, &["pivot", "--yes"])?;
    whole(cluster)?;
    left::nothing_of_an_operation(cluster)?;
    told(number, what, &format!("no answer for {:.1} s; pivot restores it", away.as_secs_f64()))
}

/// Somebody who executes a command in a Pod, until the connection ends or this value is dropped.
struct Session {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<Duration>>>,
}

impl Session {
    /// A command in etcd's Pod that waits for ever.
    fn open(cluster: &Cluster) -> Result<Self> {
        let etcdctl = "etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt \
                       --cert=/etc/kubernetes/pki/etcd/server.crt --key=/etc/kubernetes/pki/etcd/server.key";
        let mut words = vec!["-n", "kube-system", "exec", "etcd-cp1", "--"];
        words.extend(etcdctl.split_whitespace());
        // One that ends comes first: something has to come through.
        let health = [&words[..], &["endpoint", "health"]].concat();
        let begin = Instant::now();
        while let Err(error) = cluster.kubectl(&health) {
            ensure!(begin.elapsed() < Duration::from_secs(30), "{error:#}");
            thread::sleep(Duration::from_secs(1));
        }
        let mut command = cluster.kubectl_command()?;
        command.args(words).args(["watch", "nothing"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || until_ended(child, &stop)
        });
        Ok(Self { stop, thread: Some(thread) })
    }

    /// How long it lasted, if it has ended by itself.
    fn lasted(mut self) -> Option<Duration> {
        self.close()
    }

    fn close(&mut self) -> Option<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take()?.join().ok().flatten()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}

fn until_ended(mut child: Child, stop: &AtomicBool) -> Option<Duration> {
    let begin = Instant::now();
    loop {
        if !matches!(child.try_wait(), Ok(None)) {
            return Some(begin.elapsed());
        }
        if stop.load(Ordering::Relaxed) {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn expect(outcome: &Outcome, code: i32, parts: &[&str]) -> Result<()> {
    let said = format!("{}{}", outcome.out, outcome.err);
    ensure!(outcome.code == Some(code), "exit code {:?} instead of {code}:\n{said}", outcome.code);
    for part in parts {
        ensure!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
    Ok(())
}

fn apply(cluster: &Cluster, object: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), object)?;
    cluster.kubectl(&["create", "-f", &file.path().to_string_lossy()]).map(drop)
}

fn delete(cluster: &Cluster, words: &[&str]) -> Result<()> {
    let (flags, object) = words.split_at(words.len() - 2);
    cluster.kubectl(&[flags, &["delete"], object].concat()).map(drop)
}

fn label(cluster: &Cluster, label: &str) -> Result<()> {
    cluster.kubectl(&["label", "namespace", "kube-system", label]).map(drop)
}

fn on_node(cluster: &Cluster, script: &str) -> Result<()> {
    on_node_reading(cluster, script).map(drop)
}

fn on_node_reading(cluster: &Cluster, script: &str) -> Result<String> {
    cluster.exec("cp1", &["sh", "-c", script])
}
