//! The project's node image: `selfhost-node`, and Debian's `nft` with the libraries it loads.
//!
//! Invariant: the image holds what a release holds at the same paths; only its `nft` is this machine's.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::archive::{Archive, Entry};
use super::{Image, program};
use crate::progress::Progress;
use crate::{command, paths};

/// Name of the image; its tag is the workspace's version.
pub const NAME: &str = "ghcr.io/kubectl-selfhost/selfhost-node";

/// The node part in the image.
const PROGRAM: &str = "/usr/local/bin/selfhost-node";

/// Builds the node part (a release build with cargo; seconds when nothing changed) and its image.
pub fn image(progress: &Progress) -> Result<Image> {
    let cache = paths::cache()?;
    let directory = cache.join("images");
    std::fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let program = program::build("selfhost-node", "node", &directory, progress)?;
    let mut entries = vec![Entry::program(program, PROGRAM.trim_start_matches('/').to_owned())];
    entries.extend(nft()?);
    Archive::new(format!("{NAME}:v{}", env!("CARGO_PKG_VERSION")), entries)
        .entrypoint(PROGRAM)
        .ensure(&directory, progress)
}

/// `nft`, its libraries and the loader, each at the path it has here.
fn nft() -> Result<Vec<Entry>> {
    let nft = PathBuf::from("/usr/sbin/nft");
    let libraries = command::output(Command::new("ldd").arg(&nft)).context("list the libraries of nft")?;
    let mut paths: Vec<PathBuf> = libraries.lines().filter_map(library).collect();
    paths.push(nft);
    Ok(paths
        .into_iter()
        .map(|path| {
            let inside = path.to_string_lossy().trim_start_matches('/').to_owned();
            Entry::program(path, inside)
        })
        .collect())
}

/// The file of a line of `ldd`: `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)`, `/lib64/ld-linux... (0x...)`.
fn library(line: &str) -> Option<PathBuf> {
    let file = line.rsplit_once("=> ").map_or(line, |(_, file)| file).trim();
    let file = file.split_once(" (").map_or(file, |(file, _)| file);
    file.starts_with('/').then(|| PathBuf::from(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ldd() {
        let file = |line| library(line).map(|path| path.to_string_lossy().into_owned());
        assert_eq!(file("\tlinux-vdso.so.1 (0x00007ffc)"), None);
        assert_eq!(
            file("\tlibnftables.so.1 => /lib/x86_64-linux-gnu/libnftables.so.1 (0x00007f)").as_deref(),
            Some("/lib/x86_64-linux-gnu/libnftables.so.1")
        );
        assert_eq!(
            file("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)").as_deref(),
            Some("/lib64/ld-linux-x86-64.so.2")
        );
    }
}
