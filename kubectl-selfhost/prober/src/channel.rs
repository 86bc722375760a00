//! How the requests of one stream reach their target: the three ways to use connections.
//!
//! Invariant: a request is sent at most twice, and the second time only if the server provably did not process
//! the first, or where Go's transport takes the same risk for idempotent requests.

use http::header::RETRY_AFTER;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};

use crate::config::{Config, Mode, Target};
use crate::dial::Dialer;
use crate::failure::{Failure, FailureKind};
use crate::request::Outgoing;
use crate::tally::Verdict;

mod http1;
mod http2;

/// Enough of an answer's body for its message; Kubernetes puts it first.
const MESSAGE_BYTES: usize = 400;

/// The way of one stream to its target.
pub(crate) struct Channel {
    mode: Mode,
    authority: String,
    headers: HeaderMap,
    transport: Transport,
}

enum Transport {
    New(Dialer),
    Http2(http2::Shared),
    Http1(http1::Pool),
}

/// An answer, read to its end.
struct Answer {
    status: StatusCode,
    asks_to_retry: bool,
    message: String,
}

/// Why an attempt has no answer.
enum AttemptError {
    /// Safe to send again on another connection.
    Replayable(Failure),
    Failed(Failure),
}

impl Channel {
    pub(crate) fn new(config: &Config, target: &Target, mode: Mode) -> Self {
        let dialer = Dialer::new(config, target, mode);
        Self {
            mode,
            authority: target.authority.clone(),
            headers: config.headers.clone(),
            transport: match mode {
                Mode::New => Transport::New(dialer),
                Mode::Reused => Transport::Http2(http2::Shared::new(dialer)),
                Mode::ReusedHttp1 => Transport::Http1(http1::Pool::new(dialer)),
            },
        }
    }

    /// Sends a request and reads the whole answer; `on_replay` is called when it is sent a second time.
    pub(crate) async fn send(&self, outgoing: &Outgoing, on_replay: impl Fn()) -> Verdict {
        let answer = match &self.transport {
            Transport::New(dialer) => http1::send_once(dialer, self, outgoing).await,
            Transport::Http2(shared) => shared.send(self, outgoing, on_replay).await,
            Transport::Http1(pool) => pool.send(self, outgoing, on_replay).await,
        };
        match answer {
            Ok(answer) => judge(answer, outgoing),
            Err(failure) => Verdict::Failed(failure),
        }
    }

    fn request(&self, outgoing: &Outgoing) -> Result<Request<Full<Bytes>>, Failure> {
        outgoing
            .to_request(self.mode, &self.authority, &self.headers)
            .map_err(|error| Failure::from_error(&error))
    }
}

impl AttemptError {
    fn into_failure(self) -> Failure {
        match self {
            Self::Replayable(failure) | Self::Failed(failure) => failure,
        }
    }
}

fn judge(answer: Answer, outgoing: &Outgoing) -> Verdict {
    let Answer { status, asks_to_retry, message } = answer;
    if outgoing.accepts(status) {
        Verdict::Ok
    } else if asks_to_retry {
        Verdict::RetryAfter
    } else {
        let text = format!("{status}: {message}");
        Verdict::Failed(Failure::new(FailureKind::Status(status.as_u16()), text))
    }
}

/// Reads the body to its end: an answer that breaks off is not an answer.
async fn read(response: Response<Incoming>) -> Result<Answer, Failure> {
    let (head, mut body) = response.into_parts();
    let is_failure = !head.status.is_success();
    let mut message = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                let data = frame.data_ref().map_or(&[][..], |data| &data[..]);
                let room = MESSAGE_BYTES - message.len();
                if is_failure {
                    message.extend_from_slice(&data[..data.len().min(room)]);
                }
            }
            // The status says more about a failure than how its explanation was cut short.
            Err(_) if is_failure => break,
            Err(error) => return Err(Failure::from_error(&error)),
        }
    }
    Ok(Answer {
        status: head.status,
        asks_to_retry: asks_to_retry(head.status, &head.headers),
        message: String::from_utf8_lossy(&message).into_owned(),
    })
}

/// client-go (`checkWait` in `rest/with_retry.go`) retries only when the header is a whole number of seconds.
///
/// It does so for any 5xx; here only the two statuses by which an API server sheds load or shuts down count.
fn asks_to_retry(status: StatusCode, headers: &HeaderMap) -> bool {
    let sheds = status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE;
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    sheds && seconds.is_some_and(|seconds| seconds.parse::<u32>().is_ok())
}
