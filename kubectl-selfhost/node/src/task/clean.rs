//! Removes everything that is ours on a node, when nothing there is self-hosted any more.
//!
//! Invariants: no kept manifest is lost that is not in its place again; backups, and what a restore replaced, stay.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files;
use crate::report;

/// The directory of kept manifests, below the state directory.
const KEPT: &str = "manifests";

/// What is the operator's, below the state directory: backups, a restore that is not finished, and the beginning of the
/// names of what a restore replaced.
const OPERATORS: [&str; 3] = ["backups", "restore", "replaced-"];

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
        if self.operators()? {
            for path in self.ours()? {
                if path.is_dir() {
                    files::remove_dir_if_there(&path)?;
                } else {
                    files::remove_if_there(&path)?;
                }
                removed.push(path);
            }
        } else if files::remove_dir_if_there(&self.state)? {
            removed.push(self.state.clone());
        }
        if files::remove_dir_if_there(&self.run)? {
            removed.push(self.run.clone());
        }
        Ok(report::Clean { removed })
    }

    /// Whether the state directory has anything that stays.
    fn operators(&self) -> Result<bool, Error> {
        Ok(entries(&self.state)?.iter().any(|name| is_operators(name)))
    }

    /// What does not stay in the state directory.
    fn ours(&self) -> Result<Vec<PathBuf>, Error> {
        let names = entries(&self.state)?.into_iter().filter(|name| !is_operators(name));
        Ok(names.map(|name| self.state.join(name)).collect())
    }
}

fn is_operators(name: &OsStr) -> bool {
    let [backups, restore, replaced] = OPERATORS;
    name == backups || name == restore || name.as_encoded_bytes().starts_with(replaced.as_bytes())
}

/// The names of the manifests in a directory; an earlier copy has the digits of its hash behind its name, and is none.
fn manifests(directory: &Path) -> Result<Vec<OsString>, Error> {
    let mut names = entries(directory)?;
    names.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "yaml"));
    Ok(names)
}

/// The names in a directory, sorted; none where there is no directory.
fn entries(directory: &Path) -> Result<Vec<OsString>, Error> {
    let failed = |source| Error::Read { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names: Vec<OsString> =
        entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>().map_err(failed)?;
    names.sort();
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

    #[test]
    fn what_is_the_operators_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for file in
            ["backups/x-cp1/backup.json", "replaced-x/etc/ca.key", "bin/selfhost-node", "manifests/a.yaml"]
        {
            let path = at("state").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::create_dir(at("manifests")).unwrap();
        fs::write(at("manifests/a.yaml"), "").unwrap();
        let clean = Clean { manifests: at("manifests"), state: at("state"), run: at("run") };
        assert_eq!(clean.run().unwrap().removed, [at("state/bin"), at("state/manifests")]);
        assert!(at("state/backups/x-cp1/backup.json").exists() && at("state/replaced-x/etc/ca.key").exists());
        assert_eq!(clean.run().unwrap().removed, [] as [PathBuf; 0], "once more");
    }
}
