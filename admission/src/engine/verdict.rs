//! What comes out of an evaluation.
//!
//! Invariant: no text of an error has a byte that the guest, or the review, put there. A guest's own word reaches the user
//! alone, as the message of its verdict.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wasmtime::Trap;

/// What the policy says of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it may go on.
    pub accepted: bool,
    /// Why not.
    #[serde(default)]
    pub message: Option<String>,
    /// The HTTP status of a denial.
    #[serde(default)]
    pub code: Option<u16>,
    /// What is told to whoever asked, whatever the verdict.
    #[serde(default)]
    pub warnings: Option<Vec<String>>,
    /// What goes into the audit log.
    #[serde(default)]
    pub audit_annotations: Option<BTreeMap<String, String>>,
}

/// What a policy may answer that this host does not take.
#[derive(Deserialize)]
struct Mutation<'a> {
    #[serde(default, borrow)]
    mutated_object: Option<&'a RawValue>,
}

impl Verdict {
    pub(super) fn parse(answer: &[u8]) -> Result<Self, EvaluateError> {
        let unreadable = |_| EvaluateError::BadAnswer("it is not what the protocol says");
        let Mutation { mutated_object } = serde_json::from_slice(answer).map_err(unreadable)?;
        if mutated_object.is_some() {
            return Err(EvaluateError::BadAnswer("it would change the object"));
        }
        serde_json::from_slice(answer).map_err(unreadable)
    }

    /// The ids of the rules that denied, warned or were approved, as the policy notes them for the audit log.
    pub fn rules(&self, outcome: &str) -> &str {
        self.audit_annotations.as_ref().and_then(|them| them.get(outcome)).map_or("", String::as_str)
    }
}

/// Why there is no verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// It took longer than it may.
    #[error("the policy took longer than it may")]
    Timeout,
    /// It wanted more memory than it may have.
    #[error("the policy wanted more memory than it may have")]
    OutOfMemory,
    /// It did something that ends a Wasm instance. A panic is that, too.
    #[error("the policy broke off: {trap}{}", at(place.as_deref()))]
    Trap {
        /// What it did.
        trap: String,
        /// Where in its source, if it told: a file, a line and a column.
        place: Option<String>,
    },
    /// Its answer is none.
    #[error("the policy's answer is not usable: {0}")]
    BadAnswer(&'static str),
    /// It used the host in a way that it may not.
    #[error("the policy called its host in a way that it may not: {0}")]
    HostCall(&'static str),
}

impl EvaluateError {
    /// What it is called in metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::OutOfMemory => "out-of-memory",
            Self::Trap { .. } => "trap",
            Self::BadAnswer(_) => "bad-answer",
            Self::HostCall(_) => "host-call",
        }
    }

    /// The error that a call ended with. `said` is what the guest said before.
    pub(super) fn of(error: &wasmtime::Error, said: Option<&[u8]>) -> Self {
        if let Some(own) = error.downcast_ref::<Self>() {
            return own.clone();
        }
        let trap = match error.downcast_ref::<Trap>() {
            Some(trap) => trap.to_string(),
            // It is about this host, not about the guest: no memory to be had, no function of that name.
            None => "it cannot be run".to_owned(),
        };
        Self::Trap { trap, place: said.and_then(place) }
    }
}

fn at(place: Option<&str>) -> String {
    place.map(|place| format!(", at {place}")).unwrap_or_default()
}

/// The place in a message `... panicked at src/lib.rs:1:2`, and nothing else of it.
fn place(said: &[u8]) -> Option<String> {
    let (_, place) = std::str::from_utf8(said).ok()?.split_once("panicked at ")?;
    let (file, position) = place.split_once(".rs:")?;
    let is_file = file.len() <= 100
        && file.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-./".contains(c));
    let is_position = position.len() <= 12 && position.chars().all(|c| c.is_ascii_digit() || c == ':');
    (is_file && is_position).then(|| place.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_place_is_taken_from_what_a_guest_says() {
        let error = |said: &str| place(said.as_bytes());
        assert_eq!(
            error("the policy panicked at policy-wasm/core/src/rules/ds8.rs:12:5").as_deref(),
            Some("policy-wasm/core/src/rules/ds8.rs:12:5")
        );
        for said in [
            "the policy panicked at c2VjcmV0",
            "panicked at c2VjcmV0.rs:1:2",
            "panicked at src/a.rs:1:2: secret",
            "secret",
        ] {
            assert_eq!(error(said), None, "{said}");
        }
    }

    #[test]
    fn a_verdict_changes_nothing() {
        let parse = |text: &str| Verdict::parse(text.as_bytes());
        assert!(parse(r#"{"accepted":true}"#).unwrap().accepted);
        assert!(parse(r#"{"accepted":true,"mutated_object":null}"#).unwrap().accepted);
        for text in ["", "{}", "null", r#"{"accepted":1}"#, r#"{"accepted":true,"mutated_object":{}}"#] {
            assert!(matches!(parse(text), Err(EvaluateError::BadAnswer(_))), "{text}");
        }
    }
}
