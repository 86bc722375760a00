//! What the rules say of a review.

use serde::Serialize;

use super::settings::Severity;

/// One thing that a rule has against a review.
///
/// Invariant: no text of it quotes a value out of a Secret; what must be told apart is told by fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The rule, `DS-8`. [`crate::rules::Judgement`] fills it in.
    pub rule: &'static str,
    /// How much it matters here.
    pub severity: Severity,
    /// Where: `spec.template.spec.containers[0].command`.
    pub path: String,
    /// What is the matter, in a lower-case fragment.
    pub message: String,
    /// What to do instead.
    pub next: String,
}

impl Violation {
    /// A violation of the rule that is being checked.
    pub fn new(path: impl Into<String>, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            rule: "",
            severity: Severity::Deny,
            path: path.into(),
            message: message.into(),
            next: next.into(),
        }
    }
}

/// The verdict on a review.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Whether the request may go on.
    pub allowed: bool,
    /// Why not; empty where it may.
    pub violations: Vec<Violation>,
    /// What is told to whoever asked, without stopping them.
    pub warnings: Vec<Violation>,
    /// What would have been a reason, and was approved.
    pub approved: Vec<Violation>,
    /// By whom, and why: for the audit log.
    pub approvals: Vec<String>,
}

/// The longest warning that clients are sure to show (`k8s.io/apimachinery` cuts what is longer).
const WARNING: usize = 256;

impl Verdict {
    /// A verdict that nothing speaks against.
    pub fn allow() -> Self {
        Self { allowed: true, ..Self::default() }
    }

    /// The text for whoever asked: each reason on a line, with what to do.
    pub fn message(&self) -> String {
        let lines = self.violations.iter().map(|it| {
            let path = if it.path.is_empty() { String::new() } else { format!("{}: ", it.path) };
            let approval = match it.severity {
                Severity::NeedsApproval => ", or have it approved",
                _ => "",
            };
            format!("{}: {path}{}\n  hint: {}{approval}", it.rule, it.message, it.next)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The warnings as HTTP headers can carry them.
    pub fn warning_texts(&self) -> Vec<String> {
        let text = |it: &Violation| {
            let text = format!("{}: {}; {}", it.rule, it.message, it.next);
            text.chars()
                .map(|c| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' })
                .take(WARNING)
                .collect()
        };
        self.warnings.iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_to_do() {
        let violation = |severity| Violation {
            rule: "DS-1",
            severity,
            path: "spec".into(),
            message: "it runs on 3 nodes".into(),
            next: "unpivot first".into(),
        };
        let denied = Verdict { violations: vec![violation(Severity::Deny)], ..Verdict::default() };
        assert_eq!(denied.message(), "DS-1: spec: it runs on 3 nodes\n  hint: unpivot first");
        let open = Verdict { violations: vec![violation(Severity::NeedsApproval)], ..Verdict::default() };
        assert!(open.message().ends_with("unpivot first, or have it approved"));
    }

    #[test]
    fn warnings_fit_into_headers() {
        let mut warning = Violation::new("", "ä\n".repeat(300), "x");
        warning.rule = "DS-1";
        let texts = Verdict { warnings: vec![warning], ..Verdict::allow() }.warning_texts();
        assert_eq!(texts[0].len(), WARNING);
        assert!(texts[0].is_ascii() && !texts[0].contains('\n'));
    }
}
