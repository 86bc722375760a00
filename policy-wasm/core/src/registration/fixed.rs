//! Registrations, for a static manifest.
//!
//! Sent is what is the guard's own, or looks like a static manifest (AR-1), and webhooks of others that could stop or
//! change what the control plane needs (AR-2).

use super::cel::{TARGET, WHOLE, list, quote};
use super::{Condition, Registration, STATIC_SUFFIX};
use crate::rules::ar2::NEEDED;

pub(super) fn conditions(registration: &Registration<'_>) -> Vec<Condition> {
    let name = format!("{TARGET}.metadata.name");
    let guard = quote(&registration.guard.name);
    let own = format!(
        "({name} == {guard} || [\"-\", \".\"].exists(s, {name}.startsWith({guard} + s)) || \
         {name}.endsWith({}))",
        quote(STATIC_SUFFIX)
    );
    let needed: Vec<&str> = NEEDED.iter().map(|(_, resource, _)| *resource).chain(["*", "*/*"]).collect();
    let broad = format!(
        "(request.resource.resource in [\"validatingwebhookconfigurations\", \"mutatingwebhookconfigurations\"] && \
         object != null && has(object.webhooks) && object.webhooks.exists(w, \
         (request.resource.resource == \"mutatingwebhookconfigurations\" || !has(w.failurePolicy) || \
         w.failurePolicy != \"Ignore\") && has(w.rules) && w.rules.exists(r, has(r.resources) && \
         r.resources.exists(x, x in {}))))",
        list(needed)
    );
    vec![Condition { name: "registrations", expression: format!("{WHOLE} && ({own} || {broad})") }]
}
