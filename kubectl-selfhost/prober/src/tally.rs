//! What one target and mode has answered so far.
//!
//! Pure: times come in as offsets from the start of the measurement. Invariant: the size is bounded, by the
//! number of failure kinds and not by the number of requests.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::failure::{Failure, FailureKind};
use crate::histogram::Histogram;
use crate::report::{Counts, FailureSample};

/// How many failures of each kind are kept with their text.
const SAMPLES_PER_KIND: usize = 3;
/// How many failures are kept in all: a server can invent status codes.
const MAX_SAMPLES: usize = 24;

/// What became of a request.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    Ok,
    RetryAfter,
    Failed(Failure),
}

/// A stretch without a successful answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) began: Duration,
    pub(crate) length: Duration,
}

/// Counts, latencies and gaps of a series.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    pub(crate) failures: BTreeMap<FailureKind, u64>,
    pub(crate) latency: Histogram,
    pub(crate) samples: Vec<FailureSample>,
    last_success: Duration,
    longest_closed: Stretch,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            counts: Counts::default(),
            failures: BTreeMap::new(),
            latency: Histogram::new(),
            samples: Vec::new(),
            last_success: Duration::ZERO,
            longest_closed: Stretch { began: Duration::ZERO, length: Duration::ZERO },
        }
    }

    pub(crate) fn succeeded(&mut self, at: Duration, latency: Duration) {
        self.counts.ok += 1;
        self.latency.record(latency);
        self.longest_closed = self.longest_gap(at);
        self.last_success = self.last_success.max(at);
    }

    pub(crate) fn failed(&mut self, sample: FailureSample) {
        self.counts.failed += 1;
        let of_kind = self.failures.entry(sample.kind).or_default();
        *of_kind += 1;
        if *of_kind <= SAMPLES_PER_KIND as u64 && self.samples.len() < MAX_SAMPLES {
            self.samples.push(sample);
        }
    }

    /// The stretch since the last success (or the start), seen at `now`.
    pub(crate) fn open_gap(&self, now: Duration) -> Stretch {
        Stretch { began: self.last_success, length: now.saturating_sub(self.last_success) }
    }

    /// The longest stretch without a success, the one still open at `now` included.
    pub(crate) fn longest_gap(&self, now: Duration) -> Stretch {
        let open = self.open_gap(now);
        if open.length > self.longest_closed.length { open } else { self.longest_closed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn tally(successes: &[u64]) -> Tally {
        let mut tally = Tally::new();
        for at in successes {
            tally.succeeded(millis(*at), millis(1));
        }
        tally
    }

    #[test]
    fn the_longest_gap_counts_both_ends() {
        // (successes, end) -> (began, length)
        let cases: [(&[u64], u64, u64, u64); 5] = [
            (&[], 500, 0, 500),
            (&[300, 400], 500, 0, 300),
            (&[100, 900, 950], 1000, 100, 800),
            (&[100, 200], 900, 200, 700),
            // An answer that arrives after the end closes its gap and opens none.
            (&[100, 1200], 1000, 100, 1100),
        ];
        for (successes, end, began, length) in cases {
            let expected = Stretch { began: millis(began), length: millis(length) };
            assert_eq!(tally(successes).longest_gap(millis(end)), expected, "{successes:?}");
        }
    }

    #[test]
    fn samples_are_bounded_and_counts_are_not() {
        let mut tally = Tally::new();
        for code in 400..600 {
            for _ in 0..10 {
                let kind = FailureKind::Status(code);
                let (request, text) = (String::new(), String::new());
                tally.failed(FailureSample { at: Duration::ZERO, kind, step: None, request, text });
            }
        }
        assert_eq!((tally.counts.failed, tally.samples.len()), (2000, MAX_SAMPLES));
        assert_eq!(
            tally.samples.iter().filter(|s| s.kind == FailureKind::Status(400)).count(),
            SAMPLES_PER_KIND
        );
    }
}
