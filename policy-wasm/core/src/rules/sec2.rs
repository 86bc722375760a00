//! SEC-2: certificates and keys can be read, are strong enough, and belong together.

use super::certificates::{BUNDLES, PAIRS, holds_certificates};
use super::{Checked, Reach, Rule};
use crate::review::material::{File, Written};
use crate::review::usage::Use;
use crate::review::{Facts, Request, Settings, Severity, Violation};
use crate::x509::{Signed, blocks, certificates, from_private};

/// The rule.
pub const RULE: Rule = Rule {
    id: "SEC-2",
    title: "certificates and keys can be read, are strong enough, and belong together",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "A certificate with another's key stops the server at its next start, on every node. What a key of a Secret \
          is, is read from the flag that names its file.",
    evasion: "- A chain in another order, a certificate of it that did not sign the one before: denied.\n\
              - RSA below 2048 bits, curves other than P-256 and P-384, SHA-1, MD5: denied.\n\
              - A private key in a bundle of authorities, where everybody may read it: denied.\n\
              - Text around the blocks, other line ends, PKCS#1, PKCS#8, SEC1: read as the components do.",
    blind: "A certificate whose key is in another object: no write changes both at once, so that the two are not \
            compared. Ed25519 and RSA-PSS are not read, and denied; where you use them, set the rule to `warn`.",
    check,
};

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    let Some(written) = Written::of(request, settings, facts)? else { return Ok(Vec::new()) };
    let mut violations = Vec::new();
    for file in &written.files {
        if holds_certificates(file) {
            violations.extend(chain(file));
        }
        if PAIRS.iter().any(|(_, key)| file.is_for(&[key]))
            && let Err(message) = from_private(&file.new)
        {
            violations.push(file.violation(message, "write one private key in PEM"));
        }
    }
    for used in &written.all {
        let Some((_, key_flag)) = PAIRS.iter().find(|(certificate, _)| *certificate == used.flag) else { continue };
        let key = written.all.iter().find(|it| it.component == used.component && it.flag == *key_flag);
        // In one object, or under flags of one DaemonSet: one request can change both.
        let both = |key: &&Use| written.is_template() || (written.is_here(key) && written.is_here(used));
        let Some(key) = key.filter(both) else { continue };
        let is_of = |file: &File, used: &Use| {
            if written.is_template() { file.uses.contains(used) } else { file.key == used.key }
        };
        if !written.files.iter().any(|file| is_of(file, used) || is_of(file, key)) {
            continue;
        }
        let (Some(certificate), Some(private)) = (written.read(used, facts)?, written.read(key, facts)?) else {
            continue;
        };
        let Ok(chain) = certificates(&certificate) else { continue };
        if let (Some(leaf), Ok(public)) = (chain.first(), from_private(&private))
            && leaf.key() != public
        {
            violations.push(Violation::new(
                format!("data[{}]", used.key),
                format!(
                    "the certificate is of key {}, and {} holds {}",
                    leaf.key().fingerprint(),
                    key.key,
                    public.fingerprint()
                ),
                "write the certificate and its key in one request",
            ));
        }
    }
    // Two components may read one pair.
    violations.dedup();
    Ok(violations)
}

fn chain(file: &File) -> Vec<Violation> {
    let next = "write certificates in PEM: the leaf first, then who signed it";
    let chain = match certificates(&file.new) {
        Ok(chain) if chain.is_empty() => return vec![file.violation("it holds no certificate", next)],
        Ok(chain) => chain,
        Err(message) => return vec![file.violation(message, next)],
    };
    let mut violations = Vec::new();
    for certificate in &chain {
        if let Some(weakness) = certificate.weakness() {
            let message = format!("{}: {weakness}", certificate.subject());
            violations.push(file.violation(message, "use RSA of 2048 bits or more, P-256 or P-384, and SHA-2"));
        }
    }
    let is_bundle = file.is_for(&BUNDLES);
    if is_bundle && blocks(&file.new).is_ok_and(|all| all.iter().any(|block| block.label.ends_with("PRIVATE KEY"))) {
        violations.push(file.violation("a private key is in a bundle that everybody may read", "take it out"));
    }
    if !is_bundle {
        for pair in chain.windows(2) {
            if let [certificate, issuer] = pair
                && certificate.is_signed_by(issuer) == Signed::No
            {
                let message = format!("{} was not signed by {}", certificate.subject(), issuer.subject());
                violations.push(file.violation(message, next));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::component::Component;
    use crate::rules::testing::{World, pki, put, secrets, table};
    use crate::x509::testing::{Leaf, RSA_CHAIN, RSA_KEY};

    /// The files of one Secret for those of another, beside Secrets that hold neither.
    #[test]
    fn a_pair_that_flags_name_belongs_together() {
        let world = secrets();
        let names = |flags: &[(&str, &str)]| world.edit_flags(Component::ApiServer, flags);
        let certificate = ("tls-cert-file", "/etc/kubernetes/pki/apiserver-kubelet-client.crt");
        let key = ("tls-private-key-file", "/etc/kubernetes/pki/apiserver-kubelet-client.key");
        let mut mounted = world.clone();
        mounted.objects.push(serde_json::json!({"kind": "Secret", "metadata": {"name": "more", "namespace": "kube-system"}}));
        let more = mounted.edit(Component::ApiServer, |it| {
            let sources = &mut it["spec"]["template"]["spec"]["volumes"][0]["projected"]["sources"];
            sources.as_array_mut().unwrap().push(serde_json::json!({"secret": {"name": "more"}}));
        });
        table(
            &RULE,
            &mounted,
            [
                ("both", names(&[certificate, key]), false),
                ("the certificate alone", names(&[certificate]), true),
                ("the key alone", names(&[key]), true),
                ("one that is not there", names(&[("tls-cert-file", "/etc/kubernetes/pki/gone.crt")]), true),
                ("a Secret more in the volume", more, false),
            ],
        );
    }

    /// A Secret with a pair that never fitted and another one; and a pair of which each half has a Secret.
    #[test]
    fn what_one_request_cannot_mend_is_let_be() {
        let mut world = secrets();
        let (certificate, key) = pki().cluster.issue(&Leaf::new("kube-apiserver-kubelet-client"));
        let secret = world.object_mut("Secret", "kube-system/sa");
        put(secret, "server.crt", &pki().cluster.issue(&Leaf::server()).0);
        put(secret, "server.key", &key);
        put(secret, "client.crt", &certificate);
        put(secret, "client.key", &key);
        let flags = |world: &mut World, flags: &[(&str, &str)]| {
            let object = world.edit_flags(Component::ApiServer, flags)["object"].clone();
            *world.object_mut("DaemonSet", "kube-system/self-hosted-kube-apiserver") = object;
        };
        let mut apart = world.clone();
        flags(&mut apart, &[("tls-private-key-file", "/etc/kubernetes/pki/server.key")]);
        flags(&mut world, &[
            ("tls-cert-file", "/etc/kubernetes/pki/server.crt"),
            ("tls-private-key-file", "/etc/kubernetes/pki/server.key"),
            ("kubelet-client-certificate", "/etc/kubernetes/pki/client.crt"),
            ("kubelet-client-key", "/etc/kubernetes/pki/client.key"),
        ]);
        let (again, its_key) = pki().cluster.issue(&Leaf::new("kube-apiserver-kubelet-client"));
        let rotated = world.update("Secret", "kube-system/sa", |it| {
            put(it, "client.crt", &again);
            put(it, "client.key", &its_key);
        });
        let half = world.update("Secret", "kube-system/sa", |it| put(it, "client.crt", &again));
        table(&RULE, &world, [("the other pair", rotated, false), ("half of the other pair", half, true)]);
        let server = pki().cluster.issue(&Leaf::server()).0;
        let write = apart.update("Secret", "kube-system/apiserver", |it| put(it, "tls.crt", &server));
        table(&RULE, &apart, [("a certificate whose key is in another Secret", write, false)]);
    }

    #[test]
    fn a_pair_belongs_together() {
        let world = secrets();
        let (certificate, key) = pki().cluster.issue(&Leaf::server());
        let (_, other) = pki().cluster.issue(&Leaf::server());
        let edit = |values: &[(&str, &str)]| {
            world.update("Secret", "kube-system/apiserver", |it: &mut Value| {
                for (key, value) in values {
                    put(it, key, value);
                }
            })
        };
        let chained = format!("{certificate}{}", pki().cluster.pem());
        let reversed = format!("{}{certificate}", pki().cluster.pem());
        let foreign = format!("{certificate}{}", pki().other.pem());
        let windows = certificate.replace('\n', "\r\n");
        let commented = format!("subject: CN=x\n{certificate}");
        let encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        let bundle = |pem: &str| world.update("Secret", "kube-system/ca", |it: &mut Value| put(it, "tls.crt", pem));
        table(
            &RULE,
            &world,
            [
                ("both", edit(&[("tls.crt", &certificate), ("tls.key", &key)]), false),
                ("a chain", edit(&[("tls.crt", &chained), ("tls.key", &key)]), false),
                ("RSA", edit(&[("tls.crt", RSA_CHAIN), ("tls.key", RSA_KEY)]), false),
                ("other line ends", edit(&[("tls.crt", &windows), ("tls.key", &key)]), false),
                ("a comment", edit(&[("tls.crt", &commented), ("tls.key", &key)]), false),
                ("the certificate alone", edit(&[("tls.crt", &certificate)]), true),
                ("the key alone", edit(&[("tls.key", &key)]), true),
                ("another's key", edit(&[("tls.crt", &certificate), ("tls.key", &other)]), true),
                ("the other way round", edit(&[("tls.crt", &reversed), ("tls.key", &key)]), true),
                ("another's issuer", edit(&[("tls.crt", &foreign), ("tls.key", &key)]), true),
                ("nothing", edit(&[("tls.crt", "")]), true),
                ("no certificate", edit(&[("tls.crt", "hello")]), true),
                ("half a certificate", edit(&[("tls.crt", &certificate[..200])]), true),
                ("a key for a certificate", edit(&[("tls.crt", &key), ("tls.key", &key)]), true),
                ("an encrypted key", edit(&[("tls.crt", &certificate), ("tls.key", encrypted)]), true),
                ("two keys", edit(&[("tls.crt", &certificate), ("tls.key", &format!("{key}{other}"))]), true),
                ("a bundle", bundle(&format!("{}{}", pki().cluster.pem(), pki().other.pem())), false),
                ("a bundle with a key", bundle(&format!("{}{}", pki().cluster.pem(), pki().other.key())), true),
            ],
        );
    }
}
