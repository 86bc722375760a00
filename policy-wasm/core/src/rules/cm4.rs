//! CM-4: what is registered by static manifest stays registered.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Checked, Reach, Rule};
use crate::review::material::contents;
use crate::review::object::{list, text};
use crate::review::usage::{Store, guarded_store};
use crate::review::{Facts, Object, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "CM-4",
    title: "what a static admission manifest registers stays registered",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "Static manifests are there because nothing that is written through the API can change them. In a self-hosted \
          cluster their source is itself an object: a ConfigMap that the API servers mount. Whoever edits it edits the \
          guard.",
    evasion: "- Another key, another document of the same key: names are compared over all of them.\n\
              - A webhook that stays by name with another address, failure policy or scope: denied; a policy with other \
              validations too.\n\
              - A content that no longer can be read: denied.",
    blind: "Manifests on the nodes' disks; whether each API server has read the new content. `kubectl selfhost guard status` \
            compares what each one enforces.",
    check,
};

/// The end of every name in a static manifest, by the API server's own validation.
const SUFFIX: &str = ".static.k8s.io";

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    if request.operation != Operation::Update {
        return Ok(Vec::new());
    }
    let Some(store) = guarded_store(request, settings, facts)? else { return Ok(Vec::new()) };
    let before = manifests(store, &request.old_object).unwrap_or_default();
    if before.is_empty() {
        return Ok(Vec::new());
    }
    let next = "change it by kubectl selfhost guard install --static, which has to be approved";
    let Ok(after) = manifests(store, &request.object) else {
        return Ok(vec![Violation::new("data", "a static manifest cannot be read any more", next)]);
    };
    let lost = before.iter().filter(|manifest| !after.contains(*manifest));
    let violations = lost.map(|manifest| {
        let message = format!("{} is gone, or is another one", manifest.name);
        Violation::new("data", message, next)
    });
    Ok(violations.collect())
}

/// What is registered: by name, with all that it says but its labels and the like.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Manifest {
    name: String,
    content: String,
}

/// Everything that an object registers.
fn manifests(store: Store, object: &Value) -> Result<BTreeSet<Manifest>, String> {
    let mut found = BTreeSet::new();
    for bytes in contents(store, object) {
        let text = String::from_utf8_lossy(&bytes);
        // Most keys hold nothing of the kind.
        if !text.contains(SUFFIX) {
            continue;
        }
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|_| "it is not YAML".to_owned())?;
        for document in documents {
            let items = if document["items"].is_array() { list(&document, "items").to_vec() } else { vec![document] };
            found.extend(items.iter().filter_map(manifest));
        }
    }
    Ok(found)
}

fn manifest(object: &Value) -> Option<Manifest> {
    let name = Object(object).name_of();
    let mut content = object.clone();
    if let Some(fields) = content.as_object_mut() {
        fields.remove("metadata");
    }
    let is_static = name.ends_with(SUFFIX);
    is_static.then(|| Manifest { name: format!("{} {name}", text(object, "kind")), content: content.to_string() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{configured, table};

    #[test]
    fn what_is_static_stays() {
        let policy = |name: &str, expression: &str| {
            format!(
                "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\n\
                 metadata: {{name: {name}}}\nspec: {{validations: [{{expression: {expression:?}}}]}}\n"
            )
        };
        let (one, two) = (policy("one.static.k8s.io", "false"), policy("two.static.k8s.io", "false"));
        let mut world = configured();
        world.object_mut("ConfigMap", "kube-system/apiserver-config")["data"]["policies.yaml"] =
            json!(format!("{one}---\n{two}"));
        let write = |text: String| {
            world.update("ConfigMap", "kube-system/apiserver-config", move |it| it["data"]["policies.yaml"] = json!(text))
        };
        table(
            &RULE,
            &world,
            [
                ("in another order", write(format!("{two}---\n{one}")), false),
                ("one more", write(format!("{one}---\n{two}---\n{}", policy("three.static.k8s.io", "true"))), false),
                ("with a comment", write(format!("# x\n{one}---\n{two}")), false),
                ("one less", write(one.clone()), true),
                ("another expression", write(format!("{one}---\n{}", policy("two.static.k8s.io", "true"))), true),
                ("under another name", write(format!("{one}---\n{}", policy("too.static.k8s.io", "false"))), true),
                ("nothing", write(String::new()), true),
                ("no YAML", write(format!("{one}---\n{two}---\n{{.static.k8s.io")), true),
                ("in another key", world.update("ConfigMap", "kube-system/apiserver-config", |it| {
                    let text = it["data"]["policies.yaml"].take();
                    it["data"] = json!({"moved.yaml": text});
                }), false),
                ("another ConfigMap", world.update("ConfigMap", "kube-system/other", |it| it["data"] = json!({})), false),
            ],
        );
    }
}
