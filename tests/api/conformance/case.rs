//! A case: an edit that has to be denied, by the rule that is meant for it, and one beside it that has to be admitted.

use serde_json::{Value, json};

use super::call::{Answer, Call};

/// Both edits.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// The number in the catalogue of bypasses.
    pub(crate) bypass: u8,
    /// What is tried.
    pub(crate) form: String,
    /// Which rule denies it.
    pub(crate) rule: &'static str,
    /// Trying it.
    pub(crate) attack: Call,
    /// What is admitted beside it.
    pub(crate) beside: String,
    /// Doing that.
    pub(crate) good: Call,
    /// What the API server may answer to it besides success, having admitted it.
    pub(crate) after: &'static [u16],
    /// Whether the webhook is not asked, and only the policies deny.
    pub(crate) by_policy: bool,
    /// Whether the guard may have to say that it came to no verdict in time: that denies, too.
    pub(crate) or_late: bool,
}

impl Case {
    /// Admission is over when the API server answers so.
    pub(crate) fn after(mut self, statuses: &'static [u16]) -> Self {
        self.after = statuses;
        self
    }

    /// The webhook is not asked.
    pub(crate) fn by_policy(mut self) -> Self {
        self.by_policy = true;
        self
    }

    /// It may take longer than a review may.
    pub(crate) fn or_late(mut self) -> Self {
        self.or_late = true;
        self
    }

    /// Whether this is the denial that is meant: by the rule, or for want of time where the case may take long.
    pub(crate) fn is_denied(&self, answer: &Answer) -> bool {
        let Some((_, ids)) = denial(answer) else { return false };
        ids.iter().any(|id| id == self.rule)
            || (self.or_late && answer.message().contains("came to no verdict"))
    }

    pub(crate) fn is_admitted(&self, answer: &Answer) -> bool {
        answer.is_good() || (self.after.contains(&answer.status) && denial(answer).is_none())
    }
}

/// What a connection that was admitted ends with: nobody is at the other end of it here.
pub(crate) const NOBODY: &[u16] = &[400, 404, 500, 502, 503];

/// Who denies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    /// A webhook, by the first part of its name.
    Webhook(String),
    /// A policy of the API server's own.
    Policy,
}

/// Who denies, and with which rules.
pub(crate) fn denial(answer: &Answer) -> Option<(Who, Vec<String>)> {
    let message = answer.message();
    let (who, text) = if let Some(rest) = message.split("admission webhook \"").nth(1) {
        let (name, text) = rest.split_once("\" denied the request: ")?;
        (Who::Webhook(name.split('.').next().unwrap_or_default().to_owned()), text)
    } else {
        let rest = message.split("ValidatingAdmissionPolicy '").nth(1)?;
        (Who::Policy, rest.split_once(" denied request: ")?.1)
    };
    // One violation on a line.
    let ids = text.lines().filter_map(|line| {
        let id = line.split_once(": ")?.0;
        let is_id = id.contains('-')
            && id.chars().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit() || it == '-');
        is_id.then(|| id.to_owned())
    });
    Some((who, ids.collect()))
}

/// Cases of one bypass after the other.
#[derive(Debug, Default)]
pub(crate) struct Cases {
    pub(crate) all: Vec<Case>,
    bypass: u8,
}

impl Cases {
    /// What follows is of this bypass.
    pub(crate) fn of(&mut self, bypass: u8) -> &mut Self {
        self.bypass = bypass;
        self
    }

    pub(crate) fn add(
        &mut self,
        form: &str,
        rule: &'static str,
        attack: Call,
        beside: &str,
        good: Call,
    ) -> &mut Self {
        self.all.push(Case {
            bypass: self.bypass,
            form: form.to_owned(),
            rule,
            attack,
            beside: beside.to_owned(),
            good,
            after: &[],
            by_policy: false,
            or_late: false,
        });
        self
    }

    /// Changes the case that was added last.
    pub(crate) fn but(&mut self, change: impl FnOnce(Case) -> Case) -> &mut Self {
        if let Some(last) = self.all.pop() {
            self.all.push(change(last));
        }
        self
    }
}

/// A label more, which is always good.
pub(crate) fn label(path: &str) -> Call {
    Call::merge(path, &json!({"metadata": {"labels": {"example.org/team": "a"}}}))
}

/// An object of the API, from a kind like `apps/v1/Deployment`.
pub(crate) fn object(kind: &str, namespace: &str, name: &str, content: &Value) -> Value {
    let (version, kind) = kind.rsplit_once('/').unwrap_or(("v1", kind));
    let mut object = content.clone();
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind);
    object["metadata"]["name"] = json!(name);
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object
}
