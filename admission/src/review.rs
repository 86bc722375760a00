//! Reviews (`AdmissionReview` of `admission.k8s.io/v1`), as an API server sends them and reads the answers.
//!
//! Invariant: of a request only what names it is read here; the policy gets its bytes as they came.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::engine::{EvaluateError, Verdict};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// The status of a denial whose policy gives none.
const FORBIDDEN: u16 = 403;

/// What to do where the guard itself is the matter.
const BREAK_GLASS: &str = "kubectl selfhost guard status shows what is the matter; \
                           kubectl selfhost guard uninstall takes the guard out of the way";

/// What to do where it has no time. The API server passes the delay on, and its clients try again.
const AGAIN: &str = "try again";

/// When to try again, in seconds.
const DELAY: u32 = 1;

/// A review, as it came.
#[derive(Debug, Clone)]
pub struct Review {
    /// The `request`, as it was sent.
    pub request: Bytes,
    /// What names it.
    pub head: Head,
}

/// What names a request. What is not here is for the policy to miss.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// What the answer is known by.
    pub uid: String,
    /// `UPDATE`
    #[serde(default)]
    pub operation: String,
    /// Of what.
    #[serde(default)]
    pub resource: Resource,
    /// `status`
    #[serde(default)]
    pub sub_resource: Option<String>,
    /// Where.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Its name; nothing for a collection or a generated one.
    #[serde(default)]
    pub name: Option<String>,
}

/// What kind of object a request is about.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Resource {
    /// `secrets`
    #[serde(default)]
    pub resource: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    api_version: String,
    kind: String,
    #[serde(borrow)]
    request: &'a RawValue,
}

/// What is no review. serde's own words would quote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAReview {
    /// It is something else.
    #[error("this is no AdmissionReview of {API_VERSION} with a request")]
    Unreadable,
    /// It is a review of another version.
    #[error("this guard reads AdmissionReviews of {API_VERSION} alone")]
    Version,
}

impl Review {
    /// Reads the body of a call.
    pub fn parse(body: &Bytes) -> Result<Self, NotAReview> {
        let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(|_| NotAReview::Unreadable)?;
        if envelope.api_version != API_VERSION || envelope.kind != KIND {
            return Err(NotAReview::Version);
        }
        let text = envelope.request.get();
        let head: Head = serde_json::from_str(text).map_err(|_| NotAReview::Unreadable)?;
        if head.uid.is_empty() {
            return Err(NotAReview::Unreadable);
        }
        Ok(Self { request: body.slice_ref(text.as_bytes()), head })
    }
}

/// The answer to a review.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Serialize)]
struct Status {
    code: u16,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    retry_after_seconds: u32,
}

impl<'a> Answer<'a> {
    /// What the policy says.
    pub fn verdict(uid: &'a str, verdict: Verdict) -> Self {
        let status = (!verdict.accepted).then(|| Status {
            code: verdict.code.filter(|code| (400..600).contains(code)).unwrap_or(FORBIDDEN),
            message: verdict.message.unwrap_or_else(|| "the policy does not say why".to_owned()),
            details: None,
        });
        let Verdict { accepted, warnings, audit_annotations, .. } = verdict;
        Self::of(Response { uid, allowed: accepted, status, warnings, audit_annotations })
    }

    /// A denial for want of a verdict.
    pub fn failed(uid: &'a str, error: &EvaluateError) -> Self {
        let message = format!("the guard came to no verdict: {error}\n  hint: {BREAK_GLASS}");
        Self::denied(uid, Status { code: 500, message, details: None })
    }

    /// A denial for want of time.
    pub fn shed(uid: &'a str, reason: &str) -> Self {
        let message = format!("the guard came to no verdict: {reason}\n  hint: {AGAIN}; {BREAK_GLASS}");
        let details = Some(Details { retry_after_seconds: DELAY });
        Self::denied(uid, Status { code: 429, message, details })
    }

    fn denied(uid: &'a str, status: Status) -> Self {
        Self::of(Response {
            uid,
            allowed: false,
            status: Some(status),
            warnings: None,
            audit_annotations: None,
        })
    }

    fn of(response: Response<'a>) -> Self {
        Self { api_version: API_VERSION, kind: KIND, response }
    }

    /// In JSON.
    pub fn json(&self) -> Vec<u8> {
        // Texts always serialize; the API server would take an empty answer for a failure.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(text: &str) -> Result<Review, NotAReview> {
        Review::parse(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_request_is_passed_on_as_it_came() {
        let request = r#"{ "uid":"1",  "operation":"DELETE","resource":{"resource":"secrets"}, "x": 1.0 }"#;
        let review = parse(&format!(
            r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{request}}}"#
        ));
        let review = review.unwrap();
        assert_eq!(review.request, request.as_bytes());
        assert_eq!((review.head.uid.as_str(), review.head.resource.resource.as_str()), ("1", "secrets"));
    }

    #[test]
    fn what_cannot_be_answered_is_no_review() {
        let of = |version: &str, request: &str| {
            format!(
                r#"{{"apiVersion":"admission.k8s.io/{version}","kind":"AdmissionReview","request":{request}}}"#
            )
        };
        for (text, expected) in [
            (String::new(), NotAReview::Unreadable),
            ("{}".to_owned(), NotAReview::Unreadable),
            (of("v1beta1", r#"{"uid":"1"}"#), NotAReview::Version),
            (of("v1", "null"), NotAReview::Unreadable),
            (of("v1", "{}"), NotAReview::Unreadable),
            (of("v1", r#"{"uid":""}"#), NotAReview::Unreadable),
            (of("v1", r#"{"uid":"1","uid":"2"}"#), NotAReview::Unreadable),
            (of("v1", r#"{"uid":"1"},"request":{"uid":"2"}"#), NotAReview::Unreadable),
            (of("v1", r#"{"uid":"1"}"#) + "{}", NotAReview::Unreadable),
        ] {
            assert_eq!(parse(&text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn answers_are_what_the_api_server_reads() {
        let value = |answer: Answer<'_>| -> Value { serde_json::from_slice(&answer.json()).unwrap() };
        let allowed = value(Answer::verdict("1", Verdict { accepted: true, ..Verdict::default() }));
        assert_eq!(
            allowed,
            json!({"apiVersion": API_VERSION, "kind": KIND, "response": {"uid": "1", "allowed": true}})
        );
        // Below 400 it would be no failure to a client.
        let odd = Verdict { code: Some(200), ..Verdict::default() };
        assert_eq!(value(Answer::verdict("1", odd))["response"]["status"]["code"], 403);
        let shed = value(Answer::shed("1", "it has no time"));
        assert_eq!(shed["response"]["allowed"], false);
        assert_eq!(shed["response"]["status"]["details"]["retryAfterSeconds"], 1);
        let failed = value(Answer::failed("1", &EvaluateError::Timeout));
        assert!(failed["response"]["status"]["message"].as_str().unwrap().contains("guard uninstall"));
    }
}
