//! SEC-6: an authority goes last, and what is shown is known to those who look.

use super::certificates::{BUNDLES, before, is_leaf, leaves, trusted_by};
use super::{Checked, Reach, Rule};
use crate::component::Component;
use crate::review::material::Written;
use crate::review::{Facts, Request, Settings, Severity, Violation};
use crate::x509::{Certificate, Signed, certificates, is_issued_by_any};

/// The rule.
pub const RULE: Rule = Rule {
    id: "SEC-6",
    title: "an authority leaves a bundle last, and no leaf is shown that nobody knows",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Named,
    why: "Replacing a CA in one step is the most common way to take one's own cluster down: everything that still \
          shows a certificate of the old one is refused. The new one is added beside it first; the old one goes when \
          nothing shows its certificates any more.",
    evasion: "- A renewed authority, with the same subject and key: the same one.\n\
              - An authority of the same name with another key: another one.\n\
              - One bundle for the cluster and for the front proxy, where each client certificate could name any user \
              in a header: denied.",
    blind: "Who else shows certificates of the old authority: kubelets, users with kubeconfigs, and etcd's members. \
            That is why taking one away always wants an approval, until it has expired.",
    check,
};

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    let Some(written) = Written::of(request, settings, facts)? else { return Ok(Vec::new()) };
    let mut violations = Vec::new();
    for file in &written.files {
        let Ok(new) = certificates(&file.new) else { continue };
        if file.is_for(&BUNDLES) {
            let now = facts.now()?;
            let gone = before(file)
                .into_iter()
                .filter(|old| old.not_after() > now && !new.iter().any(|it| it.is_same_authority(old)));
            for authority in gone {
                let shown = shown_by(&written, &authority, facts)?;
                let who = if shown.is_empty() {
                    "kubelets and users may still show certificates of it".to_owned()
                } else {
                    format!("{} still shows a certificate of it", shown.join(", "))
                };
                violations.push(file.violation(
                    format!("authority {} ({}) is gone, and {who}", authority.subject(), authority.key().fingerprint()),
                    "keep it beside the new one until every certificate of it is replaced",
                ));
            }
        }
        if let Some(leaf) = new.first().filter(|_| is_leaf(file)) {
            for used in &file.uses {
                let Some((component, flag)) = trusted_by(used.component, &used.flag) else { continue };
                let Some(bundle) = written.file_of(component, flag, facts)? else { continue };
                let Ok(bundle) = certificates(&bundle) else { continue };
                let chained = new.iter().any(|it| is_issued_by_any(it, &bundle));
                if !chained {
                    violations.push(file.violation(
                        format!("{} is of no authority in {component}'s --{flag}", leaf.subject()),
                        "add its authority there first, and let every component start with it",
                    ));
                }
            }
        }
    }
    violations.extend(mixed(&written, facts)?);
    violations.dedup();
    Ok(violations)
}

/// The components, with the flag, that show a leaf which this authority has signed.
fn shown_by(written: &Written, authority: &Certificate, facts: &Facts) -> Result<Vec<String>, crate::review::Unknown> {
    let mut shown = Vec::new();
    // Several flags name one file, and a signature takes a millisecond.
    let mut known: Vec<(Certificate, bool)> = Vec::new();
    for (used, leaf) in leaves(written, facts)? {
        let is_signed = known.iter().find(|(it, _)| *it == leaf).map(|(_, is_signed)| *is_signed);
        let is_signed = is_signed.unwrap_or_else(|| {
            let is_signed = leaf.is_signed_by(authority) == Signed::Yes;
            known.push((leaf, is_signed));
            is_signed
        });
        if is_signed {
            shown.push(format!("{} --{}", used.component, used.flag));
        }
    }
    shown.sort();
    shown.dedup();
    Ok(shown)
}

/// One authority for clients and for the front proxy.
fn mixed(written: &Written, facts: &Facts) -> Checked {
    let bundle = |flag: &str| written.file_of(Component::ApiServer, flag, facts);
    let touched = written.files.iter().any(|file| file.is_for(&["client-ca-file", "requestheader-client-ca-file"]));
    if !touched {
        return Ok(Vec::new());
    }
    let (Some(clients), Some(proxies)) = (bundle("client-ca-file")?, bundle("requestheader-client-ca-file")?) else {
        return Ok(Vec::new());
    };
    let (Ok(clients), Ok(proxies)) = (certificates(&clients), certificates(&proxies)) else { return Ok(Vec::new()) };
    let both = proxies.iter().filter(|proxy| clients.iter().any(|client| client.key() == proxy.key()));
    let violations = both.map(|authority| {
        let message = format!("{} is trusted for clients and for the front proxy", authority.subject());
        Violation::new("data", message, "give the front proxy an authority of its own")
    });
    Ok(violations.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::{pki, put, secrets, table};
    use crate::x509::testing::{Authority, Leaf};

    /// A key that no flag names may hold anything, until a DaemonSet's flag names it.
    #[test]
    fn a_flag_that_names_another_bundle_writes_too() {
        let mut world = secrets();
        let both = format!("{}{}", pki().cluster.pem(), Authority::new("kubernetes").pem());
        let secret = world.object_mut("Secret", "kube-system/sa");
        put(secret, "mine.crt", &Authority::new("mine").pem());
        put(secret, "both.crt", &both);
        let names = |flag: &str, file: &str| {
            world.edit_container(Component::ApiServer, |it| {
                for word in it["command"].as_array_mut().unwrap() {
                    if word.as_str().unwrap().starts_with(&format!("--{flag}=")) {
                        *word = serde_json::json!(format!("--{flag}=/etc/kubernetes/pki/{file}"));
                    }
                }
            })
        };
        table(
            &RULE,
            &world,
            [
                ("an authority of one's own", names("client-ca-file", "mine.crt"), true),
                ("one more beside it", names("client-ca-file", "both.crt"), false),
                ("the same file again", names("client-ca-file", "ca.crt"), false),
                ("the front proxy's is another one", names("requestheader-client-ca-file", "mine.crt"), true),
            ],
        );
    }

    #[test]
    fn authorities_overlap() {
        let world = secrets();
        let (old, new) = (pki().cluster.pem(), Authority::new("kubernetes"));
        let bundle = |secret: &str, pem: &str| {
            world.update("Secret", &format!("kube-system/{secret}"), |it| put(it, "tls.crt", pem))
        };
        let server = |world: &crate::rules::testing::World, by: &Authority, chain: &str| {
            let (certificate, key) = by.issue(&Leaf::server());
            world.update("Secret", "kube-system/apiserver", |it| {
                put(it, "tls.crt", &format!("{certificate}{chain}"));
                put(it, "tls.key", &key);
            })
        };
        let client = |secret: &str, by: &Authority| {
            let (certificate, key) = by.issue(&Leaf::new("front-proxy-client"));
            world.update("Secret", &format!("kube-system/{secret}"), |it| {
                put(it, "tls.crt", &certificate);
                put(it, "tls.key", &key);
            })
        };
        let both = format!("{old}{}", new.pem());
        let mut overlapping = world.clone();
        put(overlapping.object_mut("Secret", "kube-system/ca"), "tls.crt", &both);
        table(
            &RULE,
            &world,
            [
                ("one beside it", bundle("ca", &both), false),
                ("in another order", bundle("ca", &format!("{}{old}", new.pem())), false),
                ("another of the same name", bundle("ca", &new.pem()), true),
                ("the front proxy's for clients too", bundle("ca", &format!("{old}{}", pki().front_proxy.pem())), true),
                ("a leaf of the old one", server(&world, &pki().cluster, ""), false),
                ("a leaf of one that nobody knows", server(&world, &new, ""), true),
                ("a leaf that brings its own", server(&world, &new, &new.pem()), true),
                ("a front proxy's", client("front-proxy-client", &pki().front_proxy), false),
                ("a front proxy's of one that nobody knows", client("front-proxy-client", &new), true),
                ("one for etcd, which looks for itself", client("apiserver-etcd-client", &pki().etcd), false),
            ],
        );
        table(
            &RULE,
            &overlapping,
            [
                ("a leaf of the new one", server(&overlapping, &new, ""), false),
                ("the old one gone", overlapping.update("Secret", "kube-system/ca", |it| put(it, "tls.crt", &new.pem())), true),
            ],
        );
        let gone = overlapping.update("Secret", "kube-system/ca", |it| put(it, "tls.crt", &new.pem()));
        let message = overlapping.verdict(&gone).message();
        assert!(message.contains("kube-apiserver --tls-cert-file"), "{message}");
        assert!(message.contains("kube-scheduler --kubeconfig"), "who shows it in a kubeconfig is told: {message}");
        // Midnight of the 20th, to the second.
        let mut ending = world.clone();
        let last = Authority::until("last", (2027, 1, 20));
        put(ending.object_mut("Secret", "kube-system/ca"), "tls.crt", &format!("{old}{}", last.pem()));
        let without = ending.update("Secret", "kube-system/ca", |it| put(it, "tls.crt", &pki().cluster.pem()));
        for (now, expected) in [(1_800_403_199, true), (1_800_403_200, false)] {
            let lookup = |it: &crate::review::facts::Lookup| ending.fetch(it);
            let verdict = crate::rules::decide(without.to_string().as_bytes(), &ending.settings, now, lookup);
            assert_eq!(verdict.violations.iter().any(|it| it.rule == RULE.id), expected, "{now}: {verdict:?}");
        }
        let mut expired = world.clone();
        let short = Authority::until("short", (2027, 1, 1));
        put(expired.object_mut("Secret", "kube-system/ca"), "tls.crt", &format!("{old}{}", short.pem()));
        table(&RULE, &expired, [("an expired one gone", expired.update("Secret", "kube-system/ca", |it| {
            put(it, "tls.crt", &pki().cluster.pem());
        }), false)]);
    }
}
