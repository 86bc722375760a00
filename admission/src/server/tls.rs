//! Who is served, and as whom.
//!
//! Invariant: TLS 1.3 alone, and nobody without a certificate of the API server. What reaches the guard can ask it what the
//! control plane's Secrets would be allowed to become.
//!
//! Invariant: an open connection keeps what it began with; one that a client of an older authority opened is asked to end.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::digest::Digest;

const DAY: i64 = 86_400;

/// From when until when a chain of certificates is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The latest beginning.
    pub from: i64,
    /// The earliest end.
    pub until: i64,
}

impl Validity {
    /// For how long it still is, or why it is not.
    pub fn check(self, now: i64) -> Result<String, String> {
        if now < self.from {
            return Err("it is not valid yet".to_owned());
        }
        match self.until - now {
            left if left <= 0 => Err("it has expired".to_owned()),
            left if left < 2 * DAY => Ok(format!("valid for {} hours", left / 3600)),
            left => Ok(format!("valid for {} days", left / DAY)),
        }
    }

    /// Whether less than a third of it is left: by then whoever renews certificates should have.
    pub fn is_late(self, now: i64) -> bool {
        self.until.saturating_sub(now) < self.until.saturating_sub(self.from) / 3
    }
}

/// The content of the files that make an identity.
#[derive(Clone)]
pub struct Material {
    /// The certificates, the server's own first, in PEM.
    pub certificates: Vec<u8>,
    /// The private key, in PEM.
    pub key: Vec<u8>,
    /// The authorities of clients, in PEM.
    pub client_ca: Vec<u8>,
}

/// Why an identity cannot be served. The libraries' own words are left out: some have bytes of what they could not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// No certificate.
    #[error("there is no certificate in the chain, or one that cannot be read")]
    Certificate,
    /// No key.
    #[error("there is no private key, or one that cannot be read")]
    Key,
    /// The key is of another certificate.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
    /// No authority.
    #[error("there is no certificate of a client's authority, or one that cannot be read")]
    ClientCa,
}

/// What is served.
pub struct Identity {
    config: Arc<ServerConfig>,
    /// When it is valid.
    pub validity: Validity,
    id: Digest,
    authority: Digest,
}

impl Identity {
    /// Reads certificates and key, and checks that they belong together.
    pub fn new(material: &Material) -> Result<Self, TlsError> {
        let chain = certificates(&material.certificates).ok_or(TlsError::Certificate)?;
        let validity = validity(&chain).ok_or(TlsError::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&material.key).map_err(|_| TlsError::Key)?;
        let mut roots = RootCertStore::empty();
        for authority in certificates(&material.client_ca).ok_or(TlsError::ClientCa)? {
            roots.add(authority).map_err(|_| TlsError::ClientCa)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|_| TlsError::ClientCa)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|_| TlsError::Key)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => TlsError::Mismatch,
                _ => TlsError::Key,
            })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // What tells it from another, without the key: that belongs to the certificate, and its hash would be of a Secret.
        let public = [material.certificates.as_slice(), b"\0", &material.client_ca].concat();
        let (id, authority) = (Digest::of(&public), Digest::of(&material.client_ca));
        Ok(Self { config: Arc::new(config), validity, id, authority })
    }

    /// The SHA-256 of its certificates and of its clients' authorities.
    pub fn id(&self) -> Digest {
        self.id
    }
}

fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok()?;
    (!found.is_empty()).then_some(found)
}

fn validity(chain: &[CertificateDer<'_>]) -> Option<Validity> {
    let mut result = Validity { from: i64::MIN, until: i64::MAX };
    for certificate in chain {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        result.from = result.from.max(certificate.validity().not_before.timestamp());
        result.until = result.until.min(certificate.validity().not_after.timestamp());
    }
    Some(result)
}

/// The identity that new connections get, and a signal to those that should end.
pub struct Tls {
    current: ArcSwap<Identity>,
    clients: ClientNames,
    generation: watch::Sender<u64>,
}

impl Tls {
    /// Serves this to clients of these names.
    pub fn new(identity: Identity, clients: ClientNames) -> Self {
        Self { current: ArcSwap::from_pointee(identity), clients, generation: watch::Sender::new(0) }
    }

    /// The identity of new connections.
    pub fn current(&self) -> Arc<Identity> {
        self.current.load_full()
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().config)
    }

    /// Serves another identity from now on.
    pub fn replace(&self, identity: Identity) {
        let authority = identity.authority;
        let before = self.current.swap(Arc::new(identity));
        if before.authority != authority {
            self.end_connections();
        }
    }

    /// Asks every open connection to end when what it is at is answered.
    pub fn end_connections(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    pub(super) fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    pub(super) fn admits(&self, chain: Option<&[CertificateDer<'_>]>) -> bool {
        chain.and_then(<[_]>::first).is_some_and(|certificate| self.clients.admit(certificate))
    }
}

/// The names of clients that are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientNames(Vec<String>);

impl ClientNames {
    /// These: common names, or DNS names.
    pub fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// Whether the certificate, which the handshake has verified, is of one of them.
    fn admit(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
        let is_named = |name: &str| self.0.iter().any(|it| it == name);
        let common = certificate.subject().iter_common_name().any(|name| name.as_str().is_ok_and(is_named));
        let alternative = certificate.subject_alternative_name().ok().flatten();
        common
            || alternative.is_some_and(|names| {
                names
                    .value
                    .general_names
                    .iter()
                    .any(|name| matches!(name, GeneralName::DNSName(name) if is_named(name)))
            })
    }
}
