//! A DaemonSet as an API server stores it in etcd: in protobuf or JSON, perhaps encrypted.
//!
//! Invariant: what is returned is the template of a DaemonSet of apps/v1, whole.

use std::path::Path;

use serde_json::Value;

use super::decrypt;
use super::protobuf::{self, Payload, Why};
use super::schema;

/// How a value in protobuf begins; a `runtime.Unknown` follows.
const PROTOBUF: &[u8] = b"k8s\0";

/// A value that is no DaemonSet, or one that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Closed(#[from] decrypt::Error),
    #[error("the value is neither JSON nor protobuf of Kubernetes")]
    Foreign,
    #[error("the value is no JSON")]
    Json(#[source] serde_json::Error),
    #[error("the value is no protobuf")]
    Protobuf(#[source] protobuf::Error),
    #[error("the value is compressed or wrapped ({0:?})")]
    Wrapped(String),
    #[error("the value is a {kind} of {version}")]
    Kind { kind: String, version: String },
    #[error("the DaemonSet has no template")]
    NoTemplate,
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Closed(error) => error.hint(),
            Self::Protobuf(_) => "use the node part of a version that knows this field; or --from kept",
            Self::Foreign | Self::Json(_) | Self::Wrapped(_) | Self::Kind { .. } | Self::NoTemplate => {
                "selfhost-node recover --from kept starts the API server of before the pivot"
            }
        }
    }
}

/// Whether these bytes begin like a stored object that is not encrypted.
pub(super) fn is_object(stored: &[u8]) -> bool {
    stored.starts_with(PROTOBUF) || stored.starts_with(b"{")
}

/// The template of the DaemonSet that is stored under `etcd_key`; `keys` is the file with the keys of encryption.
pub(super) fn template(stored: Vec<u8>, etcd_key: &str, keys: Option<&Path>) -> Result<Value, Error> {
    let stored = decrypt::open(stored, etcd_key, keys)?;
    let mut daemonset = if let Some(unknown) = stored.strip_prefix(PROTOBUF) {
        from_protobuf(unknown)?
    } else if is_object(&stored) {
        let object: Value = serde_json::from_slice(&stored).map_err(Error::Json)?;
        let word = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
        check_kind(word("kind"), word("apiVersion"))?;
        object
    } else {
        return Err(Error::Foreign);
    };
    match daemonset["spec"]["template"].take() {
        template @ Value::Object(_) => Ok(template),
        _ => Err(Error::NoTemplate),
    }
}

/// `message Unknown { TypeMeta typeMeta = 1; bytes raw = 2; string contentEncoding = 3; string contentType = 4; }` of
/// `k8s.io/apimachinery/pkg/runtime`, with `message TypeMeta { string apiVersion = 1; string kind = 2; }`.
fn from_protobuf(unknown: &[u8]) -> Result<Value, Error> {
    let failed = |why: Why| Error::Protobuf(why.into());
    let text = |payload: Payload<'_>| {
        payload.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).map_err(failed)
    };
    let (mut kind, mut version, mut raw) = (String::new(), String::new(), &[][..]);
    for field in protobuf::fields(unknown) {
        match field.map_err(failed)? {
            (1, meta) => {
                for field in protobuf::fields(meta.bytes().map_err(failed)?) {
                    match field.map_err(failed)? {
                        (1, value) => version = text(value)?,
                        (2, value) => kind = text(value)?,
                        (number, _) => return Err(failed(Why::Unknown { message: "TypeMeta", number })),
                    }
                }
            }
            (2, value) => raw = value.bytes().map_err(failed)?,
            // Written, and empty.
            (3 | 4, value) if text(value)?.is_empty() => {}
            (3 | 4, value) => return Err(Error::Wrapped(text(value)?)),
            (number, _) => return Err(failed(Why::Unknown { message: "Unknown", number })),
        }
    }
    check_kind(kind, version)?;
    protobuf::decode(&schema::DAEMON_SET, raw).map(Value::from).map_err(Error::Protobuf)
}

fn check_kind(kind: String, version: String) -> Result<(), Error> {
    if kind == "DaemonSet" && version == "apps/v1" { Ok(()) } else { Err(Error::Kind { kind, version }) }
}

#[cfg(test)]
mod tests;
