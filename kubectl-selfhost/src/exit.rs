//! Exit codes: an interface for scripts, the same in every output format.
//!
//! Invariant: a code never changes its meaning. `docs/reference/exit-codes.md` tells them to users.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done; nothing is the matter.
    Success = 0,
    /// It failed.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// There are findings at or above the threshold, or a pre-flight check refused. Nothing was changed.
    Findings = 4,
    /// Gave up waiting.
    TimedOut = 5,
    /// Interrupted by the user: 128 + SIGINT, as shells have it.
    Interrupted = 130,
}

impl Exit {
    /// Every exit code, in order.
    pub const ALL: [Self; 6] =
        [Self::Success, Self::Failure, Self::Usage, Self::Findings, Self::TimedOut, Self::Interrupted];

    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_documented() {
        let docs = include_str!("../../docs/reference/exit-codes.md");
        for exit in Exit::ALL {
            assert!(docs.contains(&format!("\n| {} |", exit.code())), "{exit:?}");
        }
    }

    #[test]
    fn codes_never_change() {
        assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 4, 5, 130]);
    }
}
