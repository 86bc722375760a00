//! Pieces of CEL, as text.
//!
//! Invariant: no piece reads a field that may be missing: `request.name`, `request.namespace` and `request.subResource`
//! are left out where they are empty, and so are most fields of an object.

use crate::component::Component;
use crate::labels;
use crate::review::settings::Identity;

/// What identifies the object: what it becomes, or else what it was.
pub(super) const TARGET: &str = "(object != null ? object : oldObject)";

/// Whether the request is about the object itself.
pub(super) const WHOLE: &str = r#"(!has(request.subResource) || request.subResource == "")"#;

/// Whether a kubelet asks.
pub(super) const KUBELET: &str = r#"(has(request.userInfo.groups) && "system:nodes" in request.userInfo.groups && request.userInfo.username.startsWith("system:node:"))"#;

/// A text. CEL reads JSON's escapes.
pub(super) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A list of texts.
pub(super) fn list<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(|it| quote(it.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

/// Whether `value` is one of `texts`. An empty list has no type, and no condition needs one.
pub(super) fn is_in<T: AsRef<str>>(value: &str, texts: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<T> = texts.into_iter().collect();
    if texts.is_empty() { "false".to_owned() } else { format!("{value} in {}", list(texts)) }
}

/// Whether the request is about this subresource.
pub(super) fn sub(name: &str) -> String {
    format!("(has(request.subResource) && request.subResource == {})", quote(name))
}

/// Whether the object is in one of these namespaces.
pub(super) fn namespace<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    format!("(has(request.namespace) && {})", is_in("request.namespace", names))
}

/// Whether the object, by its own name, is one of these `namespace/name`.
pub(super) fn key<T: AsRef<str>>(keys: impl IntoIterator<Item = T>) -> String {
    let key = format!("(request.namespace + \"/\" + {TARGET}.metadata.name)");
    format!("(has(request.namespace) && {})", is_in(&key, keys))
}

/// Whether one of these asks, by exact username.
pub(super) fn user(identities: &[Identity]) -> String {
    user_named(identities.iter().flat_map(|it| it.usernames()).copied())
}

/// Whether one of these usernames asks.
pub(super) fn user_named<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    format!("({})", is_in("request.userInfo.username", names))
}

/// Whether the object before or after fits; `fits` is about `o`.
pub(super) fn either(fits: &str) -> String {
    format!("[object, oldObject].exists(o, o != null && ({fits}))")
}

/// Whether an object has a label with one of these values.
pub(super) fn labelled<'a>(object: &str, label: &str, values: impl IntoIterator<Item = &'a str>) -> String {
    let (labels, label) = (format!("{object}.metadata.labels"), quote(label));
    format!("(has({labels}) && {label} in {labels} && {})", is_in(&format!("{labels}[{label}]"), values))
}

/// The names of the DaemonSets.
pub(super) fn daemonsets() -> [&'static str; 3] {
    Component::ALL.map(Component::daemonset_name)
}

/// Whether the request's own name begins like that of a Pod of the control plane: what can be told where a review has no
/// Pod in it.
pub(super) fn named_like_a_part() -> String {
    let names = Component::ALL.into_iter().flat_map(|it| [it.name(), it.daemonset_name()]);
    let prefixes = names.chain([labels::STANDBY, "etcd"]).map(|name| format!("{name}-"));
    format!("(has(request.name) && {}.exists(p, request.name.startsWith(p)))", list(prefixes))
}
