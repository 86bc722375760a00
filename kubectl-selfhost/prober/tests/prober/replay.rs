//! Which requests are sent a second time, and which are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use selfhost_prober::{Load, Mode, Report};
use tokio::io::AsyncWriteExt;

use crate::pki::Pki;
use crate::raw_http2::{REFUSED_STREAM, RawHttp2};
use crate::server::{self, Server, drain, ok, read_some};
use crate::{config, config_of, failures, only, run, writes};

const REQUESTS: u64 = 10;

/// (ok, failed, replayed)
fn outcome(report: &Report) -> (u64, u64, u64) {
    let counts = report.total.counts;
    (counts.ok, counts.failed, counts.replayed)
}

/// An HTTP/2 server that does something bad to the first request of its first connection, and serves the rest.
async fn bad_at_first<F>(
    pki: &Pki,
    bad: impl Fn(RawHttp2, u32) -> F + Clone + Send + Sync + 'static,
) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    bad_for(pki, 1, bad).await
}

/// The same for the first requests of the first `n` connections.
async fn bad_for<F>(
    pki: &Pki,
    n: u64,
    bad: impl Fn(RawHttp2, u32) -> F + Clone + Send + Sync + 'static,
) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let connections = Arc::new(AtomicU64::new(0));
    server::tls(pki.server("h2"), move |stream| {
        let is_bad = connections.fetch_add(1, Ordering::Relaxed) < n;
        let bad = bad.clone();
        async move {
            let mut http2 = RawHttp2::accept(stream).await;
            while let Some(request) = http2.next_request().await {
                if is_bad {
                    return bad(http2, request).await;
                }
                http2.answer_ok(request).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_request_above_the_last_stream_of_goaway_is_replayed() {
    let pki = Pki::new();
    for load in [Load::reads(Mode::Reused, 1, 50.0), writes(Mode::Reused)] {
        let server = bad_at_first(&pki, |mut http2, _| async move {
            http2.go_away(0).await;
            http2.close().await;
        })
        .await;
        let report = run(config_of(&pki, server.address, load, REQUESTS)).await;
        assert_eq!(outcome(&report), (REQUESTS, 0, 1), "{report}");
    }
}

#[tokio::test]
async fn a_refused_stream_is_replayed() {
    let pki = Pki::new();
    let server = bad_at_first(&pki, |mut http2, request| async move {
        http2.reset(request, REFUSED_STREAM).await;
        while http2.next_request().await.is_some() {}
    })
    .await;
    let report = run(config(&pki, server.address, Mode::Reused, REQUESTS)).await;
    assert_eq!(outcome(&report), (REQUESTS, 0, 1), "{report}");
}

#[tokio::test]
async fn a_request_is_replayed_once_only() {
    let pki = Pki::new();
    let server = bad_for(&pki, 2, |mut http2, _| async move {
        http2.go_away(0).await;
        http2.close().await;
    })
    .await;
    let report = run(config(&pki, server.address, Mode::Reused, REQUESTS)).await;
    assert_eq!(outcome(&report), (REQUESTS - 1, 1, 1), "{report}");
    assert_eq!(failures(&report), only("closed", 1), "{report}");
}

#[tokio::test]
async fn a_request_that_the_server_may_have_processed_is_not_replayed() {
    let pki = Pki::new();
    let server = bad_at_first(&pki, |mut http2, request| async move {
        http2.go_away(request).await;
        http2.close().await;
    })
    .await;
    let report = run(config(&pki, server.address, Mode::Reused, REQUESTS)).await;
    assert_eq!(outcome(&report), (REQUESTS - 1, 1, 0), "{report}");
    assert_eq!(failures(&report), only("closed", 1), "{report}");
}

#[tokio::test]
async fn a_connection_that_closes_while_idle_costs_nothing() {
    let pki = Pki::new();
    // Every connection is closed without a word after its first answer.
    let server = server::tls(pki.server("h2"), |stream| async move {
        let mut http2 = RawHttp2::accept(stream).await;
        if let Some(request) = http2.next_request().await {
            http2.answer_ok(request).await;
            http2.close().await;
        }
    })
    .await;
    let report = run(config_of(
        &pki,
        server.address,
        Load::reads(Mode::Reused, 1, 5.0),
        5,
    ))
    .await;
    assert_eq!(
        (report.total.counts.ok, report.total.counts.failed),
        (5, 0),
        "{report}"
    );
}

#[tokio::test]
async fn a_graceful_shutdown_under_load_fails_nothing() {
    let pki = Pki::new();
    // Each connection is shut down in order (two GOAWAYs) every 150 ms, with answers still out.
    let connections = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&connections);
    let server = server::tls(pki.server("h2"), move |stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            let service = service_fn(|_| async {
                tokio::time::sleep(Duration::from_millis(60)).await;
                Ok::<_, std::convert::Infallible>(ok())
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = tokio::time::sleep(Duration::from_millis(150)) => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
        }
    })
    .await;
    let load = Load::reads(Mode::Reused, 3, 50.0);
    let report = run(config_of(&pki, server.address, load, 225).timeout(Duration::from_secs(10))).await;
    assert_eq!(
        (report.total.counts.ok, report.total.counts.failed),
        (225, 0),
        "{report}"
    );
    assert!(
        connections.load(Ordering::Relaxed) >= 6,
        "the test shut nothing down"
    );
}

/// Answers the first request of each connection and hangs up on the second.
async fn one_answer_per_connection(pki: &Pki) -> Server {
    server::tls(pki.server("http/1.1"), |mut stream| async move {
        read_some(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap();
        read_some(&mut stream).await;
        stream.shutdown().await.unwrap();
        drain(stream).await;
    })
    .await
}

#[tokio::test]
async fn over_http1_only_idempotent_requests_are_replayed() {
    let pki = Pki::new();
    let server = one_answer_per_connection(&pki).await;
    // Slow enough that no two requests are out at once.
    let report = run(config_of(
        &pki,
        server.address,
        Load::reads(Mode::ReusedHttp1, 1, 4.0),
        6,
    ))
    .await;
    assert_eq!(outcome(&report), (6, 0, 5), "{report}");

    let mut load = writes(Mode::ReusedHttp1);
    load = load.rate(4.0);
    let report = run(config_of(&pki, server.address, load, 6)).await;
    assert_eq!(outcome(&report), (3, 3, 0), "{report}");
    assert_eq!(failures(&report), only("closed", 3), "{report}");
}

#[tokio::test]
async fn http1_connections_are_reused() {
    let pki = Pki::new();
    let connections = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&connections);
    let server = server::tls(pki.server("http/1.1"), move |stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            let service = service_fn(|_| async {
                Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from_static(b"{}"))))
            });
            let io = TokioIo::new(stream);
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(io, service)
                .await;
        }
    })
    .await;
    let report = run(config_of(
        &pki,
        server.address,
        Load::reads(Mode::ReusedHttp1, 1, 10.0),
        10,
    ))
    .await;
    assert_eq!(outcome(&report), (10, 0, 0), "{report}");
    // A slow moment of the machine may overlap two requests, which takes a second connection.
    assert!(connections.load(Ordering::Relaxed) < 5, "{connections:?}");
}
