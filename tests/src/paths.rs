//! Where the bed keeps what.
//!
//! Invariant: built files lie in the cache and nothing else does; all state of a cluster lies under its own directory.

use std::env;
use std::path::PathBuf;

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

/// The root of the checkout that this crate was run from.
///
/// Asked of cargo at run time: a target directory that several checkouts share has programs of whichever was built last.
pub fn checkout() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(package).parent().map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// Cargo's target directory: `$CARGO_TARGET_DIR`, else `target` in the checkout.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout().join("target"), PathBuf::from)
}
