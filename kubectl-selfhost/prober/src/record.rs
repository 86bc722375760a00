//! The measurement while it runs: written by the requests, read by whoever watches.
//!
//! Invariant: each lock is held for a few additions, never across an await and never two at a time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::config::{Config, Mode};
use crate::failure::Failure;
use crate::report::{Counts, FailureSample};
use crate::tally::{Tally, Verdict};

/// The state of a measurement at one moment, cheap enough to ask for many times a second.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Since the start.
    pub elapsed: Duration,
    /// Over all targets and modes.
    pub counts: Counts,
    /// Requests that wait for their answer.
    pub in_flight: usize,
    /// No more requests are sent: stopped, or at a bound of the configuration.
    pub ended: bool,
    /// Each target and mode, in the order of the configuration.
    pub series: Vec<SeriesSnapshot>,
}

/// One target and mode in a [`Snapshot`].
#[derive(Clone, Debug)]
pub struct SeriesSnapshot {
    /// The target's name.
    pub target: String,
    /// How connections are used.
    pub mode: Mode,
    /// Requests so far, by what became of them.
    pub counts: Counts,
    /// The longest time without a success so far, the present one included.
    pub longest_gap: Duration,
    /// Since the last success.
    pub open_gap: Duration,
}

/// Why sending came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Stopped,
    MaxDuration,
    MaxRequests,
}

/// Index of a series, handed out by [`Record::series_of`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeriesId(usize);

#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) target: String,
    pub(crate) mode: Mode,
    /// Requests per second.
    pub(crate) rate: f64,
    in_flight: AtomicUsize,
    tally: Mutex<Tally>,
}

/// A step of the operation that is measured.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) at: Duration,
    pub(crate) counts: Counts,
}

#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) started_at: Timestamp,
    started: Instant,
    pub(crate) series: Vec<Series>,
    steps: Mutex<Vec<Step>>,
    max_requests: u64,
    max_in_flight: usize,
    sent: AtomicU64,
    max_lag_micros: AtomicU64,
    ended: OnceLock<(Duration, Ending)>,
}

/// Memory is bounded: an operation has dozens of steps, and what comes later counts for the last.
const MAX_STEPS: usize = 1000;

impl Record {
    #[expect(clippy::cast_precision_loss, reason = "numbers of streams are small")]
    pub(crate) fn new(config: &Config) -> Self {
        let mut series: Vec<Series> = Vec::new();
        for target in &config.targets {
            for load in &config.loads {
                let rate = load.rate * load.streams as f64;
                let known = series.iter_mut().find(|s| s.target == target.name && s.mode == load.mode);
                match known {
                    Some(series) => series.rate += rate,
                    None => series.push(Series::new(target.name.clone(), load.mode, rate)),
                }
            }
        }
        Self {
            started_at: Timestamp::now(),
            started: Instant::now(),
            series,
            steps: Mutex::default(),
            max_requests: config.max_requests,
            max_in_flight: config.max_in_flight,
            sent: AtomicU64::new(0),
            max_lag_micros: AtomicU64::new(0),
            ended: OnceLock::new(),
        }
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn series_of(&self, target: &str, mode: Mode) -> SeriesId {
        let index = self.series.iter().position(|s| s.target == target && s.mode == mode);
        SeriesId(index.expect("made from the same configuration"))
    }

    /// Counts a request that is due; `lag` is how late the prober itself is. False when no more may be sent.
    pub(crate) fn due(&self, id: SeriesId, lag: Duration) -> bool {
        if self.ended.get().is_some() {
            return false;
        }
        if self.sent.fetch_add(1, Ordering::Relaxed) >= self.max_requests {
            self.end(Ending::MaxRequests);
            return false;
        }
        self.max_lag_micros.fetch_max(u64::try_from(lag.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.series[id.0].tally().counts.requests += 1;
        self.count_in_step(|counts| counts.requests += 1);
        true
    }

    /// Takes a place among the requests in flight, or says that there is none.
    pub(crate) fn take_place(&self, id: SeriesId) -> bool {
        let in_flight = &self.series[id.0].in_flight;
        if in_flight.load(Ordering::Relaxed) < self.max_in_flight {
            in_flight.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        false
    }

    pub(crate) fn leave_place(&self, id: SeriesId) {
        self.series[id.0].in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn replayed(&self, id: SeriesId) {
        self.series[id.0].tally().counts.replayed += 1;
        self.count_in_step(|counts| counts.replayed += 1);
    }

    /// Books the end of a request; `latency` runs from the moment it was due.
    pub(crate) fn finished(
        &self,
        id: SeriesId,
        latency: Duration,
        verdict: Verdict,
        request: impl Fn() -> String,
    ) {
        let at = self.started.elapsed();
        let series = &self.series[id.0];
        match verdict {
            Verdict::Ok => {
                series.tally().succeeded(at, latency);
                self.count_in_step(|counts| counts.ok += 1);
            }
            Verdict::RetryAfter => {
                series.tally().counts.retry_after += 1;
                self.count_in_step(|counts| counts.retry_after += 1);
            }
            Verdict::Failed(Failure { kind, text }) => {
                let step = self.steps().last().map(|step| step.name.clone());
                series.tally().failed(FailureSample { at, kind, step, request: request(), text });
                self.count_in_step(|counts| counts.failed += 1);
            }
        }
    }

    pub(crate) fn mark(&self, name: &str) {
        let at = self.started.elapsed();
        let mut steps = self.steps();
        if steps.len() < MAX_STEPS {
            steps.push(Step { name: name.to_owned(), at, counts: Counts::default() });
        }
    }

    /// The first ending counts: from then on gaps no longer grow.
    pub(crate) fn end(&self, ending: Ending) {
        self.ended.get_or_init(|| (self.started.elapsed(), ending));
    }

    pub(crate) fn ending(&self) -> Option<Ending> {
        self.ended.get().map(|(_, ending)| *ending)
    }

    /// How long the measurement has lasted, or lasted.
    pub(crate) fn duration(&self) -> Duration {
        self.ended.get().map_or_else(|| self.started.elapsed(), |(at, _)| *at)
    }

    pub(crate) fn max_lag(&self) -> Duration {
        Duration::from_micros(self.max_lag_micros.load(Ordering::Relaxed))
    }

    pub(crate) fn steps(&self) -> MutexGuard<'_, Vec<Step>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let now = self.duration();
        let series: Vec<_> = self.series.iter().map(|series| series.snapshot(now)).collect();
        Snapshot {
            elapsed: now,
            counts: series.iter().map(|series| series.counts).sum(),
            in_flight: self.series.iter().map(|series| series.in_flight.load(Ordering::Relaxed)).sum(),
            ended: self.ended.get().is_some(),
            series,
        }
    }

    fn count_in_step(&self, count: impl FnOnce(&mut Counts)) {
        if let Some(step) = self.steps().last_mut() {
            count(&mut step.counts);
        }
    }
}

impl Series {
    fn new(target: String, mode: Mode, rate: f64) -> Self {
        Self { target, mode, rate, in_flight: AtomicUsize::new(0), tally: Mutex::new(Tally::new()) }
    }

    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot(&self, now: Duration) -> SeriesSnapshot {
        let tally = self.tally();
        SeriesSnapshot {
            target: self.target.clone(),
            mode: self.mode,
            counts: tally.counts,
            longest_gap: tally.longest_gap(now).length,
            open_gap: tally.open_gap(now).length,
        }
    }
}
