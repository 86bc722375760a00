//! SEC-9: a component's kubeconfig leads to the cluster, as that component.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::certificates::{KUBECONFIGS, trusted_by};
use super::{Checked, Reach, Rule};
use crate::component::Component;
use crate::review::material::{File, Written, yaml};
use crate::review::object::{flag, is_empty, list, text};
use crate::review::{Facts, Request, Settings, Severity, Violation};
use crate::x509::{CLIENT_AUTH, certificates, from_private, is_issued_by_any};

/// The rule.
pub const RULE: Rule = Rule {
    id: "SEC-9",
    title: "a component's kubeconfig leads to this cluster, over TLS, as that component",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "Whoever chooses the server that a controller manager talks to gets its credentials, and its obedience. \
          Whoever chooses the user decides what it may do.",
    evasion: "- Another current context, a second user or cluster of the same name: the ones that client-go would take \
              are looked at, and names that occur twice are denied.\n\
              - `insecure-skip-tls-verify`, `exec`, `auth-provider`, `tokenFile`, a proxy, files outside of \
              `/etc/kubernetes`: denied.",
    blind: "Whether the server's address is one of this cluster's: it may be a load balancer. A change of it is denied, \
            and wants an exemption.",
    check,
};

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    let Some(written) = Written::of(request, settings, facts)? else { return Ok(Vec::new()) };
    let mut violations = Vec::new();
    for file in written.files.iter().filter(|file| file.is_for(&KUBECONFIGS)) {
        let next = "write a kubeconfig of one cluster, one user and one context";
        let new = match yaml(&file.new).and_then(|value| Config::of(&value)) {
            Ok(new) => new,
            Err(message) => {
                violations.push(file.violation(message, next));
                continue;
            }
        };
        let old = file.old.as_deref().and_then(|old| yaml(old).ok()).and_then(|value| Config::of(&value).ok());
        violations.extend(connection(file, &new, old.as_ref()));
        for used in &file.uses {
            violations.extend(identity(file, &new, used.component, facts)?);
            let Some((component, flag)) = trusted_by(used.component, &used.flag) else { continue };
            let Some(bundle) = written.file_of(component, flag, facts)? else { continue };
            let shown = bytes(&new.user, "client-certificate-data").and_then(|pem| certificates(&pem).ok());
            if let (Some(chain), Ok(bundle)) = (shown.filter(|it| !it.is_empty()), certificates(&bundle))
                && !chain.iter().any(|it| is_issued_by_any(it, &bundle))
            {
                let message = format!("its certificate is of no authority in {component}'s --{flag}");
                violations.push(file.violation(message, "add the authority there first"));
            }
        }
    }
    violations.dedup();
    Ok(violations)
}

/// The cluster and the user of the current context.
struct Config {
    cluster: Value,
    user: Value,
}

impl Config {
    fn of(value: &Value) -> Result<Self, String> {
        let context = named(value, "contexts", "context", text(value, "current-context"))?;
        Ok(Self {
            cluster: named(value, "clusters", "cluster", text(&context, "cluster"))?,
            user: named(value, "users", "user", text(&context, "user"))?,
        })
    }

}

/// The bytes under a `-data` field; `None` where there are none.
fn bytes(of: &Value, field: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text(of, field)).ok().filter(|bytes| !bytes.is_empty())
}

/// The one entry of this name.
fn named(value: &Value, kinds: &str, kind: &str, name: &str) -> Result<Value, String> {
    let mut found = list(value, kinds).iter().filter(|entry| text(entry, "name") == name);
    match (found.next(), found.next()) {
        (Some(entry), None) if entry[kind].is_object() => Ok(entry[kind].clone()),
        (Some(_), Some(_)) => Err(format!("two {kinds} have one name")),
        _ => Err(format!("the {kind} of the current context is not there")),
    }
}

fn connection(file: &File, new: &Config, old: Option<&Config>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut add = |message: String, next: &str| violations.push(file.violation(message, next));
    let server = text(&new.cluster, "server");
    if !server.starts_with("https://") {
        add("its server is not asked over TLS".into(), "write https://");
    }
    if let Some(before) = old.map(|old| text(&old.cluster, "server")).filter(|before| *before != server) {
        add(format!("it would ask another server than {before}"), "keep the server");
    }
    if flag(&new.cluster, "insecure-skip-tls-verify") {
        add("it would trust any server".into(), "remove insecure-skip-tls-verify");
    }
    for field in ["proxy-url", "tls-server-name"] {
        if !is_empty(&new.cluster[field]) && old.is_none_or(|old| old.cluster[field] != new.cluster[field]) {
            add(format!("{field} leads somewhere else"), "remove it");
        }
    }
    for field in ["exec", "auth-provider", "tokenFile", "username", "password", "as", "as-groups"] {
        if !is_empty(&new.user[field]) {
            add(format!("{field} decides who it is"), "use a client certificate");
        }
    }
    for (of, field) in [
        (&new.cluster, "certificate-authority"),
        (&new.user, "client-certificate"),
        (&new.user, "client-key"),
    ] {
        let path = text(of, field);
        if !path.is_empty() && (!path.starts_with("/etc/kubernetes/") || path.contains("..")) {
            add(format!("{field} is a file outside of /etc/kubernetes"), "write the data into the kubeconfig");
        }
    }
    if is_empty(&new.cluster["certificate-authority"]) {
        let bundle = bytes(&new.cluster, "certificate-authority-data").and_then(|pem| certificates(&pem).ok());
        match bundle.filter(|bundle| !bundle.is_empty()) {
            None => add("it has no authority to know the server by".into(), "write certificate-authority-data"),
            Some(bundle) => {
                let before = old
                    .and_then(|old| bytes(&old.cluster, "certificate-authority-data"))
                    .and_then(|pem| certificates(&pem).ok())
                    .unwrap_or_default();
                if before.iter().any(|it| !bundle.iter().any(|new| new.is_same_authority(it))) {
                    let next = "keep the old authority beside the new one until the server's certificate is replaced";
                    add("an authority is gone from it".into(), next);
                }
            }
        }
    }
    violations
}

/// Who the component would be.
fn identity(file: &File, new: &Config, component: Component, facts: &Facts) -> Checked {
    let mut violations = Vec::new();
    let Some(pem) = bytes(&new.user, "client-certificate-data") else {
        let has_other = !is_empty(&new.user["client-certificate"]) || !is_empty(&new.user["token"]);
        if !has_other {
            violations.push(file.violation("it shows nothing of itself", "write client-certificate-data"));
        }
        return Ok(violations);
    };
    let certificate = match certificates(&pem) {
        Ok(chain) => chain.into_iter().next(),
        Err(message) => return Ok(vec![file.violation(message, "write a certificate in PEM")]),
    };
    let Some(certificate) = certificate else {
        return Ok(vec![file.violation("it holds no certificate", "write a certificate in PEM")]);
    };
    let user = match component {
        Component::ApiServer => return Ok(violations),
        Component::ControllerManager => "system:kube-controller-manager",
        Component::Scheduler => "system:kube-scheduler",
    };
    if certificate.common_name() != user {
        let message = format!("{component} would be {}", certificate.subject());
        violations.push(file.violation(message, format!("issue it for CN={user}")));
    }
    violations.extend(super::sec4::masters(&certificate, None).map(|message| file.violation(message, "issue it without that organization")));
    if !certificate.is_for(CLIENT_AUTH) {
        violations.push(file.violation("its certificate is not for clientAuth", "issue it with that usage"));
    }
    if certificate.not_after() < facts.now()? {
        violations.push(file.violation("its certificate has expired", "issue a new one"));
    }
    if let Some(key) = bytes(&new.user, "client-key-data") {
        match from_private(&key) {
            Ok(key) if key == certificate.key() => {}
            Ok(_) => violations.push(file.violation("its certificate is of another key", "write both together")),
            Err(message) => violations.push(file.violation(message, "write one private key in PEM")),
        }
    }
    Ok(violations)
}

/// The client certificate of a kubeconfig, in PEM.
pub(super) fn client_certificate(kubeconfig: &[u8]) -> Option<Vec<u8>> {
    let config = Config::of(&yaml(kubeconfig).ok()?).ok()?;
    bytes(&config.user, "client-certificate-data")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{kubeconfig, pki, put, secrets, table};
    use crate::x509::testing::{Authority, Leaf};

    #[test]
    fn it_leads_home() {
        let world = secrets();
        let server = "https://10.0.0.10:6443";
        let text = |server: &str, ca: &str, by: &Authority, leaf: Leaf| {
            let (certificate, key) = by.issue(&leaf);
            kubeconfig(server, ca, &certificate, &key)
        };
        let me = || Leaf::new("system:kube-scheduler");
        let good = || text(server, &pki().cluster.pem(), &pki().cluster, me());
        let write = |text: &str| world.update("Secret", "kube-system/scheduler.conf", |it| put(it, "scheduler.conf", text));
        let changed = |change: fn(&mut Value)| {
            let mut value: Value = serde_json::from_str(&good()).unwrap();
            change(&mut value);
            write(&value.to_string())
        };
        let (ca, by) = (pki().cluster.pem(), &pki().cluster);
        table(
            &RULE,
            &world,
            [
                ("renewed", write(&good()), false),
                ("an authority more", write(&text(server, &format!("{ca}{}", pki().other.pem()), by, me())), false),
                ("another server", write(&text("https://evil.org:6443", &ca, by, me())), true),
                ("no TLS", write(&text("http://10.0.0.10:6443", &ca, by, me())), true),
                ("another authority", write(&text(server, &pki().other.pem(), by, me())), true),
                ("no authority", write(&text(server, "", by, me())), true),
                ("another user", write(&text(server, &ca, by, Leaf::new("system:kube-controller-manager"))), true),
                ("a master", write(&text(server, &ca, by, Leaf { organizations: vec!["system:masters"], ..me() })), true),
                ("of an authority that nobody knows", write(&text(server, &ca, &pki().other, me())), true),
                ("expired", write(&text(server, &ca, by, Leaf { until: (2027, 1, 1), ..me() })), true),
                ("with another's key", write(&kubeconfig(server, &ca, &by.issue(&me()).0, &by.issue(&me()).1)), true),
                ("any server", changed(|it| it["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = json!(true)), true),
                ("a plugin", changed(|it| it["users"][0]["user"]["exec"] = json!({"command": "sh"})), true),
                ("a token's file", changed(|it| it["users"][0]["user"]["tokenFile"] = json!("/tmp/t")), true),
                ("a file elsewhere", changed(|it| it["users"][0]["user"]["client-key"] = json!("/tmp/key")), true),
                ("a way around", changed(|it| it["users"][0]["user"]["client-key"] = json!("/etc/kubernetes/../key")), true),
                ("a proxy", changed(|it| it["clusters"][0]["cluster"]["proxy-url"] = json!("http://evil.org")), true),
                ("another context", changed(|it| {
                    it["contexts"].as_array_mut().unwrap().push(json!({"name": "d", "context": {"cluster": "k", "user": "x"}}));
                    it["current-context"] = json!("d");
                }), true),
                ("two users of a name", changed(|it| {
                    it["users"].as_array_mut().unwrap().push(json!({"name": "u", "user": {"token": "x"}}));
                }), true),
                ("nobody", changed(|it| it["users"][0]["user"] = json!({})), true),
                ("by files of the node", changed(|it| {
                    it["users"][0]["user"] = json!({"client-certificate": "/etc/kubernetes/pki/me.crt",
                        "client-key": "/etc/kubernetes/pki/me.key"});
                }), false),
                ("by a token", changed(|it| it["users"][0]["user"] = json!({"token": "x"})), false),
                ("a context that names nothing", changed(|it| {
                    it["contexts"] = json!([{"name": "c"}]);
                    for list in ["clusters", "users"] {
                        it[list][0].as_object_mut().unwrap().remove("name");
                    }
                }), true),
                ("no YAML", write("{"), true),
            ],
        );
        // Midnight of the 20th, to the second.
        let last = write(&text(server, &ca, by, Leaf { until: (2027, 1, 20), ..me() }));
        for (now, expected) in [(1_800_403_200, false), (1_800_403_201, true)] {
            let lookup = |it: &crate::review::facts::Lookup| world.fetch(it);
            let verdict = crate::rules::decide(last.to_string().as_bytes(), &world.settings, now, lookup);
            assert_eq!(verdict.violations.iter().any(|it| it.rule == RULE.id), expected, "{now}: {verdict:?}");
        }
        let twice = changed(|it| it["clusters"] = json!([it["clusters"][0], it["clusters"][0]]));
        let message = world.verdict(&twice).message();
        assert!(message.contains("two clusters have one name"), "{message}");
        let with = |proxy: Value| {
            let mut value: Value = serde_json::from_str(&good()).unwrap();
            value["clusters"][0]["cluster"]["proxy-url"] = proxy;
            value.to_string()
        };
        let mut proxied = world.clone();
        put(proxied.object_mut("Secret", "kube-system/scheduler.conf"), "scheduler.conf", &with(json!("http://10.0.0.1")));
        let write = |text: &str| proxied.update("Secret", "kube-system/scheduler.conf", |it| put(it, "scheduler.conf", text));
        table(
            &RULE,
            &proxied,
            [
                ("through the same proxy", write(&with(json!("http://10.0.0.1"))), false),
                ("through another proxy", write(&with(json!("http://10.0.0.2"))), true),
                ("through no proxy", write(&with(json!(null))), false),
            ],
        );
    }
}
