//! Files that the API server of a node needs before there is an API: put there from a volume of the task's Pod, and
//! removed again.
//!
//! Invariant: a directory of such files never changes. What is different has another directory, so that an API server
//! that starts in between finds one or the other, whole.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::files::{self, Content};
use crate::report;

/// The files are credentials.
const MODE: u32 = 0o600;

/// Puts the files of a directory into another one.
#[derive(Debug)]
pub(crate) struct PlaceFiles {
    /// Where they are: a volume as the kubelet fills it, with links to links.
    pub(crate) from: PathBuf,
    /// Where they are to be.
    pub(crate) to: PathBuf,
}

/// Removes a directory of such files.
#[derive(Debug)]
pub(crate) struct RemoveFiles {
    /// The directory.
    pub(crate) directory: PathBuf,
}

/// The files are not there, or not gone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} has no files", path.display())]
    Empty { path: PathBuf },
    #[error("{} is there already, with other content", path.display())]
    Differs { path: PathBuf },
    #[error(transparent)]
    File(#[from] files::Error),
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } | Self::File(_) => {
                "check that the Pod mounts the directories, the one on the node writable"
            }
            Self::Empty { .. } => "check that the Pod mounts the volume with the files",
            Self::Differs { .. } => "what is different goes to another directory: remove this one by hand",
        }
    }
}

impl PlaceFiles {
    pub(crate) fn run(&self) -> Result<report::PlaceFiles, Error> {
        let mut found = Vec::new();
        read(&self.from, &self.to, &mut found)?;
        found.sort_by(|a, b| a.0.cmp(&b.0));
        if found.is_empty() {
            return Err(Error::Empty { path: self.from.clone() });
        }
        let mut missing = Vec::new();
        for (path, content) in found {
            match files::read(&path)? {
                Some(there) if there.digest == content.digest => {}
                Some(_) => return Err(Error::Differs { path }),
                None => missing.push((path, content)),
            }
        }
        files::create_private_dir(&self.to)?;
        for (path, content) in &missing {
            if let Some(directory) = path.parent() {
                files::create_private_dir(directory)?;
            }
            files::write_new(path, content)?;
        }
        Ok(report::PlaceFiles { written: missing.into_iter().map(|(path, _)| path).collect() })
    }
}

/// Where each file is to be, with what it is to hold; those of directories, too.
fn read(from: &Path, to: &Path, found: &mut Vec<(PathBuf, Content)>) -> Result<(), Error> {
    let failed = |path: &Path, source| Error::Read { path: path.to_owned(), source };
    for entry in fs::read_dir(from).map_err(|source| failed(from, source))? {
        let entry = entry.map_err(|source| failed(from, source))?;
        // The kubelet's own: `..data`, and the directory that it leads to.
        if entry.file_name().as_bytes().starts_with(b"..") {
            continue;
        }
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        // What the link leads to.
        if path.is_dir() {
            read(&path, &to, found)?;
        } else {
            let bytes = fs::read(&path).map_err(|source| failed(&path, source))?;
            found.push((to, Content::new(bytes, MODE)));
        }
    }
    Ok(())
}

impl RemoveFiles {
    pub(crate) fn run(&self) -> Result<report::RemoveFiles, Error> {
        let removed = files::remove_dir_if_there(&self.directory)?;
        Ok(report::RemoveFiles { removed: removed.then(|| self.directory.clone()).into_iter().collect() })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// A volume as the kubelet fills it.
    fn volume(at: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(at.join("..2026")).unwrap();
        symlink("..2026", at.join("..data")).unwrap();
        for (name, content) in files {
            let path = at.join("..2026").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
            let first = name.split('/').next().unwrap();
            symlink(format!("..data/{first}"), at.join(first)).unwrap();
        }
    }

    #[test]
    fn files_are_placed_once_and_never_changed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        volume(&at("volume"), &[("kubeconfig", "k"), ("admission.yaml", "a")]);
        let place = PlaceFiles { from: at("volume"), to: at("guard/1") };
        assert_eq!(place.run().unwrap().written, [at("guard/1/admission.yaml"), at("guard/1/kubeconfig")]);
        let mode = fs::metadata(at("guard/1/kubeconfig")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        assert_eq!(place.run().unwrap().written, [] as [PathBuf; 0], "once more");
        // A kill between two files.
        fs::remove_file(at("guard/1/kubeconfig")).unwrap();
        assert_eq!(place.run().unwrap().written, [at("guard/1/kubeconfig")]);
        fs::write(at("guard/1/kubeconfig"), "edited").unwrap();
        fs::remove_file(at("guard/1/admission.yaml")).unwrap();
        assert!(matches!(place.run(), Err(Error::Differs { path }) if path == at("guard/1/kubeconfig")));
        assert!(!at("guard/1/admission.yaml").exists(), "nothing is half done");
    }

    #[test]
    fn directories_come_along() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        volume(&at("volume"), &[("kubeconfig", "k"), ("static/guard.json", "{}")]);
        let place = PlaceFiles { from: at("volume"), to: at("guard/1") };
        assert_eq!(place.run().unwrap().written, [at("guard/1/kubeconfig"), at("guard/1/static/guard.json")]);
        assert_eq!(fs::read(at("guard/1/static/guard.json")).unwrap(), b"{}");
        let mode = fs::metadata(at("guard/1/static")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(place.run().unwrap().written, [] as [PathBuf; 0], "once more");
    }

    #[test]
    fn an_empty_volume_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        volume(&dir.path().join("volume"), &[]);
        let place = PlaceFiles { from: dir.path().join("volume"), to: dir.path().join("to") };
        assert!(matches!(place.run(), Err(Error::Empty { .. })));
        assert!(!dir.path().join("to").exists());
    }

    #[test]
    fn a_directory_is_removed_once() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("guard");
        fs::create_dir_all(directory.join("1")).unwrap();
        let remove = RemoveFiles { directory: directory.clone() };
        assert_eq!(remove.run().unwrap().removed, [directory]);
        assert_eq!(remove.run().unwrap().removed, [] as [PathBuf; 0]);
    }
}
