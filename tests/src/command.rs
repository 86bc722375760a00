//! Commands of the operating system.
//!
//! Invariant: a command that fails is an error that shows the command and the last lines it wrote.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::paths;
use crate::progress::{HEARTBEAT, Progress};

/// Lines of output an error shows.
const SHOWN: usize = 12;

/// Cargo in the checkout, as whoever types it would run it: without what `cargo run` gave to this process.
///
/// Some build scripts ask for those variables (ring's does). Where they differ, everything above is built anew whenever
/// cargo is called from here after it was called by hand, and the other way round.
pub(crate) fn cargo() -> Command {
    cargo_of(&std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), &paths::checkout())
}

/// Another cargo, in another checkout.
pub(crate) fn cargo_of(program: &OsStr, checkout: &Path) -> Command {
    let mut cargo = Command::new(program);
    cargo.current_dir(checkout);
    let of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_package)) {
        cargo.env_remove(name);
    }
    cargo
}

/// Runs `command` and returns what it wrote to standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = line(command);
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("run {name}"))?;
    if !out.status.success() {
        let text = if out.stderr.is_empty() { &out.stdout } else { &out.stderr };
        bail!("{name} ended with {}: {}", out.status, tail(&String::from_utf8_lossy(text)));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs `command`; its output goes to the end of the file `log`. While it runs, `heartbeat` says so now and then.
pub(crate) fn logged(command: &mut Command, log: &Path, progress: &Progress, what: &str) -> Result<()> {
    let name = line(command);
    let file = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("open log {}", log.display()))?;
    let begin = file.metadata()?.len();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("run {name}"))?;
    let start = Instant::now();
    let mut next = HEARTBEAT;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(50));
        if start.elapsed() >= next {
            progress.line(format_args!("still running: {what} ({} s)", start.elapsed().as_secs()));
            next += HEARTBEAT;
        }
    };
    if !status.success() {
        let text = std::fs::read(log).unwrap_or_default();
        let text = text.get(usize::try_from(begin)?..).unwrap_or_default();
        bail!(
            "{name} ended with {status}: {} (log: {})",
            tail(&String::from_utf8_lossy(text)),
            log.display()
        );
    }
    Ok(())
}

/// The command as a person would type it.
fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The last lines of the file `log`.
pub(crate) fn tail_of(log: &Path) -> String {
    tail(&String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()))
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_shows_itself_and_its_last_words() {
        let error = output(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("exit 3") && text.contains("exit status: 3") && text.ends_with("why"),
            "{text}"
        );
    }

    #[test]
    fn a_logged_command_shows_only_its_own_part_of_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        std::fs::write(&log, "of another command\n").unwrap();
        let progress = Progress::new(std::io::sink());
        let error =
            logged(Command::new("sh").args(["-c", "echo why; exit 3"]), &log, &progress, "x").unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("why") && !text.contains("another"), "{text}");
    }
}
