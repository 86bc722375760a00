//! HTTP/2: one connection shared by the requests of a stream, as in client-go.
//!
//! Which requests are replayed follows `canRetryError` in golang.org/x/net/http2: it retries
//! - `errClientConnUnusable`: the connection was closing before the request was written. hyper gives such a
//!   request back ([`TrySendError::take_message`]);
//! - `errClientConnGotGoAway`: GOAWAY with a last stream id below this request's. h2 ends exactly those streams with
//!   a remote GOAWAY error and leaves the others alone;
//! - `REFUSED_STREAM`: the server says that it did not process the request.
//!
//! Writes are included: client-go's bodies can be read again (`GetBody`). Everything else (reset, end of file,
//! timeout) is an error to the caller of Go's transport, and a failure here.
//!
//! Differences: Go pauses and tries again up to seven times, we do what it does at once, a single time. Go does not
//! retry the first stream of a connection that got GOAWAY with an error code, we do: the server has not
//! processed that one either. Above the transport client-go repeats GETs after a reset or a lost connection
//! (`rest/request.go`); here they count as failed.
//!
//! [`TrySendError::take_message`]: hyper::client::conn::TrySendError::take_message

use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::watch;

use super::{Answer, AttemptError, Channel, read};
use crate::dial::Dialer;
use crate::failure::{Failure, FailureKind, http2_error};
use crate::request::Outgoing;

/// `readIdleTimeoutSeconds` and `pingTimeoutSeconds` of apimachinery (`pkg/util/net/http.go`): a connection whose peer
/// vanished without a word is given up after both.
const READ_IDLE: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// Nothing while dialing, then the connection or why there is none.
type Dial = Option<Result<SendRequest<Full<Bytes>>, Failure>>;

/// The present connection of a stream.
pub(super) struct Shared {
    dialer: Dialer,
    current: Mutex<Option<watch::Receiver<Dial>>>,
}

impl Shared {
    pub(super) fn new(dialer: Dialer) -> Self {
        Self { dialer, current: Mutex::new(None) }
    }

    pub(super) async fn send(
        &self,
        channel: &Channel,
        outgoing: &Outgoing,
        on_replay: impl Fn(),
    ) -> Result<Answer, Failure> {
        let dial = self.current_or_dial();
        match attempt(dial.clone(), channel, outgoing).await {
            Ok(answer) => return Ok(answer),
            Err(AttemptError::Failed(failure)) => return Err(failure),
            Err(AttemptError::Replayable(_)) => {}
        }
        self.retire(&dial);
        on_replay();
        attempt(self.current_or_dial(), channel, outgoing).await.map_err(AttemptError::into_failure)
    }

    /// Requests that come while a dial is under way share its outcome, as with Go's `dialCall`.
    fn current_or_dial(&self) -> watch::Receiver<Dial> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dial) = current.as_ref()
            && is_usable(dial)
        {
            return dial.clone();
        }
        let (sender, receiver) = watch::channel(None);
        *current = Some(receiver.clone());
        let dialer = self.dialer.clone();
        // A task of its own: a request that runs out of time must not take the dial from those behind it.
        tokio::spawn(async move {
            let connection = tokio::time::timeout(dialer.timeout, connect(&dialer)).await;
            let timeout = || Failure::new(FailureKind::Timeout, "connect: not done in time");
            // Nobody waits any more when all gave up.
            let _ = sender.send(Some(connection.unwrap_or_else(|_| Err(timeout()))));
        });
        receiver
    }

    /// Makes the next request dial, unless another one already did.
    fn retire(&self, dial: &watch::Receiver<Dial>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|current| current.same_channel(dial)) {
            *current = None;
        }
    }
}

fn is_usable(dial: &watch::Receiver<Dial>) -> bool {
    match dial.borrow().as_ref() {
        None => true,
        Some(Ok(sender)) => !sender.is_closed(),
        Some(Err(_)) => false,
    }
}

async fn connect(dialer: &Dialer) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let connection = dialer.dial().await?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(READ_IDLE)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(connection)
        .await
        .map_err(|error| Failure::from_error(&error))?;
    // It ends when its last request has; its errors reach the requests in flight.
    tokio::spawn(connection);
    Ok(sender)
}

async fn attempt(
    mut dial: watch::Receiver<Dial>,
    channel: &Channel,
    outgoing: &Outgoing,
) -> Result<Answer, AttemptError> {
    let dialed = dial.wait_for(Option::is_some).await.map(|dial| dial.clone());
    let Ok(Some(dialed)) = dialed else {
        let failure = Failure::new(FailureKind::Other, "connect: abandoned");
        return Err(AttemptError::Failed(failure));
    };
    let mut sender = dialed.map_err(AttemptError::Failed)?;
    let request = channel.request(outgoing).map_err(AttemptError::Failed)?;
    let response = match sender.try_send_request(request).await {
        Ok(response) => response,
        Err(mut error) => {
            let is_unsent = error.take_message().is_some();
            let failure = Failure::from_error(error.error());
            return Err(if is_unsent || is_unprocessed(error.error()) {
                AttemptError::Replayable(failure)
            } else {
                AttemptError::Failed(failure)
            });
        }
    };
    read(response).await.map_err(AttemptError::Failed)
}

fn is_unprocessed(error: &(dyn Error + 'static)) -> bool {
    http2_error(error).is_some_and(|error| {
        let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (error.is_go_away() || is_refused)
    })
}
