//! When to divert: a pure state machine over the bridge's answers.
//!
//! Invariants: the divert begins only upon [`Answer::Ready`]; a refused connection ends it at once; any other failure
//! ends it at the second time in a row, and only while the other server is ready. A busy machine makes a bridge answer
//! late, and whoever turned away from it then would turn to a server that is not there, or has only half started.

use std::fmt;

/// Failures in a row, other than a refused connection, that end the divert.
const PATIENCE: u8 = 2;

/// What one check of the bridge's `/readyz` saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// 200.
    Ready,
    /// Nobody listens on the bridge's port.
    Refused,
    /// Anything else: too slow, not 200, not the expected server; and the server on the public port is ready.
    Failed(String),
    /// The same, and the server on the public port is not ready either: nobody serves better than the bridge.
    Alone(String),
    /// Nobody wants the divert: the copy that a standby's gate would divert to is not to serve.
    Idle,
}

/// What to do about the divert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: it is off, or lives on until its time runs out.
    Hold,
    /// Begin it.
    Begin,
    /// Start its time anew.
    Renew,
    /// End it.
    Withdraw,
}

/// What the gate remembers of earlier answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    Withdrawn,
    Diverting { failures: u8 },
}

impl Readiness {
    /// Nothing is diverted.
    pub(super) fn new() -> Self {
        Self::Withdrawn
    }

    /// Takes the next answer into account.
    pub(super) fn next(&mut self, answer: &Answer) -> Step {
        let (state, step) = match (*self, answer) {
            (Self::Withdrawn, Answer::Ready) => (Self::Diverting { failures: 0 }, Step::Begin),
            (Self::Withdrawn, Answer::Idle | Answer::Refused | Answer::Failed(_) | Answer::Alone(_)) => {
                (Self::Withdrawn, Step::Hold)
            }
            (Self::Diverting { .. }, Answer::Alone(_)) => (*self, Step::Renew),
            (Self::Diverting { .. }, Answer::Ready) => (Self::Diverting { failures: 0 }, Step::Renew),
            (Self::Diverting { failures }, Answer::Failed(_)) if failures + 1 < PATIENCE => {
                (Self::Diverting { failures: failures + 1 }, Step::Hold)
            }
            (Self::Diverting { .. }, Answer::Idle | Answer::Refused | Answer::Failed(_)) => {
                (Self::Withdrawn, Step::Withdraw)
            }
        };
        *self = state;
        step
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("the bridge is ready"),
            Self::Refused => f.write_str("the bridge refuses connections"),
            Self::Idle => f.write_str("dormant: the API server itself serves"),
            Self::Failed(why) | Self::Alone(why) => write!(f, "the bridge is not ready: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Step::{Begin, Hold, Renew, Withdraw};
    use super::*;

    #[test]
    fn sequences_of_answers() {
        // r: ready, x: refused, f: failed, a: failed, and nobody else is ready, i: idle.
        let table: [(&str, &[Step]); 14] = [
            ("r", &[Begin]),
            ("xxfr", &[Hold, Hold, Hold, Begin]),
            ("rrr", &[Begin, Renew, Renew]),
            ("rx", &[Begin, Withdraw]),
            ("rfr", &[Begin, Hold, Renew]),
            ("rff", &[Begin, Hold, Withdraw]),
            ("rfrff", &[Begin, Hold, Renew, Hold, Withdraw]),
            ("rfx", &[Begin, Hold, Withdraw]),
            ("aar", &[Hold, Hold, Begin]),
            ("raaa", &[Begin, Renew, Renew, Renew]),
            ("raffx", &[Begin, Renew, Hold, Withdraw, Hold]),
            ("rax", &[Begin, Renew, Withdraw]),
            ("iirri", &[Hold, Hold, Begin, Renew, Withdraw]),
            ("rxfffr", &[Begin, Withdraw, Hold, Hold, Hold, Begin]),
        ];
        for (answers, expected) in table {
            let mut readiness = Readiness::new();
            let steps: Vec<_> = answers
                .chars()
                .map(|answer| match answer {
                    'r' => Answer::Ready,
                    'x' => Answer::Refused,
                    'i' => Answer::Idle,
                    'a' => Answer::Alone("503".to_owned()),
                    _ => Answer::Failed("503".to_owned()),
                })
                .map(|answer| readiness.next(&answer))
                .collect();
            assert_eq!(steps, expected, "{answers}");
        }
    }
}
