//! Which requests are sent a second time, and which are not.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use selfhost_prober::{Load, Mode, Report};
use tokio::io::AsyncWriteExt;

use crate::pki::Pki;
use crate::raw_http2::{REFUSED_STREAM, RawHttp2};
use crate::server::{self, Server, drain, ok, read_some};
use crate::{config_of, failures, only, run, writes};

/// (ok, failed, replayed)
fn outcome(report: &Report) -> (u64, u64, u64) {
    let counts = report.total.counts;
    (counts.ok, counts.failed, counts.replayed)
}

/// A single request to an HTTP/2 server that does something bad to the first request of its first `n` connections.
///
/// A single one, because a second could be on the same connection when the machine is slow, and be hit as well.
async fn one_request<F>(
    load: Load,
    n: u64,
    bad: impl Fn(RawHttp2, u32) -> F + Clone + Send + Sync + 'static,
) -> Report
where
    F: Future<Output = ()> + Send + 'static,
{
    let pki = Pki::new();
    let connections = Arc::new(AtomicU64::new(0));
    let server = server::tls(pki.server("h2"), move |stream| {
        let is_bad = connections.fetch_add(1, Ordering::Relaxed) < n;
        let bad = bad.clone();
        async move {
            let mut http2 = RawHttp2::accept(stream).await;
            let Some(request) = http2.next_request().await else {
                return;
            };
            if is_bad {
                bad(http2, request).await;
            } else {
                http2.answer_ok(request).await;
                http2.close().await;
            }
        }
    })
    .await;
    run(config_of(&pki, server.address, load, 1).timeout(Duration::from_secs(10))).await
}

fn reads() -> Load {
    Load::reads(Mode::Reused, 1, 50.0)
}

#[tokio::test]
async fn a_request_above_the_last_stream_of_goaway_is_replayed() {
    for load in [reads(), writes(Mode::Reused)] {
        let report = one_request(load, 1, |mut http2, _| async move {
            http2.go_away(0).await;
            http2.close().await;
        })
        .await;
        assert_eq!(outcome(&report), (1, 0, 1), "{report}");
    }
}

#[tokio::test]
async fn a_refused_stream_is_replayed() {
    for load in [reads(), writes(Mode::Reused)] {
        let report = one_request(load, 1, |mut http2, request| async move {
            http2.reset(request, REFUSED_STREAM).await;
            while http2.next_request().await.is_some() {}
        })
        .await;
        assert_eq!(outcome(&report), (1, 0, 1), "{report}");
    }
}

#[tokio::test]
async fn a_request_is_replayed_once_only() {
    let report = one_request(reads(), 2, |mut http2, _| async move {
        http2.go_away(0).await;
        http2.close().await;
    })
    .await;
    assert_eq!(outcome(&report), (0, 1, 1), "{report}");
    assert_eq!(failures(&report), only("closed", 1), "{report}");
}

#[tokio::test]
async fn a_request_that_the_server_may_have_processed_is_not_replayed() {
    let report = one_request(reads(), 1, |mut http2, request| async move {
        http2.go_away(request).await;
        http2.close().await;
    })
    .await;
    assert_eq!(outcome(&report), (0, 1, 0), "{report}");
    assert_eq!(failures(&report), only("closed", 1), "{report}");
}

#[tokio::test]
async fn a_connection_that_goes_away_after_its_answer_costs_nothing() {
    let pki = Pki::new();
    let server = server::tls(pki.server("h2"), |stream| async move {
        let mut http2 = RawHttp2::accept(stream).await;
        if let Some(request) = http2.next_request().await {
            // The server's last word comes first: whenever the next request is due, the client knows.
            http2.go_away(request).await;
            http2.answer_ok(request).await;
            http2.close().await;
        }
    })
    .await;
    let report = run(config_of(&pki, server.address, Load::reads(Mode::Reused, 1, 5.0), 3)).await;
    assert_eq!((report.total.counts.ok, report.total.counts.failed), (3, 0), "{report}");
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn a_graceful_shutdown_under_load_fails_nothing() {
    let pki = Pki::new();
    // Each connection is shut down in order (two GOAWAYs) every 150 ms, with answers still out.
    let server = server::tls(pki.server("h2"), |stream| async move {
        let service = service_fn(|_| async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            Ok::<_, Infallible>(ok())
        });
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => {}
            () = tokio::time::sleep(Duration::from_millis(150)) => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    })
    .await;
    let load = Load::reads(Mode::Reused, 3, 50.0);
    let report = run(config_of(&pki, server.address, load, 225).timeout(Duration::from_secs(10))).await;
    assert_eq!((report.total.counts.ok, report.total.counts.failed), (225, 0), "{report}");
    assert!(server.connections() >= 6, "the test shut nothing down");
}

/// Answers the first request of each connection and hangs up on the second.
async fn one_answer_per_connection(pki: &Pki) -> Server {
    server::tls(pki.server("http/1.1"), |mut stream| async move {
        read_some(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
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
    // Slow enough that two requests are hardly ever out at once; if they are, the second has its own connection.
    let reads = Load::reads(Mode::ReusedHttp1, 1, 4.0);
    let report = run(config_of(&pki, server.address, reads, 6)).await;
    let (ok, failed, replayed) = outcome(&report);
    assert!((ok, failed) == (6, 0) && (1..=5).contains(&replayed), "{report}");

    let writes = writes(Mode::ReusedHttp1).rate(4.0);
    let report = run(config_of(&pki, server.address, writes, 6)).await;
    let (ok, failed, replayed) = outcome(&report);
    assert!(ok >= 3 && failed >= 1 && replayed == 0, "{report}");
    assert_eq!(failures(&report), only("closed", failed), "{report}");
}
