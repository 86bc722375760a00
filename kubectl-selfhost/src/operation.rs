//! The one operation that may run at a time: a Lease that its holder renews, and a ConfigMap that tells what it is and
//! how far it came.
//!
//! Invariant: the ConfigMap exists exactly as long as the cluster is, or may be, between two states. A Lease that is
//! no longer renewed means that the operation was interrupted, and whoever repeats its command takes it over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::{Api, Client};
use selfhost_core::labels;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::api::{self, ApiError};
use crate::inventory::OpenOperation;
use crate::plan::{Goal, Step};

/// For how long the Lease holds without being renewed.
const LEASE: Duration = Duration::from_secs(15);

/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(4);

/// The lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds it.
    #[error("operation {what} is running, held by {holder}")]
    Held {
        /// What runs.
        what: String,
        /// Who runs it.
        holder: String,
    },
    /// The API server refused.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// What the two objects tell.
pub fn read(lease: Option<&Lease>, journal: Option<&ConfigMap>, now: Timestamp) -> Option<OpenOperation> {
    let spec = lease.and_then(|lease| lease.spec.as_ref());
    let holder = spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
    let running = !holder.is_empty()
        && renewed.is_some_and(|renewed| now.duration_since(renewed).as_secs() <= i64::from(seconds));
    let data = journal.and_then(|journal| journal.data.clone());
    if data.is_none() && !running {
        return None;
    }
    let data = data.unwrap_or_default();
    let value = |key: &str| data.get(key).cloned();
    Some(OpenOperation {
        holder: if holder.is_empty() { value("holder").unwrap_or_default() } else { holder },
        what: value("what").unwrap_or_else(|| "unknown".to_owned()),
        command: value("command"),
        step: value("step"),
        since: value("since").and_then(|since| since.parse().ok()),
        renewed,
        running,
    })
}

/// The operation that this process holds.
pub struct Operation {
    client: Client,
    holder: String,
    lost: Arc<AtomicBool>,
    renewal: JoinHandle<()>,
}

impl Operation {
    /// Takes the lock. An operation of the same goal that was interrupted is taken over; one that still seems to run
    /// is waited for as long as its Lease holds, because its holder may have been killed a moment ago.
    ///
    /// `waiting` is called once if it has to wait, with who holds it.
    pub async fn begin(
        client: &Client,
        goal: &Goal,
        holder: &str,
        waiting: impl Fn(&str),
    ) -> Result<Self, LockError> {
        let leases: Api<Lease> = Api::namespaced(client.clone(), labels::NAMESPACE);
        let mut told = false;
        let deadline = std::time::Instant::now() + LEASE + RENEW;
        while !try_acquire(&leases, holder).await? {
            let journal = api::get(&config_maps(client), labels::OPERATION).await?;
            let lease = api::get(&leases, labels::OPERATION).await?;
            let open = read(lease.as_ref(), journal.as_ref(), Timestamp::now());
            let (what, by) = open.map_or_else(Default::default, |open| (open.what, open.holder));
            if std::time::Instant::now() > deadline || (!what.is_empty() && what != goal.to_string()) {
                return Err(LockError::Held { what, holder: by });
            }
            if !told {
                waiting(&by);
                told = true;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        write_journal(client, goal, holder).await?;
        let lost = Arc::new(AtomicBool::new(false));
        let renewal = tokio::spawn(renew(leases, holder.to_owned(), Arc::clone(&lost)));
        Ok(Self { client: client.clone(), holder: holder.to_owned(), lost, renewal })
    }

    /// Whether somebody else took the lock over: nothing more may be written then.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Writes down which step comes now.
    pub async fn record(&self, step: &Step) -> Result<(), ApiError> {
        let data = json!({"data": {"step": step.to_string()}});
        api::merge(&config_maps(&self.client), labels::OPERATION, data).await
    }

    /// Ends the operation: nothing is half done.
    pub async fn finish(self) -> Result<(), ApiError> {
        let maps = config_maps(&self.client);
        if let Some(journal) = api::get(&maps, labels::OPERATION).await? {
            api::delete(&maps, &journal).await?;
        }
        self.leave().await
    }

    /// Lets go of the lock, and leaves the ConfigMap for whoever repeats the command.
    pub async fn leave(self) -> Result<(), ApiError> {
        self.renewal.abort();
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), labels::NAMESPACE);
        if let Some(lease) = api::get(&leases, labels::OPERATION).await?
            && lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) == Some(&self.holder)
        {
            api::delete(&leases, &lease).await?;
        }
        Ok(())
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

fn config_maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), labels::NAMESPACE)
}

async fn write_journal(client: &Client, goal: &Goal, holder: &str) -> Result<(), ApiError> {
    let maps = config_maps(client);
    let since = match api::get(&maps, labels::OPERATION).await? {
        Some(open) => open.data.unwrap_or_default().get("since").cloned(),
        None => None,
    };
    let journal = ConfigMap {
        metadata: ObjectMeta { name: Some(labels::OPERATION.to_owned()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([
            ("what".to_owned(), goal.to_string()),
            ("command".to_owned(), format!("kubectl selfhost {goal}")),
            ("holder".to_owned(), holder.to_owned()),
            ("since".to_owned(), since.unwrap_or_else(|| Timestamp::now().to_string())),
        ])),
        ..ConfigMap::default()
    };
    api::apply(&maps, &journal).await
}

/// Creates the Lease, or takes one that is not held any more. `false` where somebody holds it.
async fn try_acquire(leases: &Api<Lease>, holder: &str) -> Result<bool, ApiError> {
    let now = Timestamp::now();
    let spec = LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(i32::try_from(LEASE.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        ..LeaseSpec::default()
    };
    let written = match api::get(leases, labels::OPERATION).await? {
        None => {
            let metadata = ObjectMeta { name: Some(labels::OPERATION.to_owned()), ..ObjectMeta::default() };
            api::create(leases, &Lease { metadata, spec: Some(spec) }).await?
        }
        Some(lease) if read(Some(&lease), None, now).is_some_and(|open| open.holder != holder) => None,
        // Its resource version makes sure that only one of two wins.
        Some(lease) => api::replace(leases, &Lease { spec: Some(spec), ..lease }).await?,
    };
    Ok(written.is_some())
}

/// Renews the Lease until it is aborted, or until somebody else has it.
async fn renew(leases: Api<Lease>, holder: String, lost: Arc<AtomicBool>) {
    loop {
        tokio::time::sleep(RENEW).await;
        // A failure in passing is repeated by the next turn; the Lease holds for several.
        if let Ok(Some(mut lease)) = api::get(&leases, labels::OPERATION).await
            && let Some(spec) = &mut lease.spec
        {
            if spec.holder_identity.as_deref() != Some(&holder) {
                lost.store(true, Ordering::Relaxed);
                return;
            }
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            let _ = api::replace(&leases, &lease).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, renewed: &str) -> Lease {
        Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: Some(15),
                renew_time: Some(MicroTime(renewed.parse().unwrap())),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        }
    }

    #[test]
    fn tells_running_from_interrupted() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let journal = ConfigMap {
            data: Some(BTreeMap::from([
                ("what".into(), "upgrade v1.37.2".into()),
                ("holder".into(), "ann@desk".into()),
                ("since".into(), "2026-01-01T00:00:00Z".into()),
            ])),
            ..ConfigMap::default()
        };
        let fresh = lease("ann@desk", "2026-01-01T00:00:50Z");
        let stale = lease("ann@desk", "2026-01-01T00:00:10Z");
        let running = |lease, journal| read(lease, journal, now).map(|open| open.running);
        assert_eq!(running(None, None), None);
        assert_eq!(running(Some(&stale), None), None);
        assert_eq!(running(Some(&fresh), None), Some(true));
        assert_eq!(running(Some(&fresh), Some(&journal)), Some(true));
        assert_eq!(running(Some(&stale), Some(&journal)), Some(false));
        assert_eq!(running(None, Some(&journal)), Some(false));
        let open = read(None, Some(&journal), now).unwrap();
        assert_eq!((open.what.as_str(), open.holder.as_str()), ("upgrade v1.37.2", "ann@desk"));
    }
}
