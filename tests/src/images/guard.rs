//! The image of the guard: its server, and the policy that it runs.
//!
//! Invariant: the policy in it is the one that `cargo wasm` makes, byte for byte.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::archive::{Archive, Entry};
use super::{Image, program};
use crate::progress::Progress;
use crate::{command, paths, wasm};

/// Name of the image; its tag is the workspace's version.
const NAME: &str = "ghcr.io/kubectl-selfhost/selfhost-guard";

/// The server in the image.
const PROGRAM: &str = "/usr/local/bin/selfhost-admission";

/// Builds server and policy (release builds with cargo; seconds when nothing changed) and the image.
pub fn image(progress: &Progress) -> Result<Image> {
    let policy = wasm::build(progress)?;
    let program = program(progress)?;
    let code = compiled(&program, &policy.path)?;
    let name = code.file_name().context("the compiled policy has no name")?.to_string_lossy();
    let in_image = format!("compiled/{name}");
    let entries = vec![
        Entry::program(program, PROGRAM.trim_start_matches('/').to_owned()),
        // The mode of a program does no harm to a file that anybody may read.
        Entry::program(policy.path, "policy.wasm".to_owned()),
        Entry::program(code, in_image),
    ];
    Archive::new(format!("{NAME}:v{}", env!("CARGO_PKG_VERSION")), entries)
        .entrypoint(PROGRAM)
        .ensure(&directory()?, progress)
}

/// Compiles the policy, with the server that will run it, and returns where the outcome is.
fn compiled(program: &Path, policy: &Path) -> Result<PathBuf> {
    let out = command::output(Command::new(program).arg("compile").arg(policy).arg(directory()?))?;
    Ok(PathBuf::from(out.trim_end()))
}

/// Builds the server (a release build with cargo; seconds when nothing changed) and returns where it is.
pub fn program(progress: &Progress) -> Result<PathBuf> {
    program::build("selfhost-admission", "release", &directory()?, progress)
}

fn directory() -> Result<PathBuf> {
    let directory = paths::cache()?.join("images");
    std::fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    Ok(directory)
}
