//! Backs up the control plane of this node, in three acts of one Pod: `save-backup` copies files and etcd, `try-backup`
//! restores the snapshot with etcd's own tool, in etcd's own image, and `backup` looks at what came of that.
//!
//! Invariants: nothing of the node is changed but below the directory of the backup; under its own name that directory
//! is there only when everything in it is on disk, and its snapshot was restored once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::backup::collect;
use crate::backup::{Backup, Directories, FORMAT, RECORD, SNAPSHOT, Snapshot};
use crate::etcd::tool::{self, Status, Tool};
use crate::etcd::{self, Endpoint, Etcd};
use crate::files::{self, Content};
use crate::report;
use crate::tls::Credentials;
use crate::{backup, clock};

/// What is known before the snapshot was tried: the backup, without that.
const DRAFT: &str = "draft.json";

/// What came of trying it.
const TRIED: &str = "tried.json";

/// This program, for the container that has only etcd's own.
const PROGRAM: &str = "selfhost-node";

/// What is restored to see whether it can be.
const DATA: &str = "data";

/// Room beyond the size of the database: files, and the log that etcd's tool begins with.
const ROOM_BYTES: u64 = 256 << 20;

/// Saves files and etcd.
#[derive(Debug)]
pub(crate) struct SaveBackup {
    /// The directory that the backup is to be.
    pub(crate) at: PathBuf,
    /// A directory that the three acts share.
    pub(crate) scratch: PathBuf,
    pub(crate) node: String,
    /// The version of the node's API server.
    pub(crate) kubernetes: String,
    pub(crate) etcd_image: String,
    pub(crate) etcd: Endpoint,
    pub(crate) credentials: Credentials,
    pub(crate) data_dir: PathBuf,
    pub(crate) directories: Directories,
    /// What else is to be saved, if it is a file.
    pub(crate) others: Vec<PathBuf>,
    /// For etcd to send all that it has.
    pub(crate) timeout: Duration,
}

/// Restores the snapshot to where nobody needs it.
#[derive(Debug)]
pub(crate) struct TryBackup {
    pub(crate) at: PathBuf,
    pub(crate) scratch: PathBuf,
}

/// Completes the backup.
#[derive(Debug)]
pub(crate) struct FinishBackup {
    pub(crate) at: PathBuf,
    pub(crate) scratch: PathBuf,
}

/// There is no backup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{} has no name that a backup can have", .0.display())]
    Name(PathBuf),
    #[error("{} is there already", .0.display())]
    There(PathBuf),
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} has room for {free} MiB, and {needed} MiB are needed", path.display())]
    Room { path: PathBuf, free: u64, needed: u64 },
    #[error("read this program itself")]
    Program(#[source] io::Error),
    #[error(transparent)]
    Etcd(#[from] etcd::Error),
    #[error(transparent)]
    Collect(#[from] collect::Error),
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("restore the snapshot, to see whether it can be")]
    Tool(#[from] tool::Error),
    #[error("{} is none of ours", path.display())]
    Note { path: PathBuf, source: serde_json::Error },
    #[error("the snapshot has revision {found}, and etcd had {expected} before it was taken")]
    Stale { found: u64, expected: u64 },
    #[error("the snapshot has revision {expected}, and what was restored of it {found}")]
    Different { found: u64, expected: u64 },
    #[error(transparent)]
    Backup(#[from] backup::Error),
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Name(_) | Self::There(_) => "name another directory",
            Self::Room { .. } => "make room, or name another directory of the node: --to DIR",
            Self::Etcd(error) => error.hint(),
            Self::Tool(_) => {
                "no backup was made; the image that etcd runs has to have etcdutl, or etcdctl before 3.6"
            }
            Self::Stale { .. } | Self::Different { .. } => "no backup was made; run it again",
            Self::Note { .. } | Self::Program(_) => {
                "use the node image that belongs to this version of kubectl selfhost"
            }
            Self::Backup(error) => error.hint(),
            Self::Read { .. } | Self::Collect(_) | Self::File(_) => {
                "check that the Pod mounts the directories, and that the disk is whole and writable"
            }
        }
    }
}

/// What the first act leaves for the others.
#[derive(Debug, Serialize, Deserialize)]
struct Draft {
    backup: Backup,
    /// What etcd agreed on before the snapshot was taken.
    revision: u64,
}

/// What the second act leaves for the third.
#[derive(Debug, Serialize, Deserialize)]
struct Tried {
    tool: String,
    snapshot: Status,
    restored: Status,
}

impl SaveBackup {
    pub(crate) fn run(&self) -> Result<report::SaveBackup, Error> {
        let partial = partial(&self.at)?;
        if self.at.exists() {
            return Err(Error::There(self.at.clone()));
        }
        let base = self.at.parent().unwrap_or(Path::new("/"));
        files::create_private_dir(base)?;
        self.sweep(base)?;
        let etcd = Etcd::new(self.etcd, &self.credentials)?;
        let about = etcd.about()?;
        for directory in [base, &self.scratch] {
            check_room(directory, about.size + ROOM_BYTES)?;
        }
        files::create_private_dir(&partial)?;
        let revision = etcd.revision()?;
        let mut file = files::create_new(&partial.join(SNAPSHOT))?;
        let saved = etcd.snapshot(&mut file, self.timeout)?;
        file.sync_all().map_err(|source| Error::Read { path: partial.join(SNAPSHOT), source })?;
        let paths = collect::find(&self.directories, &self.others)?;
        let backup = Backup {
            format: FORMAT,
            taken: clock::now(),
            node: self.node.clone(),
            kubernetes: self.kubernetes.clone(),
            etcd: backup::Etcd {
                version: about.version,
                image: self.etcd_image.clone(),
                cluster_id: about.cluster_id,
                member: about.member,
                members: about.members,
                data_dir: self.data_dir.clone(),
            },
            snapshot: Snapshot {
                size: saved.size,
                sha256: saved.digest,
                revision: 0,
                keys: 0,
                checked_by: String::new(),
            },
            directories: self.directories.clone(),
            files: collect::copy(&paths, &partial)?,
        };
        note(&self.scratch.join(DRAFT), &Draft { backup, revision })?;
        let own = fs::read("/proc/self/exe").map_err(Error::Program)?;
        files::write(&self.scratch.join(PROGRAM), &Content::new(own, 0o755))?;
        Ok(report::SaveBackup { directory: partial, snapshot_bytes: saved.size })
    }

    /// Removes what earlier backups of this node left when they were killed; only one of a node is made at a time.
    fn sweep(&self, base: &Path) -> Result<(), Error> {
        let failed = |source| Error::Read { path: base.to_owned(), source };
        for entry in fs::read_dir(base).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') && name.ends_with(&format!("-{}.partial", self.node)) {
                files::remove_dir_if_there(&path)?;
            }
        }
        Ok(())
    }
}

impl TryBackup {
    pub(crate) fn run(&self) -> Result<report::TryBackup, Error> {
        let Draft { backup, .. } = noted(&self.scratch.join(DRAFT))?;
        let snapshot = partial(&self.at)?.join(SNAPSHOT);
        let data = self.scratch.join(DATA);
        // This container may be started again.
        files::remove_dir_if_there(&data)?;
        let tool = Tool::find()?;
        let tried = Tried {
            tool: tool.name().to_owned(),
            snapshot: tool.status(&snapshot)?,
            restored: {
                tool.restore(&snapshot, &data, &backup.membership(&backup.snapshot.sha256), false)?;
                tool.status(&data.join("member/snap/db"))?
            },
        };
        note(&self.scratch.join(TRIED), &tried)?;
        Ok(report::TryBackup { tool: tried.tool, revision: tried.restored.revision })
    }
}

impl FinishBackup {
    pub(crate) fn run(&self) -> Result<report::FinishBackup, Error> {
        let Draft { mut backup, revision } = noted(&self.scratch.join(DRAFT))?;
        let Tried { tool, snapshot, restored } = noted(&self.scratch.join(TRIED))?;
        if snapshot.revision < revision {
            return Err(Error::Stale { found: snapshot.revision, expected: revision });
        }
        if restored.revision != snapshot.revision {
            return Err(Error::Different { found: restored.revision, expected: snapshot.revision });
        }
        files::remove_dir_if_there(&self.scratch.join(DATA))?;
        backup.snapshot.revision = snapshot.revision;
        backup.snapshot.keys = snapshot.keys;
        backup.snapshot.checked_by = tool;
        let partial = partial(&self.at)?;
        // What is on disk, not what was written.
        backup.check_files(&partial)?;
        backup.check_snapshot(&partial.join(SNAPSHOT))?;
        note(&partial.join(RECORD), &backup)?;
        files::sync_tree(&partial)?;
        files::rename_dir(&partial, &self.at)?;
        Ok(report::FinishBackup {
            directory: self.at.clone(),
            revision: backup.snapshot.revision,
            keys: backup.snapshot.keys,
            snapshot_bytes: backup.snapshot.size,
            sha256: backup.snapshot.sha256.to_string(),
            checked_by: backup.snapshot.checked_by.clone(),
            etcd_version: backup.etcd.version.clone(),
            member: backup.etcd.member.clone(),
            members: backup.etcd.members.len() as u64,
            files: count(&backup),
        })
    }
}

/// How many files of each kind a backup has.
fn count(backup: &Backup) -> report::BackupFiles {
    let Directories { manifests, pki, state } = &backup.directories;
    let mut files = report::BackupFiles::default();
    for entry in &backup.files {
        let path = &entry.path;
        let kind = if path.starts_with(manifests) {
            &mut files.manifests
        } else if path.starts_with(pki) {
            &mut files.pki
        } else if path.starts_with(state) {
            &mut files.kept
        } else if path.parent() == pki.parent() {
            &mut files.kubeconfigs
        } else {
            &mut files.others
        };
        *kind += 1;
    }
    files
}

/// Where a backup is until it is complete.
fn partial(at: &Path) -> Result<PathBuf, Error> {
    let name = at.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'));
    let name = name.ok_or_else(|| Error::Name(at.to_owned()))?;
    Ok(at.with_file_name(format!(".{name}.partial")))
}

fn check_room(directory: &Path, needed: u64) -> Result<(), Error> {
    let room = rustix::fs::statvfs(directory)
        .map_err(|errno| Error::Read { path: directory.to_owned(), source: errno.into() })?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    if free < needed {
        return Err(Error::Room { path: directory.to_owned(), free: free >> 20, needed: needed >> 20 });
    }
    Ok(())
}

fn note(path: &Path, what: &impl Serialize) -> Result<(), Error> {
    let text =
        serde_json::to_vec_pretty(what).map_err(|source| Error::Note { path: path.to_owned(), source })?;
    Ok(files::write(path, &Content::new(text, 0o600))?)
}

fn noted<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| Error::Note { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::tests::take;

    /// A backup of which the first two acts are done.
    fn tried(dir: &Path, expected: u64, snapshot: u64, restored: u64) -> FinishBackup {
        let (at, scratch) = (dir.join("backups/x-cp1"), dir.join("scratch"));
        fs::create_dir_all(scratch.join(DATA)).unwrap();
        let backup = take(dir, &partial(&at).unwrap());
        fs::remove_file(partial(&at).unwrap().join(RECORD)).unwrap();
        note(&scratch.join(DRAFT), &Draft { backup, revision: expected }).unwrap();
        let status = |revision| Status { revision, keys: 9 };
        let tried =
            Tried { tool: "etcdutl".to_owned(), snapshot: status(snapshot), restored: status(restored) };
        note(&scratch.join(TRIED), &tried).unwrap();
        FinishBackup { at, scratch }
    }

    #[test]
    fn a_backup_is_whole_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let finish = tried(dir.path(), 540, 541, 541);
        let report = finish.run().unwrap();
        assert_eq!((report.revision, report.keys, report.snapshot_bytes), (541, 9, 8));
        let expected = report::BackupFiles { manifests: 1, pki: 3, kubeconfigs: 1, kept: 2, others: 1 };
        assert_eq!(report.files, expected);
        let backup = Backup::load(&finish.at).unwrap();
        assert_eq!((backup.snapshot.revision, backup.snapshot.checked_by.as_str()), (541, "etcdutl"));
        assert!(!partial(&finish.at).unwrap().exists() && !finish.scratch.join(DATA).exists());

        for (expected, snapshot, restored, why) in [
            (542, 541, 541, "the snapshot has revision 541, and etcd had 542 before it was taken"),
            (540, 541, 540, "the snapshot has revision 541, and what was restored of it 540"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let finish = tried(dir.path(), expected, snapshot, restored);
            assert_eq!(finish.run().unwrap_err().to_string(), why);
            assert!(!finish.at.exists());
        }
        let dir = tempfile::tempdir().unwrap();
        let finish = tried(dir.path(), 540, 541, 541);
        fs::write(partial(&finish.at).unwrap().join(SNAPSHOT), "snapshoT").unwrap();
        let error = finish.run().unwrap_err();
        assert!(matches!(error, Error::Backup(backup::Error::Damaged { .. })), "{error}");
        assert!(!finish.at.exists());
    }

    #[test]
    fn what_was_killed_is_swept_away_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let names = [".a-cp1.partial", ".a-cp2.partial", "a-cp1", ".a-cp1"];
        for name in names {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let credentials =
            Credentials { ca: PathBuf::new(), server_name: "x".try_into().unwrap(), client: None };
        let save = SaveBackup {
            at: dir.path().join("a-cp1"),
            scratch: dir.path().to_owned(),
            node: "cp1".to_owned(),
            kubernetes: String::new(),
            etcd_image: String::new(),
            etcd: "https://127.0.0.1:1".parse().unwrap(),
            credentials,
            data_dir: PathBuf::new(),
            directories: Directories {
                manifests: PathBuf::new(),
                pki: PathBuf::new(),
                state: PathBuf::new(),
            },
            others: vec![],
            timeout: Duration::ZERO,
        };
        assert!(matches!(save.run(), Err(Error::There(_))));
        save.sweep(dir.path()).unwrap();
        let left = names.map(|name| dir.path().join(name).exists());
        assert_eq!(left, [false, true, true, true]);
        assert!(matches!(partial(Path::new("/")), Err(Error::Name(_))));
        assert!(matches!(check_room(dir.path(), u64::MAX), Err(Error::Room { .. })));
    }
}
