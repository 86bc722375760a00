//! Objects read from the API server, one request for each.
//!
//! Invariant: always asked, never remembered. A rule that judges by what was there five seconds ago would let the second of
//! two edits pass that are harmless each on its own.
//!
//! Invariant: names that come out of a review are data in a URL's path and never part of its structure.

use std::fmt::Write;
use std::time::Instant;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use selfhost_core::review::Lookup;
use serde::Deserialize;
use tokio::runtime::Handle;

use super::{Kind, Reply, Source};
use crate::metrics::Metrics;

/// The longest answer: a guest has no room for more.
const ANSWER: usize = 16 << 20;

/// The API server.
pub struct Live {
    client: Client,
    /// Where the client's tasks run; who asks is a thread that may wait.
    runtime: Handle,
    metrics: Metrics,
}

/// What of an API server's `Status` matters here.
#[derive(Deserialize)]
struct Status<'a> {
    kind: &'a str,
    #[serde(default)]
    reason: &'a str,
}

impl Live {
    /// Asks through this client.
    pub fn new(client: Client, runtime: Handle, metrics: Metrics) -> Self {
        Self { client, runtime, metrics }
    }

    async fn read(&self, path: String) -> Reply {
        let Ok(request) = Request::get(path).body(Body::empty()) else {
            return unavailable("what it asks for cannot be named in a URL");
        };
        // Not the errors' own words: one of them may quote what was read.
        let Ok(response) = self.client.send(request).await else {
            return unavailable("the API server could not be reached");
        };
        let status = response.status();
        let Ok(body) = Limited::new(response.into_body(), ANSWER).collect().await else {
            return unavailable("the API server's answer broke off or is too long");
        };
        reply(status, &body.to_bytes())
    }
}

impl Source for Live {
    fn fetch(&self, lookup: &Lookup, deadline: Instant) -> Reply {
        let begun = Instant::now();
        let reply = match path(lookup) {
            Some(path) => self
                .runtime
                .block_on(async { tokio::time::timeout_at(deadline.into(), self.read(path)).await })
                .unwrap_or_else(|_| unavailable("the API server did not answer in time")),
            None => unavailable("the guard does not read that kind in that way"),
        };
        self.metrics.lookup(&reply, begun.elapsed());
        reply
    }
}

fn unavailable(reason: &str) -> Reply {
    Reply::Unavailable(reason.to_owned())
}

fn reply(status: StatusCode, body: &Bytes) -> Reply {
    if status.is_success() {
        return Reply::Found(body.to_vec());
    }
    // A path that does not exist is a 404, too, and tells nothing of the object.
    let is_missing = status == StatusCode::NOT_FOUND
        && serde_json::from_slice(body)
            .is_ok_and(|it: Status<'_>| it.kind == "Status" && it.reason == "NotFound");
    if is_missing {
        Reply::Missing
    } else {
        unavailable(&format!("the API server answers {}", status.as_u16()))
    }
}

/// The path and query of a lookup; nothing for what the guard does not read.
fn path(lookup: &Lookup) -> Option<String> {
    let Kind { api_version, plural, .. } = Kind::of(lookup)?;
    let root = if api_version.contains('/') { "apis" } else { "api" };
    let mut path = format!("/{root}/{api_version}");
    let (Lookup::Get { namespace, .. } | Lookup::List { namespace, .. }) = lookup;
    if !namespace.is_empty() {
        path.push_str("/namespaces/");
        segment(&mut path, namespace)?;
    }
    let _ = write!(path, "/{plural}");
    match lookup {
        Lookup::Get { name, .. } => {
            path.push('/');
            segment(&mut path, name)?;
        }
        Lookup::List { selector, .. } if !selector.is_empty() => {
            path.push_str("?labelSelector=");
            escape(&mut path, selector);
        }
        Lookup::List { .. } => {}
    }
    Some(path)
}

/// A name as one segment. `.` and `..` are steps in a path however they are written.
fn segment(path: &mut String, name: &str) -> Option<()> {
    (!matches!(name, "" | "." | "..")).then(|| escape(path, name))
}

fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Response;

    use super::*;

    #[test]
    fn lookups_are_paths() {
        for (lookup, expected) in [
            (
                Lookup::get("v1", "Secret", "kube-system", "ca"),
                Some("/api/v1/namespaces/kube-system/secrets/ca"),
            ),
            (Lookup::get("apps/v1", "DaemonSet", "a", "b"), Some("/apis/apps/v1/namespaces/a/daemonsets/b")),
            (Lookup::get("v1", "Node", "", "cp1"), Some("/api/v1/nodes/cp1")),
            (
                Lookup::get("rbac.authorization.k8s.io/v1", "ClusterRole", "", "system:node"),
                Some("/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode"),
            ),
            (Lookup::list("v1", "Node", "", "a/b=true"), Some("/api/v1/nodes?labelSelector=a%2Fb%3Dtrue")),
            (Lookup::list("v1", "Pod", "a", ""), Some("/api/v1/namespaces/a/pods")),
            // A name that would lead elsewhere.
            (Lookup::get("v1", "Secret", "a", "../b"), Some("/api/v1/namespaces/a/secrets/..%2Fb")),
            (
                Lookup::get("v1", "Secret", "a", "b?watch=1"),
                Some("/api/v1/namespaces/a/secrets/b%3Fwatch%3D1"),
            ),
            (Lookup::get("v1", "Secret", "..", "b"), None),
            (Lookup::get("v1", "Secret", "a", ""), None),
            // Not the guard's business.
            (Lookup::list("v1", "Secret", "a", ""), None),
            (Lookup::list("v1", "ConfigMap", "a", ""), None),
            (Lookup::get("v1", "Event", "a", "b"), None),
            (Lookup::get("apps/v1", "Secret", "a", "b"), None),
        ] {
            assert_eq!(path(&lookup).as_deref(), expected, "{lookup:?}");
        }
    }

    #[test]
    fn missing_is_told_apart_from_unreadable() {
        let of = |status: u16, body: &'static str| {
            reply(StatusCode::from_u16(status).unwrap(), &Bytes::from_static(body.as_bytes()))
        };
        assert_eq!(of(200, "{}"), Reply::Found(b"{}".to_vec()));
        assert_eq!(of(404, r#"{"kind":"Status","reason":"NotFound"}"#), Reply::Missing);
        for (status, body) in [
            (404, "404 page not found"),
            (404, r#"{"kind":"Status","reason":"Expired"}"#),
            (403, r#"{"kind":"Status","reason":"Forbidden","message":"c2VjcmV0"}"#),
            (500, r#"{"kind":"Status","reason":"NotFound"}"#),
        ] {
            assert_eq!(
                of(status, body),
                Reply::Unavailable(format!("the API server answers {status}")),
                "{body}"
            );
        }
    }

    /// What a source that asks such an API server replies within `time`.
    async fn fetch(
        answer: impl Future<Output = (u16, &'static str)> + Send + 'static,
        time: Duration,
    ) -> Reply {
        let answer = std::sync::Mutex::new(Some(answer));
        let service = tower::service_fn(move |_: Request<Body>| {
            let answer = answer.lock().unwrap().take().expect("one request is one call");
            async move {
                let (status, body) = answer.await;
                Ok::<_, std::convert::Infallible>(
                    Response::builder().status(status).body(Body::from(body.as_bytes().to_vec())).unwrap(),
                )
            }
        });
        let live = Live::new(Client::new(service, "default"), Handle::current(), Metrics::new());
        let lookup = Lookup::get("v1", "Secret", "kube-system", "ca");
        tokio::task::spawn_blocking(move || live.fetch(&lookup, Instant::now() + time)).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_api_server_is_asked_and_not_waited_for() {
        let long = Duration::from_mins(1);
        assert_eq!(fetch(async { (200, "{}") }, long).await, Reply::Found(b"{}".to_vec()));
        assert_eq!(fetch(async { (403, "no") }, long).await, unavailable("the API server answers 403"));
        let begun = Instant::now();
        let reply = fetch(std::future::pending(), Duration::from_millis(50)).await;
        assert_eq!(reply, unavailable("the API server did not answer in time"));
        assert!(begun.elapsed() < long);
    }
}
