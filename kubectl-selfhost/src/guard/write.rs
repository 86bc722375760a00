//! Writing and removing objects of any kind.

use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::{Api, Client};
use selfhost_core::labels;
use serde_json::Value;

use super::change::Identity;
use crate::api::{self, ApiError, call};

/// The API of the object's kind, in its namespace.
pub fn api(client: &Client, id: &Identity) -> Api<DynamicObject> {
    let resource = id.resource();
    if id.namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), &id.namespace, &resource)
    }
}

/// Server-side apply as our field manager, which takes the fields that it names.
pub async fn apply(client: &Client, object: &Value) -> Result<(), ApiError> {
    let id = Identity::of(object);
    let api = api(client, &id);
    let parameters = PatchParams::apply(labels::FIELD_MANAGER).force();
    let patch = Patch::Apply(object);
    call(format!("write {id}"), || api.patch(&id.name, &parameters, &patch)).await.map(drop)
}

/// The object as it is here and in no other way: what somebody added to the one that is there goes. `dress` sees it last,
/// with the one that it takes the place of.
pub async fn put(
    client: &Client,
    object: &Value,
    dress: impl Fn(&mut Value, Option<&Value>),
) -> Result<(), ApiError> {
    let id = Identity::of(object);
    let api = api(client, &id);
    let parameters =
        PostParams { field_manager: Some(labels::FIELD_MANAGER.to_owned()), ..PostParams::default() };
    call(format!("write {id}"), || async {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let now = api.get_opt(&id.name).await?;
            let mut wanted = object.clone();
            if let Some(now) = &now {
                wanted["metadata"]["resourceVersion"] = now.metadata.resource_version.clone().into();
            }
            let before = now.map(serde_json::to_value).transpose().map_err(kube::Error::SerdeError)?;
            dress(&mut wanted, before.as_ref());
            let wanted: DynamicObject = serde_json::from_value(wanted).map_err(kube::Error::SerdeError)?;
            let written = match before {
                Some(_) => api.replace(&id.name, &parameters, &wanted).await,
                None => api.create(&parameters, &wanted).await,
            };
            match written {
                // Somebody's write in between, or an answer of ours that was lost: the next look tells.
                Err(error) if api::code(&error) == Some(409) && tries > 0 => {}
                other => return other.map(drop),
            }
        }
    })
    .await
}

/// Writes the object only where what is there lacks something of it: a guard that does not answer is asked about some of
/// what it is made of, and is put right without a write to that.
pub async fn ensure(client: &Client, object: &Value) -> Result<(), ApiError> {
    let now = get(client, object).await?.map(|now| serde_json::to_value(now).unwrap_or_default());
    if now.is_some_and(|now| has(&now, object)) {
        return Ok(());
    }
    apply(client, object).await
}

/// Whether `now` has everything that `wanted` says. Lists are compared as a whole.
fn has(now: &Value, wanted: &Value) -> bool {
    match (now, wanted) {
        (Value::Object(now), Value::Object(wanted)) => {
            wanted.iter().all(|(field, wanted)| now.get(field).is_some_and(|now| has(now, wanted)))
        }
        (Value::Array(now), Value::Array(wanted)) => {
            now.len() == wanted.len() && now.iter().zip(wanted).all(|(now, wanted)| has(now, wanted))
        }
        _ => now == wanted,
    }
}

/// How often a write is tried that meets another one.
const TRIES: u8 = 5;

/// Adds annotations to the object that is there.
pub async fn annotate(client: &Client, object: &Value, annotations: &Value) -> Result<(), ApiError> {
    let id = Identity::of(object);
    let api = api(client, &id);
    let parameters =
        PatchParams { field_manager: Some(labels::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(serde_json::json!({"metadata": {"annotations": annotations}}));
    call(format!("annotate {id}"), || api.patch(&id.name, &parameters, &patch)).await.map(drop)
}

/// The object as it is now.
pub async fn get(client: &Client, object: &Value) -> Result<Option<DynamicObject>, ApiError> {
    let id = Identity::of(object);
    let api = api(client, &id);
    call(format!("read {id}"), || api.get_opt(&id.name)).await
}

/// Every object of this one's kind and name, in whichever namespace.
pub async fn named_anywhere(client: &Client, object: &Value) -> Result<Vec<Value>, ApiError> {
    let id = Identity::of(object);
    let api = api(client, &id);
    let named = ListParams::default().fields(&format!("metadata.name={}", id.name));
    let found = call(format!("list {id}"), || api.list(&named)).await?;
    let types = object.clone();
    let with_types = |object: DynamicObject| {
        let mut value = serde_json::to_value(object).unwrap_or_default();
        // Items of a list have none.
        for field in ["apiVersion", "kind"] {
            value[field] = types[field].clone();
        }
        value
    };
    Ok(found.items.into_iter().map(with_types).collect())
}

/// Deletes the object, with what it owns; tells whether there was one.
pub async fn delete(client: &Client, object: &Value) -> Result<bool, ApiError> {
    let id = Identity::of(object);
    let api = api(client, &id);
    let parameters =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
    call(format!("delete {id}"), || async {
        match api.delete(&id.name, &parameters).await {
            Ok(_) => Ok(true),
            // No such object, or no such kind in this version.
            Err(error) if api::code(&error) == Some(404) => Ok(false),
            Err(error) => Err(error),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_there_is_not_written_again() {
        let wanted = json!({"metadata": {"labels": {"a": "1"}}, "rules": [{"verbs": ["get"]}]});
        for (now, expected) in [
            (
                json!({"metadata": {"labels": {"a": "1", "b": "2"}, "uid": "u"}, "rules": [{"verbs": ["get"]}]}),
                true,
            ),
            (json!({"metadata": {"labels": {"b": "2"}}, "rules": [{"verbs": ["get"]}]}), false),
            (json!({"metadata": {"labels": {"a": "1"}}, "rules": [{"verbs": ["get", "list"]}]}), false),
            (json!({"metadata": {"labels": {"a": "1"}}, "rules": []}), false),
            (json!({"metadata": {"labels": {"a": "1"}}}), false),
        ] {
            assert_eq!(has(&now, &wanted), expected, "{now}");
        }
    }
}
