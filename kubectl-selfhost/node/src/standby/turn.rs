//! Whose turn it is among the generations on a node, by locks that end with their holders.
//!
//! Invariant: a lock file says nothing by being there, only by being locked. The directory is on a file system in
//! memory: it needs no room on disk, and nothing is left there after a power cut.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// The locks of one component's supervisor.
#[derive(Debug)]
pub(super) struct Turn {
    directory: PathBuf,
    component: String,
    generation: u64,
    /// Held while this generation is fit to act.
    fit: Option<File>,
    /// Held while connections are to be diverted to the copy's port.
    serving: Option<File>,
}

/// A lock cannot be taken or looked at.
#[derive(Debug, thiserror::Error)]
#[error("lock {}", path.display())]
pub(crate) struct Error {
    path: PathBuf,
    source: io::Error,
}

impl Turn {
    pub(super) fn new(directory: &Path, component: &str, generation: u64) -> Result<Self, Error> {
        let failed = |source| Error { path: directory.to_owned(), source };
        fs::create_dir_all(directory).map_err(failed)?;
        Ok(Self {
            directory: directory.to_owned(),
            component: component.to_owned(),
            generation,
            fit: None,
            serving: None,
        })
    }

    /// Says whether this generation is fit to act.
    pub(super) fn set_fit(&mut self, fit: bool) -> Result<(), Error> {
        if fit == self.fit.is_some() {
            return Ok(());
        }
        let path = self.directory.join(format!("{}.{}.fit", self.component, self.generation));
        if fit {
            self.fit = lock(&path)?;
        } else {
            self.fit = None;
            // Nobody would miss it, and a later generation does not have to look at it.
            let _ = fs::remove_file(&path);
        }
        Ok(())
    }

    /// Says whether connections are to be diverted to the copy's port.
    pub(super) fn set_serving(&mut self, serving: bool) -> Result<(), Error> {
        if serving == self.serving.is_some() {
            return Ok(());
        }
        self.serving =
            if serving { lock(&self.directory.join(format!("{}.serving", self.component)))? } else { None };
        Ok(())
    }

    /// Whether no later generation is fit to act.
    pub(super) fn is_ours(&self) -> Result<bool, Error> {
        let failed = |source| Error { path: self.directory.clone(), source };
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let generation = name
                .to_str()
                .and_then(|name| name.strip_prefix(&self.component)?.strip_prefix('.')?.strip_suffix(".fit"))
                .and_then(|generation| generation.parse::<u64>().ok());
            if generation.is_some_and(|generation| generation > self.generation) && is_locked(&entry.path())?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // The locks end with this process in any case.
        let _ = self.set_fit(false);
    }
}

/// Whether somebody holds the lock of this file; a file that is not there is not locked.
pub(crate) fn is_locked(path: &Path) -> Result<bool, Error> {
    let failed = |source| Error { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// The lock, or `None` where somebody has it, or looks at it at this moment.
fn lock(path: &Path) -> Result<Option<File>, Error> {
    let failed = |source| Error { path: path.to_owned(), source };
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_generation_that_is_fit_acts() {
        let dir = tempfile::tempdir().unwrap();
        let turn = |generation| Turn::new(dir.path(), "kube-apiserver", generation).unwrap();
        let (mut old, mut new) = (turn(9), turn(10));
        old.set_fit(true).unwrap();
        assert!(old.is_ours().unwrap(), "nobody else is there");
        new.set_fit(true).unwrap();
        assert!(!old.is_ours().unwrap() && new.is_ours().unwrap());
        new.set_fit(false).unwrap();
        assert!(old.is_ours().unwrap(), "the new one backs off");
        new.set_fit(true).unwrap();
        drop(new);
        assert!(old.is_ours().unwrap(), "the new one is gone");
        let mut other = Turn::new(dir.path(), "kube-scheduler", 11).unwrap();
        other.set_fit(true).unwrap();
        fs::write(dir.path().join("kube-apiserver.12.fit"), "").unwrap();
        fs::write(dir.path().join("kube-apiserver.x.fit"), "").unwrap();
        assert!(old.is_ours().unwrap(), "another component, a file that nobody locks, a name of nobody's");
    }

    #[test]
    fn serving_is_a_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kube-apiserver.serving");
        assert!(!is_locked(&path).unwrap());
        let mut turn = Turn::new(dir.path(), "kube-apiserver", 1).unwrap();
        turn.set_serving(true).unwrap();
        turn.set_serving(true).unwrap();
        assert!(is_locked(&path).unwrap());
        turn.set_serving(false).unwrap();
        assert!(!is_locked(&path).unwrap());
    }
}
