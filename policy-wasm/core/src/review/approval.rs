//! Approvals: an explicit act that lets one change through which a rule would stop, once, for a short time.
//!
//! An approval is an annotation on the object, so that it needs no store, and is not a verb of RBAC: whoever holds `*`
//! has every verb, and theirs is the slip that the guard is there to catch. It names the object, what it is now, what
//! it becomes, the rules, and until when. Where the settings have keys, it counts with enough signatures by them;
//! where they have none, writing it is the act.
//!
//! Invariant: stateless. An approval is spent when the object has changed, because it names the version that it was
//! given for; a dry run spends nothing.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::DecodePublicKey as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::facts::{Facts, Lookup, Unknown};
use super::object::text;
use super::{Object, Operation, Request};

/// The annotation that holds an approval.
pub const ANNOTATION: &str = "kubectl-selfhost.dev/approval";

/// How changes are approved.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Approvals {
    /// Public keys by the name of their holder: ECDSA P-256, in PEM.
    pub keys: BTreeMap<String, String>,
    /// How many of them must have signed.
    pub required: usize,
    /// For how many seconds an approval may be given ahead.
    pub longest: i64,
}

impl Default for Approvals {
    fn default() -> Self {
        Self { keys: BTreeMap::new(), required: 0, longest: 3600 }
    }
}

impl Approvals {
    /// Whether they can be given, and not by anybody: else the setting, what is the matter, and what to do.
    pub(super) fn validate(&self) -> Result<(), (String, String, &'static str)> {
        let mut holders = BTreeMap::new();
        for (name, key) in &self.keys {
            let setting = format!("keys.{name}");
            let Ok(key) = VerifyingKey::from_public_key_pem(key) else {
                let what = "it is no ECDSA P-256 public key in PEM".to_owned();
                return Err((setting, what, "openssl ec -pubout prints one"));
            };
            if let Some(other) = holders.insert(key, name) {
                return Err((
                    setting,
                    format!("{other} has the same key"),
                    "give each holder a key of their own",
                ));
            }
        }
        if self.required > self.keys.len() {
            let what = format!("{} signatures are required, of {} keys", self.required, self.keys.len());
            return Err(("required".to_owned(), what, "require at most as many as there are keys"));
        }
        if self.required == 0 && !self.keys.is_empty() {
            let what = "there are keys, and no signature is required".to_owned();
            return Err(("required".to_owned(), what, "require at least 1, or leave the keys out"));
        }
        Ok(())
    }
}

/// What an approval says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Approval {
    /// The change that it is for.
    pub change: Change,
    /// The rules that it lifts.
    pub rules: BTreeSet<String>,
    /// Until when, in seconds since 1970.
    pub not_after: i64,
    /// Why; for the audit log.
    pub reason: String,
    /// Signatures by name of the key: of [`Approval::signed`], as ECDSA in DER, in base64.
    #[serde(default)]
    pub signatures: BTreeMap<String, String>,
}

/// One change: what is approved, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Change {
    /// `DELETE`
    pub operation: String,
    /// `daemonsets.apps`, `pods/exec`
    pub resource: String,
    /// `kube-system/self-hosted-kube-apiserver`
    pub object: String,
    /// The object's UID; empty for one that does not exist yet.
    pub uid: String,
    /// The version that is changed; empty for what is created, deleted or connected to.
    pub from: String,
    /// SHA-256 of what it becomes, without its metadata and status; empty for a deletion.
    pub to: String,
}

impl Change {
    /// The change that a request makes.
    pub fn of(request: &Request) -> Self {
        let resource = match request.resource.group.as_str() {
            "" => request.resource.resource.clone(),
            group => format!("{}.{group}", request.resource.resource),
        };
        let sub = request.sub_resource();
        let old = request.old().map_or(&Value::Null, Object::metadata);
        let is_update = request.operation == Operation::Update;
        Self {
            operation: request.operation.as_str().to_owned(),
            resource: if sub.is_empty() { resource } else { format!("{resource}/{sub}") },
            object: request.key(),
            uid: text(old, "uid").to_owned(),
            from: if is_update { text(old, "resourceVersion").to_owned() } else { String::new() },
            to: request.new_object().map(digest).unwrap_or_default(),
        }
    }
}

/// SHA-256, in hexadecimal, of an object without its metadata and status, as JSON with sorted keys; what the metadata
/// has in labels and owners counts.
fn digest(object: Object<'_>) -> String {
    let fields = object.0.as_object().into_iter().flatten();
    let mut content: BTreeMap<&str, &Value> =
        fields.filter(|(name, _)| *name != "status").map(|(name, value)| (name.as_str(), value)).collect();
    let metadata = json!({
        "labels": object.metadata()["labels"],
        "ownerReferences": object.metadata()["ownerReferences"],
        "finalizers": object.metadata()["finalizers"],
    });
    content.insert("metadata", &metadata);
    let bytes = serde_json::to_vec(&content).unwrap_or_default();
    hex(&Sha256::digest(bytes))
}

/// Hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Approval {
    /// The bytes that are signed.
    pub fn signed(&self) -> Vec<u8> {
        let content = json!([
            ANNOTATION,
            self.change.operation,
            self.change.resource,
            self.change.object,
            self.change.uid,
            self.change.from,
            self.change.to,
            self.rules,
            self.not_after,
            self.reason,
        ]);
        content.to_string().into_bytes()
    }

    /// By whom it is signed with keys that count.
    fn signers<'a>(&self, approvals: &'a Approvals) -> BTreeSet<&'a str> {
        let content = self.signed();
        let holds = |name: &str, key: &str| {
            let signature = STANDARD.decode(self.signatures.get(name)?).ok()?;
            let signature = Signature::from_der(&signature).ok()?;
            VerifyingKey::from_public_key_pem(key).ok()?.verify(&content, &signature).ok()
        };
        let keys = approvals.keys.iter();
        keys.filter(|(name, key)| holds(name, key).is_some()).map(|(name, _)| name.as_str()).collect()
    }
}

/// An approval that counts for a request: the rules that it lifts, and what the audit log is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The rules.
    pub rules: BTreeSet<String>,
    /// Who approved it, and why.
    pub audit: String,
}

/// The approval of a request, if it has one that counts; or why the one that it has does not.
pub fn of(
    request: &Request,
    approvals: &Approvals,
    facts: &Facts,
) -> Result<Result<Option<Granted>, String>, Unknown> {
    let Some(text) = annotation(request, facts)? else { return Ok(Ok(None)) };
    let Ok(approval) = serde_json::from_str::<Approval>(&text) else {
        return Ok(Err("the approval cannot be read".to_owned()));
    };
    if approval.change != Change::of(request) {
        return Ok(Err("the approval is of another change".to_owned()));
    }
    let now = facts.now()?;
    if approval.not_after <= now {
        return Ok(Err("the approval has lapsed".to_owned()));
    }
    if approval.not_after.saturating_sub(now) > approvals.longest {
        return Ok(Err(format!("the approval is for more than {} s", approvals.longest)));
    }
    if approval.reason.trim().is_empty() {
        return Ok(Err("the approval gives no reason".to_owned()));
    }
    let signers = approval.signers(approvals);
    if signers.len() < approvals.required {
        let message = format!("the approval has {} of {} signatures", signers.len(), approvals.required);
        return Ok(Err(message));
    }
    let by = if signers.is_empty() {
        format!("approved by {}", request.user.username)
    } else {
        format!("approved by {}", signers.into_iter().collect::<Vec<_>>().join(", "))
    };
    Ok(Ok(Some(Granted { rules: approval.rules, audit: format!("{by}: {}", approval.reason) })))
}

/// The annotation: of the object, of what is deleted, or, where the review has another object than the one it is about,
/// of that one as it is now.
fn annotation(request: &Request, facts: &Facts) -> Result<Option<String>, Unknown> {
    let of = |object: Object<'_>| object.annotations().get(ANNOTATION).map(|text| (*text).to_owned());
    if request.sub_resource().is_empty() {
        return Ok(request.target().and_then(of));
    }
    let (api_version, kind) = match (request.resource.group.as_str(), request.resource.resource.as_str()) {
        ("", "pods") => ("v1", "Pod"),
        ("", "nodes") => ("v1", "Node"),
        ("", "serviceaccounts") => ("v1", "ServiceAccount"),
        _ => return Ok(None),
    };
    let lookup = Lookup::get(api_version, kind, request.namespace(), request.name());
    Ok(facts.object(&lookup)?.and_then(|object| of(Object(object))))
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::SigningKey;
    use p256::ecdsa::signature::Signer as _;
    use p256::pkcs8::{EncodePublicKey as _, LineEnding};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_slice(&[seed; 32]).unwrap()
    }

    fn pem(seed: u8) -> String {
        key(seed).verifying_key().to_public_key_pem(LineEnding::LF).unwrap()
    }

    fn request(spec: &str, approval: Option<&Approval>) -> Request {
        let mut object = json!({"metadata": {"name": "d", "namespace": "kube-system", "uid": "u",
            "resourceVersion": "7"}, "spec": spec});
        if let Some(approval) = approval {
            object["metadata"]["annotations"] = json!({ANNOTATION: serde_json::to_string(approval).unwrap()});
        }
        let value = json!({
            "operation": "UPDATE", "userInfo": {"username": "ann"},
            "kind": {"group": "apps", "version": "v1", "kind": "DaemonSet"},
            "resource": {"group": "apps", "version": "v1", "resource": "daemonsets"},
            "object": object,
            "oldObject": {"metadata": {"name": "d", "namespace": "kube-system", "uid": "u",
                "resourceVersion": "7"}, "spec": "old"},
        });
        Request::parse(value.to_string().as_bytes()).unwrap()
    }

    fn approval(signers: &[u8]) -> Approval {
        let mut approval = Approval {
            change: Change::of(&request("new", None)),
            rules: BTreeSet::from(["DS-11".to_owned()]),
            not_after: NOW + 600,
            reason: "ticket 7".into(),
            signatures: BTreeMap::new(),
        };
        let content = approval.signed();
        for seed in signers {
            let signature: Signature = key(*seed).sign(&content);
            approval.signatures.insert(seed.to_string(), STANDARD.encode(signature.to_der()));
        }
        approval
    }

    fn granted(approval: &Approval, spec: &str, approvals: &Approvals) -> Result<Option<Granted>, String> {
        of(&request(spec, Some(approval)), approvals, &Facts::at(NOW)).unwrap()
    }

    #[test]
    fn without_keys_writing_it_is_the_act() {
        let open = Approvals::default();
        let found = granted(&approval(&[]), "new", &open).unwrap().unwrap();
        assert_eq!(found.audit, "approved by ann: ticket 7");
        assert_eq!(of(&request("new", None), &open, &Facts::at(NOW)), Ok(Ok(None)));
    }

    #[test]
    fn it_counts_for_one_change_and_a_short_time() {
        type Edit = fn(&mut Approval);
        let open = Approvals::default();
        let cases: [(Edit, &str); 8] = [
            (|it| it.change.uid = "other".into(), "another change"),
            (|it| it.change.from = "6".into(), "another change"),
            (|it| it.change.operation = "DELETE".into(), "another change"),
            (|it| it.change.object = "kube-system/e".into(), "another change"),
            (|it| it.not_after = NOW, "lapsed"),
            (|it| it.not_after = NOW + 3601, "more than"),
            (|it| it.not_after = i64::MAX, "more than"),
            (|it| it.reason = " ".into(), "no reason"),
        ];
        for (edit, expected) in cases {
            let mut it = approval(&[]);
            edit(&mut it);
            let found = granted(&it, "new", &open).unwrap_err();
            assert!(found.contains(expected), "{found}");
        }
        assert!(granted(&approval(&[]), "other", &open).is_err(), "what it becomes is part of it");
    }

    #[test]
    fn with_keys_enough_of_them_must_have_signed() {
        let keys = [1, 2, 3].map(|seed: u8| (seed.to_string(), pem(seed)));
        let two = Approvals { keys: keys.into(), required: 2, ..Approvals::default() };
        assert_eq!(two.validate(), Ok(()));
        assert!(granted(&approval(&[]), "new", &two).is_err());
        assert!(granted(&approval(&[1]), "new", &two).is_err());
        assert!(granted(&approval(&[1, 9]), "new", &two).is_err(), "9 is nobody's");
        assert_eq!(
            granted(&approval(&[1, 3]), "new", &two).unwrap().unwrap().audit,
            "approved by 1, 3: ticket 7"
        );
        let mut longer = approval(&[1, 3]);
        longer.not_after += 1;
        assert!(granted(&longer, "new", &two).is_err(), "what was signed cannot be changed");
        let mut more = approval(&[1, 3]);
        more.rules.insert("DS-1".into());
        assert!(granted(&more, "new", &two).is_err(), "rules cannot be added");
        let mut one_twice = approval(&[1]);
        one_twice.signatures.insert("2".into(), one_twice.signatures["1"].clone());
        assert!(granted(&one_twice, "new", &two).is_err(), "one key is one signature");
    }

    #[test]
    fn keys_that_prove_nothing_are_refused() {
        let with = |keys: &[(&str, String)], required| Approvals {
            keys: keys.iter().map(|(name, key)| ((*name).to_owned(), key.clone())).collect(),
            required,
            ..Approvals::default()
        };
        assert!(with(&[("a", pem(1))], 0).validate().is_err());
        assert!(with(&[("a", pem(1))], 2).validate().is_err());
        assert!(with(&[("a", pem(1)), ("b", pem(1))], 2).validate().is_err());
        assert!(with(&[("a", "no key".into())], 1).validate().is_err());
    }
}
