//! Trying a request again, inside limits of time.
//!
//! Invariant: a request is sent a second time only when the first cannot have had an effect, or when doing it twice is
//! the same as doing it once. A refusal is believed only of a server that is ready: one that has just been started
//! knows no roles yet, and refuses everybody.

use std::future::Future;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use kube::client::Body;
use tokio::time::{Instant, Sleep};
use tower::{BoxError, Layer, Service, ServiceExt as _};

use super::trouble::Trouble;

#[cfg(test)]
mod tests;

/// The first pause; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between two attempts, unless the server asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long to go on with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long after the first attempt another one may begin; zero for a single attempt.
    pub total: Duration,
    /// How long a request may take with its response's body, attempts included; `None` for no limit. Watches and logs
    /// that are followed have no end by nature: for them only the response's head counts.
    pub timeout: Option<Duration>,
}

/// The limit of `--request-timeout` was reached.
#[derive(Debug, thiserror::Error)]
#[error("no answer within the request timeout of {0:?}")]
pub(super) struct OutOfTime(Duration);

/// Every right was refused by a server that does not say that it is ready.
#[derive(Debug, thiserror::Error)]
#[error(
    "{method} {path} is forbidden by an API server that does not say that it is ready, and may know no roles yet"
)]
pub(super) struct NotReady {
    method: Method,
    path: String,
}

impl<S> Layer<S> for Patience {
    type Service = Patient<S>;

    fn layer(&self, inner: S) -> Patient<S> {
        Patient { inner, patience: *self }
    }
}

/// A service that tries again.
#[derive(Clone)]
pub struct Patient<S> {
    inner: S,
    patience: Patience,
}

impl<S, B> Service<Request<Body>> for Patient<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Timed<B>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Each attempt waits for the inner service by itself.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (inner, patience) = (self.inner.clone(), self.patience);
        Box::pin(async move {
            let limit = patience.timeout.map(|timeout| (timeout, Instant::now() + timeout));
            let endless = is_endless(&request);
            let response = match limit {
                Some((timeout, deadline)) => {
                    tokio::time::timeout_at(deadline, attempts(inner, request, patience.total))
                        .await
                        .map_err(|_| OutOfTime(timeout))??
                }
                None => attempts(inner, request, patience.total).await?,
            };
            let limit = limit.filter(|_| !endless);
            Ok(response.map(|body| Timed {
                body,
                limit: limit
                    .map(|(timeout, deadline)| (timeout, Box::pin(tokio::time::sleep_until(deadline)))),
            }))
        })
    }
}

async fn attempts<S, B>(inner: S, request: Request<Body>, total: Duration) -> Result<Response<B>, BoxError>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Clone,
{
    let give_up = Instant::now() + total;
    let mut pause = FIRST_PAUSE;
    let mut request = Some(request);
    // A refusal counts when the server had said before that it is ready.
    let mut was_ready = false;
    loop {
        let Some(this) = request.take() else { unreachable!("the last attempt returns") };
        request = copy(&this);
        let effect = Effect::of(&this);
        let (method, path) = (this.method().clone(), this.uri().path().to_owned());
        let mut outcome = inner.clone().oneshot(this).await;
        let mut verdict = asked_pause(&outcome, effect);
        let is_refused = outcome.as_ref().is_ok_and(|answer| answer.status() == StatusCode::FORBIDDEN);
        if is_refused && !was_ready {
            was_ready = is_ready(inner.clone()).await;
            verdict = Verdict::Again;
            if !was_ready {
                outcome = Err(NotReady { method: method.clone(), path: path.clone() }.into());
            }
        }
        let wait = match verdict {
            Verdict::Done => return outcome,
            Verdict::Again => jittered(pause),
            Verdict::After(asked) => asked,
        };
        if request.is_none() || give_up < Instant::now() + wait {
            return outcome;
        }
        let reason = match &outcome {
            Ok(response) => response.status().to_string(),
            Err(error) => super::trouble::cause(&**error),
        };
        tracing::info!("{method} {path}: {reason}; trying again in {wait:?}");
        tokio::time::sleep(wait).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether the server says that it is ready. Everybody may ask: by Kubernetes' own roles, once it knows them
/// (<https://kubernetes.io/docs/reference/access-authn-authz/rbac/#discovery-roles>).
async fn is_ready<S, B>(inner: S) -> bool
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
{
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = http::Uri::from_static("/readyz");
    inner.oneshot(request).await.is_ok_and(|answer| answer.status() == StatusCode::OK)
}

/// Whether sending a request twice may do what sending it once does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// No: it reads, or it is a server-side apply.
    Same,
    /// Perhaps.
    Other,
}

impl Effect {
    fn of<B>(request: &Request<B>) -> Self {
        let apply = request
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|t| t.as_bytes().starts_with(b"application/apply-patch"));
        match *request.method() {
            Method::GET | Method::HEAD => Self::Same,
            Method::PATCH if apply => Self::Same,
            _ => Self::Other,
        }
    }
}

/// What to do after an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is the answer.
    Done,
    /// Try again after a pause of our choice.
    Again,
    /// Try again after the pause that the server asked for.
    After(Duration),
}

fn asked_pause<B>(outcome: &Result<Response<B>, BoxError>, effect: Effect) -> Verdict {
    match outcome {
        Ok(response) => {
            let asked = response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok())
                .map(Duration::from_secs);
            match (response.status(), asked) {
                // The server did nothing with the request, and says so.
                (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(asked)) => {
                    Verdict::After(asked)
                }
                (StatusCode::TOO_MANY_REQUESTS, None) => Verdict::Again,
                (
                    StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT,
                    _,
                ) if effect == Effect::Same => Verdict::Again,
                _ => Verdict::Done,
            }
        }
        Err(error) => {
            let unsent = error
                .downcast_ref::<hyper_util::client::legacy::Error>()
                .is_some_and(hyper_util::client::legacy::Error::is_connect);
            let may_pass = Trouble::of_chain(&**error).may_pass();
            if may_pass && (unsent || effect == Effect::Same) { Verdict::Again } else { Verdict::Done }
        }
    }
}

/// A copy to send again; `None` for a body that is a stream.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

/// Whether the response has no end by nature.
fn is_endless<B>(request: &Request<B>) -> bool {
    request.uri().query().is_some_and(|query| {
        query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1" | "follow=true"))
    })
}

/// Between half of `pause` and all of it, so that clients which failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    // The standard library's hasher is seeded at random: enough for this, and no dependency.
    let random = RandomState::new().build_hasher().finish();
    let share = f64::from(u32::try_from(random & 0xffff).unwrap_or_default()) / 65536.0;
    pause.mul_f64(0.5 + share / 2.0)
}

/// A body that must end before a deadline.
pub struct Timed<B> {
    body: B,
    limit: Option<(Duration, Pin<Box<Sleep>>)>,
}

impl<B> http_body::Body for Timed<B>
where
    B: http_body::Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if let Some((timeout, sleep)) = &mut self.limit
            && sleep.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Some(Err(OutOfTime(*timeout).into())));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
