//! Programs of the project's own images.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::progress::Progress;
use crate::{command, paths};

/// What they are built for: glibc is linked statically, so that the image needs no libc for them.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the program of a package (with cargo; seconds when nothing changed) and returns where it is. The log goes to
/// `directory`.
pub(super) fn build(
    package: &str,
    profile: &'static str,
    directory: &Path,
    progress: &Progress,
) -> Result<PathBuf> {
    // Its own, so as not to wait for a build that goes on beside this.
    let target = paths::target().join("node-image");
    let mut build = command::cargo();
    build
        .args(["build", "--package", package, "--bin", package, "--profile", profile])
        .args(["--target", TARGET, "--target-dir"])
        .arg(&target)
        // They would win over the flags for the target.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static");
    let log = directory.join(format!("{package}.log"));
    command::logged(&mut build, &log, progress, &format!("build {package}"))?;
    Ok(target.join(TARGET).join(profile).join(package))
}
