//! Opens TCP and TLS connections to one target.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{Config, Mode, Target};
use crate::failure::{Failure, FailureKind};

const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// A connection that hyper can use.
pub(crate) type Connection = TokioIo<TlsStream<TcpStream>>;

#[derive(Clone)]
pub(crate) struct Dialer {
    address: SocketAddr,
    server_name: ServerName<'static>,
    connector: TlsConnector,
    protocol: &'static [u8],
    /// For connections that several requests wait for; a request has its own timeout besides.
    pub(crate) timeout: Duration,
}

impl Dialer {
    pub(crate) fn new(config: &Config, target: &Target, mode: Mode) -> Self {
        let protocol = match mode {
            Mode::Reused => HTTP2,
            Mode::New | Mode::ReusedHttp1 => HTTP1,
        };
        let mut tls = ClientConfig::clone(&config.tls);
        tls.alpn_protocols = vec![protocol.to_vec()];
        // Go resumes sessions only with a ClientSessionCache, and client-go sets none. It is also the harder
        // case: each new connection does the whole handshake.
        tls.resumption = Resumption::disabled();
        Self {
            address: target.address,
            server_name: target.server_name.clone(),
            connector: TlsConnector::from(Arc::new(tls)),
            protocol,
            timeout: config.timeout,
        }
    }

    pub(crate) async fn dial(&self) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(self.address).await.map_err(|error| during("connect", &error))?;
        // Requests are single small writes that wait for an answer.
        stream.set_nodelay(true).map_err(|error| during("connect", &error))?;
        let stream = self
            .connector
            .connect(self.server_name.clone(), stream)
            .await
            .map_err(|error| during("tls handshake", &error))?;
        if self.protocol == HTTP2 && stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
            return Err(Failure::new(FailureKind::Tls, "tls handshake: the server does not offer http/2"));
        }
        Ok(TokioIo::new(stream))
    }
}

fn during(action: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    let failure = Failure::from_error(error);
    Failure::new(failure.kind, format!("{action}: {}", failure.text))
}
