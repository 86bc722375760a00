//! What the API server asks over HTTP: `POST /validate?timeout=2s`.
//!
//! Invariant: no answer quotes what was sent.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::timeout_at;

use super::{Guard, Workers};
use crate::metrics::{Outcome, operation_of};
use crate::review::{Answer, Head, Review};

/// Where reviews are sent.
const PATH: &str = "/validate";

/// The longest review: an update of a Secret has it twice, each up to 1 MiB of base64 with room for metadata and managed
/// fields. controller-runtime takes as much.
const BODY: usize = 7 << 20;

/// What the API server waits where it does not say: the default of a registration.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is left of the time for the way back: a tenth, and no more than this.
const WAY_BACK: Duration = Duration::from_millis(100);

/// Why a request is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Client,
    Path,
    Method,
    ContentType,
    TooLong,
    Slow,
    Broken,
    NotAReview(crate::review::NotAReview),
}

impl Refusal {
    const fn status(self) -> StatusCode {
        match self {
            Self::Client => StatusCode::FORBIDDEN,
            Self::Path => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken | Self::NotAReview(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// What it is called in metrics.
    const fn kind(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Path => "path",
            Self::Method => "method",
            Self::ContentType => "content-type",
            Self::TooLong => "too-long",
            Self::Slow => "slow",
            Self::Broken => "broken",
            Self::NotAReview(_) => "not-a-review",
        }
    }

    fn text(self) -> String {
        match self {
            Self::Client => "the client's certificate is of nobody that this guard serves".to_owned(),
            Self::Path => format!("reviews are sent to {PATH}"),
            Self::Method => "reviews are sent with POST".to_owned(),
            Self::ContentType => "reviews are sent as application/json".to_owned(),
            Self::TooLong => format!("a review has at most {BODY} bytes"),
            Self::Slow => "the review took too long to arrive".to_owned(),
            Self::Broken => "the review broke off".to_owned(),
            Self::NotAReview(error) => error.to_string(),
        }
    }
}

/// The answer to a request of a client that may ask, or may not.
pub(super) async fn answer(
    request: Request<Incoming>,
    admitted: bool,
    guard: &Guard,
    workers: &Workers,
) -> Response<Full<Bytes>> {
    let deadline = Instant::now() + time(request.uri().query());
    let announced = usize::try_from(request.body().size_hint().upper().unwrap_or(u64::MAX)).unwrap_or(BODY);
    let room = timeout_at(deadline.into(), workers.room.take(announced.min(BODY))).await;
    let received = match room {
        Ok(_) => receive(request, admitted, deadline).await,
        Err(_) => Err(Refusal::Slow),
    };
    match received {
        Ok(review) => json(review_answer(&review, deadline, guard, workers).await),
        Err(refusal) => {
            guard.metrics.refused(refusal.kind());
            tracing::warn!(reason = refusal.kind(), "a request was refused");
            text(refusal)
        }
    }
}

async fn receive(request: Request<Incoming>, admitted: bool, deadline: Instant) -> Result<Review, Refusal> {
    if !admitted {
        return Err(Refusal::Client);
    }
    if request.uri().path() != PATH {
        return Err(Refusal::Path);
    }
    if request.method() != Method::POST {
        return Err(Refusal::Method);
    }
    if !is_json(request.headers()) {
        return Err(Refusal::ContentType);
    }
    // Announced, it need not be sent.
    if request.body().size_hint().lower() > BODY as u64 {
        return Err(Refusal::TooLong);
    }
    let body = timeout_at(deadline.into(), Limited::new(request.into_body(), BODY).collect()).await;
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Refusal::TooLong),
        Ok(Err(_)) => return Err(Refusal::Broken),
        Err(_) => return Err(Refusal::Slow),
    };
    Review::parse(&body).map_err(Refusal::NotAReview)
}

/// The answer to a review, which is one in any case.
async fn review_answer(review: &Review, deadline: Instant, guard: &Guard, workers: &Workers) -> Vec<u8> {
    let begun = Instant::now();
    let uid = &review.head.uid;
    let verdict = match workers.submit(review.request.clone(), deadline) {
        Ok(verdict) => {
            timeout_at(deadline.into(), verdict).await.map_err(|_| "it had no time for the review")
        }
        Err(_) => Err("it has more reviews than it can answer in time"),
    };
    let (outcome, answer) = match verdict {
        Ok(Ok(Ok(verdict))) => {
            let outcome = if verdict.accepted { Outcome::Allowed } else { Outcome::Denied };
            log(
                &review.head,
                outcome,
                [verdict.rules("denied"), verdict.rules("warned"), verdict.rules("approved")],
                "",
            );
            (outcome, Answer::verdict(uid, verdict))
        }
        Ok(Ok(Err(error))) => {
            guard.metrics.failed(error.kind());
            log(&review.head, Outcome::Failed, [""; 3], &error.to_string());
            (Outcome::Failed, Answer::failed(uid, &error))
        }
        // Its worker is gone, which takes the process along; until then nobody evaluates.
        Ok(Err(_)) => (Outcome::Shed, Answer::shed(uid, "it ends")),
        Err(reason) => {
            log(&review.head, Outcome::Shed, [""; 3], reason);
            (Outcome::Shed, Answer::shed(uid, reason))
        }
    };
    guard.metrics.review(&review.head.resource.resource, &review.head.operation, outcome, begun.elapsed());
    answer.json()
}

/// Names, the uid, and the ids of rules.
fn log(head: &Head, outcome: Outcome, [denied, warned, approved]: [&str; 3], error: &str) {
    macro_rules! log {
        ($level:ident) => {
            tracing::$level!(
                uid = head.uid,
                operation = operation_of(&head.operation),
                resource = head.resource.resource,
                subresource = head.sub_resource.as_deref().unwrap_or_default(),
                namespace = head.namespace.as_deref().unwrap_or_default(),
                name = head.name.as_deref().unwrap_or_default(),
                outcome = outcome.as_str(),
                denied,
                warned,
                approved,
                error,
                "review"
            )
        };
    }
    match outcome {
        Outcome::Allowed if warned.is_empty() && approved.is_empty() => log!(debug),
        Outcome::Allowed | Outcome::Denied => log!(info),
        Outcome::Shed => log!(warn),
        Outcome::Failed => log!(error),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = media.split_once(';').map_or(media, |(media, _)| media);
    media.trim().eq_ignore_ascii_case("application/json")
}

/// How long there is for an answer.
fn time(query: Option<&str>) -> Duration {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let told = pairs.filter(|(name, _)| *name == "timeout").find_map(|(_, value)| duration(value));
    let timeout = told.unwrap_or(TIMEOUT).min(TIMEOUT * 3);
    timeout.saturating_sub((timeout / 10).min(WAY_BACK))
}

/// A duration as Go writes it, as far as an API server has use for it: `2s`, `1m30s`, `500ms`, `1.5s`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit_end = rest[number..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| number + at);
        let unit = match &rest[number..unit_end] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            _ => return None,
        };
        total += rest[..number].parse::<f64>().ok()? * unit;
        rest = &rest[unit_end..];
    }
    Duration::try_from_secs_f64(total).ok().filter(|time| !time.is_zero())
}

fn json(body: Vec<u8>) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, HeaderValue::from_static("application/json"), body.into())
}

fn text(refusal: Refusal) -> Response<Full<Bytes>> {
    let body = Bytes::from(format!("{}\n", refusal.text()));
    let mut response = respond(refusal.status(), HeaderValue::from_static("text/plain; charset=utf-8"), body);
    if refusal == Refusal::Method {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

pub(super) fn respond(status: StatusCode, media: HeaderValue, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, media);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_servers_timeout_is_kept() {
        let milliseconds = |query: &str| time(Some(query)).as_millis();
        for (query, expected) in [
            ("timeout=2s", 1900),
            ("timeout=500ms", 450),
            ("a=b&timeout=1m30s", 29_900),
            ("timeout=1.5s", 1400),
            ("timeout=", 9900),
            ("timeout=0s", 9900),
            ("timeout=s", 9900),
            ("timeout=-2s", 9900),
            ("timeout=2h", 9900),
            ("", 9900),
        ] {
            assert_eq!(milliseconds(query), expected, "{query}");
        }
    }

    #[test]
    fn json_is_told_with_parameters_or_without() {
        for (media, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/jsonp", false),
            ("text/plain", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media))]);
            assert_eq!(is_json(&headers), expected, "{media}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
