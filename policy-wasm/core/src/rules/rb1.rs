//! RB-1: the roles that the control plane works with stay.

use super::{Checked, Reach, Rule};
use crate::review::object::at;
use crate::review::settings::Identity;
use crate::review::{Facts, Object, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "RB-1",
    title: "the roles and bindings that the control plane works with are not changed or deleted",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Wide,
    why: "`kubectl delete clusterrolebinding --all` has cost a company fourteen hours. The API server makes them again, but \
          only when it starts, and until then no controller may do its work.",
    evasion: "- By name and by the label `kubernetes.io/bootstrapping`: either tells, so that removing the label first does \
              not help.\n- The annotation `autoupdate: \"false\"`, which keeps the API server from repairing: denied with \
              every other change.",
    blind: "",
    check,
};

const GROUP: &str = "rbac.authorization.k8s.io";

/// The label of what the API server makes when it starts.
pub(crate) const BOOTSTRAPPING: &str = "kubernetes.io/bootstrapping";

/// What the names of the roles and bindings begin with.
pub(crate) const PREFIXES: [&str; 8] = [
    "system:kube-",
    "system:node",
    "system:controller:",
    "system:discovery",
    "system:basic-user",
    "system:public-info-viewer",
    "system:volume-scheduler",
    "kubeadm:",
];

/// Roles that grow by aggregation, which their controller writes, and which are made for users.
const FOR_USERS: [&str; 3] = ["admin", "edit", "view"];

fn check(request: &Request, settings: &Settings, _: &Facts) -> Checked {
    let resource = request.resource.resource.as_str();
    let is_role = matches!(resource, "clusterroles" | "roles");
    if request.resource.group != GROUP
        || !(is_role || matches!(resource, "clusterrolebindings" | "rolebindings"))
        || request.operation == Operation::Create
        || settings.is(&request.user, Identity::ApiServer)
    {
        return Ok(Vec::new());
    }
    let Some(old) = request.old() else { return Ok(Vec::new()) };
    let name = old.name_of();
    let is_bootstrapped = old.labels().get(BOOTSTRAPPING) == Some(&"rbac-defaults");
    let is_ours = name == "cluster-admin"
        || PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix));
    if FOR_USERS.contains(&name) || !(is_ours || is_bootstrapped) {
        return Ok(Vec::new());
    }
    if settings.is(&request.user, Identity::ClusterRoleAggregation) && is_role {
        return Ok(Vec::new());
    }
    let content = ["rules", "subjects", "roleRef", "aggregationRule"];
    let changed = request.operation == Operation::Delete
        || content.iter().any(|field| at(&request.object, &[*field]) != at(&request.old_object, &[*field]))
        || request.new_object().map(Object::annotations) != request.old().map(Object::annotations);
    if !changed {
        return Ok(Vec::new());
    }
    let next = "give what is missing by a role and a binding of your own";
    Ok(vec![Violation::new("", format!("{name} is what the control plane works with"), next)])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::testing::{World, create, review, table};

    #[test]
    fn roles_stay() {
        let mut world = World::new();
        for (kind, name, label) in [
            ("ClusterRole", "system:kube-scheduler", "rbac-defaults"),
            ("ClusterRoleBinding", "cluster-admin", ""),
            ("ClusterRole", "view", "rbac-defaults"),
            ("ClusterRole", "mine", ""),
            ("ClusterRole", "system:other", "rbac-defaults"),
        ] {
            world.objects.push(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "rules": [],
                "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": label}}}));
        }
        let delete = |kind: &str, name: &str| world.delete("rbac.authorization.k8s.io/v1", kind, name);
        let edit = |name: &str, change: fn(&mut Value)| world.update("ClusterRole", name, change);
        let mut repaired = edit("system:kube-scheduler", |it| it["rules"] = json!([{"verbs": ["get"]}]));
        repaired["userInfo"]["username"] = json!("system:apiserver");
        let mut other = world.object("ClusterRole", "system:kube-scheduler").clone();
        other["kind"] = json!("Other");
        table(
            &RULE,
            &world,
            [
                ("deleted", delete("ClusterRole", "system:kube-scheduler"), true),
                ("deleted by its name", delete("ClusterRoleBinding", "cluster-admin"), true),
                ("deleted by its label", delete("ClusterRole", "system:other"), true),
                ("another deleted", delete("ClusterRole", "mine"), false),
                ("changed", edit("system:kube-scheduler", |it| it["rules"] = json!([{"verbs": ["get"]}])), true),
                ("kept from repair", edit("system:kube-scheduler", |it| {
                    it["metadata"]["annotations"] = json!({"rbac.authorization.kubernetes.io/autoupdate": "false"});
                }), true),
                ("labelled", edit("system:kube-scheduler", |it| it["metadata"]["labels"]["x"] = json!("y")), false),
                ("repaired", repaired, false),
                ("a user's role", edit("view", |it| it["rules"] = json!([{"verbs": ["get"]}])), false),
                ("of another group", world.delete("example.org/v1", "ClusterRole", "system:kube-scheduler"), false),
                ("another kind of the group", review("DELETE", "rbac.authorization.k8s.io/v1", "Other", None, Some(&other)), false),
                ("made", create(world.object("ClusterRole", "mine")), false),
            ],
        );
    }
}
