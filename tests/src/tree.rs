//! A directory of a node, to be compared before and after.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cluster::Cluster;

/// Every file below a directory, with its permissions and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, (u32, Vec<u8>)>);

impl Tree {
    /// Reads `directory` (absolute) of a node.
    pub fn of(cluster: &Cluster, node: &str, directory: &str) -> Result<Self> {
        let root = cluster.node_dir(node, directory)?;
        let mut files = BTreeMap::new();
        read(&root, &root, &mut files)?;
        Ok(Self(files))
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is not the same in `later`: a line for each file, as `git diff --name-status` has it.
    pub fn difference(&self, later: &Self) -> Vec<String> {
        let gone = self.0.keys().filter(|path| !later.0.contains_key(*path));
        let new = later.0.keys().filter(|path| !self.0.contains_key(*path));
        let changed = self.0.iter().filter(|(path, file)| later.0.get(*path).is_some_and(|it| it != *file));
        let line = |kind: &str, path: &Path| format!("{kind} {}", path.display());
        gone.map(|path| line("D", path))
            .chain(new.map(|path| line("A", path)))
            .chain(changed.map(|(path, _)| line("M", path)))
            .collect()
    }
}

fn read(root: &Path, directory: &Path, files: &mut BTreeMap<PathBuf, (u32, Vec<u8>)>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            read(root, &path, files)?;
        } else {
            let mode = path.metadata()?.permissions().mode();
            let name = path.strip_prefix(root)?.to_owned();
            files.insert(name, (mode, fs::read(&path)?));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_each_file() {
        let tree = |files: &[(&str, u32, &str)]| {
            let file =
                |(path, mode, text): &(&str, u32, &str)| (path.into(), (*mode, text.as_bytes().to_vec()));
            Tree(files.iter().map(file).collect())
        };
        let before = tree(&[("a", 0o600, "1"), ("b", 0o600, "1"), ("c", 0o600, "1"), ("d", 0o600, "1")]);
        let after = tree(&[("a", 0o600, "1"), ("b", 0o600, "2"), ("c", 0o644, "1"), ("e", 0o600, "1")]);
        assert_eq!(before.difference(&after), ["D d", "A e", "M b", "M c"]);
        assert_eq!(before.difference(&before), [""; 0]);
    }
}
