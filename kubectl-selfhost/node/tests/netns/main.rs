//! The node part against the real kernel: the built binary, the real `nft` and real TLS servers, each test in a
//! network namespace of its own.
//!
//! Needs root, `ip` and `nft`: `cargo test -p selfhost-node --features netns --test netns`.
#![cfg(target_os = "linux")]

mod divert;
mod figures;
mod namespace;
mod node_part;
mod server;
mod tasks;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Waits until `check` holds, at most `limit`; returns how long that took. An error counts as "not yet".
fn eventually(limit: Duration, what: &str, mut check: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let start = Instant::now();
    loop {
        let outcome = check();
        if matches!(outcome, Ok(true)) {
            return Ok(start.elapsed());
        }
        if start.elapsed() > limit {
            outcome.with_context(|| format!("waited {limit:?} for: {what}"))?;
            bail!("waited {limit:?} for: {what}");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Demands that `check` succeeds all the time for `span`.
fn throughout(span: Duration, mut check: impl FnMut() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < span {
        check().with_context(|| format!("after {:?}", start.elapsed()))?;
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
