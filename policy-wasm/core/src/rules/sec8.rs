//! SEC-8: what is stored can still be read.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Checked, Reach, Rule};
use crate::review::approval::hex;
use crate::review::material::{File, Written, kind_of, yaml};
use crate::review::object::{list, text, texts};
use crate::review::{Facts, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "SEC-8",
    title: "no key of the encryption at rest is lost, and none encrypts before all can read it",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "What was encrypted with a key that is gone is gone. And API servers start one after the other: a key that \
          encrypts at once is one with which the others cannot read. So a new key comes second, then first; an old one \
          goes when everything is rewritten.",
    evasion: "- The same name with another secret, the same secret under another name or in another order: keys are \
              compared by their provider and content.\n\
              - `identity` in the first place, which stores in the clear: denied where it was not there.\n\
              - A resource that is no longer listed, or only by a narrower name: denied.\n\
              - YAML or JSON, anchors, other line ends: read as YAML.",
    blind: "Whether everything was rewritten since, so that an old key may go: taking one away is denied; when its time \
            has come, exempt the one object for the one user. What a KMS plugin does.",
    check,
};

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    let Some(written) = Written::of(request, settings, facts)? else { return Ok(Vec::new()) };
    let files = written.files.iter().filter(|file| file.is_for(&["encryption-provider-config"]));
    Ok(files.flat_map(changes).collect())
}

/// What encrypts the resources of one entry: providers with their keys, in order.
type Providers = BTreeMap<String, Vec<String>>;

fn changes(file: &File) -> Vec<Violation> {
    let new = match providers(&file.new) {
        Ok(new) => new,
        Err(message) => {
            return vec![file.violation(message, "write an EncryptionConfiguration of apiserver.config.k8s.io/v1")];
        }
    };
    let old = file.old.as_deref().and_then(|old| providers(old).ok()).unwrap_or_default();
    let mut violations = Vec::new();
    for (resource, before) in &old {
        let Some(after) = new.get(resource) else {
            let message = format!("{resource} would be stored in the clear, and what is encrypted not be read");
            violations.push(file.violation(message, "keep the entry"));
            continue;
        };
        let known: BTreeSet<&String> = after.iter().collect();
        for key in before.iter().filter(|key| !known.contains(key)) {
            let message = format!("{resource} that was encrypted with {key} could not be read");
            violations.push(file.violation(message, "keep the key behind the others"));
        }
        if let Some(first) = after.first().filter(|first| !before.contains(first)) {
            let message = format!("{first} would encrypt {resource} before every API server can read it");
            violations.push(file.violation(message, "put it second, let every API server start, then put it first"));
        }
        let was_clear = before.first().is_some_and(|first| first == "identity");
        if after.first().is_some_and(|first| first == "identity") && !was_clear {
            let message = format!("{resource} would be stored in the clear");
            violations.push(file.violation(message, "put identity last"));
        }
    }
    violations
}

/// The keys by resource, each told by its provider, its name and the fingerprint of its secret.
fn providers(bytes: &[u8]) -> Result<Providers, String> {
    let value = yaml(bytes)?;
    if kind_of(&value) != ("EncryptionConfiguration", "apiserver.config.k8s.io") {
        return Err("it is no EncryptionConfiguration".to_owned());
    }
    let mut found = Providers::new();
    for entry in list(&value, "resources") {
        let mut keys = Vec::new();
        for provider in list(entry, "providers") {
            for (kind, content) in provider.as_object().into_iter().flatten() {
                keys.extend(of_provider(kind, content));
            }
        }
        if keys.is_empty() {
            return Err("an entry has no provider".to_owned());
        }
        for resource in texts(entry, "resources") {
            // The first entry that names a resource counts.
            found.entry(resource.to_owned()).or_insert_with(|| keys.clone());
        }
    }
    if found.is_empty() { Err("it names no resource".to_owned()) } else { Ok(found) }
}

fn of_provider(kind: &str, content: &Value) -> Vec<String> {
    match kind {
        "identity" => vec!["identity".to_owned()],
        "kms" => vec![format!("kms {:?} at {}", text(content, "name"), text(content, "endpoint"))],
        _ => {
            let key = |key: &Value| {
                let digest = hex(&Sha256::digest(text(key, "secret").trim().as_bytes()));
                let name = text(key, "name");
                format!("{kind} key {name:?} (SHA256:{})", digest.get(..12).unwrap_or_default())
            };
            list(content, "keys").iter().map(key).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{encryption, put, secrets, table};

    #[test]
    fn what_is_stored_can_be_read() {
        let mut world = secrets();
        put(world.object_mut("Secret", "kube-system/encryption"), "encryption.yaml", &encryption(&["one", "two"]));
        let write = |text: &str| {
            world.update("Secret", "kube-system/encryption", |it| put(it, "encryption.yaml", text))
        };
        let changed = |change: fn(&mut Value)| {
            let mut value: Value = serde_json::from_str(&encryption(&["one", "two"])).unwrap();
            change(&mut value);
            write(&value.to_string())
        };
        let commented = format!("# rotated\n{}", encryption(&["one", "two", "three"]));
        table(
            &RULE,
            &world,
            [
                ("a third", write(&encryption(&["one", "two", "three"])), false),
                ("a third in the middle", write(&encryption(&["one", "three", "two"])), false),
                ("the second first", write(&encryption(&["two", "one"])), false),
                ("with a comment", write(&commented), false),
                ("a new one first", write(&encryption(&["three", "one", "two"])), true),
                ("one less", write(&encryption(&["one"])), true),
                ("another secret of its name", changed(|it| {
                    it["resources"][0]["providers"][0]["aescbc"]["keys"][1]["secret"] = json!("AAAA");
                }), true),
                ("another provider with its keys", changed(|it| {
                    let keys = it["resources"][0]["providers"][0]["aescbc"].take();
                    it["resources"][0]["providers"][0] = json!({"secretbox": keys});
                }), true),
                ("in the clear", changed(|it| {
                    it["resources"][0]["providers"].as_array_mut().unwrap().reverse();
                }), true),
                ("one resource more", changed(|it| {
                    it["resources"][0]["resources"].as_array_mut().unwrap().push(json!("configmaps"));
                }), false),
                ("another resource", changed(|it| it["resources"][0]["resources"] = json!(["configmaps"])), true),
                ("an entry before it", changed(|it| {
                    it["resources"].as_array_mut().unwrap().insert(0, json!({"resources": ["secrets"],
                        "providers": [{"identity": {}}]}));
                }), true),
                ("no providers", changed(|it| it["resources"][0]["providers"] = json!([])), true),
                ("another kind", changed(|it| it["kind"] = json!("Config")), true),
                ("no YAML", write("{"), true),
                ("nothing", write(""), true),
            ],
        );
        let kms = |endpoint: &str| {
            json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": [
                {"resources": ["secrets"], "providers": [{"kms": {"name": "k", "endpoint": endpoint}}, {"identity": {}}]}]})
            .to_string()
        };
        put(world.object_mut("Secret", "kube-system/encryption"), "encryption.yaml", &kms("unix:///run/a"));
        let write = |text: &str| world.update("Secret", "kube-system/encryption", |it| put(it, "encryption.yaml", text));
        table(
            &RULE,
            &world,
            [
                ("the same plugin", write(&format!("# as before\n{}", kms("unix:///run/a"))), false),
                ("another plugin", write(&kms("unix:///run/b")), true),
            ],
        );
    }
}
