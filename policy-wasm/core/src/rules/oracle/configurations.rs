//! SEC-8 and CM-1 to CM-4 once more.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::credentials::{File, content, files, guarded, lost};
use super::judge::{Case, SERVER, Said, container, empty, keys, list, text, texts, yes};

/// A configuration, if it is one of this kind and group.
fn configuration(written: &str, kind: &str, group: &str) -> Option<Value> {
    let value: Value = serde_saphyr::from_str(written).ok()?;
    let own_group = text(&value, "apiVersion").split('/').next()?;
    (text(&value, "kind") == kind && own_group == group).then_some(value)
}

pub(super) fn sec8(case: &Case) -> Said {
    let files = files(case)?;
    let mut files = files.iter().filter(|it| it.is_for("encryption-provider-config")).peekable();
    files.peek()?;
    Some(files.any(loses))
}

fn loses(file: &File) -> bool {
    let Some(new) = encrypts(&file.new) else { return true };
    let old = file.old.as_deref().and_then(encrypts).unwrap_or_default();
    old.iter().any(|(resource, before)| {
        let Some(after) = new.get(resource) else { return true };
        let first = &after[0];
        before.iter().any(|it| !after.contains(it))
            || !before.contains(first)
            || (first == "identity" && before[0] != "identity")
    })
}

/// By resource, what reads it, in order: the first one writes.
fn encrypts(written: &str) -> Option<BTreeMap<String, Vec<String>>> {
    let value = configuration(written, "EncryptionConfiguration", "apiserver.config.k8s.io")?;
    let mut found = BTreeMap::new();
    for entry in list(&value, "resources") {
        let mut readers = Vec::new();
        for provider in list(entry, "providers") {
            for kind in provider.as_object().into_iter().flat_map(|it| it.keys()) {
                let of = &provider[kind];
                match kind.as_str() {
                    "identity" => readers.push("identity".to_owned()),
                    "kms" => readers.push(format!("kms {} {}", text(of, "name"), text(of, "endpoint"))),
                    _ => {
                        readers.extend(list(of, "keys").iter().map(|key| {
                            format!("{kind} {} {}", text(key, "name"), text(key, "secret").trim())
                        }));
                    }
                }
            }
        }
        if readers.is_empty() {
            return None;
        }
        for resource in texts(entry, "resources") {
            found.entry(resource.to_owned()).or_insert_with(|| readers.clone());
        }
    }
    (!found.is_empty()).then_some(found)
}

pub(super) fn cm1(case: &Case) -> Said {
    guarded(case).filter(|is_secret| !is_secret)?;
    lost(case)
}

const KINDS: [(&str, &str, &str); 7] = [
    ("admission-control-config-file", "AdmissionConfiguration", "apiserver.config.k8s.io"),
    ("audit-policy-file", "Policy", "audit.k8s.io"),
    ("authentication-config", "AuthenticationConfiguration", "apiserver.config.k8s.io"),
    ("authorization-config", "AuthorizationConfiguration", "apiserver.config.k8s.io"),
    ("config", "KubeSchedulerConfiguration", "kubescheduler.config.k8s.io"),
    ("egress-selector-config-file", "EgressSelectorConfiguration", "apiserver.k8s.io"),
    ("tracing-config-file", "TracingConfiguration", "apiserver.config.k8s.io"),
];

pub(super) fn cm2(case: &Case) -> Said {
    let mut bad = None;
    for file in files(case)? {
        for (flag, kind, group) in KINDS {
            if !file.is_for(flag) {
                continue;
            }
            let old: Value =
                file.old.as_deref().and_then(|it| serde_saphyr::from_str(it).ok()).unwrap_or_default();
            let takes_away = match configuration(&file.new, kind, group) {
                None => true,
                Some(new) => match flag {
                    "admission-control-config-file" => admission(&new, &old),
                    "audit-policy-file" => audit(&new),
                    "authentication-config" => authentication(&new, &old),
                    "authorization-config" => authorization(&new),
                    "config" => scheduler(&new),
                    _ => false,
                },
            };
            bad = Some(bad.unwrap_or(false) || takes_away);
        }
    }
    bad
}

fn admission(new: &Value, old: &Value) -> bool {
    list(old, "plugins").iter().any(|before| {
        let name = text(before, "name");
        let first =
            |value: &Value| list(value, "plugins").iter().find(|it| text(it, "name") == name).cloned();
        let directory =
            |it: Option<Value>| it.unwrap_or_default()["configuration"]["staticManifestsDir"].clone();
        let (was, is) = (directory(first(old)), directory(first(new)));
        first(new).is_none() || (!empty(&was) && was != is)
    })
}

fn audit(new: &Value) -> bool {
    let narrow = ["users", "userGroups", "verbs", "resources", "namespaces", "nonResourceURLs"];
    match list(new, "rules").first() {
        None => true,
        Some(rule) => text(rule, "level") == "None" && narrow.iter().all(|it| empty(&rule[*it])),
    }
}

/// Which paths anonymous users reach: all of them, some, or none.
#[derive(PartialEq)]
enum Anonymous {
    Everywhere,
    At(BTreeSet<String>),
    Nowhere,
}

fn anonymous(value: &Value) -> Anonymous {
    if !value.is_null() && !yes(value, "enabled") {
        return Anonymous::Nowhere;
    }
    let paths: BTreeSet<String> =
        list(value, "conditions").iter().map(|it| text(it, "path").to_owned()).collect();
    if paths.is_empty() { Anonymous::Everywhere } else { Anonymous::At(paths) }
}

fn authentication(new: &Value, old: &Value) -> bool {
    let widens = match (anonymous(&old["anonymous"]), anonymous(&new["anonymous"])) {
        (Anonymous::Everywhere, _) | (_, Anonymous::Nowhere) => false,
        (_, Anonymous::Everywhere) | (Anonymous::Nowhere, _) => true,
        (Anonymous::At(before), Anonymous::At(after)) => !after.is_subset(&before),
    };
    let issuers = |value: &Value| -> Vec<String> {
        list(value, "jwt").iter().map(|it| text(&it["issuer"], "url").to_owned()).collect()
    };
    widens || issuers(old).iter().any(|it| !issuers(new).contains(it))
}

fn authorization(new: &Value) -> bool {
    let all = list(new, "authorizers");
    let is = |it: &Value, kind: &str| text(it, "type") == kind;
    let has = |kind: &str| all.iter().any(|it| is(it, kind));
    // A webhook that fails open passes everything on to the next one.
    let open = all.iter().enumerate().any(|(at, it)| {
        is(it, "Webhook") && text(&it["webhook"], "failurePolicy") != "Deny" && at + 1 < all.len()
    });
    !has("Node") || !has("RBAC") || has("AlwaysAllow") || open
}

fn scheduler(new: &Value) -> bool {
    let election = &new["leaderElection"];
    let lease = |field: &str| ["", "kube-scheduler", "kube-system"].contains(&text(election, field));
    let profiles = list(new, "profiles");
    let usual = |it: &Value| ["", "default-scheduler"].contains(&text(it, "schedulerName"));
    let mut bad = election["leaderElect"] == false || !lease("resourceName") || !lease("resourceNamespace");
    bad |= !profiles.is_empty() && !profiles.iter().any(usual);
    for profile in profiles {
        for point in keys(profile, "plugins") {
            for plugin in list(&profile["plugins"][point], "disabled") {
                bad |=
                    ["*", "DefaultBinder", "NodeAffinity", "TaintToleration"].contains(&text(plugin, "name"));
            }
        }
    }
    bad
}

pub(super) fn cm3(case: &Case) -> Said {
    if !case.is("/configmaps") {
        return None;
    }
    let owners: &[&str] = match (case.namespace(), case.name()) {
        ("kube-system", "extension-apiserver-authentication") => &["api-server"],
        (_, "kube-root-ca.crt") => &["root-ca-publisher", "namespace-controller"],
        ("kube-public", "cluster-info") if only_signatures(case) => &["bootstrap-signer"],
        ("kube-public", "cluster-info")
        | ("kube-system", "kubeadm-config" | "kubelet-config" | "kube-proxy" | "coredns") => &[],
        _ => return None,
    };
    let same = case.updates() && !["data", "binaryData", "immutable"].iter().any(|it| case.changes(&[it]));
    let by_owner = owners.iter().any(|it| case.by(it));
    let version = case.name() == "kubeadm-config" && only_the_version(case);
    let new_and_empty =
        case.creates() && ["data", "binaryData", "immutable"].iter().all(|it| case.object()[*it].is_null());
    Some(!(same || new_and_empty || by_owner || version))
}

fn only_signatures(case: &Case) -> bool {
    let all = [keys(case.object(), "data"), keys(case.old(), "data")].concat();
    let mut changed = all.iter().filter(|it| case.changes(&["data", it]));
    case.updates() && changed.all(|it| it.starts_with("jws-kubeconfig-"))
}

/// Whether one line alone changes, to the version that the API servers are to have.
fn only_the_version(case: &Case) -> bool {
    let (mut new, mut old) = (case.object().clone(), case.old().clone());
    let field = "ClusterConfiguration";
    let lines = |object: &Value| -> Vec<String> {
        text(&object["data"], field).lines().map(ToOwned::to_owned).collect()
    };
    let (after, before) = (lines(&new), lines(&old));
    if !case.updates() || after.len() != before.len() {
        return false;
    }
    let changed: Vec<usize> = (0..after.len()).filter(|it| after[*it] != before[*it]).collect();
    let [at] = changed.as_slice() else { return false };
    let name = "kubernetesVersion: ";
    let Some(version) = after[*at].strip_prefix(name).filter(|_| before[*at].starts_with(name)) else {
        return false;
    };
    for object in [&mut new, &mut old] {
        object["data"][field] = Value::Null;
    }
    let rest = ["data", "binaryData", "immutable"].iter().all(|it| new[*it] == old[*it]);
    let image = text(container(&case.daemonset(SERVER)["spec"]["template"], SERVER), "image");
    let version = super::daemonsets::version(&format!("x:{}", version.trim_matches('"')));
    rest && version.is_some() && version == super::daemonsets::version(image)
}

pub(super) fn cm4(case: &Case) -> Said {
    let is_secret = guarded(case).filter(|_| case.updates())?;
    let before = manifests(is_secret, case.old()).unwrap_or_default();
    if before.is_empty() {
        return None;
    }
    let Some(after) = manifests(is_secret, case.object()) else { return Some(true) };
    Some(before.iter().any(|it| !after.contains(it)))
}

/// What an object registers: documents, or items of lists, with a name of the manifests; without their metadata.
fn manifests(is_secret: bool, object: &Value) -> Option<Vec<(String, Value)>> {
    let mut found = Vec::new();
    for written in content(is_secret, object).values().filter(|it| it.contains(".static.k8s.io")) {
        let documents: Vec<Value> = serde_saphyr::from_multiple(written).ok()?;
        for document in documents {
            let items = document["items"].as_array().cloned().unwrap_or_else(|| vec![document]);
            for mut item in items {
                let name = text(&item["metadata"], "name").to_owned();
                if name.ends_with(".static.k8s.io") {
                    item["metadata"] = Value::Null;
                    found.push((name, item));
                }
            }
        }
    }
    Some(found)
}
