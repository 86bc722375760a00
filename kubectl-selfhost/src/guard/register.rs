//! The registration: what tells the API servers to ask the guard, and the policies of their own beside it.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::Client;
use selfhost_core::registration::{self, Registration};
use selfhost_core::review::settings::Guard;
use selfhost_core::rules::Reach;
use serde_json::{Value, json};

use super::address;
use super::scope::{self, Webhook};
use super::write;
use crate::api::ApiError;

/// What is registered.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The guard's place.
    pub guard: &'a Guard,
    /// The authority of its certificate, in PEM.
    pub authority: &'a [u8],
    /// Where it listens.
    pub port: u16,
    /// How much it is asked.
    pub reach: Reach,
    /// The guarded Secrets, as `namespace/name`.
    pub secrets: &'a BTreeSet<String>,
    /// The guarded ConfigMaps, as `namespace/name`.
    pub config_maps: &'a BTreeSet<String>,
}

impl Wanted<'_> {
    fn with<T>(&self, fail: bool, render: impl FnOnce(&Registration<'_>) -> T) -> T {
        render(&Registration {
            name: &self.guard.name,
            url: &address::url(self.port),
            ca_bundle: &STANDARD.encode(self.authority),
            fail,
            reach: self.reach,
            secrets: self.secrets,
            config_maps: self.config_maps,
            guard: self.guard,
        })
    }

    /// The configuration of the webhook. With `fail`, what it does not answer is denied.
    pub fn webhook(&self, fail: bool) -> Value {
        self.with(fail, registration::webhook)
    }

    /// The policies of the API server's own.
    pub fn policies(&self) -> Vec<Value> {
        self.with(true, registration::tier0)
    }

    /// Writes the webhook's configuration.
    pub async fn register(&self, client: &Client, fail: bool) -> Result<(), ApiError> {
        write::put(client, &self.webhook(fail)).await
    }

    /// Writes the policies, each before its binding.
    pub async fn write_policies(&self, client: &Client) -> Result<(), ApiError> {
        for object in self.policies() {
            write::put(client, &object).await?;
        }
        Ok(())
    }
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
    let mut any = write::delete(client, &named(guard)).await?;
    let none = BTreeSet::new();
    let wanted = Wanted {
        guard,
        authority: &[],
        port: address::DEFAULT_PORT,
        reach: Reach::Named,
        secrets: &none,
        config_maps: &none,
    };
    // A binding before its policy.
    for object in wanted.policies().iter().rev() {
        any |= write::delete(client, object).await?;
    }
    Ok(any)
}
