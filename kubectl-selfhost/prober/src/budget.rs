//! How much unavailability an operation may cost before it is stopped.

use std::time::Duration;

use crate::config::Mode;
use crate::record::Snapshot;

/// Limits to hold a [`Snapshot`] against while an operation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Failed requests that are still within the budget; `Retry-After` and replays cost nothing.
    pub max_failed: u64,
    /// The longest time without a success, at any one target and mode, that is still within the budget.
    ///
    /// It should be several times the interval between two requests of a series.
    pub max_gap: Duration,
}

/// What was spent beyond the budget.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BudgetExceeded {
    /// Too many requests failed.
    #[error("{failed} requests failed, {allowed} allowed")]
    Failed {
        /// How many failed so far.
        failed: u64,
        /// How many may.
        allowed: u64,
    },
    /// A target did not answer for too long.
    #[error("{target} gave no answer to {mode} connections for {gap:.2?}, {allowed:.2?} allowed")]
    Gap {
        /// The target's name.
        target: String,
        /// How the connections were used.
        mode: Mode,
        /// The longest time without a success so far.
        gap: Duration,
        /// How long it may be.
        allowed: Duration,
    },
}

impl Budget {
    /// Holds a snapshot against the budget. Failures are named first.
    pub fn check(&self, snapshot: &Snapshot) -> Result<(), BudgetExceeded> {
        if snapshot.counts.failed > self.max_failed {
            return Err(BudgetExceeded::Failed { failed: snapshot.counts.failed, allowed: self.max_failed });
        }
        let worst = snapshot.series.iter().max_by_key(|series| series.longest_gap);
        match worst {
            Some(series) if series.longest_gap > self.max_gap => Err(BudgetExceeded::Gap {
                target: series.target.clone(),
                mode: series.mode,
                gap: series.longest_gap,
                allowed: self.max_gap,
            }),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::SeriesSnapshot;
    use crate::report::Counts;

    #[test]
    fn failures_and_gaps_are_held_against_their_limits() {
        let budget = Budget { max_failed: 2, max_gap: Duration::from_secs(1) };
        let check = |failed, millis| {
            let counts = Counts { failed, retry_after: 50, replayed: 50, ..Counts::default() };
            let series = SeriesSnapshot {
                target: "a".to_owned(),
                mode: Mode::New,
                counts,
                longest_gap: Duration::from_millis(millis),
                open_gap: Duration::ZERO,
            };
            let snapshot = Snapshot {
                elapsed: Duration::ZERO,
                counts,
                in_flight: 0,
                ended: false,
                series: vec![series],
            };
            budget.check(&snapshot).map_err(|exceeded| exceeded.to_string())
        };
        assert_eq!(check(2, 1000), Ok(()));
        assert_eq!(check(3, 0), Err("3 requests failed, 2 allowed".to_owned()));
        let gap = "a gave no answer to new connections for 1.50s, 1.00s allowed";
        assert_eq!(check(0, 1500), Err(gap.to_owned()));
    }
}
