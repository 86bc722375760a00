//! Attempts counted on a clock that does not run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http_body_util::BodyExt as _;
use tower::service_fn;

use super::*;

/// What the server does at each attempt; the last one repeats.
#[derive(Clone, Copy)]
enum Does {
    Answer(u16),
    AskFor(u16, u64),
    Reset,
    Hang,
}

fn request(method: Method, content_type: Option<&str>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri("/api/v1/pods");
    if let Some(content_type) = content_type {
        request = request.header(CONTENT_TYPE, content_type);
    }
    request.body(Body::from(b"{}".to_vec())).unwrap()
}

/// The outcome as a status, or as text, and the number of attempts.
async fn send(
    patience: Patience,
    does: &'static [Does],
    request: Request<Body>,
) -> (Result<u16, String>, u32) {
    let attempts = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&attempts);
    let server = service_fn(move |_: Request<Body>| {
        let attempt = usize::try_from(count.fetch_add(1, Ordering::Relaxed)).unwrap();
        let does = does[attempt.min(does.len() - 1)];
        async move {
            match does {
                Does::Answer(status) => Ok(Response::builder().status(status).body(Body::empty()).unwrap()),
                Does::AskFor(status, seconds) => Ok(Response::builder()
                    .status(status)
                    .header(RETRY_AFTER, seconds)
                    .body(Body::empty())
                    .unwrap()),
                Does::Reset => Err(BoxError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset))),
                Does::Hang => std::future::pending().await,
            }
        }
    });
    let outcome = patience.layer(server).oneshot(request).await;
    let outcome = outcome.map(|response| response.status().as_u16()).map_err(|error| error.to_string());
    (outcome, attempts.load(Ordering::Relaxed))
}

const PATIENT: Patience = Patience { total: Duration::from_secs(10), timeout: None };

#[tokio::test(start_paused = true)]
async fn tries_again_what_cannot_be_done_twice() {
    use Does::{Answer, AskFor, Reset};
    let get = || request(Method::GET, None);
    let post = || request(Method::POST, None);
    let apply = || request(Method::PATCH, Some("application/apply-patch+yaml"));
    let merge = || request(Method::PATCH, Some("application/merge-patch+json"));
    for (name, does, request, expected) in [
        ("a read that was cut", &[Reset, Reset, Answer(200)] as &'static [Does], get(), (Ok(200), 3)),
        ("a read, busy", &[Answer(503), Answer(429), Answer(200)], get(), (Ok(200), 3)),
        ("a read, 500", &[Answer(500), Answer(200)], get(), (Ok(500), 1)),
        ("an apply that was cut", &[Reset, Answer(200)], apply(), (Ok(200), 2)),
        ("a create that was cut", &[Reset, Answer(201)], post(), (Err("connection reset by peer".into()), 1)),
        ("a merge that was cut", &[Reset, Answer(200)], merge(), (Err("connection reset by peer".into()), 1)),
        ("a create, 503 of a load balancer", &[Answer(503), Answer(201)], post(), (Ok(503), 1)),
        ("a create, refused with Retry-After", &[AskFor(503, 1), Answer(201)], post(), (Ok(201), 2)),
        ("a create, too many requests", &[Answer(429), Answer(201)], post(), (Ok(201), 2)),
    ] {
        let (outcome, attempts) = send(PATIENT, does, request).await;
        let outcome = outcome
            .map_err(|text| if text.contains("reset") { "connection reset by peer".into() } else { text });
        assert_eq!((outcome, attempts), expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn patience_ends() {
    let begin = Instant::now();
    let (outcome, attempts) = send(PATIENT, &[Does::Reset], request(Method::GET, None)).await;
    assert!(outcome.is_err());
    let took = begin.elapsed();
    assert!((Duration::from_secs(7)..=Duration::from_secs(10)).contains(&took), "{took:?}");
    assert!((6..40).contains(&attempts), "{attempts}");
    // A server that asks for more than there is gets no second request.
    let (outcome, attempts) = send(PATIENT, &[Does::AskFor(503, 60)], request(Method::GET, None)).await;
    assert_eq!((outcome, attempts), (Ok(503), 1));
    let once = Patience { total: Duration::ZERO, timeout: None };
    let (_, attempts) = send(once, &[Does::Reset], request(Method::GET, None)).await;
    assert_eq!(attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_believed_of_a_server_that_is_ready() {
    // Begins to know its roles after so many answers: until then it refuses everybody, also who asks whether it is ready.
    for (loaded_after, is_allowed, expected) in [
        (0, true, Ok(200)),
        (0, false, Ok(403)),
        (5, true, Ok(200)),
        (5, false, Ok(403)),
        (
            u32::MAX,
            true,
            Err("POST /api/v1/pods is forbidden by an API server that does not say that it is ready"),
        ),
    ] {
        let answers = Arc::new(AtomicU32::new(0));
        let server = service_fn(move |request: Request<Body>| {
            let loaded = answers.fetch_add(1, Ordering::Relaxed) >= loaded_after;
            let allowed = loaded && (is_allowed || request.uri().path() == "/readyz");
            let status = if allowed { 200 } else { 403 };
            std::future::ready(Ok::<_, BoxError>(Response::builder().status(status).body(()).unwrap()))
        });
        let outcome = PATIENT.layer(server).oneshot(request(Method::POST, None)).await;
        match (outcome.map(|response| response.status().as_u16()), expected) {
            (Ok(status), Ok(expected)) => assert_eq!(status, expected, "{loaded_after} {is_allowed}"),
            (Err(error), Err(text)) => {
                assert!(error.to_string().starts_with(text), "{error}");
                // The callers of this layer ask again: for them it is like a server that is away.
                assert!(crate::api::is_transient(&kube::Error::Service(error)));
            }
            (outcome, _) => panic!("{loaded_after} {is_allowed}: {outcome:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_request_timeout_holds_over_all_attempts() {
    let limited = Patience { total: Duration::from_secs(60), timeout: Some(Duration::from_secs(3)) };
    for does in [&[Does::Hang] as &'static [Does], &[Does::Reset]] {
        let begin = Instant::now();
        let (outcome, _) = send(limited, does, request(Method::GET, None)).await;
        assert_eq!(outcome.unwrap_err(), "no answer within the request timeout of 3s");
        assert_eq!(begin.elapsed().as_secs(), 3);
    }
}

/// A body that never ends.
struct Endless;

impl http_body::Body for Endless {
    type Data = hyper::body::Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, BoxError>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn the_request_timeout_holds_for_bodies_but_watches() {
    let limited = Patience { total: Duration::ZERO, timeout: Some(Duration::from_secs(3)) };
    for (uri, ends) in [
        ("/api/v1/pods", true),
        ("/api/v1/pods?limit=1&watch=true", false),
        ("/api/v1/namespaces/a/pods/b/log?follow=true", false),
    ] {
        let server = service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Endless)) });
        let request = Request::builder().uri(uri).body(Body::empty()).unwrap();
        let response = limited.layer(server).oneshot(request).await.unwrap();
        let body = tokio::time::timeout(Duration::from_secs(100), response.into_body().collect()).await;
        assert_eq!(body.is_ok(), ends, "{uri}");
    }
}

#[test]
fn jitter_stays_in_its_bounds() {
    let pause = Duration::from_secs(2);
    let all: Vec<Duration> = (0..200).map(|_| jittered(pause)).collect();
    assert!(all.iter().all(|it| (Duration::from_secs(1)..=pause).contains(it)));
    assert!(all.iter().any(|it| it != &all[0]));
}
