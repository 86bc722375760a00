//! No byte of a Secret leaves the process: not in answers, logs at any level, metrics or health, whatever goes wrong.
//!
//! The bytes are random in each run, in every place of a Secret that has any: values, annotations, managed fields, fields
//! that nobody knows. A guest that gives them away, and a log line that does, show that they would be found.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use selfhost_admission::capabilities::{Objects, Reply, Source};
use selfhost_admission::health::now;
use selfhost_admission::logs::{self, Level};
use serde_json::{Value, json};

use crate::client::{self, Http, review, review_of};
use crate::guest::ASK_CALL;
use crate::stand::{Options, Stand, cluster, fixture, hand_written, policy};

/// So many characters of a Secret in a row are no chance.
const WINDOW: usize = 12;

/// Bytes that must not be seen.
#[derive(Default)]
struct Canaries(Vec<String>);

impl Canaries {
    /// Another one: 32 hexadecimal digits, and as base64 where asked.
    fn next(&mut self) -> String {
        let random = || RandomState::new().hash_one(self.0.len());
        let text = format!("{:016x}{:016x}", random(), random());
        self.0.push(text.clone());
        text
    }

    fn base64(&mut self) -> String {
        let text = base64(self.next().as_bytes());
        self.0.push(text.clone());
        text
    }

    /// Puts one into each place of a Secret, beside what is there.
    fn plant(&mut self, secret: &mut Value) {
        let last_applied = json!({"data": {"password": self.base64()}}).to_string();
        let managed = json!([{"manager": self.next(), "fieldsV1": {(format!("f:{}", self.next())): {}}}]);
        secret["data"]["password"] = self.base64().into();
        secret["stringData"]["password"] = self.next().into();
        secret["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] =
            last_applied.into();
        secret["metadata"]["annotations"]["note"] = self.next().into();
        secret["metadata"]["managedFields"] = managed;
        secret["unknown"] = json!({"deep": [self.next(), {"deeper": self.next()}]});
    }

    /// The lines of a text that have one of them, in whole or in part.
    fn found<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let parts: HashSet<&[u8]> = self.0.iter().flat_map(|it| it.as_bytes().windows(WINDOW)).collect();
        text.lines().filter(|line| line.as_bytes().windows(WINDOW).any(|part| parts.contains(part))).collect()
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number =
            chunk.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let is_there = digit <= chunk.len();
            text.push(if is_there { DIGITS[number >> (18 - 6 * digit) & 63].into() } else { '=' });
        }
    }
    text
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A cluster in which every Secret has canaries, and one that is found by no name.
struct Tainted(Objects);

impl Source for Tainted {
    fn fetch(&self, lookup: &selfhost_core::review::Lookup, deadline: std::time::Instant) -> Reply {
        self.0.fetch(lookup, deadline)
    }
}

/// Everything that is seen of a guard from outside.
async fn seen(stand: &Stand, log: &Log, bodies: &[Bytes]) -> String {
    let mut text = String::new();
    for body in bodies {
        for request in [
            review(body.clone()),
            Request::post("/validate")
                .header("content-type", "text/plain")
                .body(Full::new(body.clone()))
                .unwrap(),
            Request::put("/validate").body(Full::new(body.clone())).unwrap(),
        ] {
            if let Ok(answer) = client::send(stand.address, &stand.client, Http::Two, request).await {
                writeln!(text, "{} {}", answer.status, String::from_utf8_lossy(&answer.body)).unwrap();
            }
        }
    }
    write!(text, "{}\n{}\n{}", stand.guard.metrics.text(), stand.guard.health.report(now()).text, log.text())
        .unwrap();
    text
}

/// Reviews of Secrets: good ones, and ones that are broken in each way that somebody may want to quote.
fn reviews(canaries: &mut Canaries) -> Vec<Bytes> {
    let mut bodies = Vec::new();
    for name in ["secret-apiserver", "secret-ca", "secret-encryption", "secret-sa", "secret-scheduler.conf"] {
        let mut request = fixture(name);
        canaries.plant(&mut request["object"]);
        canaries.plant(&mut request["oldObject"]);
        let body = review_of(&request);
        bodies.push(body.slice(..body.len() * 2 / 3));
        bodies.push(body);
        for at in [
            "/object",
            "/oldObject",
            "/object/data",
            "/object/metadata",
            "/userInfo",
            "/operation",
            "/resource",
        ] {
            let mut broken = request.clone();
            *broken.pointer_mut(at).unwrap() = canaries.base64().into();
            bodies.push(review_of(&broken));
        }
        let (key, value) = (canaries.next(), canaries.next());
        for broken in [
            format!(r#"{{"kind":"{key}","apiVersion":"{value}","request":{request}}}"#),
            format!(r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":"{key}"}}"#),
            format!(r#"{{"request":{request},"request":{request}}}"#),
            format!("{key}{request}"),
        ] {
            bodies.push(broken.into());
        }
        // Keys that are nearly right are what a rule says something of.
        let mut malformed = request.clone();
        for (key, value) in malformed["object"]["data"].as_object_mut().unwrap() {
            *value = format!("{}!{}", canaries.next(), key.len()).into();
        }
        bodies.push(review_of(&malformed));
        let mut pem = request.clone();
        for (_, value) in pem["object"]["data"].as_object_mut().unwrap() {
            let text =
                format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", canaries.base64());
            *value = base64(text.as_bytes()).into();
            canaries.0.push(base64(text.as_bytes())[40..].to_owned());
        }
        bodies.push(review_of(&pem));
    }
    bodies
}

#[tokio::test]
async fn no_byte_of_a_secret_leaves() {
    let log = Log::default();
    let writer = log.clone();
    // Of the whole process, because workers are threads of their own. What other tests log has no canaries.
    let subscriber = logs::subscriber(Level::Trace, move || writer.clone());
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let mut canaries = Canaries::default();
    let bodies = reviews(&mut canaries);
    let Objects(mut objects) = cluster();
    for object in objects.iter_mut().filter(|object| object["kind"] == "Secret") {
        canaries.plant(object);
    }
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a", "labels": {"a": canaries.next()}}});
    objects.push(node);
    let mut options = Options::of(policy());
    options.source = Arc::new(Tainted(Objects(objects)));
    let stand = Stand::start(options).await;
    let text = seen(&stand, &log, &bodies).await;
    assert!(text.contains("\"outcome\":\"denied\"") && text.contains("a connection was opened"), "{text}");
    assert!(canaries.found(&text).is_empty(), "the policy itself: {:?}", canaries.found(&text));

    // Guests that break off, after they have told their host everything.
    let told = "(call $__guest_request (i32.const 2048) (i32.const 4096))
        (call $__console_log (i32.const 4096) (local.get $payload))
        (call $__guest_error (i32.const 4096) (local.get $payload))";
    let asked = format!("(drop {ASK_CALL}) (call $__host_response (i32.const 1024))");
    for body in [
        format!("{told} (unreachable)"),
        format!("{told} (i32.const 0)"),
        format!("{told} (call $__guest_response (i32.const 4096) (local.get $payload)) (i32.const 1)"),
        format!("{told} (loop $again (br $again)) (unreachable)"),
        format!(
            "{asked} (call $__guest_response (i32.const 1024) (call $__host_response_len)) (i32.const 1)"
        ),
        format!("{asked} (call $__guest_error (i32.const 1024) (call $__host_response_len)) (unreachable)"),
    ] {
        stand.guard.policy.store(hand_written(&body).into());
        let text = seen(&stand, &log, &bodies[..4]).await;
        assert!(text.contains("\"outcome\":\"failed\""), "{text}");
        assert!(canaries.found(&text).is_empty(), "{body}: {:?}", canaries.found(&text));
    }

    // A guest whose answer is the request that it was sent: what is in its message is found.
    let head = r#"{"settings":{},"now":1800000000,"request":"#.len();
    let leaky = format!(
        "(call $__guest_request (i32.const 2048) (i32.const 4096))
        (call $__guest_response (i32.const {}) (i32.sub (local.get $payload) (i32.const {}))) (i32.const 1)",
        4096 + head,
        head + 1
    );
    stand.guard.policy.store(hand_written(&leaky).into());
    let request = json!({"uid": "1", "accepted": false, "message": canaries.next()});
    let text = seen(&stand, &log, &[review_of(&request)]).await;
    assert_eq!(canaries.found(&text).len(), 1, "an answer that has one");

    // And so is what this crate would log.
    let canary = canaries.next();
    tracing::trace!(target: "selfhost_admission::server", canary = &canary[..WINDOW + 3], "a slip");
    assert_eq!(canaries.found(&log.text()).len(), 1);
    // Not what others do.
    tracing::error!(target: "hyper", canary = canaries.next(), "a library");
    assert_eq!(canaries.found(&log.text()).len(), 1);
}

#[test]
fn what_is_looked_for_is_what_the_api_has() {
    assert_eq!(base64(b"a"), "YQ==");
    assert_eq!(base64(b"secret!"), "c2VjcmV0IQ==");
}
