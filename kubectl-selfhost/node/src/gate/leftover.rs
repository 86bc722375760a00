//! What a bridge's gate leaves behind that was killed together with its bridge: a table in which nothing is diverted any
//! more, and nobody who would remove it. The standby's gate does, since it is always there.
//!
//! Invariant: nothing is removed while anybody could still need it.

use crate::nft;
use crate::nft::divert::{self, Divert};
use crate::sockets;

/// For how many looks in a row, one a second, nobody must have had the bridge's port. A bridge's gate begins some
/// seconds before its bridge listens; it does without what is removed then, since the standby's gate has the same.
const QUIET: u8 = 20;

/// Counts the looks.
#[derive(Debug, Default)]
pub(super) struct Leftover {
    quiet: u8,
    swept: bool,
}

impl Leftover {
    /// Looks whether somebody has the bridge's port, and removes what is left once nobody has had it for a while.
    pub(super) fn look(&mut self, divert: &Divert) -> Result<(), nft::Error> {
        let port = divert.bridge().port();
        // What cannot be read is taken for somebody.
        let is_used = sockets::listening().map_or(true, |ports| ports.contains(&port));
        if !self.is_due(is_used) {
            return Ok(());
        }
        // Connections to a bridge that drains.
        if sockets::list().map_or(true, |sockets| sockets::connected(&sockets, port)) {
            *self = Self::default();
            return Ok(());
        }
        nft::remove(divert::TABLE)
    }

    /// Whether it is time; once for each time that somebody had the port, and once in the beginning.
    fn is_due(&mut self, is_used: bool) -> bool {
        if is_used {
            *self = Self::default();
        } else if !self.swept {
            self.quiet += 1;
            self.swept = self.quiet >= QUIET;
            return self.swept;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_once_after_a_while_of_quiet() {
        let mut leftover = Leftover::default();
        let mut due_after = |looks: &[bool]| {
            let due: Vec<usize> = looks
                .iter()
                .enumerate()
                .filter(|(_, used)| leftover.is_due(**used))
                .map(|(at, _)| at)
                .collect();
            due
        };
        let quiet = [false; 30];
        let last = usize::from(QUIET) - 1;
        assert_eq!(due_after(&quiet), [last], "in the beginning");
        assert_eq!(due_after(&quiet), [0; 0], "and not again");
        assert_eq!(due_after(&[true]), [0; 0]);
        assert_eq!(due_after(&quiet[..last]), [0; 0], "not for long enough");
        assert_eq!(due_after(&[true]), [0; 0]);
        assert_eq!(due_after(&quiet), [last], "once more");
    }
}
