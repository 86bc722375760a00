//! Certificates and keys, as far as the rules look at them: what they are, until when, for whom, and whether they belong
//! together.
//!
//! Invariant: nothing here is a secret's way out. Errors name kinds and numbers, and a key is told by the fingerprint of
//! its public half.

mod key;
mod pem;

pub use key::{PublicKey, from_private, public_keys};
pub use pem::{Block, blocks};

use std::net::IpAddr;

use der::asn1::ObjectIdentifier;
use der::{Decode as _, Encode as _};
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use rsa::Pkcs1v15Sign;
use rsa::pkcs8::DecodePublicKey as _;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use x509_cert::der;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};
use x509_cert::name::Name;
use x509_cert::request::CertReq;

/// serverAuth.
pub const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
/// clientAuth.
pub const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
/// Any purpose.
pub const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");

const SHA256_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const SHA384_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const SHA512_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ECDSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");

/// What a signature came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    /// By this issuer.
    Yes,
    /// Not by this issuer.
    No,
    /// In a way that is not read here.
    Unsupported,
}

/// A certificate.
#[derive(Debug, Clone)]
pub struct Certificate {
    inner: x509_cert::Certificate,
    key: Vec<u8>,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

/// Every certificate of a PEM file, in order.
pub fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, String> {
    let blocks = blocks(pem)?;
    let mut found = Vec::new();
    for block in blocks.iter().filter(|block| block.label == "CERTIFICATE") {
        found.push(Certificate::from_der(&block.der)?);
    }
    Ok(found)
}

impl Certificate {
    /// Reads one.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        let inner =
            x509_cert::Certificate::from_der(der).map_err(|_| "it is no X.509 certificate".to_owned())?;
        let key = inner.tbs_certificate().subject_public_key_info().to_der();
        Ok(Self { inner, key: key.map_err(|_| "its key cannot be read".to_owned())? })
    }

    /// Since when it is valid, in seconds since 1970.
    pub fn not_before(&self) -> i64 {
        seconds(self.inner.tbs_certificate().validity().not_before)
    }

    /// Until when.
    pub fn not_after(&self) -> i64 {
        seconds(self.inner.tbs_certificate().validity().not_after)
    }

    /// The subject's common name; empty where it has none.
    pub fn common_name(&self) -> String {
        attributes(self.inner.tbs_certificate().subject(), COMMON_NAME).into_iter().next().unwrap_or_default()
    }

    /// The subject's organizations: the groups of whoever it authenticates.
    pub fn organizations(&self) -> Vec<String> {
        attributes(self.inner.tbs_certificate().subject(), ORGANIZATION)
    }

    /// The subject, for a message.
    pub fn subject(&self) -> String {
        let subject = self.inner.tbs_certificate().subject().to_string();
        if subject.is_empty() { "(no subject)".to_owned() } else { subject }
    }

    /// Its public key, in DER.
    pub fn key(&self) -> PublicKey {
        PublicKey::from_spki(&self.key)
    }

    /// Whether both have the same subject and key: one CA, however often it was renewed.
    pub fn is_same_authority(&self, other: &Self) -> bool {
        self.key == other.key
            && self.inner.tbs_certificate().subject() == other.inner.tbs_certificate().subject()
    }

    /// Whether it may sign certificates: CA in its basic constraints, and the usage, where it names any.
    pub fn is_authority(&self) -> bool {
        let tbs = self.inner.tbs_certificate();
        let constraints = tbs.get_extension::<BasicConstraints>();
        let usage = tbs.get_extension::<KeyUsage>();
        matches!(constraints, Ok(Some((_, BasicConstraints { ca: true, .. }))))
            && match usage {
                Ok(Some((_, usage))) => usage.key_cert_sign(),
                Ok(None) => true,
                Err(_) => false,
            }
    }

    /// What it is for; empty where it does not say.
    pub fn purposes(&self) -> Vec<ObjectIdentifier> {
        match self.inner.tbs_certificate().get_extension::<ExtendedKeyUsage>() {
            Ok(Some((_, usage))) => usage.0,
            _ => Vec::new(),
        }
    }

    /// Whether it may be used for a purpose.
    pub fn is_for(&self, purpose: ObjectIdentifier) -> bool {
        let purposes = self.purposes();
        purposes.contains(&purpose) || purposes.contains(&ANY_PURPOSE)
    }

    /// The names and addresses that it is good for: `kubernetes.default`, `10.96.0.1`.
    pub fn names(&self) -> Vec<String> {
        let names = match self.inner.tbs_certificate().get_extension::<SubjectAltName>() {
            Ok(Some((_, names))) => names.0,
            _ => return Vec::new(),
        };
        let name = |name: &GeneralName| match name {
            GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
            GeneralName::IpAddress(octets) => {
                let octets = octets.as_bytes();
                let four = <[u8; 4]>::try_from(octets).map(IpAddr::from);
                let address = four.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from));
                address.ok().map(|address| address.to_string())
            }
            _ => None,
        };
        names.iter().filter_map(name).collect()
    }

    /// Whether `issuer` has signed it.
    pub fn is_signed_by(&self, issuer: &Self) -> Signed {
        let (tbs, of_issuer) = (self.inner.tbs_certificate(), issuer.inner.tbs_certificate());
        if tbs.issuer() != of_issuer.subject() {
            return Signed::No;
        }
        let (Ok(content), Some(signature)) = (tbs.to_der(), self.inner.signature().as_bytes()) else {
            return Signed::No;
        };
        verify(&issuer.key, self.inner.signature_algorithm().oid, &content, signature)
    }

    /// What is too weak about it.
    pub fn weakness(&self) -> Option<String> {
        let oid = self.inner.signature_algorithm().oid;
        let known = [SHA256_RSA, SHA384_RSA, SHA512_RSA, ECDSA_SHA256, ECDSA_SHA384, ECDSA_SHA512];
        if !known.contains(&oid) {
            return Some(format!(
                "its signature is of a kind ({oid}) that is weak, or that the guard does not know"
            ));
        }
        self.key().weakness()
    }
}

/// Whether any of `authorities` has signed the certificate; a signature that cannot be read counts as one.
pub fn is_issued_by_any(certificate: &Certificate, authorities: &[Certificate]) -> bool {
    authorities.iter().any(|authority| certificate.is_signed_by(authority) != Signed::No)
}

/// Who a certificate request asks to be: common name and organizations.
pub fn requested(pem: &[u8]) -> Option<(String, Vec<String>)> {
    let blocks = blocks(pem).ok()?;
    let block = blocks.iter().find(|block| block.label.ends_with("CERTIFICATE REQUEST"))?;
    let request = CertReq::from_der(&block.der).ok()?;
    let name = attributes(&request.info.subject, COMMON_NAME).into_iter().next().unwrap_or_default();
    Some((name, attributes(&request.info.subject, ORGANIZATION)))
}

fn seconds(time: x509_cert::time::Time) -> i64 {
    i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
}

/// Every value of an attribute. The string types that occur are all bytes of UTF-8 or ASCII.
fn attributes(name: &Name, oid: ObjectIdentifier) -> Vec<String> {
    let values = name.iter().filter(|attribute| attribute.oid == oid);
    values.map(|attribute| String::from_utf8_lossy(attribute.value.value()).into_owned()).collect()
}

fn verify(key: &[u8], algorithm: ObjectIdentifier, content: &[u8], signature: &[u8]) -> Signed {
    let holds = |it: bool| if it { Signed::Yes } else { Signed::No };
    if [SHA256_RSA, SHA384_RSA, SHA512_RSA].contains(&algorithm) {
        let Ok(key) = rsa::PublicKey::from_public_key_der(key) else { return Signed::No };
        return holds(match algorithm {
            SHA256_RSA => {
                key.verify(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(content), signature).is_ok()
            }
            SHA384_RSA => {
                key.verify(Pkcs1v15Sign::new::<Sha384>(), &Sha384::digest(content), signature).is_ok()
            }
            _ => key.verify(Pkcs1v15Sign::new::<Sha512>(), &Sha512::digest(content), signature).is_ok(),
        });
    }
    let digest = match algorithm {
        ECDSA_SHA256 => Sha256::digest(content).to_vec(),
        ECDSA_SHA384 => Sha384::digest(content).to_vec(),
        ECDSA_SHA512 => Sha512::digest(content).to_vec(),
        _ => return Signed::Unsupported,
    };
    if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_der(key) {
        let signature = p256::ecdsa::Signature::from_der(signature);
        return holds(signature.is_ok_and(|signature| key.verify_prehash(&digest, &signature).is_ok()));
    }
    if let Ok(key) = p384::ecdsa::VerifyingKey::from_public_key_der(key) {
        let signature = p384::ecdsa::Signature::from_der(signature);
        return holds(signature.is_ok_and(|signature| key.verify_prehash(&digest, &signature).is_ok()));
    }
    Signed::Unsupported
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use super::testing::{Authority, Leaf, RSA_CHAIN, RSA_KEY};
    use super::*;

    #[test]
    fn reads_what_a_certificate_says() {
        let authority = Authority::new("kubernetes");
        let leaf = Leaf {
            organizations: vec!["system:nodes"],
            names: vec!["kubernetes", "10.96.0.1", "fd00::1"],
            ..Leaf::new("x")
        };
        let (pem, _) = authority.issue(&leaf);
        let found = &certificates(pem.as_bytes()).unwrap()[0];
        assert_eq!(found.common_name(), "x");
        assert_eq!(found.organizations(), ["system:nodes"]);
        assert_eq!(found.names(), ["kubernetes", "10.96.0.1", "fd00::1"]);
        assert!(!found.is_authority() && found.is_for(CLIENT_AUTH));
        let ca = &certificates(authority.pem().as_bytes()).unwrap()[0];
        assert!(ca.is_authority());
        assert_eq!(found.weakness(), None);
    }

    #[test]
    fn knows_who_signed() {
        let (one, other) = (Authority::new("kubernetes"), Authority::new("kubernetes"));
        let (pem, key) = one.issue(&Leaf::new("x"));
        let leaf = &certificates(pem.as_bytes()).unwrap()[0];
        let authority = |it: &Authority| certificates(it.pem().as_bytes()).unwrap().remove(0);
        assert_eq!(leaf.is_signed_by(&authority(&one)), Signed::Yes);
        assert_eq!(leaf.is_signed_by(&authority(&other)), Signed::No, "the name alone does not count");
        assert_eq!(from_private(key.as_bytes()).unwrap(), leaf.key());
        let (_, foreign) = one.issue(&Leaf::new("x"));
        assert_ne!(from_private(foreign.as_bytes()).unwrap(), leaf.key());
    }

    #[test]
    fn reads_rsa_as_kubeadm_makes_it() {
        let chain = certificates(RSA_CHAIN.as_bytes()).unwrap();
        assert_eq!(chain.len(), 2);
        assert_eq!(chain[0].is_signed_by(&chain[1]), Signed::Yes);
        assert_eq!(chain[1].is_signed_by(&chain[1]), Signed::Yes);
        assert_eq!(chain[1].is_signed_by(&chain[0]), Signed::No);
        assert_eq!(from_private(RSA_KEY.as_bytes()).unwrap(), chain[0].key());
        assert_eq!(chain[0].weakness(), None);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for pem in [
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\n****\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n",
        ] {
            assert!(certificates(pem.as_bytes()).is_err(), "{pem}");
        }
        assert_eq!(certificates(b"nothing").unwrap(), []);
        assert!(from_private(b"nothing").is_err());
    }
}
