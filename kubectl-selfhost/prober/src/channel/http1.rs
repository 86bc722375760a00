//! HTTP/1.1: a fresh connection for each request, or kept alive in a pool.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};

use super::{Answer, AttemptError, Channel, read};
use crate::dial::Dialer;
use crate::failure::{Failure, FailureKind};
use crate::request::Outgoing;

/// Idle connections kept by a stream: `MaxIdleConnsPerHost` of client-go's transport cache.
const MAX_IDLE: usize = 25;

/// Sends a request on a connection of its own. Nothing is ever replayed: Go does not on a fresh connection either.
pub(super) async fn send_once(
    dialer: &Dialer,
    channel: &Channel,
    outgoing: &Outgoing,
) -> Result<Answer, Failure> {
    let request = channel.request(outgoing)?;
    let connection = dialer.dial().await?;
    let (mut sender, connection) =
        http1::handshake(connection).await.map_err(|error| Failure::from_error(&error))?;
    let mut exchange = pin!(async move {
        let response = sender.send_request(request).await.map_err(|error| Failure::from_error(&error))?;
        read(response).await
    });
    // The connection moves the bytes; it may end first, with the answer still to be read.
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}

/// Connections kept alive, used by one request at a time.
pub(super) struct Pool {
    dialer: Dialer,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Pool {
    pub(super) fn new(dialer: Dialer) -> Self {
        Self { dialer, idle: Mutex::default() }
    }

    pub(super) async fn send(
        &self,
        channel: &Channel,
        outgoing: &Outgoing,
        on_replay: impl Fn(),
    ) -> Result<Answer, Failure> {
        if let Some(sender) = self.take_idle() {
            match self.attempt(sender, channel, outgoing).await {
                Ok(answer) => return Ok(answer),
                Err(AttemptError::Failed(failure)) => return Err(failure),
                Err(AttemptError::Replayable(_)) => on_replay(),
            }
        }
        // Go's `shouldRetryRequest`: a fresh connection has no reason to hang up, so there is no second replay.
        let connection = self.dialer.dial().await?;
        let (sender, connection) =
            http1::handshake(connection).await.map_err(|error| Failure::from_error(&error))?;
        // It ends with its sender; its errors reach the request in flight.
        tokio::spawn(connection);
        self.attempt(sender, channel, outgoing).await.map_err(AttemptError::into_failure)
    }

    /// Go's net/http replays on a used connection if nothing was written (`nothingWrittenError`), and for idempotent
    /// requests also if the server closed it before the first byte of an answer (`errServerClosedIdle`,
    /// `transportReadFromServerError`). hyper does not tell an absent answer from one cut within its head; for
    /// an idempotent request both are safe.
    async fn attempt(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        channel: &Channel,
        outgoing: &Outgoing,
    ) -> Result<Answer, AttemptError> {
        let request = channel.request(outgoing).map_err(AttemptError::Failed)?;
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                let is_unsent = error.take_message().is_some();
                let failure = Failure::from_error(error.error());
                let is_hang_up = matches!(failure.kind, FailureKind::Closed | FailureKind::Reset);
                return Err(if is_unsent || (is_hang_up && outgoing.is_idempotent()) {
                    AttemptError::Replayable(failure)
                } else {
                    AttemptError::Failed(failure)
                });
            }
        };
        let answer = read(response).await.map_err(AttemptError::Failed)?;
        self.put_back(sender);
        Ok(answer)
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        // One that was just put back may not be ready yet; the most recently used ready one is taken, as in Go.
        let index = idle.iter().rposition(SendRequest::is_ready)?;
        Some(idle.remove(index))
    }

    fn put_back(&self, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(sender);
        }
    }
}
