//! SEC-7: tokens stay good.

use super::{Checked, Reach, Rule};
use crate::component::Component;
use crate::review::material::{Written, value_of};
use crate::review::record::Edit;
use crate::review::usage::{Use, uses};
use crate::review::{Facts, Request, Settings, Severity, Unknown};
use crate::x509::{PublicKey, from_private, public_keys};

/// The rule.
pub const RULE: Rule = Rule {
    id: "SEC-7",
    title: "ServiceAccount keys grow first and shrink last",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "An API server that does not have the public half of a signing key refuses every token of it: of every Pod, \
          and of the controllers. So the new public key comes first, on all API servers; then the new signing key; and \
          the old public key goes when the last token of it has lapsed.",
    evasion: "- A public key, a certificate or a private key in `--service-account-key-file`: each counts as its public \
              half.\n\
              - Both halves replaced in one request, or named by one edit of the DaemonSet: denied, since API servers start \
              one after the other.",
    blind: "Whether every API server has started with the new public key, and when the last old token lapses. Taking an old \
            key away is denied; when its time has come, exempt the one object for the one user.",
    check,
};

const VERIFY: [&str; 1] = ["service-account-key-file"];
const SIGN: [&str; 2] = ["service-account-signing-key-file", "service-account-private-key-file"];

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    let Some(written) = Written::of(request, settings, facts)? else { return Ok(Vec::new()) };
    let mut violations = Vec::new();
    for file in written.files.iter().filter(|file| file.is_for(&VERIFY)) {
        let new = match public_keys(&file.new) {
            Ok(keys) if keys.is_empty() => {
                violations.push(file.violation("it holds no key", "write the public keys in PEM"));
                continue;
            }
            Ok(keys) => keys,
            Err(message) => {
                violations.push(file.violation(message, "write the public keys in PEM"));
                continue;
            }
        };
        let old = file.old.as_deref().and_then(|old| public_keys(old).ok()).unwrap_or_default();
        for key in old.iter().filter(|key| !new.contains(key)) {
            let message = format!("tokens of key {} would be refused", key.fingerprint());
            violations.push(file.violation(message, "keep it beside the new one until the last token of it has lapsed"));
        }
    }
    let signing: Vec<_> = written.files.iter().filter(|file| file.is_for(&SIGN)).collect();
    if signing.is_empty() {
        return Ok(violations);
    }
    let known = verified(&written, request, facts)?;
    for file in signing {
        match from_private(&file.new) {
            Err(message) => violations.push(file.violation(message, "write one private key in PEM")),
            Ok(key) => {
                if known.as_ref().is_some_and(|known| !known.contains(&key)) {
                    let message = format!("no API server knows key {} yet", key.fingerprint());
                    let next = "add its public half to --service-account-key-file, and let every API server start with it";
                    violations.push(file.violation(message, next));
                }
            }
        }
    }
    Ok(violations)
}

/// The keys that API servers verify with before this request; where nobody knows those, what they verify with after it.
/// `None` where they are on the nodes' disks.
fn verified(
    written: &Written,
    request: &Request,
    facts: &Facts,
) -> Result<Option<Vec<PublicKey>>, Unknown> {
    let edit = Edit::of_template(request, facts)?.filter(|edit| edit.component == Component::ApiServer);
    if let Some(old) = edit.and_then(|edit| edit.old) {
        let known = verified_by(&uses(Component::ApiServer, old.pod()), written, request, facts)?;
        if known.is_some() {
            return Ok(known);
        }
    }
    verified_by(&written.all, written, request, facts)
}

fn verified_by(
    uses: &[Use],
    written: &Written,
    request: &Request,
    facts: &Facts,
) -> Result<Option<Vec<PublicKey>>, Unknown> {
    let mut known = None;
    for used in uses {
        if used.component != Component::ApiServer || !VERIFY.contains(&used.flag.as_str()) {
            continue;
        }
        let pem = if written.is_here(used) {
            value_of(used.store, &request.old_object, &used.key)
        } else {
            written.read(used, facts)?
        };
        let keys = pem.and_then(|pem| public_keys(&pem).ok()).unwrap_or_default();
        known.get_or_insert_with(Vec::new).extend(keys);
    }
    Ok(known.filter(|keys| !keys.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::{World, pki, public_pem, put, secrets, table};
    use crate::x509::testing::Authority;

    #[test]
    fn tokens_stay_good() {
        let world = secrets();
        let new = Authority::new("new");
        let (old_public, new_public) = (public_pem(&pki().other), public_pem(&new));
        let both = format!("{old_public}{new_public}");
        let edit = |world: &World, values: &[(&str, &str)]| {
            world.update("Secret", "kube-system/sa", |it| {
                for (key, value) in values {
                    put(it, key, value);
                }
            })
        };
        let mut grown = world.clone();
        put(grown.object_mut("Secret", "kube-system/sa"), "sa.pub", &both);
        table(
            &RULE,
            &world,
            [
                ("the new one beside", edit(&world, &[("sa.pub", &both)]), false),
                ("as a certificate", edit(&world, &[("sa.pub", &format!("{}{new_public}", pki().other.pem()))]), false),
                ("the new one alone", edit(&world, &[("sa.pub", &new_public)]), true),
                ("the new signing key alone", edit(&world, &[("sa.key", &new.key())]), true),
                ("both at once", edit(&world, &[("sa.pub", &both), ("sa.key", &new.key())]), true),
                ("nothing", edit(&world, &[("sa.pub", "")]), true),
                ("no key", edit(&world, &[("sa.key", &old_public)]), true),
            ],
        );
        // The same by flags: what no flag names yet is judged when one does.
        let mut kept = world.clone();
        let sa = kept.object_mut("Secret", "kube-system/sa");
        put(sa, "new.pub", &new_public);
        put(sa, "new.key", &new.key());
        let names = |world: &World, flags: &[(&str, &str)]| world.edit_flags(Component::ApiServer, flags);
        let beside = ("service-account-key-file", "/etc/kubernetes/pki/sa.pub,/etc/kubernetes/pki/new.pub");
        let sign = ("service-account-signing-key-file", "/etc/kubernetes/pki/new.key");
        let mut second = kept.clone();
        *second.object_mut("DaemonSet", "kube-system/self-hosted-kube-apiserver") =
            names(&kept, &[beside])["object"].clone();
        table(
            &RULE,
            &kept,
            [
                ("another public key named", names(&kept, &[beside]), false),
                ("another signing key named", names(&kept, &[sign]), true),
                ("both named at once", names(&kept, &[beside, sign]), true),
            ],
        );
        table(&RULE, &second, [("then the signing key", names(&second, &[sign]), false)]);
        let mut keyless = world.object("Secret", "kube-system/sa").clone();
        put(&mut keyless, "sa.pub", "no key");
        table(&RULE, &world, [("made without a key", crate::rules::testing::create(&keyless), true)]);
        table(
            &RULE,
            &grown,
            [
                ("then the new signing key", edit(&grown, &[("sa.key", &new.key())]), false),
                ("the old one gone", edit(&grown, &[("sa.pub", &new_public)]), true),
            ],
        );
    }
}
