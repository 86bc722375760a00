//! A real API server and nothing else: etcd and kube-apiserver on this machine's loopback.
//!
//! For tests of what only a real API server answers: authorization (`--as`), validation, server-side apply, dry-run. It
//! takes a few seconds and needs no root.
//!
//! Invariant: both processes end with this value or, at the latest, with the process that made it; all files lie in a
//! temporary directory.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use selfhost_core::version::KubeVersion;
use serde_json::json;
use tempfile::TempDir;

use crate::binaries::Binaries;
use crate::command;
use crate::process::{Process, free_ports, tied};
use crate::progress::Progress;

/// How long etcd and the API server together may take to be ready.
const READY: Duration = Duration::from_secs(90);

/// How often it is tried with other ports, should somebody take one in the moment before a server does.
const ATTEMPTS: u8 = 3;

/// An address for documentation (RFC 5737), where Kubernetes wants one that is not loopback. Nothing is sent to it.
const ADVERTISED: &str = "192.0.2.1";

/// A running API server, fresh and empty. No controller runs: `ServiceAccounts` get no tokens, Pods stay pending.
#[derive(Debug)]
pub struct ApiServer {
    // Fields are dropped in this order: the API server before its etcd, and both before their files.
    front: Process,
    etcd: Process,
    binaries: Binaries,
    directory: TempDir,
}

impl ApiServer {
    /// Starts one. Binaries are built first if the cache lacks them.
    pub fn start(version: &KubeVersion, progress: &Progress) -> Result<Self> {
        Self::start_with(version, &[], progress)
    }

    /// Starts one with more flags: name, without dashes, and value.
    pub fn start_with(version: &KubeVersion, flags: &[(&str, String)], progress: &Progress) -> Result<Self> {
        let binaries = Binaries::ensure(version, progress)?;
        let mut attempt = 1;
        loop {
            match Self::try_start(&binaries, flags) {
                Err(error)
                    if attempt < ATTEMPTS && format!("{error:#}").contains("address already in use") =>
                {
                    attempt += 1;
                }
                result => return result.with_context(|| format!("start an API server {version}")),
            }
        }
    }

    /// Path of a kubeconfig of a member of `system:masters`.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("super-admin.conf")
    }

    /// A `kubectl` of the same version, with that kubeconfig.
    pub fn kubectl_command(&self) -> Command {
        let mut kubectl = Command::new(self.binaries.path("kubectl"));
        kubectl
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.directory.path().join("kubectl"));
        kubectl
    }

    /// Runs `kubectl` and returns its standard output; fails if it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        command::output(self.kubectl_command().args(arguments))
    }

    /// Everything the API server has logged up to now.
    pub fn log(&self) -> Result<String> {
        self.front.log()
    }

    fn try_start(binaries: &Binaries, flags: &[(&str, String)]) -> Result<Self> {
        let directory =
            tempfile::Builder::new().prefix("selfhost-api-").tempdir().context("make a directory")?;
        let [api_port, client_port, peer_port] = free_ports()?;
        certify(binaries, directory.path(), api_port)?;
        let etcd = start_etcd(binaries, directory.path(), client_port, peer_port)?;
        let api_server = start_api_server(binaries, directory.path(), [api_port, client_port], flags)?;
        let mut server = Self { front: api_server, etcd, binaries: binaries.clone(), directory };
        server.wait()?;
        Ok(server)
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY;
        while let Err(error) = self.kubectl(&["get", "--raw", "/readyz", "--request-timeout=2s"]) {
            self.front.check()?;
            self.etcd.check()?;
            if Instant::now() > deadline {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

/// Certificates and kubeconfig by kubeadm, as a cluster has them.
fn certify(binaries: &Binaries, directory: &Path, port: u16) -> Result<()> {
    let config = directory.join("kubeadm.json");
    let pki = directory.join("pki");
    let documents = [
        json!({
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": ADVERTISED, "bindPort": port},
            "nodeRegistration": {"name": "none", "criSocket": "unix:///none"},
        }),
        json!({
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "ClusterConfiguration",
            "kubernetesVersion": binaries.version(),
            "certificatesDir": pki,
            "controlPlaneEndpoint": format!("127.0.0.1:{port}"),
            "apiServer": {"certSANs": ["127.0.0.1", "localhost"]},
        }),
    ];
    fs::write(&config, documents.map(|document| document.to_string()).join("\n---\n"))?;
    for phase in [["certs", "ca"], ["certs", "apiserver"], ["certs", "sa"], ["kubeconfig", "super-admin"]] {
        let mut kubeadm = Command::new(binaries.path("kubeadm"));
        kubeadm.args(["init", "phase"]).args(phase).arg("--config").arg(&config);
        if phase[0] == "kubeconfig" {
            kubeadm.arg("--kubeconfig-dir").arg(directory);
        }
        command::output(&mut kubeadm)?;
    }
    Ok(())
}

fn start_etcd(binaries: &Binaries, directory: &Path, client: u16, peer: u16) -> Result<Process> {
    let client = format!("http://127.0.0.1:{client}");
    let peer = format!("http://127.0.0.1:{peer}");
    let mut etcd = tied(&binaries.path("etcd"));
    etcd.arg("--data-dir").arg(directory.join("etcd"));
    etcd.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    etcd.args(["--initial-cluster", &format!("default={peer}")]);
    // Nothing in it has to survive.
    etcd.arg("--unsafe-no-fsync");
    Process::start(etcd, directory.join("etcd.log"))
}

fn start_api_server(
    binaries: &Binaries,
    directory: &Path,
    [port, etcd]: [u16; 2],
    more: &[(&str, String)],
) -> Result<Process> {
    let pki = |file: &str| directory.join("pki").join(file).display().to_string();
    let mut api_server = tied(&binaries.path("kube-apiserver"));
    let own = [
        ("etcd-servers", format!("http://127.0.0.1:{etcd}")),
        ("bind-address", Ipv4Addr::LOCALHOST.to_string()),
        ("secure-port", port.to_string()),
        ("advertise-address", ADVERTISED.to_owned()),
        ("endpoint-reconciler-type", "none".to_owned()),
        ("authorization-mode", "Node,RBAC".to_owned()),
        ("allow-privileged", "true".to_owned()),
        ("enable-admission-plugins", "NodeRestriction".to_owned()),
        // It waits for `ServiceAccounts` that only a controller makes.
        ("disable-admission-plugins", "ServiceAccount".to_owned()),
        ("service-cluster-ip-range", "10.96.0.0/16".to_owned()),
        ("client-ca-file", pki("ca.crt")),
        ("tls-cert-file", pki("apiserver.crt")),
        ("tls-private-key-file", pki("apiserver.key")),
        ("service-account-issuer", "https://kubernetes.default.svc.cluster.local".to_owned()),
        ("service-account-key-file", pki("sa.pub")),
        ("service-account-signing-key-file", pki("sa.key")),
    ];
    api_server.args(own.iter().chain(more).map(|(flag, value)| format!("--{flag}={value}")));
    Process::start(api_server, directory.join("kube-apiserver.log"))
}
