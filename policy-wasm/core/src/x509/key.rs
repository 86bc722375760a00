//! Keys: the public half of a private one, and how strong it is.

use p256::pkcs8::EncodePublicKey as _;
use rsa::pkcs1;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::spki::{ObjectIdentifier, SubjectPublicKeyInfoOwned};

use super::pem::{Block, blocks};
use crate::review::approval::hex;
use sha2::{Digest as _, Sha256};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// A public key, as a certificate holds it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublicKey {
    spki: Vec<u8>,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

impl PublicKey {
    pub(super) fn from_spki(spki: &[u8]) -> Self {
        Self { spki: spki.to_vec() }
    }

    /// The beginning of the SHA-256 of the key, by which messages name it.
    pub fn fingerprint(&self) -> String {
        let digest = hex(&Sha256::digest(&self.spki));
        format!("SHA256:{}", digest.get(..16).unwrap_or_default())
    }

    /// What is too weak about it.
    pub fn weakness(&self) -> Option<String> {
        let Ok(info) = SubjectPublicKeyInfoOwned::from_der(&self.spki) else {
            return Some("its key cannot be read".to_owned());
        };
        match info.algorithm.oid {
            RSA => {
                let bits = info.subject_public_key.as_bytes().and_then(rsa_bits);
                match bits {
                    Some(bits) if bits >= 2048 => None,
                    Some(bits) => Some(format!("its RSA key has {bits} bits, and 2048 is the least")),
                    None => Some("its RSA key cannot be read".to_owned()),
                }
            }
            EC => {
                let curve = info.algorithm.parameters.and_then(|it| it.decode_as::<ObjectIdentifier>().ok());
                match curve {
                    Some(P256 | P384) => None,
                    _ => Some("its curve is neither P-256 nor P-384".to_owned()),
                }
            }
            other => Some(format!("its key is of a kind ({other}) that the guard does not know")),
        }
    }
}

fn rsa_bits(der: &[u8]) -> Option<usize> {
    let key = pkcs1::RsaPublicKeyRef::try_from(der).ok()?;
    let bytes = key.modulus.as_bytes();
    let leading = bytes.first()?.leading_zeros();
    Some(bytes.len() * 8 - usize::try_from(leading).ok()?)
}

/// The public half of the private key in a PEM file.
pub fn from_private(pem: &[u8]) -> Result<PublicKey, String> {
    let blocks = blocks(pem)?;
    let mut keys = blocks.iter().filter(|block| block.label.ends_with("PRIVATE KEY"));
    match (keys.next(), keys.next()) {
        (Some(block), None) => of_block(block),
        (None, _) => Err("it holds no private key".to_owned()),
        (Some(_), Some(_)) => Err("it holds two private keys".to_owned()),
    }
}

/// Every key of a PEM file, as the API server reads `--service-account-key-file`: public keys, certificates, and the
/// public halves of private keys.
pub fn public_keys(pem: &[u8]) -> Result<Vec<PublicKey>, String> {
    blocks(pem)?.iter().map(of_block).collect()
}

fn of_block(block: &Block) -> Result<PublicKey, String> {
    let der = block.der.as_slice();
    let unreadable =
        || format!("its {} cannot be read, or is of a kind that the guard does not know", block.label);
    let found = match block.label.as_str() {
        "CERTIFICATE" => return Ok(super::Certificate::from_der(der)?.key()),
        "PUBLIC KEY" => SubjectPublicKeyInfoOwned::from_der(der).ok().and_then(|it| it.to_der().ok()),
        "RSA PUBLIC KEY" => pkcs1::RsaPublicKeyRef::try_from(der).ok().and_then(rsa_spki),
        "RSA PRIVATE KEY" => of_pkcs1(der),
        "EC PRIVATE KEY" => of_sec1(der),
        "PRIVATE KEY" => {
            let info = p256::pkcs8::PrivateKeyInfoRef::try_from(der).map_err(|_| unreadable())?;
            match info.algorithm.oid {
                RSA => of_pkcs1(info.private_key.as_bytes()),
                EC => of_pkcs8(der),
                _ => None,
            }
        }
        _ => None,
    };
    found.map(|spki| PublicKey { spki }).ok_or_else(unreadable)
}

fn of_pkcs1(der: &[u8]) -> Option<Vec<u8>> {
    rsa_spki(pkcs1::RsaPrivateKeyRef::try_from(der).ok()?.public_key())
}

/// `SubjectPublicKeyInfo` of an RSA key: its algorithm has a NULL for parameters.
fn rsa_spki(key: pkcs1::RsaPublicKeyRef<'_>) -> Option<Vec<u8>> {
    let algorithm = x509_cert::spki::AlgorithmIdentifierOwned {
        oid: RSA,
        parameters: Some(x509_cert::der::asn1::Null.into()),
    };
    let subject_public_key = x509_cert::der::asn1::BitString::from_bytes(&key.to_der().ok()?).ok()?;
    SubjectPublicKeyInfoOwned { algorithm, subject_public_key }.to_der().ok()
}

fn of_sec1(der: &[u8]) -> Option<Vec<u8>> {
    let of_256 =
        p256::SecretKey::from_sec1_der(der).ok().and_then(|key| key.public_key().to_public_key_der().ok());
    let of_384 =
        || p384::SecretKey::from_sec1_der(der).ok().and_then(|key| key.public_key().to_public_key_der().ok());
    of_256.or_else(of_384).map(|document| document.as_bytes().to_vec())
}

fn of_pkcs8(der: &[u8]) -> Option<Vec<u8>> {
    use p256::pkcs8::DecodePrivateKey as _;
    let of_256 =
        p256::SecretKey::from_pkcs8_der(der).ok().and_then(|key| key.public_key().to_public_key_der().ok());
    let of_384 = || {
        p384::SecretKey::from_pkcs8_der(der).ok().and_then(|key| key.public_key().to_public_key_der().ok())
    };
    of_256.or_else(of_384).map(|document| document.as_bytes().to_vec())
}
