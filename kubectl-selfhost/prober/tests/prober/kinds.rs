//! Each bad thing a server can do is counted as what it is.

use std::sync::Arc;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use selfhost_prober::{FailureKind, Mode, Report};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio_rustls::TlsAcceptor;

use crate::pki::Pki;
use crate::raw_http2::{INTERNAL_ERROR, RawHttp2};
use crate::server::{self, Server, drain, protocol, read_some};
use crate::{config, config_of, failures, only, run, writes};

const MODES: [Mode; 3] = [Mode::New, Mode::Reused, Mode::ReusedHttp1];
const REQUESTS: u64 = 8;

/// All requests fail as `kind`, and the text says something.
///
/// On reused connections one that comes just as its connection ends may be replayed first, which changes no kind.
async fn all_fail(pki: &Pki, server: &Server, mode: Mode, kind: &str) -> Report {
    let timeout = Duration::from_millis(if kind == "timeout" { 150 } else { 10_000 });
    let report = run(config(pki, server.address, mode, REQUESTS).timeout(timeout)).await;
    assert_eq!(failures(&report), only(kind, REQUESTS), "{mode}: {report}");
    assert_eq!(report.total.latency, None, "{mode}");
    if mode == Mode::New {
        assert_eq!(report.total.counts.replayed, 0, "{report}");
    }
    let samples = &report.series[0].first_failures;
    assert_eq!(samples.len(), 3);
    assert!(samples.iter().all(|sample| !sample.text.is_empty()), "{samples:?}");
    report
}

#[tokio::test]
async fn nobody_listens() {
    // Bound but not listening: nobody else can get the port meanwhile.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    for mode in MODES {
        let report = run(config(&Pki::new(), socket.local_addr().unwrap(), mode, REQUESTS)).await;
        assert_eq!(failures(&report), only("refused", REQUESTS), "{mode}: {report}");
    }
}

#[tokio::test]
async fn reset_while_connecting() {
    let server = server::tcp(|mut stream| async move {
        read_some(&mut stream).await;
        stream.set_zero_linger().unwrap();
    })
    .await;
    for mode in MODES {
        all_fail(&Pki::new(), &server, mode, "reset").await;
    }
}

#[tokio::test]
async fn reset_instead_of_an_answer() {
    let pki = Pki::new();
    // Reused HTTP/1.1 is left out: it would be a fresh connection each time, as new ones are.
    let server = server::tls(pki.server("http/1.1"), |mut stream| async move {
        read_some(&mut stream).await;
        stream.get_ref().0.set_zero_linger().unwrap();
    })
    .await;
    all_fail(&pki, &server, Mode::New, "reset").await;

    let server = server::tls(pki.server("h2"), |stream| async move {
        let mut http2 = RawHttp2::accept(stream).await;
        while let Some(request) = http2.next_request().await {
            http2.reset(request, INTERNAL_ERROR).await;
        }
    })
    .await;
    all_fail(&pki, &server, Mode::Reused, "reset").await;
}

#[tokio::test]
async fn closed_while_connecting() {
    let server = server::tcp(|mut stream| async move {
        read_some(&mut stream).await;
        stream.shutdown().await.unwrap();
        drain(stream).await;
    })
    .await;
    for mode in MODES {
        all_fail(&Pki::new(), &server, mode, "closed").await;
    }
}

#[tokio::test]
async fn closed_instead_of_an_answer() {
    let pki = Pki::new();
    for mode in [Mode::New, Mode::ReusedHttp1] {
        let server = server::tls(pki.server("http/1.1"), |mut stream| async move {
            read_some(&mut stream).await;
            stream.shutdown().await.unwrap();
            drain(stream).await;
        })
        .await;
        all_fail(&pki, &server, mode, "closed").await;
    }
    let server = server::tls(pki.server("h2"), |stream| async move {
        let mut http2 = RawHttp2::accept(stream).await;
        http2.next_request().await;
        http2.close().await;
    })
    .await;
    all_fail(&pki, &server, Mode::Reused, "closed").await;
}

#[tokio::test]
async fn closed_in_the_middle_of_an_answer() {
    let pki = Pki::new();
    for mode in [Mode::New, Mode::ReusedHttp1] {
        let server = server::tls(pki.server("http/1.1"), |mut stream| async move {
            read_some(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await.unwrap();
            stream.shutdown().await.unwrap();
            drain(stream).await;
        })
        .await;
        all_fail(&pki, &server, mode, "closed").await;
    }
}

#[tokio::test]
async fn no_answer_in_time() {
    let pki = Pki::new();
    let mute = server::tcp(drain).await;
    for mode in MODES {
        all_fail(&pki, &mute, mode, "timeout").await;
        let after_tls = server::tls(pki.server(protocol(mode)), drain).await;
        all_fail(&pki, &after_tls, mode, "timeout").await;
    }
}

#[tokio::test]
async fn tls_fails() {
    let pki = Pki::new();
    let garbage = server::tcp(|mut stream| async move {
        read_some(&mut stream).await;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        drain(stream).await;
    })
    .await;
    for mode in MODES {
        all_fail(&pki, &garbage, mode, "tls").await;

        let untrusted = server::tls(Pki::new().server(protocol(mode)), drain).await;
        let report = all_fail(&pki, &untrusted, mode, "tls").await;
        assert!(report.series[0].first_failures[0].text.contains("certificate"), "{report}");

        // In TLS 1.3 the client learns only after its handshake that it should have shown a certificate.
        let acceptor = TlsAcceptor::from(pki.server_for_certificates(protocol(mode)));
        let strict = server::tcp(move |stream| {
            let accept = acceptor.accept(stream).into_fallible();
            async move {
                if let Err((_, stream)) = accept.await {
                    drain(stream).await;
                }
            }
        })
        .await;
        let report = all_fail(&pki, &strict, mode, "tls").await;
        assert!(report.series[0].first_failures[0].text.contains("CertificateRequired"), "{report}");
    }
    let old = server::tls(pki.server("http/1.1"), drain).await;
    all_fail(&pki, &old, Mode::Reused, "tls").await;
}

#[tokio::test]
async fn statuses() {
    let pki = Pki::new();
    let date = "Wed, 21 Oct 2037 07:28:00 GMT";
    // (status, Retry-After) -> kind, nothing meaning that it counts as asked to retry
    let cases = [
        (503, None, Some("http-503")),
        (503, Some("1"), None),
        (503, Some(date), Some("http-503")),
        (429, None, Some("http-429")),
        (429, Some("1"), None),
        (500, Some("1"), Some("http-500")),
        (403, None, Some("http-403")),
        (404, None, Some("http-404")),
        (409, None, Some("http-409")),
    ];
    for mode in MODES {
        for (status, retry_after, kind) in cases {
            let server = server::http(&pki, mode, move |_| async move {
                let mut response = Response::new(Full::new(Bytes::from_static(b"because")));
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                if let Some(value) = retry_after {
                    response.headers_mut().insert(RETRY_AFTER, value.parse().unwrap());
                }
                response
            })
            .await;
            if let Some(kind) = kind {
                let report = all_fail(&pki, &server, mode, kind).await;
                assert!(report.series[0].first_failures[0].text.contains("because"), "{report}");
            } else {
                let counts = run(config(&pki, server.address, mode, REQUESTS)).await.total.counts;
                assert_eq!(
                    (counts.retry_after, counts.failed, counts.ok),
                    (REQUESTS, 0, 0),
                    "{mode} {status}"
                );
            }
        }
    }
}

#[tokio::test]
async fn what_is_expected_is_ok() {
    let pki = Pki::new();
    for mode in MODES {
        let paths = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&paths);
        let server = server::http(&pki, mode, move |request| {
            let is_host_named = request.uri().host().is_some() || request.headers().contains_key("host");
            assert!(is_host_named, "{request:?}");
            seen.lock().unwrap().push(request.uri().path().to_owned());
            async {
                let mut response = server::ok();
                *response.status_mut() = StatusCode::CONFLICT;
                response
            }
        })
        .await;
        let report = run(config_of(&pki, server.address, writes(mode), REQUESTS)).await;
        assert_eq!(report.total.counts.ok, REQUESTS, "{report}");
        let latency = report.total.latency.unwrap();
        assert!(!latency.p50.is_zero() && latency.p50 <= latency.p99 && latency.p99 <= latency.max);
        match mode {
            Mode::New => assert_eq!(server.connections(), REQUESTS),
            Mode::Reused => assert_eq!(server.connections(), 1),
            // A slow moment of the machine may overlap two requests, which takes another connection.
            Mode::ReusedHttp1 => assert!(server.connections() < REQUESTS, "{}", server.connections()),
        }
        let mut paths = paths.lock().unwrap().clone();
        paths.sort();
        let expected: Vec<_> = (0..REQUESTS).map(|counter| format!("/stream-0-0-0/{counter}")).collect();
        assert_eq!(paths, expected, "{mode}");
    }
}

#[tokio::test]
async fn beyond_the_cap_nothing_is_sent_and_everything_counted() {
    let pki = Pki::new();
    let mute = server::tcp(drain).await;
    for mode in MODES {
        let config = config(&pki, mute.address, mode, 20).max_in_flight(5);
        let report = run(config).await;
        let of_kind = |kind| report.total.failures.get(&kind).copied();
        assert_eq!(of_kind(FailureKind::Timeout), Some(5), "{mode}: {report}");
        assert_eq!(of_kind(FailureKind::Overloaded), Some(15), "{mode}: {report}");
    }
}
