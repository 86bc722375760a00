//! Reviews that keep coming, on connections of their own and on ones that stay open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use rustls::ClientConfig;
use tokio::task::JoinSet;

use crate::client::{Connection, Http, review};

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Count {
    pub(crate) answered: AtomicUsize,
    pub(crate) connections: AtomicUsize,
}

/// Clients that run until they are told to stop.
pub(crate) struct Load {
    clients: JoinSet<Result<()>>,
    stop: Arc<AtomicBool>,
    pub(crate) count: Arc<Count>,
}

/// The time between two reviews of one client.
const PAUSE: Duration = Duration::from_millis(2);

impl Load {
    /// Four clients: with a connection for each review and with one that stays, of either HTTP.
    pub(crate) fn start(address: SocketAddr, config: &ClientConfig, body: &Bytes, allowed: bool) -> Self {
        let mut load = Self { clients: JoinSet::new(), stop: Arc::default(), count: Arc::default() };
        for (http, stays) in [(Http::One, true), (Http::One, false), (Http::Two, true), (Http::Two, false)] {
            let client = Client {
                address,
                config: config.clone(),
                http,
                body: body.clone(),
                expected: format!(r#""allowed":{allowed}"#),
                count: Arc::clone(&load.count),
            };
            let stop = Arc::clone(&load.stop);
            load.clients.spawn(async move {
                let mut open = None;
                while !stop.load(Ordering::Relaxed) {
                    client.ask(&mut open).await?;
                    if !stays {
                        open = None;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(())
            });
        }
        load
    }

    /// Waits for so many answers more.
    pub(crate) async fn answers(&self, count: usize) {
        let until = self.count.answered.load(Ordering::Relaxed) + count;
        while self.count.answered.load(Ordering::Relaxed) < until && !self.clients.is_empty() {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Ends it: every client's failure, and how many reviews were answered.
    pub(crate) async fn end(mut self) -> (Vec<String>, usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        while let Some(result) = self.clients.join_next().await {
            failures.extend(result.unwrap().err().map(|error| format!("{error:#}")));
        }
        let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
        (failures, count(&self.count.answered), count(&self.count.connections))
    }
}

struct Client {
    address: SocketAddr,
    config: ClientConfig,
    http: Http,
    body: Bytes,
    expected: String,
    count: Arc<Count>,
}

impl Client {
    /// One review. An open connection that the server has just ended is replaced once, as Go's client does.
    async fn ask(&self, open: &mut Option<Connection>) -> Result<()> {
        if let Some(connection) = open
            && connection.ready().await
            && let Ok(answer) = connection.send(review(self.body.clone()), self.address).await
        {
            return self.judge(answer.status.as_u16(), &answer.body);
        }
        self.count.connections.fetch_add(1, Ordering::Relaxed);
        let mut connection = Connection::open(self.address, &self.config, self.http).await?;
        let answer = connection.send(review(self.body.clone()), self.address).await?;
        *open = Some(connection);
        self.judge(answer.status.as_u16(), &answer.body)
    }

    fn judge(&self, status: u16, body: &Bytes) -> Result<()> {
        let text = String::from_utf8_lossy(body);
        ensure!(status == 200 && text.contains(&self.expected), "{status}: {text}");
        self.count.answered.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
