//! What an etcd says of itself and of its cluster, by its own word: over HTTP on its client port, and no API server.
//!
//! Invariant: whoever cannot be asked is not healthy.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::stop::{Stop, Stopped};
use crate::tls::{self, Credentials, Limit};

/// What one answer may cost. `/health` reads by consensus, which etcd tries for seven seconds.
const LIMIT: Limit = Limit { time: Duration::from_secs(8), bytes: 1 << 20 };

/// The same while etcd is watched, and nothing may be missed for long.
const GLANCE: Limit = Limit { time: Duration::from_secs(1), bytes: 1 << 20 };

/// How long another member may take to become the leader.
const ELECTION: Duration = Duration::from_secs(10);

/// The etcd of this node, and the way to the others.
#[derive(Debug)]
pub(super) struct Member {
    own: SocketAddr,
    tls: Arc<ClientConfig>,
}

/// What an etcd says that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Serves {
    /// Its own version: `3.6.8`.
    pub(super) version: String,
    /// The version that the whole cluster has agreed on: `3.6.0`. No older member can join from then on.
    pub(super) cluster: String,
}

/// A cluster in which every member is healthy.
#[derive(Debug)]
pub(super) struct Cluster {
    /// The voting members beside this one, by the ids that etcd gives them.
    others: Vec<String>,
    leads: bool,
    own: String,
}

impl Member {
    /// `own` is the address at which the etcd of this node listens for clients. It is asked with its own certificate,
    /// which must be good for that: its gateway asks itself with it.
    pub(super) fn new(
        own: SocketAddr,
        ca: PathBuf,
        certificate: PathBuf,
        key: PathBuf,
    ) -> Result<Self, tls::Error> {
        let credentials = Credentials { ca, server_name: own.ip().into(), client: Some((certificate, key)) };
        Ok(Self { own, tls: Arc::new(tls::load(&credentials)?) })
    }

    /// The port on which it serves clients.
    pub(super) const fn port(&self) -> u16 {
        self.own.port()
    }

    /// What it says of itself, if it is healthy; otherwise why not. A member that has to catch up is not healthy: the
    /// read behind `/health` is answered from everything that was agreed on before.
    pub(super) fn serves(&self) -> Result<Serves, String> {
        self.is_healthy(self.own, GLANCE)?;
        let version: Version = self.get(self.own, "/version", GLANCE)?;
        Ok(Serves { version: version.etcdserver, cluster: version.etcdcluster })
    }

    /// Asks every member of the cluster whether it is healthy.
    pub(super) fn cluster(&self) -> Result<Cluster, String> {
        self.is_healthy(self.own, LIMIT)?;
        let list: MemberList = self.post("cluster/member/list", "{}")?;
        let status: Status = self.post("maintenance/status", "{}")?;
        let own = status.header.member_id;
        for member in &list.members {
            let name = if member.name.is_empty() { &member.id } else { &member.name };
            if member.name.is_empty() || member.client_urls.is_empty() {
                return Err(format!("member {name} has not started"));
            }
            if member.is_learner {
                return Err(format!("member {name} is a learner, which has yet to catch up"));
            }
            if member.id != own {
                let address = member.client_urls.iter().find_map(|url| address(url));
                let address =
                    address.ok_or_else(|| format!("member {name} has no address that can be asked"))?;
                self.is_healthy(address, LIMIT)
                    .map_err(|why| format!("member {name} at {address}: {why}"))?;
            }
        }
        let others = list.members.into_iter().map(|member| member.id).filter(|id| *id != own).collect();
        Ok(Cluster { others, leads: status.leader == own, own })
    }

    /// Has another member lead, if this one does and there is another. Whoever ends as the leader leaves the others to
    /// find out, which takes them a second.
    pub(super) fn give_leadership_away(
        &self,
        cluster: &Cluster,
        stop: &Stop,
    ) -> Result<Result<(), String>, Stopped> {
        let (true, Some(next)) = (cluster.leads, cluster.others.first()) else { return Ok(Ok(())) };
        let asked: Result<serde_json::Value, String> =
            self.post("maintenance/transfer-leadership", &format!(r#"{{"targetID":"{next}"}}"#));
        if let Err(why) = asked {
            return Ok(Err(format!("it does not give its leadership away: {why}")));
        }
        let begin = Instant::now();
        loop {
            match self.post::<Status>("maintenance/status", "{}") {
                Ok(status) if status.leader != cluster.own => return Ok(Ok(())),
                _ if begin.elapsed() > ELECTION => {
                    return Ok(Err("no other member became the leader".to_owned()));
                }
                _ => stop.sleep(Duration::from_millis(100))?,
            }
        }
    }

    fn is_healthy(&self, address: SocketAddr, limit: Limit) -> Result<(), String> {
        let health: Health = self.get(address, "/health", limit)?;
        if health.health == "true" { Ok(()) } else { Err(format!("it is not healthy: {}", health.reason)) }
    }

    fn get<T: DeserializeOwned>(&self, address: SocketAddr, path: &str, limit: Limit) -> Result<T, String> {
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nUser-Agent: selfhost-node\r\n\r\n");
        self.ask(address, &request, limit)
    }

    /// A question to the gateway of this node's own etcd.
    fn post<T: DeserializeOwned>(&self, path: &str, body: &str) -> Result<T, String> {
        let request = format!(
            "POST /v3/{path} HTTP/1.0\r\nHost: {}\r\nUser-Agent: selfhost-node\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.own,
            body.len()
        );
        self.ask(self.own, &request, LIMIT)
    }

    fn ask<T: DeserializeOwned>(
        &self,
        address: SocketAddr,
        request: &str,
        limit: Limit,
    ) -> Result<T, String> {
        let answer = tls::exchange(&address, &self.tls, &address.ip().into(), request.as_bytes(), limit);
        read(&answer.map_err(|error: io::Error| tls::describe(&error, limit))?)
    }
}

/// `https://10.0.0.11:2379`, without a name: who would resolve it may be what does not run.
pub(super) fn address(url: &str) -> Option<SocketAddr> {
    url.strip_prefix("https://")?.trim_end_matches('/').parse().ok()
}

#[derive(Deserialize)]
struct Health {
    health: String,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct Version {
    etcdserver: String,
    etcdcluster: String,
}

/// Numbers are in quotes, as protobuf's JSON has it for 64 bits; zeros, falsehoods and empty texts are left out.
#[derive(Deserialize)]
struct MemberList {
    members: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "clientURLs")]
    client_urls: Vec<String>,
    #[serde(default)]
    is_learner: bool,
}

#[derive(Deserialize)]
struct Status {
    header: Header,
    #[serde(default)]
    leader: String,
}

#[derive(Deserialize)]
struct Header {
    member_id: String,
}

/// What the gateway says of an error.
#[derive(Deserialize)]
struct Trouble {
    message: String,
}

/// The document in an answer. `/health` has one with every status.
fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, String> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or("it does not speak HTTP")?;
    let (head, body) = (String::from_utf8_lossy(&answer[..end]), &answer[end + 4..]);
    let status = head.lines().next().and_then(|line| line.split_once(' ')).map_or("", |(_, status)| status);
    serde_json::from_slice(body).map_err(|error| match serde_json::from_slice::<Trouble>(body) {
        Ok(trouble) => format!("it answers {status}: {}", trouble.message),
        Err(_) => format!("it answers {status} with something else than was asked: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_every_kind() {
        let health = |answer: &str| read::<Health>(answer.as_bytes()).map(|it| (it.health, it.reason));
        let ok = |health: &str, reason: &str| Ok((health.to_owned(), reason.to_owned()));
        for (answer, expected) in [
            ("HTTP/1.0 200 OK\r\n\r\n{\"health\":\"true\",\"reason\":\"\"}", ok("true", "")),
            (
                "HTTP/1.0 503 Service Unavailable\r\n\r\n{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}",
                ok("false", "RAFT NO LEADER"),
            ),
            (
                "HTTP/1.0 400 Bad Request\r\n\r\n{\"code\":9,\"message\":\"etcdserver: not leader\"}",
                Err("it answers 400 Bad Request: etcdserver: not leader".to_owned()),
            ),
            ("SSH-2.0-OpenSSH\r\n", Err("it does not speak HTTP".to_owned())),
        ] {
            assert_eq!(health(answer), expected, "{answer}");
        }
        let cut = health("HTTP/1.0 200 OK\r\n\r\n{\"health\":\"tr").unwrap_err();
        assert!(cut.starts_with("it answers 200 OK with something else"), "{cut}");
    }

    #[test]
    fn addresses() {
        for (url, expected) in [
            ("https://127.0.0.1:2379", Some("127.0.0.1:2379")),
            ("https://[::1]:2379/", Some("[::1]:2379")),
            ("http://127.0.0.1:2379", None),
            ("https://etcd.example.org:2379", None),
        ] {
            assert_eq!(address(url).map(|it| it.to_string()).as_deref(), expected, "{url}");
        }
    }
}
