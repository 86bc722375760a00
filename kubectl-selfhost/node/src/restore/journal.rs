//! How far a restore has come, on the node's disk.
//!
//! Invariant: what is written there is done, and is not done again; what comes next may be half done, and is.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::digest::Digest;
use crate::files::{self, Content};

/// The directory of a restore that is not finished, below the node part's own.
pub(super) const DIRECTORY: &str = "restore";

/// The journal, in that directory.
const FILE: &str = "journal.json";

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Stage {
    /// Take manifests away, and wait until nobody uses etcd's data any more.
    Stop,
    /// Give the data directory that is there another name.
    Keep,
    /// Put certificates, keys and other files back.
    Files,
    /// Make a data directory of the snapshot.
    Data,
    /// Put manifests back, and wait for an API server.
    Start,
}

/// A restore that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Journal {
    /// The backup's directory.
    pub(super) from: PathBuf,
    /// The file that etcd is restored from.
    pub(super) snapshot: PathBuf,
    pub(super) sha256: Digest,
    /// When it began: a name for what it keeps.
    pub(super) began: String,
    pub(super) next: Stage,
}

/// The journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("{} cannot be understood", path.display())]
    Text { path: PathBuf, source: serde_json::Error },
}

impl Journal {
    /// One that begins now.
    pub(super) fn new(from: &Path, snapshot: &Path, sha256: &Digest) -> Self {
        // `2026-11-25T01:46:45.123Z` without what file names do not like.
        let began =
            clock::now().chars().take(19).filter(char::is_ascii_alphanumeric).collect::<String>() + "Z";
        Self {
            from: from.to_owned(),
            snapshot: snapshot.to_owned(),
            sha256: sha256.clone(),
            began,
            next: Stage::Stop,
        }
    }

    /// The one that was left by a run that did not come to its end.
    pub(super) fn open(state: &Path) -> Result<Option<Self>, Error> {
        let path = state.join(DIRECTORY).join(FILE);
        let Some(file) = files::read(&path)? else { return Ok(None) };
        serde_json::from_slice(&file.bytes).map(Some).map_err(|source| Error::Text { path, source })
    }

    /// From now on `next` is what is to be done.
    pub(super) fn turn(&mut self, state: &Path, next: Stage) -> Result<(), Error> {
        self.next = next;
        let directory = state.join(DIRECTORY);
        let path = directory.join(FILE);
        files::create_private_dir(&directory)?;
        let text =
            serde_json::to_vec_pretty(self).map_err(|source| Error::Text { path: path.clone(), source })?;
        Ok(files::write(&path, &Content::new(text, 0o600))?)
    }

    /// Everything is done.
    pub(super) fn close(state: &Path) -> Result<(), Error> {
        files::remove_dir_if_there(&state.join(DIRECTORY))?;
        Ok(())
    }

    /// Whether it is of the same backup and the same snapshot.
    pub(super) fn is_of(&self, from: &Path, sha256: &Digest) -> bool {
        self.from == from && self.sha256 == *sha256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_tells_what_comes_next() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert_eq!(Journal::open(&state).unwrap(), None);
        let digest = Digest::of(b"snapshot");
        let mut journal = Journal::new(Path::new("/b/x"), Path::new("/b/x/snapshot.db"), &digest);
        assert_eq!((journal.began.len(), journal.next), ("20261125T014645Z".len(), Stage::Stop));
        journal.turn(&state, Stage::Data).unwrap();
        let found = Journal::open(&state).unwrap().unwrap();
        assert_eq!((&found, found.next), (&journal, Stage::Data));
        assert!(found.is_of(Path::new("/b/x"), &digest));
        assert!(!found.is_of(Path::new("/b/y"), &digest));
        assert!(!found.is_of(Path::new("/b/x"), &Digest::of(b"another")));
        std::fs::write(state.join(DIRECTORY).join(FILE), "{").unwrap();
        assert!(matches!(Journal::open(&state), Err(Error::Text { .. })));
        Journal::close(&state).unwrap();
        Journal::close(&state).unwrap();
        assert_eq!(Journal::open(&state).unwrap(), None);
    }
}
