//! Asks an API server's `/readyz` over verified TLS: the bridge's, and that of others on this node.
//!
//! Invariants: a check takes at most [`LIMIT`] altogether, however slowly the bridge drips; only the holder of a
//! certificate of the cluster's CA can say ready.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::readiness::Answer;

/// The time limit of a check, from the connection to the last byte read.
const LIMIT: Duration = Duration::from_secs(1);

/// As much of an answer as is looked at: the names of the failed checks come first.
const ANSWER_BYTES: u64 = 4096;

/// The files and names that tell the bridge from an impostor.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    /// The CA of the API server's certificate.
    pub(crate) ca: PathBuf,
    /// The name the certificate must hold.
    pub(crate) server_name: ServerName<'static>,
    /// Client certificate and key, for clusters that let nobody anonymous read `/readyz`.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

/// A file of the credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("read {}", path.display())]
    Pem { path: PathBuf, source: pem::Error },
    #[error("{} holds no certificate", path.display())]
    Empty { path: PathBuf },
    #[error("use the CA in {}", path.display())]
    Ca { path: PathBuf, source: rustls::Error },
    #[error("use the client certificate in {}", path.display())]
    Client { path: PathBuf, source: rustls::Error },
    #[error("set up TLS")]
    Tls(#[source] rustls::Error),
}

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
        let tls = Arc::new(load(&credentials)?);
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
                    && let Ok(tls) = load(&self.credentials)
                {
                    // The CA or our certificate may have been renewed on disk.
                    self.tls = Arc::new(tls);
                }
                Answer::Failed(describe(&error))
            }
        }
    }

    fn ask(&self, path: &str) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + LIMIT;
        let stream = Bounded { stream: TcpStream::connect_timeout(&self.address, LIMIT)?, deadline };
        let connection = ClientConnection::new(Arc::clone(&self.tls), self.credentials.server_name.clone())
            .map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: kubernetes\r\nUser-Agent: selfhost-node\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        match stream.take(ANSWER_BYTES).read_to_end(&mut answer) {
            // Servers that close without TLS's farewell have said all the same.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !answer.is_empty() => Ok(answer),
            Err(error) => Err(error),
            Ok(_) => Ok(answer),
        }
    }
}

impl fmt::Display for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}/readyz", self.address)
    }
}

fn load(credentials: &Credentials) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&credentials.ca)? {
        roots.add(certificate).map_err(|source| Error::Ca { path: credentials.ca.clone(), source })?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .with_root_certificates(roots);
    let mut tls = match &credentials.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let der = PrivateKeyDer::from_pem_file(key)
                .map_err(|source| Error::Pem { path: key.clone(), source })?;
            builder
                .with_client_auth_cert(certificates(certificate)?, der)
                .map_err(|source| Error::Client { path: certificate.clone(), source })?
        }
    };
    // Each check proves anew who answers.
    tls.resumption = Resumption::disabled();
    Ok(tls)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = |source| Error::Pem { path: path.to_owned(), source };
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(read)?.collect::<Result<_, _>>().map_err(read)?;
    if certificates.is_empty() {
        return Err(Error::Empty { path: path.to_owned() });
    }
    Ok(certificates)
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

fn describe(error: &io::Error) -> String {
    match error.kind() {
        // A read that runs into its time limit says that the resource is unavailable.
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            format!("no answer within {} s", LIMIT.as_secs())
        }
        _ => error.to_string(),
    }
}

/// A connection that ends at a deadline.
#[derive(Debug)]
struct Bounded {
    stream: TcpStream,
    deadline: Instant,
}

impl Bounded {
    fn remaining(&self) -> io::Result<Duration> {
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(remaining) }
    }
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.remaining()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Bounded {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.remaining()?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
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
