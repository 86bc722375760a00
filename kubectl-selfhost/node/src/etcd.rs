//! Reads etcd, by etcd's own JSON gateway: one key, what it says of itself, and all of it as a snapshot.
//!
//! The gateway is etcd's gRPC API as JSON over HTTP/1, since etcd 3.4 at this path and on the same port
//! (<https://etcd.io/docs/latest/dev-guide/api_grpc_gateway/>): so that a read needs neither HTTP/2 nor gRPC.
//!
//! Invariant: it reads, and has no way to write.

pub(crate) mod snapshot;
pub(crate) mod tool;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

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
    #[error("save a snapshot of etcd at {endpoint}")]
    Snapshot { endpoint: Endpoint, source: snapshot::Broken },
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Credentials(_) => "name the cluster's PKI directory: --pki DIR",
            Self::Ask { .. } => {
                "without etcd there is no API server: crictl ps -a --name etcd, then crictl logs ID"
            }
            Self::Snapshot { source: snapshot::Broken::Write(_), .. } => {
                "check whether the disk has room, and is writable"
            }
            Self::Snapshot { .. } => "run it again; then crictl logs of etcd",
            Self::Slow { .. } | Self::Refused { .. } => {
                "etcd needs most of its members: start the other control-plane nodes; then crictl logs of etcd"
            }
        }
    }
}

/// An etcd that can be asked.
#[derive(Debug)]
pub(crate) struct Etcd {
    endpoint: Endpoint,
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// What an etcd says of itself and its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct About {
    /// `3.6.8`.
    pub(crate) version: String,
    pub(crate) cluster_id: String,
    /// The name of the member that answered.
    pub(crate) member: String,
    /// Of all members, in the order of their names.
    pub(crate) members: Vec<Member>,
    /// The size of its database on disk, in bytes.
    pub(crate) size: u64,
}

/// A member of an etcd cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) peer_urls: Vec<String>,
}

impl Etcd {
    /// The etcd there, to be asked with these credentials. Nothing is said to it yet.
    pub(crate) fn new(endpoint: Endpoint, credentials: &Credentials) -> Result<Self, Error> {
        let tls = Arc::new(tls::load(credentials)?);
        Ok(Self { endpoint, tls, name: credentials.server_name.clone() })
    }

    /// The value of `key`, if there is one.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let range: Range = self.ask("kv/range", &format!(r#"{{"key":"{}"}}"#, STANDARD.encode(key)))?;
        let Some(pair) = range.kvs.into_iter().next() else { return Ok(None) };
        let value = STANDARD.decode(pair.value);
        value.map(Some).map_err(|error| self.refused(format!("with a value that is no base64: {error}")))
    }

    /// The revision that most of the members agree on now, and that this one has.
    pub(crate) fn revision(&self) -> Result<u64, Error> {
        // A read of a key that nobody has. Unlike what a member says of itself, it needs the leader.
        let range: Range = self.ask("kv/range", r#"{"key":"AA=="}"#)?;
        let revision = range.header.revision.parse();
        revision.map_err(|error| self.refused(format!("with what is no revision: {error}")))
    }

    /// What it says of itself.
    pub(crate) fn about(&self) -> Result<About, Error> {
        let status: Status = self.ask("maintenance/status", "{}")?;
        let list: MemberList = self.ask("cluster/member/list", "{}")?;
        let own = list.members.iter().find(|member| member.id == status.header.member_id);
        let member = own.map(|member| member.name.clone()).unwrap_or_default();
        if member.is_empty() {
            return Err(self.refused("with a list of members that has not its own name".to_owned()));
        }
        let member_of = |listed: Listed| Member { name: listed.name, peer_urls: listed.peer_urls };
        let mut members: Vec<Member> = list.members.into_iter().map(member_of).collect();
        members.sort();
        Ok(About {
            version: status.version,
            cluster_id: status.header.cluster_id,
            member,
            members,
            size: status.size.parse().unwrap_or_default(),
        })
    }

    /// One question, one answer.
    fn ask<T: DeserializeOwned>(&self, path: &str, body: &str) -> Result<T, Error> {
        let request = self.request(path, body);
        let answer = tls::exchange(&self.endpoint.0, &self.tls, &self.name, request.as_bytes(), LIMIT);
        read_answer(&answer.map_err(|source| self.failed(source))?).map_err(|answer| self.refused(answer))
    }

    fn request(&self, path: &str, body: &str) -> String {
        // In HTTP/1.0 a body is not cut into chunks, and ends with the connection.
        format!(
            "POST /v3/{path} HTTP/1.0\r\nHost: {}\r\nUser-Agent: selfhost-node\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.endpoint,
            body.len()
        )
    }

    fn failed(&self, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Error::Slow { endpoint: self.endpoint },
            _ => Error::Ask { endpoint: self.endpoint, source },
        }
    }

    const fn refused(&self, answer: String) -> Error {
        Error::Refused { endpoint: self.endpoint, answer }
    }
}

/// `{"header": {...}, "kvs": [{"key": "...", "value": "...", ...}], "count": "1"}`, both in base64.
#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    header: Header,
    #[serde(default)]
    kvs: Vec<Pair>,
}

/// Numbers are in quotes, as protobuf's JSON has it for 64 bits; zeros and empty texts are left out.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Header {
    cluster_id: String,
    member_id: String,
    revision: String,
}

#[derive(Deserialize)]
struct Pair {
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct Status {
    header: Header,
    version: String,
    #[serde(default, rename = "dbSize")]
    size: String,
}

#[derive(Deserialize)]
struct MemberList {
    members: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "ID")]
    id: String,
    /// A member that has not yet started has none.
    #[serde(default)]
    name: String,
    #[serde(rename = "peerURLs")]
    peer_urls: Vec<String>,
}

/// What the gateway says of an error.
#[derive(Deserialize)]
struct Trouble {
    message: String,
}

/// What an answer holds, or what etcd said instead.
fn read_answer<T: DeserializeOwned>(answer: &[u8]) -> Result<T, String> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or("no HTTP")?;
    let (head, body) = (String::from_utf8_lossy(&answer[..end]), &answer[end + 4..]);
    let status = head.lines().next().map_or("", status);
    if !status.starts_with("200") {
        return Err(trouble(status, body));
    }
    serde_json::from_slice(body).map_err(|error| format!("with what cannot be read: {error}"))
}

/// The status in the first line of an answer: `200 OK`.
fn status(line: &str) -> &str {
    line.split_once(' ').map_or("", |(_, status)| status.trim_end())
}

/// What the gateway says, in as many words as it does.
fn trouble(status: &str, body: &[u8]) -> String {
    match serde_json::from_slice::<Trouble>(body) {
        Ok(trouble) => format!("{status}: {}", trouble.message),
        Err(_) => status.to_owned(),
    }
}

impl Endpoint {
    /// The name that its certificate must hold.
    pub(crate) fn server_name(&self) -> ServerName<'static> {
        self.0.ip().into()
    }

    /// Its port.
    pub(crate) const fn port(&self) -> u16 {
        self.0.port()
    }

    /// Whether anybody accepts connections there.
    pub(crate) fn listens(&self) -> bool {
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
        let head = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n";
        let range = |body: &str| {
            let range = read_answer::<Range>(format!("{head}{body}").as_bytes()).unwrap();
            (range.header.revision, range.kvs.into_iter().map(|pair| pair.value).collect::<Vec<_>>())
        };
        let body = r#"{"header":{"revision":"7"},"kvs":[{"key":"YQ==","value":"azhzAA=="}],"count":"1"}"#;
        assert_eq!(range(body), ("7".to_owned(), vec!["azhzAA==".to_owned()]));
        assert_eq!(range(r#"{"header":{"revision":"7"}}"#), ("7".to_owned(), vec![]));
        assert_eq!(range(r#"{"kvs":[{"key":"YQ=="}]}"#), (String::new(), vec![String::new()]));
        for (answer, expected) in [
            ("HTTP/1.0 404 Not Found\r\n\r\n404 page not found\n", "404 Not Found"),
            (
                "HTTP/1.0 503 Service Unavailable\r\n\r\n\
                 {\"error\":\"etcdserver: no leader\",\"code\":14,\"message\":\"etcdserver: no leader\"}",
                "503 Service Unavailable: etcdserver: no leader",
            ),
            ("SSH-2.0-OpenSSH\r\n", "no HTTP"),
        ] {
            assert_eq!(read_answer::<Range>(answer.as_bytes()).err().as_deref(), Some(expected), "{answer}");
        }
        let cut = format!("{head}{{\"kvs\":[{{\"value\":\"azhz");
        assert!(read_answer::<Range>(cut.as_bytes()).is_err(), "an answer that was cut");
    }
}
