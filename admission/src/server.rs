//! The server that an API server asks.
//!
//! Invariant: every review is answered within its own timeout, by a verdict or by a denial that says why there is none.

mod http;
pub mod status;
pub mod tls;
mod workers;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::capabilities::Source;
use crate::engine::Engine;
use crate::health::Health;
use crate::metrics::Metrics;
use tls::Tls;
pub use workers::Workers;

/// How many connections may be open: an API server has a few.
const CONNECTIONS: usize = 256;

/// How long a handshake, or the head of a request, may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What everything that serves has in common.
pub struct Guard {
    /// The policy that runs.
    pub policy: ArcSwap<Engine>,
    /// What the policy may ask for.
    pub source: Arc<dyn Source>,
    /// What is counted.
    pub metrics: Metrics,
    /// Whether it works.
    pub health: Health,
}

/// Serves reviews until `stop` changes, and then answers what has begun, for as long as `drain`.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<Tls>,
    guard: Arc<Guard>,
    workers: Arc<Workers>,
    mut stop: watch::Receiver<bool>,
    drain: Duration,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            Some(_) = connections.join_next() => continue,
            // An error is a sender that is gone: whoever would say when to stop.
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some((stream, slot)) = accepted else { continue };
        let (tls, guard, workers) = (Arc::clone(&tls), Arc::clone(&guard), Arc::clone(&workers));
        connections.spawn(async move {
            let open = guard.metrics.connection();
            if let Err(error) = connection(stream, &tls, guard, workers).await {
                tracing::debug!(error = error.kind().to_string(), "a connection ended early");
            }
            drop((open, slot));
        });
    }
    drop(listener);
    guard.health.drain();
    tls.end_connections();
    let ended = timeout(drain, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(connections = connections.len(), "connections did not end in time");
    }
}

type Slot = tokio::sync::OwnedSemaphorePermit;

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<(TcpStream, Slot)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            // No file descriptors, mostly; they come back with the next connection that ends.
            tracing::warn!(error = error.kind().to_string(), "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    tls: &Tls,
    guard: Arc<Guard>,
    workers: Arc<Workers>,
) -> io::Result<()> {
    // Before the handshake, which may be the last of an older authority.
    let mut generation = tls.generation();
    stream.set_nodelay(true)?;
    let stream = timeout(PATIENCE, TlsAcceptor::from(tls.config()).accept(stream))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let admitted = tls.admits(stream.get_ref().1.peer_certificates());
    tracing::trace!(admitted, "a connection was opened");
    let served = Arc::new(Notify::new());
    let service = service_fn({
        let served = Arc::clone(&served);
        move |request| {
            let (guard, workers, served) = (Arc::clone(&guard), Arc::clone(&workers), Arc::clone(&served));
            async move {
                let answer = http::answer(request, admitted, &guard, &workers).await;
                served.notify_one();
                Ok::<_, Infallible>(answer)
            }
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(1024);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A client that has just connected does not know that it was too late: it is answered once before it has to go.
    let ending = async {
        let _ = generation.changed().await;
        let _ = timeout(PATIENCE, served.notified()).await;
    };
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = ending => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    result.map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))
}
