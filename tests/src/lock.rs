//! Locks between processes.
//!
//! Invariant: a lock is an `flock`, so the kernel releases it when its holder dies, however it dies.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Takes the lock of the directory `path`, which is created if needed; calls `wait` once if another process has it.
pub(crate) fn directory(path: &Path, wait: impl FnOnce()) -> Result<Lock> {
    let mut wait = Some(wait);
    loop {
        fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
        let Some(file) = open(path)? else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            if let Some(wait) = wait.take() {
                wait();
            }
            retry(|| flock(&file, FlockOperation::LockExclusive))
                .with_context(|| format!("lock {}", path.display()))?;
        }
        if is_same(&file, path) {
            return Ok(Lock { _file: file });
        }
    }
}

/// Takes the lock of the existing directory `path`; `None` if another process has it or it does not exist.
pub(crate) fn try_directory(path: &Path) -> Result<Option<Lock>> {
    let Some(file) = open(path)? else { return Ok(None) };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) if is_same(&file, path) => Ok(Some(Lock { _file: file })),
        Ok(()) | Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("open {}", path.display())),
    }
}

/// Whether `path` still is the directory that was opened: its last holder may have removed it.
fn is_same(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(there)) => held.dev() == there.dev() && held.ino() == there.ino(),
        _ => false,
    }
}

fn retry(mut call: impl FnMut() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_excludes_and_is_released() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let held = directory(&path, || panic!("nobody else has it")).unwrap();
        assert!(try_directory(&path).unwrap().is_none());
        drop(held);
        assert!(try_directory(&path).unwrap().is_some());
    }

    #[test]
    fn a_directory_that_was_removed_meanwhile_is_not_locked() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let held = directory(&path, || ()).unwrap();
        fs::remove_dir(&path).unwrap();
        let again = directory(&path, || ()).unwrap();
        drop(held);
        assert!(try_directory(&path).unwrap().is_none(), "the new directory has its own lock");
        drop(again);
    }
}
