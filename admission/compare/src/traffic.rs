//! Reviews as an API server sends them: by the clock, or as fast as they are answered.
//!
//! Invariant: open loop. A review that was due is sent and counted, whatever became of those before.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::client::{Answer, Connection, Http, review, review_of};
use crate::fixtures;

/// How long an API server waits, by the guard's registration.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// The time until the first review, for all connections to be there.
const LEAD: Duration = Duration::from_millis(100);

/// Somebody who sends one review again and again.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    config: ClientConfig,
    body: Bytes,
}

/// What became of the reviews that were sent faster than they could be judged.
#[derive(Debug, Default, Clone, Copy)]
pub struct Flood {
    /// How many were sent.
    pub sent: usize,
    /// How many of them had their verdict while somebody waited for it, and before the end.
    pub good: usize,
    /// How many were answered otherwise: that there is no time for them.
    pub shed: usize,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, config: ClientConfig, request: &serde_json::Value) -> Self {
        Self { address, config, body: review_of(request) }
    }

    /// The update of a DaemonSet's label, which is admitted.
    pub(crate) fn of_label(address: SocketAddr, config: ClientConfig) -> Result<Self> {
        let request = std::fs::read(fixtures().join("daemonset-label.json")).context("read the request")?;
        Ok(Self::new(address, config, &serde_json::from_slice(&request)?))
    }

    /// One review. An open connection that the server has just ended is replaced once, as Go's client does.
    pub(crate) async fn ask(&self, open: &mut Option<Connection>) -> Result<Answer> {
        if let Some(connection) = open
            && connection.ready().await
            && let Ok(answer) = connection.send(review(self.body.clone()), self.address).await
        {
            return Ok(answer);
        }
        let mut connection = self.connect().await?;
        let answer = connection.send(review(self.body.clone()), self.address).await?;
        *open = Some(connection);
        Ok(answer)
    }

    async fn connect(&self) -> Result<Connection> {
        Connection::open(self.address, &self.config, Http::Two).await
    }

    /// Reviews at a rate a second, on connections with a review at a time each: how long each took from when it was due.
    pub async fn open_loop(&self, rate: u32, length: Duration, connections: u32) -> Vec<Result<Duration>> {
        let begin = Instant::now() + LEAD;
        let total = count(rate, length);
        let mut clients = JoinSet::new();
        for first in 0..connections {
            let client = self.clone();
            clients.spawn(async move {
                let mut connection = None;
                let mut results = Vec::new();
                for index in (first..total).step_by(connections as usize) {
                    let due = due(begin, index, rate);
                    tokio::time::sleep_until(due.into()).await;
                    let answer = client.ask(&mut connection).await.and_then(|answer| admitted(&answer));
                    results.push(answer.map(|()| due.elapsed()));
                }
                results
            });
        }
        clients.join_all().await.into_iter().flatten().collect()
    }

    /// One review after the other, each denied in these words: how many.
    pub async fn denied_loop(&self, length: Duration, words: &str) -> Result<usize> {
        let (begin, mut connection, mut count) = (Instant::now(), None, 0);
        while begin.elapsed() < length {
            let answer = self.ask(&mut connection).await?;
            let text = String::from_utf8_lossy(&answer.body);
            ensure!(text.contains(r#""allowed":false"#) && text.contains(words), "{}: {text}", answer.status);
            count += 1;
        }
        Ok(count)
    }

    /// Reviews as fast as they are answered: how many had their verdict in time.
    pub async fn closed_loop(&self, length: Duration, connections: u32) -> Result<usize> {
        let mut clients = JoinSet::new();
        let begin = Instant::now() + LEAD;
        for _ in 0..connections {
            let client = self.clone();
            clients.spawn(async move {
                let mut connection = Some(client.connect().await?);
                tokio::time::sleep_until(begin.into()).await;
                let mut good = 0;
                while begin.elapsed() < length {
                    let sent = Instant::now();
                    admitted(&client.ask(&mut connection).await?)?;
                    good += usize::from(sent.elapsed() <= TIMEOUT && begin.elapsed() <= length);
                }
                anyhow::Ok(good)
            });
        }
        let counts: Result<Vec<usize>> = clients.join_all().await.into_iter().collect();
        Ok(counts?.into_iter().sum())
    }

    /// Reviews at a rate, on connections with `window` of them at a time each. What does not fit into a window is not sent.
    pub async fn flood(&self, rate: u32, length: Duration, connections: u32, window: u32) -> Result<Flood> {
        let begin = Instant::now() + LEAD;
        let total = count(rate, length);
        let mut clients = JoinSet::new();
        for first in 0..connections {
            let client = self.clone();
            clients.spawn(async move {
                let connection = client.connect().await?;
                let slots = Arc::new(Semaphore::new(window as usize));
                let mut reviews = JoinSet::new();
                for index in (first..total).step_by(connections as usize) {
                    tokio::time::sleep_until(due(begin, index, rate).into()).await;
                    let slot = Arc::clone(&slots).acquire_owned().await?;
                    if begin.elapsed() >= length {
                        break;
                    }
                    let (address, body) = (client.address, client.body.clone());
                    let mut stream = stream(&connection)?;
                    reviews.spawn(async move {
                        let sent = Instant::now();
                        let answer = stream.send(review(body), address).await;
                        drop(slot);
                        let in_time = sent.elapsed() <= TIMEOUT && begin.elapsed() <= length;
                        answer.map(|answer| (admitted(&answer).is_ok(), in_time))
                    });
                }
                let mut flood = Flood::default();
                for answer in reviews.join_all().await {
                    let (admitted, in_time) = answer?;
                    flood.sent += 1;
                    flood.good += usize::from(admitted && in_time);
                    flood.shed += usize::from(!admitted);
                }
                anyhow::Ok(flood)
            });
        }
        let mut sum = Flood::default();
        for flood in clients.join_all().await {
            let flood = flood?;
            sum.sent += flood.sent;
            sum.good += flood.good;
            sum.shed += flood.shed;
        }
        Ok(sum)
    }
}

/// Another stream of a connection.
fn stream(connection: &Connection) -> Result<Connection> {
    match connection {
        Connection::Http2(sender) => Ok(Connection::Http2(sender.clone())),
        Connection::Http1(_) => anyhow::bail!("HTTP/1.1 has one stream"),
    }
}

fn admitted(answer: &Answer) -> Result<()> {
    let text = String::from_utf8_lossy(&answer.body);
    ensure!(text.contains(r#""allowed":true"#), "{}: {text}", answer.status);
    Ok(())
}

/// When a review is to be sent.
fn due(begin: Instant, index: u32, rate: u32) -> Instant {
    begin + Duration::from_secs(1) * index / rate
}

/// How many are.
fn count(rate: u32, length: Duration) -> u32 {
    let total = u128::from(rate) * length.as_millis() / 1000;
    u32::try_from(total).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reviews_are_due_by_the_clock() {
        let begin = Instant::now();
        assert_eq!(due(begin, 0, 1000), begin);
        assert_eq!(due(begin, 1500, 1000), begin + Duration::from_millis(1500));
        assert_eq!(count(1000, Duration::from_millis(1500)), 1500);
        // The last one that is due, of a rate and a time that nobody asks for.
        assert_eq!(due(begin, 3_000_000, 50_000), begin + Duration::from_mins(1));
    }
}
