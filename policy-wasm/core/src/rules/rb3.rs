//! RB-3: nothing is given to everybody.

use super::{Checked, Reach, Rule};
use crate::review::object::{list, text};
use crate::review::settings::Identity;
use crate::review::{Facts, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "RB-3",
    title: "no role is bound to everybody, to anonymous users, or to system:masters",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Wide,
    why: "A right of `system:authenticated` is one of every ServiceAccount and every certificate; one of \
          `system:unauthenticated` is everybody's who reaches the port.",
    evasion: "- As a user (`system:anonymous`) or as a group: both.\n- `system:serviceaccounts`, which is every Pod: too.",
    blind: "",
    check,
};

/// Whom nobody knows.
pub(crate) const EVERYBODY: [&str; 5] =
    ["system:masters", "system:authenticated", "system:unauthenticated", "system:serviceaccounts", ANONYMOUS];

/// The one user among them; the others are groups.
const ANONYMOUS: &str = "system:anonymous";

fn check(request: &Request, settings: &Settings, _: &Facts) -> Checked {
    let binds = matches!(request.resource.resource.as_str(), "clusterrolebindings" | "rolebindings")
        && request.resource.group == "rbac.authorization.k8s.io";
    if !binds || !request.writes() || settings.is(&request.user, Identity::ApiServer) {
        return Ok(Vec::new());
    }
    let known = list(&request.old_object, "subjects");
    let everybody = |it: &&serde_json::Value| {
        let name = text(it, "name");
        match text(it, "kind") {
            "Group" => EVERYBODY.contains(&name) && name != ANONYMOUS,
            "User" => name == ANONYMOUS,
            _ => false,
        }
    };
    let added = list(&request.object, "subjects").iter().filter(|it| !known.contains(it) || request.changes(&["roleRef"]));
    let violations = added.filter(everybody).map(|it| {
        Violation::new("subjects", format!("{} is not one you know", text(it, "name")), "name the users or groups that you mean")
    });
    Ok(violations.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{World, create, table};

    #[test]
    fn nothing_is_everybodys() {
        let bind = |kind: &str, name: &str| {
            create(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": {"name": "x"}, "roleRef": {"kind": "ClusterRole", "name": "view"},
                "subjects": [{"kind": "User", "name": "bob"}, {"kind": kind, "name": name}]}))
        };
        let mut own = bind("Group", "system:authenticated");
        own["userInfo"]["username"] = json!("system:apiserver");
        let mut world = World::new();
        world.objects.push(bind("Group", "system:authenticated")["object"].clone());
        let edit = |change: fn(&mut serde_json::Value)| world.update("ClusterRoleBinding", "x", change);
        table(
            &RULE,
            &world,
            [
                ("a group", bind("Group", "admins"), false),
                ("what is no binding", create(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                    "metadata": {"name": "x"}, "subjects": [{"kind": "Group", "name": "system:masters"}]})), false),
                ("of another group", create(&json!({"apiVersion": "example.org/v1", "kind": "RoleBinding",
                    "metadata": {"name": "x"}, "subjects": [{"kind": "Group", "name": "system:masters"}]})), false),
                ("everybody", bind("Group", "system:authenticated"), true),
                ("anybody", bind("User", "system:anonymous"), true),
                ("every Pod", bind("Group", "system:serviceaccounts"), true),
                ("masters", bind("Group", "system:masters"), true),
                ("a user of a group's name", bind("User", "system:authenticated"), false),
                ("the API server's own", own, false),
                ("everybody, as it is", edit(|it| it["metadata"]["labels"] = json!({"x": "y"})), false),
                ("anybody in addition", edit(|it| it["subjects"][0]["name"] = json!("system:anonymous")), true),
                ("everybody, and more", edit(|it| it["roleRef"]["name"] = json!("edit")), true),
            ],
        );
    }
}
