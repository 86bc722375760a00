//! Removes everything that is ours on a node, when nothing there is self-hosted any more.
//!
//! Invariant: no kept manifest is lost that is not in its place again.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files;
use crate::report;

/// The directory of kept manifests, below the state directory.
const KEPT: &str = "manifests";

/// Removes the node part's own directories.
#[derive(Debug)]
pub(crate) struct Clean {
    /// The directory of static manifests.
    pub(crate) manifests: PathBuf,
    /// The node part's own directory.
    pub(crate) state: PathBuf,
    /// The directory of the standby's locks.
    pub(crate) run: PathBuf,
}

/// The directories stay.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{} is kept, and not in {}", kept.display(), manifests.display())]
    NotRestored { kept: PathBuf, manifests: PathBuf },
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    File(#[from] files::Error),
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::NotRestored { .. } => "move the kept manifest elsewhere if it is not needed",
            Self::Read { .. } | Self::File(_) => {
                "check that the Pod mounts the parents of the directories, writable"
            }
        }
    }
}

impl Clean {
    pub(crate) fn run(&self) -> Result<report::Clean, Error> {
        let kept = self.state.join(KEPT);
        for name in manifests(&kept)? {
            if files::read(&self.manifests.join(&name))?.is_none() {
                return Err(Error::NotRestored { kept: kept.join(name), manifests: self.manifests.clone() });
            }
        }
        let mut removed = Vec::new();
        for directory in [&self.state, &self.run] {
            if files::remove_dir_if_there(directory)? {
                removed.push(directory.clone());
            }
        }
        Ok(report::Clean { removed })
    }
}

/// The names of the manifests in a directory; an earlier copy has the digits of its hash behind its name, and is none.
fn manifests(directory: &Path) -> Result<Vec<OsString>, Error> {
    let failed = |source| Error::Read { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        if Path::new(&name).extension().is_some_and(|extension| extension == "yaml") {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_goes_but_a_manifest_that_is_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for file in ["state/manifests/a.yaml", "state/manifests/b.yaml", "state/manifests/b.yaml.12345678"] {
            fs::create_dir_all(at(file).parent().unwrap()).unwrap();
            fs::write(at(file), "kept").unwrap();
        }
        for directory in ["manifests", "run"] {
            fs::create_dir(at(directory)).unwrap();
        }
        let clean = Clean { manifests: at("manifests"), state: at("state"), run: at("run") };
        fs::write(at("manifests/a.yaml"), "with another image").unwrap();
        let error = clean.run().unwrap_err();
        assert!(matches!(&error, Error::NotRestored { kept, .. } if kept.ends_with("b.yaml")), "{error}");
        assert!(at("state/manifests/a.yaml").exists(), "nothing is half done");
        fs::write(at("manifests/b.yaml"), "kept").unwrap();
        assert_eq!(clean.run().unwrap().removed, [at("state"), at("run")]);
        assert!(!at("state").exists() && at("manifests/a.yaml").exists());
        assert_eq!(clean.run().unwrap().removed, [] as [PathBuf; 0], "once more");
    }
}
