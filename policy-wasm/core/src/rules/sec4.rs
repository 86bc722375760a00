//! SEC-4: each certificate is for what it is used for, and nobody becomes somebody greater.

use super::certificates::{BUNDLES, CLIENTS, before, is_leaf, signs};
use super::{Checked, Reach, Rule};
use crate::component::Component;
use crate::review::facts::Unknown;
use crate::review::material::{File, Written};
use crate::review::usage::server_template;
use crate::review::{Facts, Request, Settings, Severity, Violation};
use crate::x509::{CLIENT_AUTH, Certificate, SERVER_AUTH, certificates};

/// The rule.
pub const RULE: Rule = Rule {
    id: "SEC-4",
    title: "each certificate is for what it is used for, and gives no new power",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "A serving certificate that is for clients alone is refused by every client; one that is an authority can \
          issue others; and one with `O=system:masters` is the whole cluster, for as long as it is valid.",
    evasion: "- `anyExtendedKeyUsage` counts for all purposes, as it does for the components; none at all counts for \
              none.\n\
              - `system:masters` among several organizations: seen. One that the replaced certificate already had stays \
              possible, as kubeadm before 1.29 made it.\n\
              - A front-proxy client under a name that `--requestheader-allowed-names` does not have: denied.",
    blind: "What a group is worth: a certificate of any other group is judged by RBAC alone.",
    check,
};

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    let Some(written) = Written::of(request, settings, facts)? else { return Ok(Vec::new()) };
    let mut violations = Vec::new();
    for file in &written.files {
        let Ok(found) = certificates(&file.new) else { continue };
        let Some(first) = found.first() else { continue };
        if is_leaf(file) {
            violations.extend(leaf(file, first, before(file).first()));
        }
        if file.is_for(&["proxy-client-cert-file"]) {
            violations.extend(front_proxy(file, first, request, facts)?);
        }
        let is_signer = file.uses.iter().any(|it| signs(&it.flag));
        let authorities = if file.is_for(&BUNDLES) { found.as_slice() } else { std::slice::from_ref(first) };
        if file.is_for(&BUNDLES) || is_signer {
            let others = authorities.iter().filter(|it| !it.is_authority());
            violations.extend(others.map(|it| {
                let message = format!("{} is no authority, and would be trusted as one, or refused", it.subject());
                file.violation(message, "issue it with CA:TRUE and keyCertSign")
            }));
        }
    }
    Ok(violations)
}

fn leaf(file: &File, new: &Certificate, old: Option<&Certificate>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (applies, purpose, name) in [
        (file.is_for(&["tls-cert-file"]), SERVER_AUTH, "serverAuth"),
        (file.is_for(&CLIENTS), CLIENT_AUTH, "clientAuth"),
    ] {
        if applies && !new.is_for(purpose) {
            let message = format!("{} is not for {name}", new.subject());
            violations.push(file.violation(message, format!("issue it with the extended key usage {name}")));
        }
    }
    if new.is_authority() {
        let message = format!("{} could issue certificates", new.subject());
        violations.push(file.violation(message, "issue it with CA:FALSE"));
    }
    violations.extend(masters(new, old).map(|message| file.violation(message, "issue it without that organization")));
    violations
}

/// Why a certificate gives more power than the one before.
pub(super) fn masters(new: &Certificate, old: Option<&Certificate>) -> Option<String> {
    let is_one = |it: &Certificate| it.organizations().iter().any(|name| name == "system:masters");
    let message = || format!("{} is in system:masters, whom no authorization stops", new.subject());
    (is_one(new) && !old.is_some_and(is_one)).then(message)
}

fn front_proxy(
    file: &File,
    new: &Certificate,
    request: &Request,
    facts: &Facts,
) -> Result<Option<Violation>, Unknown> {
    let command = server_template(request, facts)?.and_then(|it| it.command(Component::ApiServer)).unwrap_or_default();
    let allowed = command.list("requestheader-allowed-names");
    let name = new.common_name();
    if allowed.is_empty() || allowed.contains(&name.as_str()) {
        return Ok(None);
    }
    let message = format!("{} is not among --requestheader-allowed-names", new.subject());
    Ok(Some(file.violation(message, format!("issue it for CN={}", allowed.join(" or ")))))
}

#[cfg(test)]
mod tests {
    use rcgen::ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    use serde_json::Value;

    use super::*;
    use crate::rules::testing::{pki, put, secrets, table};
    use crate::x509::testing::{Authority, Leaf};

    #[test]
    fn certificates_are_for_what_they_are_used_for() {
        let mut world = secrets();
        let (not_ca, _) = pki().cluster.issue(&Leaf::new("kubernetes"));
        put(world.object_mut("Secret", "kube-system/sa"), "leaf.crt", &not_ca);
        let write = |secret: &str, by: &Authority, leaf: Leaf| {
            let (certificate, key) = by.issue(&leaf);
            world.update("Secret", &format!("kube-system/{secret}"), |it: &mut Value| {
                put(it, "tls.crt", &certificate);
                put(it, "tls.key", &key);
            })
        };
        let server = |leaf| write("apiserver", &pki().cluster, leaf);
        let client = |leaf| write("apiserver-kubelet-client", &pki().cluster, leaf);
        let proxy = |leaf| write("front-proxy-client", &pki().front_proxy, leaf);
        // What an edit of the flags makes of both counts.
        let named = |flags: &[(&str, &str)]| world.edit_flags(Component::ApiServer, flags);
        let other = ("proxy-client-cert-file", "/etc/kubernetes/pki/apiserver-kubelet-client.crt");
        let allowed = ("requestheader-allowed-names", "kube-apiserver-kubelet-client");
        let signs = |file: &str| {
            let path = format!("/etc/kubernetes/pki/{file}");
            world.edit_flags(Component::ControllerManager, &[("cluster-signing-kubelet-client-cert-file", &path)])
        };
        let bundle = format!("{}{not_ca}", pki().cluster.pem());
        let authorities = |secret: &str, more: &str| {
            let pem = format!("{}{more}", pki().front_proxy.pem());
            world.update("Secret", &format!("kube-system/{secret}"), |it: &mut Value| put(it, "tls.crt", &pem))
        };
        table(
            &RULE,
            &world,
            [
                ("a server's", server(Leaf::server()), false),
                ("a server's, for clients", server(Leaf { purposes: vec![ClientAuth], ..Leaf::server() }), true),
                ("a server's, for both", server(Leaf { purposes: vec![ClientAuth, ServerAuth], ..Leaf::server() }), false),
                ("a server's, for all", server(Leaf { purposes: vec![Any], ..Leaf::server() }), false),
                ("a server's, for nothing", server(Leaf { purposes: vec![], ..Leaf::server() }), true),
                ("a server's, as authority", server(Leaf { is_authority: true, ..Leaf::server() }), true),
                ("a client's", client(Leaf::new("kubelet-client")), false),
                ("a client's, for servers", client(Leaf { purposes: vec![ServerAuth], ..Leaf::new("x") }), true),
                ("a master's", client(Leaf { organizations: vec!["system:masters"], ..Leaf::new("x") }), true),
                ("a master's among others", client(Leaf { organizations: vec!["a", "system:masters"], ..Leaf::new("x") }), true),
                ("a front proxy's", proxy(Leaf::new("front-proxy-client")), false),
                ("a front proxy's of another name", proxy(Leaf::new("x")), true),
                ("another one named for it", named(&[other]), true),
                ("another one named for it, whose name is let in", named(&[other, allowed]), false),
                ("a bundle with a leaf", world.update("Secret", "kube-system/ca", |it| put(it, "tls.crt", &bundle)), true),
                ("a bundle of authorities", authorities("ca", &pki().other.pem()), false),
                ("a bundle that signs nothing, with a leaf", authorities("front-proxy-ca", &not_ca), true),
                ("a leaf named to sign with", signs("leaf.crt"), true),
                ("an authority named to sign with", signs("ca.crt"), false),
            ],
        );
    }
}
