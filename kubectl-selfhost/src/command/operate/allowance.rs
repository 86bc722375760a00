//! The availability budget of an operation, less what it announced.
//!
//! Invariant: what is not counted was announced before the user agreed, and ends with the step that it was announced for.

use std::time::Duration;

use selfhost_prober::{Budget, Snapshot};

use crate::plan::{Step, Verb};

/// The budget, and what does not count.
#[derive(Debug)]
pub(super) struct Allowance {
    budget: Budget,
    /// Failed requests and the longest gap when the announced pause began; none outside of one.
    pause: Option<(u64, Duration)>,
    /// What failed in pauses that are over.
    forgiven: u64,
    /// The longest gap until the end of the last pause.
    gap: Duration,
}

impl Allowance {
    pub(super) const fn new(budget: Budget) -> Self {
        Self { budget, pause: None, forgiven: 0, gap: Duration::ZERO }
    }

    /// Called at the beginning of each step; why the operation is to stop, if it is.
    pub(super) fn check(&mut self, step: &Step, now: &Snapshot) -> Result<(), String> {
        let longest = now.series.iter().map(|series| series.longest_gap).max().unwrap_or_default();
        let mut failed_before = now.counts.failed;
        if let Some((failed, gap)) = self.pause.take() {
            // Requests that were sent in the pause and wait for their answers belong to it, too.
            let under_way = u64::try_from(now.in_flight).unwrap_or_default();
            self.forgiven += now.counts.failed.saturating_sub(failed) + under_way;
            failed_before += under_way;
            if longest > gap {
                self.gap = longest;
            }
        }
        let allowed = Budget {
            max_failed: self.budget.max_failed.saturating_add(self.forgiven),
            max_gap: self.budget.max_gap.max(self.gap),
        };
        allowed.check(now).map_err(|exceeded| exceeded.to_string())?;
        if step.verb == Verb::UpgradeEtcd {
            self.pause = Some((failed_before, longest));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use selfhost_prober::{Counts, Mode, SeriesSnapshot};

    use super::*;

    fn step(verb: Verb) -> Step {
        Step { verb, component: None, node: Some("cp1".to_owned()) }
    }

    fn seen(failed: u64, in_flight: usize, gap: u64) -> Snapshot {
        let counts = Counts { failed, ..Counts::default() };
        let series = SeriesSnapshot {
            target: "a".to_owned(),
            mode: Mode::New,
            counts,
            longest_gap: Duration::from_secs(gap),
            open_gap: Duration::ZERO,
        };
        Snapshot { elapsed: Duration::ZERO, counts, in_flight, ended: false, series: vec![series] }
    }

    #[test]
    fn only_the_announced_pause_is_free() {
        let budget = || Allowance::new(Budget { max_failed: 2, max_gap: Duration::from_secs(1) });
        let (etcd, other) = (step(Verb::UpgradeEtcd), step(Verb::Bridge));
        let mut allowance = budget();
        assert_eq!(allowance.check(&etcd, &seen(1, 0, 0)), Ok(()));
        assert_eq!(allowance.check(&etcd, &seen(41, 3, 5)), Ok(()), "one member after the other");
        assert_eq!(allowance.check(&other, &seen(60, 0, 6)), Ok(()));
        assert_eq!(allowance.check(&other, &seen(61, 0, 6)), Ok(()), "one before, one after");
        assert!(allowance.check(&other, &seen(62, 0, 6)).is_err(), "what comes later counts");
        assert!(budget().check(&etcd, &seen(3, 0, 0)).is_err(), "what was before counts");
        assert!(budget().check(&other, &seen(0, 0, 2)).is_err());
        let mut allowance = budget();
        assert_eq!(allowance.check(&etcd, &seen(0, 0, 0)), Ok(()));
        assert_eq!(allowance.check(&other, &seen(0, 0, 5)), Ok(()));
        assert!(allowance.check(&other, &seen(0, 0, 6)).is_err(), "a longer gap than the pause");
    }
}
