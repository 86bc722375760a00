//! DS-8 and DS-9 once more, with a reader of command lines of their own.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

use super::daemonsets::Edit;
use super::judge::{COMPONENTS, Case, SERVER, Said, container, list, text, texts};

/// A flag, its value as it is written, and whether that differs by node.
type Flag = (String, String, bool);

/// A command line.
#[derive(Default)]
pub(super) struct Line {
    component: usize,
    flags: Vec<Flag>,
    /// Whether something of it cannot be told.
    pub(super) unclear: bool,
}

/// Flags by name: the kind of their value, and the minors that have them.
type Table = BTreeMap<&'static str, (&'static str, Vec<u32>)>;

/// Each flag of a component's `--help`.
fn help(component: usize) -> &'static Table {
    static TABLES: OnceLock<Vec<Table>> = OnceLock::new();
    let read = |table: &'static str| {
        let lines = table.lines().filter(|line| !line.starts_with('#'));
        let words = lines.map(|line| line.split(' ').collect::<Vec<_>>());
        words
            .map(|it| (it[0], (it[1], it[2..].iter().filter_map(|minor| minor.parse().ok()).collect())))
            .collect()
    };
    let tables = TABLES.get_or_init(|| {
        vec![
            read(include_str!("../../flags/kube-apiserver.txt")),
            read(include_str!("../../flags/kube-controller-manager.txt")),
            read(include_str!("../../flags/kube-scheduler.txt")),
        ]
    });
    &tables[component]
}

/// What a container's variables are: `None` for what only the node knows.
struct Variables {
    known: BTreeMap<String, Option<String>>,
    others: bool,
}

impl Variables {
    fn of(container: &Value) -> Self {
        let mut variables = Self { known: BTreeMap::new(), others: !list(container, "envFrom").is_empty() };
        for variable in list(container, "env") {
            let (value, by_node) = variables.expand(text(variable, "value"));
            let unknown = by_node || !variable["valueFrom"].is_null();
            variables.known.insert(text(variable, "name").to_owned(), (!unknown).then_some(value));
        }
        variables
    }

    /// `$(NAME)` and `$$`, character by character.
    fn expand(&self, written: &str) -> (String, bool) {
        let letters: Vec<char> = written.chars().collect();
        let (mut expanded, mut by_node, mut at) = (String::new(), false, 0);
        while at < letters.len() {
            let is_name = letters[at] == '$' && letters.get(at + 1) == Some(&'(');
            let end =
                if is_name { letters[at..].iter().position(|it| *it == ')').map(|it| at + it) } else { None };
            match (letters[at], letters.get(at + 1), end) {
                ('$', Some('$'), _) => {
                    expanded.push('$');
                    at += 2;
                }
                ('$', Some('('), Some(end)) => {
                    let name: String = letters[at + 2..end].iter().collect();
                    match self.known.get(&name) {
                        Some(Some(value)) => expanded.push_str(value),
                        Some(None) => {
                            by_node = true;
                            expanded.extend(["$(", &name, ")"]);
                        }
                        None => {
                            by_node |= self.others;
                            expanded.extend(["$(", &name, ")"]);
                        }
                    }
                    at = end + 1;
                }
                (letter, _, _) => {
                    expanded.push(letter);
                    at += 1;
                }
            }
        }
        (expanded, by_node)
    }
}

impl Line {
    /// Reads the container of a component; of none there is nothing to read.
    pub(super) fn of(component: usize, container: &Value) -> Self {
        let mut line = Self { component, ..Self::default() };
        if container.is_null() {
            return line;
        }
        let variables = Variables::of(container);
        let mut words: Vec<(String, bool)> = Vec::new();
        for word in texts(container, "command").into_iter().chain(texts(container, "args")) {
            words.push(variables.expand(word));
        }
        if list(container, "command").is_empty() {
            line.unclear = true;
            return line;
        }
        let (program, by_node) = words.remove(0);
        if by_node || program.split('/').next_back() != Some(COMPONENTS[component].name) {
            line.unclear = true;
            return line;
        }
        while !words.is_empty() {
            let word = words.remove(0);
            line.take(&word, &mut words);
        }
        line
    }

    fn take(&mut self, (word, by_node): &(String, bool), rest: &mut Vec<(String, bool)>) {
        let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
            // The one short flag is the verbosity, a number.
            let level = match word.strip_prefix("-v") {
                Some("") if !rest.is_empty() => Some(rest.remove(0).0),
                Some(level) => Some(level.strip_prefix('=').unwrap_or(level).to_owned()),
                None => None,
            };
            self.unclear |= level.is_none_or(|level| level.parse::<u8>().is_err());
            return;
        };
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        if name.contains('$') || !name.chars().all(|it| it.is_ascii_graphic()) {
            self.unclear = true;
            return;
        }
        let name = name.replace('_', "-");
        let value = if let Some(value) = value {
            (value.to_owned(), *by_node && value.contains("$("))
        } else if let Some((kind, _)) = help(self.component).get(name.as_str()) {
            if *kind == "bool" || kind.contains("[=") {
                ("true".to_owned(), false)
            } else if rest.is_empty() {
                self.unclear = true;
                return;
            } else {
                let value = rest.remove(0);
                if value.0.starts_with('-') {
                    self.unclear = true;
                    return;
                }
                value
            }
        } else if rest.first().is_some_and(|(next, _)| !next.starts_with('-')) {
            rest.remove(0)
        } else {
            ("true".to_owned(), false)
        };
        self.flags.push((name, value.0, value.1));
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.flags.iter().any(|it| it.0 == name)
    }

    fn last(&self, name: &str) -> Option<(&str, bool)> {
        self.flags.iter().rev().find(|it| it.0 == name).map(|it| (it.1.as_str(), it.2))
    }

    /// The value that counts, as it is written.
    pub(super) fn value(&self, name: &str) -> &str {
        self.last(name).map_or("", |it| it.0)
    }

    fn on(&self, name: &str, default: bool) -> bool {
        match self.last(name) {
            None => default,
            Some((value, _)) => ["1", "t", "T", "true", "TRUE", "True"].contains(&value),
        }
    }

    /// Each value that counts: the last one, or all of a flag that takes many.
    pub(super) fn values(&self, name: &str) -> Vec<&str> {
        let all: Vec<&str> = self.flags.iter().filter(|it| it.0 == name).map(|it| it.1.as_str()).collect();
        let one = [
            "bool",
            "string",
            "int",
            "int32",
            "ip",
            "duration",
            "float",
            "float32",
            "Level",
            "quantity",
            "portRange",
        ];
        match help(self.component).get(name) {
            Some((kind, _)) if one.contains(kind) || kind.contains("[=") => {
                all.last().copied().into_iter().collect()
            }
            _ => all,
        }
    }

    /// The same, with lists taken apart.
    pub(super) fn items(&self, name: &str) -> Vec<&str> {
        self.values(name).into_iter().flat_map(|it| it.split(',')).map(str::trim).collect()
    }

    pub(super) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.flags.iter().map(|it| it.0.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Flags that must not go, by component.
const KEPT: [&str; 3] = [
    "admission-control-config-file audit-log-path audit-policy-file audit-webhook-config-file authentication-config \
     authentication-token-webhook-config-file authorization-config authorization-webhook-config-file client-ca-file \
     egress-selector-config-file encryption-provider-config etcd-cafile etcd-certfile etcd-keyfile etcd-servers \
     kubelet-certificate-authority kubelet-client-certificate kubelet-client-key oidc-ca-file oidc-client-id \
     oidc-issuer-url proxy-client-cert-file proxy-client-key-file requestheader-allowed-names \
     requestheader-client-ca-file service-account-signing-key-file tls-cert-file tls-private-key-file",
    "authentication-kubeconfig authorization-kubeconfig client-ca-file cluster-signing-cert-file \
     cluster-signing-key-file kubeconfig requestheader-client-ca-file root-ca-file service-account-private-key-file",
    "authentication-kubeconfig authorization-kubeconfig config kubeconfig",
];

/// Flags that must stay what they are, by component.
const FIXED: [&str; 3] = [
    "etcd-prefix secure-port storage-backend",
    "cluster-cidr cluster-name leader-elect-resource-name leader-elect-resource-namespace secure-port",
    "leader-elect-resource-name leader-elect-resource-namespace secure-port",
];

const GROWING: &str = "service-account-issuer service-account-key-file service-cluster-ip-range";

const PLUGINS: &str = "CertificateApproval CertificateSigning CertificateSubjectRestriction MutatingAdmissionPolicy \
     MutatingAdmissionWebhook NamespaceLifecycle NodeRestriction Priority ServiceAccount ValidatingAdmissionPolicy \
     ValidatingAdmissionWebhook";

const GATES: &str = "AnonymousAuthConfigurableEndpoints AuthorizeNodeWithSelectors AuthorizeWithSelectors \
     ManifestBasedAdmissionControlConfig ServiceAccountNodeAudienceRestriction StructuredAuthenticationConfiguration \
     StructuredAuthorizationConfiguration ValidatingAdmissionPolicy";

const GROUPS: &str = "v1 api/all api/ga admissionregistration.k8s.io apps authentication.k8s.io authorization.k8s.io \
     coordination.k8s.io rbac.authorization.k8s.io";

const CONTROLLERS: &str = "certificatesigningrequest-approving-controller certificatesigningrequest-signing-controller \
     csrapproving csrsigning daemonset daemonset-controller garbagecollector garbage-collector-controller namespace \
     namespace-controller node-lifecycle-controller nodelifecycle root-ca-certificate-publisher-controller \
     serviceaccount-token-controller";

/// What Go takes for false.
const FALSE: &str = "0 f F false FALSE False";

fn among(words: &str, word: &str) -> bool {
    words.split_whitespace().any(|it| it == word)
}

pub(super) fn ds8(case: &Case) -> Said {
    let edit = case.edit().filter(|it| it.changed)?;
    let Edit { component, new, old, .. } = edit;
    let new = container(new, *component);
    if new.is_null() {
        return Some(true);
    }
    let old = old.as_ref().map_or(&Value::Null, |old| container(old, *component));
    if !old.is_null() && ["command", "args", "env", "envFrom"].iter().all(|it| old[*it] == new[*it]) {
        return Some(false);
    }
    let (new, old) = (Line::of(*component, new), Line::of(*component, old));
    let weaker = of_any(*component, &new, &old)
        || match component {
            0 => of_server(&new, &old),
            1 => of_controller_manager(&new, &old),
            _ => false,
        };
    Some(new.unclear || weaker)
}

fn of_any(component: usize, new: &Line, old: &Line) -> bool {
    let nothing_before = old.flags.is_empty();
    let mut bad = false;
    for flag in KEPT[component].split_whitespace() {
        bad |= !old.value(flag).is_empty() && new.value(flag).is_empty();
    }
    for flag in FIXED[component].split_whitespace() {
        bad |= !nothing_before && new.last(flag) != old.last(flag);
    }
    for flag in GROWING.split_whitespace() {
        bad |= old.items(flag).iter().any(|it| !new.items(flag).contains(it));
    }
    bad |= new.has("help") || new.has("version") || new.value("secure-port") == "0";
    bad |= component != SERVER && !new.on("leader-elect", true);
    for gate in new.items("feature-gates") {
        let (name, value) = gate.split_once('=').unwrap_or((gate, ""));
        let name = name.split(':').next_back().unwrap_or("");
        let off = among(FALSE, value);
        let weak = match name {
            "AllAlpha" => !off,
            "AllBeta" => off,
            _ => off && among(GATES, name),
        };
        bad |= weak && !old.items("feature-gates").contains(&gate);
    }
    bad |= ["TLS10", "TLS11"].iter().any(|it| new.value("tls-min-version").ends_with(it));
    let open = "authorization-always-allow-paths";
    bad |= new
        .items(open)
        .iter()
        .any(|path| !among("/healthz /livez /readyz", path) && !old.items(open).contains(path));
    bad
}

fn of_server(new: &Line, old: &Line) -> bool {
    let nothing_before = old.flags.is_empty();
    let mut bad = false;
    let (modes, before) = (new.items("authorization-mode"), old.items("authorization-mode"));
    // An API server knows no mode with a blank.
    let exact: Vec<&str> =
        new.values("authorization-mode").into_iter().flat_map(|it| it.split(',')).collect();
    for mode in ["Node", "RBAC"] {
        let was = nothing_before || old.has("authorization-config") || before.contains(&mode);
        bad |= !new.has("authorization-config") && was && !exact.contains(&mode);
    }
    bad |= modes.contains(&"AlwaysAllow") && !before.contains(&"AlwaysAllow");
    bad |= !nothing_before && new.on("anonymous-auth", true) && !old.on("anonymous-auth", true);
    bad |= new.items("disable-admission-plugins").iter().any(|it| among(PLUGINS, it));
    let plugins = "enable-admission-plugins";
    let restricted = |line: &Line| line.items(plugins).contains(&"NodeRestriction");
    bad |= !restricted(new) && (nothing_before || restricted(old));
    bad |= new.items(plugins).contains(&"AlwaysDeny");
    for flag in ["admission-control", "basic-auth-file", "insecure-bind-address", "token-auth-file"] {
        bad |= new.has(flag) && !old.has(flag);
    }
    bad |= !["", "0"].contains(&new.value("insecure-port"));
    bad |= !new.on("service-account-lookup", true);
    let reconciler = "endpoint-reconciler-type";
    bad |= new.value(reconciler) == "none" && old.value(reconciler) != "none";
    let address = new.last("advertise-address");
    bad |= address.is_some_and(|it| !it.1) && address != old.last("advertise-address");
    bad |= !["", "0.0.0.0", "::"].contains(&new.value("bind-address"));
    let plain = |line: &Line| line.items("etcd-servers").iter().any(|it| !it.starts_with("https://"));
    bad |= plain(new) && !plain(old);
    bad |= new.value("audit-log-path").starts_with("/dev/null");
    for item in new.items("runtime-config") {
        let (group, value) = item.split_once('=').unwrap_or_default();
        let ours = GROUPS.split_whitespace().any(|it| group == it || group.starts_with(&format!("{it}/")));
        bad |= ours && among(FALSE, value) && !old.items("runtime-config").contains(&item);
    }
    bad
}

fn of_controller_manager(new: &Line, old: &Line) -> bool {
    let own = "use-service-account-credentials";
    let all = |line: &Line| !line.has("controllers") || line.items("controllers").contains(&"*");
    let off = |line: &Line| -> Vec<String> {
        let items = line.items("controllers");
        items.iter().filter_map(|it| it.strip_prefix('-')).map(ToOwned::to_owned).collect()
    };
    (old.on(own, false) && !new.on(own, false))
        || (all(old) && !all(new))
        || off(new).iter().any(|it| among(CONTROLLERS, it) && !off(old).contains(it))
}

pub(super) fn ds9(case: &Case) -> Said {
    let edit = case.edit().filter(|it| it.changed)?;
    let container = container(&edit.new, edit.component);
    let (_, minor, ..) = super::daemonsets::version(text(container, "image"))?;
    if !help(SERVER)["etcd-servers"].1.contains(&minor) {
        return Some(false);
    }
    let line = Line::of(edit.component, container);
    let unknown = line.names().into_iter().any(|name| {
        let known = help(edit.component).get(name).is_some_and(|(_, minors)| minors.contains(&minor));
        !known && !["help", "version", "v", "vmodule"].contains(&name)
    });
    Some(unknown)
}
