//! An admission review, as the rules see it: who wants to change what into what.
//!
//! Invariant: a review that lacks what tells it apart (operation, kind, resource, user) is not a review, and an object
//! is known by its own metadata, never by `request.name` alone: that is empty for a `deletecollection` and for a
//! generated name.

pub mod approval;
pub mod command;
pub mod facts;
pub mod material;
pub mod object;
pub mod pod;
pub mod record;
pub mod settings;
pub mod usage;
pub mod verdict;

use serde::Deserialize;
use serde_json::Value;

pub use facts::{Answer, Facts, Lookup, Unknown};
pub use object::Object;
pub use settings::{Settings, Severity};
pub use verdict::{Verdict, Violation};

/// What the request does to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// A new object.
    Create,
    /// Another content: by replace, any kind of patch, or server-side apply.
    Update,
    /// The end of an object; each object of a collection has a review of its own.
    Delete,
    /// A connection through the API server: exec, attach, port-forward, proxy.
    Connect,
}

impl Operation {
    /// `CREATE`
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// The kind of the object in the review.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GroupVersionKind {
    /// Empty for the core group.
    pub group: String,
    /// `v1`
    pub version: String,
    /// `DaemonSet`
    pub kind: String,
}

/// The resource that the review is about.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GroupVersionResource {
    /// Empty for the core group.
    pub group: String,
    /// `v1`
    pub version: String,
    /// `daemonsets`
    pub resource: String,
}

/// Who asks, as the API server authenticated them; whoever impersonates is not named here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct User {
    /// The username.
    pub username: String,
    /// The groups.
    #[serde(default)]
    pub groups: Vec<String>,
}

impl User {
    /// The node whose kubelet this is.
    pub fn kubelet_of(&self) -> Option<&str> {
        let in_group = self.groups.iter().any(|group| group == "system:nodes");
        self.username.strip_prefix("system:node:").filter(|node| in_group && !node.is_empty())
    }
}

/// A review's request.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// What is done.
    pub operation: Operation,
    /// To what kind of object.
    pub kind: GroupVersionKind,
    /// Through which resource.
    pub resource: GroupVersionResource,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    /// By whom.
    #[serde(rename = "userInfo")]
    pub user: User,
    /// What it would be afterwards; null for a deletion.
    #[serde(default)]
    pub object: Value,
    /// What it is now; null for a creation.
    #[serde(default)]
    pub old_object: Value,
    /// The options of the call.
    #[serde(default)]
    pub options: Value,
    /// Whether nothing would be stored. Judged like any other: whoever asks wants to know.
    #[serde(default)]
    pub dry_run: Option<bool>,
}

/// What is no review.
#[derive(Debug, thiserror::Error)]
#[error("this is no admission request: {0}")]
pub struct NotAReview(String);

impl From<serde_json::Error> for NotAReview {
    /// The position only: serde's message for a wrong type quotes the value, which may be a Secret's.
    fn from(error: serde_json::Error) -> Self {
        let what = match error.classify() {
            serde_json::error::Category::Data => "a field is missing or of another type",
            serde_json::error::Category::Eof => "it ends too early",
            _ => "it is not JSON",
        };
        Self(format!("{what} (line {}, column {})", error.line(), error.column()))
    }
}

impl Request {
    /// Reads the `request` of an AdmissionReview.
    pub fn parse(json: &[u8]) -> Result<Self, NotAReview> {
        Ok(serde_json::from_slice(json)?)
    }

    /// The subresource; empty for the object itself.
    pub fn sub_resource(&self) -> &str {
        self.sub_resource.as_deref().unwrap_or_default()
    }

    /// Whether the review is about the object itself, in this group and of this resource.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.is_any(group, resource) && self.sub_resource().is_empty()
    }

    /// The same, for the object and each of its subresources.
    pub fn is_any(&self, group: &str, resource: &str) -> bool {
        self.resource.group == group && self.resource.resource == resource
    }

    /// Whether it is about one of these subresources of a resource of the core group.
    pub fn is_sub(&self, resource: &str, sub_resources: &[&str]) -> bool {
        self.is_any("", resource) && sub_resources.contains(&self.sub_resource())
    }

    /// Whether it is about a DaemonSet or a subresource of one. `extensions` is where they were before 1.16.
    pub fn is_daemonset(&self) -> bool {
        self.is_any("apps", "daemonsets") || self.is_any("extensions", "daemonsets")
    }

    /// The object afterwards, if there is one.
    pub fn new_object(&self) -> Option<Object<'_>> {
        self.object.is_object().then_some(Object(&self.object))
    }

    /// The object before, if there is one.
    pub fn old(&self) -> Option<Object<'_>> {
        self.old_object.is_object().then_some(Object(&self.old_object))
    }

    /// What identifies the object: its content afterwards, or else before.
    ///
    /// The object of a subresource may be of another kind (`PodExecOptions`, `Binding`).
    pub fn target(&self) -> Option<Object<'_>> {
        self.new_object().or_else(|| self.old())
    }

    /// The object's name: its own, or else the request's.
    pub fn name(&self) -> &str {
        fn own(value: Option<Object<'_>>) -> Option<&str> {
            value.map(Object::name_of).filter(|name| !name.is_empty())
        }
        let named = self.name.as_deref().unwrap_or_default();
        match self.operation {
            // A connection's object is its options.
            Operation::Connect => named,
            _ => own(self.new_object()).or_else(|| own(self.old())).unwrap_or(named),
        }
    }

    /// The object's namespace; empty where it has none.
    pub fn namespace(&self) -> &str {
        if self.is_any("", "namespaces") {
            return "";
        }
        let own = self.target().map(Object::namespace_of).filter(|namespace| !namespace.is_empty());
        self.namespace.as_deref().filter(|namespace| !namespace.is_empty()).or(own).unwrap_or_default()
    }

    /// What the request itself says of name and namespace.
    pub fn named(&self) -> (&str, &str) {
        (self.namespace.as_deref().unwrap_or_default(), self.name.as_deref().unwrap_or_default())
    }

    /// `kube-system/ca`
    pub fn key(&self) -> String {
        match self.namespace() {
            "" => self.name().to_owned(),
            namespace => format!("{namespace}/{}", self.name()),
        }
    }

    /// Whether the object is written: created or updated, not through a subresource.
    pub fn writes(&self) -> bool {
        matches!(self.operation, Operation::Create | Operation::Update) && self.sub_resource().is_empty()
    }

    /// Whether the value at this path differs before and after.
    pub fn changes(&self, path: &[&str]) -> bool {
        object::at(&self.object, path) != object::at(&self.old_object, path)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(change: impl FnOnce(&mut Value)) -> Result<Request, NotAReview> {
        let mut value = json!({
            "uid": "1", "operation": "UPDATE", "name": "ca", "namespace": "kube-system",
            "kind": {"group": "", "version": "v1", "kind": "Secret"},
            "resource": {"group": "", "version": "v1", "resource": "secrets"},
            "userInfo": {"username": "ann", "groups": ["system:authenticated"]},
            "object": {"metadata": {"name": "ca", "namespace": "kube-system"}},
            "oldObject": {"metadata": {"name": "ca", "namespace": "kube-system"}},
        });
        change(&mut value);
        Request::parse(value.to_string().as_bytes())
    }

    #[test]
    fn what_tells_a_review_apart_must_be_there() {
        assert!(request(|_| {}).is_ok());
        for field in ["operation", "kind", "resource", "userInfo"] {
            assert!(request(|value| drop(value.as_object_mut().unwrap().remove(field))).is_err(), "{field}");
        }
        assert!(request(|value| value["operation"] = json!("PATCH")).is_err());
        assert!(request(|value| value["operation"] = json!("update")).is_err());
        assert!(
            request(|value| drop(value["resource"].as_object_mut().unwrap().remove("resource"))).is_err()
        );
    }

    #[test]
    fn a_refusal_quotes_nothing() {
        let error = request(|value| value["operation"] = json!("c2VjcmV0")).unwrap_err().to_string();
        assert!(!error.contains("c2VjcmV0"), "{error}");
    }

    #[test]
    fn an_object_is_known_by_its_metadata() {
        let collection = request(|value| {
            value["operation"] = json!("DELETE");
            value["name"] = Value::Null;
            value["object"] = Value::Null;
        });
        assert_eq!(collection.unwrap().key(), "kube-system/ca");
        let generated = request(|value| {
            value["operation"] = json!("CREATE");
            value["name"] = json!("");
            value["oldObject"] = Value::Null;
        });
        assert_eq!(generated.unwrap().key(), "kube-system/ca");
    }

    #[test]
    fn a_kubelet_is_known_by_name_and_group() {
        let user =
            |username: &str, group: &str| User { username: username.into(), groups: vec![group.into()] };
        assert_eq!(user("system:node:cp1", "system:nodes").kubelet_of(), Some("cp1"));
        assert_eq!(user("system:node:cp1", "system:authenticated").kubelet_of(), None);
        assert_eq!(user("system:node:", "system:nodes").kubelet_of(), None);
    }
}
