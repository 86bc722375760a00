//! Where the bed keeps what.
//!
//! Invariant: built files lie in the cache and nothing else does; all state of a cluster lies under its own directory.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::refusal::Refusal;

/// State of the clusters: one directory each. Root's own, and on a disk that survives the processes.
pub const STATE: &str = "/var/lib/kubectl-selfhost/bed";

/// The cache of built binaries and images: `$XDG_CACHE_HOME/kubectl-selfhost/bed`.
pub fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => env::home_dir()
            .ok_or_else(|| Refusal::new("no cache directory", "set HOME or XDG_CACHE_HOME"))?
            .join(".cache"),
    };
    Ok(base.join("kubectl-selfhost/bed"))
}

/// The root of the checkout that a program of it was run from.
///
/// Asked of cargo at run time: a target directory that several checkouts share has programs of whichever was built last.
pub fn checkout() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    workspace(Path::new(&package)).unwrap_or(Path::new(".")).to_owned()
}

/// The workspace that a package is in, however deep.
fn workspace(package: &Path) -> Option<&Path> {
    package.ancestors().find(|directory| directory.join("Cargo.lock").is_file())
}

/// Cargo's target directory: `$CARGO_TARGET_DIR`, else `target` in the checkout.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout().join("target"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_may_lie_in_another() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let package = root.join("admission/compare");
        std::fs::create_dir_all(&package).unwrap();
        std::fs::write(root.join("Cargo.lock"), "").unwrap();
        assert_eq!(workspace(&package), Some(root.as_path()));
        assert_eq!(workspace(&root.join("tests")), Some(root.as_path()));
    }
}
