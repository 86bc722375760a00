//! `/livez`, `/readyz` and `/metrics`, without TLS: kubelets and Prometheus have no certificate for the other listener.
//!
//! Invariant: nothing of a review is here but counts.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::Guard;
use super::http::respond;
use crate::health;

/// Who asks is a kubelet and a Prometheus.
const CONNECTIONS: usize = 32;

const PATIENCE: Duration = Duration::from_secs(5);

/// Answers until the task is dropped.
pub async fn serve(listener: TcpListener, guard: Arc<Guard>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let guard = Arc::clone(&guard);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&request, &guard);
                async { Ok::<_, Infallible>(response) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
            // Whoever asked and went away is told nothing.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            drop(slot);
        });
    }
}

fn answer(request: &Request<Incoming>, guard: &Guard) -> Response<Full<Bytes>> {
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return respond(StatusCode::METHOD_NOT_ALLOWED, plain, Bytes::new());
    }
    match request.uri().path() {
        "/livez" => respond(StatusCode::OK, plain, Bytes::from_static(b"ok\n")),
        "/readyz" => {
            let report = guard.health.report(health::now());
            let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            respond(status, plain, report.text.into())
        }
        "/metrics" => {
            let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            respond(StatusCode::OK, HeaderValue::from_static(media), guard.metrics.text().into())
        }
        _ => respond(StatusCode::NOT_FOUND, plain, Bytes::new()),
    }
}
