//! TLS by the cluster's own certificates: who a server has to be, and one question to it.
//!
//! Invariants: nothing is said to a server, and nothing heard from it, before it has shown a certificate of the CA
//! that was named; an exchange ends at its time limit, however slowly the other side drips.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// The files and names that tell a server from an impostor.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    /// The CA of the server's certificate.
    pub(crate) ca: PathBuf,
    /// The name the certificate must hold.
    pub(crate) server_name: ServerName<'static>,
    /// Client certificate and key, for servers that do not answer just anybody.
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

/// What an exchange may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// From the connection to the last byte read.
    pub(crate) time: Duration,
    /// As much of an answer as is read.
    pub(crate) bytes: u64,
}

/// Reads what the credentials name.
pub(crate) fn load(credentials: &Credentials) -> Result<ClientConfig, Error> {
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
    // Each exchange proves anew who answers.
    tls.resumption = Resumption::disabled();
    Ok(tls)
}

/// Sends `request` on a connection of its own, and reads until the other side ends it.
pub(crate) fn exchange(
    address: &SocketAddr,
    tls: &Arc<ClientConfig>,
    name: &ServerName<'static>,
    request: &[u8],
    limit: Limit,
) -> io::Result<Vec<u8>> {
    let stream = open(address, tls, name, request, limit.time)?;
    let mut answer = Vec::new();
    match stream.take(limit.bytes).read_to_end(&mut answer) {
        // Servers that close without TLS's farewell have said all the same.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !answer.is_empty() => Ok(answer),
        Err(error) => Err(error),
        Ok(_) => Ok(answer),
    }
}

/// Sends `request` on a connection of its own; the answer is to be read within `time`.
pub(crate) fn open(
    address: &SocketAddr,
    tls: &Arc<ClientConfig>,
    name: &ServerName<'static>,
    request: &[u8],
    time: Duration,
) -> io::Result<impl Read + use<>> {
    let deadline = Instant::now() + time;
    let stream = Bounded { stream: TcpStream::connect_timeout(address, time)?, deadline };
    let connection = ClientConnection::new(Arc::clone(tls), name.clone()).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(request)?;
    Ok(stream)
}

/// What to say of an exchange that failed.
pub(crate) fn describe(error: &io::Error, limit: Limit) -> String {
    match error.kind() {
        // A read that runs into its time limit says that the resource is unavailable.
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            format!("no answer within {} s", limit.time.as_secs())
        }
        _ => error.to_string(),
    }
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
