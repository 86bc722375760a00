//! The registration: what tells the API servers to ask the guard, and the policies of their own beside it.
//!
//! Where static manifests keep it (AR-1), what changes it carries an approval, for the moment of the change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use selfhost_core::registration::{self, Registration};
use selfhost_core::review::approval::Approval;
use selfhost_core::review::settings::Guard;
use serde_json::{Value, json};

use super::approval;
use super::canary;
use super::scope::{self, Webhook};
use super::{address, write};
use crate::api::ApiError;
use crate::template::guard::{MANIFEST, MANIFESTS, ON_HOST};

/// The rule that keeps the registration.
const RULE: &str = "AR-1";

/// For how long an approval of our own change counts.
const LASTS: Duration = Duration::from_secs(30);

/// Writes the webhook's configuration.
pub async fn register(client: &Client, wanted: &Registration<'_>) -> Result<(), ApiError> {
    put(client, &registration::webhook(wanted)).await
}

/// Writes the policies, each before its binding.
pub async fn write_policies(client: &Client, wanted: &Registration<'_>) -> Result<(), ApiError> {
    for object in registration::tier0(wanted) {
        put(client, &object).await?;
    }
    Ok(())
}

/// The name of the webhook's configuration, as an object without content.
pub fn named(guard: &Guard) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": guard.name},
    })
}

/// The webhooks that are registered; `None` where there is no registration.
pub async fn registered(client: &Client, guard: &Guard) -> Result<Option<Vec<Webhook>>, ApiError> {
    let found = write::get(client, &named(guard)).await?;
    Ok(found.map(|found| scope::of(&serde_json::to_value(found).unwrap_or_default())))
}

/// Takes the registration away: the webhook first, which may be what does not answer. Tells whether there was any.
pub async fn unregister(client: &Client, guard: &Guard) -> Result<bool, ApiError> {
    let mut any = delete(client, &named(guard)).await?;
    let none = BTreeSet::new();
    // For their names alone.
    let policies = registration::tier0(&Registration {
        url: &address::url(address::DEFAULT_PORT),
        ca_bundle: "",
        fail: true,
        wide: false,
        secrets: &none,
        config_maps: &none,
        guard,
    });
    // A binding before its policy.
    for object in policies.iter().rev() {
        any |= delete(client, object).await?;
    }
    Ok(any)
}

/// Whether it is a static manifest that keeps the registration: for good, where the settings want more than that
/// somebody approves it.
pub fn is_kept(error: &ApiError) -> bool {
    canary::denying(error).is_some_and(|rules| rules.split(", ").any(|rule| rule == RULE))
}

async fn put(client: &Client, object: &Value) -> Result<(), ApiError> {
    match write::put(client, object, |_, _| ()).await {
        Err(error) if is_kept(&error) => {
            write::put(client, object, |wanted, now| approve(wanted, now, false)).await
        }
        other => other,
    }
}

async fn delete(client: &Client, object: &Value) -> Result<bool, ApiError> {
    match write::delete(client, object).await {
        Err(error) if is_kept(&error) => {
            // A deletion brings no object with it: the approval is on what is deleted.
            let Some(now) = write::get(client, object).await? else { return Ok(false) };
            let mut now = serde_json::to_value(now).unwrap_or_default();
            approve(&mut now, None, true);
            write::annotate(client, object, &now["metadata"]["annotations"]).await?;
            write::delete(client, object).await
        }
        other => other,
    }
}

/// Puts our own approval on it.
fn approve(object: &mut Value, now: Option<&Value>, delete: bool) {
    let Ok(change) = approval::of(object, now, delete) else { return };
    let lasts = i64::try_from(LASTS.as_secs()).unwrap_or(i64::MAX);
    let approval = Approval {
        change,
        rules: [RULE.to_owned()].into(),
        not_after: Timestamp::now().as_second().saturating_add(lasts),
        reason: "kubectl selfhost guard".to_owned(),
        signatures: BTreeMap::new(),
    };
    // Without it the guard says no, and why.
    let _ = approval::put(object, &approval);
}

/// What to do where an approval of ours is not enough.
pub fn how_to_force() -> String {
    format!(
        "where the settings want signatures for it: as root on each control-plane node, remove \
         {ON_HOST}/*/{MANIFESTS}/{MANIFEST}, wait for a minute, and run this again"
    )
}
