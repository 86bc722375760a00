//! Small typed looks at JSON.
//!
//! A value that is missing and one of another type look the same here, as empty. That is safe only because
//! [`crate::rules::g1`] refuses a guarded object in which anything is of another type.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The value at a path of names; null where there is none.
pub fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, name| &value[*name])
}

/// The text under a name; empty where there is none.
pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// The truth under a name; false where there is none.
pub fn flag(value: &Value, name: &str) -> bool {
    value[name].as_bool().unwrap_or_default()
}

/// The list under a name; empty where there is none.
pub fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The texts of the list under a name.
pub fn texts<'a>(value: &'a Value, name: &str) -> Vec<&'a str> {
    list(value, name).iter().filter_map(Value::as_str).collect()
}

/// The names in the map under a name.
pub fn names<'a>(value: &'a Value, name: &str) -> BTreeSet<&'a str> {
    value[name].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

/// The map of texts under a name.
pub fn pairs<'a>(value: &'a Value, name: &str) -> BTreeMap<&'a str, &'a str> {
    let entries = value[name].as_object().into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect()
}

/// Whether nothing is there, or something that says nothing: null, `{}`, `[]`, `false`, an empty text.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// An object of the API.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a>(pub &'a Value);

impl<'a> Object<'a> {
    /// Its metadata.
    pub fn metadata(self) -> &'a Value {
        &self.0["metadata"]
    }

    /// Its name.
    pub fn name_of(self) -> &'a str {
        text(self.metadata(), "name")
    }

    /// Its namespace.
    pub fn namespace_of(self) -> &'a str {
        text(self.metadata(), "namespace")
    }

    /// Its labels.
    pub fn labels(self) -> BTreeMap<&'a str, &'a str> {
        pairs(self.metadata(), "labels")
    }

    /// Its annotations.
    pub fn annotations(self) -> BTreeMap<&'a str, &'a str> {
        pairs(self.metadata(), "annotations")
    }

    /// The objects that own it.
    pub fn owners(self) -> &'a [Value] {
        list(self.metadata(), "ownerReferences")
    }

    /// Its finalizers.
    pub fn finalizers(self) -> BTreeSet<&'a str> {
        texts(self.metadata(), "finalizers").into_iter().collect()
    }

    /// Whether it is being deleted.
    pub fn is_ending(self) -> bool {
        !self.metadata()["deletionTimestamp"].is_null()
    }

    /// Whether the Pod (or Node) has the condition `Ready`.
    pub fn is_ready(self) -> bool {
        let conditions = list(&self.0["status"], "conditions");
        conditions.iter().any(|it| text(it, "type") == "Ready" && text(it, "status") == "True")
    }
}

/// Whether `labels` have all that `wanted` has.
pub fn selects(wanted: &BTreeMap<&str, &str>, labels: &BTreeMap<&str, &str>) -> bool {
    wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}
