//! Which nodes are backed up, and what has to be known of each for that.
//!
//! Invariant: pure. What is asked for and cannot be had is refused by name, before anything is done.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use selfhost_core::component::Component;
use selfhost_core::flags;
use serde::Serialize;

use crate::error::Explain;
use crate::exit::Exit;
use crate::inventory::{Inventory, Part, credentials, recognize};

/// The name of etcd's container, and of its label.
const ETCD: &str = "etcd";

/// The flags that name what the API server shows to etcd: its CA, its certificate, its key.
const CREDENTIALS: [&str; 3] = ["etcd-cafile", "etcd-certfile", "etcd-keyfile"];

/// A backup of one node's control plane that is to be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeBackup {
    /// The node.
    pub node: String,
    /// The directory on the node that has its backups.
    pub base: String,
    /// The directory that this one is to be.
    pub directory: String,
    /// The version of the node's API server, as far as it is known.
    pub kubernetes: String,
    /// The image that etcd runs there: it has the tool that restores.
    pub etcd_image: String,
    /// Where etcd is asked, from the node itself.
    pub etcd_endpoint: Option<String>,
    /// CA, certificate and key for it, as files of the node; none where they are kubeadm's.
    #[serde(skip)]
    pub credentials: Option<[String; 3]>,
    /// etcd's directory of data.
    pub data_dir: String,
    /// Files of the node that the control plane's flags name.
    pub files: BTreeSet<String>,
}

/// Why no backup is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The Pods or the nodes could not be read.
    #[error("cannot list {0}: what is to be backed up is not known")]
    Unread(&'static str),
    /// A name that no node has.
    #[error("there is no node {0}")]
    NoNode(String),
    /// A node that runs no control plane.
    #[error("node {0} is no control-plane node")]
    NotControlPlane(String),
    /// etcd does not run on the node.
    #[error("no etcd Pod runs on {node}: its API server uses {servers}")]
    ExternalEtcd {
        /// The node.
        node: String,
        /// What its API server is told.
        servers: String,
    },
    /// The cluster shows no control plane at all.
    #[error("no control-plane node is visible")]
    NoControlPlane,
    /// An operation is at work.
    #[error("operation {what} runs, by {holder}")]
    Running {
        /// What it is.
        what: String,
        /// Who runs it.
        holder: String,
    },
    /// A directory that cannot be one.
    #[error("--to {0:?} is no absolute path of a directory")]
    Directory(String),
}

impl Explain for Refused {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unread(_) => "the rights that each command needs: docs/reference/rbac.md".to_owned(),
            Self::NoNode(_) | Self::NotControlPlane(_) => {
                "kubectl get nodes -l node-role.kubernetes.io/control-plane".to_owned()
            }
            Self::ExternalEtcd { .. } => {
                "save it where it runs: etcdctl --endpoints=... --cacert=... --cert=... --key=... snapshot save FILE"
                    .to_owned()
            }
            Self::NoControlPlane => "kubectl selfhost status".to_owned(),
            Self::Running { .. } => "wait for its end: kubectl selfhost status --watch".to_owned(),
            Self::Directory(_) => "name a directory of the nodes, without `..`: --to /mnt/backups".to_owned(),
        })
    }

    fn exit(&self) -> Exit {
        Exit::Findings
    }
}

/// A backup of each of `nodes`, or of every control-plane node, below `base`, with names that begin with `name`.
pub fn plan(
    inventory: &Inventory,
    nodes: &[String],
    base: &str,
    name: &str,
) -> Result<Vec<NodeBackup>, Refused> {
    for (part, what) in [(Part::Nodes, "nodes"), (Part::Pods, "pods in kube-system")] {
        if inventory.unread.contains(&part) {
            return Err(Refused::Unread(what));
        }
    }
    if let Some(open) = inventory.operation.as_ref().filter(|open| open.running) {
        return Err(Refused::Running { what: open.what.clone(), holder: open.holder.clone() });
    }
    let base = base.trim_end_matches('/');
    let whole = base.starts_with('/') && base.split('/').all(|part| part != "." && part != "..");
    if !whole || base.contains(',') {
        return Err(Refused::Directory(base.to_owned()));
    }
    for node in nodes {
        if !inventory.control_plane.contains_key(node) {
            let known = inventory.kubelets.contains_key(node);
            let refused = if known { Refused::NotControlPlane } else { Refused::NoNode };
            return Err(refused(node.clone()));
        }
    }
    let asked: BTreeSet<&String> =
        if nodes.is_empty() { inventory.control_plane.keys().collect() } else { nodes.iter().collect() };
    if asked.is_empty() {
        return Err(Refused::NoControlPlane);
    }
    asked.into_iter().map(|node| of(inventory, node, base, name)).collect()
}

/// The backup of one control-plane node.
pub fn of(inventory: &Inventory, node: &str, base: &str, name: &str) -> Result<NodeBackup, Refused> {
    let server = inventory.instances_on(Component::ApiServer, node).next().map(|instance| &instance.pod);
    let Some(etcd) = inventory.etcd.get(node) else {
        let command = server.map(|pod| recognize::command(pod, Component::ApiServer.name()));
        let servers = command.as_deref().and_then(|it| flags::value(it, "etcd-servers"));
        let servers = servers.unwrap_or("another").to_owned();
        return Err(Refused::ExternalEtcd { node: node.to_owned(), servers });
    };
    let command = recognize::command(etcd, ETCD);
    let data_dir = flags::value(&command, "data-dir").unwrap_or("/var/lib/etcd");
    let pods: BTreeMap<&str, &Pod> = Component::ALL
        .iter()
        .filter_map(|component| {
            Some((component.name(), &inventory.instances_on(*component, node).next()?.pod))
        })
        .chain([(ETCD, etcd)])
        .collect();
    Ok(NodeBackup {
        node: node.to_owned(),
        base: base.to_owned(),
        directory: format!("{base}/{name}-{node}"),
        kubernetes: version(inventory, server),
        etcd_image: recognize::image(etcd, ETCD).unwrap_or_default().to_owned(),
        etcd_endpoint: endpoint(&command),
        credentials: server.and_then(client_credentials),
        data_dir: credentials::on_host(etcd, ETCD, data_dir).unwrap_or_else(|| data_dir.to_owned()),
        files: pods.iter().flat_map(|(component, pod)| credentials::host_files(pod, component)).collect(),
    })
}

/// The version of the node's own API server, or else of the one that answers.
fn version(inventory: &Inventory, server: Option<&Pod>) -> String {
    let own = server.and_then(|pod| recognize::running_version(pod, Component::ApiServer.name()));
    own.or_else(|| inventory.server_version.clone())
        .map_or_else(|| "unknown".to_owned(), |version| version.to_string())
}

/// The first of etcd's own addresses for clients: loopback, if it listens there.
fn endpoint(command: &[String]) -> Option<String> {
    let urls = flags::value(command, "listen-client-urls")?;
    let mut https = urls.split(',').filter(|url| url.starts_with("https://"));
    let first = https.clone().next();
    https
        .find(|url| url.contains("//127.0.0.1:") || url.contains("//[::1]:"))
        .or(first)
        .map(ToOwned::to_owned)
}

/// What the API server shows to etcd, where all of it is on the node's disk.
fn client_credentials(server: &Pod) -> Option<[String; 3]> {
    let name = Component::ApiServer.name();
    let command = recognize::command(server, name);
    let file = |flag: &str| credentials::on_host(server, name, flags::value(&command, flag)?);
    let [ca, certificate, key] = CREDENTIALS;
    Some([file(ca)?, file(certificate)?, file(key)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::testing::{self_hosted_cluster, static_cluster};

    const BASE: &str = "/var/lib/selfhost/backups";

    fn named(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_control_plane_node_has_its_own() {
        for inventory in
            [static_cluster(&["cp-1", "cp-2"], "v1.37.2"), self_hosted_cluster(&["cp-1", "cp-2"], "v1.37.2")]
        {
            let all = plan(&inventory, &[], BASE, "20261125T014645Z").unwrap();
            let directories: Vec<&str> = all.iter().map(|backup| backup.directory.as_str()).collect();
            assert_eq!(
                directories,
                [
                    "/var/lib/selfhost/backups/20261125T014645Z-cp-1",
                    "/var/lib/selfhost/backups/20261125T014645Z-cp-2"
                ]
            );
            assert_eq!(all[0].kubernetes, "v1.37.2");
            assert_eq!(all[0].etcd_image, "registry.k8s.io/etcd:3.6.8-0");
            assert_eq!(all[0].files, BTreeSet::from(["/etc/kubernetes/admin.conf".to_owned()]));
            let one = plan(&inventory, &named(&["cp-2", "cp-2"]), "/mnt/b/", "x").unwrap();
            assert_eq!(one.len(), 1);
            assert_eq!(one[0].directory, "/mnt/b/x-cp-2");
        }
    }

    #[test]
    fn etcd_is_asked_as_the_api_server_asks_it() {
        let mut inventory = static_cluster(&["cp-1"], "v1.37.2");
        let command = |line: &[&str]| Some(line.iter().map(ToString::to_string).collect::<Vec<_>>());
        let server = &mut inventory.instances[0].pod.spec.as_mut().unwrap().containers[0];
        server.command = command(&[
            "kube-apiserver",
            "--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt",
            "--etcd-certfile=/etc/kubernetes/pki/client.crt",
            "--etcd-keyfile=/etc/kubernetes/pki/client.key",
        ]);
        let etcd = inventory.etcd.get_mut("cp-1").unwrap().spec.as_mut().unwrap();
        etcd.containers[0].command = command(&[
            "etcd",
            "--listen-client-urls=https://10.0.0.1:2379,https://127.0.0.1:12379",
            "--data-dir=/d",
        ]);
        let backup = plan(&inventory, &[], BASE, "x").unwrap().remove(0);
        assert_eq!(backup.etcd_endpoint.as_deref(), Some("https://127.0.0.1:12379"));
        let pki = |file: &str| format!("/etc/kubernetes/pki/{file}");
        assert_eq!(backup.credentials, Some(["etcd/ca.crt", "client.crt", "client.key"].map(pki)));
        assert_eq!(backup.data_dir, "/d");
        for (urls, expected) in [
            (vec![], None),
            (vec!["--listen-client-urls=http://127.0.0.1:2379"], None),
            (vec!["--listen-client-urls=https://10.0.0.1:2379"], Some("https://10.0.0.1:2379")),
        ] {
            assert_eq!(endpoint(&named(&urls)).as_deref(), expected, "{urls:?}");
        }
    }

    #[test]
    fn what_cannot_be_backed_up_is_refused_by_name() {
        let good = static_cluster(&["cp-1"], "v1.37.2");
        let refused = |inventory: &Inventory, nodes: &[&str], base: &str| {
            plan(inventory, &named(nodes), base, "x").unwrap_err().to_string()
        };
        assert_eq!(refused(&good, &["cp-9"], BASE), "there is no node cp-9");
        let mut inventory = good.clone();
        inventory.kubelets.insert("worker".to_owned(), None);
        assert_eq!(refused(&inventory, &["cp-1", "worker"], BASE), "node worker is no control-plane node");
        inventory.etcd.clear();
        assert_eq!(refused(&inventory, &[], BASE), "no etcd Pod runs on cp-1: its API server uses another");
        for base in ["backups", "", "/mnt/../etc", "/a,b"] {
            assert!(matches!(plan(&good, &[], base, "x"), Err(Refused::Directory(_))), "{base}");
        }
        let mut inventory = good.clone();
        inventory.unread.insert(Part::Pods);
        let unread = "cannot list pods in kube-system: what is to be backed up is not known";
        assert_eq!(refused(&inventory, &[], BASE), unread);
        inventory = good.clone();
        inventory.control_plane.clear();
        assert_eq!(refused(&inventory, &[], BASE), "no control-plane node is visible");
        inventory = good;
        let mut open = crate::plan::tests::interrupted("pivot");
        inventory.operation = Some(open.clone());
        plan(&inventory, &[], BASE, "x").unwrap();
        open.running = true;
        inventory.operation = Some(open);
        assert!(matches!(plan(&inventory, &[], BASE, "x"), Err(Refused::Running { .. })));
    }
}
