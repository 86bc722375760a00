//! Which requests can reach the guard, read from what is registered.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use crate::render::table;
use crate::render::text::write_wrapped;
use crate::theme::Theme;

/// One webhook of a configuration.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Its name.
    pub name: String,
    /// `Fail` or `Ignore`.
    pub failure_policy: String,
    /// How long an API server waits, in seconds.
    pub timeout_seconds: i64,
    /// What is sent.
    pub rules: Vec<Sent>,
    /// What has to be true besides.
    pub conditions: Vec<Condition>,
}

impl Webhook {
    /// Whether what is not answered is denied.
    pub fn fails_closed(&self) -> bool {
        self.failure_policy == "Fail"
    }
}

/// What is done to which resources.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// Empty for the core group.
    pub group: String,
    /// Resources and subresources.
    pub resources: Vec<String>,
    /// `CREATE`
    pub operations: Vec<String>,
}

/// A condition, in CEL.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// What it is about.
    pub name: String,
    /// The expression.
    pub expression: String,
}

/// The webhooks of a `ValidatingWebhookConfiguration`.
pub fn of(configuration: &Value) -> Vec<Webhook> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let texts = |value: &Value| items(value).iter().map(text).collect::<Vec<_>>();
    items(&configuration["webhooks"])
        .iter()
        .map(|webhook| Webhook {
            name: text(&webhook["name"]),
            failure_policy: text(&webhook["failurePolicy"]),
            timeout_seconds: webhook["timeoutSeconds"].as_i64().unwrap_or_default(),
            rules: items(&webhook["rules"])
                .iter()
                .map(|rule| Sent {
                    group: texts(&rule["apiGroups"]).join(","),
                    resources: texts(&rule["resources"]),
                    operations: texts(&rule["operations"]),
                })
                .collect(),
            conditions: items(&webhook["matchConditions"])
                .iter()
                .map(|it| Condition { name: text(&it["name"]), expression: text(&it["expression"]) })
                .collect(),
        })
        .collect()
}

/// Writes them for people; `wide` with the conditions themselves.
pub fn write(out: &mut dyn Write, theme: &Theme, webhooks: &[Webhook], wide: bool) -> io::Result<()> {
    for (index, webhook) in webhooks.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        let unanswered = if webhook.fails_closed() { "is denied" } else { "goes through" };
        writeln!(
            out,
            "{} asks for at most {} s; what is not answered {unanswered}",
            theme.strong(&webhook.name),
            webhook.timeout_seconds
        )?;
        let rows: Vec<Vec<table::Cell>> = webhook
            .rules
            .iter()
            .flat_map(|rule| {
                let operations = rule.operations.join(",");
                rule.resources.iter().map(move |resource| {
                    let group = if rule.group.is_empty() { "core" } else { &rule.group };
                    vec![group.to_owned().into(), resource.clone().into(), operations.clone().into()]
                })
            })
            .collect();
        table::write(out, theme, &["GROUP", "RESOURCE", "OPERATIONS"], &rows)?;
        if wide {
            writeln!(out, "of these only what fits every condition:")?;
            for condition in &webhook.conditions {
                write_wrapped(out, &format!("  {}: ", condition.name), &condition.expression)?;
            }
        } else {
            let names: Vec<&str> = webhook.conditions.iter().map(|it| it.name.as_str()).collect();
            write_wrapped(out, "of these only what fits the conditions: ", &names.join(", "))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use selfhost_core::registration::{self, Registration};
    use selfhost_core::review::settings::Guard;

    use super::*;

    #[test]
    fn what_is_registered_is_told() {
        let secrets = BTreeSet::from(["kube-system/ca".to_owned()]);
        let guard = Guard::default();
        let registration = Registration {
            url: "https://127.0.0.1:9443/validate",
            ca_bundle: "cGVt",
            fail: true,
            wide: false,
            secrets: &secrets,
            config_maps: &BTreeSet::new(),
            guard: &guard,
        };
        let mut webhooks = of(&registration::webhook(&registration));
        webhooks.extend(of(&registration::static_manifest(&registration)));
        let mut out = Vec::new();
        write(&mut out, &Theme::plain(), &webhooks, false).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}
