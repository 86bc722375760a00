//! What rules look up, as calls of a Kubewarden host.
//!
//! Invariant: reads alone, of the kinds that the metadata names. Whatever is not certainly an answer is one that could not
//! be had, on which the rules deny.

use selfhost_core::review::facts::KINDS;
use selfhost_core::review::{Answer, Lookup};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The binding of every call: whose capabilities they are.
pub const BINDING: &str = "kubewarden";

/// The namespace of every call: which capability it is.
pub const NAMESPACE: &str = "kubernetes";

/// Reads one object.
pub const GET: &str = "get_resource";

/// Lists objects in a namespace.
pub const LIST: &str = "list_resources_by_namespace";

/// Lists objects that are in no namespace.
pub const LIST_ALL: &str = "list_resources_all";

/// How many characters of a host's reason are passed on.
const REASON: usize = 200;

/// Who answers the guest's calls.
pub trait Host {
    /// Calls an operation of [`BINDING`] and [`NAMESPACE`]: its response in JSON, or why there is none.
    ///
    /// That there is no such object, a host says in the words of [`missing`].
    fn call(&mut self, operation: &str, payload: &[u8]) -> Result<Vec<u8>, String>;
}

/// The payload of [`GET`].
#[derive(Serialize)]
struct Get<'a> {
    api_version: &'a str,
    kind: &'a str,
    name: &'a str,
    namespace: Option<&'a str>,
    /// Kubewarden keeps answers for five seconds, in which a Pod that served is gone.
    disable_cache: bool,
}

/// The payload of [`LIST`], and without the namespace of [`LIST_ALL`].
#[derive(Serialize)]
struct List<'a> {
    api_version: &'a str,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    label_selector: Option<&'a str>,
}

/// The response to [`LIST`] and [`LIST_ALL`].
#[derive(Deserialize)]
struct Items {
    items: Vec<Value>,
}

/// Asks the host.
pub(crate) fn fetch(host: &mut impl Host, lookup: &Lookup) -> Answer {
    if !KINDS.contains(&lookup.kind()) {
        let (api_version, kind) = lookup.kind();
        return Answer::Unavailable(format!("the policy reads no {kind:?} of {api_version:?}"));
    }
    let (operation, payload) = match request(lookup) {
        Ok(request) => request,
        Err(error) => return Answer::Unavailable(format!("cannot ask the host: {error}")),
    };
    match host.call(operation, &payload) {
        Ok(response) => read(lookup, &response),
        Err(reason) if says_missing(lookup, &reason) => Answer::Missing,
        Err(reason) => Answer::Unavailable(first_line(&reason)),
    }
}

fn request(lookup: &Lookup) -> serde_json::Result<(&'static str, Vec<u8>)> {
    match lookup {
        Lookup::Get { api_version, kind, namespace, name } => {
            let namespace = some(namespace);
            let get = Get { api_version, kind, name, namespace, disable_cache: true };
            Ok((GET, serde_json::to_vec(&get)?))
        }
        Lookup::List { api_version, kind, namespace, selector } => {
            let namespace = some(namespace);
            let list = List { api_version, kind, namespace, label_selector: some(selector) };
            Ok((if namespace.is_some() { LIST } else { LIST_ALL }, serde_json::to_vec(&list)?))
        }
    }
}

fn read(lookup: &Lookup, response: &[u8]) -> Answer {
    let answer = match lookup {
        Lookup::Get { .. } => serde_json::from_slice(response).map(Answer::Found),
        Lookup::List { .. } => {
            serde_json::from_slice::<Items>(response).map(|list| Answer::Items(list.items))
        }
    };
    match answer {
        Ok(Answer::Found(object)) if !object.is_object() => {
            Answer::Unavailable("the host's answer is no object".to_owned())
        }
        Ok(answer) => answer,
        // Not serde's own message: that quotes a value, which may be a Secret's.
        Err(_) => Answer::Unavailable("the host's answer cannot be read".to_owned()),
    }
}

/// How a Kubewarden host says that there is no such object. Its protocol has no other way to.
pub fn missing(api_version: &str, kind: &str, namespace: &str, name: &str) -> String {
    format!("Cannot find {api_version}/{kind} named '{name}' inside of namespace '{:?}'", some(namespace))
}

/// Compared with everything that was asked for, so that no other error is taken for it.
fn says_missing(lookup: &Lookup, reason: &str) -> bool {
    match lookup {
        Lookup::Get { api_version, kind, namespace, name } => {
            reason.contains(&missing(api_version, kind, namespace, name))
        }
        Lookup::List { .. } => false,
    }
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// What of a host's reason fits into a verdict. An error that is shown with its causes has them on further lines.
fn first_line(reason: &str) -> String {
    reason.lines().next().unwrap_or_default().chars().take(REASON).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Answers one call with what it was made with, and keeps the call.
    struct Once(Result<&'static str, String>, Option<(String, Value)>);

    impl Host for Once {
        fn call(&mut self, operation: &str, payload: &[u8]) -> Result<Vec<u8>, String> {
            self.1 = Some((operation.to_owned(), serde_json::from_slice(payload).unwrap()));
            self.0.clone().map(|response| response.as_bytes().to_vec())
        }
    }

    fn asked(lookup: &Lookup) -> (String, Value) {
        let mut host = Once(Err("no".to_owned()), None);
        fetch(&mut host, lookup);
        host.1.unwrap()
    }

    #[test]
    fn lookups_are_the_calls_of_kubewarden() {
        for (lookup, operation, payload) in [
            (
                Lookup::get("v1", "Secret", "kube-system", "ca"),
                "get_resource",
                json!({
                    "api_version": "v1", "kind": "Secret", "name": "ca", "namespace": "kube-system",
                    "disable_cache": true,
                }),
            ),
            (
                Lookup::get("v1", "Node", "", "cp1"),
                "get_resource",
                json!({
                    "api_version": "v1", "kind": "Node", "name": "cp1", "namespace": null, "disable_cache": true,
                }),
            ),
            (
                Lookup::list("v1", "Pod", "kube-system", "tier=control-plane"),
                "list_resources_by_namespace",
                json!({
                    "api_version": "v1", "kind": "Pod", "namespace": "kube-system",
                    "label_selector": "tier=control-plane",
                }),
            ),
            (
                Lookup::list("v1", "Node", "", ""),
                "list_resources_all",
                json!({"api_version": "v1", "kind": "Node", "label_selector": null}),
            ),
        ] {
            assert_eq!(asked(&lookup), (operation.to_owned(), payload));
        }
    }

    #[test]
    fn only_what_is_certainly_an_answer_counts_as_one() {
        let secret = Lookup::get("v1", "Secret", "kube-system", "ca");
        let node = Lookup::get("v1", "Node", "", "cp1");
        let pods = Lookup::list("v1", "Pod", "kube-system", "a=b");
        let unavailable = |reason: &str| Answer::Unavailable(reason.to_owned());
        let words = |text: &str| Err(text.to_owned());
        for (lookup, response, expected) in [
            (&secret, Ok(r#"{"kind": "Secret"}"#), Answer::Found(json!({"kind": "Secret"}))),
            (&secret, Ok("null"), unavailable("the host's answer is no object")),
            (&secret, Ok("[]"), unavailable("the host's answer is no object")),
            (&secret, Ok(r#"{"data": "c2Vj"#), unavailable("the host's answer cannot be read")),
            (&secret, Ok(""), unavailable("the host's answer cannot be read")),
            (&pods, Ok(r#"{"items": [{"kind": "Pod"}]}"#), Answer::Items(vec![json!({"kind": "Pod"})])),
            (&pods, Ok("{}"), unavailable("the host's answer cannot be read")),
            (&pods, Ok(r#"{"items": "c2Vj"}"#), unavailable("the host's answer cannot be read")),
            // Kubewarden's own words, and inside of what an error that is shown with its causes looks like.
            (
                &secret,
                words(r#"Cannot find v1/Secret named 'ca' inside of namespace 'Some("kube-system")'"#),
                Answer::Missing,
            ),
            (&node, words("Cannot find v1/Node named 'cp1' inside of namespace 'None'"), Answer::Missing),
            (
                &node,
                words(
                    "Host error: Cannot find v1/Node named 'cp1' inside of namespace 'None'\n\nCaused by: x",
                ),
                Answer::Missing,
            ),
            // Of another object, of a kind that the host does not know, and what only sounds like it.
            (
                &node,
                words("Cannot find v1/Node named 'cp2' inside of namespace 'None'"),
                unavailable("Cannot find v1/Node named 'cp2' inside of namespace 'None'"),
            ),
            (&node, words("Cannot find resource v1/Node"), unavailable("Cannot find resource v1/Node")),
            (&pods, words("not found"), unavailable("not found")),
            (&secret, words("not found\nat line 3"), unavailable("not found")),
            (&secret, words(""), unavailable("")),
        ] {
            let shown = format!("{lookup:?} {response:?}");
            assert_eq!(fetch(&mut Once(response, None), lookup), expected, "{shown}");
        }
        let long = fetch(&mut Once(Err("ä".repeat(300)), None), &secret);
        assert_eq!(long, Answer::Unavailable("ä".repeat(REASON)));
    }

    #[test]
    fn no_kind_is_read_that_the_metadata_does_not_name() {
        let mut host = Once(Ok("{}"), None);
        let answer = fetch(&mut host, &Lookup::get("coordination.k8s.io/v1", "Lease", "kube-system", "x"));
        assert!(matches!(answer, Answer::Unavailable(_)), "{answer:?}");
        assert_eq!(host.1, None);
    }
}
