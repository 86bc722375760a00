//! A self-hosted control plane as the API shows it: three nodes, what runs on them, the keys.
//!
//! The objects are those of the guard's own tests, made by the tables of the rules; keys and certificates are new, because
//! they have to be valid today. What is added is what a case needs:
//!
//! - The scheduler was taken from all nodes (its label is on none, its DaemonSet wants no Pod), and its DaemonSet is being
//!   deleted: a finalizer holds it.
//! - The controller manager's Pod on `cp3` is not ready.
//! - The API server's configurations are in a ConfigMap, with a static admission manifest among them.
//! - That ConfigMap and the Secret `sa` each have a key that no flag names: an authorization that admits everything, and
//!   somebody's authority.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use serde_json::{Value, json};

use super::call::{Call, Proxy};

pub(crate) const SYSTEM: &str = "/api/v1/namespaces/kube-system";
pub(crate) const DAEMONSETS: &str = "/apis/apps/v1/namespaces/kube-system/daemonsets";
pub(crate) const SERVER: &str = "/apis/apps/v1/namespaces/kube-system/daemonsets/self-hosted-kube-apiserver";
pub(crate) const MANAGER: &str =
    "/apis/apps/v1/namespaces/kube-system/daemonsets/self-hosted-kube-controller-manager";
pub(crate) const SCHEDULER: &str =
    "/apis/apps/v1/namespaces/kube-system/daemonsets/self-hosted-kube-scheduler";
/// A namespace that is nobody's business.
pub(crate) const TEAM: &str = "/api/v1/namespaces/team";

/// The tables' cluster.
const OBJECTS: &str = include_str!("../../../admission/tests/fixtures/objects.json");

/// The authorities.
pub(crate) struct Pki {
    cluster: CertifiedIssuer<'static, KeyPair>,
    front_proxy: CertifiedIssuer<'static, KeyPair>,
    etcd: CertifiedIssuer<'static, KeyPair>,
    /// Nobody's yet.
    pub(crate) other: CertifiedIssuer<'static, KeyPair>,
    account: KeyPair,
}

/// What a leaf says.
#[derive(Default)]
pub(crate) struct Leaf {
    pub(crate) name: &'static str,
    pub(crate) organization: Option<&'static str>,
    pub(crate) serves: bool,
    /// In days.
    pub(crate) lasts: i64,
}

/// Days from now.
fn days(count: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::from(std::time::SystemTime::now()) + time::Duration::days(count)
}

pub(crate) fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    (params.not_before, params.not_after) = (days(-1), days(3650));
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// A certificate and its key.
pub(crate) fn issue(authority: &CertifiedIssuer<'static, KeyPair>, leaf: &Leaf) -> Result<(String, String)> {
    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.96.0.1", "10.0.0.11"];
    let names = [&names[..], &["kubernetes.default.svc.cluster.local"]].concat();
    let names = if leaf.serves { names } else { Vec::new() };
    let mut params = CertificateParams::new(names.into_iter().map(ToOwned::to_owned).collect::<Vec<_>>())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, leaf.name);
    if let Some(organization) = leaf.organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    let purpose =
        if leaf.serves { ExtendedKeyUsagePurpose::ServerAuth } else { ExtendedKeyUsagePurpose::ClientAuth };
    params.extended_key_usages = vec![purpose];
    (params.not_before, params.not_after) = (days(-1), days(if leaf.lasts == 0 { 365 } else { leaf.lasts }));
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, authority)?.pem(), key.serialize_pem()))
}

/// The public half of a key, in PEM.
pub(crate) fn public(key: &KeyPair) -> String {
    let content = STANDARD.encode(key.subject_public_key_info());
    format!("-----BEGIN PUBLIC KEY-----\n{content}\n-----END PUBLIC KEY-----\n")
}

/// A configuration of the encryption at rest, with these keys.
pub(crate) fn encryption(keys: &[&str]) -> String {
    let keys: Vec<Value> = keys
        .iter()
        .map(|name| json!({"name": name, "secret": STANDARD.encode(format!("{name:0>32}"))}))
        .collect();
    json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": [{"aescbc": {"keys": keys}}, {"identity": {}}]}]})
    .to_string()
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

/// What a Secret holds, as the API has it.
pub(crate) fn data(values: &[(&str, &str)]) -> Value {
    values.iter().map(|(key, value)| ((*key).to_owned(), json!(STANDARD.encode(value)))).collect()
}

/// The static admission manifest that is mounted from a ConfigMap.
const MANIFEST: &str = r"apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: guard.static.k8s.io}
webhooks: [{name: a.guard.kubectl-selfhost.dev, failurePolicy: Fail}]
";

/// The API server's configurations.
pub(crate) fn configurations() -> Value {
    let text = |kind: &str, group: &str, rest: &str| format!("apiVersion: {group}\nkind: {kind}\n{rest}\n");
    let own = "apiserver.config.k8s.io/v1";
    json!({
        "audit.yaml": text("Policy", "audit.k8s.io/v1", "rules: [{level: Request}]"),
        "admission.yaml": text("AdmissionConfiguration", own,
            "plugins: [{name: ValidatingAdmissionWebhook, configuration: {staticManifestsDir: /etc/config}}]"),
        "guard.yaml": MANIFEST,
        "weak.yaml": text("AuthorizationConfiguration", own, "authorizers: [{type: AlwaysAllow, name: a}]"),
    })
}

impl Pki {
    fn new() -> Result<Self> {
        Ok(Self {
            cluster: authority("kubernetes")?,
            front_proxy: authority("front-proxy-ca")?,
            etcd: authority("etcd-ca")?,
            other: authority("kubernetes")?,
            account: KeyPair::generate()?,
        })
    }

    /// The cluster's authority, in PEM.
    pub(crate) fn ca(&self) -> String {
        self.cluster.pem()
    }

    /// A certificate of the cluster's authority, and its key.
    pub(crate) fn issue(&self, leaf: &Leaf) -> Result<(String, String)> {
        issue(&self.cluster, leaf)
    }

    /// The key of `ServiceAccounts`.
    pub(crate) fn account(&self) -> &KeyPair {
        &self.account
    }

    /// The content of a Secret of the fixtures.
    fn content(&self, name: &str) -> Result<Value> {
        let client = |name| Leaf { name, ..Leaf::default() };
        let pair = |pair: (String, String)| data(&[("tls.crt", &pair.0), ("tls.key", &pair.1)]);
        let config = |file: &'static str, name| -> Result<Value> {
            let (certificate, key) = self.issue(&client(name))?;
            Ok(data(&[(file, &kubeconfig("https://10.0.0.10:6443", &self.ca(), &certificate, &key))]))
        };
        let alone = |certificate: String| data(&[("tls.crt", &certificate), ("tls.key", "")]);
        Ok(match name {
            "ca" => data(&[("tls.crt", &self.ca()), ("tls.key", &self.cluster.key().serialize_pem())]),
            "front-proxy-ca" => alone(self.front_proxy.pem()),
            "etcd-ca" => alone(self.etcd.pem()),
            "apiserver" => pair(self.issue(&Leaf { serves: true, ..client("kube-apiserver") })?),
            "apiserver-kubelet-client" => pair(self.issue(&client("kube-apiserver-kubelet-client"))?),
            "apiserver-etcd-client" => pair(issue(&self.etcd, &client("kube-apiserver-etcd-client"))?),
            "front-proxy-client" => pair(issue(&self.front_proxy, &client("front-proxy-client"))?),
            "sa" => data(&[
                ("sa.pub", &public(&self.account)),
                ("sa.key", &self.account.serialize_pem()),
                ("mine.crt", &self.other.pem()),
            ]),
            "encryption" => data(&[("encryption.yaml", &encryption(&["one"]))]),
            "controller-manager.conf" => config("controller-manager.conf", "system:kube-controller-manager")?,
            "scheduler.conf" => config("scheduler.conf", "system:kube-scheduler")?,
            other => anyhow::bail!("the fixtures have a Secret {other} that nobody knows"),
        })
    }
}

/// What was made.
pub(crate) struct World {
    pub(crate) pki: Pki,
    /// `namespace/name` of the Secrets that the DaemonSets mount.
    pub(crate) secrets: BTreeSet<String>,
    /// The same of `ConfigMaps`.
    pub(crate) config_maps: BTreeSet<String>,
}

fn is(object: &Value, kind: &str) -> bool {
    object["kind"] == kind
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// The path of the collection that an object belongs to.
fn collection(object: &Value) -> Result<String> {
    let version = object["apiVersion"].as_str().context("apiVersion")?;
    let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let kind = object["kind"].as_str().context("kind")?.to_lowercase();
    let plural = match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if kind.ends_with('s') => format!("{kind}es"),
        None if kind == "endpointslice" => "endpointslices".to_owned(),
        None => format!("{kind}s"),
    };
    Ok(match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}"),
        None => format!("{root}/{plural}"),
    })
}

/// Creates an object, and its status where it has one.
fn create(proxy: &Proxy, object: &Value) -> Result<Value> {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["uid", "resourceVersion", "generation"] {
            metadata.remove(field);
        }
    }
    let path = collection(&object)?;
    let what = || format!("create {} {}", object["kind"], name_of(&object));
    let created = proxy.send(&Call::post(&path, &object))?.object().with_context(what)?;
    let status = &object["status"];
    if !status.is_null() {
        let change = json!({"status": status});
        let call = Call::merge(&format!("{path}/{}/status", name_of(&object)), &change);
        proxy.send(&call)?.object().with_context(what)?;
    }
    Ok(created)
}

/// Makes the cluster.
pub(crate) fn seed(proxy: &Proxy) -> Result<World> {
    let pki = Pki::new()?;
    let mut objects: Vec<Value> = serde_json::from_str(OBJECTS).context("read the fixtures")?;
    for object in others() {
        create(proxy, &object)?;
    }
    let is_schedulers = |it: &Value| is(it, "Pod") && name_of(it).contains("scheduler");
    // The API server makes its Service itself.
    objects.retain(|it| !is(it, "Service") && !is_schedulers(it));
    let (mut owners, mut templates) = (BTreeMap::new(), BTreeMap::new());
    let mut world = World { pki, secrets: BTreeSet::new(), config_maps: BTreeSet::new() };
    // Owners before what they own.
    objects.sort_by_key(|it| is(it, "Pod"));
    for object in &mut objects {
        adjust(object, &world.pki)?;
        if let Some(template) =
            templates.get(object["metadata"]["labels"]["k8s-app"].as_str().unwrap_or_default())
        {
            let node = object["spec"]["nodeName"].clone();
            object["spec"] = Value::clone(template);
            object["spec"]["nodeName"] = node;
        }
        let owner = object["metadata"]["ownerReferences"].as_array_mut().and_then(|it| it.first_mut());
        if let Some(owner) = owner {
            let uid: &Value = owners.get(owner["name"].as_str().unwrap_or_default()).context("an owner")?;
            owner["uid"] = uid.clone();
        }
        let created = create(proxy, object)?;
        if is(object, "DaemonSet") {
            owners.insert(name_of(object).to_owned(), created["metadata"]["uid"].clone());
            templates.insert(name_of(object).to_owned(), object["spec"]["template"]["spec"].clone());
        }
        if is(object, "Secret") {
            world.secrets.insert(format!("kube-system/{}", name_of(object)));
        }
    }
    world.config_maps.insert("kube-system/apiserver-config".to_owned());
    let uid = owners.get("self-hosted-kube-apiserver").context("the API servers' DaemonSet")?;
    create(proxy, &revision(uid))?;
    proxy.send(&Call::delete(SCHEDULER))?.object().context("begin to delete the scheduler's DaemonSet")?;
    Ok(world)
}

/// What differs from the tables' cluster.
fn adjust(object: &mut Value, pki: &Pki) -> Result<()> {
    let name = name_of(object).to_owned();
    match object["kind"].as_str().unwrap_or_default() {
        "Secret" => object["data"] = pki.content(&name)?,
        "Node" => {
            let labels = object["metadata"]["labels"].as_object_mut().context("labels")?;
            labels.remove("kubectl-selfhost.dev/kube-scheduler");
            object["status"]["allocatable"] = json!({"cpu": "4", "memory": "8Gi", "pods": "100"});
        }
        "DaemonSet" if name.ends_with("scheduler") => {
            object["metadata"]["finalizers"] = json!(["example.org/hold"]);
            for field in ["desiredNumberScheduled", "currentNumberScheduled", "numberReady"] {
                object["status"][field] = json!(0);
            }
        }
        "DaemonSet" if name.ends_with("manager") => {
            object["spec"]["template"]["spec"]["priorityClassName"] = json!("cluster-services");
        }
        "DaemonSet" => configure(&mut object["spec"]["template"]["spec"]),
        "Pod" if name.starts_with("control-plane-standby") => {
            object["spec"]["containers"] = json!([{"name": "standby", "image": "example.org/standby:v1"}]);
        }
        "Pod" if name == "self-hosted-kube-controller-manager-abcd3" => {
            object["status"]["conditions"][0]["status"] = json!("False");
        }
        _ => {}
    }
    Ok(())
}

/// Gives an API server its configurations.
fn configure(spec: &mut Value) {
    let push = |list: &mut Value, item: Value| {
        if let Some(items) = list.as_array_mut() {
            items.push(item);
        }
    };
    push(&mut spec["volumes"], json!({"name": "config", "configMap": {"name": "apiserver-config"}}));
    let container = &mut spec["containers"][0];
    push(&mut container["volumeMounts"], json!({"name": "config", "mountPath": "/etc/config"}));
    for flag in [
        "--audit-policy-file=/etc/config/audit.yaml",
        "--admission-control-config-file=/etc/config/admission.yaml",
    ] {
        push(&mut container["command"], json!(flag));
    }
}

fn revision(uid: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1,
        "metadata": {"name": "self-hosted-kube-apiserver-5d8c", "namespace": "kube-system",
            "labels": {"k8s-app": "self-hosted-kube-apiserver"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "controller": true,
                "name": "self-hosted-kube-apiserver", "uid": uid}]},
        "data": {"spec": {"template": {}}}})
}

/// What is beside the control plane.
fn others() -> Vec<Value> {
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let map = |namespace: &str, name: &str, data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data});
    let account = |namespace: &str, name: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}});
    let secret = |namespace: &str, name: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
            "data": data(&[("a", "b"), ("c", "d")])})
    };
    let template = |app: &str| json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "a", "image": "example.org/a:v1"}]}});
    let workload = |kind: &str, namespace: &str, name: &str| {
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(name)}})
    };
    let pod = |namespace: &str, name: &str| {
        let mut pod = template(name);
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["namespace"] = json!(namespace);
        pod
    };
    let mut pending = pod("team", "pending");
    pending["spec"]["schedulerName"] = json!("another");
    let mut bound = pod("team", "web");
    bound["spec"]["nodeName"] = json!("w1");
    bound["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "10m"}});
    let mut etcd = pod("kube-system", "etcd-cp1");
    etcd["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    etcd["spec"]["nodeName"] = json!("cp1");
    let mut guard = pod("selfhost-guard", "selfhost-guard-x1");
    guard["spec"]["nodeName"] = json!("cp1");
    let bootstrap = "jws-kubeconfig-abc";
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "selfhost-guard",
            "labels": {"example.org/watched": "true"}}}),
        namespace("team"),
        namespace("spare"),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "w1", "labels": {"kubernetes.io/hostname": "w1"}},
            "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "100"}}}),
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1_000_000,
            "metadata": {"name": "cluster-services"}}),
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 10, "metadata": {"name": "spare"}}),
        map("kube-system", "apiserver-config", configurations()),
        map(
            "kube-system",
            "kubeadm-config",
            json!({"ClusterConfiguration": "kubernetesVersion: v1.36.2\nclusterName: a"}),
        ),
        map("kube-system", "coredns", json!({"Corefile": ".:53"})),
        map("kube-system", "mine", json!({"a": "b"})),
        map("kube-public", "cluster-info", json!({"kubeconfig": "x", bootstrap: "y"})),
        map("team", "kube-root-ca.crt", json!({"ca.crt": "x"})),
        map("team", "mine", json!({"a": "b"})),
        account("kube-system", "daemon-set-controller"),
        account("kube-system", "mine"),
        account("team", "default"),
        secret("kube-system", "mine"),
        secret("team", "mine"),
        workload("DaemonSet", "selfhost-guard", "selfhost-guard"),
        workload("DaemonSet", "kube-system", "kube-proxy"),
        workload("DaemonSet", "team", "agent"),
        workload("Deployment", "team", "web"),
        workload("Deployment", "kube-system", "coredns"),
        pending,
        bound,
        etcd,
        guard,
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "endpoints": [{"addresses": ["10.0.0.11"]}], "ports": [{"name": "https", "port": 6443}]}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "team"},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], "selector": {"app": "web"}}}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "reader"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "strong"},
            "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]}),
    ]
}
