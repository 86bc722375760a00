//! What tasks report: the JSON documents that the plugin reads from a task Pod's termination message.
//!
//! Invariant: fields are only ever added within a version; a document fits into 4096 bytes, the size of a
//! termination message.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The result of a task, one JSON object without a tag: who ran the task knows which one it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Report {
    /// Of `task inspect`.
    Inspect(Inspect),
    /// Of `task retire-manifest`.
    Retire(Retire),
    /// Of `task restore-manifest`.
    Restore(Restore),
    /// Of `task prove-path`.
    ProvePath(ProvePath),
    /// Of `task checkpoint`.
    Checkpoint(Checkpoint),
    /// Of `task remove-standby`.
    RemoveStandby(RemoveStandby),
    /// Of `task clean`.
    Clean(Clean),
    /// Of `task place-files`.
    PlaceFiles(PlaceFiles),
    /// Of `task remove-files`.
    RemoveFiles(RemoveFiles),
    /// Of `task save-backup`.
    SaveBackup(SaveBackup),
    /// Of `task try-backup`.
    TryBackup(TryBackup),
    /// Of `task backup`.
    FinishBackup(FinishBackup),
    /// Of `task restore-data`.
    RestoreData(RestoreData),
    /// Of `task upgrade-etcd`.
    UpgradeEtcd(UpgradeEtcd),
    /// Of `task lend-program`.
    LendProgram(LendProgram),
    /// Of `task wait-port-free`.
    PortFree(PortFree),
}

/// Why a task failed; the process exits with 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// What went wrong, with its causes.
    pub error: String,
    /// What to do about it.
    pub hint: String,
}

/// Facts of a node for pre-flight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspect {
    /// The ports asked about, in the order asked.
    pub ports: Vec<Port>,
    /// `MemAvailable` of the kernel: bytes that can be used without swapping.
    pub memory_available_bytes: u64,
    /// Running control-plane processes of this node's network namespace, sorted by name, then by pid.
    pub processes: Vec<Process>,
    /// Bytes free for root on the file system of the directory for kept manifests.
    pub kept_free_bytes: u64,
    /// Whether the kernel does what the divert needs.
    pub divert: DivertSupport,
    /// SHA-256 (hexadecimal) of each static manifest, by file name.
    pub manifests: BTreeMap<String, String>,
    /// SHA-256 (hexadecimal) of each kept manifest, by file name.
    pub kept: BTreeMap<String, String>,
}

/// One TCP port of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// The port's number.
    pub port: u16,
    /// Whether it could be listened on, on every IPv4 and IPv6 address.
    pub free: bool,
}

/// One running control-plane process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// The base name of the program: `kube-apiserver`, `kube-controller-manager` or `kube-scheduler`.
    pub name: String,
    /// Its process id in the node's pid namespace.
    pub pid: u32,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
}

/// Whether the kernel and `nft` accepted a table of the divert's shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DivertSupport {
    /// True when a scratch table was accepted (and removed in the same transaction).
    pub supported: bool,
    /// The text of `nft`'s error, when not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A static manifest that is no longer among the static manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retire {
    /// Where the manifest is kept.
    pub kept: PathBuf,
    /// SHA-256 of the kept manifest.
    pub sha256: String,
    /// Whether it is kept beside the one that is to be put back, because `recover` made it.
    pub aside: bool,
    /// False when an earlier run had already removed the manifest.
    pub removed: bool,
    /// How long it took until nobody listened on the port, in milliseconds.
    pub waited_ms: u64,
}

/// A static manifest that is back in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restore {
    /// The manifest.
    pub file: PathBuf,
    /// SHA-256 of the manifest.
    pub sha256: String,
    /// False when it was there already.
    pub restored: bool,
}

/// Whether the prober's connection came through the divert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvePath {
    /// True when the prober's connection arrived on the bridge port and got the token.
    pub answered: bool,
}

/// A port that nobody listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortFree {
    /// The port.
    pub port: u16,
    /// How long it took, in milliseconds.
    pub waited_ms: u64,
}

/// The checkpoint that the standby has now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// Its manifest.
    pub file: PathBuf,
    /// Its generation; later ones come first.
    pub generation: u64,
    /// False when it was there already.
    pub changed: bool,
    /// Manifests that were damaged, each with what is wrong.
    pub damaged: Vec<String>,
}

/// A node on which nothing is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Clean {
    /// The directories that were removed.
    pub removed: Vec<PathBuf>,
}

/// Files that are in their place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaceFiles {
    /// Those that were not there before.
    pub written: Vec<PathBuf>,
}

/// A directory that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoveFiles {
    /// What was removed.
    pub removed: Vec<PathBuf>,
}

/// A node without a standby.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoveStandby {
    /// The files that were removed.
    pub removed: Vec<PathBuf>,
}

/// A backup that is saved, and not yet complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SaveBackup {
    /// Where it is until it is complete.
    pub directory: PathBuf,
    /// How many bytes etcd's snapshot has.
    pub snapshot_bytes: u64,
}

/// A snapshot that etcd's own tool restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TryBackup {
    /// The tool.
    pub tool: String,
    /// The revision of what was restored.
    pub revision: u64,
}

/// A backup that is complete, and was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FinishBackup {
    /// Its directory on the node.
    pub directory: PathBuf,
    /// etcd's revision in it.
    pub revision: u64,
    /// How many keys etcd has in it.
    pub keys: u64,
    /// How many bytes etcd's snapshot has.
    pub snapshot_bytes: u64,
    /// SHA-256 of etcd's snapshot.
    pub sha256: String,
    /// The tool that restored it, to see whether it can be.
    pub checked_by: String,
    /// etcd's version.
    pub etcd_version: String,
    /// The name of the node's member, and how many there are.
    pub member: String,
    /// How many members etcd's cluster has.
    pub members: u64,
    /// How many files of each kind it has.
    pub files: BackupFiles,
}

/// How many files of each kind a backup has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupFiles {
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

/// A data directory that was made of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreData {
    /// The directory.
    pub data: PathBuf,
    /// The tool that made it.
    pub tool: String,
    /// Whether its revision is ahead of every one that was seen since the snapshot.
    pub ahead: bool,
}

/// What came of an etcd's upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeEtcd {
    /// How it ended.
    pub outcome: EtcdOutcome,
    /// The version that serves; of a refusal, the one that was to serve.
    pub version: String,
    /// For how long no etcd of this node was healthy, all told, in milliseconds.
    pub away_ms: u64,
    /// Why it was refused, or taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last words of the etcd that did not serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
}

/// How an etcd's upgrade ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EtcdOutcome {
    /// The new image serves.
    Upgraded,
    /// The same, and an earlier run had replaced the manifest.
    Unchanged,
    /// Nothing was to be touched, and everything is as an upgrade needs it.
    Ready,
    /// The new image did not serve. The old one does again.
    TakenBack,
    /// Nothing was touched.
    Refused,
}

/// A copy of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LendProgram {
    /// Where it is.
    pub file: PathBuf,
}
