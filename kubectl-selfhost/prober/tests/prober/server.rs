//! Test servers. Each listens on a port of its own and ends with its handle.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use selfhost_prober::Mode;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::pki::Pki;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Server {
    /// How many connections have been accepted so far.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Hands each connection to `serve`.
pub(crate) async fn tcp<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&connections);
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            stream.set_nodelay(true).unwrap();
            tokio::spawn(serve(stream));
        }
    });
    Server { address, connections, task }
}

/// Hands each connection to `serve` once TLS stands.
pub(crate) async fn tls<F>(
    config: Arc<ServerConfig>,
    serve: impl Fn(TlsStream<TcpStream>) -> F + Clone + Send + Sync + 'static,
) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let acceptor = TlsAcceptor::from(config);
    tcp(move |stream| {
        let (accept, serve) = (acceptor.accept(stream), serve.clone());
        async move {
            if let Ok(stream) = accept.await {
                serve(stream).await;
            }
        }
    })
    .await
}

/// A well-behaved server of the protocol that `mode` speaks.
pub(crate) async fn http<F>(
    pki: &Pki,
    mode: Mode,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) -> Server
where
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    tls(pki.server(protocol(mode)), move |stream| {
        let answer = answer.clone();
        async move {
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let io = TokioIo::new(stream);
            // Clients hang up; that is no error of the test.
            let _ = match mode {
                Mode::Reused => {
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(io, service)
                        .await
                }
                Mode::New | Mode::ReusedHttp1 => {
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
                }
            };
        }
    })
    .await
}

pub(crate) fn protocol(mode: Mode) -> &'static str {
    match mode {
        Mode::Reused => "h2",
        Mode::New | Mode::ReusedHttp1 => "http/1.1",
    }
}

pub(crate) fn ok() -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from_static(b"{}")))
}

/// Reads until the peer closes: a socket that is closed with unread data sends a reset instead of an end.
pub(crate) async fn drain(mut stream: impl AsyncRead + Unpin) {
    let mut buffer = vec![0; 4096];
    while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
}

/// Reads whatever comes first.
pub(crate) async fn read_some(stream: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = vec![0; 16384];
    let _ = stream.read(&mut buffer).await.unwrap();
}
