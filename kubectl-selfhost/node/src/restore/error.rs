//! Why a restore stopped, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;

use super::journal;
use crate::recover::watch::Seen;
use crate::{backup, files, processes, sockets, tls};

/// The restore did not come to its end. What was done is in the journal, and a second run goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("not allowed to write to {}", .0.display())]
    NotAllowed(PathBuf),
    #[error("look into {}", path.display())]
    Manifests { path: PathBuf, source: Errno },
    #[error(transparent)]
    Backup(#[from] backup::Error),
    #[error("{} has no manifest of etcd", .0.display())]
    NoEtcd(PathBuf),
    #[error("etcd keeps its log in a directory of its own, {0}")]
    WalDir(String),
    #[error("a restore from {}, with {}, is not finished", from.display(), snapshot.display())]
    Another { from: PathBuf, snapshot: PathBuf },
    #[error(transparent)]
    Journal(#[from] journal::Error),
    #[error(transparent)]
    File(#[from] files::Error),
    #[error(transparent)]
    Processes(#[from] processes::Error),
    #[error(transparent)]
    Sockets(#[from] sockets::Error),
    #[error(transparent)]
    Credentials(#[from] tls::Error),
    #[error("etcd still runs after {} s", timeout.as_secs())]
    StillRuns { timeout: Duration },
    #[error("end the API server with process id {pid}")]
    Kill { pid: u32, source: Errno },
    #[error("read this program itself")]
    Program(#[source] io::Error),
    #[error("nobody restored the snapshot within {} s", timeout.as_secs())]
    NoResult { timeout: Duration },
    #[error("the snapshot was not restored: {0}")]
    Failed(String),
    #[error("read how the snapshot was restored")]
    Result(#[source] serde_json::Error),
    #[error("give {} to the user of etcd", path.display())]
    Owner { path: PathBuf, source: io::Error },
    #[error("etcd accepts no connections after {} s", timeout.as_secs())]
    NoQuorum { timeout: Duration, others: Option<String> },
    #[error("no API server is ready after {} s: {seen}", timeout.as_secs())]
    NotReady { timeout: Duration, seen: Seen },
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::NotAllowed(_) => "run it as root",
            Self::Manifests { .. } => {
                "run it on a control-plane node, where a kubelet runs static Pods from there"
            }
            Self::Backup(error) => error.hint(),
            Self::NoEtcd(_) => "restore etcd where it runs, and the files by hand",
            Self::WalDir(_) => "restore etcd by hand: etcdutl snapshot restore ... --wal-dir",
            Self::Another { .. } => {
                "finish that one first: the same command as then; or remove /var/lib/selfhost/restore to begin anew"
            }
            Self::StillRuns { .. } => {
                "the kubelet stops it when its manifest is gone: systemctl status kubelet; journalctl -u kubelet"
            }
            Self::NoResult { .. } => {
                "the kubelet runs it: journalctl -u kubelet; crictl ps -a --name restore, then crictl logs ID; running \
                 this again goes on"
            }
            Self::Failed(_) => {
                "once the cause is gone, the same command goes on; nothing that was there is lost"
            }
            Self::NoQuorum { others: Some(_), .. } => {
                "most of the members have to be restored from the same snapshot: do it on the others, then run this again"
            }
            Self::NoQuorum { others: None, .. } => {
                "crictl ps -a --name etcd, then crictl logs ID; running this again goes on"
            }
            Self::NotReady { seen, .. } => seen.hint(),
            Self::Credentials(_) => "the certificates of the backup cannot be used: use another backup",
            Self::Processes(_) | Self::Sockets(_) => "it needs /proc of a Linux node",
            Self::Journal(_)
            | Self::File(_)
            | Self::Kill { .. }
            | Self::Program(_)
            | Self::Result(_)
            | Self::Owner { .. } => {
                "check the node's disk: whether it has room, and is writable; running this again goes on"
            }
        }
    }
}
