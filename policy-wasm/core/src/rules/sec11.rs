//! SEC-11: no token of an identity that the rules trust.

use super::{Checked, Reach, Rule};
use crate::labels;
use crate::review::object::{at, text};
use crate::review::settings::Identity;
use crate::review::{Facts, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "SEC-11",
    title: "no token is made of a ServiceAccount that the rules trust",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Wide,
    why: "CR-1, DS-2, PO-4 and others leave some writes to a controller. Whoever gets a token of that controller's \
          ServiceAccount passes them all.",
    evasion: "- A Secret of type `kubernetes.io/service-account-token` with the account's name, which the token \
              controller fills: denied.\n\
              - `serviceaccounts/token`: left to the controller manager, and to a kubelet for a Pod of its own, to which \
              the token is bound.\n\
              - A Pod that runs as the account: denied, except where the guard itself runs.",
    blind: "Tokens that were made before, and whoever has the signing key.",
    check,
};

fn check(request: &Request, settings: &Settings, _: &Facts) -> Checked {
    let account = if request.is("", "secrets") && request.writes() {
        if text(&request.object, "type") != "kubernetes.io/service-account-token" {
            return Ok(Vec::new());
        }
        let annotations = request.new_object().map(crate::review::Object::annotations).unwrap_or_default();
        annotations.get("kubernetes.io/service-account.name").copied().unwrap_or_default()
    } else if request.is_sub("serviceaccounts", &["token"]) {
        let bound = at(&request.object, &["spec", "boundObjectRef"]);
        let by_kubelet = request.user.kubelet_of().is_some() && text(bound, "kind") == "Pod";
        if by_kubelet || settings.is(&request.user, Identity::ControllerManager) {
            return Ok(Vec::new());
        }
        request.name()
    } else if request.operation == Operation::Create
        && let Some((pod, _)) = crate::review::pod::pods_of(request)
    {
        if request.namespace() == settings.guard.namespace {
            return Ok(Vec::new());
        }
        text(pod.spec(), "serviceAccountName")
    } else {
        return Ok(Vec::new());
    };
    let key = format!("{}/{account}", request.namespace());
    if !settings.trusted_accounts().contains(&key) {
        return Ok(Vec::new());
    }
    let next = if request.namespace() == labels::NAMESPACE {
        "use a ServiceAccount of your own; the controllers get their tokens from the controller manager"
    } else {
        "use a ServiceAccount of your own"
    };
    Ok(vec![Violation::new("", format!("it would act as {key}, whom the guard trusts"), next)])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::testing::{World, create, table};

    #[test]
    fn nobody_becomes_a_controller() {
        let world = World::new();
        let secret = |namespace: &str, account: &str| {
            create(&json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
                "metadata": {"name": "x", "namespace": namespace,
                    "annotations": {"kubernetes.io/service-account.name": account}}}))
        };
        let token = |account: &str, user: &str, groups: Value, bound: Value| {
            let mut request = create(&json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                "metadata": {"namespace": "kube-system"}, "spec": {"boundObjectRef": bound}}));
            request["resource"] = json!({"group": "", "version": "v1", "resource": "serviceaccounts"});
            request["subResource"] = json!("token");
            request["name"] = json!(account);
            request["userInfo"] = json!({"username": user, "groups": groups});
            request
        };
        let pod = |namespace: &str, account: &str| {
            create(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": namespace},
                "spec": {"serviceAccountName": account, "containers": []}}))
        };
        let controller = "daemon-set-controller";
        let nodes = json!(["system:nodes"]);
        table(
            &RULE,
            &world,
            [
                ("a Secret", secret("kube-system", controller), true),
                ("a Secret of another", secret("kube-system", "coredns"), false),
                ("a Secret elsewhere", secret("default", controller), false),
                ("the guard's own", secret("selfhost-guard", "selfhost-guard"), true),
                ("a token", token(controller, "ann", json!([]), json!(null)), true),
                ("a token of another", token("coredns", "ann", json!([]), json!(null)), false),
                ("by the controller manager", token(controller, "system:kube-controller-manager", json!([]), json!(null)), false),
                ("by a kubelet, for a Pod", token(controller, "system:node:cp1", nodes.clone(), json!({"kind": "Pod"})), false),
                ("by a kubelet", token(controller, "system:node:cp1", nodes, json!(null)), true),
                ("by a kubelet's name", token(controller, "system:node:cp1", json!([]), json!({"kind": "Pod"})), true),
                ("a Pod", pod("kube-system", controller), true),
                ("a Pod of another", pod("kube-system", "coredns"), false),
                ("the guard's own Pod", pod("selfhost-guard", "selfhost-guard"), false),
            ],
        );
        for (request, expected) in
            [(secret("kube-system", controller), true), (secret("selfhost-guard", "selfhost-guard"), false)]
        {
            let message = world.verdict(&request).message();
            assert_eq!(message.contains("from the controller manager"), expected, "{message}");
        }
    }
}
