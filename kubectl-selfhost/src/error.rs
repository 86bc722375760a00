//! What a command reports when it fails: the chain of causes once, a hint, and the exit code.
//!
//! Invariant: an error's own text never repeats its cause; the chain is printed here and nowhere else.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

use crate::exit::Exit;
use crate::theme::Theme;

/// An error that can be told to the user.
///
/// Each module boundary has its own error enum; implementing this for it is what lets a command return it.
pub trait Explain: Error + Send + Sync + 'static {
    /// What to do next, often a command; without `hint:` and without a full stop.
    fn hint(&self) -> Option<String> {
        None
    }

    /// The exit code that this error leads to.
    fn exit(&self) -> Exit {
        Exit::Failure
    }
}

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    source: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
    exit: Exit,
}

impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { hint: error.hint(), exit: error.exit(), source: Box::new(error) }
    }
}

impl From<io::Error> for Failure {
    /// Output could not be written. A reader that went away (`| head`) wants no more, and nothing failed.
    fn from(error: io::Error) -> Self {
        let exit = if error.kind() == io::ErrorKind::BrokenPipe { Exit::Success } else { Exit::Failure };
        Self { source: Box::new(error), hint: None, exit }
    }
}

impl Failure {
    /// A failure without a cause of its own type.
    pub fn message(message: impl Into<String>, exit: Exit) -> Self {
        Self { source: message.into().into(), hint: None, exit }
    }

    /// The same failure, with what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure, with what to do next where it does not say so itself.
    #[must_use]
    pub fn or_hint(mut self, hint: &str) -> Self {
        self.hint.get_or_insert_with(|| hint.to_owned());
        self
    }

    /// The same failure, with another exit code.
    #[must_use]
    pub const fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The exit code.
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// Writes `error: ...`, and `hint: ...` where there is one.
    pub fn write(&self, out: &mut dyn Write, theme: &Theme) -> io::Result<()> {
        if self.exit == Exit::Success {
            return Ok(());
        }
        writeln!(out, "{} {self}", theme.bad("error:"))?;
        if let Some(hint) = &self.hint {
            writeln!(out, "{} {hint}", theme.hint("hint:"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", chain(&*self.source))
    }
}

/// The error and its causes, joined by `: `.
///
/// Libraries often repeat the cause in their own text; what the text before it already ends with is left out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read pods in kube-system")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("client: {0}")]
    struct Inner(#[source] io::Error);

    impl Explain for Outer {
        fn hint(&self) -> Option<String> {
            Some("check the network".to_owned())
        }
    }

    #[test]
    fn prints_each_cause_once() {
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
        let failure = Failure::from(Outer(Inner(refused)));
        let mut out = Vec::new();
        failure.write(&mut out, &Theme::plain()).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "error: cannot read pods in kube-system: client: connection refused\nhint: check the network\n"
        );
        assert_eq!(failure.exit(), Exit::Failure);
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        let mut out = Vec::new();
        failure.write(&mut out, &Theme::plain()).unwrap();
        assert!(out.is_empty());
        assert_eq!(failure.exit(), Exit::Success);
    }
}
