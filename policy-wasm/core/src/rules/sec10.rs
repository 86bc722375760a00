//! SEC-10: credentials are written by those who are named.

use super::{Checked, Reach, Rule};
use crate::review::usage::guarded_store;
use crate::review::{Facts, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "SEC-10",
    title: "guarded Secrets and ConfigMaps are written by those whom the settings name",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Named,
    why: "RBAC gives the right to write Secrets by namespace, and in `kube-system` many have it. `writers` says who is \
          meant. While it is empty the rule says nothing.",
    evasion: "- A token of a writer's ServiceAccount: SEC-11 keeps it from being made.",
    blind: "Who really asks, where somebody impersonates a writer: a review names the impersonated user alone. \
            Grant `impersonate` to nobody (RB-2).",
    check,
};

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    let is_named = settings.writers.is_empty() || settings.writers.contains(&request.user.username);
    if is_named || guarded_store(request, settings, facts)?.is_none() {
        return Ok(Vec::new());
    }
    let message = format!("{} is not among those who write it", request.user.username);
    Ok(vec![Violation::new("", message, "let a writer do it, or add the user to writers in the settings")])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{create, secrets, table};

    #[test]
    fn writers_are_named() {
        let anybody = secrets();
        let edit = || anybody.update("Secret", "kube-system/ca", |it| it["metadata"]["labels"] = json!({"x": "y"}));
        table(&RULE, &anybody, [("nobody is named", edit(), false)]);
        let mut named = secrets();
        named.settings.writers.insert("system:serviceaccount:rotation:rotator".into());
        let by = |user: &str| {
            let mut request = edit();
            request["userInfo"]["username"] = json!(user);
            request
        };
        let other = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "kube-system"}});
        table(
            &RULE,
            &named,
            [
                ("the one", by("system:serviceaccount:rotation:rotator"), false),
                ("a name alike", by("system:serviceaccount:rotation:rotator2"), true),
                ("somebody", by("ann"), true),
                ("somebody, another Secret", create(&other), false),
            ],
        );
    }
}
