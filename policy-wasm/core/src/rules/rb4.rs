//! RB-4: the identities that the rules trust stay.

use super::{Checked, Reach, Rule};
use crate::review::{Facts, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "RB-4",
    title: "a ServiceAccount that the rules trust is not deleted",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Wide,
    why: "With the ServiceAccount go the tokens of its controller, which stops until it notices; with the guard's own, the \
          guard is blind.",
    evasion: "- `deletecollection` in the namespace: judged by the object.",
    blind: "",
    check,
};

fn check(request: &Request, settings: &Settings, _: &Facts) -> Checked {
    let is_trusted = request.is("", "serviceaccounts")
        && request.operation == Operation::Delete
        && settings.trusted_accounts().contains(&request.key());
    let violation = || Violation::new("", format!("{} is one that the guard trusts", request.key()), "leave it");
    Ok(is_trusted.then(violation).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{World, review, table};

    #[test]
    fn accounts_stay() {
        let delete = |namespace: &str, name: &str| {
            let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {"name": name, "namespace": namespace}});
            let mut request = review("DELETE", "v1", "ServiceAccount", None, Some(&account));
            request["name"] = json!("");
            request
        };
        table(
            &RULE,
            &World::new(),
            [
                ("a controller's", delete("kube-system", "daemon-set-controller"), true),
                ("the guard's", delete("selfhost-guard", "selfhost-guard"), true),
                ("another", delete("kube-system", "coredns"), false),
                ("of its name elsewhere", delete("default", "daemon-set-controller"), false),
            ],
        );
    }
}
