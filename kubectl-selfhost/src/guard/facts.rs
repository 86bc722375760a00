//! What the rules ask to know beside the request: from files, or from the cluster.

use kube::Client;
use kube::api::{DynamicObject, ListParams};
use selfhost_core::review::{Answer, Facts, Lookup, Request, Settings, Verdict};
use selfhost_core::rules::{self, Evaluation, Judgement};
use serde_json::Value;

use super::change::Identity;
use super::write::api;

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
            Self::Files(objects) => lookup.among(objects),
            Self::Cluster(client) => match ask(client, lookup).await {
                Ok(answer) => answer,
                Err(error) => Answer::Unavailable(format!("{}: {error}", described(lookup))),
            },
        }
    }

    /// The verdict on a request, at a time in seconds since 1970.
    pub async fn verdict(&self, request: &Value, settings: &Settings, now: i64) -> Verdict {
        let request = match Request::parse(request.to_string().as_bytes()) {
            Ok(request) => request,
            Err(error) => return rules::unreadable(&error),
        };
        let mut facts = Facts::at(now);
        let mut judgement = Judgement::new(&request, settings);
        loop {
            match judgement.round(&facts) {
                Evaluation::Decided(verdict) => return verdict,
                Evaluation::Needs(lookups) => {
                    for lookup in lookups {
                        let answer = self.answer(&lookup).await;
                        facts.insert(lookup, answer);
                    }
                }
            }
        }
    }
}

async fn get(client: &Client, id: &Identity) -> Result<Option<Value>, kube::Error> {
    let found = api(client, id).get_opt(&id.name).await?;
    Ok(found.map(|object| serde_json::to_value(object).unwrap_or_default()))
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
