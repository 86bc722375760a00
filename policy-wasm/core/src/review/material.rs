//! What is written into a guarded Secret or ConfigMap, key by key, with what each key is to the control plane.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::facts::{Facts, Lookup, Unknown};
use super::object::text;
use super::settings::Settings;
use super::usage::{Store, Use, all_uses, guarded_store};
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
}

impl File {
    /// Whether any component reads it through one of these flags.
    pub fn is_for(&self, flags: &[&str]) -> bool {
        self.uses.iter().any(|it| flags.contains(&it.flag.as_str()))
    }

    /// Where it stands, for a message: `data[tls.crt]`.
    pub fn path(&self) -> String {
        format!("data[{}]", self.key)
    }

    /// A violation about it.
    pub fn violation(&self, message: impl Into<String>, next: impl Into<String>) -> Violation {
        Violation::new(self.path(), message, next)
    }
}

/// What a request writes into something guarded.
#[derive(Debug, Clone)]
pub struct Written {
    /// Every file of the control plane that is kept anywhere.
    pub all: Vec<Use>,
    /// The keys that change, among those that a flag names.
    pub files: Vec<File>,
    store: Store,
    name: String,
    content: BTreeMap<String, Vec<u8>>,
}

impl Written {
    /// What a request writes; `None` where it does not write into anything guarded.
    pub fn of(request: &Request, settings: &Settings, facts: &Facts) -> Result<Option<Self>, Unknown> {
        if !request.writes() {
            return Ok(None);
        }
        let Some(store) = guarded_store(request, settings, facts)? else { return Ok(None) };
        let all = all_uses(facts)?;
        let name = request.name().to_owned();
        let content = content(store, &request.object);
        let before = content_of_old(store, request);
        let mut files = Vec::new();
        if request.namespace() == labels::NAMESPACE {
            for (key, new) in &content {
                let old = before.get(key).cloned();
                let uses: Vec<Use> = all
                    .iter()
                    .filter(|it| it.store == store && it.name == name && it.key == *key)
                    .cloned()
                    .collect();
                if !uses.is_empty() && old.as_ref() != Some(new) {
                    files.push(File { key: key.clone(), uses, new: new.clone(), old });
                }
            }
        }
        Ok(Some(Self { all, files, store, name, content }))
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
        Ok(object.and_then(|object| content(used.store, object).remove(&used.key)))
    }

    /// Whether a use is of the object that is written.
    pub fn is_here(&self, used: &Use) -> bool {
        used.store == self.store && used.name == self.name
    }
}

fn content_of_old(store: Store, request: &Request) -> BTreeMap<String, Vec<u8>> {
    content(store, &request.old_object)
}

/// What an object holds, by key. A value that is not base64 is taken as it stands: it is then no certificate either.
pub fn content(store: Store, object: &Value) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut add = |field: &str, is_encoded: bool| {
        for (key, value) in object[field].as_object().into_iter().flatten() {
            let text = value.as_str().unwrap_or_default();
            let bytes = if is_encoded { STANDARD.decode(text).ok() } else { None };
            found.insert(key.clone(), bytes.unwrap_or_else(|| text.as_bytes().to_vec()));
        }
    };
    match store {
        Store::Secret => {
            add("data", true);
            // The API server moves it over before admission, and it wins.
            add("stringData", false);
        }
        Store::ConfigMap => {
            add("binaryData", true);
            add("data", false);
        }
    }
    found
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
