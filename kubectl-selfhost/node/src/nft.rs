//! Runs the `nft` binary with documents of its JSON dialect (libnftables-json(5)).
//!
//! Invariant: each document is one transaction: all of it holds afterwards, or nothing of it.

pub(crate) mod closing;
pub(crate) mod divert;
pub(crate) mod probe;
pub(crate) mod scratch;
mod table;

use std::io::{self, Write};
use std::process::{Command, Stdio};

use nftables::schema::Nftables;

/// The program, found in `PATH`.
const NFT: &str = "nft";

/// `nft` did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("run nft")]
    Run(#[source] io::Error),
    #[error("nft refused: {0}")]
    Refused(String),
    #[error("unknown output of nft")]
    Output(#[source] serde_json::Error),
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Run(_) => "the image must carry the nft binary in PATH",
            Self::Refused(_) => "the container needs CAP_NET_ADMIN and a kernel with nf_tables and NAT",
            Self::Output(_) => "the image's nft must be 1.0 or newer and know JSON (nft -j)",
        }
    }
}

/// Removes a gate's tables, if they are there: that of its divert, and the one that belongs to it.
pub(crate) fn remove(table: &'static str) -> Result<(), Error> {
    apply(&divert::remove(table))?;
    closing::remove(table)
}

/// Removes every table of ours: of a bridge's gate, and of the standby's.
pub(crate) fn remove_all() -> Result<(), Error> {
    [divert::TABLE, divert::STANDBY_TABLE].into_iter().try_for_each(remove)
}

/// Applies `document` as one transaction.
pub(crate) fn apply(document: &Nftables<'_>) -> Result<(), Error> {
    feed(&["-j", "-f", "-"], &serde_json::to_vec(document).map_err(Error::Output)?)
}

/// Runs a script in nft's own language, as one transaction: for what its JSON dialect has no words for.
fn run_script(script: &str) -> Result<(), Error> {
    feed(&["-f", "-"], script.as_bytes())
}

fn feed(arguments: &[&str], input: &[u8]) -> Result<(), Error> {
    // Not `nftables::helper`: it leaves nft's standard error to the caller's, and the text is what a person needs.
    let mut child = Command::new(NFT)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::Run)?;
    if let Some(mut stdin) = child.stdin.take()
        && let Err(error) = stdin.write_all(input)
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        // (A broken pipe means that nft has ended already; its own words follow.)
        return Err(Error::Run(error));
    }
    let output = child.wait_with_output().map_err(Error::Run)?;
    if output.status.success() { Ok(()) } else { Err(refusal(&output)) }
}

/// Lists a set of the inet family as nft's JSON.
fn list_set(table: &str, set: &str) -> Result<Vec<u8>, Error> {
    let output = Command::new(NFT)
        .args(["-j", "list", "set", "inet", table, set])
        .stdin(Stdio::null())
        .output()
        .map_err(Error::Run)?;
    if output.status.success() { Ok(output.stdout) } else { Err(refusal(&output)) }
}

/// What nft complained about, on one line: first the message, without the caret lines that point into the input.
fn refusal(output: &std::process::Output) -> Error {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let mut messages: Vec<&str> = stderr
        .lines()
        .map(str::trim)
        .filter(|line| line.contains("Error") || line.contains("denied"))
        .collect();
    messages.dedup();
    if messages.is_empty() {
        return Error::Refused(format!("{} and no message", output.status));
    }
    // One unsupported expression makes nft repeat itself for each rule.
    messages.truncate(3);
    Error::Refused(messages.join("; "))
}
