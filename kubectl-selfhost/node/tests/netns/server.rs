//! TLS servers that say who they are, and clients that ask them.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

/// The name in the API servers' certificates.
const NAME: &str = "kubernetes";

/// No answer in these tests takes longer, unless it never comes.
const LIMIT: Duration = Duration::from_secs(3);

/// A certificate authority with one server certificate.
pub(crate) struct Pki {
    directory: TempDir,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Pki {
    pub(crate) fn new() -> Result<Self> {
        let ca_key = KeyPair::generate()?;
        let mut ca_params = CertificateParams::new(Vec::new())?;
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = ca_params.self_signed(&ca_key)?;
        let issuer = Issuer::from_params(&ca_params, &ca_key);
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![NAME.to_owned()])?.signed_by(&key, &issuer)?;

        let directory = tempfile::tempdir()?;
        fs::write(directory.path().join("ca.crt"), ca.pem())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], der)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone())?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { directory, server: Arc::new(server), client: Arc::new(client) })
    }

    /// The authority's certificate as a file.
    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }
}

/// What a server does with `/readyz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readyz {
    /// 200.
    Ready,
    /// 500.
    NotReady,
    /// 500 so many times, then 200.
    FailNext(u32),
    /// Never answers.
    Hang,
}

/// A server that tells its name to everybody who asks.
pub(crate) struct Server {
    readyz: Arc<Mutex<Readyz>>,
    stopping: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on every address of the current namespace.
    pub(crate) fn start(name: &'static str, port: u16, pki: &Pki) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).with_context(|| format!("port {port}"))?;
        listener.set_nonblocking(true)?;
        let readyz = Arc::new(Mutex::new(Readyz::Ready));
        let stopping = Arc::new(AtomicBool::new(false));
        let (answers, stopped, tls) = (Arc::clone(&readyz), Arc::clone(&stopping), Arc::clone(&pki.server));
        let accepting = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let (answers, tls) = (Arc::clone(&answers), Arc::clone(&tls));
                        // A connection that breaks is the client's business.
                        thread::spawn(move || serve(stream, tls, name, &answers).ok());
                    }
                    Err(_) => thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Ok(Self { readyz, stopping, accepting: Some(accepting) })
    }

    /// Changes what `/readyz` answers.
    pub(crate) fn set(&self, readyz: Readyz) {
        *self.readyz.lock().expect("no handler panics") = readyz;
    }

    /// What `/readyz` answers now.
    pub(crate) fn readyz(&self) -> Readyz {
        *self.readyz.lock().expect("no handler panics")
    }

    /// Closes the listening socket; open connections go on.
    pub(crate) fn stop_listening(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(accepting) = self.accepting.take() {
            accepting.join().expect("the accepting thread does not panic");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(stream: TcpStream, tls: Arc<ServerConfig>, name: &str, readyz: &Mutex<Readyz>) -> Result<()> {
    stream.set_nonblocking(false)?;
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(tls)?, stream));
    loop {
        let head = read_head(&mut stream)?;
        if head.starts_with("GET /reset ") {
            rustix::net::sockopt::set_socket_linger(&stream.get_mut().sock, Some(Duration::ZERO))?;
            return Ok(());
        }
        let status = if head.starts_with("GET /readyz ") {
            let mut readyz = readyz.lock().expect("no handler panics");
            let now = *readyz;
            match now {
                Readyz::Ready => "200 OK",
                Readyz::NotReady => "500 Internal Server Error",
                Readyz::FailNext(times) => {
                    *readyz = if times > 1 { Readyz::FailNext(times - 1) } else { Readyz::Ready };
                    "500 Internal Server Error"
                }
                Readyz::Hang => {
                    drop(readyz);
                    thread::sleep(Duration::from_secs(60));
                    bail!("nobody waits this long");
                }
            }
        } else {
            "200 OK"
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        stream.get_mut().write_all(answer.as_bytes())?;
        stream.get_mut().flush()?;
        if head.contains("Connection: close") {
            stream.get_mut().conn.send_close_notify();
            stream.get_mut().flush()?;
            return Ok(());
        }
    }
}

/// A connection that is used again and again.
pub(crate) struct Client(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl Client {
    /// Connects, without saying anything yet but TLS's greeting.
    pub(crate) fn connect(address: SocketAddr, pki: &Pki) -> Result<Self> {
        Self::greet(TcpStream::connect_timeout(&address, LIMIT)?, pki)
    }

    /// The same, from a chosen address and port.
    pub(crate) fn connect_from(source: SocketAddr, address: SocketAddr, pki: &Pki) -> Result<Self> {
        Self::greet(connect_from(source, address)?, pki)
    }

    fn greet(stream: TcpStream, pki: &Pki) -> Result<Self> {
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let connection = ClientConnection::new(Arc::clone(&pki.client), ServerName::try_from(NAME)?)?;
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self(BufReader::new(stream)))
    }

    /// The name of the server at the other end.
    pub(crate) fn who(&mut self) -> Result<String> {
        self.0.get_mut().write_all(b"GET /who HTTP/1.1\r\n\r\n")?;
        let head = read_head(&mut self.0)?;
        let length =
            head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).context("no length")?;
        let mut body = vec![0; length.trim().parse()?];
        self.0.read_exact(&mut body)?;
        Ok(String::from_utf8(body)?)
    }
}

impl Client {
    /// Has the server reset the connection, without a goodbye from anybody.
    pub(crate) fn reset(mut self) -> Result<()> {
        self.0.get_mut().write_all(b"GET /reset HTTP/1.1\r\n\r\n")?;
        match self.0.get_mut().sock.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
            other => bail!("{other:?} instead of a reset"),
        }
    }
}

/// Who answers a new connection to `address`.
pub(crate) fn who(address: &str, pki: &Pki) -> Result<String> {
    Client::connect(address.parse()?, pki)?.who()
}

/// Whether nobody listens at `address`.
pub(crate) fn refused(address: &str) -> Result<bool> {
    match TcpStream::connect_timeout(&address.parse()?, LIMIT) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(true),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(false),
    }
}

/// Connects from a chosen address and port.
pub(crate) fn connect_from(source: SocketAddr, target: SocketAddr) -> Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
    let family = if source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &source)?;
    connect(&socket, &target)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// The loopback address with `port`.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn read_head(stream: &mut impl BufRead) -> Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            bail!("the connection ended");
        }
    }
    Ok(head)
}
