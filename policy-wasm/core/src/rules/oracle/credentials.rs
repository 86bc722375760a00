//! SEC-1 to SEC-12 (the encryption at rest apart) once more.
//!
//! What a certificate is, is not read from it: the generator made it, and knows. See [`super::pki`].

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::daemonsets::{Edit, references, volume_at};
use super::flags::Line;
use super::judge::{
    COMPONENTS, Case, IDENTITIES, NOW, SERVER, Said, annotation, bridges, container, empty, get, keys, list,
    runs, text, texts, usernames, yes,
};
use super::pki::{Certificate, certificates, has_private, private_key, public_keys};
use super::shape::template_path;

/// Which store the request is about, if that is guarded: true for a Secret.
pub(super) fn guarded(case: &Case) -> Option<bool> {
    let (is_secret, setting) = if case.is("/secrets") {
        (true, "secrets")
    } else if case.is("/configmaps") {
        (false, "configMaps")
    } else {
        return None;
    };
    let listed = texts(case.settings, setting).contains(&case.key().as_str());
    let mounted = case.namespace() == "kube-system" && mounts(case, is_secret, case.name());
    (listed || mounted).then_some(is_secret)
}

/// Whether a Secret of this name is guarded: in `kube-system`, or in any namespace.
pub(super) fn is_guarded_secret(case: &Case, name: &str, everywhere: bool) -> bool {
    let listed = texts(case.settings, "secrets").into_iter().filter_map(|it| it.split_once('/'));
    let mut listed = listed.filter(|it| everywhere || it.0 == "kube-system");
    listed.any(|it| it.1 == name) || mounts(case, true, name)
}

/// What the control plane's DaemonSets refer to: whether it is a Secret, and its name.
pub(super) fn mounted(case: &Case) -> BTreeSet<(bool, String)> {
    let templates = (0..3).map(|component| &case.daemonset(component)["spec"]["template"]);
    templates.flat_map(references).map(|it| (it.is_secret, it.name)).collect()
}

fn mounts(case: &Case, is_secret: bool, name: &str) -> bool {
    case.mounted().contains(&(is_secret, name.to_owned()))
}

/// A file that a flag names and a Secret or ConfigMap holds.
#[derive(Clone, PartialEq)]
pub(super) struct Use {
    component: usize,
    flag: String,
    is_secret: bool,
    name: String,
    key: String,
}

/// Every file of the control plane, as its templates will be after the request.
pub(super) fn uses(case: &Case) -> Vec<Use> {
    (0..3).flat_map(|component| files_of(component, &template(case, component))).flatten().collect()
}

/// A component's template, as it will be.
fn template(case: &Case, component: usize) -> Value {
    match case.edit().filter(|it| it.component == component) {
        Some(edit) => edit.new.clone(),
        None => case.daemonset(component)["spec"]["template"].clone(),
    }
}

/// The command line of the API servers, as it will be.
fn server(case: &Case) -> Line {
    Line::of(SERVER, container(&template(case, SERVER), SERVER))
}

/// By file that a flag names: each source that could hold it.
fn files_of(component: usize, template: &Value) -> Vec<Vec<Use>> {
    let own = container(template, component);
    let line = Line::of(component, own);
    let mut found = Vec::new();
    for flag in line.names() {
        for path in
            line.values(flag).into_iter().flat_map(|it| it.split(',')).filter(|it| it.starts_with('/'))
        {
            let Some((volume, inside)) = volume_at(template, own, path) else { continue };
            let held = sources(volume).into_iter().filter_map(|(is_secret, name, source)| {
                let (flag, name, key) = (flag.to_owned(), name.to_owned(), key_at(source, &inside)?);
                Some(Use { component, flag, is_secret, name, key })
            });
            found.push(held.collect());
        }
    }
    found
}

fn sources(volume: &Value) -> Vec<(bool, &str, &Value)> {
    let mut found = vec![
        (true, text(&volume["secret"], "secretName"), &volume["secret"]),
        (false, text(&volume["configMap"], "name"), &volume["configMap"]),
    ];
    for source in list(&volume["projected"], "sources") {
        found.push((true, text(&source["secret"], "name"), &source["secret"]));
        found.push((false, text(&source["configMap"], "name"), &source["configMap"]));
    }
    found.retain(|it| it.2.is_object());
    found
}

fn key_at(source: &Value, inside: &str) -> Option<String> {
    if !source["items"].is_array() {
        return (!inside.is_empty() && !inside.contains('/')).then(|| inside.to_owned());
    }
    let item = list(source, "items").iter().find(|it| text(it, "path").trim_matches('/') == inside)?;
    Some(text(item, "key").to_owned())
}

/// What a Secret or ConfigMap holds, by key.
pub(super) fn content(is_secret: bool, object: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let (first, second) = if is_secret { ("data", "stringData") } else { ("binaryData", "data") };
    for (field, encoded) in [(first, true), (second, false)] {
        for key in keys(object, field) {
            let written = text(&object[field], key);
            let bytes = STANDARD.decode(written).ok().filter(|_| encoded);
            let bytes = bytes.unwrap_or_else(|| written.as_bytes().to_vec());
            found.insert(key.to_owned(), String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    found
}

/// A key that a write changes, and which flags name it.
pub(super) struct File {
    uses: Vec<Use>,
    pub(super) new: String,
    pub(super) old: Option<String>,
}

impl File {
    pub(super) fn is_for(&self, flags: &str) -> bool {
        self.uses.iter().any(|it| flags.split_whitespace().any(|flag| flag == it.flag))
    }

    fn holds_certificates(&self) -> bool {
        self.is_for(BUNDLES) || PAIRS.iter().any(|it| self.is_for(it.0))
    }

    fn before(&self) -> Vec<&'static Certificate> {
        self.old.as_deref().and_then(certificates).unwrap_or_default()
    }
}

/// The keys that a write of something guarded changes, of those that a flag names; and those that a flag names anew.
pub(super) fn files(case: &Case) -> Option<Vec<File>> {
    if let Some(edit) = case.edit() {
        return edit.changed.then(|| named_anew(case, edit));
    }
    let is_secret = guarded(case).filter(|_| case.writes())?;
    let (new, old) = (content(is_secret, case.object()), content(is_secret, case.old()));
    if case.namespace() != "kube-system" {
        return Some(Vec::new());
    }
    let all = case.uses();
    let mut files = Vec::new();
    for (key, value) in new {
        let old = old.get(&key).cloned();
        let of_key = |it: &Use| it.is_secret == is_secret && it.name == case.name() && it.key == key;
        let uses: Vec<Use> = all.iter().filter(|it| of_key(it)).cloned().collect();
        if !uses.is_empty() && old.as_ref() != Some(&value) {
            files.push(File { uses, new: value, old });
        }
    }
    Some(files)
}

/// What the flags of a DaemonSet name that they did not name before.
fn named_anew(case: &Case, edit: &Edit) -> Vec<File> {
    let after = files_of(edit.component, &edit.new);
    let before: Vec<Use> = edit.old.iter().flat_map(|it| files_of(edit.component, it)).flatten().collect();
    let mut found = Vec::new();
    for file in &after {
        let there = file.iter().any(|it| read(case, it).is_some());
        for used in file.iter().filter(|it| !before.contains(it)) {
            // One of the sources has it, or none, and then the component finds nothing.
            let new = read(case, used);
            if new.is_none() && there {
                continue;
            }
            let stays = |it: &Use| after.iter().flatten().any(|after| after == it);
            let gone = before.iter().filter(|it| it.flag == used.flag && !stays(it));
            let old: Vec<String> = gone.filter_map(|it| read(case, it)).collect();
            found.push(File {
                uses: vec![used.clone()],
                new: new.unwrap_or_default(),
                old: (!old.is_empty()).then(|| old.join("\n")),
            });
        }
    }
    found
}

/// Whether a use is of the object that is written.
fn here(case: &Case, used: &Use) -> bool {
    case.is(if used.is_secret { "/secrets" } else { "/configmaps" }) && used.name == case.name()
}

/// What a use will find after the write.
fn read(case: &Case, used: &Use) -> Option<String> {
    let object = if here(case, used) {
        case.object()
    } else {
        case.find(if used.is_secret { "Secret" } else { "ConfigMap" }, "kube-system", &used.name)
    };
    content(used.is_secret, object).remove(&used.key)
}

/// What a use finds until the write.
fn before(case: &Case, used: &Use) -> Option<String> {
    if here(case, used) { content(used.is_secret, case.old()).remove(&used.key) } else { read(case, used) }
}

/// What a component's flag names, after the write.
fn file_of(case: &Case, component: usize, flag: &str) -> Option<String> {
    let used = case.uses().iter().find(|it| it.component == component && it.flag == flag)?;
    read(case, used)
}

const PAIRS: [(&str, &str); 9] = [
    ("tls-cert-file", "tls-private-key-file"),
    ("etcd-certfile", "etcd-keyfile"),
    ("kubelet-client-certificate", "kubelet-client-key"),
    ("proxy-client-cert-file", "proxy-client-key-file"),
    ("cluster-signing-cert-file", "cluster-signing-key-file"),
    ("cluster-signing-kube-apiserver-client-cert-file", "cluster-signing-kube-apiserver-client-key-file"),
    ("cluster-signing-kubelet-client-cert-file", "cluster-signing-kubelet-client-key-file"),
    ("cluster-signing-kubelet-serving-cert-file", "cluster-signing-kubelet-serving-key-file"),
    ("cluster-signing-legacy-unknown-cert-file", "cluster-signing-legacy-unknown-key-file"),
];
const BUNDLES: &str = "client-ca-file etcd-cafile kubelet-certificate-authority oidc-ca-file \
     requestheader-client-ca-file root-ca-file";
const CLIENTS: &str = "etcd-certfile kubelet-client-certificate proxy-client-cert-file";
const KUBECONFIGS: &str = "authentication-kubeconfig authorization-kubeconfig kubeconfig";
const SIGNERS: &str = "cluster-signing-cert-file cluster-signing-kube-apiserver-client-cert-file \
     cluster-signing-kubelet-client-cert-file cluster-signing-kubelet-serving-cert-file \
     cluster-signing-legacy-unknown-cert-file";

pub(super) fn sec1(case: &Case) -> Said {
    guarded(case).filter(|is_secret| *is_secret)?;
    lost(case)
}

/// Whether something guarded is deleted, emptied, retyped or frozen.
pub(super) fn lost(case: &Case) -> Said {
    if case.creates() {
        return None;
    }
    let (new, old) = (case.object(), case.old());
    let all = |object| [keys(object, "data"), keys(object, "binaryData")].concat();
    let kept = all(old).iter().all(|key| all(new).contains(key));
    let frozen = yes(new, "immutable") && !yes(old, "immutable");
    Some(case.deletes() || text(new, "type") != text(old, "type") || !kept || frozen)
}

pub(super) fn sec2(case: &Case) -> Said {
    let files = files(case)?;
    let mut bad = false;
    for file in &files {
        if file.holds_certificates() {
            bad |= !sound(file);
        }
        if PAIRS.iter().any(|it| file.is_for(it.1)) {
            bad |= private_key(&file.new).is_none();
        }
    }
    let all = case.uses();
    for used in all {
        let Some(pair) = PAIRS.iter().find(|it| it.0 == used.flag) else { continue };
        let Some(key) = all.iter().find(|it| it.component == used.component && it.flag == pair.1) else {
            continue;
        };
        let touched = files.iter().any(|it| it.uses.contains(used) || it.uses.contains(key));
        let at_once = case.edit().is_some() || (here(case, used) && here(case, key));
        if !at_once || !touched {
            continue;
        }
        let chain = read(case, used).and_then(|it| certificates(&it)).unwrap_or_default();
        let key = read(case, key).and_then(|it| private_key(&it));
        if let (Some(leaf), Some(key)) = (chain.first(), key) {
            bad |= leaf.key != key;
        }
    }
    Some(bad)
}

/// Whether a file of certificates can be read, is strong, and, if a chain, is in order.
fn sound(file: &File) -> bool {
    let Some(chain) = certificates(&file.new).filter(|it| !it.is_empty()) else { return false };
    let ordered = chain.windows(2).all(|pair| signed(pair[0], pair[1]));
    let shape = if file.is_for(BUNDLES) { !has_private(&file.new) } else { ordered };
    shape && chain.iter().all(|it| !it.weak)
}

fn signed(certificate: &Certificate, issuer: &Certificate) -> bool {
    certificate.issuer == issuer.key && certificate.issuer_name == issuer.subject
}

pub(super) fn sec3(case: &Case) -> Said {
    let limits = &case.settings["certificates"];
    let skew = limits["skew"].as_i64().unwrap_or(300);
    let remaining = limits["remaining"].as_i64().unwrap_or(7 * 86_400);
    let mut bad = false;
    for file in files(case)?.iter().filter(|it| it.holds_certificates()) {
        let Some(chain) = certificates(&file.new) else { continue };
        let before = file.before();
        for certificate in &chain {
            let stays = file.is_for(BUNDLES) && before.iter().any(|it| it.id == certificate.id);
            let valid = certificate.since <= NOW + skew && certificate.until >= NOW + remaining;
            bad |= !stays && !valid;
        }
        let is_leaf = file.is_for(CLIENTS) || file.is_for("tls-cert-file");
        if let (true, Some(new), Some(old)) = (is_leaf, chain.first(), before.first()) {
            bad |= new.until < old.until;
        }
    }
    Some(bad)
}

pub(super) fn sec4(case: &Case) -> Said {
    let mut bad = false;
    for file in files(case)? {
        let Some(chain) = certificates(&file.new) else { continue };
        let Some(first) = chain.first() else { continue };
        let (serves, asks) = (file.is_for("tls-cert-file"), file.is_for(CLIENTS));
        bad |= serves && !first.for_servers;
        bad |= asks && !first.for_clients;
        if serves || asks {
            bad |= first.authority;
            bad |= first.master && !file.before().first().is_some_and(|it| it.master);
        }
        if file.is_for("proxy-client-cert-file") {
            let line = server(case);
            let names = line.items("requestheader-allowed-names");
            bad |= !names.is_empty() && !names.contains(&first.name);
        }
        if file.is_for(BUNDLES) {
            bad |= chain.iter().any(|it| !it.authority);
        } else if file.is_for(SIGNERS) {
            bad |= !first.authority;
        }
    }
    Some(bad)
}

pub(super) fn sec5(case: &Case) -> Said {
    let mut bad = false;
    for file in files(case)?.iter().filter(|it| it.is_for("tls-cert-file")) {
        let Some(new) = certificates(&file.new).and_then(|it| it.first().copied()) else { continue };
        let mut wanted: Vec<String> = Vec::new();
        if let Some(old) = file.before().first() {
            wanted.extend(old.names.iter().map(|it| it.to_lowercase()));
        }
        if file.uses.iter().any(|it| it.component == SERVER && it.flag == "tls-cert-file") {
            wanted.extend(
                ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(ToOwned::to_owned),
            );
            // The first address of each range of the cases.
            match server(case).items("service-cluster-ip-range").first() {
                Some(&"10.96.0.0/12") => wanted.push("10.96.0.1".to_owned()),
                Some(&"10.97.0.0/16") => wanted.push("10.97.0.1".to_owned()),
                _ => {}
            }
        }
        bad |= wanted.iter().any(|name| !new.names.iter().any(|it| it.to_lowercase() == *name));
    }
    Some(bad)
}

/// Where an authority must be, so that those who look know a leaf: a component and its flag.
fn known_by(used: &Use) -> Option<(usize, &'static str)> {
    match used.flag.as_str() {
        "tls-cert-file" if used.component == SERVER => Some((1, "root-ca-file")),
        "proxy-client-cert-file" => Some((SERVER, "requestheader-client-ca-file")),
        flag if KUBECONFIGS.split_whitespace().any(|it| it == flag) => Some((SERVER, "client-ca-file")),
        _ => None,
    }
}

pub(super) fn sec6(case: &Case) -> Said {
    let mut bad = false;
    let files = files(case)?;
    for file in &files {
        let Some(new) = certificates(&file.new) else { continue };
        if file.is_for(BUNDLES) {
            for old in file.before() {
                let stays = new.iter().any(|it| it.subject == old.subject && it.key == old.key);
                bad |= old.until > NOW && !stays;
            }
        }
        let is_leaf = file.is_for(CLIENTS) || file.is_for("tls-cert-file");
        for used in file.uses.iter().filter(|_| is_leaf && !new.is_empty()) {
            let bundle = known_by(used).and_then(|(component, flag)| file_of(case, component, flag));
            if let Some(bundle) = bundle.and_then(|it| certificates(&it)) {
                bad |= !new.iter().any(|it| bundle.iter().any(|authority| signed(it, authority)));
            }
        }
    }
    if files.iter().any(|it| it.is_for("client-ca-file requestheader-client-ca-file")) {
        let bundle = |flag| file_of(case, SERVER, flag).and_then(|it| certificates(&it)).unwrap_or_default();
        let (clients, proxies) = (bundle("client-ca-file"), bundle("requestheader-client-ca-file"));
        bad |= proxies.iter().any(|it| clients.iter().any(|client| client.key == it.key));
    }
    Some(bad)
}

pub(super) fn sec7(case: &Case) -> Said {
    let mut bad = false;
    let files = files(case)?;
    let verify = "service-account-key-file";
    for file in files.iter().filter(|it| it.is_for(verify)) {
        match public_keys(&file.new) {
            None => bad = true,
            Some(new) => {
                let old = file.old.as_deref().and_then(public_keys).unwrap_or_default();
                bad |= new.is_empty() || old.iter().any(|it| !new.contains(it));
            }
        }
    }
    for file in files
        .iter()
        .filter(|it| it.is_for("service-account-signing-key-file service-account-private-key-file"))
    {
        let Some(key) = private_key(&file.new) else {
            bad = true;
            continue;
        };
        // What API servers verify with until this write is through; where nobody knows that, what they then do.
        let verifies = |uses: &[Use]| -> Vec<usize> {
            let own = uses.iter().filter(|it| it.component == SERVER && it.flag == verify);
            own.filter_map(|it| public_keys(&before(case, it)?)).flatten().collect()
        };
        let server = case.edit().filter(|it| it.component == SERVER).and_then(|it| it.old.as_ref());
        let mut known: Vec<usize> =
            server.map(|it| verifies(&files_of(SERVER, it).concat())).unwrap_or_default();
        if known.is_empty() {
            known = verifies(case.uses());
        }
        bad |= !known.is_empty() && !known.contains(&key);
    }
    Some(bad)
}

/// The cluster and the user that a kubeconfig leads to.
fn leads_to(config: &Value) -> Option<(&Value, &Value)> {
    let one = |list_of: &str, kind: &str, name: &str| {
        let mut all = list(config, list_of).iter().filter(|it| text(it, "name") == name);
        let found = all.next().map(|it| &it[kind]).filter(|it| it.is_object());
        if all.next().is_some() { None } else { found }
    };
    let context = one("contexts", "context", text(config, "current-context"))?;
    Some((
        one("clusters", "cluster", text(context, "cluster"))?,
        one("users", "user", text(context, "user"))?,
    ))
}

fn decoded(of: &Value, field: &str) -> Option<String> {
    let bytes = STANDARD.decode(text(of, field)).ok().filter(|it| !it.is_empty())?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn sec9(case: &Case) -> Said {
    let mut bad = false;
    for file in files(case)?.iter().filter(|it| it.is_for(KUBECONFIGS)) {
        let parse = |written: &str| serde_saphyr::from_str::<Value>(written).ok().filter(Value::is_object);
        let config = parse(&file.new);
        let Some((cluster, user)) = config.as_ref().and_then(leads_to) else {
            bad = true;
            continue;
        };
        let before = file.old.as_deref().and_then(parse);
        let before = before.as_ref().and_then(leads_to);
        bad |= !text(cluster, "server").starts_with("https://");
        bad |= before.is_some_and(|it| text(it.0, "server") != text(cluster, "server"));
        bad |= yes(cluster, "insecure-skip-tls-verify");
        for field in ["proxy-url", "tls-server-name"] {
            bad |= !empty(&cluster[field]) && before.is_none_or(|it| it.0[field] != cluster[field]);
        }
        for field in ["exec", "auth-provider", "tokenFile", "username", "password", "as", "as-groups"] {
            bad |= !empty(&user[field]);
        }
        for (of, field) in
            [(cluster, "certificate-authority"), (user, "client-certificate"), (user, "client-key")]
        {
            let path = text(of, field);
            bad |= !path.is_empty() && (!path.starts_with("/etc/kubernetes/") || path.contains(".."));
        }
        if empty(&cluster["certificate-authority"]) {
            let bundle = |of| decoded(of, "certificate-authority-data").and_then(|it| certificates(&it));
            let now = bundle(cluster).unwrap_or_default();
            let before = before.and_then(|it| bundle(it.0)).unwrap_or_default();
            let same =
                |one: &Certificate, other: &Certificate| one.subject == other.subject && one.key == other.key;
            bad |= now.is_empty() || before.iter().any(|old| !now.iter().any(|it| same(it, old)));
        }
        let shown = decoded(user, "client-certificate-data");
        for used in &file.uses {
            bad |= !identifies(used.component, user, shown.as_deref());
            let bundle = known_by(used).and_then(|(component, flag)| file_of(case, component, flag));
            let bundle = bundle.and_then(|it| certificates(&it));
            let chain = shown.as_deref().and_then(certificates).unwrap_or_default();
            if let Some(bundle) = bundle.filter(|_| !chain.is_empty()) {
                bad |= !chain.iter().any(|it| bundle.iter().any(|authority| signed(it, authority)));
            }
        }
    }
    Some(bad)
}

/// Whether a user of a kubeconfig is the component.
fn identifies(component: usize, user: &Value, shown: Option<&str>) -> bool {
    let Some(shown) = shown else {
        return !empty(&user["client-certificate"]) || !empty(&user["token"]);
    };
    let Some(leaf) = certificates(shown).and_then(|it| it.first().copied()) else { return false };
    if component == SERVER {
        return true;
    }
    let key = decoded(user, "client-key-data");
    leaf.name == format!("system:{}", COMPONENTS[component].name)
        && !leaf.master
        && leaf.for_clients
        && leaf.until >= NOW
        && key.is_none_or(|it| private_key(&it) == Some(leaf.key))
}

pub(super) fn sec10(case: &Case) -> Said {
    let writers = texts(case.settings, "writers");
    guarded(case).filter(|_| !writers.is_empty())?;
    Some(!writers.contains(&case.user()))
}

/// The ServiceAccounts that are as good as a controller, a writer, or the guard.
pub(super) fn trusted(case: &Case, namespace: &str, account: &str) -> bool {
    let name = format!("system:serviceaccount:{namespace}:{account}");
    let of_guard = namespace == case.guard_namespace() && account == case.guard_name();
    of_guard
        || texts(case.settings, "writers").contains(&name.as_str())
        || IDENTITIES.iter().any(|it| usernames(case.settings, it).contains(&name))
}

pub(super) fn sec11(case: &Case) -> Said {
    let of_pod = template_path(case).filter(|_| case.creates());
    let account = if case.is("/secrets") && case.writes() {
        if text(case.object(), "type") != "kubernetes.io/service-account-token" {
            return None;
        }
        annotation(case.object(), "kubernetes.io/service-account.name").unwrap_or("")
    } else if case.resource() == "/serviceaccounts" && case.sub() == "token" {
        let bound = case.object()["spec"]["boundObjectRef"]["kind"] == "Pod";
        if case.by("controller-manager") || (bound && case.kubelet().is_some()) {
            return Some(false);
        }
        case.name()
    } else if let Some(path) = of_pod {
        if case.namespace() == case.guard_namespace() {
            return Some(false);
        }
        text(&get(case.object(), &path)["spec"], "serviceAccountName")
    } else {
        return None;
    };
    Some(trusted(case, case.namespace(), account))
}

pub(super) fn sec12(case: &Case) -> Said {
    let path = template_path(case).filter(|_| case.writes() && case.component().is_none())?;
    let (new, old) = (get(case.object(), &path), get(case.old(), &path));
    if case.is("/pods") {
        let own = case.by("daemon-set-controller") && runs(new).is_some();
        let bridge = bridges(new).is_some() && text(&new["metadata"], "namespace") == "kube-system";
        if own || bridge {
            return None;
        }
    }
    let known = references(old);
    let mut bad = false;
    for reference in references(new).iter().filter(|it| it.is_secret && !known.contains(it)) {
        let key = format!("{}/{}", case.namespace(), reference.name);
        let mounted = case.namespace() == "kube-system" && mounts(case, true, &reference.name);
        bad |= mounted || texts(case.settings, "secrets").contains(&key.as_str());
    }
    Some(bad)
}
