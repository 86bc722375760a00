//! What the node part costs a node: measured on the binary as it is shipped.

use std::env;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::namespace::{Namespace, ip};
use crate::node_part::NodePart;
use crate::server::{Pki, Server};

/// The most an idle gate may keep resident, in KiB.
const RESIDENT_KIB: u64 = 6 * 1024;

/// The most the binary may have, in bytes: it has 3.1 MB, and no dependency comes in unseen.
const BINARY_BYTES: u64 = 3_500_000;

/// Checks of the bridge before memory is measured: the first one touches all the code there is.
const SETTLED: Duration = Duration::from_secs(5);

#[test]
fn an_idle_gate_is_small() -> Result<()> {
    let binary = build()?;
    let bytes = fs::metadata(&binary)?.len();

    let namespace = Namespace::new()?;
    namespace.enter()?;
    ip("addr add 10.0.0.1/32 dev lo")?;
    let pki = Pki::new()?;
    let _bridge = Server::start("bridge", 6444, &pki)?;
    let gate = NodePart::gate_of(&binary, &pki, "10.0.0.1", "10.96.0.1")?;
    gate.logs("diverting", SETTLED)?;
    thread::sleep(SETTLED);
    let status = fs::read_to_string(format!("/proc/{}/status", gate.pid()))?;
    let kib = |field: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    let resident = kib("VmRSS:")?;
    writeln!(
        std::io::stdout(),
        "node part: binary {bytes} bytes; idle gate: {resident} KiB resident, {} KiB of it not shared with its file",
        kib("RssAnon:")?
    )?;
    ensure!(resident < RESIDENT_KIB, "{resident} KiB resident");
    ensure!(bytes < BINARY_BYTES, "{bytes} bytes");
    Ok(())
}

/// Builds the static binary of the profile `node`, as the node image has it.
fn build() -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_"));
    let output = Command::new(env!("CARGO"))
        .args(["build", "--package", "selfhost-node", "--profile", "node", "--message-format", "json"])
        .args(["--target", &target])
        .env(flags, "-C target-feature=+crt-static")
        .output()
        .context("run cargo")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8(output.stdout)?;
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "selfhost-node")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    executable.context("cargo names the executable")
}
