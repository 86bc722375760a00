//! The result of a measurement, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::iter::Sum;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Mode;
use crate::failure::FailureKind;
use crate::histogram::Histogram;
use crate::record::{Ending, Record, Series, Step};
use crate::tally::Stretch;

mod seconds;
mod table;

/// What was measured, from the first send to the end of sending.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Wall-clock time of the start; all other times are offsets from it.
    pub started_at: Timestamp,
    /// How long requests were sent.
    #[serde(rename = "durationSeconds", with = "seconds")]
    pub duration: Duration,
    /// All targets and modes together; its gap is the longest of any one of them.
    pub total: Summary,
    /// Each target and mode.
    pub series: Vec<SeriesReport>,
    /// Each step of the operation, as marked.
    pub steps: Vec<StepReport>,
    /// Sending ended at a bound of the configuration (`maxDuration`, `maxRequests`) before it was stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
    /// How late the prober itself was with a request, at worst. Much of it means that its machine was overloaded.
    #[serde(rename = "maxSendLagSeconds", with = "seconds")]
    pub max_send_lag: Duration,
}

/// One target and mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeriesReport {
    /// The target's name.
    pub target: String,
    /// How connections were used.
    pub mode: Mode,
    /// Requests sent per second; gaps shorter than the time between two of them cannot be seen.
    pub rate_per_second: f64,
    /// The figures.
    pub summary: Summary,
    /// The first failures of each kind, with their text, in the order of time.
    pub first_failures: Vec<FailureSample>,
}

/// Figures of a series or of all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Requests by what became of them.
    pub counts: Counts,
    /// The failed ones by kind.
    pub failures: BTreeMap<FailureKind, u64>,
    /// Of the successful requests, from the moment each was due; nothing when there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// The longest time without a success at one target and mode.
    pub longest_gap: Gap,
}

/// Requests by what became of them. After the end, `requests` is `ok`, `retry_after` and `failed` together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Requests that were due.
    pub requests: u64,
    /// Answered as expected.
    pub ok: u64,
    /// Failed in any way.
    pub failed: u64,
    /// Answered 429 or 503 with `Retry-After` in seconds: client-go waits and sends them again.
    pub retry_after: u64,
    /// Found their connection going away and were sent on another one, because the server had not processed them:
    /// what Go's transport does by itself. What became of the second attempt is counted above.
    pub replayed: u64,
}

/// Latencies, rounded up by at most 3.2 % (`max` is exact).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the requests took at most this.
    #[serde(rename = "p50Seconds", with = "seconds")]
    pub p50: Duration,
    /// 99 in 100 took at most this.
    #[serde(rename = "p99Seconds", with = "seconds")]
    pub p99: Duration,
    /// The slowest.
    #[serde(rename = "maxSeconds", with = "seconds")]
    pub max: Duration,
}

/// A time without a success: between two successes, from the start to the first or from the last to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// How long.
    #[serde(rename = "seconds", with = "seconds")]
    pub length: Duration,
    /// When it began, from the start.
    #[serde(rename = "beganAtSeconds", with = "seconds")]
    pub began_at: Duration,
    /// The step that most of it fell into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
}

/// One of the first failures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureSample {
    /// When it was known to have failed, from the start.
    #[serde(rename = "atSeconds", with = "seconds")]
    pub at: Duration,
    /// Its kind.
    pub kind: FailureKind,
    /// The step at that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Method and path.
    pub request: String,
    /// The whole error, or the beginning of the answer.
    pub text: String,
}

/// What happened between one mark and the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepReport {
    /// The step's name.
    pub name: String,
    /// When it was marked, from the start.
    #[serde(rename = "atSeconds", with = "seconds")]
    pub at: Duration,
    /// Requests that became due in it, and answers and failures that became known in it: they may belong to
    /// requests of the step before.
    pub counts: Counts,
}

impl Report {
    /// Writes the table and the first failures, at most 80 columns wide.
    pub fn write_table(&self, out: &mut impl fmt::Write) -> fmt::Result {
        table::write(self, out)
    }

    pub(crate) fn new(record: &Record) -> Self {
        let duration = record.duration();
        let steps = record.steps().clone();
        let series: Vec<SeriesReport> =
            record.series.iter().map(|series| series_report(series, duration, &steps)).collect();
        let mut latency = Histogram::new();
        for series in &record.series {
            latency.merge(&series.tally().latency);
        }
        let mut failures = BTreeMap::new();
        for (kind, count) in series.iter().flat_map(|series| &series.summary.failures) {
            *failures.entry(*kind).or_default() += count;
        }
        let gaps = series.iter().map(|series| &series.summary.longest_gap);
        let total = Summary {
            counts: series.iter().map(|series| series.summary.counts).sum(),
            failures,
            latency: Latency::of(&latency),
            longest_gap: gaps
                .max_by_key(|gap| gap.length)
                .cloned()
                .expect("a prober has at least one series"),
        };
        Self {
            started_at: record.started_at,
            duration,
            total,
            series,
            steps: steps
                .into_iter()
                .map(|Step { name, at, counts }| StepReport { name, at, counts })
                .collect(),
            ended_by: match record.ending() {
                Some(Ending::MaxDuration) => Some("maxDuration".to_owned()),
                Some(Ending::MaxRequests) => Some("maxRequests".to_owned()),
                Some(Ending::Stopped) | None => None,
            },
            max_send_lag: record.max_lag(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_table(f)
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |a, b| Self {
            requests: a.requests + b.requests,
            ok: a.ok + b.ok,
            failed: a.failed + b.failed,
            retry_after: a.retry_after + b.retry_after,
            replayed: a.replayed + b.replayed,
        })
    }
}

impl Latency {
    fn of(histogram: &Histogram) -> Option<Self> {
        Some(Self { p50: histogram.percentile(50)?, p99: histogram.percentile(99)?, max: histogram.max()? })
    }
}

fn series_report(series: &Series, end: Duration, steps: &[Step]) -> SeriesReport {
    let tally = series.tally();
    let gap = tally.longest_gap(end);
    SeriesReport {
        target: series.target.clone(),
        mode: series.mode,
        rate_per_second: series.rate,
        summary: Summary {
            counts: tally.counts,
            failures: tally.failures.clone(),
            latency: Latency::of(&tally.latency),
            longest_gap: Gap { length: gap.length, began_at: gap.began, step: step_of(gap, steps) },
        },
        first_failures: tally.samples.clone(),
    }
}

/// The step that most of the gap fell into: the success before it often belongs to the step before.
fn step_of(gap: Stretch, steps: &[Step]) -> Option<String> {
    let gap_end = gap.began + gap.length;
    let ends = steps.iter().skip(1).map(|next| next.at).chain([Duration::MAX]);
    steps
        .iter()
        .zip(ends)
        .map(|(step, end)| (end.min(gap_end).saturating_sub(step.at.max(gap.began)), step))
        .filter(|(overlap, _)| !overlap.is_zero())
        .max_by_key(|(overlap, _)| *overlap)
        .map(|(_, step)| step.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_belongs_to_the_step_that_holds_most_of_it() {
        let step = |name: &str, secs| Step {
            name: name.to_owned(),
            at: Duration::from_secs(secs),
            counts: Counts::default(),
        };
        let steps = [step("bridge", 10), step("replace", 20), step("release", 30)];
        let cases = [
            (2, 3, None),
            (5, 8, Some("bridge")),
            (19, 9, Some("replace")),
            (29, 4, Some("release")),
            (40, 0, None),
        ];
        for (began, length, expected) in cases {
            let gap = Stretch { began: Duration::from_secs(began), length: Duration::from_secs(length) };
            assert_eq!(step_of(gap, &steps).as_deref(), expected, "{gap:?}");
        }
    }
}
