//! Verdicts, for people and for programs.

use std::io::{self, Write};

use selfhost_core::review::{Severity, Verdict, Violation};
use serde::Serialize;
use serde_json::Value;

use super::change::Identity;
use crate::render::text::write_wrapped;
use crate::theme::{Theme, Tone};

/// The verdict on one change.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// `UPDATE`
    pub operation: String,
    /// `DaemonSet`
    pub object_kind: String,
    /// Empty for what has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What the rules say.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Change {
    /// The verdict on a request.
    pub fn new(request: &Value, verdict: Verdict) -> Self {
        let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
        let object = if request["object"].is_object() { &request["object"] } else { &request["oldObject"] };
        let id = Identity::of(object);
        let or = |first: String, second: String| if first.is_empty() { second } else { first };
        Self {
            operation: text("operation"),
            object_kind: or(request["kind"]["kind"].as_str().unwrap_or_default().to_owned(), id.kind),
            namespace: or(text("namespace"), id.namespace),
            name: or(id.name, text("name")),
            verdict,
        }
    }

    /// `UPDATE DaemonSet kube-system/d`
    fn subject(&self) -> String {
        let place = if self.namespace.is_empty() { String::new() } else { format!("{}/", self.namespace) };
        let name = if self.name.is_empty() { "(a name to be made up)" } else { &self.name };
        format!("{} {} {place}{name}", self.operation, self.object_kind)
    }

    /// Writes the verdict, each violation with what to do.
    pub fn write(&self, out: &mut dyn Write, theme: &Theme) -> io::Result<()> {
        let (word, tone) =
            if self.verdict.allowed { ("admitted", Tone::Good) } else { ("denied", Tone::Bad) };
        writeln!(out, "{}: {}", self.subject(), theme.paint(tone, word))?;
        let groups = [&self.verdict.violations, &self.verdict.approved, &self.verdict.warnings];
        groups.into_iter().flatten().try_for_each(|violation| write_violation(out, theme, violation))
    }
}

fn write_violation(out: &mut dyn Write, theme: &Theme, violation: &Violation) -> io::Result<()> {
    let tone = if violation.severity == Severity::Warn { Tone::Warn } else { Tone::Bad };
    let place = if violation.path.is_empty() { String::new() } else { format!("{}: ", violation.path) };
    let rule = theme.paint(tone, format!("{:<6}", violation.rule));
    write_wrapped(out, &format!("  {rule}  "), &format!("{place}{}", violation.message))?;
    let approval = if violation.severity == Severity::NeedsApproval { ", or have it approved" } else { "" };
    let hint = theme.hint("hint:");
    write_wrapped(out, &format!("          {hint} "), &format!("{}{approval}", violation.next))
}

#[cfg(test)]
mod tests {
    use selfhost_core::review::Settings;
    use serde_json::json;

    use super::*;
    use crate::guard::change::{self, Asker};
    use crate::guard::facts::Source;

    fn daemonset() -> Value {
        let app = json!({"k8s-app": "self-hosted-kube-scheduler"});
        let container = json!({"name": "kube-scheduler", "image": "registry.k8s.io/kube-scheduler:v1.36.3",
            "command": ["kube-scheduler"]});
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": "self-hosted-kube-scheduler", "namespace": "kube-system", "labels": app},
            "spec": {"selector": {"matchLabels": app}, "updateStrategy": {"type": "OnDelete"},
                "template": {"metadata": {"labels": app}, "spec": {"containers": [container]}}}})
    }

    async fn written(source: &Source, object: &Value, delete: bool) -> String {
        let old = source.now(object).await.unwrap();
        let request = change::request(object, old.as_ref(), delete, &Asker::named(None, &[]));
        let verdict = source.verdict(&request, &Settings::default(), 1_800_000_000).await;
        let mut out = Vec::new();
        Change::new(&request, verdict).write(&mut out, &Theme::plain()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn what_is_denied_is_told_with_what_to_do() {
        let there = Source::Files(vec![daemonset()]);
        let mut rolling = daemonset();
        rolling["spec"]["updateStrategy"] = json!({"type": "RollingUpdate"});
        insta::assert_snapshot!(written(&there, &rolling, false).await);
        insta::assert_snapshot!(written(&Source::Nothing, &daemonset(), true).await);
    }

    #[tokio::test]
    async fn what_no_rule_is_about_is_admitted() {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}});
        assert_eq!(
            written(&Source::Files(vec![]), &map, false).await,
            "CREATE ConfigMap default/a: admitted\n"
        );
    }
}
