//! kubeadm, unmodified: its documents, `init` and `join`.
//!
//! Invariant: kubeadm does everything that makes a control plane. The bed only tells it what a machine with systemd and
//! a registry would: preflight (they ask for a whole machine) and addons (kube-proxy is a process here) are skipped.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::machine::Machine;
use super::network::Subnet;
use super::state::{Role, State};
use crate::binaries::ETCD_TAG;
use crate::command;
use crate::images::hex;
use crate::progress::Progress;
use crate::refusal::Refusal;

/// The API server's file with the key of encryption at rest. Its Pod has this directory.
const ENCRYPTION: &str = "/etc/kubernetes/pki/encryption.yaml";

/// kubeadm's file on a node.
const FILE: &str = "/etc/kubernetes/bed.yaml";

/// What a user may say about a cluster, merged over what the bed says.
#[derive(Debug, Clone, Default)]
pub(super) struct Overrides(Vec<Value>);

/// Kinds that kubeadm reads from one file.
const KINDS: [&str; 5] = [
    "InitConfiguration",
    "JoinConfiguration",
    "ClusterConfiguration",
    "KubeletConfiguration",
    "KubeProxyConfiguration",
];

impl Overrides {
    /// Reads documents (YAML or JSON); each must be of a kind that kubeadm knows.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("read {}", file.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("parse kubeadm documents")?;
        for document in &documents {
            let kind = document["kind"].as_str().unwrap_or_default();
            ensure!(
                KINDS.contains(&kind),
                Refusal::new(
                    format!("{kind:?} is no kind of kubeadm document"),
                    format!("one of {}", KINDS.join(", "))
                )
            );
        }
        Ok(Self(documents))
    }

    /// `document` with what the user said about its kind: maps are merged, everything else is replaced.
    pub(super) fn over(&self, mut document: Value) -> Value {
        let kind = document["kind"].clone();
        for over in self.0.iter().filter(|over| over["kind"] == kind) {
            merge(&mut document, over);
        }
        document
    }
}

fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// Secrets of one run of `up`: by which nodes join, and with which API servers encrypt.
pub(super) struct Secrets {
    token: String,
    certificate_key: String,
    encryption: Option<String>,
}

impl Secrets {
    /// Fresh ones, from the kernel's random numbers.
    pub(super) fn generate(encrypt: bool) -> Result<Self> {
        let token = hex(&random::<11>()?);
        // Digits of hexadecimal are digits of base64, too: these are 32 bytes.
        let encryption = if encrypt { Some(format!("{}0=", hex(&random::<21>()?))) } else { None };
        Ok(Self {
            token: format!("{}.{}", &token[..6], &token[6..]),
            certificate_key: hex(&random::<32>()?),
            encryption,
        })
    }

    /// Puts the key on a control-plane node's disk, where API servers are.
    fn write_encryption(&self, machine: &Machine) -> Result<()> {
        let Some(key) = &self.encryption else { return Ok(()) };
        let keys = json!({"keys": [{"name": "key1", "secret": key}]});
        let document = json!({
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": [{"resources": ["*.*"], "providers": [{"aesgcm": keys}]}],
        });
        machine.write(ENCRYPTION, &document.to_string())
    }
}

fn random<const N: usize>() -> Result<[u8; N]> {
    use std::io::Read;
    let mut bytes = [0; N];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("read /dev/urandom")?;
    Ok(bytes)
}

/// Address of the API server that nodes and users are given.
pub(super) fn endpoint(state: &State) -> String {
    let subnet = Subnet(state.subnet);
    let host = state
        .nodes
        .iter()
        .find(|node| node.role == Role::Balancer)
        .or_else(|| state.nodes.iter().find(|node| node.role == Role::ControlPlane))
        .map_or(11, |node| node.host);
    format!("{}:6443", subnet.address(host))
}

/// Makes the first control-plane node of a cluster.
pub(super) fn init(
    machine: &Machine,
    state: &State,
    overrides: &Overrides,
    secrets: &Secrets,
    split_cgroups: bool,
    progress: &Progress,
) -> Result<()> {
    secrets.write_encryption(machine)?;
    let subnet = Subnet(state.subnet);
    let address = subnet.address(machine.node().host).to_string();
    let documents = [
        json!({
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": address, "bindPort": 6443},
            "nodeRegistration": node_registration(&machine.node().name, &address),
            "bootstrapTokens": [{"token": secrets.token, "ttl": "2h"}],
            "certificateKey": secrets.certificate_key,
        }),
        cluster_configuration(state, secrets),
        kubelet_configuration(split_cgroups),
    ];
    run(
        machine,
        overrides,
        &documents,
        &["init", "--upload-certs", "--skip-phases=preflight,addon"],
        progress,
    )
}

/// Adds a node to the cluster.
pub(super) fn join(
    machine: &Machine,
    state: &State,
    overrides: &Overrides,
    secrets: &Secrets,
    progress: &Progress,
) -> Result<()> {
    let node = machine.node();
    let address = Subnet(state.subnet).address(node.host).to_string();
    let mut document = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "JoinConfiguration",
        "nodeRegistration": node_registration(&node.name, &address),
        "discovery": {
            "bootstrapToken": {
                "token": secrets.token,
                "apiServerEndpoint": endpoint(state),
                // The bridge between the nodes has no other host on it.
                "unsafeSkipCAVerification": true,
            },
        },
    });
    if node.role == Role::ControlPlane {
        secrets.write_encryption(machine)?;
        document["controlPlane"] = json!({
            "localAPIEndpoint": {"advertiseAddress": address, "bindPort": 6443},
            "certificateKey": secrets.certificate_key,
        });
    }
    run(machine, overrides, &[document], &["join", "--skip-phases=preflight"], progress)
}

/// A kubeconfig for the user `name` of the cluster, signed by its CA on a control-plane node.
pub(super) fn kubeconfig(machine: &Machine, name: &str) -> Result<String> {
    machine.run("kubeadm", &["kubeconfig", "user", "--client-name", name, "--config", FILE])
}

fn run(
    machine: &Machine,
    overrides: &Overrides,
    documents: &[Value],
    arguments: &[&str],
    progress: &Progress,
) -> Result<()> {
    // JSON is YAML; kubeadm splits documents by their separator lines.
    let text: Vec<String> =
        documents.iter().map(|document| overrides.over(document.clone()).to_string()).collect();
    machine.write(FILE, &text.join("\n---\n"))?;
    let log = machine.directory().join("log/kubeadm.log");
    let what = format!("{}: kubeadm {}", machine.node().name, arguments[0]);
    let mut kubeadm = machine.command("kubeadm")?;
    kubeadm.args(arguments).args(["--config", FILE]);
    command::logged(&mut kubeadm, &log, progress, &what)
}

fn node_registration(name: &str, address: &str) -> Value {
    json!({
        "name": name,
        "criSocket": "unix:///run/containerd/containerd.sock",
        "imagePullPolicy": "Never",
        "kubeletExtraArgs": [{"name": "node-ip", "value": address}],
        "ignorePreflightErrors": ["all"],
    })
}

fn cluster_configuration(state: &State, secrets: &Secrets) -> Value {
    let encryption = json!({"name": "encryption-provider-config", "value": ENCRYPTION});
    let extra: Vec<Value> = secrets.encryption.iter().map(|_| encryption.clone()).collect();
    json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": state.name,
        "kubernetesVersion": state.version,
        "controlPlaneEndpoint": endpoint(state),
        "networking": {"podSubnet": "10.244.0.0/16", "serviceSubnet": "10.96.0.0/16"},
        "apiServer": {"certSANs": ["127.0.0.1", "localhost"], "extraArgs": extra},
        // Power is cut here by killing processes: what was written is in the kernel's memory and is not lost. Without
        // this, a build on the same disk holds every write up for seconds.
        "etcd": {"local": {
            "imageTag": ETCD_TAG,
            "extraArgs": [{"name": "unsafe-no-fsync", "value": "true"}],
        }},
    })
}

fn kubelet_configuration(split_cgroups: bool) -> Value {
    let mut document = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        // kubeadm drops an empty list.
        "enforceNodeAllocatable": ["none"],
        "failSwapOn": false,
        // The disk is shared with whatever else this machine does.
        "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%", "nodefs.inodesFree": "0%"},
        // Nor are images removed when it is nearly full: there is no registry from which the pause image would come back.
        "imageGCHighThresholdPercent": 100,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
    });
    if split_cgroups {
        // Kubernetes gives up on cgroup v1 by default.
        document["failCgroupV1"] = json!(false);
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_merged_and_lists_replaced() {
        let overrides = Overrides::parse(
            "kind: ClusterConfiguration\nnetworking: {serviceSubnet: 10.97.0.0/16}\n\
             apiServer: {certSANs: [a.example]}\n---\nkind: KubeletConfiguration\nfailSwapOn: true\n",
        )
        .unwrap();
        let merged = overrides.over(json!({
            "kind": "ClusterConfiguration",
            "networking": {"podSubnet": "10.244.0.0/16", "serviceSubnet": "10.96.0.0/16"},
            "apiServer": {"certSANs": ["127.0.0.1", "localhost"]},
        }));
        assert_eq!(
            merged,
            json!({
                "kind": "ClusterConfiguration",
                "networking": {"podSubnet": "10.244.0.0/16", "serviceSubnet": "10.97.0.0/16"},
                "apiServer": {"certSANs": ["a.example"]},
            })
        );
        let other = json!({"kind": "InitConfiguration", "failSwapOn": false});
        assert_eq!(overrides.over(other.clone()), other);
    }

    #[test]
    fn documents_of_other_kinds_are_refused() {
        let error = Overrides::parse("kind: Pod\n").unwrap_err();
        assert!(error.to_string().contains("\"Pod\""), "{error}");
        assert!(Overrides::parse("a: [").is_err());
    }

    #[test]
    fn tokens_have_the_form_kubeadm_wants() {
        let secrets = Secrets::generate(true).unwrap();
        let (id, secret) = secrets.token.split_once('.').unwrap();
        assert_eq!((id.len(), secret.len(), secrets.certificate_key.len()), (6, 16, 64));
        assert_eq!(secrets.encryption.map(|key| key.len()), Some(44), "32 bytes in base64");
        assert_eq!(Secrets::generate(false).unwrap().encryption, None);
    }
}
