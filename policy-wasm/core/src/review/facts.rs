//! What a rule needs to know beside the review: the time, and objects that are there now.
//!
//! Invariant: pure. A rule that looks for a fact which is not here leaves a note of it and stops; the host fetches what
//! was noted and evaluates again, so that the same review with the same facts has the same verdict everywhere.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::object::{Object, text};
use crate::component::Component;
use crate::labels;

/// A live read that the host may make: by name, or by labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "verb")]
pub enum Lookup {
    /// One object.
    #[serde(rename_all = "camelCase")]
    Get {
        /// `apps/v1`
        api_version: String,
        /// `DaemonSet`
        kind: String,
        /// Empty for what has none.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Every object with these labels.
    #[serde(rename_all = "camelCase")]
    List {
        /// `v1`
        api_version: String,
        /// `Pod`
        kind: String,
        /// Empty for what has none.
        namespace: String,
        /// A label selector as `kubectl -l` takes it: `a=b,c`.
        selector: String,
    },
}

impl Lookup {
    /// One object.
    pub fn get(api_version: &str, kind: &str, namespace: &str, name: &str) -> Self {
        Self::Get {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Objects with labels.
    pub fn list(api_version: &str, kind: &str, namespace: &str, selector: impl Into<String>) -> Self {
        Self::List {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            selector: selector.into(),
        }
    }

    /// `apiVersion` and `kind` of what is looked up.
    pub fn kind(&self) -> (&str, &str) {
        match self {
            Self::Get { api_version, kind, .. } | Self::List { api_version, kind, .. } => (api_version, kind),
        }
    }

    /// The answer of a cluster that has these objects and no others.
    pub fn among(&self, objects: &[Value]) -> Answer {
        let alike = objects.iter().filter(|it| (text(it, "apiVersion"), text(it, "kind")) == self.kind());
        match self {
            Self::Get { namespace, name, .. } => {
                let mut alike = alike.map(|it| (it, Object(it)));
                let found = alike.find(|(_, it)| it.namespace_of() == namespace && it.name_of() == name);
                found.map_or(Answer::Missing, |(object, _)| Answer::Found(object.clone()))
            }
            Self::List { namespace, selector, .. } => {
                let fits = |object: Object<'_>| {
                    let labels = object.labels();
                    (namespace.is_empty() || object.namespace_of() == namespace)
                        && selector.split(',').filter(|term| !term.is_empty()).all(|term| {
                            match term.split_once('=') {
                                Some((name, value)) => labels.get(name) == Some(&value),
                                None => labels.contains_key(term),
                            }
                        })
                };
                Answer::Items(alike.filter(|it| fits(Object(it))).cloned().collect())
            }
        }
    }

    /// The DaemonSet of a component.
    pub fn daemonset(component: Component) -> Self {
        Self::get("apps/v1", "DaemonSet", labels::NAMESPACE, component.daemonset_name())
    }

    /// The nodes that carry a component's label.
    pub fn nodes_of(component: Component) -> Self {
        Self::list("v1", "Node", "", format!("{}=true", labels::node_label(component)))
    }

    /// The control-plane nodes, by the label of their role.
    pub fn control_plane() -> Self {
        Self::list("v1", "Node", "", labels::CONTROL_PLANE_ROLES[0])
    }

    /// The Pods of the control plane: static Pods, those of the DaemonSets, standbys.
    pub fn control_plane_pods() -> Self {
        let selector = format!("{}={}", labels::TIER, labels::TIER_CONTROL_PLANE);
        Self::list("v1", "Pod", labels::NAMESPACE, selector)
    }

    /// The bridges of a component.
    pub fn bridges(component: Component) -> Self {
        Self::list("v1", "Pod", labels::NAMESPACE, format!("{}={component}", labels::BRIDGE))
    }
}

/// The kinds that rules look up, by `apiVersion` and `kind`: what a host has to be allowed to read, and no more.
pub const KINDS: [(&str, &str); 10] = [
    ("apps/v1", "DaemonSet"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("v1", "ConfigMap"),
    ("v1", "Node"),
    ("v1", "Pod"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
];

/// What the host found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// The object.
    Found(Value),
    /// The objects: a list that may be empty.
    Items(Vec<Value>),
    /// There is no such object.
    Missing,
    /// It could not be read, for this reason.
    Unavailable(String),
}

/// Why a rule cannot decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// The fact has not been fetched yet; it was noted.
    Asked,
    /// It could not be had.
    Unavailable(String),
}

/// The facts of one evaluation. By default there are none, and not even the time.
#[derive(Debug, Default)]
pub struct Facts {
    /// Seconds since 1970, by the host's clock.
    now: Option<i64>,
    answers: BTreeMap<Lookup, Answer>,
    asked: RefCell<BTreeSet<Lookup>>,
    /// How often something was asked for.
    questions: Cell<usize>,
}

impl Facts {
    /// Facts at a time, and nothing else yet.
    pub fn at(now: i64) -> Self {
        Self { now: Some(now), ..Self::default() }
    }

    /// Takes an answer in.
    pub fn insert(&mut self, lookup: Lookup, answer: Answer) {
        self.answers.insert(lookup, answer);
    }

    /// How often rules have asked for what is not here, be it the same.
    pub(crate) fn asked(&self) -> usize {
        self.questions.get()
    }

    /// What rules looked for and did not find since the last call.
    pub fn take_asked(&self) -> Vec<Lookup> {
        self.asked.take().into_iter().collect()
    }

    /// The time.
    pub fn now(&self) -> Result<i64, Unknown> {
        self.now.ok_or_else(|| Unknown::Unavailable("the host does not tell the time".to_owned()))
    }

    /// An object, or `None` where it does not exist.
    pub fn object(&self, lookup: &Lookup) -> Result<Option<&Value>, Unknown> {
        match self.answer(lookup)? {
            Answer::Found(object) => Ok(Some(object)),
            Answer::Missing => Ok(None),
            Answer::Items(_) => Err(Unknown::Unavailable("the host gave a list for an object".to_owned())),
            Answer::Unavailable(reason) => Err(Unknown::Unavailable(reason.clone())),
        }
    }

    /// The objects of a list.
    pub fn items(&self, lookup: &Lookup) -> Result<&[Value], Unknown> {
        match self.answer(lookup)? {
            Answer::Items(items) => Ok(items),
            Answer::Found(_) | Answer::Missing => {
                Err(Unknown::Unavailable("the host gave an object for a list".to_owned()))
            }
            Answer::Unavailable(reason) => Err(Unknown::Unavailable(reason.clone())),
        }
    }

    fn answer(&self, lookup: &Lookup) -> Result<&Answer, Unknown> {
        self.answers.get(lookup).ok_or_else(|| {
            self.questions.set(self.questions.get() + 1);
            self.asked.borrow_mut().insert(lookup.clone());
            Unknown::Asked
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_is_noted_once() {
        let mut facts = Facts::at(0);
        let lookup = Lookup::daemonset(Component::ApiServer);
        assert_eq!(facts.object(&lookup), Err(Unknown::Asked));
        assert_eq!(facts.object(&lookup), Err(Unknown::Asked));
        assert_eq!(facts.take_asked().as_slice(), std::slice::from_ref(&lookup));
        assert!(facts.take_asked().is_empty());
        facts.insert(lookup.clone(), Answer::Missing);
        assert_eq!(facts.object(&lookup), Ok(None));
        assert!(facts.items(&lookup).is_err(), "an object is no list");
        facts.insert(lookup.clone(), Answer::Unavailable("no route".into()));
        assert_eq!(facts.object(&lookup), Err(Unknown::Unavailable("no route".into())));
    }

    #[test]
    fn a_cluster_of_objects_answers_by_name_and_by_labels() {
        let node = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "n"}});
        let objects = [node("a", json!({"x": "y", "z": ""})), node("b", json!({"x": "n"})), pod];
        let get = |kind, namespace, name| Lookup::get("v1", kind, namespace, name).among(&objects);
        assert_eq!(get("Node", "", "a"), Answer::Found(objects[0].clone()));
        assert_eq!(get("Pod", "n", "a"), Answer::Found(objects[2].clone()));
        assert_eq!(get("Pod", "", "a"), Answer::Missing, "a name is one of a namespace");
        assert_eq!(get("Secret", "n", "a"), Answer::Missing);
        for (kind, namespace, selector, expected) in [
            ("Node", "", "", &objects[..2]),
            ("Node", "", "x=y,z", &objects[..1]),
            ("Node", "", "x", &objects[..2]),
            ("Node", "", "x=", &[]),
            ("Node", "", "w", &[]),
            ("Pod", "", "", &objects[2..]),
            ("Pod", "n", "", &objects[2..]),
            ("Pod", "other", "", &[]),
        ] {
            let found = Lookup::list("v1", kind, namespace, selector).among(&objects);
            assert_eq!(found, Answer::Items(expected.to_vec()), "{kind} {namespace} {selector}");
        }
    }

    #[test]
    fn a_host_without_a_clock_is_told_so() {
        assert!(matches!(Facts::default().now(), Err(Unknown::Unavailable(_))));
    }
}
