//! `guard approve`: one change, with the approval that lets it through.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::DecodePrivateKey as _;
use selfhost_core::review::approval::Approval;
use selfhost_core::rules;
use serde_json::Value;

use crate::cli::guard::Approve;
use crate::error::Failure;
use crate::exit::Exit;
use crate::guard::{approval, change};
use crate::terminal::Terminal;

/// Reads the object, and prints it with the approval.
pub(super) fn run(args: &Approve, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let objects = change::read(&args.file)?;
    let [object] = &objects[..] else {
        return Err(usage(format!(
            "{} holds {} objects, and an approval is for one",
            args.file.display(),
            objects.len()
        )));
    };
    let approved = approve(object, args, Timestamp::now().as_second())?;
    let text = serde_saphyr::to_string(&approved).map_err(std::io::Error::other)?;
    terminal.out.write_all(text.as_bytes())?;
    terminal.out.flush()?;
    Ok(Exit::Success)
}

fn usage(message: String) -> Failure {
    Failure::message(message, Exit::Usage)
}

fn approve(object: &Value, args: &Approve, now: i64) -> Result<Value, Failure> {
    for rule in &args.rule {
        if rules::find(rule).is_none() {
            return Err(usage(format!("there is no rule {rule}")).with_hint(
                "docs/reference/rules.md has them all; kubectl selfhost guard test names those that object",
            ));
        }
    }
    if args.reason.trim().is_empty() {
        return Err(usage("an approval needs a reason".to_owned()).with_hint("--reason 'why, or a ticket'"));
    }
    let Some(lasts) = args.lasts.limit() else {
        return Err(usage("an approval lapses".to_owned()).with_hint("--for 10m"));
    };
    // An update is told from a creation by the version that is changed.
    let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
    let old = (!version.is_empty()).then_some(object);
    let change = approval::of(object, old, args.delete)
        .map_err(|error| usage(format!("{}: {error}", args.file.display())))?;
    let mut approval = Approval {
        change,
        rules: args.rule.iter().cloned().collect::<BTreeSet<_>>(),
        not_after: now.saturating_add(i64::try_from(lasts.as_secs()).unwrap_or(i64::MAX)),
        reason: args.reason.clone(),
        signatures: BTreeMap::new(),
    };
    // Others may have signed the same before: their signatures are of the same bytes.
    if let Some(earlier) = approval::on(object)
        && (&earlier.change, &earlier.rules, &earlier.reason)
            == (&approval.change, &approval.rules, &approval.reason)
    {
        approval.not_after = earlier.not_after;
        approval.signatures = earlier.signatures;
    }
    if let (Some(file), Some(name)) = (&args.key, &args.key_name) {
        let signature: Signature = key(file)?.sign(&approval.signed());
        approval.signatures.insert(name.clone(), STANDARD.encode(signature.to_der().as_bytes()));
    }
    let mut approved = object.clone();
    approval::put(&mut approved, &approval).map_err(std::io::Error::from)?;
    Ok(approved)
}

fn key(file: &Path) -> Result<SigningKey, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::message(format!("cannot read {}: {error}", file.display()), Exit::Failure)
    })?;
    SigningKey::from_pkcs8_pem(&text).map_err(|_| {
        Failure::message(
            format!("{} is no private key of ECDSA P-256 in PKCS#8", file.display()),
            Exit::Failure,
        )
        .with_hint("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 makes one")
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
    use selfhost_core::review::approval::{self, Approvals};
    use selfhost_core::review::{Facts, Request};
    use serde_json::json;

    use super::*;
    use crate::cli::guard::Action;
    use crate::cli::{Cli, Command};
    use crate::guard::change::Asker;

    const NOW: i64 = 1_800_000_000;

    fn args(more: &[&str]) -> Approve {
        let words = ["kubectl-selfhost", "guard", "approve", "f", "--rule", "DS-11", "--reason", "CHG-42"];
        match Cli::parse_from(words.iter().chain(more)).command {
            Command::Guard(crate::cli::guard::Args { action: Action::Approve(args) }) => args,
            other => panic!("{other:?}"),
        }
    }

    fn daemonset(image: &str) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": "self-hosted-kube-scheduler", "namespace": "kube-system", "uid": "u", "resourceVersion": "7"},
            "spec": {"template": {"spec": {"containers": [{"name": "kube-scheduler", "image": image}]}}}})
    }

    /// What the guard makes of it: the object after and before.
    fn judged(after: &Value, before: &Value, approvals: &Approvals, now: i64) -> Result<bool, String> {
        let request = change::request(after, Some(before), false, &Asker::named(None, &[]));
        let request = Request::parse(request.to_string().as_bytes()).unwrap();
        approval::of(&request, approvals, &Facts::at(now)).unwrap().map(|granted| granted.is_some())
    }

    #[test]
    fn what_is_approved_counts_for_that_change_and_lapses() {
        let before = daemonset("a");
        let after = approve(&daemonset("b"), &args(&["--for", "5m"]), NOW).unwrap();
        let none = Approvals::default();
        assert_eq!(judged(&after, &before, &none, NOW + 299), Ok(true));
        assert_eq!(judged(&after, &before, &none, NOW + 300), Err("the approval has lapsed".to_owned()));
        let mut other = after.clone();
        other["spec"]["template"]["spec"]["containers"][0]["image"] = json!("c");
        assert_eq!(judged(&other, &before, &none, NOW), Err("the approval is of another change".to_owned()));
        let mut later = before.clone();
        later["metadata"]["resourceVersion"] = json!("8");
        assert_eq!(judged(&after, &later, &none, NOW), Err("the approval is of another change".to_owned()));
    }

    #[test]
    fn two_sign_one_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let mut approvals = Approvals { required: 2, ..Approvals::default() };
        let mut object = daemonset("b");
        for (index, name) in ["ann", "bob"].into_iter().enumerate() {
            let key = SigningKey::from_slice(&[u8::try_from(index).unwrap() + 1; 32]).unwrap();
            let public = key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
            approvals.keys.insert(name.to_owned(), public);
            let file = dir.path().join(name);
            std::fs::write(&file, key.to_pkcs8_pem(LineEnding::LF).unwrap()).unwrap();
            let one = judged(&object, &daemonset("a"), &approvals, NOW);
            assert!(!matches!(one, Ok(true)), "{one:?}");
            let file = file.to_str().unwrap().to_owned();
            // The second signs a minute later, what the first has signed.
            let now = NOW + 60 * i64::try_from(index).unwrap();
            object = approve(&object, &args(&["--key", &file, "--key-name", name]), now).unwrap();
        }
        assert_eq!(judged(&object, &daemonset("a"), &approvals, NOW + 61), Ok(true));
    }

    #[test]
    fn what_cannot_be_approved_is_told() {
        let mut unknown = args(&[]);
        unknown.rule = vec!["DS-99".to_owned()];
        assert_eq!(
            approve(&daemonset("b"), &unknown, NOW).unwrap_err().to_string(),
            "there is no rule DS-99"
        );
        let mut silent = args(&[]);
        silent.reason = " ".to_owned();
        assert_eq!(
            approve(&daemonset("b"), &silent, NOW).unwrap_err().to_string(),
            "an approval needs a reason"
        );
        assert_eq!(
            approve(&daemonset("b"), &args(&["--for", "0"]), NOW).unwrap_err().to_string(),
            "an approval lapses"
        );
    }
}
