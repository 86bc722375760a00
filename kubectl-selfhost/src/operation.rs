//! The one operation that may run at a time: a Lease that its holder renews, and a ConfigMap that tells what it is and
//! how far it came.
//!
//! Invariant: the ConfigMap exists exactly as long as the cluster is, or may be, between two states. A Lease that is
//! no longer renewed means that the operation was interrupted, and whoever repeats its command takes it over.

pub mod holder;
pub mod record;

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
use crate::inventory::operation::read;
use crate::plan::{Goal, Step};
use holder::Holder;
use record::Record;

/// For how long the Lease holds without being renewed.
const LEASE: Duration = Duration::from_secs(15);

/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(4);

/// The lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds it.
    #[error("operation {what} is open, held by {holder}{}", since.map(|since| format!(" since {since}")).unwrap_or_default())]
    Held {
        /// What it is.
        what: String,
        /// Who runs, or ran, it.
        holder: String,
        /// When it began.
        since: Option<Timestamp>,
    },
    /// The API server refused.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// The operation that this process holds.
pub struct Operation {
    client: Client,
    holder: Holder,
    lost: Arc<AtomicBool>,
    renewal: JoinHandle<()>,
}

impl Operation {
    /// Takes the lock. An operation of the same goal that was interrupted is taken over; one that still seems to run
    /// is waited for as long as its Lease holds, because its holder may have been killed a moment ago. An abort takes
    /// over the operation that it aborts.
    ///
    /// `record` is written down, unless the operation is an older one that is carried on.
    ///
    /// `waiting` is called once if it has to wait, with who holds it.
    pub async fn begin(
        client: &Client,
        goal: &Goal,
        record: &Record,
        waiting: impl Fn(&str),
    ) -> Result<Self, LockError> {
        let holder = Holder::new();
        let leases: Api<Lease> = Api::namespaced(client.clone(), labels::NAMESPACE);
        let mut told = false;
        let deadline = std::time::Instant::now() + LEASE + RENEW;
        while !try_acquire(&leases, holder.name()).await? {
            let journal = api::get(&config_maps(client), labels::OPERATION).await?;
            let lease = api::get(&leases, labels::OPERATION).await?;
            let open = read(lease.as_ref(), journal.as_ref(), Timestamp::now());
            let known = open.as_ref().is_some_and(|open| journal.is_some() && !goal.continues(&open.what));
            if std::time::Instant::now() > deadline || known {
                return Err(held_by(open));
            }
            let by = open.map(|open| open.holder).unwrap_or_default();
            if !told {
                waiting(&by);
                told = true;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let operation = Self::hold(client, leases, holder);
        // Another operation may have been interrupted since the plan was made.
        let journal = api::get(&config_maps(client), labels::OPERATION).await?;
        let open = read(None, journal.as_ref(), Timestamp::now());
        if open.as_ref().is_some_and(|open| !goal.continues(&open.what)) {
            operation.leave().await?;
            return Err(held_by(open));
        }
        operation.write_journal(goal, Some(record)).await?;
        Ok(operation)
    }

    /// Renews the Lease from now on.
    fn hold(client: &Client, leases: Api<Lease>, holder: Holder) -> Self {
        let lost = Arc::new(AtomicBool::new(false));
        let renewal = tokio::spawn(renew(leases, holder.name().to_owned(), Arc::clone(&lost)));
        Self { client: client.clone(), holder, lost, renewal }
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

    /// From now on it is for `goal`: the abort of what it was for.
    pub async fn turn(&self, goal: &Goal) -> Result<(), ApiError> {
        self.write_journal(goal, None).await
    }

    /// Says what the operation is. What was written down when it began stays.
    async fn write_journal(&self, goal: &Goal, record: Option<&Record>) -> Result<(), ApiError> {
        let maps = config_maps(&self.client);
        let open = api::get(&maps, labels::OPERATION).await?;
        let began = open.and_then(|open| open.data).unwrap_or_default();
        api::apply(&maps, &journal(&began, goal, self.holder.name(), record, Timestamp::now())).await
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
            && lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref())
                == Some(self.holder.name())
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

/// The ConfigMap of an operation for `goal`. What `began` has, from an earlier run, is where the operation began.
fn journal(
    began: &BTreeMap<String, String>,
    goal: &Goal,
    holder: &str,
    record: Option<&Record>,
    now: Timestamp,
) -> ConfigMap {
    let mut data = BTreeMap::from([
        ("what".to_owned(), goal.to_string()),
        ("command".to_owned(), goal.command()),
        ("holder".to_owned(), holder.to_owned()),
        ("since".to_owned(), began.get("since").cloned().unwrap_or_else(|| now.to_string())),
    ]);
    let written = || record.and_then(|record| serde_json::to_string(record).ok());
    // A journal without it is one of an older release: what is there now is not where that one began.
    let record = if began.contains_key("what") { began.get("record").cloned() } else { written() };
    data.extend(record.map(|record| ("record".to_owned(), record)));
    ConfigMap {
        metadata: ObjectMeta { name: Some(labels::OPERATION.to_owned()), ..ObjectMeta::default() },
        data: Some(data),
        ..ConfigMap::default()
    }
}

/// Who has the lock, as far as it is known.
fn held_by(open: Option<OpenOperation>) -> LockError {
    let (what, holder, since) = open.map(|open| (open.what, open.holder, open.since)).unwrap_or_default();
    LockError::Held { what, holder, since }
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
        Some(lease) if read(Some(&lease), None, now).is_some_and(|open| held(&open, holder)) => None,
        // Its resource version makes sure that only one of two wins.
        Some(lease) => api::replace(leases, &Lease { spec: Some(spec), ..lease }).await?,
    };
    Ok(written.is_some())
}

/// Whether somebody else still has the Lease.
fn held(open: &OpenOperation, by: &str) -> bool {
    open.holder != by && !holder::is_dead(&open.holder)
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
    use crate::operation::record::Asked;

    #[test]
    fn where_an_operation_began_is_written_once() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let later: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let upgrade = Goal::Upgrade("v1.37.2".parse().unwrap());
        let abort = Goal::Abort(Box::new(upgrade.clone()));
        let record = |repository: &str| Record {
            asked: Asked { image_repository: Some(repository.to_owned()), ..Asked::default() },
            ..Record::default()
        };
        let first = journal(&BTreeMap::new(), &upgrade, "ann@desk", Some(&record("a")), now).data.unwrap();
        let again = journal(&first, &upgrade, "bob@desk", Some(&record("b")), later).data.unwrap();
        let back = journal(&again, &abort, "bob@desk", None, later).data.unwrap();
        for (data, what, holder) in
            [(&first, &upgrade, "ann@desk"), (&again, &upgrade, "bob@desk"), (&back, &abort, "bob@desk")]
        {
            assert_eq!(data["what"], what.to_string());
            assert_eq!(data["holder"], holder);
            assert_eq!(data["since"], now.to_string());
            assert_eq!(serde_json::from_str::<Record>(&data["record"]).unwrap(), record("a"));
        }
        assert_eq!(back["command"], "kubectl selfhost abort");
    }

    #[test]
    fn who_has_the_lock_is_told_with_since_when() {
        let journal: ConfigMap = serde_json::from_value(json!({"data": {
            "what": "pivot", "holder": "ann@desk", "since": "2026-01-01T00:00:00Z"
        }}))
        .unwrap();
        let open = read(None, Some(&journal), Timestamp::UNIX_EPOCH);
        assert_eq!(
            held_by(open).to_string(),
            "operation pivot is open, held by ann@desk since 2026-01-01T00:00:00Z"
        );
    }
}
