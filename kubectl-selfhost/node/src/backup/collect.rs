//! The files of a node that belong to its control plane, copied with their permissions.
//!
//! Invariant: only regular files are copied. A link to a file is followed to what it means, so that a copy does not
//! depend on where it lies; a link to a directory is not.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Directories, Entry};
use crate::files;

/// The ends of kubeconfigs' names, beside the PKI directory.
const KUBECONFIG: &str = "conf";

/// Directories below the node part's own that are saved: kept manifests, and copies of the checkpoint. Backups are not
/// saved into one another, and the program is a part of every node image.
const STATE: [&str; 2] = ["manifests", "checkpoints"];

/// How many directories may lie inside each other.
const DEPTH: usize = 8;

/// The directories cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    File(#[from] files::Error),
}

/// The paths of all files of the control plane: below the directories, and `others` where they are files.
pub(crate) fn find(directories: &Directories, others: &[PathBuf]) -> Result<BTreeSet<PathBuf>, Error> {
    let mut found = BTreeSet::new();
    below(&directories.manifests, 1, &mut found)?;
    // What the kubelet does not read is none of its manifests.
    found.retain(|path| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")));
    below(&directories.pki, DEPTH, &mut found)?;
    for directory in STATE {
        below(&directories.state.join(directory), 1, &mut found)?;
    }
    if let Some(around) = directories.pki.parent() {
        let mut beside = BTreeSet::new();
        below(around, 1, &mut beside)?;
        found.extend(beside.into_iter().filter(|path| path.extension().is_some_and(|end| end == KUBECONFIG)));
    }
    found.extend(others.iter().filter(|path| path.is_file()).cloned());
    Ok(found)
}

/// Copies each of the files to its place in the backup's directory.
pub(crate) fn copy(paths: &BTreeSet<PathBuf>, backup: &Path) -> Result<Vec<Entry>, Error> {
    paths.iter().map(|path| copy_one(path, backup)).collect()
}

fn copy_one(path: &Path, backup: &Path) -> Result<Entry, Error> {
    let metadata = fs::metadata(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let copied = files::copy_new(path, &super::stored(backup, path))?;
    Ok(Entry {
        path: path.to_owned(),
        mode: format!("{:04o}", copied.mode),
        uid: metadata.uid(),
        gid: metadata.gid(),
        size: copied.size,
        sha256: copied.digest,
    })
}

/// Adds the files below a directory, which need not be there.
fn below(directory: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) -> Result<(), Error> {
    let failed = |source| Error::Read { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_dir() {
            if depth > 1 {
                below(&path, depth - 1, found)?;
            }
        } else if path.is_file() {
            found.insert(path);
        }
    }
    Ok(())
}
