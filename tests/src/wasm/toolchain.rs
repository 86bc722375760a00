//! What compiles the guest: the toolchain in use if it can, else Debian's.
//!
//! Debian has no standard library for Wasm, but its source; `-Z build-std` makes one of it. Each toolchain makes bytes of
//! its own, and always the same.
//!
//! Invariant: what is compiled depends on the toolchain, the sources and `Cargo.lock`, and on nothing of the environment:
//! flags of the user's are left out, and paths are replaced by names.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::progress::Progress;
use crate::{command, host, packages};

const TARGET: &str = "wasm32-unknown-unknown";
const PACKAGE: &str = "selfhost-policy";
const PROFILE: &str = "guest";

/// What cargo calls the library.
const MODULE: &str = "selfhost_policy.wasm";

/// What stands for the directory of the packages that the guest is made of.
const PACKAGES: &str = "/packages";

/// A compiler with what it needs for the guest.
#[derive(Debug)]
pub(super) struct Toolchain {
    cargo: OsString,
    rustc: OsString,
    /// Whether there is only the source of the standard library.
    builds_std: bool,
    sysroot: PathBuf,
    /// `rustc 1.95.0 (59807616e 2026-04-14)`
    compiler: String,
    /// The commit of the compiler, by which the standard library's paths are known.
    commit: String,
}

/// What is built, and where to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Build<'a> {
    pub(super) checkout: &'a Path,
    pub(super) target: &'a Path,
    /// Another `CARGO_HOME` than this process's.
    pub(super) home: Option<&'a Path>,
    pub(super) log: &'a Path,
}

impl Toolchain {
    /// The toolchain in use, with the target added if need be; else Debian's, installed if need be.
    pub(super) fn find(log: &Path, progress: &Progress) -> Result<Self> {
        let of = |name: &str, usual: &str| env::var_os(name).unwrap_or_else(|| usual.into());
        let (cargo, rustc) = (of("CARGO", "cargo"), of("RUSTC", "rustc"));
        if has_target(&rustc) {
            return Self::new(cargo, rustc, false);
        }
        if host::exists("rustup") {
            let mut rustup = Command::new("rustup");
            rustup.args(["target", "add", TARGET]);
            match command::logged(&mut rustup, log, progress, "rustup target add") {
                Ok(()) if has_target(&rustc) => return Self::new(cargo, rustc, false),
                Ok(()) => progress
                    .line(format_args!("rustup added {TARGET} to another toolchain than the one in use")),
                Err(error) => progress.line(format_args!("rustup cannot add {TARGET}: {error:#}")),
            }
        }
        packages::wasm(log, progress).with_context(|| format!("no Rust for {TARGET}"))?;
        Self::new("/usr/bin/cargo".into(), "/usr/bin/rustc".into(), true)
    }

    fn new(cargo: OsString, rustc: OsString, builds_std: bool) -> Result<Self> {
        let about = command::output(Command::new(&rustc).arg("-vV"))?;
        let commit = about.lines().find_map(|line| line.strip_prefix("commit-hash: ")).unwrap_or("unknown");
        let (compiler, commit) = (about.lines().next().unwrap_or_default().to_owned(), commit.to_owned());
        let sysroot = command::output(Command::new(&rustc).args(["--print", "sysroot"]))?;
        Ok(Self { cargo, rustc, builds_std, sysroot: sysroot.trim_end().into(), compiler, commit })
    }

    /// The compiler, as it calls itself.
    pub(super) fn compiler(&self) -> &str {
        &self.compiler
    }

    /// Compiles the guest: the module, and the directories of this machine of which it must not tell.
    pub(super) fn build(&self, build: &Build<'_>, progress: &Progress) -> Result<(Vec<u8>, Vec<PathBuf>)> {
        let renamed = self.renamed(build)?;
        let flag =
            |(path, name): &(PathBuf, String)| format!("--remap-path-prefix={}={name}", path.display());
        let flags: Vec<String> = renamed.iter().map(flag).collect();
        let mut cargo = self.cargo(build);
        cargo
            .args(["rustc", "--locked", "--package", PACKAGE, "--lib", "--crate-type", "cdylib"])
            .args(["--profile", PROFILE, "--target", TARGET, "--target-dir"])
            .arg(build.target)
            .env_remove("RUSTFLAGS")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        if self.builds_std {
            cargo
                .arg("-Zbuild-std=std,panic_abort")
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld");
        }
        command::logged(&mut cargo, build.log, progress, "build the policy")?;
        let module = build.target.join(TARGET).join(PROFILE).join(MODULE);
        let module = fs::read(&module).with_context(|| format!("read {}", module.display()))?;
        let places = renamed.into_iter().map(|(path, _)| path);
        Ok((module, places.chain([build.checkout.to_owned(), build.target.to_owned()]).collect()))
    }

    /// Directories whose paths get into a module, and the names that stand for them. The checkout is not among them: cargo
    /// has its paths relative.
    fn renamed(&self, build: &Build<'_>) -> Result<Vec<(PathBuf, String)>> {
        let source = self.sysroot.join("lib/rustlib/src/rust");
        let mut std = BTreeSet::from([source.clone()]);
        // Debian's is a link.
        std.extend(fs::canonicalize(&source));
        let std = std.into_iter().map(|path| (path, format!("/rustc/{}", self.commit)));
        let packages = self.package_directories(build)?.into_iter().map(|path| (path, PACKAGES.to_owned()));
        Ok(packages.chain(std).collect())
    }

    /// Where packages are that are not of this workspace: the directory of a registry, of another that stands in for it, or
    /// of vendored sources.
    fn package_directories(&self, build: &Build<'_>) -> Result<BTreeSet<PathBuf>> {
        #[derive(Deserialize)]
        struct Metadata {
            packages: Vec<Package>,
        }
        #[derive(Deserialize)]
        struct Package {
            source: Option<String>,
            manifest_path: PathBuf,
        }
        let mut cargo = self.cargo(build);
        cargo.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET]);
        let json = command::output(&mut cargo)?;
        let metadata: Metadata = serde_json::from_str(&json).context("read what cargo metadata wrote")?;
        let foreign = metadata.packages.into_iter().filter(|package| package.source.is_some());
        Ok(foreign.filter_map(|it| Some(it.manifest_path.parent()?.parent()?.to_owned())).collect())
    }

    fn cargo(&self, build: &Build<'_>) -> Command {
        let mut cargo = command::cargo_of(&self.cargo, build.checkout);
        cargo.env("RUSTC", &self.rustc);
        if let Some(home) = build.home {
            cargo.env("CARGO_HOME", home);
        }
        cargo
    }
}

/// Makes `home` a cargo home with the same packages and the same configuration as this process's.
pub(super) fn share_home(home: &Path) -> Result<()> {
    fs::create_dir_all(home).with_context(|| format!("create {}", home.display()))?;
    let own = match env::var_os("CARGO_HOME") {
        Some(path) => PathBuf::from(path),
        None => env::home_dir().context("no home directory")?.join(".cargo"),
    };
    for name in ["registry", "git", "config.toml"] {
        let (link, path) = (home.join(name), own.join(name));
        if fs::read_link(&link).ok().as_ref() == Some(&path) || !path.exists() {
            continue;
        }
        symlink(&path, &link).with_context(|| format!("link {}", link.display()))?;
    }
    Ok(())
}

/// Whether there is a standard library for the guest.
fn has_target(rustc: &OsString) -> bool {
    let mut rustc = Command::new(rustc);
    let libraries = command::output(rustc.args(["--print", "target-libdir", "--target", TARGET]));
    libraries.is_ok_and(|path| Path::new(path.trim_end()).exists())
}
