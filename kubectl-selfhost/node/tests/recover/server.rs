//! An API server that is ready, and an etcd with one key, as far as `recover` asks them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// A certificate authority, as files where kubeadm has them, and the servers' certificates.
pub(crate) struct Pki {
    api_server: Arc<ServerConfig>,
    etcd: Arc<ServerConfig>,
}

impl Pki {
    pub(crate) fn new(directory: &Path) -> Result<Self> {
        let ca_key = KeyPair::generate()?;
        let mut ca_params = CertificateParams::new(Vec::new())?;
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = ca_params.self_signed(&ca_key)?;
        let issuer = Issuer::from_params(&ca_params, &ca_key);
        fs::create_dir_all(directory.join("etcd"))?;
        fs::write(directory.join("ca.crt"), ca.pem())?;
        fs::write(directory.join("etcd/ca.crt"), ca.pem())?;
        let client_key = KeyPair::generate()?;
        let client = CertificateParams::new(Vec::new())?.signed_by(&client_key, &issuer)?;
        fs::write(directory.join("apiserver-etcd-client.crt"), client.pem())?;
        fs::write(directory.join("apiserver-etcd-client.key"), client_key.serialize_pem())?;

        let key = KeyPair::generate()?;
        let names = vec!["kubernetes".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone())?;
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
        let server = |for_clients: bool| -> Result<Arc<ServerConfig>> {
            let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()?;
            let builder = if for_clients {
                builder.with_client_cert_verifier(Arc::clone(&clients))
            } else {
                builder.with_no_client_auth()
            };
            Ok(Arc::new(builder.with_single_cert(vec![certificate.der().clone()], der)?))
        };
        Ok(Self { api_server: server(false)?, etcd: server(true)? })
    }

    /// An API server that is ready, on a port that is free.
    pub(crate) fn api_server(&self, port: u16) -> Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", port)).with_context(|| format!("port {port}"))?;
        serve(listener, &self.api_server, |head, _| {
            assert!(head.starts_with("GET /readyz HTTP/1."), "{head}");
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()
        });
        Ok(())
    }

    /// An etcd in which `key` has `value`; its address.
    pub(crate) fn etcd(&self, key: &str, value: &[u8]) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = format!("https://{}", listener.local_addr()?);
        let (key, value) = (STANDARD.encode(key), STANDARD.encode(value));
        serve(listener, &self.etcd, move |head, body| {
            assert!(head.starts_with("POST /v3/kv/range HTTP/1.0\r\n"), "{head}");
            let answer = if body == format!(r#"{{"key":"{key}"}}"#) {
                format!(
                    r#"{{"header":{{"revision":"7"}},"kvs":[{{"key":"{key}","value":"{value}"}}],"count":"1"}}"#
                )
            } else {
                r#"{"header":{"revision":"7"}}"#.to_owned()
            };
            format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{answer}")
        });
        Ok(address)
    }
}

/// Answers every connection once, for as long as the tests run.
fn serve(
    listener: TcpListener,
    tls: &Arc<ServerConfig>,
    answer: impl Fn(&str, &str) -> String + Send + 'static,
) {
    let tls = Arc::clone(tls);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that breaks is the client's business.
            let _ = serve_one(stream, &tls, &answer);
        }
    });
}

fn serve_one(
    stream: TcpStream,
    tls: &Arc<ServerConfig>,
    answer: impl Fn(&str, &str) -> String,
) -> Result<()> {
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(Arc::clone(tls))?, stream));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        anyhow::ensure!(stream.read_line(&mut head)? > 0, "the connection ended");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap_or("0");
    let mut body = vec![0; length.trim().parse()?];
    stream.read_exact(&mut body)?;
    let answer = answer(&head, std::str::from_utf8(&body)?);
    let stream = stream.get_mut();
    stream.write_all(answer.as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}
