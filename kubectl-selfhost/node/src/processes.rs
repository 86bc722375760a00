//! Processes of this node, from `/proc`.
//!
//! Invariant: only processes of this process' own network namespace are seen: the node's, also where several nodes share
//! a kernel.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    /// The base name of its program.
    pub(crate) name: &'static str,
    pub(crate) pid: u32,
}

/// `/proc` cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read {}", path.display())]
pub(crate) struct Error {
    path: PathBuf,
    source: io::Error,
}

/// The processes that run one of these programs.
pub(crate) fn list(proc: &Path, programs: &[&'static str]) -> Result<Vec<Process>, Error> {
    let ours = namespace(&proc.join("self"))?;
    let failed = |source| Error { path: proc.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(proc).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        match look(&entry.path(), programs, &ours) {
            Ok(name) => found.extend(name.map(|name| Process { name, pid })),
            // It ended while we looked.
            Err(Error { source, .. }) if is_gone(&source) => {}
            Err(error) => return Err(error),
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a file of a process cannot be read because the process is no more.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

fn look(directory: &Path, programs: &[&'static str], ours: &Path) -> Result<Option<&'static str>, Error> {
    let path = directory.join("cmdline");
    let cmdline = fs::read(&path).map_err(|source| Error { path, source })?;
    // Not `comm`, which is cut to 15 bytes.
    let program = cmdline.split(|&byte| byte == 0).next().unwrap_or_default();
    let base = program.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let Some(name) = programs.iter().find(|name| name.as_bytes() == base) else {
        return Ok(None);
    };
    Ok((namespace(directory)? == ours).then_some(*name))
}

fn namespace(directory: &Path) -> Result<PathBuf, Error> {
    let path = directory.join("ns/net");
    fs::read_link(&path).map_err(|source| Error { path, source })
}
