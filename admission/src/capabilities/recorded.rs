//! Objects that are told beforehand: for self-tests, tests, and to evaluate again what was evaluated somewhere else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use selfhost_core::review::{Answer, Lookup};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Reply, Source};

/// Lookups and what came of them. A lookup that is not among them could not be made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Recording(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    lookup: Lookup,
    /// Null for what does not exist.
    found: Value,
}

impl Recording {
    /// What was looked up.
    pub fn lookups(&self) -> impl Iterator<Item = &Lookup> {
        self.0.iter().map(|entry| &entry.lookup)
    }
}

impl Source for Recording {
    fn fetch(&self, lookup: &Lookup, _: Instant) -> Reply {
        match self.0.iter().find(|entry| entry.lookup == *lookup) {
            Some(Entry { found: Value::Null, .. }) => Reply::Missing,
            Some(Entry { found, .. }) => Reply::Found(found.to_string().into_bytes()),
            None => Reply::Unavailable("it is not in the recording".to_owned()),
        }
    }
}

/// Passes lookups on, and notes what came of them. What could not be read is not noted.
pub struct Recorder {
    source: Arc<dyn Source>,
    entries: Mutex<Vec<Entry>>,
}

impl Recorder {
    /// Nothing noted yet.
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source, entries: Mutex::default() }
    }

    /// What was noted so far.
    pub fn recording(&self) -> Recording {
        Recording(self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Source for Recorder {
    fn fetch(&self, lookup: &Lookup, deadline: Instant) -> Reply {
        let reply = self.source.fetch(lookup, deadline);
        let found = match &reply {
            Reply::Found(object) => serde_json::from_slice(object).ok(),
            Reply::Missing => Some(Value::Null),
            Reply::Unavailable(_) => None,
        };
        if let Some(found) = found {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.push(Entry { lookup: lookup.clone(), found });
        }
        reply
    }
}

/// A cluster of these objects and no others.
#[derive(Debug, Clone, Default)]
pub struct Objects(pub Vec<Value>);

impl Source for Objects {
    fn fetch(&self, lookup: &Lookup, _: Instant) -> Reply {
        let found = match lookup.among(&self.0) {
            Answer::Found(object) => object,
            Answer::Items(items) => json!({"kind": "List", "apiVersion": "v1", "items": items}),
            Answer::Missing => return Reply::Missing,
            Answer::Unavailable(reason) => return Reply::Unavailable(reason),
        };
        Reply::Found(found.to_string().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects() -> Objects {
        let node = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
        Objects(vec![node("a", json!({"x": "y", "z": ""})), node("b", json!({"x": "n"}))])
    }

    fn names(reply: &Reply) -> Vec<String> {
        let Reply::Found(list) = reply else { panic!("{reply:?}") };
        let list: Value = serde_json::from_slice(list).unwrap();
        let items = list["items"].as_array().unwrap().iter();
        items.map(|it| it["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn objects_are_found_by_name_and_by_labels() {
        let (objects, now) = (objects(), Instant::now());
        let get = |name| objects.fetch(&Lookup::get("v1", "Node", "", name), now);
        assert!(matches!(get("a"), Reply::Found(_)));
        assert_eq!(get("c"), Reply::Missing);
        let list = |selector: &str| names(&objects.fetch(&Lookup::list("v1", "Node", "", selector), now));
        assert_eq!(list(""), ["a", "b"]);
        assert_eq!(list("x=y,z"), ["a"]);
        assert!(list("x=").is_empty());
        assert!(names(&objects.fetch(&Lookup::list("v1", "Node", "default", ""), now)).is_empty());
    }

    #[test]
    fn what_was_recorded_is_played_again_and_nothing_else() {
        let recorder = Recorder::new(Arc::new(objects()));
        let now = Instant::now();
        let (a, c) = (Lookup::get("v1", "Node", "", "a"), Lookup::get("v1", "Node", "", "c"));
        let (found, missing) = (recorder.fetch(&a, now), recorder.fetch(&c, now));
        let text = serde_json::to_string(&recorder.recording()).unwrap();
        let recording: Recording = serde_json::from_str(&text).unwrap();
        assert_eq!(recording.fetch(&a, now), found);
        assert_eq!(recording.fetch(&c, now), missing);
        let other = Lookup::get("v1", "Node", "", "b");
        assert!(matches!(recording.fetch(&other, now), Reply::Unavailable(_)));
    }
}
