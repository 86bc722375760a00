//! Edits of the control plane's DaemonSets.

use serde_json::{Value, json};

use super::{Edit, METADATA, at, drop_from, push};

fn pod_spec(object: &mut Value) -> &mut Value {
    at(object, &["spec", "template", "spec"])
}

fn container(object: &mut Value) -> &mut Value {
    at(object, &["spec", "template", "spec", "containers", "0"])
}

/// Words of command lines: of an API server, and of the others.
const WORDS: &[&str] = &[
    "--v=2",
    "-v=4",
    "-v",
    "2",
    "-vx",
    "--max-requests-inflight=800",
    "--goaway-chance",
    "0.001",
    "--anonymous-auth=true",
    "--anonymous-auth",
    "--anonymous-auth=false",
    "--anonymous-auth=0",
    "--anonymous-auth=maybe",
    "--authorization-mode=AlwaysAllow",
    "--authorization-mode",
    "AlwaysAllow",
    "--authorization_mode=Node,RBAC",
    "--authorization-mode=Node,RBAC ",
    "--authorization-config=/etc/kubernetes/pki/a",
    "--disable-admission-plugins=PodSecurity,ValidatingAdmissionWebhook",
    "--disable-admission-plugins=DefaultStorageClass",
    "--enable-admission-plugins=AlwaysDeny",
    "--enable-admission-plugins=NodeRestriction,AlwaysPullImages",
    "--admission-control=AlwaysAdmit",
    "--token-auth-file=/etc/kubernetes/pki/t",
    "--basic-auth-file=x",
    "--insecure-port=0",
    "--insecure-port=8080",
    "--feature-gates=ValidatingAdmissionPolicy=false",
    "--feature-gates=kube:ValidatingAdmissionPolicy=F,A=true",
    "--feature-gates=AllAlpha=true",
    "--feature-gates=AllAlpha=false",
    "--feature-gates=AllBeta=0",
    "--feature-gates=AllBeta=true",
    "--runtime-config=admissionregistration.k8s.io/v1=false",
    "--runtime-config=api/all=0,a=b",
    "--runtime-config=apps=true",
    "--runtime-config=appsx/v1=false",
    "--runtime-config=v1=F",
    "--etcd-prefix=/other",
    "--etcd-servers=http://127.0.0.1:2379",
    "--etcd-servers=https://127.0.0.1:2379",
    "--secure-port=6445",
    "--secure-port=0",
    "--secure-port=6443",
    "--secure_port=10257",
    "--service-account-issuer=https://new.example.org",
    "--advertise-address=10.0.0.11",
    "--advertise-address=$(HOST_IP)",
    "--advertise-address=$(X)",
    "--bind-address=10.0.0.11",
    "--bind-address=0.0.0.0",
    "--bind-address=127.0.0.1",
    "--audit-log-path=/dev/null",
    "--audit-log-path=/var/log/a",
    "--audit-log-path",
    "--audit-log-path=",
    "--service-account-lookup=false",
    "--tls-min-version=VersionTLS10",
    "--tls-min-version=VersionTLS13",
    "--help",
    "-h",
    "serve",
    "--",
    "--version",
    "--leader-elect=false",
    "--leader-elect=F",
    "--leader-elect",
    "--use-service-account-credentials=false",
    "--controllers=-daemonset-controller",
    "--controllers=*,-ttl-controller",
    "--controllers=daemonset-controller",
    "--controllers=*,-garbagecollector",
    "--leader-elect-resource-name=x",
    "$(X)",
    "--$(X)",
    "$$(X)",
    "--$(X)=y",
    "$(HOST_IP)",
    "--audit-policy-file=/etc/kubernetes/pki/audit.yaml",
    "--audit-policy-file=/etc/audit/policy.yaml",
    "--audit-policy-file=/etc/kubernetes/pkix/a",
    "--audit-policy-file=/etc/kubernetes/pki/../a",
    "--insecure-bind-address=0.0.0.0",
    "--endpoint-reconciler-type=none",
    "--endpoint-reconciler-type=lease",
    "--authorization-always-allow-paths=/livez",
    "--authorization-always-allow-paths=/livez,/api",
    "--requestheader-allowed-names=",
    "--client-ca-file=",
    "--kubeconfig=",
    "--service-cluster-ip-range=10.97.0.0/16",
    "--profiling",
    "--audit-log-pth=x",
    "--concurrent-disruption-syncs=5",
    "--encryption-provider-config=/etc/kubernetes/pki/other.yaml",
    "--oidc-ca-file=/etc/kubernetes/pki/ca.crt",
    "--config=/etc/config/x",
    "--etcd-prefix",
    "/registry",
    "--cluster-name=kubernetes",
];

/// What an image may become.
pub(super) const IMAGES: &[&str] = &[
    "registry.k8s.io/kube-apiserver:v1.36.3",
    "registry.k8s.io/kube-apiserver:v1.37.2",
    "registry.k8s.io/kube-scheduler:v1.37.2",
    "registry.k8s.io/kube-controller-manager:v1.37.2",
    "registry.k8s.io/kube-controller-manager:v1.36.9",
    "registry.k8s.io/kube-scheduler:v1.35.9",
    "registry.k8s.io/kube-apiserver:v1.36.9",
    "registry.k8s.io/kube-apiserver:v1.38.0",
    "registry.k8s.io/kube-apiserver:v1.35.0",
    "registry.k8s.io/kube-apiserver:v2.36.3",
    "registry.k8s.io/kube-apiserver@sha256:00",
    "registry.k8s.io/kube-apiserver:v1.37.2@sha256:00",
    "registry.k8s.io/kube-apiserver:latest",
    "registry.k8s.io/kube-apiserver",
    "evil.org/kube-apiserver:v1.36.3",
    "registry.k8s.io/kube-apiserverx:v1.37.2",
    "registry.k8s.io/kube-apiserver-amd64:v1.36.4",
    "evil.org:5000/kube-scheduler:v1.36.3",
    "registry.k8s.io/kube-apiserver:v1.37.2_evil",
    "registry.k8s.io/kube-apiserver:v1.37.0-rc.1",
    "",
];

fn word(n: usize) -> &'static str {
    WORDS[n % WORDS.len()]
}

/// Edits of a DaemonSet of the control plane. Several stand here more than once: they have many forms.
pub(in crate::rules::oracle) const DAEMONSET: &[Edit] = &[
    |it, n| push(at(container(it), &["command"]), json!(word(n))),
    |it, n| push(at(container(it), &["command"]), json!(word(n))),
    |it, n| push(at(container(it), &["command"]), json!(word(n))),
    |it, n| push(at(container(it), &["command"]), json!(word(n))),
    |it, n| push(at(container(it), &["args"]), json!(word(n))),
    |it, n| drop_from(at(container(it), &["command"]), n),
    |it, n| drop_from(at(container(it), &["command"]), n),
    |it, n| {
        // A flag, and its value in a word of its own.
        let command = at(container(it), &["command"]);
        if let Some(words) = command.as_array_mut().filter(|it| !it.is_empty()) {
            let at = n % words.len();
            let word = words[at].as_str().unwrap_or("").to_owned();
            if let Some((flag, value)) = word.split_once('=') {
                words[at] = json!(value);
                words.insert(at, json!(flag));
            }
        }
    },
    |it, n| {
        let program =
            [json!("/usr/local/bin/kube-apiserver"), json!("sh"), json!("$(X)"), json!("kube-scheduler")];
        *at(container(it), &["command", "0"]) = program[n % 4].clone();
    },
    |it, n| {
        *at(container(it), &["command"]) =
            [json!(null), json!([]), json!(["sh", "-c", "kube-apiserver"])][n % 3].clone()
    },
    |it, n| *at(container(it), &["image"]) = json!(IMAGES[n % IMAGES.len()]),
    |it, n| *at(container(it), &["image"]) = json!(IMAGES[n % IMAGES.len()]),
    |it, n| {
        // The component's own image, in another version.
        let container = container(it);
        let name = container["name"].as_str().unwrap_or("").to_owned();
        let tag = ["v1.36.4", "v1.37.2", "v1.35.9", "v1.38.1", "v1.36.0"][n % 5];
        container["image"] = json!(format!("registry.k8s.io/{name}:{tag}"));
    },
    |it, n| {
        let variables = [
            json!({"name": "X", "value": "--authorization-mode=AlwaysAllow"}),
            json!({"name": "X", "value": "$(HOST_IP)"}),
            json!({"name": "X", "valueFrom": {"secretKeyRef": {"name": "sa", "key": "sa.key"}}}),
            json!({"name": "LD_PRELOAD", "value": "/x.so"}),
            json!({"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}),
            json!({"name": "HOST_IP", "value": "10.0.0.1"}),
            json!({"name": "Y", "valueFrom": {"configMapKeyRef": {"name": "mine", "key": "gone"}}}),
        ];
        push(at(container(it), &["env"]), variables[n % variables.len()].clone());
    },
    |it, n| {
        *at(container(it), &["envFrom"]) = [
            json!([]),
            json!([{"secretRef": {"name": "mine"}}]),
            json!([{"configMapRef": {"name": "gone", "optional": true}}]),
        ][n % 3]
            .clone()
    },
    |it, n| drop_from(at(container(it), &["env"]), n),
    |it, n| *at(container(it), &["name"]) = json!(["server", "kube-apiserver", "kube-scheduler"][n % 3]),
    |it, _| drop_from(at(pod_spec(it), &["containers"]), 0),
    |it, n| {
        let more = json!({"name": (["x", "kube-apiserver", "kube-scheduler"][n % 3]), "image": "x"});
        let kind = ["containers", "initContainers", "ephemeralContainers"][n / 3 % 3];
        push(at(pod_spec(it), &[kind]), more);
    },
    |it, n| {
        let probe = ["livenessProbe", "readinessProbe", "startupProbe"][n % 3];
        let probe = at(container(it), &[probe]);
        let n = n / 3;
        match n % 12 {
            0 => *probe = json!(null),
            1 => *probe = json!({"exec": {"command": ["true"]}}),
            2 => *at(probe, &["tcpSocket"]) = json!({"port": 1}),
            3 => {
                *at(probe, &["httpGet", "path"]) =
                    json!(["/healthz", "/livez", "/readyz", "/version"][n / 12 % 4])
            }
            4 => *at(probe, &["httpGet", "port"]) = json!([6443, 10257, 10259, 6445, 1][n / 12 % 5]),
            5 => *at(probe, &["httpGet", "port"]) = json!("probe-port"),
            6 => *at(probe, &["httpGet", "host"]) = json!(["::1", "localhost", "10.0.0.12", ""][n / 12 % 4]),
            7 => *at(probe, &["httpGet", "scheme"]) = json!(["HTTP", "HTTPS"][n / 12 % 2]),
            8 => *at(probe, &["failureThreshold"]) = json!([1, 2, 6, 60, 1_000][n / 12 % 5]),
            9 => *at(probe, &["periodSeconds"]) = json!([1, 10, 20, 59, u64::MAX][n / 12 % 5]),
            10 => *at(probe, &["initialDelaySeconds"]) = json!([0, 10, 57, 60][n / 12 % 4]),
            _ => {
                *probe = json!({"httpGet": {"path": "/livez", "port": 6443, "host": "127.0.0.1", "scheme": "HTTPS"}})
            }
        }
    },
    |it, n| {
        *at(container(it), &["resources"]) = [
            json!({"limits": {"cpu": "4"}}),
            json!({"limits": {"memory": "64Mi"}}),
            json!({"limits": {"memory": "1Gi"}}),
            json!({}),
        ][n % 4]
            .clone()
    },
    |it, n| {
        *at(pod_spec(it), &["terminationGracePeriodSeconds"]) =
            [json!(0), json!(9), json!(10), json!(30), json!(600), json!(601), json!(null), json!("x")][n % 8]
                .clone()
    },
    |it, n| {
        *at(pod_spec(it), &["nodeSelector"]) = [
            json!(null),
            json!({}),
            json!({"kubectl-selfhost.dev/kube-apiserver": "yes"}),
            json!({"kubectl-selfhost.dev/kube-scheduler": "true"}),
        ][n % 4]
            .clone()
    },
    |it, _| *at(pod_spec(it), &["nodeSelector", "zone"]) = json!("a"),
    |it, n| {
        let (field, value) = [
            ("affinity", json!({})),
            ("affinity", json!({"nodeAffinity": {}})),
            ("nodeName", json!("cp1")),
            ("schedulerName", json!("mine")),
            ("schedulerName", json!("")),
            ("runtimeClassName", json!("kata")),
            ("topologySpreadConstraints", json!([{}])),
            ("tolerations", json!([])),
            ("tolerations", json!([{"operator": "Exists", "effect": "NoExecute"}])),
            ("tolerations", json!([{"operator": "Exists", "tolerationSeconds": 9}])),
            ("tolerations", json!([{"key": "x"}, {"operator": "Exists"}])),
            ("tolerations", json!([{"key": "x", "operator": "Exists"}])),
        ][n % 12]
            .clone();
        *at(pod_spec(it), &[field]) = value;
    },
    |it, n| {
        let (field, value) = [
            ("hostPID", json!(true)),
            ("hostPID", json!(false)),
            ("shareProcessNamespace", json!(true)),
            ("hostNetwork", json!(false)),
            ("hostNetwork", json!(null)),
            ("serviceAccountName", json!("x")),
            ("serviceAccountName", json!("default")),
            ("automountServiceAccountToken", json!(true)),
            ("automountServiceAccountToken", json!(null)),
            ("priorityClassName", json!("")),
            ("priorityClassName", json!("system-cluster-critical")),
            ("securityContext", json!({})),
            ("dnsPolicy", json!("Default")),
            ("dnsPolicy", json!(null)),
            ("restartPolicy", json!("Never")),
            ("hostAliases", json!([{"ip": "1.2.3.4"}])),
            ("hostAliases", json!([])),
            ("imagePullSecrets", json!([{"name": "mine"}])),
            ("hostname", json!("x")),
            ("hostUsers", json!(false)),
        ][n % 20]
            .clone();
        *at(pod_spec(it), &[field]) = value;
    },
    |it, n| {
        let (field, value) = [
            ("lifecycle", json!({"postStart": {"exec": {"command": ["x"]}}})),
            ("lifecycle", json!({})),
            ("securityContext", json!({"privileged": true})),
            ("workingDir", json!("/x")),
            ("stdin", json!(true)),
            ("tty", json!(false)),
            ("ports", json!([{"containerPort": 6443}])),
            ("ports", json!([])),
            ("restartPolicy", json!("Always")),
            ("volumeDevices", json!([{}])),
        ][n % 10]
            .clone();
        *at(container(it), &[field]) = value;
    },
    |it, n| {
        let volumes = [
            json!({"name": "x", "hostPath": {"path": "/"}}),
            json!({"name": "x", "secret": {"secretName": "mine"}}),
            json!({"name": "x", "secret": {"secretName": "gone"}}),
            json!({"name": "x", "secret": {"secretName": "mine", "optional": true}}),
            json!({"name": "x", "secret": {"secretName": "mine", "items": [{"key": "k", "path": "a"}, {"key": "gone", "path": "b"}]}}),
            json!({"name": "x", "projected": {"sources": [{"secret": {"name": "mine"}}, {"configMap": {"name": "gone"}}]}}),
            json!({"name": "x", "configMap": {"name": "mine", "defaultMode": 420}}),
            json!({"name": "x", "emptyDir": {}}),
        ];
        push(at(pod_spec(it), &["volumes"]), volumes[n % 8].clone());
    },
    |it, n| {
        let volume = at(pod_spec(it), &["volumes", "0"]);
        match n % 5 {
            0 => *at(volume, &["hostPath", "path"]) = json!("/etc"),
            1 => *at(volume, &["hostPath", "type"]) = json!(""),
            2 => *at(volume, &["emptyDir"]) = json!(null),
            3 => *at(volume, &["name"]) = json!("other"),
            _ => drop_from(at(volume, &["projected", "sources"]), n / 5),
        }
    },
    |it, n| {
        let mounts = [
            json!({"name": "k8s-certs", "mountPath": "/usr/local/bin"}),
            json!({"name": "k8s-certs", "mountPath": "/etc/audit", "readOnly": true}),
            json!({"name": "x", "mountPath": "/etc/audit"}),
            json!({"name": "x", "mountPath": "/etc/kubernetes/pki/ca.crt", "subPath": "k"}),
            json!({"name": "gone", "mountPath": "/etc/kubernetes/pki/ca.crt"}),
            json!({"name": "x", "mountPath": "/"}),
        ];
        push(at(container(it), &["volumeMounts"]), mounts[n % 6].clone());
    },
    |it, n| {
        let mount = at(container(it), &["volumeMounts", "0"]);
        let (field, value) = [
            ("readOnly", json!(false)),
            ("readOnly", json!(true)),
            ("mountPropagation", json!("Bidirectional")),
            ("subPath", json!("x")),
            ("mountPath", json!("/etc/kubernetes/pki/")),
            ("subPathExpr", json!("$(X)")),
        ][n % 6]
            .clone();
        *at(mount, &[field]) = value;
    },
    |it, n| drop_from(at(container(it), &["volumeMounts"]), n),
    |it, n| drop_from(at(pod_spec(it), &["volumes"]), n),
    |it, n| {
        *at(it, &["spec", "updateStrategy"]) = [
            json!(null),
            json!({"type": "RollingUpdate"}),
            json!({"type": "onDelete"}),
            json!({"type": "OnDelete", "x": 1}),
            json!({"type": "OnDelete"}),
        ][n % 5]
            .clone()
    },
    |it, n| {
        *at(it, &["spec", "selector"]) = [
            json!({"matchLabels": {"tier": "control-plane"}}),
            json!({"matchLabels": {"k8s-app": "self-hosted-kube-apiserver"}, "matchExpressions": []}),
            json!({"matchLabels": {"k8s-app": "self-hosted-kube-scheduler"}}),
            json!({"matchExpressions": [{"key": "k8s-app", "operator": "Exists"}]}),
        ][n % 4]
            .clone()
    },
    |it, n| {
        let (name, value) =
            [("k8s-app", json!("x")), ("tier", json!("x")), ("component", json!(null)), ("x", json!("y"))]
                [n % 4]
                .clone();
        *at(it, &["spec", "template", "metadata", "labels", name]) = value;
    },
    |it, n| {
        *at(it, &["spec", "template", "metadata", "annotations", "kubectl-selfhost.dev/template-hash"]) =
            json!(n.to_string())
    },
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
];

/// Flags that name files, with what a file for them is called in the clusters: the one that there is, and others.
const NAMED: &[(&str, &[&str])] = &[
    ("client-ca-file", &["ca.crt", "both.crt", "one.crt", "front-proxy-ca.crt"]),
    ("requestheader-client-ca-file", &["front-proxy-ca.crt", "one.crt", "ca.crt", "both.crt"]),
    ("etcd-cafile", &["etcd/ca.crt", "one.crt"]),
    ("root-ca-file", &["ca.crt", "both.crt", "one.crt"]),
    (
        "tls-cert-file",
        &[
            "apiserver.crt",
            "longer.crt",
            "less.crt",
            "shorter.crt",
            "foreign.crt",
            "apiserver-kubelet-client.crt",
        ],
    ),
    ("tls-private-key-file", &["apiserver.key", "longer.key", "apiserver-kubelet-client.key", "sa.key"]),
    ("kubelet-client-certificate", &["apiserver-kubelet-client.crt", "longer.crt", "front-proxy-client.crt"]),
    ("kubelet-client-key", &["apiserver-kubelet-client.key", "front-proxy-client.key"]),
    ("proxy-client-cert-file", &["front-proxy-client.crt", "apiserver-kubelet-client.crt"]),
    ("proxy-client-key-file", &["front-proxy-client.key", "apiserver-kubelet-client.key"]),
    ("etcd-certfile", &["apiserver-etcd-client.crt", "longer.crt"]),
    ("etcd-keyfile", &["apiserver-etcd-client.key", "longer.key"]),
    ("cluster-signing-cert-file", &["ca.crt", "one.crt", "longer.crt"]),
    ("cluster-signing-key-file", &["ca.key", "longer.key"]),
    ("service-account-key-file", &["sa.pub", "new.pub", "sa.key"]),
    ("service-account-signing-key-file", &["sa.key", "new.key"]),
    ("service-account-private-key-file", &["sa.key", "new.key"]),
    ("encryption-provider-config", &["encryption.yaml", "second.yaml", "changed.yaml"]),
];

/// The same of configurations, and of kubeconfigs.
const CONFIGURED: &[(&str, &[&str])] = &[
    ("audit-policy-file", &["/etc/config/audit.yaml", "/etc/config/nothing.yaml"]),
    ("authentication-config", &["/etc/config/authentication.yaml", "/etc/config/open.yaml"]),
    (
        "authorization-config",
        &["/etc/config/authorization.yaml", "/etc/config/same.yaml", "/etc/config/weak.yaml"],
    ),
    ("admission-control-config-file", &["/etc/config/admission.yaml", "/etc/config/other.yaml"]),
    ("config", &["/etc/config/config.yaml", "/etc/config/single.yaml"]),
    (
        "kubeconfig",
        &[
            "/etc/kubernetes/scheduler.conf",
            "/etc/kubernetes/controller-manager.conf",
            "/etc/kubernetes/other.conf",
        ],
    ),
    (
        "authentication-kubeconfig",
        &[
            "/etc/kubernetes/scheduler.conf",
            "/etc/kubernetes/controller-manager.conf",
            "/etc/kubernetes/other.conf",
        ],
    ),
];

/// Lets a flag name a file: instead of the one that it names, or beside it.
fn name(object: &mut Value, flag: &str, file: &str, beside: bool) {
    let command = at(container(object), &["command"]);
    let word = json!(format!("--{flag}={file}"));
    let prefix = format!("--{flag}=");
    let words = command.as_array_mut().into_iter().flatten();
    let mut named = words.filter(|it| it.as_str().is_some_and(|it| it.starts_with(&prefix)));
    match named.next().filter(|_| !beside) {
        Some(old) => *old = word,
        None => push(command, word),
    }
}

/// A flag that the component has, where it has any of them.
fn choose<'a>(object: &mut Value, all: &'a [(&str, &[&str])], n: usize) -> (&'a str, &'a [&'a str]) {
    let command = at(container(object), &["command"]).to_string();
    let mut own: Vec<_> = all.iter().filter(|it| command.contains(&format!("\"--{}=", it.0))).collect();
    if own.is_empty() || n.is_multiple_of(16) {
        own = all.iter().collect();
    }
    *own[n / 16 % own.len()]
}

fn rename(object: &mut Value, n: usize) {
    let (flag, files) = choose(object, NAMED, n);
    let n = n / 288;
    let others = ["missing.crt", "sub/x.crt"];
    let file = if n.is_multiple_of(12) { others[n / 12 % 2] } else { files[n / 12 % files.len()] };
    let path = format!("/etc/kubernetes/pki/{file}");
    name(object, flag, &path, n % 12 == 1);
}

fn reconfigure(object: &mut Value, n: usize) {
    let (flag, files) = choose(object, CONFIGURED, n);
    let n = n / 112;
    let file = if n.is_multiple_of(12) { "/etc/config/missing.yaml" } else { files[n / 12 % files.len()] };
    name(object, flag, file, n % 12 == 1);
}

/// Edits by which flags name other files.
pub(in crate::rules::oracle) const FILES: &[Edit] = &[
    rename,
    rename,
    rename,
    rename,
    reconfigure,
    reconfigure,
    |it, n| {
        // A certificate with its key, or a signing key with its public half.
        let (one, other) = [
            (("tls-cert-file", "longer.crt"), ("tls-private-key-file", "longer.key")),
            (
                ("tls-cert-file", "apiserver-kubelet-client.crt"),
                ("tls-private-key-file", "apiserver-kubelet-client.key"),
            ),
            (("service-account-key-file", "new.pub"), ("service-account-signing-key-file", "new.key")),
            (
                ("proxy-client-cert-file", "apiserver-kubelet-client.crt"),
                ("proxy-client-key-file", "apiserver-kubelet-client.key"),
            ),
        ][n % 4];
        for (flag, file) in [one, other] {
            name(
                it,
                flag,
                &format!("/etc/kubernetes/pki/{file}"),
                flag == "service-account-key-file" && n / 4 % 2 == 0,
            );
        }
    },
    |it, n| {
        let names = ["", "front-proxy-client", "kube-apiserver-kubelet-client", "x"][n % 4];
        name(it, "requestheader-allowed-names", names, false);
    },
    |it, n| drop_from(at(pod_spec(it), &["volumes", "0", "projected", "sources"]), n),
    |it, _| {
        let source = json!({"secret": {"name": "mine"}});
        push(at(pod_spec(it), &["volumes", "0", "projected", "sources"]), source);
    },
    |it, n| push(at(container(it), &["command"]), json!(word(n))),
];
