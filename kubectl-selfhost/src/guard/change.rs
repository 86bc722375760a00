//! From files to the requests that an API server would send.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Map, Value, json};

use crate::error::Explain;

/// Who changes something where nobody is named: kubeadm's administrator.
const ADMINISTRATOR: &str = "kubernetes-admin";

/// The groups of that administrator.
const GROUPS: [&str; 2] = ["kubeadm:cluster-admins", "system:authenticated"];

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is neither YAML nor JSON.
    #[error("{} is neither YAML nor JSON", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<serde_saphyr::Error>,
    },
    /// A document in it is no object.
    #[error("{}: document {} has no {field}", .path.display(), .at)]
    NoObject {
        /// The file.
        path: PathBuf,
        /// Which document, from one.
        at: usize,
        /// What it lacks.
        field: &'static str,
    },
    /// There is nothing in it.
    #[error("{} holds no object", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Explain for Error {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Read { .. } => "name a file that can be read, or - for standard input",
            Self::Syntax { .. } | Self::Empty { .. } => "a manifest, as kubectl get -o yaml prints it",
            Self::NoObject { .. } => "each document needs apiVersion, kind and metadata.name",
        };
        Some(hint.to_owned())
    }
}

/// The objects of a file: every document, and every item of a list.
pub fn read(path: &Path) -> Result<Vec<Value>, Error> {
    objects(path, &text(path)?)
}

/// The one document of a file.
pub fn document(path: &Path) -> Result<Value, Error> {
    serde_saphyr::from_str(&text(path)?).map_err(|source| syntax(path, source))
}

fn text(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map_err(failed)?;
        Ok(text)
    } else {
        fs::read_to_string(path).map_err(failed)
    }
}

fn syntax(path: &Path, source: serde_saphyr::Error) -> Error {
    Error::Syntax { path: path.to_owned(), source: Box::new(source) }
}

fn objects(path: &Path, text: &str) -> Result<Vec<Value>, Error> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|source| syntax(path, source))?;
    let mut objects = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        match document {
            Value::Null => {}
            Value::Object(mut list) if item_kind(&list).is_some() => {
                let items = list.remove("items");
                let items = items.as_ref().and_then(Value::as_array).into_iter().flatten();
                objects.extend(items.map(|item| (index, typed(item, &list))));
            }
            other => objects.push((index, other)),
        }
    }
    for (index, object) in &objects {
        let at = index + 1;
        if let Some(field) = lacking(object) {
            return Err(Error::NoObject { path: path.to_owned(), at, field });
        }
    }
    if objects.is_empty() {
        return Err(Error::Empty { path: path.to_owned() });
    }
    Ok(objects.into_iter().map(|(_, object)| object).collect())
}

/// What a list holds: empty for a `List` of whatever, `DaemonSet` for a `DaemonSetList`.
fn item_kind(list: &Map<String, Value>) -> Option<&str> {
    list.get("kind")?.as_str()?.strip_suffix("List")
}

/// An item with the type that the API server tells only once for all items of a list.
fn typed(item: &Value, list: &Map<String, Value>) -> Value {
    let mut item = item.clone();
    if let (Some(object), Some(kind)) =
        (item.as_object_mut(), item_kind(list).filter(|kind| !kind.is_empty()))
    {
        object.entry("kind").or_insert_with(|| kind.into());
        object.entry("apiVersion").or_insert_with(|| list.get("apiVersion").cloned().unwrap_or_default());
    }
    item
}

fn lacking(object: &Value) -> Option<&'static str> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if text("/apiVersion").is_empty() {
        return Some("apiVersion");
    }
    if text("/kind").is_empty() {
        return Some("kind");
    }
    if is_review(object) {
        return object.get("request").is_none_or(|request| !request.is_object()).then_some("request");
    }
    let named = !text("/metadata/name").is_empty() || !text("/metadata/generateName").is_empty();
    (!named).then_some("metadata.name")
}

/// Whether the object is an AdmissionReview, which holds a request of its own.
pub fn is_review(object: &Value) -> bool {
    let group = object["apiVersion"].as_str().unwrap_or_default();
    object["kind"] == "AdmissionReview" && group.starts_with("admission.k8s.io/")
}

/// What an object is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `apps/v1`
    pub api_version: String,
    /// `DaemonSet`
    pub kind: String,
    /// Empty for what has none.
    pub namespace: String,
    /// Its name; empty where it is still to be made up.
    pub name: String,
}

impl Identity {
    /// That of an object.
    pub fn of(object: &Value) -> Self {
        let text =
            |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            api_version: text("/apiVersion"),
            kind: text("/kind"),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
        }
    }

    /// The resource, with its plural guessed as kubectl does.
    pub fn resource(&self) -> ApiResource {
        let (group, version) = self.api_version.split_once('/').unwrap_or(("", &self.api_version));
        ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &self.kind))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind.to_lowercase())?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Asker {
    /// The username.
    pub user: String,
    /// The groups.
    pub groups: Vec<String>,
}

impl Asker {
    /// Whom `--as` and `--as-group` name; kubeadm's administrator where they name nobody.
    pub fn named(user: Option<&str>, groups: &[String]) -> Self {
        let Some(user) = user else {
            return Self { user: ADMINISTRATOR.to_owned(), groups: GROUPS.map(ToOwned::to_owned).to_vec() };
        };
        let mut groups = groups.to_vec();
        // As the API server adds them to who is impersonated.
        if let Some((namespace, _)) =
            user.strip_prefix("system:serviceaccount:").and_then(|it| it.split_once(':'))
        {
            groups.push("system:serviceaccounts".to_owned());
            groups.push(format!("system:serviceaccounts:{namespace}"));
        } else if user.starts_with("system:node:") && groups.is_empty() {
            groups.push("system:nodes".to_owned());
        }
        groups.push("system:authenticated".to_owned());
        Self { user: user.to_owned(), groups }
    }
}

/// The request that an API server would send for a write of `object`, or its deletion.
pub fn request(object: &Value, old: Option<&Value>, delete: bool, asker: &Asker) -> Value {
    let id = Identity::of(object);
    let resource = id.resource();
    let operation = match (delete, old) {
        (true, _) => "DELETE",
        (false, Some(_)) => "UPDATE",
        (false, None) => "CREATE",
    };
    let (after, before) = if delete { (None, Some(old.unwrap_or(object))) } else { (Some(object), old) };
    json!({
        "uid": "00000000-0000-0000-0000-000000000000",
        "operation": operation,
        "kind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "resource": {"group": resource.group, "version": resource.version, "resource": resource.plural},
        "namespace": id.namespace,
        "name": id.name,
        "userInfo": {"username": asker.user, "groups": asker.groups},
        "object": after,
        "oldObject": before,
        "options": null,
        "dryRun": true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: n}\n---\n---\n\
                       apiVersion: v1\nkind: List\nitems:\n- {apiVersion: apps/v1, kind: DaemonSet, metadata: {name: b}}\n---\n\
                       apiVersion: v1\nkind: SecretList\nitems:\n- {metadata: {name: c}}\n";

    #[test]
    fn documents_and_lists_are_taken_apart() {
        let found = objects(Path::new("f"), THREE).unwrap();
        let ids =
            found.iter().map(Identity::of).map(|id| format!("{} {} {}", id.api_version, id.kind, id.name));
        assert_eq!(ids.collect::<Vec<_>>(), ["v1 Secret a", "apps/v1 DaemonSet b", "v1 Secret c"]);
    }

    #[test]
    fn what_is_no_object_is_named() {
        for (text, expected) in [
            ("a: [", "f is neither YAML nor JSON"),
            ("", "f holds no object"),
            ("kind: Pod", "f: document 1 has no apiVersion"),
            ("apiVersion: v1\nkind: Pod", "f: document 1 has no metadata.name"),
            ("apiVersion: admission.k8s.io/v1\nkind: AdmissionReview", "f: document 1 has no request"),
        ] {
            let error = objects(Path::new("f"), text).unwrap_err();
            assert_eq!(error.to_string(), expected, "{text}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn a_request_says_what_is_done_to_what() {
        let object = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "d", "namespace": "n"}});
        let asker = Asker::named(None, &[]);
        for (old, delete, operation, after, before) in [
            (None, false, "CREATE", true, false),
            (Some(&object), false, "UPDATE", true, true),
            (Some(&object), true, "DELETE", false, true),
            (None, true, "DELETE", false, true),
        ] {
            let request = request(&object, old, delete, &asker);
            assert_eq!(request["operation"], operation);
            assert_eq!((request["object"].is_object(), request["oldObject"].is_object()), (after, before));
            assert_eq!(
                request["resource"],
                json!({"group": "apps", "version": "v1", "resource": "daemonsets"})
            );
            assert!(selfhost_core::review::Request::parse(request.to_string().as_bytes()).is_ok());
        }
    }

    #[test]
    fn who_is_impersonated_has_the_groups_that_the_api_server_gives() {
        let groups = |user: &str| Asker::named(Some(user), &[]).groups.join(",");
        assert_eq!(groups("ann"), "system:authenticated");
        assert_eq!(groups("system:node:cp1"), "system:nodes,system:authenticated");
        assert_eq!(
            groups("system:serviceaccount:kube-system:x"),
            "system:serviceaccounts,system:serviceaccounts:kube-system,system:authenticated"
        );
    }
}
