//! AR-4: the API's own groups are served by the API server.

use super::{Checked, Reach, Rule};
use crate::review::object::{flag, is_empty, text};
use crate::review::settings::Identity;
use crate::review::{Facts, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "AR-4",
    title: "the API's own groups are served by the API server itself, and none without TLS",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Wide,
    why: "An APIService can hand a whole group, `apps` for one, to another server: no admission of ours is asked then, and \
          that server sees every object and every user.",
    evasion: "- A group with another version of its own (`v9.apps`): denied.\n- Another server behind an APIService that is \
              there: denied.\n- `insecureSkipTLSVerify`: denied for any group.",
    blind: "",
    check,
};

fn check(request: &Request, settings: &Settings, _: &Facts) -> Checked {
    if !request.is("apiregistration.k8s.io", "apiservices") || settings.is(&request.user, Identity::ApiServer) {
        return Ok(Vec::new());
    }
    let value = if request.operation == Operation::Delete { &request.old_object } else { &request.object };
    let spec = &value["spec"];
    let group = text(spec, "group");
    let is_own = is_own(group);
    let is_local = is_empty(&spec["service"]);
    let mut violations = Vec::new();
    if request.operation == Operation::Delete {
        if is_own && is_local {
            violations.push(Violation::new("", "the API server serves this group itself", "leave it"));
        }
        return Ok(violations);
    }
    if !request.changes(&["spec"]) {
        return Ok(violations);
    }
    if is_own && !is_local {
        let message = format!("the group {group:?} would be served by somebody else");
        violations.push(Violation::new("spec.service", message, "choose a group of your own"));
    }
    if flag(spec, "insecureSkipTLSVerify") {
        let message = "anybody in between could serve the group";
        violations.push(Violation::new("spec.insecureSkipTLSVerify", message, "set caBundle"));
    }
    Ok(violations)
}

/// Whether the API server has the group compiled in. Metrics are others' to serve.
fn is_own(group: &str) -> bool {
    let others = ["metrics.k8s.io", "custom.metrics.k8s.io", "external.metrics.k8s.io"];
    matches!(group, "" | "apps" | "autoscaling" | "batch" | "extensions" | "policy")
        || (!others.contains(&group) && group.strip_suffix(".k8s.io").is_some_and(|name| !name.contains('.')))
        || group == "rbac.authorization.k8s.io"
        || group == "flowcontrol.apiserver.k8s.io"
        || group == "internal.apiserver.k8s.io"
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::testing::{World, create, table};

    #[test]
    fn groups_are_the_servers_own() {
        let make = |group: &str, service: Value, insecure: bool| {
            create(&json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": {"name": format!("v1.{group}")}, "spec": {"group": group, "version": "v1",
                "service": service, "insecureSkipTLSVerify": insecure}}))
        };
        let other = || json!({"name": "x", "namespace": "default"});
        let mut world = World::new();
        world.objects.push(json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": "v1.apps"}, "spec": {"group": "apps", "version": "v1"}}));
        for (name, spec) in [
            ("v1.example.org", json!({"group": "example.org", "version": "v1"})),
            ("v1beta1.apps", json!({"group": "apps", "version": "v1beta1", "service": other()})),
        ] {
            world.objects.push(json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": {"name": name}, "spec": spec}));
        }
        let mut own = world.update("APIService", "v1.apps", |it| it["spec"]["versionPriority"] = json!(1));
        own["userInfo"]["username"] = json!("system:apiserver");
        let mut retired = world.delete("apiregistration.k8s.io/v1", "APIService", "v1.apps");
        retired["userInfo"]["username"] = json!("system:apiserver");
        table(
            &RULE,
            &world,
            [
                ("metrics", make("metrics.k8s.io", other(), false), false),
                ("metrics, insecure", make("metrics.k8s.io", other(), true), true),
                ("apps", make("apps", other(), false), true),
                ("the core group", make("", other(), false), true),
                ("admission", make("admissionregistration.k8s.io", other(), false), true),
                ("roles", make("rbac.authorization.k8s.io", other(), false), true),
                ("flow control", make("flowcontrol.apiserver.k8s.io", other(), false), true),
                ("its own state", make("internal.apiserver.k8s.io", other(), false), true),
                ("one's own", make("example.org", other(), false), false),
                ("apps handed over", world.update("APIService", "v1.apps", |it| it["spec"]["service"] = json!({"name": "x"})), true),
                ("apps deleted", world.delete("apiregistration.k8s.io/v1", "APIService", "v1.apps"), true),
                ("apps, by the API server", own, false),
                ("apps deleted, by the API server", retired, false),
                ("a definition's own deleted", world.delete("apiregistration.k8s.io/v1", "APIService", "v1.example.org"), false),
                ("apps of others deleted", world.delete("apiregistration.k8s.io/v1", "APIService", "v1beta1.apps"), false),
            ],
        );
    }
}
