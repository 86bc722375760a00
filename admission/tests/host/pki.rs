//! Certificates of a cluster: who is asked, and who asks.

use std::sync::Arc;

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use selfhost_admission::server::tls::Material;

/// The name of the client that a guard of these tests serves.
pub(crate) const CLIENT: &str = "kube-apiserver";

/// An authority.
pub(crate) struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// The server's certificate and its key, for a number of days beginning yesterday.
    pub(crate) fn server(&self, days: i64) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.not_before = time(-1);
        params.not_after = time(days);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// What a guard serves with; this authority is its clients', too.
    pub(crate) fn material(&self) -> Material {
        let (certificates, key) = self.server(30);
        Material { certificates: certificates.into(), key: key.into(), client_ca: self.pem().into() }
    }

    /// A client's certificate.
    pub(crate) fn client(&self, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    /// How a client of this name connects to a server of this authority.
    pub(crate) fn client_config(&self, name: &str) -> ClientConfig {
        self.config(Some(self.client(name)), &[&rustls::version::TLS13])
    }

    /// How somebody connects to a server of this authority.
    pub(crate) fn config(
        &self,
        identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.der()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        match identity {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => builder.with_no_client_auth(),
        }
    }
}

/// Days from now, as rcgen has it.
fn time(days: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::from(std::time::SystemTime::now()) + time::Duration::days(days)
}
