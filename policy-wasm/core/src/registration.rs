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
//! - [`fixed`](self): registrations themselves, from a static manifest of each API server: it sends them to nobody else.
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

/// What is registered, under the guard's own name.
#[derive(Debug, Clone, Copy)]
pub struct Registration<'a> {
    /// Where each API server asks: `https://127.0.0.1:9443/validate`.
    pub url: &'a str,
    /// The authority of the guard's certificate: PEM, in base64.
    pub ca_bundle: &'a str,
    /// Whether what cannot be asked is denied.
    pub fail: bool,
    /// Whether more is sent than what is guarded by name.
    pub wide: bool,
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
    /// `namespace/name` of the `ServiceAccounts` that the rules trust: by the usual names of the system's identities. One
    /// that the settings name is not sent.
    fn trusted_accounts(&self) -> BTreeSet<String> {
        Settings { guard: self.guard.clone(), ..Settings::default() }.trusted_accounts()
    }

    /// The webhook that is sent what has this reach. What the API server would fill in is there: an approval is of the
    /// object as it is stored.
    fn webhook(&self, name: &str, reach: Reach, fail: bool, conditions: &[Condition]) -> Value {
        let rules: Vec<Value> = scope::ALL.iter().filter(|it| it.reach == reach).map(rule).collect();
        let conditions: Vec<Value> =
            conditions.iter().map(|it| json!({"name": it.name, "expression": it.expression})).collect();
        json!({
            "name": format!("{name}.guard.kubectl-selfhost.dev"),
            "clientConfig": {"url": self.url, "caBundle": self.ca_bundle},
            "rules": rules,
            "failurePolicy": failure_policy(fail),
            "matchPolicy": "Equivalent",
            "namespaceSelector": {},
            "objectSelector": {},
            "sideEffects": "None",
            "timeoutSeconds": TIMEOUT,
            "admissionReviewVersions": ["v1"],
            "matchConditions": conditions,
        })
    }
}

const fn failure_policy(fail: bool) -> &'static str {
    if fail { "Fail" } else { "Ignore" }
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

fn configuration(name: &str, webhooks: &[Value]) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": webhooks,
    })
}

/// The `ValidatingWebhookConfiguration`.
pub fn webhook(it: &Registration<'_>) -> Value {
    let mut webhooks = vec![it.webhook("named", Reach::Named, it.fail, &named::conditions(it))];
    if it.wide {
        webhooks.push(it.webhook("wide", Reach::Wide, it.fail, &wide::conditions(it)));
    }
    configuration(&it.guard.name, &webhooks)
}

/// The `ValidatingWebhookConfiguration` for a static manifest of each API server, which keeps the one in the API: about
/// registrations an API server asks none but such webhooks.
///
/// Invariant: what is not answered goes through, whatever `fail` says. A guard that is dead and kept its own registration
/// could not be taken away.
pub fn static_manifest(it: &Registration<'_>) -> Value {
    let webhook = it.webhook(STATIC, Reach::Static, false, &fixed::conditions(it));
    configuration(&format!("{}{STATIC_SUFFIX}", it.guard.name), &[webhook])
}

/// The first label of the name of a static manifest's webhook.
pub const STATIC: &str = "static";

/// How the names of what is in static manifests end; the API server takes no others there (KEP-5793).
pub const STATIC_SUFFIX: &str = ".static.k8s.io";
