//! What is changed about the objects of the cases: edits that are safe, and edits that are not.

#![expect(clippy::semicolon_if_nothing_returned, reason = "each edit is an expression of its own")]

mod access;
mod configurations;
mod credentials;
mod daemonsets;
mod pods;

use serde_json::{Value, json};

pub(super) use access::{
    API_SERVICE, BINDING, DEFINITION, FLOW, NAMESPACE, NODE, REGISTRATION, ROLE, SERVICE, SLICE,
};
pub(super) use configurations::{CLUSTER_CONFIG, CONFIG};
pub(super) use credentials::SECRET;
pub(super) use daemonsets::{DAEMONSET, FILES};
pub(super) use pods::{BRIDGE, CONTROL_PLANE_POD, GUARDS_OWN, POD, TASK, WORKLOAD};

/// Changes an object in the way of a number.
pub(super) type Edit = fn(&mut Value, usize);

/// The value at a path, made where it is not there.
fn at<'a>(value: &'a mut Value, path: &[&str]) -> &'a mut Value {
    let mut value = value;
    for name in path {
        let index = name.parse::<usize>().ok().filter(|index| value.get(index).is_some());
        value = if let Some(index) = index {
            &mut value[index]
        } else {
            if !value.is_object() {
                *value = json!({});
            }
            &mut value[*name]
        };
    }
    value
}

fn push(list: &mut Value, item: Value) {
    if let Some(items) = list.as_array_mut() {
        items.push(item);
    } else {
        *list = json!([item]);
    }
}

fn drop_from(list: &mut Value, n: usize) {
    if let Some(items) = list.as_array_mut().filter(|it| !it.is_empty()) {
        items.remove(n % items.len());
    }
}

fn forget(map: &mut Value, n: usize) {
    if let Some(fields) = map.as_object_mut().filter(|it| !it.is_empty()) {
        let name = fields.keys().nth(n % fields.len()).cloned().unwrap();
        fields.remove(&name);
    }
}

/// Edits of the metadata of anything.
const METADATA: &[Edit] = &[
    |it, n| *at(it, &["metadata", "labels", "team"]) = json!(n.to_string()),
    |it, n| *at(it, &["metadata", "labels"]) = [json!({}), json!(null)][n % 2].clone(),
    |it, n| forget(at(it, &["metadata", "labels"]), n),
    |it, n| forget(at(it, &["metadata", "annotations"]), n),
    |it, n| *at(it, &["metadata", "annotations", "kubectl-selfhost.dev/mark"]) = json!(n.to_string()),
    |it, n| {
        push(
            at(it, &["metadata", "finalizers"]),
            json!(["example.org/hold", "foregroundDeletion", "orphan"][n % 3]),
        )
    },
    |it, n| {
        push(
            at(it, &["metadata", "ownerReferences"]),
            json!({"apiVersion": "v1", "kind": "Node", "name": n.to_string(), "uid": "y"}),
        )
    },
    |it, n| drop_from(at(it, &["metadata", "ownerReferences"]), n),
    |it, n| drop_from(at(it, &["metadata", "finalizers"]), n),
    |it, n| {
        *at(it, &["metadata", "deletionTimestamp"]) =
            [json!("2027-01-15T07:00:00Z"), json!(null)][n % 2].clone()
    },
    |it, n| {
        *at(it, &["metadata", "name"]) =
            [json!("other"), json!("self-hosted-kube-apiserver"), json!("")][n % 3].clone()
    },
    |it, n| *at(it, &["metadata", "namespace"]) = json!(["other", "kube-system"][n % 2]),
    |it, n| *at(it, &["kind"]) = [json!("Other"), json!(""), json!(null)][n % 3].clone(),
    |it, n| *at(it, &["status", "x"]) = json!(n),
];

/// Edits that any object can have.
pub(super) const ANY: &[Edit] = &[
    |_, _| {},
    |_, _| {},
    |it, n| METADATA[n % METADATA.len()](it, n / METADATA.len()),
    |it, n| *at(it, &["spec", "x"]) = json!(n),
];
