//! Ways around the guard, tried with kubectl on a self-hosted control plane: one of each kind that kubectl can express, and
//! the edit beside it that is harmless. All of them: `docs/reference/conformance.md`.
//!
//! Left out are those that take an object which is not there (B6, and B13 and B22: this one's keys are in no Secret), a
//! signed request (B21), or another client (B8, B24); and those that admission does not see.

use anyhow::{Context as _, Result, ensure};
use selfhost_tests::{Cluster, lockout};
use serde_json::{Value, json};

/// One way around.
struct Bypass {
    /// Its number in the conformance page.
    number: &'static str,
    /// What must be denied, and by which rule.
    unsafe_edit: Edit,
    rule: &'static str,
    /// What must be admitted.
    safe_edit: Edit,
}

/// What kubectl is asked to do: its words, and its standard input.
struct Edit(Vec<String>, String);

/// Words of a command line that hold no spaces themselves.
fn words(line: &str) -> Edit {
    Edit(line.split(' ').map(ToOwned::to_owned).collect(), String::new())
}

/// A patch of one of the control plane's DaemonSets.
fn patch(kind: &str, daemonset: &str, patch: &Value, more: &[&str]) -> Edit {
    let mut edit = words(&format!("-n kube-system patch ds self-hosted-{daemonset} --type={kind} -p"));
    edit.0.push(patch.to_string());
    edit.0.extend(more.iter().map(|it| (*it).to_owned()));
    edit
}

fn made(object: &Value) -> Edit {
    Edit(words("create -f -").0, object.to_string())
}

fn pod(namespace: &str, labels: &Value, spec: &Value) -> Edit {
    made(
        &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": namespace, "labels": labels},
        "spec": spec}),
    )
}

/// A webhook for everything, which fails in this way.
fn webhook(policy: &str) -> Edit {
    made(&json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "x"}, "webhooks": [{"name": "x.example.org", "failurePolicy": policy,
            "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://127.0.0.1:1/"},
            "rules": [{"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["*"]}]}]}))
}

fn api_service(name: &str) -> Edit {
    let (version, group) = name.split_once('.').unwrap_or((name, ""));
    made(&json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": {"namespace": "default", "name": "x"}, "caBundle": "eA=="}}))
}

fn revision(namespace: &str, name: &str) -> Edit {
    made(&json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 99, "data": {},
        "metadata": {"name": name, "namespace": namespace}}))
}

fn slice(labels: &Value) -> Edit {
    made(&json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "x", "namespace": "default", "labels": labels},
        "endpoints": [{"addresses": ["192.0.2.1"]}], "ports": [{"name": "https", "port": 443}]}))
}

fn of(number: &'static str, unsafe_edit: Edit, rule: &'static str, safe_edit: Edit) -> Bypass {
    Bypass { number, unsafe_edit, rule, safe_edit }
}

fn labelled() -> Edit {
    words("-n kube-system label ds/self-hosted-kube-scheduler team=a")
}

/// The DaemonSets themselves, in many ways.
fn of_daemonsets() -> Vec<Bypass> {
    let merge = |edit: &Value, more: &[&str]| patch("merge", "kube-scheduler", edit, more);
    let roll = json!({"spec": {"updateStrategy": {"type": "RollingUpdate"}}});
    let label = json!({"metadata": {"labels": {"team": "a"}}});
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"});
    let padding = "x".repeat(100 * 1024);
    let padded = |more: &Value| {
        let mut edit = more.clone();
        edit["metadata"] = json!({"annotations": {"example.org/padding": padding}});
        merge(&edit, &[])
    };
    let flag = |flag: &str| {
        let path = "/spec/template/spec/containers/0/command/-";
        patch("json", "kube-apiserver", &json!([{"op": "add", "path": path, "value": flag}]), &[])
    };
    let by_controller = |mut edit: Edit| {
        let user = "system:serviceaccount:kube-system:daemon-set-controller";
        edit.0.extend([format!("--as={user}"), "--as-group=system:masters".to_owned()]);
        edit
    };
    vec![
        of(
            "B1",
            merge(&json!({"metadata": {"labels": {"k8s-app": "x"}}}), &["--subresource=status"]),
            "DS-2",
            words("annotate node cp1 example.org/x=y"),
        ),
        of(
            "B2",
            words("delete --raw /apis/apps/v1/namespaces/kube-system/daemonsets?dryRun=All"),
            "DS-1",
            words("delete --raw /apis/apps/v1/namespaces/default/daemonsets?dryRun=All"),
        ),
        of(
            "B3",
            words("-n kube-system delete ds self-hosted-kube-scheduler --cascade=orphan"),
            "DS-1",
            words("-n default delete cm mine"),
        ),
        of("B4", merge(&json!({"metadata": {"ownerReferences": [owner]}}), &[]), "DS-3", labelled()),
        of("B5", merge(&json!({"metadata": {"finalizers": ["example.org/x"]}}), &[]), "DS-3", labelled()),
        of("B9", flag("--authorization-mode=AlwaysAllow"), "DS-8", labelled()),
        of(
            "B9",
            patch("strategic", "kube-scheduler", &roll, &[]),
            "DS-5",
            patch("strategic", "kube-scheduler", &label, &[]),
        ),
        of("B12", padded(&roll), "DS-5", padded(&json!({}))),
        of("B14", flag("--authorization_mode=AlwaysAllow"), "DS-8", labelled()),
        of("B19", by_controller(merge(&roll, &[])), "DS-5", by_controller(labelled())),
    ]
}

/// What runs beside them, or looks like them.
fn of_pods() -> Vec<Bypass> {
    let mounting = |source: &Value| json!({"containers": [{"name": "c", "image": "x"}], "volumes": [source]});
    let mut on_cp1 = mounting(&json!({"name": "v", "hostPath": {"path": "/etc/kubernetes/pki"}}));
    on_cp1["nodeName"] = "cp1".into();
    let harmless = mounting(&json!({"name": "v", "emptyDir": {}}));
    let none = json!({});
    let alike = json!({"k8s-app": "self-hosted-kube-scheduler"});
    vec![
        of("B10", revision("kube-system", "self-hosted-kube-apiserver-x"), "CR-1", revision("default", "x")),
        of("B11", pod("kube-system", &alike, &harmless), "PO-4", pod("kube-system", &none, &harmless)),
        of("B23", pod("default", &none, &on_cp1), "PO-5", pod("default", &none, &harmless)),
    ]
}

/// What they stand on: admission, rights, nodes, names.
fn of_surroundings() -> Vec<Bypass> {
    let kubelet = "--as=system:node:cp1 --as-group=system:nodes";
    let service = |name: &str| slice(&json!({"kubernetes.io/service-name": name}));
    vec![
        of("B7", words("delete ns selfhost-guard"), "NS-1", words("delete ns kube-node-lease")),
        of(
            "B15",
            words("delete validatingwebhookconfiguration selfhost-guard"),
            "AR-1",
            words("label validatingwebhookconfiguration selfhost-guard team=a"),
        ),
        of("B16", webhook("Fail"), "AR-2", webhook("Ignore")),
        of("B17", api_service("v2.apps"), "AR-4", api_service("v2.example.org")),
        of(
            "B18",
            words("create clusterrole x --verb=escalate --resource=clusterroles"),
            "RB-2",
            words("create clusterrole x --verb=get --resource=pods"),
        ),
        of(
            "B20",
            words("-n kube-system create token daemon-set-controller"),
            "SEC-11",
            words("-n default create token default"),
        ),
        of(
            "B25",
            words(&format!("label node cp1 kubectl-selfhost.dev/x=y {kubelet}")),
            "NODE-2",
            words(&format!("label node cp1 example.org/x=y {kubelet}")),
        ),
        of(
            "B26",
            words("label node cp1 kubectl-selfhost.dev/kube-apiserver-"),
            "NODE-1",
            words("cordon cp1"),
        ),
        of("B29", service("kubernetes"), "SVC-1", service("other")),
        of(
            "B30",
            words("-n kube-system create quota x --hard=pods=0"),
            "NS-2",
            words("-n default create quota x --hard=pods=0"),
        ),
        of(
            "B31",
            words("label ns kube-system pod-security.kubernetes.io/enforce=restricted"),
            "NS-1",
            words("label ns default pod-security.kubernetes.io/enforce=restricted"),
        ),
        of(
            "B32",
            words("-n kube-system delete cm kubeadm-config"),
            "CM-3",
            words("-n kube-system annotate cm kubeadm-config example.org/x=y"),
        ),
    ]
}

/// Each is denied by the rule that is meant for it, and what is beside it is admitted.
pub(super) fn each_is_denied(cluster: &Cluster) -> Result<()> {
    // Somebody's, whom nobody misses.
    cluster.kubectl(&["-n", "default", "create", "cm", "mine"])?;
    for Bypass { number, unsafe_edit, rule, safe_edit } in
        of_daemonsets().into_iter().chain(of_pods()).chain(of_surroundings())
    {
        let (admitted, said) = ask(cluster, &unsafe_edit)?;
        let names = said.lines().any(|line| line.contains(&format!("{rule}: ")));
        ensure!(!admitted && names, "{number} {:?} is not denied by {rule}: {said}", unsafe_edit.0);
        let (admitted, said) = ask(cluster, &safe_edit)?;
        ensure!(admitted, "{number} {:?} is denied: {said}", safe_edit.0);
    }
    cluster.kubectl(&["-n", "default", "delete", "cm", "mine"]).map(drop)
}

/// Whether it is admitted, as a dry run, and what kubectl says.
fn ask(cluster: &Cluster, Edit(words, input): &Edit) -> Result<(bool, String)> {
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    // Neither a token nor a path can be tried so by kubectl.
    if !words.contains(&"token") && !words.contains(&"--raw") {
        words.push("--dry-run=server");
    }
    let output = lockout::kubectl(cluster, &words, input).with_context(|| format!("{words:?}"))?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}
