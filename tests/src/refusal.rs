//! Expected failures: one line that names the object, one line that says what to do.
//!
//! Invariant: a hint travels with its error and is printed once, at the top, by [`report`].

use std::io::{self, Write};
use std::process::ExitCode;

/// A failure the user can do something about.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    message: String,
    hint: String,
}

impl Refusal {
    /// A refusal with `message` (lower case, names the object) and `hint` (the next action).
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }

    /// What to do about it.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

/// Writes `error` with its causes on one line, and the hint of the first cause that has one.
pub fn report(mut out: impl Write, error: &anyhow::Error) -> io::Result<()> {
    writeln!(out, "error: {error:#}")?;
    // Not through `chain`: what was given as context is found by anyhow only.
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        writeln!(out, "hint: {}", refusal.hint())?;
    }
    Ok(())
}

/// The exit code of a program that ended so; an error is written to standard error.
pub fn exit_code(ended: anyhow::Result<ExitCode>) -> ExitCode {
    ended.unwrap_or_else(|error| {
        // Nothing can be said about a closed standard error.
        let _ = report(anstream::stderr().lock(), &error);
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_found_below_its_context() {
        let error = anyhow::Error::new(Refusal::new("no go", "install go")).context("build etcd");
        let mut out = Vec::new();
        report(&mut out, &error).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "error: build etcd: no go\nhint: install go\n");
    }
}
