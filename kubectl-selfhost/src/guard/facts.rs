//! What the rules ask to know beside the request: from files, or from the cluster.

use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client};
use selfhost_core::review::{Answer, Facts, Lookup, Settings, Verdict};
use selfhost_core::rules::{self, Evaluation};
use serde_json::Value;

use super::change::Identity;

/// How many times a review may ask for more before it is denied.
const ROUNDS: usize = rules::ROUNDS;

/// Where facts come from.
pub enum Source {
    /// Nothing is known of the cluster.
    Nothing,
    /// These objects are in the cluster, and no other.
    Files(Vec<Value>),
    /// The cluster is asked.
    Cluster(Client),
}

impl Source {
    /// The object as it is now; `None` where there is none, or where nothing is known.
    pub async fn now(&self, object: &Value) -> Result<Option<Value>, kube::Error> {
        let id = Identity::of(object);
        match self {
            Self::Nothing => Ok(None),
            Self::Files(objects) => Ok(objects.iter().find(|it| Identity::of(it) == id).cloned()),
            Self::Cluster(_) if id.name.is_empty() => Ok(None),
            Self::Cluster(client) => get(client, &id).await,
        }
    }

    async fn answer(&self, lookup: &Lookup) -> Answer {
        match self {
            Self::Nothing => Answer::Unavailable(format!(
                "{} is not known here: ask the cluster with --live, or give it with --with",
                described(lookup)
            )),
            Self::Files(objects) => among(objects, lookup),
            Self::Cluster(client) => match ask(client, lookup).await {
                Ok(answer) => answer,
                Err(error) => Answer::Unavailable(format!("{}: {error}", described(lookup))),
            },
        }
    }

    /// The verdict on a request, at a time in seconds since 1970.
    pub async fn verdict(&self, request: &Value, settings: &Settings, now: i64) -> Verdict {
        let bytes = request.to_string();
        let mut facts = Facts::at(now);
        for _ in 0..ROUNDS {
            match rules::evaluate(bytes.as_bytes(), settings, &facts) {
                Evaluation::Decided(verdict) => return verdict,
                Evaluation::Needs(lookups) => {
                    for lookup in lookups {
                        let answer = self.answer(&lookup).await;
                        facts.insert(lookup, answer);
                    }
                }
            }
        }
        rules::asks_too_much()
    }
}

async fn get(client: &Client, id: &Identity) -> Result<Option<Value>, kube::Error> {
    let found = api(client, id).get_opt(&id.name).await?;
    Ok(found.map(|object| serde_json::to_value(object).unwrap_or_default()))
}

fn api(client: &Client, id: &Identity) -> Api<DynamicObject> {
    let resource = id.resource();
    if id.namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), &id.namespace, &resource)
    }
}

async fn ask(client: &Client, lookup: &Lookup) -> Result<Answer, kube::Error> {
    let id = identity(lookup);
    match lookup {
        Lookup::Get { .. } => Ok(get(client, &id).await?.map_or(Answer::Missing, Answer::Found)),
        Lookup::List { selector, .. } => {
            let found = api(client, &id).list(&ListParams::default().labels(selector)).await?;
            let value = |object: DynamicObject| serde_json::to_value(object).unwrap_or_default();
            Ok(Answer::Items(found.items.into_iter().map(value).collect()))
        }
    }
}

fn identity(lookup: &Lookup) -> Identity {
    let (Lookup::Get { api_version, kind, namespace, .. }
    | Lookup::List { api_version, kind, namespace, .. }) = lookup;
    let name = match lookup {
        Lookup::Get { name, .. } => name.clone(),
        Lookup::List { .. } => String::new(),
    };
    Identity { api_version: api_version.clone(), kind: kind.clone(), namespace: namespace.clone(), name }
}

/// `Secret kube-system/ca`
fn described(lookup: &Lookup) -> String {
    let id = identity(lookup);
    let name = match lookup {
        Lookup::Get { name, .. } => name,
        Lookup::List { selector, .. } => selector,
    };
    let place = if id.namespace.is_empty() { String::new() } else { format!("{}/", id.namespace) };
    format!("{} {place}{name}", id.kind)
}

fn among(objects: &[Value], lookup: &Lookup) -> Answer {
    let wanted = identity(lookup);
    let alike = |object: &&Value| {
        let id = Identity::of(object);
        id.api_version == wanted.api_version
            && id.kind == wanted.kind
            && (wanted.namespace.is_empty() || id.namespace == wanted.namespace)
    };
    let mut alike = objects.iter().filter(alike);
    match lookup {
        Lookup::Get { name, .. } => alike
            .find(|object| Identity::of(object).name == *name)
            .map_or(Answer::Missing, |object| Answer::Found(object.clone())),
        Lookup::List { selector, .. } => {
            Answer::Items(alike.filter(|object| matches(object, selector)).cloned().collect())
        }
    }
}

/// Whether the object's labels are what the selector asks for: `a=b,c`.
fn matches(object: &Value, selector: &str) -> bool {
    let labels = &object["metadata"]["labels"];
    selector.split(',').filter(|part| !part.is_empty()).all(|part| match part.split_once('=') {
        Some((key, value)) => labels[key] == value,
        None => labels[part].is_string(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_are_all_that_there_is() {
        let node = |name: &str, role: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {role: ""}}});
        let role = "node-role.kubernetes.io/control-plane";
        let objects = [node("cp1", role), node("w1", "worker")];
        assert_eq!(among(&objects, &Lookup::control_plane()), Answer::Items(vec![objects[0].clone()]));
        assert_eq!(among(&objects, &Lookup::get("v1", "Node", "", "w1")), Answer::Found(objects[1].clone()));
        assert_eq!(among(&objects, &Lookup::get("v1", "Secret", "kube-system", "ca")), Answer::Missing);
        assert_eq!(among(&objects, &Lookup::list("v1", "Pod", "kube-system", "a=b")), Answer::Items(vec![]));
    }

    #[test]
    fn selectors_are_those_of_kubectl() {
        let object = json!({"metadata": {"labels": {"a": "b", "c": ""}}});
        for (selector, expected) in
            [("a=b", true), ("a=b,c", true), ("a", true), ("a=c", false), ("d", false), ("", true)]
        {
            assert_eq!(matches(&object, selector), expected, "{selector}");
        }
    }
}
