//! Two edits whose verdicts are known: what a policy is tried with before it runs, and while it does.
//!
//! Invariant: a policy that admits the deletion of a running component, or denies a harmless label, does not run. Whatever
//! the settings are, what is no request is denied.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::capabilities::{Nothing, Objects, Source};
use crate::engine::{Engine, EvaluateError, LoadError};

/// How long each edit may take: nobody waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Edits of one cluster, with their verdicts.
pub struct SelfTest {
    now: i64,
    cluster: Arc<Objects>,
    edits: Vec<Edit>,
}

#[derive(Deserialize)]
struct Edit {
    what: String,
    accepted: bool,
    request: Box<RawValue>,
}

#[derive(Deserialize)]
struct File {
    /// The time that the edits are judged at.
    now: i64,
    objects: Vec<serde_json::Value>,
    edits: Vec<Edit>,
}

/// What is wrong with a policy.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// Its verdict is wrong.
    #[error("the policy {} {what}", if *accepted { "admits" } else { "denies" })]
    Verdict {
        /// The edit.
        what: String,
        /// The wrong verdict.
        accepted: bool,
    },
    /// It has no verdict.
    #[error("the policy has no verdict on {what}")]
    NoVerdict {
        /// The edit.
        what: String,
        /// Why not.
        #[source]
        source: EvaluateError,
    },
    /// It does not run with its own settings.
    #[error("the policy does not run with its own settings")]
    Defaults(#[source] LoadError),
}

impl SelfTest {
    /// The edits that are part of the program.
    pub fn embedded() -> Self {
        Self::parse(include_str!("self_test.json")).unwrap_or_else(|error| unreachable!("{error}"))
    }

    /// Edits from JSON.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let File { now, objects, edits } = serde_json::from_str(text)?;
        Ok(Self { now, cluster: Arc::new(Objects(objects)), edits })
    }

    /// Tries a policy: with its own settings, because others may rightly judge otherwise, and once with these.
    pub fn run(&self, engine: &Engine) -> Result<(), SelfTestError> {
        let own = Engine::load(engine.program().clone(), b"").map_err(SelfTestError::Defaults)?;
        let cluster: Arc<dyn Source> = self.cluster.clone();
        for edit in &self.edits {
            let request = Bytes::copy_from_slice(edit.request.get().as_bytes());
            expect(&own, &edit.what, edit.accepted, request, self.now, &cluster)?;
        }
        let nothing: Arc<dyn Source> = Arc::new(Nothing);
        expect(engine, "what is no request", false, Bytes::from_static(b"{}"), self.now, &nothing)
    }
}

fn expect(
    engine: &Engine,
    what: &str,
    accepted: bool,
    request: Bytes,
    now: i64,
    source: &Arc<dyn Source>,
) -> Result<(), SelfTestError> {
    let verdict = engine
        .evaluate(request, now, Instant::now() + PATIENCE, Arc::clone(source))
        .map_err(|source| SelfTestError::NoVerdict { what: what.to_owned(), source })?;
    if verdict.accepted == accepted {
        return Ok(());
    }
    Err(SelfTestError::Verdict { what: what.to_owned(), accepted: verdict.accepted })
}

#[cfg(test)]
mod tests {
    use selfhost_core::review::{Lookup, Settings};
    use selfhost_core::rules;

    use super::*;

    #[test]
    fn the_rules_themselves_judge_the_edits_so() {
        let test = SelfTest::embedded();
        let fetch = |lookup: &Lookup| lookup.among(&test.cluster.0);
        assert!(test.edits.iter().any(|edit| edit.accepted) && test.edits.iter().any(|edit| !edit.accepted));
        for edit in &test.edits {
            let verdict = rules::decide(edit.request.get().as_bytes(), &Settings::default(), test.now, fetch);
            assert_eq!(verdict.allowed, edit.accepted, "{}: {}", edit.what, verdict.message());
            assert!(!verdict.violations.iter().any(|it| it.rule == "G-1"), "{}: it is not read", edit.what);
        }
    }
}
