//! Reads one key of etcd, by etcd's own JSON gateway.
//!
//! The gateway is etcd's gRPC API as JSON over HTTP/1, since etcd 3.4 at this path and on the same port
//! (<https://etcd.io/docs/latest/dev-guide/api_grpc_gateway/>): so that a read needs neither HTTP/2 nor gRPC.
//!
//! Invariant: it reads, and has no way to write.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use serde::Deserialize;

use crate::tls::{self, Credentials, Limit};

/// The limit of a read. etcd gives up after seven seconds when too few members are there; a request to an API server,
/// and so an object, has at most 3 MiB, which are 4 MiB in base64.
const LIMIT: Limit = Limit { time: Duration::from_secs(10), bytes: 5 << 20 };

/// How long a connection may take when it is only tried.
const TRIAL: Duration = Duration::from_secs(1);

/// Where etcd is: `https://IP:PORT`. No name, because who would resolve it may be what does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Endpoint(SocketAddr);

/// Text that is no such address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not https://IP:PORT")]
pub(crate) struct NoEndpoint;

/// The key cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Credentials(#[from] tls::Error),
    #[error("ask etcd at {endpoint}")]
    Ask { endpoint: Endpoint, source: io::Error },
    #[error("etcd at {endpoint} gave no answer within {} s", LIMIT.time.as_secs())]
    Slow { endpoint: Endpoint },
    #[error("etcd at {endpoint} answered {answer}")]
    Refused { endpoint: Endpoint, answer: String },
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Credentials(_) => "name the cluster's PKI directory: --pki DIR",
            Self::Ask { .. } => {
                "without etcd there is no API server: crictl ps -a --name etcd, then crictl logs ID"
            }
            Self::Slow { .. } | Self::Refused { .. } => {
                "etcd needs most of its members: start the other control-plane nodes; then crictl logs of etcd"
            }
        }
    }
}

/// The value of `key`, if there is one.
pub(super) fn get(
    endpoint: &Endpoint,
    credentials: &Credentials,
    key: &str,
) -> Result<Option<Vec<u8>>, Error> {
    let tls = Arc::new(tls::load(credentials)?);
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Error::Slow { endpoint: *endpoint },
        _ => Error::Ask { endpoint: *endpoint, source },
    };
    let refused = |answer: String| Error::Refused { endpoint: *endpoint, answer };
    let body = format!(r#"{{"key":"{}"}}"#, STANDARD.encode(key));
    // In HTTP/1.0 a body is not cut into chunks, and ends with the connection.
    let request = format!(
        "POST /v3/kv/range HTTP/1.0\r\nHost: {endpoint}\r\nUser-Agent: selfhost-node\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let name = &credentials.server_name;
    let answer = tls::exchange(&endpoint.0, &tls, name, request.as_bytes(), LIMIT).map_err(failed)?;
    read_answer(&answer).map_err(refused)
}

/// `{"header": {...}, "kvs": [{"key": "...", "value": "...", ...}], "count": "1"}`, both in base64.
#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    kvs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    #[serde(default)]
    value: String,
}

/// What the gateway says of an error.
#[derive(Deserialize)]
struct Trouble {
    message: String,
}

/// The value in an answer, or what etcd said instead.
fn read_answer(answer: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or("no HTTP")?;
    let (head, body) = (String::from_utf8_lossy(&answer[..end]), &answer[end + 4..]);
    let status = head.lines().next().and_then(|line| line.split_once(' ')).map_or("", |(_, status)| status);
    if !status.starts_with("200") {
        return Err(match serde_json::from_slice::<Trouble>(body) {
            Ok(trouble) => format!("{status}: {}", trouble.message),
            Err(_) => status.to_owned(),
        });
    }
    let range: Range =
        serde_json::from_slice(body).map_err(|error| format!("with what is no range: {error}"))?;
    let Some(pair) = range.kvs.into_iter().next() else { return Ok(None) };
    STANDARD.decode(pair.value).map(Some).map_err(|error| format!("with a value that is no base64: {error}"))
}

impl Endpoint {
    /// The name that its certificate must hold.
    pub(super) fn server_name(&self) -> ServerName<'static> {
        self.0.ip().into()
    }

    /// Whether anybody accepts connections there.
    pub(super) fn listens(&self) -> bool {
        TcpStream::connect_timeout(&self.0, TRIAL).is_ok()
    }
}

impl FromStr for Endpoint {
    type Err = NoEndpoint;

    fn from_str(text: &str) -> Result<Self, NoEndpoint> {
        let authority = text.strip_prefix("https://").ok_or(NoEndpoint)?;
        authority.trim_end_matches('/').parse().map(Self).map_err(|_| NoEndpoint)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, expected) in [
            ("https://127.0.0.1:2379", Some("127.0.0.1:2379")),
            ("https://127.0.0.1:12379/", Some("127.0.0.1:12379")),
            ("https://[::1]:2379", Some("[::1]:2379")),
            ("https://127.0.0.1", None),
            ("https://etcd.example.org:2379", None),
            ("http://127.0.0.1:2379", None),
            ("127.0.0.1:2379", None),
            ("https://127.0.0.1:x", None),
            ("https://10.0.0.1:1,https://10.0.0.2:1", None),
            ("https://", None),
        ] {
            let endpoint = text.parse::<Endpoint>().ok().map(|endpoint| endpoint.to_string());
            assert_eq!(endpoint.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn answers() {
        let refused = |text: &str| Err(text.to_owned());
        for (answer, expected) in [
            (
                "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n\
                 {\"header\":{\"revision\":\"7\"},\"kvs\":[{\"key\":\"YQ==\",\"value\":\"azhzAA==\"}],\"count\":\"1\"}",
                Ok(Some(b"k8s\0".to_vec())),
            ),
            ("HTTP/1.0 200 OK\r\n\r\n{\"header\":{\"revision\":\"7\"}}", Ok(None)),
            ("HTTP/1.0 200 OK\r\n\r\n{\"kvs\":[{\"key\":\"YQ==\"}]}", Ok(Some(vec![]))),
            ("HTTP/1.0 404 Not Found\r\n\r\n404 page not found\n", refused("404 Not Found")),
            (
                "HTTP/1.0 503 Service Unavailable\r\n\r\n\
                 {\"error\":\"etcdserver: no leader\",\"code\":14,\"message\":\"etcdserver: no leader\"}",
                refused("503 Service Unavailable: etcdserver: no leader"),
            ),
            (
                "HTTP/1.0 200 OK\r\n\r\n{\"kvs\":[{\"value\":\"?\"}]}",
                refused("with a value that is no base64: Invalid symbol 63, offset 0."),
            ),
            ("SSH-2.0-OpenSSH\r\n", refused("no HTTP")),
        ] {
            assert_eq!(read_answer(answer.as_bytes()), expected, "{answer}");
        }
        assert!(
            read_answer(b"HTTP/1.0 200 OK\r\n\r\n{\"kvs\":[{\"value\":\"azhz").is_err(),
            "an answer that was cut"
        );
    }
}
