//! An API server for tests, in memory.

use std::path::Path;
use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// An answer: a status and a body.
pub(crate) type Answer = (StatusCode, String);

/// The requests that were made, as `METHOD path?query`, in the order in which they came.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// The requests, sorted.
    pub(crate) fn sorted(&self) -> Vec<String> {
        let mut lines = self.0.lock().unwrap().clone();
        lines.sort();
        lines
    }
}

/// A client whose requests `answer` answers, by path.
pub(crate) fn mock(answer: impl Fn(&str) -> Answer + Send + 'static) -> (Client, Log) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let log = Log::default();
    let lines = log.clone();
    tokio::spawn(async move {
        while let Some((request, send)) = handle.next_request().await {
            lines.0.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
            let (status, body) = answer(request.uri().path());
            let response = Response::builder().status(status).body(Body::from(body.into_bytes())).unwrap();
            send.send_response(response);
        }
    });
    (Client::new(service, "default"), log)
}

/// The cluster of `tests/fixtures/<name>`: what has no file there is answered with 404.
pub(crate) fn fixture(name: &str) -> impl Fn(&str) -> Answer + Send + 'static {
    let directory = Path::new("../tests/fixtures").join(name);
    assert!(directory.is_dir(), "{}", directory.display());
    move |path| match std::fs::read_to_string(directory.join(file_of(path))) {
        Ok(body) => (StatusCode::OK, body),
        Err(_) => {
            refuse(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource")
        }
    }
}

/// `/apis/apps/v1/namespaces/kube-system/daemonsets` is in `daemonsets.json`, and one of them in
/// `daemonset-<name>.json`.
fn file_of(path: &str) -> String {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let resource = match parts.iter().position(|part| *part == "namespaces") {
        Some(at) => &parts[at + 2..],
        None => match parts.as_slice() {
            ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
            other => other,
        },
    };
    match resource {
        [list] => format!("{list}.json"),
        [list, name, ..] => format!("{}-{name}.json", list.trim_end_matches('s')),
        [] => String::new(),
    }
}

/// An answer of an API server that refuses.
pub(crate) fn refuse(status: StatusCode, reason: &str, message: &str) -> Answer {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": status.as_u16()
    });
    (status, body.to_string())
}

/// An answer with a list of objects.
pub(crate) fn list(kind: &str, items: &[Value]) -> Answer {
    let body =
        json!({"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items});
    (StatusCode::OK, body.to_string())
}
