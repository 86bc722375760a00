//! Whether an API server really asks the guard: an edit that no guard would admit, as a dry run.
//!
//! Invariant: nothing is stored, whatever the answer is. A registration says what an API server should do; only its own
//! answer says what it does.

use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use selfhost_core::component::Component;
use selfhost_core::labels;
use serde::Serialize;
use serde_json::{Value, json};

use super::change::Identity;
use super::write;
use crate::api::{ApiError, code};

/// The end of the names of the guard's webhooks and policies.
pub const SUFFIX: &str = "guard.kubectl-selfhost.dev";

/// How long an API server may take: longer than it waits for the guard.
const ANSWER: Duration = Duration::from_secs(8);

/// What an API server said to the edit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "result", content = "message")]
pub enum Answer {
    /// The guard denied it, by these rules: `DS-6, DS-8`.
    Enforces(String),
    /// It would have gone through.
    Admits,
    /// The guard should have been asked, and could not be; the edit is denied all the same.
    Fails(String),
    /// Somebody else denied it, so that the guard was not asked.
    DeniedByOther(String),
    /// There is no answer.
    Unknown(String),
}

/// Sends the edit.
pub async fn ask(client: &Client) -> Answer {
    let daemonsets: Api<DaemonSet> = Api::namespaced(client.clone(), labels::NAMESPACE);
    // In the place of the component another program: whatever the settings are, some rule denies that. The policies of
    // the API server's own do not, so that the answer is the webhook's.
    let edit = json!({"spec": {"template": {"spec": {
        "containers": [{"name": "canary", "image": "canary.invalid/canary:v0.0.0"}],
        "initContainers": null,
    }}}});
    let mut parameters = PatchParams::apply(labels::FIELD_MANAGER);
    parameters.dry_run = true;
    parameters.field_manager = Some(labels::FIELD_MANAGER.to_owned());
    let name = Component::Scheduler.daemonset_name();
    heard(daemonsets.patch(name, &parameters, &Patch::Merge(edit))).await
}

/// Asks to delete the registration: only a static manifest has anything to say of that.
pub async fn ask_to_delete(client: &Client, registration: &Value) -> Answer {
    let id = Identity::of(registration);
    let parameters = DeleteParams { dry_run: true, ..DeleteParams::default() };
    heard(write::api(client, &id).delete(&id.name, &parameters)).await
}

async fn heard<T>(answer: impl Future<Output = kube::Result<T>>) -> Answer {
    match tokio::time::timeout(ANSWER, answer).await {
        Err(_) => Answer::Unknown(format!("no answer for {} s", ANSWER.as_secs())),
        Ok(Ok(_)) => Answer::Admits,
        Ok(Err(error)) => {
            let message = match &error {
                kube::Error::Api(status) => status.message.clone(),
                other => other.to_string(),
            };
            read(code(&error), &message)
        }
    }
}

/// What a refusal means. The API server tells who refused in its text alone.
pub fn read(code: Option<u16>, message: &str) -> Answer {
    let by_guard = format!("{SUFFIX}\"");
    if let Some((_, said)) =
        message.split_once("denied the request: ").filter(|(who, _)| who.contains(&by_guard))
    {
        let rules = rules(said);
        // The guard was asked, and had nothing to say.
        return if rules.is_empty() { Answer::Fails(said.to_owned()) } else { Answer::Enforces(rules) };
    }
    if message.contains("failed calling webhook") && message.contains(&by_guard) {
        let (_, why) = message.rsplit_once("failed to call webhook: ").unwrap_or(("", message));
        return Answer::Fails(why.to_owned());
    }
    match code {
        Some(403 | 400 | 422 | 500) => Answer::DeniedByOther(message.to_owned()),
        _ => Answer::Unknown(message.to_owned()),
    }
}

/// The rules by which the guard denied the call, if it did.
pub fn denying(error: &ApiError) -> Option<String> {
    let ApiError::Call { source, .. } = error else { return None };
    let kube::Error::Api(status) = source.as_ref() else { return None };
    match read(Some(status.code), &status.message) {
        Answer::Enforces(rules) => Some(rules),
        _ => None,
    }
}

/// `DS-6, DS-8`: the rules that a verdict's text names at the beginnings of its lines.
fn rules(said: &str) -> String {
    let mut found: Vec<&str> = Vec::new();
    for line in said.lines() {
        let Some((rule, _)) = line.split_once(": ") else { continue };
        let is_rule = rule.contains('-')
            && rule.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-');
        if is_rule && !found.contains(&rule) {
            found.push(rule);
        }
    }
    found.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let denied = "admission webhook \"named.guard.kubectl-selfhost.dev\" denied the request: \
                      DS-6: spec.template: no version\n  hint: name one\nDS-8: no flag: x\nDS-8: another";
        let failed = "Internal error occurred: failed calling webhook \"named.guard.kubectl-selfhost.dev\": failed to \
                      call webhook: Post \"https://127.0.0.1:9443/validate?timeout=2s\": dial tcp 127.0.0.1:9443: \
                      connect: connection refused";
        let other = "admission webhook \"v.example.org\" denied the request: no";
        for (code, message, expected) in [
            (Some(403), denied, Answer::Enforces("DS-6, DS-8".to_owned())),
            (
                Some(500),
                failed,
                Answer::Fails(
                    "Post \"https://127.0.0.1:9443/validate?timeout=2s\": dial tcp 127.0.0.1:9443: connect: \
                     connection refused"
                        .to_owned(),
                ),
            ),
            (Some(403), other, Answer::DeniedByOther(other.to_owned())),
            (Some(404), "not found", Answer::Unknown("not found".to_owned())),
            (None, "connection refused", Answer::Unknown("connection refused".to_owned())),
        ] {
            assert_eq!(read(code, message), expected);
        }
    }

    #[test]
    fn a_denial_without_a_rule_is_no_verdict() {
        let said = "admission webhook \"named.guard.kubectl-selfhost.dev\" denied the request: the guard has no verdict\nx";
        assert_eq!(read(Some(500), said), Answer::Fails("the guard has no verdict\nx".to_owned()));
    }
}
