//! `cargo wasm`: the admission policy as a Wasm module, the same bytes wherever it is built.
//!
//! Invariant: the module in its place was checked: it is valid, imports waPC's functions alone, exports what a host
//! calls, has the metadata, and holds no path of the machine that built it.

mod mirror;
mod module;
mod toolchain;

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use sha2::{Digest, Sha256};

use crate::images::hex;
use crate::progress::Progress;
use crate::{lock, paths, refusal};
use toolchain::{Build, Toolchain};

/// The name of the module.
const NAME: &str = "kubectl-selfhost.wasm";

/// Builds the admission policy as a Wasm module and checks it.
#[derive(Debug, Parser)]
#[command(name = "cargo wasm", bin_name = "cargo wasm")]
struct Cli {
    /// Build it a second time, from a copy in another directory, and compare.
    #[arg(long)]
    check_reproducible: bool,
}

/// `cargo wasm`, from the arguments of this process to its exit code.
pub fn main() -> ExitCode {
    refusal::exit_code(run(&Cli::parse()).map(|()| ExitCode::SUCCESS))
}

fn run(cli: &Cli) -> Result<()> {
    let progress = Progress::stderr();
    let built = if cli.check_reproducible { reproduce(&progress)? } else { build(&progress)? };
    write!(anstream::stdout().lock(), "{built}").context("write the result")
}

/// A module that was built and checked.
#[derive(Debug)]
pub struct Built {
    /// Where it is: in cargo's target directory, `policy/kubectl-selfhost.wasm`.
    pub path: PathBuf,
    size: usize,
    digest: String,
    compiler: String,
}

impl fmt::Display for Built {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "module    {}", self.path.display())?;
        writeln!(out, "size      {}", self.size)?;
        writeln!(out, "sha256    {}", self.digest)?;
        writeln!(out, "compiler  {}", self.compiler)
    }
}

/// Builds the module; seconds where nothing changed.
pub fn build(progress: &Progress) -> Result<Built> {
    let place = Place::take(progress)?;
    let toolchain = Toolchain::find(&place.log(), progress)?;
    place.build(&toolchain, progress).map(|(built, _)| built)
}

/// Builds the module twice, in two directories and with two cargo homes, and compares; seconds where nothing changed.
pub fn reproduce(progress: &Progress) -> Result<Built> {
    let place = Place::take(progress)?;
    let toolchain = Toolchain::find(&place.log(), progress)?;
    let (built, bytes) = place.build(&toolchain, progress)?;
    let again = place.directory.join("again");
    let (original, checkout) = (paths::checkout(), again.join("checkout"));
    mirror::mirror(&original, &checkout, &[original.join(".git"), original.join("target"), paths::target()])?;
    let home = again.join("cargo-home");
    toolchain::share_home(&home)?;
    let other = make(
        &toolchain,
        &Build { checkout: &checkout, target: &again.join("target"), home: Some(&home), log: &place.log() },
        progress,
    )?;
    if other != bytes {
        let at = bytes.iter().zip(&other).take_while(|(one, other)| one == other).count();
        let (checkout, sizes) = (checkout.display(), (bytes.len(), other.len()));
        bail!("the module built in {checkout} is another one: from byte {at} on, sizes {sizes:?}");
    }
    progress.line("built twice, in two directories: the same bytes");
    Ok(built)
}

/// The directory of all that is built here, and its lock.
struct Place {
    directory: PathBuf,
    _lock: lock::Lock,
}

impl Place {
    fn take(progress: &Progress) -> Result<Self> {
        let directory = paths::target().join("policy");
        let lock =
            lock::directory(&directory, || progress.line("another process builds the policy; waiting"))?;
        Ok(Self { directory, _lock: lock })
    }

    fn log(&self) -> PathBuf {
        self.directory.join("build.log")
    }

    fn build(&self, toolchain: &Toolchain, progress: &Progress) -> Result<(Built, Vec<u8>)> {
        let checkout = paths::checkout();
        let target = self.directory.join("build");
        let what = Build { checkout: &checkout, target: &target, home: None, log: &self.log() };
        let bytes = make(toolchain, &what, progress)?;
        let path = self.directory.join(NAME);
        put(&path, &bytes)?;
        let (size, digest) = (bytes.len(), hex(&Sha256::digest(&bytes)));
        Ok((Built { path, size, digest, compiler: toolchain.compiler().to_owned() }, bytes))
    }
}

/// A module with its metadata, checked.
fn make(toolchain: &Toolchain, build: &Build<'_>, progress: &Progress) -> Result<Vec<u8>> {
    let (mut bytes, places) = toolchain.build(build, progress)?;
    module::annotate(&mut bytes, &selfhost_policy::metadata::json().context("write the metadata")?)?;
    module::check(&bytes, &places).context("check the module")?;
    Ok(bytes)
}

/// Replaces a file whole.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let fresh = path.with_extension("new");
    fs::write(&fresh, bytes).with_context(|| format!("write {}", fresh.display()))?;
    fs::rename(&fresh, path).with_context(|| format!("install {}", path.display()))
}
