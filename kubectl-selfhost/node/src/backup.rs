//! A backup of a node's control plane: what is in its directory, and whether that still is what was saved.
//!
//! ```text
//! 20261125T014645Z-cp1/
//!   backup.json      this, with the SHA-256 of every file
//!   snapshot.db      etcd
//!   files/etc/...    files of the node, at their own paths
//! ```
//!
//! Invariants: a directory with a `backup.json` is a whole backup; nothing of a backup is used before all of it was
//! checked.

pub(crate) mod collect;

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::etcd::Member;
use crate::etcd::tool::Membership;

/// The format that this version writes, and the only one that it reads.
pub(crate) const FORMAT: u32 = 1;

/// What says what the backup holds.
pub(crate) const RECORD: &str = "backup.json";

/// etcd's snapshot.
pub(crate) const SNAPSHOT: &str = "snapshot.db";

/// The directory with files of the node.
pub(crate) const FILES: &str = "files";

/// A backup, as its `backup.json` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Backup {
    pub(crate) format: u32,
    /// When it was begun, in UTC.
    pub(crate) taken: String,
    /// The node's name in the cluster.
    pub(crate) node: String,
    /// The version of its API server.
    pub(crate) kubernetes: String,
    pub(crate) etcd: Etcd,
    pub(crate) snapshot: Snapshot,
    pub(crate) directories: Directories,
    /// Files of the node, in the order of their paths.
    pub(crate) files: Vec<Entry>,
}

/// The etcd that a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Etcd {
    pub(crate) version: String,
    /// The image that it ran, and that can restore it.
    pub(crate) image: String,
    pub(crate) cluster_id: String,
    /// The name of this node's member.
    pub(crate) member: String,
    pub(crate) members: Vec<Member>,
    pub(crate) data_dir: PathBuf,
}

/// A snapshot, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Snapshot {
    pub(crate) size: u64,
    pub(crate) sha256: Digest,
    pub(crate) revision: u64,
    pub(crate) keys: u64,
    /// The program that restored it, to see whether it can be.
    pub(crate) checked_by: String,
}

/// Where the node has what is saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Directories {
    /// Static manifests.
    pub(crate) manifests: PathBuf,
    /// Certificates and keys.
    pub(crate) pki: PathBuf,
    /// The node part's own.
    pub(crate) state: PathBuf,
}

/// A file of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    /// Permission bits, in octal.
    pub(crate) mode: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) sha256: Digest,
}

/// What a backup holds is not what was saved, or it is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{} is no backup: it has no {RECORD}", .0.display())]
    None(PathBuf),
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} cannot be understood", path.display())]
    Record { path: PathBuf, source: serde_json::Error },
    #[error("{} has format {found}, and this version reads {FORMAT}", path.display())]
    Format { path: PathBuf, found: u32 },
    #[error("{} names the file {file:?}, which is no path of a node", path.display())]
    Path { path: PathBuf, file: PathBuf },
    #[error("{} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::None(_) | Self::Read { .. } => {
                "name the directory of a backup: the one with backup.json in it; /var/lib/selfhost/backups has those of this node"
            }
            Self::Format { .. } => "use the program of the version that made it",
            Self::Record { .. } | Self::Path { .. } | Self::Damaged { .. } => {
                "use another copy of this backup, or another backup"
            }
        }
    }
}

/// Only the format, which is understood of every version.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

impl Backup {
    /// Reads what a backup says that it holds.
    pub(crate) fn load(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(RECORD);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::None(directory.to_owned()));
            }
            Err(source) => return Err(Error::Read { path, source }),
        };
        let understood = |source| Error::Record { path: path.clone(), source };
        let Versioned { format: found } = serde_json::from_slice(&text).map_err(understood)?;
        if found != FORMAT {
            return Err(Error::Format { path, found });
        }
        let backup: Self = serde_json::from_slice(&text).map_err(understood)?;
        if let Some(entry) = backup.files.iter().find(|entry| !is_of_a_node(&entry.path)) {
            return Err(Error::Path { path, file: entry.path.clone() });
        }
        Ok(backup)
    }

    /// Reads every file of the backup, but the snapshot; the first that is not what was saved is an error.
    pub(crate) fn check_files(&self, directory: &Path) -> Result<(), Error> {
        self.files.iter().try_for_each(|entry| check(&entry.stored(directory), entry.size, &entry.sha256))
    }

    /// Reads the snapshot that belongs to it, from wherever it is.
    pub(crate) fn check_snapshot(&self, file: &Path) -> Result<(), Error> {
        check(file, self.snapshot.size, &self.snapshot.sha256)
    }

    /// The file of the node at `path`, if it was saved.
    pub(crate) fn file(&self, path: &Path) -> Option<&Entry> {
        self.files.iter().find(|entry| entry.path == path)
    }

    /// Who is restored from a snapshot with this digest. Every member that is restored from it is one of the same
    /// cluster, and none of that cluster any more which the snapshot was taken of: a member that was left as it is
    /// cannot mix with them.
    pub(crate) fn membership(&self, snapshot: &Digest) -> Membership {
        Membership {
            name: self.etcd.member.clone(),
            members: self.etcd.members.clone(),
            token: format!("selfhost-{}", snapshot.short()),
        }
    }
}

impl Entry {
    /// Where the backup has it.
    pub(crate) fn stored(&self, directory: &Path) -> PathBuf {
        stored(directory, &self.path)
    }

    /// Its permission bits; only the owner's where they cannot be read.
    pub(crate) fn mode(&self) -> u32 {
        u32::from_str_radix(&self.mode, 8).unwrap_or(0o600)
    }
}

/// Where a backup has the node's file `path`.
fn stored(directory: &Path, path: &Path) -> PathBuf {
    directory.join(FILES).join(path.strip_prefix("/").unwrap_or(path))
}

/// An absolute path that leads nowhere but down.
fn is_of_a_node(path: &Path) -> bool {
    let mut parts = path.components();
    parts.next() == Some(Component::RootDir) && parts.all(|part| matches!(part, Component::Normal(_)))
}

fn check(path: &Path, size: u64, sha256: &Digest) -> Result<(), Error> {
    let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
    let (found, found_size) = match File::open(path).and_then(Digest::of_all) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged("it is not there".to_owned()));
        }
        Err(source) => return Err(Error::Read { path: path.to_owned(), source }),
    };
    if found_size != size {
        return Err(damaged(format!("it has {found_size} bytes, and was saved with {size}")));
    }
    if found != *sha256 {
        return Err(damaged(format!("its sha-256 is {found}, and it was saved with {sha256}")));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
