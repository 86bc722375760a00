//! Opens what an API server encrypted before it stored it.
//!
//! Which key it was is found by trying: a name is no proof, and may be used twice in one configuration.
//!
//! Invariant: what is returned is an object of Kubernetes, whatever a wrong key made of the bytes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::generic_array::GenericArray;
use aes_gcm::aead::generic_array::typenum::Unsigned;
use aes_gcm::aead::{Aead, AeadCore, KeyInit, Payload};
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockDecryptMut, KeyIvInit};
use crypto_secretbox::XSalsa20Poly1305;

use super::scan;

/// How every encrypted value begins; `PROVIDER:VERSION:KEY:` follows.
const PREFIX: &[u8] = b"k8s:enc:";

/// A value that stays closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "the value is encrypted by a key management service (provider {0}), which only an API server can ask"
    )]
    Kms(String),
    #[error("the value is encrypted in a way that is not known here: {0}")]
    Provider(String),
    #[error("the value is encrypted ({0}), and no file with its key is known")]
    NoFile(String),
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the value is encrypted ({provider}), and none of the {tried} keys in {} opens it", path.display())]
    NoKey { provider: String, tried: usize, path: PathBuf },
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Kms(_) | Self::Provider(_) => {
                "selfhost-node recover --from kept starts the API server of before the pivot"
            }
            Self::NoFile(_) => {
                "give the file that the API server had: --encryption-provider-config FILE; or --from kept"
            }
            Self::Read { .. } | Self::NoKey { .. } => {
                "give the file that the API server that wrote it had: --encryption-provider-config FILE"
            }
        }
    }
}

/// Opens with a key what was sealed for a place in etcd.
type Cipher = fn(&[u8], &[u8], &[u8]) -> Option<Vec<u8>>;

/// What was stored under `etcd_key`: as it is, or opened with a key in `file`.
pub(super) fn open(stored: Vec<u8>, etcd_key: &str, file: Option<&Path>) -> Result<Vec<u8>, Error> {
    let Some(rest) = stored.strip_prefix(PREFIX) else { return Ok(stored) };
    let mut parts = rest.splitn(4, |&byte| byte == b':');
    let mut word = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (provider, version, name) = (word(), word(), word());
    let sealed = parts.next().unwrap_or_default();
    if provider == "kms" {
        return Err(Error::Kms(name));
    }
    let cipher: Cipher = match (provider.as_str(), version.as_str()) {
        ("aescbc", "v1") => aescbc,
        ("aesgcm", "v1") => aesgcm,
        ("secretbox", "v1") => secretbox,
        _ => return Err(Error::Provider(format!("{provider}:{version}"))),
    };
    let provider = format!("{provider}, key {name}");
    let path = file.ok_or_else(|| Error::NoFile(provider.clone()))?;
    let text = fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let mut tried = 0;
    for key in scan::values(&text, "secret").filter_map(|secret| STANDARD.decode(secret).ok()) {
        tried += 1;
        // A value is bound to its place in etcd, where the cipher can do that.
        if let Some(opened) =
            cipher(&key, sealed, etcd_key.as_bytes()).filter(|it| super::stored::is_object(it))
        {
            return Ok(opened);
        }
    }
    Err(Error::NoKey { provider, tried, path: path.to_owned() })
}

/// The initial vector, then blocks with PKCS #7 padding; nothing tells a wrong key but the padding.
fn aescbc(key: &[u8], sealed: &[u8], _place: &[u8]) -> Option<Vec<u8>> {
    let (iv, blocks) = sealed.split_at_checked(16)?;
    match key.len() {
        16 => unpad(Decryptor::<Aes128>::new_from_slices(key, iv).ok()?, blocks),
        24 => unpad(Decryptor::<Aes192>::new_from_slices(key, iv).ok()?, blocks),
        32 => unpad(Decryptor::<Aes256>::new_from_slices(key, iv).ok()?, blocks),
        _ => None,
    }
}

fn unpad(cipher: impl BlockDecryptMut, blocks: &[u8]) -> Option<Vec<u8>> {
    cipher.decrypt_padded_vec_mut::<Pkcs7>(blocks).ok()
}

fn aesgcm(key: &[u8], sealed: &[u8], place: &[u8]) -> Option<Vec<u8>> {
    match key.len() {
        16 => authenticated::<Aes128Gcm>(key, sealed, place),
        24 => authenticated::<AesGcm<Aes192, U12>>(key, sealed, place),
        32 => authenticated::<Aes256Gcm>(key, sealed, place),
        _ => None,
    }
}

fn secretbox(key: &[u8], sealed: &[u8], _place: &[u8]) -> Option<Vec<u8>> {
    authenticated::<XSalsa20Poly1305>(key, sealed, b"")
}

/// The nonce, then the text with its tag.
fn authenticated<C: Aead + KeyInit>(key: &[u8], sealed: &[u8], place: &[u8]) -> Option<Vec<u8>> {
    let cipher = C::new_from_slice(key).ok()?;
    let (nonce, text) = sealed.split_at_checked(<C as AeadCore>::NonceSize::USIZE)?;
    cipher.decrypt(GenericArray::from_slice(nonce), Payload { msg: text, aad: place }).ok()
}
