//! RB-5: nobody gets a certificate that makes them the control plane.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Checked, Reach, Rule};
use crate::review::object::{at, list, text};
use crate::review::settings::Identity;
use crate::review::{Facts, Operation, Request, Settings, Severity, Violation};
use crate::x509::requested;

/// The rule.
pub const RULE: Rule = Rule {
    id: "RB-5",
    title: "certificates of the cluster's own authority are approved by its controllers, and none for system:masters",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Wide,
    why: "A certificate is valid until it lapses, whatever RBAC says later. One that names `system:kube-controller-manager`, \
          `system:apiserver`, a node or `system:masters` is that, for as long.",
    evasion: "- The request is looked at, not what its name says.\n- Through `certificatesigningrequests/approval` and \
              `/status`: both.",
    blind: "Certificates that are issued beside the API, with the authority's key.",
    check,
};

fn check(request: &Request, settings: &Settings, _: &Facts) -> Checked {
    if !request.is_any("certificates.k8s.io", "certificatesigningrequests") || request.operation == Operation::Delete {
        return Ok(Vec::new());
    }
    let spec = &request.object["spec"];
    let pem = STANDARD.decode(text(spec, "request")).unwrap_or_default();
    let asked = requested(&pem);
    let mut violations = Vec::new();
    let masters = asked.as_ref().is_some_and(|(_, groups)| groups.iter().any(|group| group == "system:masters"));
    if masters {
        let message = "it asks for system:masters, whom no authorization stops";
        violations.push(Violation::new("spec.request", message, "ask for a group that RBAC gives what you need"));
    }
    let conditions = |value| list(at(value, &["status"]), "conditions").iter().filter(|it| text(it, "type") == "Approved").count();
    let approves = conditions(&request.object) > conditions(&request.old_object);
    let issues = !text(&request.object["status"], "certificate").is_empty()
        && at(&request.object, &["status", "certificate"]) != at(&request.old_object, &["status", "certificate"]);
    let by_controller = settings.is_any(&request.user, &[Identity::CertificateController, Identity::ControllerManager]);
    if !(approves || issues) || by_controller {
        return Ok(violations);
    }
    let signer = text(spec, "signerName");
    let name = asked.map(|(name, _)| name);
    let is_system = name.as_ref().is_none_or(|name| name.starts_with("system:"));
    if signer.starts_with("kubernetes.io/") && (is_system || signer != "kubernetes.io/kube-apiserver-client") {
        let who = name.unwrap_or_else(|| "somebody who cannot be read".to_owned());
        violations.push(Violation::new(
            "status",
            format!("it makes a certificate of {signer} for {who}"),
            "let the controllers approve what nodes ask for",
        ));
    }
    Ok(violations)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::testing::{World, create, table, update};

    fn request(name: &str, group: &str, signer: &str) -> Value {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "x"},
            "spec": {"signerName": signer, "request": STANDARD.encode(pem)}})
    }

    #[test]
    fn nobody_becomes_the_control_plane() {
        let approve = |user: &str, old: Value| {
            let mut new = old.clone();
            new["status"] = json!({"conditions": [{"type": "Approved", "status": "True"}]});
            let mut request = update(&new, &old);
            request["subResource"] = json!("approval");
            request["userInfo"]["username"] = json!(user);
            request
        };
        let client = "kubernetes.io/kube-apiserver-client";
        let kubelet = "kubernetes.io/kube-apiserver-client-kubelet";
        let controller = "system:serviceaccount:kube-system:certificate-controller";
        let mut unreadable = request("bob", "dev", client);
        unreadable["spec"]["request"] = json!("AAAA");
        let mut elsewhere = create(&request("bob", "system:masters", client));
        elsewhere["resource"]["group"] = json!("example.org");
        let issue = |before: &str| {
            let mut old = request("system:node:w", "system:nodes", kubelet);
            let mut new = old.clone();
            old["status"] = json!({"certificate": before});
            new["status"] = json!({"certificate": "AAAA"});
            update(&new, &old)
        };
        table(
            &RULE,
            &World::new(),
            [
                ("of another group", elsewhere, false),
                ("a node's, issued by hand", issue(""), true),
                ("a node's, issued before", issue("AAAA"), false),
                ("asked by a user", create(&request("bob", "dev", client)), false),
                ("asked by a master", create(&request("bob", "system:masters", client)), true),
                ("a user's, approved", approve("ann", request("bob", "dev", client)), false),
                ("a controller's, approved", approve("ann", request("system:kube-controller-manager", "x", client)), true),
                ("a node's, approved by hand", approve("ann", request("system:node:w", "system:nodes", kubelet)), true),
                ("a node's, approved by its controller", approve(controller, request("system:node:w", "system:nodes", kubelet)), false),
                ("a master's, approved by its controller", approve(controller, request("bob", "system:masters", client)), true),
                ("of another signer", approve("ann", request("system:x", "x", "example.org/mine")), false),
                ("one that cannot be read", approve("ann", unreadable), true),
            ],
        );
    }
}
