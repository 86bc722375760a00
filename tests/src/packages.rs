//! Debian packages that nodes and the policy are made with.
//!
//! Invariant: a machine that has everything is not touched, not even by `apt-get update`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::progress::Progress;
use crate::refusal::Refusal;
use crate::{command, host, paths};

/// What shows that a package is there (a program, or a path), and the package.
const NEEDED: [(&str, &str); 13] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("socat", "socat"),
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("cc", "gcc"),
    ("/usr/lib/x86_64-linux-gnu/libc.a", "libc6-dev"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
];

/// Also needed where several API servers stand behind one address.
const BALANCER: (&str, &str) = ("haproxy", "haproxy");

/// What Wasm is compiled with where no other toolchain can: Debian's Rust, and the source of its standard library.
const WASM: [(&str, &str); 4] = [
    ("/usr/bin/rustc", "rustc-web"),
    ("/usr/bin/cargo", "cargo-web"),
    ("/usr/lib/rustlib/src/rust/library/std", "rust-web-src"),
    ("/usr/bin/wasm-ld", "lld"),
];

/// Installs what binaries and images are made with.
pub(crate) fn prepare(progress: &Progress) -> Result<()> {
    let cache = paths::cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
    ensure(false, &cache.join("apt.log"), progress)
}

/// Installs what is missing of what nodes need.
pub(crate) fn ensure(balancer: bool, log: &Path, progress: &Progress) -> Result<()> {
    let needed: Vec<_> = NEEDED.into_iter().chain(balancer.then_some(BALANCER)).collect();
    install(&needed, log, progress)
}

/// Installs what is missing of a Rust for Wasm.
pub(crate) fn wasm(log: &Path, progress: &Progress) -> Result<()> {
    install(&WASM, log, progress)
}

fn install(needed: &[(&str, &str)], log: &Path, progress: &Progress) -> Result<()> {
    let missing: Vec<&str> =
        needed.iter().filter(|(sign, _)| !is_there(sign)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !host::exists("apt-get") {
        return Err(Refusal::new(
            format!("not installed: {list}"),
            "there is no apt-get here; install them with this system's package manager",
        )
        .into());
    }
    progress.line(format_args!("installing packages: {list}"));
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-qq", "-o", "DPkg::Lock::Timeout=300"])
            .args(arguments);
        command::logged(&mut apt, log, progress, "apt-get")
    };
    let hint = || Refusal::new(format!("not installed: {list}"), "install them by hand: apt-get install ...");
    apt(&["update"]).with_context(hint)?;
    // Not at the price of what is there.
    apt(&[&["install", "--yes", "--no-remove", "--no-install-recommends"], &missing[..]].concat())
        .with_context(hint)
}

fn is_there(sign: &str) -> bool {
    if sign.starts_with('/') { Path::new(sign).exists() } else { host::exists(sign) }
}
