//! One stream of requests: sends by the clock, never waits for an answer.
//!
//! Invariant: the time of a send depends on the start, the rate and nothing else. A stream that was held up (a busy
//! machine) catches up, and latency runs from the moment a request was due, so delays are seen and not hidden.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::channel::Channel;
use crate::config::Load;
use crate::failure::{Failure, FailureKind};
use crate::record::{Ending, Record, SeriesId};
use crate::request::RequestSpec;
use crate::tally::Verdict;

pub(crate) struct Stream {
    pub(crate) name: String,
    pub(crate) series: SeriesId,
    pub(crate) channel: Channel,
    pub(crate) requests: Vec<RequestSpec>,
    pub(crate) first: Instant,
    pub(crate) period: Duration,
    pub(crate) end: Instant,
    pub(crate) timeout: Duration,
}

/// The time between two requests of one stream.
pub(crate) fn period(load: &Load) -> Duration {
    Duration::from_secs_f64(1.0 / load.rate)
}

/// Sends until the end, or until `stop` changes, then waits for the answers that are out.
pub(crate) async fn run(stream: Stream, record: Arc<Record>, mut stop: watch::Receiver<bool>) {
    let stream = Arc::new(stream);
    let mut in_flight = JoinSet::new();
    let mut due = stream.first;
    let mut sleep = pin!(sleep_until(due));
    let mut counter = 0;
    loop {
        tokio::select! {
            biased;
            _ = stop.changed() => break,
            Some(_) = in_flight.join_next(), if !in_flight.is_empty() => continue,
            () = &mut sleep => {}
        }
        if due >= stream.end {
            record.end(Ending::MaxDuration);
            break;
        }
        if !record.due(stream.series, due.elapsed()) {
            break;
        }
        if record.take_place(stream.series) {
            in_flight.spawn(send(Arc::clone(&stream), Arc::clone(&record), counter, due));
        } else {
            let failure = Failure::new(FailureKind::Overloaded, "not sent: too many requests in flight");
            record.finished(stream.series, Duration::ZERO, Verdict::Failed(failure), || stream.name.clone());
        }
        counter += 1;
        due += stream.period;
        sleep.as_mut().reset(due);
    }
    while in_flight.join_next().await.is_some() {}
}

async fn send(stream: Arc<Stream>, record: Arc<Record>, counter: u64, due: Instant) {
    let index = usize::try_from(counter % stream.requests.len() as u64).expect("less than a length");
    let outgoing =
        stream.requests[index].fill(&stream.name, counter).expect("checked when the prober was started");
    let answer = stream.channel.send(&outgoing, || record.replayed(stream.series));
    let verdict = timeout(stream.timeout, answer).await.unwrap_or_else(|_| {
        let text = format!("no complete answer within {:?}", stream.timeout);
        Verdict::Failed(Failure::new(FailureKind::Timeout, text))
    });
    record.finished(stream.series, due.elapsed(), verdict, || outgoing.describe());
    record.leave_place(stream.series);
}
