//! Asks an API server's `/readyz` over verified TLS: the bridge's, and that of others on this node.
//!
//! Invariants: a check takes at most [`LIMIT`] altogether, however slowly the bridge drips; only the holder of a
//! certificate of the cluster's CA can say ready.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::readiness::Answer;
use crate::tls::{self, Credentials, Error, Limit};

/// The limit of a check. The names of the failed checks come first in an answer.
const LIMIT: Limit = Limit { time: Duration::from_secs(1), bytes: 4096 };

/// The API server of the bridge Pod, by its own address.
#[derive(Debug)]
pub(crate) struct Bridge {
    address: SocketAddr,
    credentials: Credentials,
    tls: Arc<ClientConfig>,
}

impl Bridge {
    /// The bridge on `port` of the loopback address, which is never diverted.
    pub(crate) fn load(port: u16, credentials: Credentials) -> Result<Self, Error> {
        let tls = Arc::new(tls::load(&credentials)?);
        Ok(Self { address: (Ipv4Addr::LOCALHOST, port).into(), credentials, tls })
    }

    /// The API server at another address, known by the same credentials.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Self { address, credentials: self.credentials.clone(), tls: Arc::clone(&self.tls) }
    }

    /// Whether it is ready, asked once.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.readyz() == Answer::Ready
    }

    /// The minor version that it says it has; `None` where it cannot be reached, or tells nobody.
    pub(crate) fn minor(&self) -> Option<u32> {
        let answer = self.ask("/version").ok()?;
        if read_answer(&answer) != Answer::Ready {
            return None;
        }
        // {"major": "1", "minor": "37", ...}; some distributions have "37+".
        let text = String::from_utf8_lossy(&answer);
        let (_, rest) = text.split_once("\"minor\"")?;
        let value = rest.trim_start_matches([':', ' ', '"']);
        value.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }

    /// Asks once.
    pub(super) fn readyz(&mut self) -> Answer {
        match self.ask("/readyz") {
            Ok(answer) => read_answer(&answer),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Answer::Refused,
            Err(error) => {
                if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
                    && let Ok(tls) = tls::load(&self.credentials)
                {
                    // The CA or our certificate may have been renewed on disk.
                    self.tls = Arc::new(tls);
                }
                Answer::Failed(tls::describe(&error, LIMIT))
            }
        }
    }

    fn ask(&self, path: &str) -> io::Result<Vec<u8>> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: kubernetes\r\nUser-Agent: selfhost-node\r\nConnection: close\r\n\r\n"
        );
        tls::exchange(&self.address, &self.tls, &self.credentials.server_name, request.as_bytes(), LIMIT)
    }
}

impl fmt::Display for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}/readyz", self.address)
    }
}

/// Ready is a status of 200; otherwise the status and the checks that failed.
fn read_answer(answer: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(answer);
    let mut lines = text.lines();
    let status = lines
        .next()
        .and_then(|line| line.split_once(' '))
        .filter(|(version, _)| version.starts_with("HTTP/1."))
        .map_or("", |(_, status)| status);
    if status.split(' ').next() == Some("200") {
        return Answer::Ready;
    }
    if status.is_empty() {
        return Answer::Failed("not an answer in HTTP/1".to_owned());
    }
    // `/readyz` lists each check as `[+]name ok` or `[-]name failed: reason withheld`.
    let failed: Vec<_> =
        lines.filter_map(|line| line.strip_prefix("[-]")?.split(' ').next()).take(5).collect();
    if failed.is_empty() {
        Answer::Failed(status.to_owned())
    } else {
        Answer::Failed(format!("{status}: {}", failed.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let failed = |why: &str| Answer::Failed(why.to_owned());
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Answer::Ready),
            (
                "HTTP/1.1 500 Internal Server Error\r\nX: y\r\n\r\n[+]ping ok\n[-]etcd failed: reason withheld\n\
                 [-]poststarthook/rbac/bootstrap-roles failed: reason withheld\nreadyz check failed\n",
                failed("500 Internal Server Error: etcd, poststarthook/rbac/bootstrap-roles"),
            ),
            ("HTTP/1.0 200 OK\r\n\r\nok", Answer::Ready),
            ("HTTP/1.1 401 Unauthorized\r\n\r\n{}", failed("401 Unauthorized")),
            ("HTTP/1.1 2000 x\r\n\r\n", failed("2000 x")),
            ("SSH-2.0-OpenSSH\r\n", failed("not an answer in HTTP/1")),
            ("", failed("not an answer in HTTP/1")),
        ] {
            assert_eq!(read_answer(answer.as_bytes()), expected, "{answer}");
        }
    }
}
