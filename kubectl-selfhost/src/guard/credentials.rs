//! The guard's own certificates: one authority, of which nothing is kept, and two certificates by it.
//!
//! The API servers know the guard by the first, the guard knows them by the second. Both speak over loopback, and their
//! keys are worth no more than that: who reads them may ask the guard for a verdict, or may be asked for one on a node
//! on which they are root already.
//!
//! Invariant: the authority signs two certificates and its key is forgotten. Other certificates come with another
//! authority, and under another name.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{Timestamp, ToSpan as _};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use selfhost_core::review::settings::Guard;
use serde_json::{Value, json};
use x509_parser::pem::Pem;

use super::address;
use crate::error::Explain;
use crate::template::guard::{self, CONFIGURATION, IN_POD, KUBECONFIG, MANIFEST, MANIFESTS};
use crate::template::short_hash;

/// The name by which the guard knows API servers.
pub const CLIENT: &str = "kube-apiserver.selfhost-guard";

/// For how long they are valid: as kubeadm's authorities. What would renew them is a swap of every API server, and what
/// comes of a missed one is a control plane that cannot be edited.
const YEARS: i64 = 10;

/// What a Secret of ours holds, besides [`CONFIGURATION`] and [`KUBECONFIG`].
pub const AUTHORITY: &str = "ca.crt";
/// The guard's certificate.
pub const CERTIFICATE: &str = "tls.crt";
/// Its key.
pub const KEY: &str = "tls.key";

/// Certificates, and what is made of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Files by name: of the guard, and of the API servers.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// Credentials that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// They cannot be made.
    #[error("cannot make certificates")]
    Make(#[from] rcgen::Error),
    /// The Secret that is there lacks a file.
    #[error("has no {0}")]
    Missing(&'static str),
    /// A certificate in it cannot be read.
    #[error("{0} is no certificate")]
    NoCertificate(&'static str),
    /// A certificate in it is not valid now.
    #[error("{file} is valid until {until}")]
    Expired {
        /// Which.
        file: &'static str,
        /// The end of its validity.
        until: String,
    },
}

impl Explain for Error {}

impl Credentials {
    /// New ones.
    pub fn make(now: Timestamp, port: u16) -> Result<Self, Error> {
        let authority_key = KeyPair::generate()?;
        let mut params = parameters("selfhost-guard", now);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = params.self_signed(&authority_key)?;
        let issuer = Issuer::new(params, authority_key);
        let leaf = |mut params: CertificateParams, usage| -> Result<(String, String), Error> {
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate()?;
            Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
        };
        let mut server = parameters("selfhost-guard", now);
        server.subject_alt_names = vec![rcgen::SanType::IpAddress(address::LOOPBACK.into())];
        let (certificate, key) = leaf(server, ExtendedKeyUsagePurpose::ServerAuth)?;
        let (client, client_key) = leaf(parameters(CLIENT, now), ExtendedKeyUsagePurpose::ClientAuth)?;
        let files = [
            (AUTHORITY, authority.pem()),
            (CERTIFICATE, certificate),
            (KEY, key),
            (KUBECONFIG, kubeconfig(&client, &client_key, port)),
        ];
        let files = files.map(|(name, content)| (name.to_owned(), content.into_bytes()));
        Ok(Self { files: files.into() }.with_manifest(None))
    }

    /// The same certificates, with this static manifest for the API servers, or with none.
    #[must_use]
    pub fn with_manifest(mut self, manifest: Option<&Value>) -> Self {
        self.files.remove(MANIFEST);
        if let Some(manifest) = manifest {
            self.files.insert(MANIFEST.to_owned(), format!("{manifest:#}\n").into_bytes());
        }
        let configuration = configuration(&self.name());
        self.files.insert(CONFIGURATION.to_owned(), configuration.into_bytes());
        self
    }

    /// Those of the Secret, if they are whole and still valid.
    pub fn of(secret: Secret, now: Timestamp) -> Result<Self, Error> {
        let data = secret.data.unwrap_or_default();
        let found = Self { files: data.into_iter().map(|(name, ByteString(bytes))| (name, bytes)).collect() };
        for file in [KEY, CONFIGURATION, KUBECONFIG] {
            found.file(file)?;
        }
        for file in [AUTHORITY, CERTIFICATE] {
            let pem = Pem::iter_from_buffer(found.file(file)?).next().and_then(Result::ok);
            let pem = pem.ok_or(Error::NoCertificate(file))?;
            let certificate = pem.parse_x509().map_err(|_| Error::NoCertificate(file))?;
            let until = certificate.validity().not_after.timestamp();
            if until <= now.as_second() {
                let until = Timestamp::from_second(until).map(|it| it.to_string()).unwrap_or_default();
                return Err(Error::Expired { file, until });
            }
        }
        Ok(found)
    }

    fn file(&self, name: &'static str) -> Result<&[u8], Error> {
        self.files.get(name).map(Vec::as_slice).ok_or(Error::Missing(name))
    }

    /// The name of what the API servers read: of its content, so that another credential has another name.
    pub fn name(&self) -> String {
        let content = [KUBECONFIG, MANIFEST].map(|file| self.files.get(file).map_or(&[][..], Vec::as_slice));
        guard::credential_name(&short_hash(&content.concat()), self.files.contains_key(MANIFEST))
    }

    /// The static manifest, where the API servers have one.
    pub fn manifest(&self) -> Option<Value> {
        serde_json::from_slice(self.files.get(MANIFEST)?).ok()
    }

    /// The authority, as a registration has it: PEM, in base64.
    pub fn ca_bundle(&self) -> String {
        STANDARD.encode(self.files.get(AUTHORITY).map_or(&[][..], Vec::as_slice))
    }

    /// The Secret that holds them.
    pub fn secret(&self, guard: &Guard) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(guard.name.clone()),
                namespace: Some(guard.namespace.clone()),
                ..ObjectMeta::default()
            },
            data: Some(
                self.files.iter().map(|(name, bytes)| (name.clone(), ByteString(bytes.clone()))).collect(),
            ),
            ..Secret::default()
        }
    }
}

fn parameters(name: &str, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // Clocks differ.
    let zoned = now.to_zoned(jiff::tz::TimeZone::UTC);
    let day = |zoned: &jiff::Zoned| {
        rcgen::date_time_ymd(
            i32::from(zoned.year()),
            zoned.month().unsigned_abs(),
            zoned.day().unsigned_abs(),
        )
    };
    let yesterday = zoned.checked_sub(1.day()).unwrap_or_else(|_| zoned.clone());
    let end = zoned.checked_add(YEARS.years()).unwrap_or_else(|_| zoned.clone());
    params.not_before = day(&yesterday);
    params.not_after = day(&end);
    params
}

/// How an API server asks the guard: the user is named after the webhook's host and port (k8s.io/apiserver,
/// `pkg/util/webhook/authentication.go`).
fn kubeconfig(certificate: &str, key: &str, port: u16) -> String {
    let user = json!({
        "client-certificate-data": STANDARD.encode(certificate), "client-key-data": STANDARD.encode(key),
    });
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "users": [{"name": address::host(port), "user": user}],
    });
    format!("{config:#}\n")
}

/// The admission configuration that names the kubeconfig, and the directory of static manifests where there are some.
fn configuration(credential: &str) -> String {
    let mut webhook = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "WebhookAdmissionConfiguration",
        "kubeConfigFile": format!("{IN_POD}/{credential}/{KUBECONFIG}"),
    });
    if guard::has_manifests(credential) {
        webhook["staticManifestsDir"] = json!(format!("{IN_POD}/{credential}/{MANIFESTS}"));
    }
    let configuration = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [{"name": "ValidatingAdmissionWebhook", "configuration": webhook}],
    });
    format!("{configuration:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn what_is_made_is_taken_again_until_it_expires() {
        let made = Credentials::make(now(), 9443).unwrap();
        let secret = || made.secret(&Guard::default());
        assert_eq!(Credentials::of(secret(), now()).unwrap(), made);
        let later = "2036-01-02T00:00:00Z".parse().unwrap();
        assert!(matches!(Credentials::of(secret(), later), Err(Error::Expired { file: AUTHORITY, .. })));
        for file in [AUTHORITY, CERTIFICATE, KEY, CONFIGURATION, KUBECONFIG] {
            let mut secret = secret();
            secret.data.as_mut().unwrap().remove(file);
            let error = Credentials::of(secret, now()).unwrap_err();
            assert_eq!(error.to_string(), format!("has no {file}"));
        }
    }

    #[test]
    fn another_credential_has_another_name_which_its_configuration_tells() {
        let [one, other] = [(); 2].map(|()| Credentials::make(now(), 9443).unwrap());
        assert_ne!(one.name(), other.name());
        let configuration = String::from_utf8(one.files[CONFIGURATION].clone()).unwrap();
        assert!(configuration.contains(&format!("{IN_POD}/{}/{KUBECONFIG}", one.name())), "{configuration}");
    }

    #[test]
    fn a_static_manifest_makes_another_credential_of_the_same_certificates() {
        let plain = Credentials::make(now(), 9443).unwrap();
        let kept = plain.clone().with_manifest(Some(&json!({"kind": "x"})));
        assert_ne!(kept.name(), plain.name());
        assert_eq!(kept.manifest(), Some(json!({"kind": "x"})));
        for file in [AUTHORITY, CERTIFICATE, KEY, KUBECONFIG] {
            assert_eq!(kept.files[file], plain.files[file], "{file}");
        }
        let directory = |it: &Credentials| {
            let configuration: Value = serde_json::from_slice(&it.files[CONFIGURATION]).unwrap();
            configuration["plugins"][0]["configuration"]["staticManifestsDir"].clone()
        };
        assert_eq!(directory(&kept), format!("{IN_POD}/{}/{MANIFESTS}", kept.name()));
        assert_eq!(directory(&plain), Value::Null);
        let other = kept.clone().with_manifest(Some(&json!({"kind": "y"})));
        assert_ne!(other.name(), kept.name());
        assert_eq!(other.with_manifest(None), plain);
    }

    #[test]
    fn the_user_is_named_after_host_and_port() {
        let made = Credentials::make(now(), 9999).unwrap();
        let kubeconfig: serde_json::Value = serde_json::from_slice(&made.files[KUBECONFIG]).unwrap();
        assert_eq!(kubeconfig["users"][0]["name"], "127.0.0.1:9999");
    }

    #[test]
    fn each_certificate_is_for_one_side() {
        let made = Credentials::make(now(), 9443).unwrap();
        let pem = Pem::iter_from_buffer(&made.files[CERTIFICATE]).next().unwrap().unwrap();
        let certificate = pem.parse_x509().unwrap();
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && !usage.client_auth);
        let authority = Pem::iter_from_buffer(&made.files[AUTHORITY]).next().unwrap().unwrap();
        let authority = authority.parse_x509().unwrap();
        assert!(authority.is_ca());
        assert_eq!(certificate.issuer(), authority.subject());
    }
}
