//! Taking the backup of one node: a Pod there that saves, tries what it saved with etcd's own tool, and completes.
//!
//! Invariant: nothing that serves is touched, and a backup is whole or absent, wherever the Pod is killed.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, Pod, Volume, VolumeMount};
use kube::Client;
use serde::{Deserialize, Serialize};

use crate::node_task::{self, STATE, Task, TaskError};
use crate::plan::backup::NodeBackup;

/// How long etcd gets to send all that it has.
const SNAPSHOT: Duration = Duration::from_secs(600);

/// How long all of it may take: sending, restoring, reading again.
const LIMIT: Duration = Duration::from_secs(1800);

/// Where kubeadm keeps certificates, keys and kubeconfigs.
const KUBERNETES: &str = "/etc/kubernetes";

/// The directory that the Pod's containers share.
const SCRATCH: &str = "/scratch";

/// A backup that is complete, and was tried: what the node part reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// Its directory on the node.
    pub directory: String,
    /// etcd's revision in it.
    pub revision: u64,
    /// How many keys etcd has in it.
    pub keys: u64,
    /// How many bytes etcd's snapshot has.
    pub snapshot_bytes: u64,
    /// SHA-256 of etcd's snapshot.
    pub sha256: String,
    /// The tool of etcd's that restored it, to see whether it can be.
    pub checked_by: String,
    /// etcd's version.
    pub etcd_version: String,
    /// The name of the node's etcd member.
    pub member: String,
    /// How many members etcd's cluster has.
    pub members: u64,
    /// How many files of each kind it has.
    pub files: Files,
}

/// How many files of each kind a backup has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Files {
    /// Static manifests.
    pub manifests: u64,
    /// Certificates and keys.
    pub pki: u64,
    /// Kubeconfigs.
    pub kubeconfigs: u64,
    /// Kept manifests, and copies of the checkpoint.
    pub kept: u64,
    /// What else the control plane's flags name.
    pub others: u64,
}

impl Files {
    /// All of them.
    pub const fn all(self) -> u64 {
        self.manifests + self.pki + self.kubeconfigs + self.kept + self.others
    }
}

/// Takes the backup. `manifests` is the directory of the node's static manifests, and `image` the node part's.
pub async fn take(
    client: &Client,
    image: &str,
    manifests: &str,
    backup: &NodeBackup,
) -> Result<Backup, TaskError> {
    let task = task(image, manifests, backup);
    node_task::run_alone(client, &task, &pod(&task, image, manifests, backup)).await
}

fn task<'a>(image: &'a str, manifests: &str, backup: &'a NodeBackup) -> Task<'a> {
    Task {
        name: "backup",
        node: &backup.node,
        image,
        args: in_place(backup),
        directories: directories(manifests, backup),
        limit: LIMIT,
    }
}

/// The Pod: two acts before the last one, and a directory for all three.
fn pod(task: &Task<'_>, image: &str, manifests: &str, backup: &NodeBackup) -> Pod {
    let mut pod = node_task::pod(task);
    let spec = pod.spec.get_or_insert_default();
    let scratch = Volume {
        name: "scratch".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    };
    spec.volumes.get_or_insert_default().push(scratch);
    let mount =
        VolumeMount { name: "scratch".to_owned(), mount_path: SCRATCH.to_owned(), ..VolumeMount::default() };
    let last = &mut spec.containers[0];
    last.volume_mounts.get_or_insert_default().push(mount);
    let act = |name: &str, image: &str, args: Vec<String>| Container {
        name: name.to_owned(),
        image: Some(image.to_owned()),
        args: Some([vec!["task".to_owned(), name.to_owned()], args].concat()),
        ..last.clone()
    };
    let save = act("save-backup", image, save(manifests, backup));
    // etcd's image has no program that could look at what its tool does.
    let attempt = Container {
        command: Some(vec![format!("{SCRATCH}/selfhost-node")]),
        ..act("try-backup", &backup.etcd_image, in_place(backup))
    };
    spec.init_containers = Some(vec![save, attempt]);
    pod
}

fn in_place(backup: &NodeBackup) -> Vec<String> {
    vec![format!("--at={}", backup.directory), format!("--scratch={SCRATCH}")]
}

fn save(manifests: &str, backup: &NodeBackup) -> Vec<String> {
    let mut args = in_place(backup);
    args.extend([
        format!("--node={}", backup.node),
        format!("--kubernetes={}", backup.kubernetes),
        format!("--etcd-image={}", backup.etcd_image),
        format!("--data-dir={}", backup.data_dir),
        format!("--manifests={manifests}"),
        format!("--state={STATE}"),
        format!("--timeout={}", SNAPSHOT.as_secs()),
    ]);
    args.extend(backup.etcd_endpoint.iter().map(|endpoint| format!("--etcd={endpoint}")));
    if let Some([ca, certificate, key]) = &backup.credentials {
        args.extend([
            format!("--etcd-cafile={ca}"),
            format!("--etcd-certfile={certificate}"),
            format!("--etcd-keyfile={key}"),
        ]);
    }
    if !backup.files.is_empty() {
        args.push(format!("--files={}", backup.files.iter().cloned().collect::<Vec<_>>().join(",")));
    }
    args
}

/// What is mounted: each directory once, and none that lies in another.
fn directories(manifests: &str, backup: &NodeBackup) -> Vec<String> {
    let mut all = BTreeSet::from([KUBERNETES, STATE, manifests, backup.base.as_str()].map(ToOwned::to_owned));
    let parent =
        |file: &String| Some(file.rsplit_once('/')?.0.to_owned()).filter(|parent| !parent.is_empty());
    all.extend(backup.files.iter().filter_map(parent));
    all.extend(backup.credentials.iter().flatten().filter_map(parent));
    let inside = |path: &str| all.iter().any(|above| path.starts_with(&format!("{above}/")));
    all.iter().filter(|path| !inside(path)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(base: &str) -> NodeBackup {
        NodeBackup {
            node: "cp1".to_owned(),
            base: base.to_owned(),
            directory: format!("{base}/x-cp1"),
            kubernetes: "v1.37.2".to_owned(),
            etcd_image: "registry.k8s.io/etcd:3.6.8-0".to_owned(),
            etcd_endpoint: Some("https://127.0.0.1:2379".to_owned()),
            credentials: None,
            data_dir: "/var/lib/etcd".to_owned(),
            files: ["/srv/audit/policy.yaml", "/etc/kubernetes/pki/ca.crt"].map(ToOwned::to_owned).into(),
        }
    }

    #[test]
    fn no_directory_is_mounted_inside_of_another() {
        let of = |base: &str| directories("/etc/kubernetes/manifests", &backup(base));
        assert_eq!(of("/var/lib/selfhost/backups"), ["/etc/kubernetes", "/srv/audit", "/var/lib/selfhost"]);
        assert_eq!(of("/mnt/nfs"), ["/etc/kubernetes", "/mnt/nfs", "/srv/audit", "/var/lib/selfhost"]);
        assert_eq!(of("/srv"), ["/etc/kubernetes", "/srv", "/var/lib/selfhost"]);
    }

    #[test]
    fn the_pod_saves_then_tries_then_completes() {
        let backup = backup("/var/lib/selfhost/backups");
        let task = task("node-image", "/etc/kubernetes/manifests", &backup);
        let spec = pod(&task, "node-image", "/etc/kubernetes/manifests", &backup).spec.unwrap();
        let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let lines: Vec<String> = containers
            .map(|container| {
                let line = container.command.iter().chain(&container.args).flatten().cloned();
                format!("{}: {}", container.image.as_deref().unwrap(), line.collect::<Vec<_>>().join(" "))
            })
            .collect();
        let place = "--at=/var/lib/selfhost/backups/x-cp1 --scratch=/scratch";
        assert_eq!(
            lines,
            [
                format!(
                    "node-image: task save-backup {place} --node=cp1 --kubernetes=v1.37.2 \
                     --etcd-image=registry.k8s.io/etcd:3.6.8-0 --data-dir=/var/lib/etcd \
                     --manifests=/etc/kubernetes/manifests --state=/var/lib/selfhost --timeout=600 \
                     --etcd=https://127.0.0.1:2379 --files=/etc/kubernetes/pki/ca.crt,/srv/audit/policy.yaml"
                ),
                format!("registry.k8s.io/etcd:3.6.8-0: /scratch/selfhost-node task try-backup {place}"),
                format!("node-image: task backup {place}"),
            ]
        );
        let volumes: Vec<String> = spec.volumes.into_iter().flatten().map(|volume| volume.name).collect();
        assert_eq!(volumes, ["host-0", "host-1", "host-2", "scratch"]);
    }
}
