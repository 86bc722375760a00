//! The client over real connections, to servers on this machine.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;
use crate::inventory::certificates::{self, Address};

const VERSION: &str = r#"{"major":"1","minor":"37","gitVersion":"v1.37.2","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"","platform":""}"#;

/// A certificate authority for one test.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("ca.crt"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    /// A server's TLS with a certificate for `name`, valid until the end of `year`.
    fn server(&self, name: &str, year: i32) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 12, 31);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// Flags that lead to `address` and trust this authority.
    fn flags(&self, address: SocketAddr) -> global::Connection {
        global::Connection {
            server: Some(format!("https://{address}")),
            certificate_authority: Some(self.directory.path().join("ca.crt")),
            kubeconfig: Some(self.empty_kubeconfig()),
            ..global::Connection::default()
        }
    }

    /// Tests must not depend on who runs them.
    fn empty_kubeconfig(&self) -> std::path::PathBuf {
        let path = self.directory.path().join("kubeconfig");
        std::fs::write(&path, "apiVersion: v1\nkind: Config\n").unwrap();
        path
    }
}

async fn listen(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Answers every request with a version and the request's own head, and keeps connections open.
fn serve(listener: TcpListener, tls: TlsAcceptor) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((tcp, _)) = listener.accept().await {
            let tls = tls.clone();
            connections.spawn(async move {
                if let Ok(stream) = tls.accept(tcp).await {
                    answer(stream).await;
                }
            });
        }
    })
}

async fn answer(mut stream: TlsStream<TcpStream>) {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n) = stream.read(&mut buffer).await {
        if n == 0 {
            return;
        }
        head.extend_from_slice(&buffer[..n]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{VERSION}", VERSION.len());
            if stream.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

async fn trouble(flags: &global::Connection) -> (Trouble, String) {
    let connection = Connection::open(flags, Duration::ZERO).await.unwrap();
    let error = connection.client().apiserver_version().await.unwrap_err();
    let told = connection.unreachable(&error);
    assert!(told.hint().is_some(), "{told}");
    (Trouble::of(&error), told.to_string())
}

#[tokio::test]
async fn a_server_of_the_right_authority_is_trusted() {
    let authority = Authority::new();
    let (listener, address) = listen("127.0.0.1:0").await;
    serve(listener, authority.server("127.0.0.1", 2100));
    let connection = Connection::open(&authority.flags(address), Duration::ZERO).await.unwrap();
    assert_eq!(connection.client().apiserver_version().await.unwrap().git_version, "v1.37.2");
}

#[tokio::test]
async fn trouble_is_told_by_its_kind() {
    let authority = Authority::new();
    let (gone, address) = listen("127.0.0.1:0").await;
    drop(gone);
    let (found, text) = trouble(&authority.flags(address)).await;
    assert_eq!(found, Trouble::Refused, "{text}");
    assert!(
        text.starts_with(&format!("cannot reach the API server at https://{address}/: Connection refused")),
        "{text}"
    );

    for (name, year, other_authority, expected) in [
        ("127.0.0.1", 2100, true, Trouble::UntrustedCertificate),
        ("elsewhere", 2100, false, Trouble::WrongName),
        ("127.0.0.1", 2020, false, Trouble::ServerCertificateExpired),
    ] {
        let (listener, address) = listen("127.0.0.1:0").await;
        let tls =
            if other_authority { Authority::new().server(name, year) } else { authority.server(name, year) };
        serve(listener, tls);
        let (found, text) = trouble(&authority.flags(address)).await;
        assert_eq!(found, expected, "{name} {year}: {text}");
    }

    let mut flags = authority.flags(address);
    flags.server = Some("https://no-such-host.invalid:6443".into());
    let (found, text) = trouble(&flags).await;
    assert_eq!(found, Trouble::UnknownHost, "{text}");

    let (listener, address) = listen("127.0.0.1:0").await;
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let (found, text) = trouble(&authority.flags(address)).await;
    assert_eq!(found, Trouble::Tls, "plain text where TLS should be: {text}");
}

#[tokio::test]
async fn a_server_that_hangs_is_left_after_the_request_timeout() {
    let authority = Authority::new();
    let (_listener, address) = listen("127.0.0.1:0").await;
    let flags = global::Connection { request_timeout: "300ms".parse().unwrap(), ..authority.flags(address) };
    let begin = std::time::Instant::now();
    let (found, text) = trouble(&flags).await;
    assert_eq!(found, Trouble::TimedOut, "{text}");
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_client_outlives_its_server() {
    let authority = Authority::new();
    let (listener, address) = listen("127.0.0.1:0").await;
    let first = serve(listener, authority.server("127.0.0.1", 2100));
    let connection = Connection::open(&authority.flags(address), Duration::from_secs(20)).await.unwrap();
    connection.client().apiserver_version().await.unwrap();
    // Open connections end with it.
    first.abort();
    let _ = first.await;
    let asking = tokio::spawn({
        let client = connection.client().clone();
        async move { client.apiserver_version().await.map(|info| info.git_version) }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!asking.is_finished(), "it waits for a server");
    let listener = loop {
        // The port may be taken for a moment.
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    serve(listener, authority.server("127.0.0.1", 2100));
    assert_eq!(asking.await.unwrap().unwrap(), "v1.37.2");
}

#[tokio::test]
async fn headers_say_who_and_as_whom() {
    let authority = Authority::new();
    let flags = global::Connection {
        token: Some("secret".into()),
        impersonate: Some("ann".into()),
        impersonate_groups: vec!["g1".into(), "g2".into()],
        impersonate_uid: Some("1234".into()),
        ..authority.flags("127.0.0.1:1".parse().unwrap())
    };
    let headers = Connection::open(&flags, Duration::ZERO).await.unwrap().headers().await.unwrap();
    let mut seen: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    seen.sort();
    assert_eq!(
        seen,
        [
            "authorization: Bearer secret",
            "impersonate-group: g1",
            "impersonate-group: g2",
            "impersonate-uid: 1234",
            "impersonate-user: ann",
        ]
    );
    assert!(headers["authorization"].is_sensitive());
}

#[tokio::test]
async fn a_greeting_shows_even_a_certificate_that_has_ended() {
    let authority = Authority::new();
    for year in [2100, 2020] {
        let (listener, address) = listen("127.0.0.1:0").await;
        serve(listener, authority.server("elsewhere", year));
        let address = Address { node: None, host: address.ip().to_string(), port: address.port() };
        let seen = certificates::served(&address).await.unwrap();
        assert_eq!(seen.not_after, format!("{year}-12-31T00:00:00Z").parse().unwrap());
    }
    let (silent, address) = listen("127.0.0.1:0").await;
    let address = Address { node: None, host: address.ip().to_string(), port: address.port() };
    assert_eq!(certificates::served(&address).await, None, "bounded in time");
    drop(silent);
}
