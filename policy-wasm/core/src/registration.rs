//! What the guard registers with the API server: the webhook, and the invariants that CEL can express (tier 0).
//!
//! A registration in front of a control plane is a way to lock oneself out of it. So what reaches the webhook is chosen by
//! conditions that the API server itself evaluates, and not by what the webhook lets through:
//!
//! - [`named`](self): the objects that are guarded by name. While a guard that fails closed is dead, these cannot be
//!   edited, and nothing else notices.
//! - [`wide`](self): what has to be looked at to keep others away from the control plane: Pods and workloads that reach
//!   into its nodes, rights that lead to its keys. Only such writes are sent, so that a dead guard stops these and no
//!   others. The module says what that is of a user's ordinary work.
//! - [`fixed`](self): registrations themselves, for a static manifest: the API server sends them to nobody else.
//!
//! Invariant: what a cold start writes is never sent: Leases, Events, Endpoints, heartbeats, the status of Pods by whom it
//! is, what kubelets and the controllers of `kube-system` make of objects that were admitted before. Whoever such an exception is
//! for is named exactly, and it holds for the objects that they have to write, never for all: anybody who may impersonate
//! would otherwise have a way around the guard.
//!
//! Invariant: every condition is total. One that fails is a denial.

mod cel;
mod fixed;
mod named;
mod tier0;
mod wide;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::review::settings::{Guard, Settings};
use crate::rules::Reach;
use crate::scope::{self, Scope};

pub use tier0::tier0;

/// What is registered.
#[derive(Debug, Clone, Copy)]
pub struct Registration<'a> {
    /// The name of the configuration. Through the API it is the guard's own name; in a static manifest it ends in
    /// `.static.k8s.io`.
    pub name: &'a str,
    /// Where each API server asks: `https://127.0.0.1:9443/validate`.
    pub url: &'a str,
    /// The authority of the guard's certificate: PEM, in base64.
    pub ca_bundle: &'a str,
    /// Whether what cannot be asked is denied.
    pub fail: bool,
    /// How much is sent. `Static` is for a static manifest: all of it.
    pub reach: Reach,
    /// `namespace/name` of the guarded Secrets: what the control plane mounts, and what the settings add.
    pub secrets: &'a BTreeSet<String>,
    /// The same of `ConfigMaps`. Those that every cluster has are guarded without being named here.
    pub config_maps: &'a BTreeSet<String>,
    /// The guard's own place.
    pub guard: &'a Guard,
}

/// How long an API server waits for the guard, in seconds. Clients of Leases give up after five (k/k#90217).
const TIMEOUT: u8 = 2;

/// A condition of a webhook.
#[derive(Debug)]
struct Condition {
    name: &'static str,
    expression: String,
}

impl Condition {
    /// Of the writes to a resource only those that `expression` fits are sent; all writes to others.
    fn of(resource: &'static str, expression: impl AsRef<str>) -> Self {
        let expression =
            format!("request.resource.resource != {} || ({})", cel::quote(resource), expression.as_ref());
        Self { name: resource, expression }
    }
}

impl Registration<'_> {
    fn failure_policy(&self) -> &'static str {
        if self.fail { "Fail" } else { "Ignore" }
    }

    /// `namespace/name` of the `ServiceAccounts` that the rules trust: by the usual names of the system's identities. One
    /// that the settings name is not sent.
    fn trusted_accounts(&self) -> BTreeSet<String> {
        Settings { guard: self.guard.clone(), ..Settings::default() }.trusted_accounts()
    }

    fn webhook(&self, name: &str, scopes: &[&Scope], conditions: &[Condition]) -> Value {
        let conditions: Vec<Value> =
            conditions.iter().map(|it| json!({"name": it.name, "expression": it.expression})).collect();
        json!({
            "name": format!("{name}.guard.kubectl-selfhost.dev"),
            "clientConfig": {"url": self.url, "caBundle": self.ca_bundle},
            "rules": scopes.iter().map(|scope| rule(scope)).collect::<Vec<_>>(),
            "failurePolicy": self.failure_policy(),
            "matchPolicy": "Equivalent",
            "sideEffects": "None",
            "timeoutSeconds": TIMEOUT,
            "admissionReviewVersions": ["v1"],
            "matchConditions": conditions,
        })
    }
}

fn rule(scope: &Scope) -> Value {
    json!({
        "apiGroups": [scope.group],
        "apiVersions": ["*"],
        "resources": scope.resources,
        "operations": scope.operations.iter().map(|it| it.as_str()).collect::<Vec<_>>(),
        "scope": "*",
    })
}

/// The `ValidatingWebhookConfiguration`.
pub fn webhook(registration: &Registration<'_>) -> Value {
    let of = |reach| scope::ALL.iter().filter(|scope| scope.reach == reach).collect::<Vec<_>>();
    let mut webhooks =
        vec![registration.webhook("named", &of(Reach::Named), &named::conditions(registration))];
    if registration.reach != Reach::Named {
        webhooks.push(registration.webhook("wide", &of(Reach::Wide), &wide::conditions(registration)));
    }
    if registration.reach == Reach::Static {
        webhooks.push(registration.webhook("static", &of(Reach::Static), &fixed::conditions(registration)));
    }
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": registration.name},
        "webhooks": webhooks,
    })
}
