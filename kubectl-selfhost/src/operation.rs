//! The one operation that may run at a time: a Lease that its holder renews, and a ConfigMap that tells what it is and
//! how far it came.
//!
//! Invariant: the ConfigMap exists exactly as long as the cluster is, or may be, between two states. A Lease that is
//! no longer renewed means that the operation was interrupted, and whoever repeats its command takes it over.

pub mod holder;

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

/// The operation that this process holds.
pub struct Operation {
    client: Client,
    holder: Holder,
    lost: Arc<AtomicBool>,
    renewal: JoinHandle<()>,
}

impl Operation {
    /// Takes the lock. An operation of the same goal that was interrupted is taken over; one that still seems to run
    /// is waited for as long as its Lease holds, because its holder may have been killed a moment ago.
    ///
    /// `waiting` is called once if it has to wait, with who holds it.
    pub async fn begin(client: &Client, goal: &Goal, waiting: impl Fn(&str)) -> Result<Self, LockError> {
        let holder = Holder::new();
        let leases: Api<Lease> = Api::namespaced(client.clone(), labels::NAMESPACE);
        let mut told = false;
        let deadline = std::time::Instant::now() + LEASE + RENEW;
        while !try_acquire(&leases, holder.name()).await? {
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
        write_journal(client, goal, holder.name()).await?;
        let lost = Arc::new(AtomicBool::new(false));
        let renewal = tokio::spawn(renew(leases, holder.name().to_owned(), Arc::clone(&lost)));
        Ok(Self { client: client.clone(), holder, lost, renewal })
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
