//! What is written into a guarded Secret or ConfigMap, key by key, with what each key is to the control plane.
//!
//! An edit of a DaemonSet by which a flag names another key writes too: what was put there before, when nothing named it,
//! is compared then.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::facts::{Facts, Lookup, Unknown};
use super::object::{names, text};
use super::pod::component_of;
use super::record::Edit;
use super::settings::Settings;
use super::usage::{Store, Use, all_uses, guarded_store, named_files, uses};
use super::{Request, Violation};
use crate::component::Component;
use crate::labels;

/// One key whose value a request changes.
#[derive(Debug, Clone)]
pub struct File {
    /// The key.
    pub key: String,
    /// The flags that name it.
    pub uses: Vec<Use>,
    /// What it becomes.
    pub new: Vec<u8>,
    /// What it was.
    pub old: Option<Vec<u8>>,
    /// Where it stands, for a message: `data[tls.crt]`.
    place: String,
}

impl File {
    /// Whether any component reads it through one of these flags.
    pub fn is_for(&self, flags: &[&str]) -> bool {
        self.uses.iter().any(|it| flags.contains(&it.flag.as_str()))
    }

    /// A violation about it.
    pub fn violation(&self, message: impl Into<String>, next: impl Into<String>) -> Violation {
        Violation::new(self.place.clone(), message, next)
    }
}

/// What a request writes into something guarded.
#[derive(Debug, Clone)]
pub struct Written {
    /// Every file of the control plane that is kept anywhere.
    pub all: Vec<Use>,
    /// The keys that change, among those that a flag names.
    pub files: Vec<File>,
    /// What it writes into; none where a DaemonSet is edited.
    target: Option<(Store, String)>,
    content: BTreeMap<String, Vec<u8>>,
}

impl Written {
    /// What a request writes; `None` where it does not write into anything guarded.
    pub fn of(request: &Request, settings: &Settings, facts: &Facts) -> Result<Option<Self>, Unknown> {
        if !request.writes() {
            return Ok(None);
        }
        if let Some(component) = component_of(request) {
            return Self::of_template(component, request, facts);
        }
        let Some(store) = guarded_store(request, settings, facts)? else { return Ok(None) };
        let all = all_uses(facts)?;
        let name = request.name().to_owned();
        // Not the other keys: one of them may be as large as an object can be.
        let here = || all.iter().filter(|it| it.store == store && it.name == name);
        let content: BTreeMap<String, Vec<u8>> = here()
            .filter_map(|it| Some((it.key.clone(), value_of(store, &request.object, &it.key)?)))
            .collect();
        let mut files = Vec::new();
        if request.namespace() == labels::NAMESPACE {
            for (key, new) in &content {
                let old = value_of(store, &request.old_object, key);
                if old.as_ref() != Some(new) {
                    let uses: Vec<Use> = here().filter(|it| it.key == *key).cloned().collect();
                    let place = format!("data[{key}]");
                    files.push(File { key: key.clone(), uses, new: new.clone(), old, place });
                }
            }
        }
        Ok(Some(Self { all, files, target: Some((store, name)), content }))
    }

    /// What an edit of a component's DaemonSet puts under its flags; `None` where all of them name what they named before.
    fn of_template(component: Component, request: &Request, facts: &Facts) -> Result<Option<Self>, Unknown> {
        let Some(edit) = Edit::of_template(request, facts)? else { return Ok(None) };
        let before = edit.old.as_ref().map(|old| uses(component, old.pod())).unwrap_or_default();
        let files = named_files(component, edit.new);
        let after = files.concat();
        if after.iter().all(|it| before.contains(it)) {
            return Ok(None);
        }
        let others = all_uses(facts)?.into_iter().filter(|it| it.component != component);
        let mut written = Self {
            all: others.chain(after.iter().cloned()).collect(),
            files: Vec::new(),
            target: None,
            content: BTreeMap::new(),
        };
        // All are asked for at once.
        let read: Vec<_> =
            after.iter().chain(&before).map(|used| (used, written.read(used, facts))).collect();
        let mut contents = BTreeMap::new();
        for (used, content) in read {
            contents.insert(used, content?);
        }
        // Of several sources of a volume one may have the file; where one of them has not, it is another's.
        let holds = |used: &Use| contents.get(used).is_some_and(Option::is_some);
        let found = files.iter().flat_map(|file| {
            let is_there = file.iter().any(holds);
            file.iter().filter(move |it| holds(it) || !is_there)
        });
        for used in found.filter(|it| !before.contains(it)) {
            // Of a flag that names several files, those that it names no longer.
            let gone = before.iter().filter(|it| it.flag == used.flag && !after.contains(it));
            let old: Vec<&[u8]> = gone.filter_map(|it| contents.get(it)?.as_deref()).collect();
            written.files.push(File {
                key: used.key.clone(),
                uses: vec![used.clone()],
                // What is not there cannot be read.
                new: contents.get(used).cloned().flatten().unwrap_or_default(),
                old: (!old.is_empty()).then(|| old.join(&b'\n')),
                place: format!("spec.template.spec.containers[].command[--{}]", used.flag),
            });
        }
        Ok(Some(written))
    }

    /// Whether a DaemonSet is edited, and nothing is written into what its flags name.
    pub fn is_template(&self) -> bool {
        self.target.is_none()
    }

    /// What a flag of a component names: as it will be, where this request writes it, and else as it is. `None` where it
    /// is on a node's disk, or not there.
    pub fn file_of(
        &self,
        component: Component,
        flag: &str,
        facts: &Facts,
    ) -> Result<Option<Vec<u8>>, Unknown> {
        let used = self.all.iter().find(|it| it.component == component && it.flag == flag);
        used.map_or(Ok(None), |used| self.read(used, facts))
    }

    /// What a use names.
    pub fn read(&self, used: &Use, facts: &Facts) -> Result<Option<Vec<u8>>, Unknown> {
        if self.is_here(used) {
            return Ok(self.content.get(&used.key).cloned());
        }
        let lookup = Lookup::get("v1", used.store.kind(), labels::NAMESPACE, &used.name);
        let object = facts.object(&lookup)?;
        Ok(object.and_then(|object| value_of(used.store, object, &used.key)))
    }

    /// Whether a use is of the object that is written.
    pub fn is_here(&self, used: &Use) -> bool {
        self.target.as_ref().is_some_and(|(store, name)| used.store == *store && used.name == *name)
    }
}

/// The fields in which an object holds values: in base64, and as they are. The second one wins: the API server moves a
/// Secret's over before admission.
const fn fields(store: Store) -> (&'static str, &'static str) {
    match store {
        Store::Secret => ("data", "stringData"),
        Store::ConfigMap => ("binaryData", "data"),
    }
}

/// What an object holds under a key. A value that is not base64 is taken as it stands: it is then no certificate either.
pub fn value_of(store: Store, object: &Value, key: &str) -> Option<Vec<u8>> {
    let (encoded, plain) = fields(store);
    let text = |field: &str| object[field].get(key).map(|value| value.as_str().unwrap_or_default());
    if let Some(text) = text(plain) {
        return Some(text.as_bytes().to_vec());
    }
    text(encoded).map(|text| STANDARD.decode(text).unwrap_or_else(|_| text.as_bytes().to_vec()))
}

/// Everything that an object holds.
pub fn contents(store: Store, object: &Value) -> impl Iterator<Item = Vec<u8>> {
    let (encoded, plain) = fields(store);
    let keys: BTreeSet<&str> = names(object, encoded).into_iter().chain(names(object, plain)).collect();
    keys.into_iter().filter_map(move |key| value_of(store, object, key))
}

/// YAML (or JSON) as a value. Its error would quote it.
pub fn yaml(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    let value: Value = serde_saphyr::from_str(text).map_err(|_| "it is not YAML".to_owned())?;
    if value.is_object() { Ok(value) } else { Err("it is no object".to_owned()) }
}

/// The kind that a configuration says it is: `EncryptionConfiguration` of `apiserver.config.k8s.io`.
pub fn kind_of(value: &Value) -> (&str, &str) {
    let group = text(value, "apiVersion").split('/').next().unwrap_or_default();
    (text(value, "kind"), group)
}
