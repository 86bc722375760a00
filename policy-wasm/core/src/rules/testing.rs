//! A cluster for the tables of the rules: three control-plane nodes, self-hosted as the plugin makes it.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Rule, decide};
use crate::component::Component;
use crate::labels;
use crate::review::facts::{Answer, KINDS, Lookup};
use crate::review::object::{Object, text};
use crate::review::{Request, Settings, Verdict};
use crate::scope;
use crate::x509::testing::{Authority, Leaf};

/// The time in the tables: 2027-01-15T08:00:00Z.
pub(crate) const NOW: i64 = 1_800_000_000;

/// The DaemonSet controller's username.
pub(crate) const CONTROLLER: &str = "system:serviceaccount:kube-system:daemon-set-controller";

/// What is in the cluster.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) objects: Vec<Value>,
    pub(crate) settings: Settings,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut objects = Vec::new();
        for index in 1..=3 {
            objects.push(node(index));
            objects.push(standby(index));
        }
        for component in Component::ALL {
            objects.push(daemonset(component));
            objects.extend((1..=3).map(|index| pod(component, index)));
        }
        objects.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kubernetes",
            "namespace": "default", "uid": "svc"}, "spec": {"clusterIP": "10.96.0.1"}}));
        Self { objects, settings: Settings::default() }
    }

    /// What the API server answers to a lookup.
    pub(crate) fn fetch(&self, lookup: &Lookup) -> Answer {
        assert!(KINDS.contains(&lookup.kind()), "{lookup:?} is of a kind that no host is told of");
        lookup.among(&self.objects)
    }

    pub(crate) fn verdict(&self, request: &Value) -> Verdict {
        let json = request.to_string();
        let verdict = decide(json.as_bytes(), &self.settings, NOW, |lookup| self.fetch(lookup));
        if let Ok(request) = Request::parse(json.as_bytes()) {
            let found = verdict.violations.iter().chain(&verdict.warnings).find(|it| it.rule != "G-1");
            assert!(found.is_none() || scope::covers(&request), "no host sends {json}: {found:?}");
        }
        verdict
    }

    /// The object `namespace/name` of a kind.
    pub(crate) fn object(&self, kind: &str, key: &str) -> &Value {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        let found = self.objects.iter().find(|it| {
            text(it, "kind") == kind && Object(it).namespace_of() == namespace && Object(it).name_of() == name
        });
        found.unwrap_or_else(|| panic!("no {kind} {key}"))
    }

    pub(crate) fn object_mut(&mut self, kind: &str, key: &str) -> &mut Value {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        let found = self.objects.iter_mut().find(|it| {
            text(it, "kind") == kind && Object(it).namespace_of() == namespace && Object(it).name_of() == name
        });
        found.unwrap_or_else(|| panic!("no {kind} {key}"))
    }

    /// Takes an object away.
    pub(crate) fn remove(&mut self, kind: &str, key: &str) {
        let gone = self.object(kind, key).clone();
        self.objects.retain(|it| *it != gone);
    }

    /// Takes a component's label from every node.
    pub(crate) fn forget_labels(&mut self, component: Component) {
        for object in self.objects.iter_mut().filter(|it| text(it, "kind") == "Node") {
            object["metadata"]["labels"].as_object_mut().unwrap().remove(labels::node_label(component));
        }
    }

    /// The bridge of a component on a node, ready or not.
    pub(crate) fn add_bridge(&mut self, component: Component, node: &str, ready: bool) {
        let mut bridge = daemonset(component)["spec"]["template"].clone();
        bridge["apiVersion"] = json!("v1");
        bridge["kind"] = json!("Pod");
        bridge["metadata"] = json!({"name": format!("{component}-bridge-{node}"), "namespace": "kube-system",
            "uid": "bridge", "labels": {labels::BRIDGE: component.name()}});
        bridge["spec"]["nodeName"] = json!(node);
        bridge["status"] = status(ready);
        self.objects.push(bridge);
    }

    /// An edit of a component's DaemonSet, as the API server sends it.
    pub(crate) fn edit(&self, component: Component, change: impl FnOnce(&mut Value)) -> Value {
        self.update("DaemonSet", &format!("kube-system/{}", component.daemonset_name()), change)
    }

    /// An edit of what the component's container says.
    pub(crate) fn edit_container(&self, component: Component, change: impl FnOnce(&mut Value)) -> Value {
        self.edit(component, |it| change(&mut it["spec"]["template"]["spec"]["containers"][0]))
    }

    /// An edit by which flags of a component have other values: `("client-ca-file", "/x")`.
    pub(crate) fn edit_flags(&self, component: Component, flags: &[(&str, &str)]) -> Value {
        self.edit_container(component, |it| {
            let words = it["command"].as_array_mut().unwrap();
            for (flag, value) in flags {
                words.retain(|word| !word.as_str().unwrap().starts_with(&format!("--{flag}=")));
                words.push(json!(format!("--{flag}={value}")));
            }
        })
    }

    /// An edit of any object.
    pub(crate) fn update(&self, kind: &str, key: &str, change: impl FnOnce(&mut Value)) -> Value {
        let old = self.object(kind, key).clone();
        let mut new = old.clone();
        change(&mut new);
        let api_version = text(&old, "apiVersion").to_owned();
        review("UPDATE", &api_version, kind, Some(&new), Some(&old))
    }

    pub(crate) fn delete(&self, api_version: &str, kind: &str, key: &str) -> Value {
        review("DELETE", api_version, kind, None, Some(self.object(kind, key)))
    }
}

/// A creation.
pub(crate) fn create(object: &Value) -> Value {
    review("CREATE", text(object, "apiVersion"), text(object, "kind"), Some(object), None)
}

/// An edit of an object that is given both ways.
pub(crate) fn update(new: &Value, old: &Value) -> Value {
    review("UPDATE", text(old, "apiVersion"), text(old, "kind"), Some(new), Some(old))
}

/// A connection to a Pod or node.
pub(crate) fn connect(kind: &str, sub: &str, key: &str, options: &Value) -> Value {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    let mut request = review("CONNECT", "v1", kind, Some(options), None);
    request["name"] = json!(name);
    request["namespace"] = json!(namespace);
    request["subResource"] = json!(sub);
    request
}

/// The `request` of a review.
pub(crate) fn review(
    operation: &str,
    api_version: &str,
    kind: &str,
    new: Option<&Value>,
    old: Option<&Value>,
) -> Value {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let plural = match kind {
        "EndpointSlice" | "PriorityClass" => {
            kind.to_lowercase() + if kind.ends_with('s') { "es" } else { "s" }
        }
        "NetworkPolicy" => "networkpolicies".to_owned(),
        _ => format!("{}s", kind.to_lowercase()),
    };
    let target = new.or(old).unwrap();
    json!({
        "uid": "1", "operation": operation,
        "kind": {"group": group, "version": version, "kind": kind},
        "resource": {"group": group, "version": version, "resource": plural},
        "name": if operation == "CREATE" { "" } else { Object(target).name_of() },
        "namespace": Object(target).namespace_of(),
        "userInfo": {"username": "ann", "groups": ["system:authenticated"]},
        "object": new, "oldObject": old,
    })
}

/// Checks one rule, and no other, on each request.
pub(crate) fn table<'a>(rule: &Rule, world: &World, cases: impl IntoIterator<Item = (&'a str, Value, bool)>) {
    for (name, request, expected) in cases {
        let verdict = world.verdict(&request);
        let all = verdict.violations.iter().chain(&verdict.warnings);
        let found: Vec<_> = all.filter(|it| it.rule == rule.id).collect();
        assert_eq!(!found.is_empty(), expected, "{}: {name}: {verdict:#?}", rule.id);
        for violation in found {
            assert!(!violation.message.is_empty() && !violation.next.is_empty(), "{violation:?}");
            assert!(!violation.message.starts_with("cannot be decided"), "{name}: {violation:?}");
        }
    }
}

fn node(index: u8) -> Value {
    let mut own = json!({"kubernetes.io/hostname": format!("cp{index}"), labels::CONTROL_PLANE_ROLES[0]: ""});
    for component in Component::ALL {
        own[labels::node_label(component)] = json!("true");
    }
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("cp{index}"), "uid": format!("node{index}"), "labels": own},
        "spec": {}, "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": format!("10.0.0.1{index}")}]}})
}

fn status(ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]})
}

fn standby(index: u8) -> Value {
    let templates: BTreeMap<&str, Value> =
        Component::ALL.into_iter().map(|it| (it.name(), daemonset(it)["spec"]["template"].clone())).collect();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
        "name": format!("control-plane-standby-a-cp{index}"), "namespace": "kube-system", "uid": format!("s{index}"),
        "labels": {"component": "control-plane-standby", "tier": "control-plane"},
        "annotations": {labels::MIRROR: "x", labels::TEMPLATES: json!(templates).to_string()}},
        "spec": {"nodeName": format!("cp{index}"), "containers": []}, "status": status(true)})
}

fn pod(component: Component, index: u8) -> Value {
    let template = daemonset(component)["spec"]["template"].clone();
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"],
        "spec": template["spec"], "status": status(true)});
    pod["metadata"]["name"] = json!(format!("{}-abcd{index}", component.daemonset_name()));
    pod["metadata"]["namespace"] = json!("kube-system");
    pod["metadata"]["uid"] = json!(format!("{component}-{index}"));
    pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "controller": true,
        "name": component.daemonset_name(), "uid": format!("ds-{component}")}]);
    pod["spec"]["nodeName"] = json!(format!("cp{index}"));
    pod["status"]["hostIP"] = json!(format!("10.0.0.1{index}"));
    pod
}

fn probe(path: &str, port: u16, period: u32, threshold: u32) -> Value {
    json!({"httpGet": {"host": "127.0.0.1", "path": path, "port": port, "scheme": "HTTPS"},
        "periodSeconds": period, "failureThreshold": threshold, "timeoutSeconds": 15, "successThreshold": 1})
}

/// kubeadm's flags of a component, and the plugin's.
const fn flags(component: Component) -> &'static [&'static str] {
    match component {
        Component::ApiServer => &[
            "--advertise-address=$(HOST_IP)",
            "--allow-privileged=true",
            "--authorization-mode=Node,RBAC",
            "--client-ca-file=/etc/kubernetes/pki/ca.crt",
            "--enable-admission-plugins=NodeRestriction",
            "--enable-bootstrap-token-auth=true",
            "--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt",
            "--etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt",
            "--etcd-keyfile=/etc/kubernetes/pki/apiserver-etcd-client.key",
            "--etcd-servers=https://127.0.0.1:2379",
            "--kubelet-client-certificate=/etc/kubernetes/pki/apiserver-kubelet-client.crt",
            "--kubelet-client-key=/etc/kubernetes/pki/apiserver-kubelet-client.key",
            "--proxy-client-cert-file=/etc/kubernetes/pki/front-proxy-client.crt",
            "--proxy-client-key-file=/etc/kubernetes/pki/front-proxy-client.key",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-client-ca-file=/etc/kubernetes/pki/front-proxy-ca.crt",
            "--secure-port=6443",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--service-account-key-file=/etc/kubernetes/pki/sa.pub",
            "--service-account-signing-key-file=/etc/kubernetes/pki/sa.key",
            "--service-cluster-ip-range=10.96.0.0/12",
            "--tls-cert-file=/etc/kubernetes/pki/apiserver.crt",
            "--tls-private-key-file=/etc/kubernetes/pki/apiserver.key",
            "--shutdown-delay-duration=5s",
        ],
        Component::ControllerManager => &[
            "--authentication-kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--authorization-kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--bind-address=127.0.0.1",
            "--client-ca-file=/etc/kubernetes/pki/ca.crt",
            "--cluster-cidr=10.244.0.0/16",
            "--cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt",
            "--cluster-signing-key-file=/etc/kubernetes/pki/ca.key",
            "--controllers=*,bootstrapsigner,tokencleaner",
            "--kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--leader-elect=true",
            "--root-ca-file=/etc/kubernetes/pki/ca.crt",
            "--service-account-private-key-file=/etc/kubernetes/pki/sa.key",
            "--use-service-account-credentials=true",
        ],
        Component::Scheduler => &[
            "--authentication-kubeconfig=/etc/kubernetes/scheduler.conf",
            "--authorization-kubeconfig=/etc/kubernetes/scheduler.conf",
            "--bind-address=127.0.0.1",
            "--kubeconfig=/etc/kubernetes/scheduler.conf",
            "--leader-elect=true",
        ],
    }
}

/// A component's DaemonSet, as kubeadm's flags and the plugin's template make it, with the API's defaults.
pub(crate) fn daemonset(component: Component) -> Value {
    let mut command = vec![component.name().to_owned()];
    command.extend(flags(component).iter().map(|flag| (*flag).to_owned()));
    let port = component.default_port();
    let app = json!({labels::K8S_APP: component.daemonset_name()});
    let kubeconfig = match component {
        Component::ApiServer => None,
        Component::ControllerManager => Some("/etc/kubernetes/controller-manager.conf"),
        Component::Scheduler => Some("/etc/kubernetes/scheduler.conf"),
    };
    let mut mounts = vec![json!({"mountPath": "/etc/kubernetes/pki", "name": "k8s-certs", "readOnly": true})];
    let mut volumes = vec![
        json!({"name": "k8s-certs", "hostPath": {"path": "/etc/kubernetes/pki", "type": "DirectoryOrCreate"}}),
    ];
    if let Some(path) = kubeconfig {
        mounts.push(json!({"mountPath": path, "name": "kubeconfig", "readOnly": true}));
        volumes.push(json!({"name": "kubeconfig", "hostPath": {"path": path, "type": "FileOrCreate"}}));
    }
    let env = match component {
        Component::ApiServer => json!([{"name": "HOST_IP",
            "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.hostIP"}}}]),
        _ => json!([]),
    };
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": component.daemonset_name(), "namespace": "kube-system", "uid": format!("ds-{component}"),
            "resourceVersion": "7", "generation": 2, "labels": app,
            "annotations": {"deprecated.daemonset.template.generation": "2"}},
        "spec": {
            "selector": {"matchLabels": app},
            "updateStrategy": {"type": "OnDelete"},
            "revisionHistoryLimit": 10,
            "template": {
                "metadata": {
                    "labels": {labels::K8S_APP: component.daemonset_name(), "component": component.name(),
                        "tier": "control-plane"},
                    "annotations": {labels::TEMPLATE_HASH: "62517a021328c2d5"}},
                "spec": {
                    "automountServiceAccountToken": false,
                    "containers": [{
                        "name": component.name(),
                        "image": format!("registry.k8s.io/{component}:v1.36.3"),
                        "imagePullPolicy": "IfNotPresent",
                        "command": command,
                        "env": env,
                        "livenessProbe": probe("/livez", port, 10, 8),
                        "readinessProbe": probe("/readyz", port, 1, 3),
                        "startupProbe": probe("/livez", port, 1, 250),
                        "resources": {"requests": {"cpu": "250m"}},
                        "terminationMessagePath": "/dev/termination-log",
                        "terminationMessagePolicy": "File",
                        "volumeMounts": mounts,
                    }],
                    "dnsPolicy": "ClusterFirst",
                    "hostNetwork": true,
                    "nodeSelector": {labels::node_label(component): "true"},
                    "priorityClassName": "system-node-critical",
                    "restartPolicy": "Always",
                    "schedulerName": "default-scheduler",
                    "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                    "terminationGracePeriodSeconds": 60,
                    "tolerations": [{"operator": "Exists"}],
                    "volumes": volumes,
                },
            },
        },
        "status": {"observedGeneration": 2, "desiredNumberScheduled": 3, "currentNumberScheduled": 3,
            "updatedNumberScheduled": 3, "numberReady": 3, "numberAvailable": 3, "numberMisscheduled": 0},
    })
}

/// The authorities of the tables.
pub(crate) struct Pki {
    pub(crate) cluster: Authority,
    pub(crate) front_proxy: Authority,
    pub(crate) etcd: Authority,
    /// Nobody's.
    pub(crate) other: Authority,
}

/// The authorities, made once.
pub(crate) fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| Pki {
        cluster: Authority::new("kubernetes"),
        front_proxy: Authority::new("front-proxy-ca"),
        etcd: Authority::new("etcd-ca"),
        other: Authority::new("other"),
    })
}

/// Writes a value into a Secret.
pub(crate) fn put(secret: &mut Value, key: &str, value: &str) {
    secret["data"][key] = json!(STANDARD.encode(value));
}

/// A kubeconfig with a certificate in it.
pub(crate) fn kubeconfig(server: &str, ca: &str, certificate: &str, key: &str) -> String {
    json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": server,
            "certificate-authority-data": STANDARD.encode(ca)}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "users": [{"name": "u", "user": {"client-certificate-data": STANDARD.encode(certificate),
            "client-key-data": STANDARD.encode(key)}}]})
    .to_string()
}

/// A configuration of the encryption at rest, with the names of its keys in order.
pub(crate) fn encryption(keys: &[&str]) -> String {
    let keys: Vec<Value> = keys
        .iter()
        .map(|name| json!({"name": name, "secret": STANDARD.encode(format!("{name:0>32}"))}))
        .collect();
    json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": [{"aescbc": {"keys": keys}}, {"identity": {}}]}]})
    .to_string()
}

/// The public half of an authority's key, in PEM.
pub(crate) fn public_pem(authority: &Authority) -> String {
    authority.public_key()
}

/// The cluster with its credentials in Secrets, as kubeadm's `StoreCertsInSecrets` laid them out.
pub(crate) fn secrets() -> World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(make_secrets).clone()
}

fn make_secrets() -> World {
    let pki = pki();
    let mut world = World::new();
    let mut pairs: BTreeMap<&str, (String, String)> = BTreeMap::from([
        ("ca", (pki.cluster.pem(), pki.cluster.key())),
        ("front-proxy-ca", (pki.front_proxy.pem(), String::new())),
        ("etcd-ca", (pki.etcd.pem(), String::new())),
    ]);
    pairs.insert("apiserver", pki.cluster.issue(&Leaf::server()));
    pairs.insert("apiserver-kubelet-client", pki.cluster.issue(&Leaf::new("kube-apiserver-kubelet-client")));
    pairs.insert("apiserver-etcd-client", pki.etcd.issue(&Leaf::new("kube-apiserver-etcd-client")));
    pairs.insert("front-proxy-client", pki.front_proxy.issue(&Leaf::new("front-proxy-client")));
    let secret = |name: &str, kind: &str, values: &[(&str, &str)]| {
        let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "type": kind, "data": {},
            "metadata": {"name": name, "namespace": "kube-system", "uid": name, "resourceVersion": "1"}});
        for (key, value) in values {
            put(&mut secret, key, value);
        }
        secret
    };
    for (name, (certificate, key)) in &pairs {
        world.objects.push(secret(name, "kubernetes.io/tls", &[("tls.crt", certificate), ("tls.key", key)]));
    }
    let sa = &pki.other;
    world.objects.push(secret("sa", "Opaque", &[("sa.pub", &public_pem(sa)), ("sa.key", &sa.key())]));
    world.objects.push(secret("encryption", "Opaque", &[("encryption.yaml", &encryption(&["one"]))]));
    for (component, user, name) in [
        (Component::ControllerManager, "system:kube-controller-manager", "controller-manager.conf"),
        (Component::Scheduler, "system:kube-scheduler", "scheduler.conf"),
    ] {
        let (certificate, key) = pki.cluster.issue(&Leaf::new(user));
        let text = kubeconfig("https://10.0.0.10:6443", &pki.cluster.pem(), &certificate, &key);
        world.objects.push(secret(name, "Opaque", &[(name, &text)]));
        let daemonset = world.object_mut("DaemonSet", &format!("kube-system/{}", component.daemonset_name()));
        let spec = &mut daemonset["spec"]["template"]["spec"];
        spec["volumes"][1] = json!({"name": "kubeconfig", "secret": {"secretName": name}});
        spec["containers"][0]["volumeMounts"][1]["mountPath"] = json!("/etc/kubernetes");
    }
    let tls = |name: &str, file: &str| {
        json!({"secret": {"name": name, "items": [{"key": "tls.crt", "path": format!("{file}.crt")},
            {"key": "tls.key", "path": format!("{file}.key")}]}})
    };
    let sources = json!([
        tls("ca", "ca"),
        tls("apiserver", "apiserver"),
        tls("apiserver-kubelet-client", "apiserver-kubelet-client"),
        tls("apiserver-etcd-client", "apiserver-etcd-client"),
        tls("front-proxy-ca", "front-proxy-ca"),
        tls("front-proxy-client", "front-proxy-client"),
        tls("etcd-ca", "etcd/ca"),
        {"secret": {"name": "sa"}},
        {"secret": {"name": "encryption"}},
    ]);
    for component in Component::ALL {
        let daemonset = world.object_mut("DaemonSet", &format!("kube-system/{}", component.daemonset_name()));
        daemonset["spec"]["template"]["spec"]["volumes"][0] =
            json!({"name": "k8s-certs", "projected": {"sources": sources}});
    }
    let server = world.object_mut("DaemonSet", "kube-system/self-hosted-kube-apiserver");
    server["spec"]["template"]["spec"]["containers"][0]["command"]
        .as_array_mut()
        .unwrap()
        .push(json!("--encryption-provider-config=/etc/kubernetes/pki/encryption.yaml"));
    world
}

/// The cluster with the API server's configurations in a ConfigMap.
pub(crate) fn configured() -> World {
    let mut world = World::new();
    let text = |kind: &str, group: &str, rest: &str| format!("apiVersion: {group}\nkind: {kind}\n{rest}\n");
    let own = "apiserver.config.k8s.io/v1";
    world.objects.push(json!({"apiVersion": "v1", "kind": "ConfigMap",
    "metadata": {"name": "apiserver-config", "namespace": "kube-system", "uid": "c", "resourceVersion": "1"},
    "data": {
        "audit.yaml": text("Policy", "audit.k8s.io/v1", "rules: [{level: Request}]"),
        "authentication.yaml": text("AuthenticationConfiguration", own,
            "anonymous: {enabled: true, conditions: [{path: /livez}]}"),
        "authorization.yaml": text("AuthorizationConfiguration", own,
            "authorizers: [{type: Node, name: node}, {type: RBAC, name: rbac}]"),
        "admission.yaml": text("AdmissionConfiguration", own,
            "plugins: [{name: ValidatingAdmissionPolicy, configuration: {staticManifestsDir: /m}}]"),
    }}));
    world.objects.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"},
        "metadata": {"name": "other", "namespace": "kube-system"}}));
    let server = world.object_mut("DaemonSet", "kube-system/self-hosted-kube-apiserver");
    let spec = &mut server["spec"]["template"]["spec"];
    spec["volumes"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "config", "configMap": {"name": "apiserver-config"}}));
    let container = &mut spec["containers"][0];
    container["volumeMounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "config", "mountPath": "/etc/config"}));
    container["command"].as_array_mut().unwrap().extend(
        [
            "--audit-policy-file=/etc/config/audit.yaml",
            "--authentication-config=/etc/config/authentication.yaml",
            "--authorization-config=/etc/config/authorization.yaml",
            "--admission-control-config-file=/etc/config/admission.yaml",
        ]
        .map(|flag| json!(flag)),
    );
    world
}
