//! The policy in this host judges as its rules do by themselves, be it compiled now or ahead of time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use selfhost_admission::engine::{Engine, Program, ahead};
use selfhost_core::review::{Lookup, Settings};
use selfhost_core::rules;
use serde_json::Value;

use crate::stand::{cluster, fixture, module, policy, runtime};

/// The time of the fixtures: 2027-01-15T08:00:00Z.
const NOW: i64 = 1_800_000_000;

const FIXTURES: [&str; 8] = [
    "daemonset-delete",
    "daemonset-image",
    "daemonset-label",
    "secret-apiserver",
    "secret-ca",
    "secret-encryption",
    "secret-sa",
    "secret-scheduler.conf",
];

#[test]
fn the_guest_and_the_rules_agree() {
    let directory = tempfile::tempdir().unwrap();
    ahead::keep(directory.path(), module()).unwrap();
    let program = Program::load(runtime(), module(), directory.path()).unwrap();
    assert_eq!(program.compiled(), None);
    let engines = [policy(), Engine::load(program, b"").unwrap()];
    let source = Arc::new(cluster());
    let fetch = |lookup: &Lookup| lookup.among(&source.0);
    let mut outcomes = [0, 0];
    for name in FIXTURES {
        let request = fixture(name);
        // As it is; by another user; as a trial; and what it would be without its old object.
        let mut variants = vec![request.clone(); 4];
        variants[1]["userInfo"]["username"] = "system:node:cp1".into();
        variants[2]["dryRun"] = true.into();
        variants[3]["oldObject"] = Value::Null;
        for (index, request) in variants.iter().enumerate() {
            let json = request.to_string();
            let native = rules::decide(json.as_bytes(), &Settings::default(), NOW, fetch);
            let (json, message) = (Bytes::from(json), (!native.allowed).then(|| native.message()));
            for engine in &engines {
                let deadline = Instant::now() + Duration::from_mins(1);
                let guest = engine.evaluate(json.clone(), NOW, deadline, source.clone()).unwrap();
                assert_eq!(guest.accepted, native.allowed, "{name} {index}: {}", native.message());
                assert_eq!(guest.message, message, "{name} {index}");
                assert_eq!(guest.warnings.unwrap_or_default(), native.warning_texts(), "{name} {index}");
            }
            outcomes[usize::from(native.allowed)] += 1;
        }
    }
    assert!(outcomes.iter().all(|count| *count > 4), "both verdicts are met: {outcomes:?}");
}
