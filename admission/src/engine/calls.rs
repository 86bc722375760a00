//! What a guest may ask its host, in Kubewarden's words.
//!
//! Invariant: reads of the cluster and nothing else. What cannot be answered is an error to the guest, whose rules then
//! deny.

use std::time::Instant;

use selfhost_core::review::Lookup;
use serde::Deserialize;

use crate::capabilities::{Reply, Source};

/// One question of a guest.
pub(super) struct HostCall<'a> {
    pub(super) binding: &'a [u8],
    pub(super) namespace: &'a [u8],
    pub(super) operation: &'a [u8],
    pub(super) payload: &'a [u8],
}

/// The payload of every operation, as far as it is looked at.
#[derive(Deserialize)]
struct Payload {
    api_version: String,
    kind: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    label_selector: Option<String>,
    #[serde(default)]
    field_selector: Option<String>,
}

impl HostCall<'_> {
    /// The response, or why there is none.
    pub(super) fn answer(&self, source: &dyn Source, deadline: Instant) -> Result<Vec<u8>, String> {
        if self.binding != b"kubewarden" || self.namespace != b"kubernetes" {
            return Err("this host has reads of the cluster and nothing else".to_owned());
        }
        let lookup = self.lookup().ok_or_else(|| "this is not a read that this host knows".to_owned())?;
        match source.fetch(&lookup, deadline) {
            Reply::Found(object) => Ok(object),
            Reply::Missing => Err(missing(&lookup)),
            Reply::Unavailable(reason) => Err(reason),
        }
    }

    fn lookup(&self) -> Option<Lookup> {
        let payload: Payload = serde_json::from_slice(self.payload).ok()?;
        let Payload { api_version, kind, namespace, name, label_selector, field_selector } = payload;
        let named = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (namespace, selector) = (named(namespace), label_selector.unwrap_or_default());
        match self.operation {
            b"get_resource" => Some(Lookup::Get {
                api_version,
                kind,
                namespace: namespace.unwrap_or_default(),
                name: named(name)?,
            }),
            // Ignored, it would give more than was asked for.
            _ if named(field_selector).is_some() => None,
            b"list_resources_by_namespace" => {
                Some(Lookup::List { api_version, kind, namespace: namespace?, selector })
            }
            b"list_resources_all" => {
                Some(Lookup::List { api_version, kind, namespace: String::new(), selector })
            }
            _ => None,
        }
    }
}

/// Kubewarden's words for what does not exist: its protocol has no other way to say it.
fn missing(lookup: &Lookup) -> String {
    match lookup {
        Lookup::Get { api_version, kind, namespace, name } => {
            let namespace = (!namespace.is_empty()).then_some(namespace);
            format!("Cannot find {api_version}/{kind} named '{name}' inside of namespace '{namespace:?}'")
        }
        Lookup::List { api_version, kind, .. } => format!("there are no {kind} of {api_version}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::Nothing;

    fn lookup(operation: &str, payload: &str) -> Option<Lookup> {
        let (binding, namespace) = (b"kubewarden", b"kubernetes");
        HostCall { binding, namespace, operation: operation.as_bytes(), payload: payload.as_bytes() }.lookup()
    }

    #[test]
    fn reads_are_understood() {
        let get = r#"{"api_version":"v1","kind":"Secret","name":"ca","namespace":"kube-system","disable_cache":true}"#;
        assert_eq!(lookup("get_resource", get), Some(Lookup::get("v1", "Secret", "kube-system", "ca")));
        let list = r#"{"api_version":"v1","kind":"Pod","namespace":"a","label_selector":"x=y"}"#;
        assert_eq!(lookup("list_resources_by_namespace", list), Some(Lookup::list("v1", "Pod", "a", "x=y")));
        let all = r#"{"api_version":"v1","kind":"Node","label_selector":null}"#;
        assert_eq!(lookup("list_resources_all", all), Some(Lookup::list("v1", "Node", "", "")));
    }

    #[test]
    fn nothing_else_is() {
        let nameless = r#"{"api_version":"v1","kind":"Secret","name":""}"#;
        let by_field =
            r#"{"api_version":"v1","kind":"Pod","namespace":"a","field_selector":"spec.nodeName=x"}"#;
        for (operation, payload) in [
            ("get_resource", nameless),
            ("get_resource", "secret"),
            ("list_resources_by_namespace", r#"{"api_version":"v1","kind":"Pod"}"#),
            ("list_resources_by_namespace", by_field),
            ("can_i", r#"{"api_version":"v1","kind":"Pod"}"#),
        ] {
            assert_eq!(lookup(operation, payload), None, "{operation} {payload}");
        }
        let other = HostCall { binding: b"kubewarden", namespace: b"net", operation: b"x", payload: b"{}" };
        assert!(other.answer(&Nothing, Instant::now()).is_err());
    }
}
