//! An API server's side of the connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const PATIENCE: Duration = Duration::from_mins(1);

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The `response` of a review.
    pub(crate) fn response(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        let mut review: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(
            (&review["apiVersion"], &review["kind"]),
            (&"admission.k8s.io/v1".into(), &"AdmissionReview".into())
        );
        review["response"].take()
    }
}

/// An open connection.
pub(crate) enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// Which HTTP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Http {
    One,
    Two,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr, config: &ClientConfig, http: Http) -> Result<Self> {
        let mut config = config.clone();
        config.alpn_protocols = vec![if http == Http::One { b"http/1.1".to_vec() } else { b"h2".to_vec() }];
        let stream = TcpStream::connect(address).await.context("connect")?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(address.ip());
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.context("handshake")?;
        let stream = TokioIo::new(stream);
        Ok(match http {
            Http::One => {
                let (sender, connection) = http1::handshake(stream).await?;
                tokio::spawn(connection);
                Self::Http1(sender)
            }
            Http::Two => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
                tokio::spawn(connection);
                Self::Http2(sender)
            }
        })
    }

    /// Whether another request may be sent.
    pub(crate) async fn ready(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    pub(crate) async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
        address: SocketAddr,
    ) -> Result<Answer> {
        let response = async {
            let response: Response<_> = match self {
                Self::Http1(sender) => {
                    let host = address.to_string().parse()?;
                    request.headers_mut().insert(hyper::header::HOST, host);
                    sender.send_request(request).await?
                }
                Self::Http2(sender) => {
                    let path = request.uri().path_and_query().map_or("/", |it| it.as_str());
                    *request.uri_mut() = format!("https://{address}{path}").parse()?;
                    sender.send_request(request).await?
                }
            };
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            anyhow::Ok(Answer { status, body })
        };
        match tokio::time::timeout(PATIENCE, response).await {
            Ok(answer) => answer,
            Err(_) => bail!("no answer within {PATIENCE:?}"),
        }
    }
}

/// A review, as an API server sends it.
pub(crate) fn review(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post("/validate?timeout=10s")
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .unwrap()
}

/// The review of a request.
pub(crate) fn review_of(request: &Value) -> Bytes {
    let request = request.to_string();
    format!(r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{request}}}"#).into()
}

/// Over a connection of its own.
pub(crate) async fn send(
    address: SocketAddr,
    config: &ClientConfig,
    http: Http,
    request: Request<Full<Bytes>>,
) -> Result<Answer> {
    Connection::open(address, config, http).await?.send(request, address).await
}
