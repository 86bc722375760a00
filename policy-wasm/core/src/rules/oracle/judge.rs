//! The oracle: what the reference says of a request, once more and in the simplest words there are.
//!
//! Invariant: nothing of the rules is called here, and none of what they share (`review`, `usage`, `command`): an error
//! there must not be an error here too. Values are JSON as it came, lookups go through the whole cluster, and what takes
//! long takes long.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use serde_json::Value;

use super::credentials::Use;
use super::daemonsets::Edit;
use super::{access, configurations, credentials, daemonsets, pods, shape};

/// The time of every case: that of the tables.
pub(super) const NOW: i64 = 1_800_000_000;

/// What tells the control plane's components apart.
pub(super) struct Component {
    pub(super) name: &'static str,
    pub(super) daemonset: &'static str,
    pub(super) port: u64,
    pub(super) bridge_port: u64,
    pub(super) label: &'static str,
}

pub(super) const COMPONENTS: [Component; 3] = [
    Component {
        name: "kube-apiserver",
        daemonset: "self-hosted-kube-apiserver",
        port: 6443,
        bridge_port: 6444,
        label: "kubectl-selfhost.dev/kube-apiserver",
    },
    Component {
        name: "kube-controller-manager",
        daemonset: "self-hosted-kube-controller-manager",
        port: 10257,
        bridge_port: 10267,
        label: "kubectl-selfhost.dev/kube-controller-manager",
    },
    Component {
        name: "kube-scheduler",
        daemonset: "self-hosted-kube-scheduler",
        port: 10259,
        bridge_port: 10269,
        label: "kubectl-selfhost.dev/kube-scheduler",
    },
];

/// The place of the API server in [`COMPONENTS`].
pub(super) const SERVER: usize = 0;

pub(super) const ROLES: [&str; 2] =
    ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

static NULL: Value = Value::Null;

/// A request, the cluster that it comes to, and the settings.
pub(super) struct Case<'a> {
    pub(super) request: &'a Value,
    pub(super) cluster: &'a [Value],
    pub(super) settings: &'a Value,
    edit: OnceCell<Option<Edit>>,
    uses: OnceCell<Vec<Use>>,
    mounted: OnceCell<BTreeSet<(bool, String)>>,
}

impl<'a> Case<'a> {
    pub(super) fn new(request: &'a Value, cluster: &'a [Value], settings: &'a Value) -> Self {
        Self {
            request,
            cluster,
            settings,
            edit: OnceCell::new(),
            uses: OnceCell::new(),
            mounted: OnceCell::new(),
        }
    }

    /// The edit of a DaemonSet of the control plane that this is.
    pub(super) fn edit(&self) -> Option<&Edit> {
        self.edit.get_or_init(|| daemonsets::edit(self)).as_ref()
    }

    /// The Secrets (true) and ConfigMaps that the control plane's DaemonSets refer to.
    pub(super) fn mounted(&self) -> &BTreeSet<(bool, String)> {
        self.mounted.get_or_init(|| credentials::mounted(self))
    }

    /// The files of the control plane that Secrets and ConfigMaps hold.
    pub(super) fn uses(&self) -> &[Use] {
        self.uses.get_or_init(|| credentials::uses(self))
    }
}

/// What a rule says: `None` where the request is none of its business, else whether it is violated.
pub(super) type Said = Option<bool>;

type Rule = (&'static str, &'static str, fn(&Case) -> Said);

/// Every rule, with the severity that the reference gives it.
pub(super) const RULES: &[Rule] = &[
    ("DS-1", "needs-approval", daemonsets::ds1),
    ("DS-2", "deny", daemonsets::ds2),
    ("DS-3", "deny", daemonsets::ds3),
    ("DS-4", "deny", daemonsets::ds4),
    ("DS-5", "deny", daemonsets::ds5),
    ("DS-6", "deny", daemonsets::ds6),
    ("DS-7", "deny", daemonsets::ds7),
    ("DS-8", "deny", super::flags::ds8),
    ("DS-9", "warn", super::flags::ds9),
    ("DS-10", "deny", daemonsets::ds10),
    ("DS-11", "needs-approval", daemonsets::ds11),
    ("DS-12", "needs-approval", daemonsets::ds12),
    ("DS-13", "warn", daemonsets::ds13),
    ("DS-14", "warn", daemonsets::ds14),
    ("DS-15", "needs-approval", daemonsets::ds15),
    ("DS-16", "needs-approval", daemonsets::ds16),
    ("CR-1", "deny", daemonsets::cr1),
    ("SEC-1", "deny", credentials::sec1),
    ("SEC-2", "deny", credentials::sec2),
    ("SEC-3", "deny", credentials::sec3),
    ("SEC-4", "deny", credentials::sec4),
    ("SEC-5", "deny", credentials::sec5),
    ("SEC-6", "needs-approval", credentials::sec6),
    ("SEC-7", "deny", credentials::sec7),
    ("SEC-8", "deny", configurations::sec8),
    ("SEC-9", "deny", credentials::sec9),
    ("SEC-10", "needs-approval", credentials::sec10),
    ("SEC-11", "deny", credentials::sec11),
    ("SEC-12", "needs-approval", credentials::sec12),
    ("CM-1", "deny", configurations::cm1),
    ("CM-2", "deny", configurations::cm2),
    ("CM-3", "needs-approval", configurations::cm3),
    ("CM-4", "deny", configurations::cm4),
    ("RB-1", "deny", access::rb1),
    ("RB-2", "needs-approval", access::rb2),
    ("RB-3", "deny", access::rb3),
    ("RB-4", "deny", access::rb4),
    ("RB-5", "needs-approval", access::rb5),
    ("AR-1", "needs-approval", access::ar1),
    ("AR-2", "needs-approval", access::ar2),
    ("AR-4", "deny", access::ar4),
    ("AR-5", "needs-approval", access::ar5),
    ("AR-6", "needs-approval", access::ar6),
    ("PO-1", "needs-approval", pods::po1),
    ("PO-2", "deny", pods::po2),
    ("PO-3", "needs-approval", pods::po3),
    ("PO-4", "deny", pods::po4),
    ("PO-5", "needs-approval", pods::po5),
    ("PO-6", "deny", pods::po6),
    ("NODE-1", "needs-approval", pods::node1),
    ("NODE-2", "deny", pods::node2),
    ("NODE-3", "needs-approval", pods::node3),
    ("NODE-4", "needs-approval", pods::node4),
    ("NS-1", "deny", access::ns1),
    ("NS-2", "needs-approval", access::ns2),
    ("NS-3", "deny", access::ns3),
    ("SVC-1", "deny", access::svc1),
    ("SVC-2", "deny", access::svc2),
];

/// What the reference says of a case.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) allowed: bool,
    /// The rules that are violated, with the severity that counts.
    pub(super) found: BTreeSet<(&'static str, String)>,
    /// The rules that had a say and nothing against it.
    pub(super) held: Vec<&'static str>,
}

/// Judges a case. `approved` are the rules that an approval, which the case carries, lifts.
pub(super) fn judge(case: &Case, approved: &[&str]) -> Expected {
    let mut expected = Expected { allowed: true, ..Expected::default() };
    if shape::g1(case) {
        expected.found.insert(("G-1", "deny".to_owned()));
        expected.allowed = false;
        return expected;
    }
    expected.held.push("G-1");
    for (id, usual, rule) in RULES {
        let severity = case.settings["rules"][*id].as_str().unwrap_or(usual);
        if severity == "off" || case.exempted(id) {
            continue;
        }
        match rule(case) {
            None => {}
            Some(false) => expected.held.push(id),
            Some(true) => {
                let lifted = severity == "needs-approval" && approved.contains(id);
                if severity != "warn" && !lifted {
                    expected.allowed = false;
                }
                expected.found.insert((id, severity.to_owned()));
            }
        }
    }
    expected
}

impl Case<'_> {
    pub(super) fn operation(&self) -> &str {
        text(self.request, "operation")
    }

    pub(super) fn creates(&self) -> bool {
        self.operation() == "CREATE"
    }

    pub(super) fn updates(&self) -> bool {
        self.operation() == "UPDATE"
    }

    pub(super) fn deletes(&self) -> bool {
        self.operation() == "DELETE"
    }

    pub(super) fn sub(&self) -> &str {
        text(self.request, "subResource")
    }

    /// `apps/daemonsets`, `/pods`
    pub(super) fn resource(&self) -> String {
        let resource = &self.request["resource"];
        format!("{}/{}", text(resource, "group"), text(resource, "resource"))
    }

    /// About the object itself, and not a subresource.
    pub(super) fn is(&self, resource: &str) -> bool {
        self.resource() == resource && self.sub().is_empty()
    }

    pub(super) fn writes(&self) -> bool {
        (self.creates() || self.updates()) && self.sub().is_empty()
    }

    pub(super) fn object(&self) -> &Value {
        &self.request["object"]
    }

    pub(super) fn old(&self) -> &Value {
        &self.request["oldObject"]
    }

    pub(super) fn changes(&self, path: &[&str]) -> bool {
        get(self.object(), path) != get(self.old(), path)
    }

    pub(super) fn name(&self) -> &str {
        let asked = text(self.request, "name");
        if self.operation() == "CONNECT" {
            return asked;
        }
        let own = [name_of(self.object()), name_of(self.old()), asked];
        own.into_iter().find(|name| !name.is_empty()).unwrap_or("")
    }

    pub(super) fn namespace(&self) -> &str {
        if self.resource() == "/namespaces" {
            return "";
        }
        let target = if self.object().is_object() { self.object() } else { self.old() };
        let asked = text(self.request, "namespace");
        if asked.is_empty() { namespace_of(target) } else { asked }
    }

    pub(super) fn key(&self) -> String {
        let namespace = self.namespace();
        if namespace.is_empty() { self.name().to_owned() } else { format!("{namespace}/{}", self.name()) }
    }

    pub(super) fn user(&self) -> &str {
        text(&self.request["userInfo"], "username")
    }

    fn groups(&self) -> Vec<&str> {
        texts(&self.request["userInfo"], "groups")
    }

    /// The node whose kubelet asks.
    pub(super) fn kubelet(&self) -> Option<&str> {
        let node = self.user().strip_prefix("system:node:")?;
        (self.groups().contains(&"system:nodes") && !node.is_empty()).then_some(node)
    }

    /// Whether the user is who the settings, or else the usual names, say for an identity.
    pub(super) fn by(&self, identity: &str) -> bool {
        usernames(self.settings, identity).contains(&self.user().to_owned())
    }

    fn exempted(&self, rule: &str) -> bool {
        list(self.settings, "exempt").iter().any(|exemption| {
            let users = texts(exemption, "users");
            let groups = texts(exemption, "groups");
            let objects = texts(exemption, "objects");
            text(exemption, "rule") == rule
                && (users.contains(&self.user()) || self.groups().iter().any(|it| groups.contains(it)))
                && (objects.is_empty() || objects.contains(&self.key().as_str()))
        })
    }

    /// The component whose DaemonSet this is about.
    pub(super) fn component(&self) -> Option<usize> {
        let of_daemonsets = ["apps/daemonsets", "extensions/daemonsets"].contains(&self.resource().as_str());
        if !of_daemonsets || self.namespace() != "kube-system" {
            return None;
        }
        COMPONENTS.iter().position(|it| it.daemonset == self.name())
    }

    pub(super) fn guard_namespace(&self) -> &str {
        self.settings["guard"]["namespace"].as_str().unwrap_or("selfhost-guard")
    }

    pub(super) fn guard_name(&self) -> &str {
        self.settings["guard"]["name"].as_str().unwrap_or("selfhost-guard")
    }

    /// Every object of a kind.
    pub(super) fn all(&self, kind: &str) -> Vec<&Value> {
        self.cluster.iter().filter(|it| text(it, "kind") == kind).collect()
    }

    /// One object; null where there is none.
    pub(super) fn find(&self, kind: &str, namespace: &str, name: &str) -> &Value {
        let all = self.all(kind);
        all.into_iter().find(|it| namespace_of(it) == namespace && name_of(it) == name).unwrap_or(&NULL)
    }

    pub(super) fn daemonset(&self, component: usize) -> &Value {
        self.find("DaemonSet", "kube-system", COMPONENTS[component].daemonset)
    }

    /// The Pods of `kube-system` with `tier: control-plane`.
    pub(super) fn control_plane_pods(&self) -> Vec<&Value> {
        let mut pods = self.all("Pod");
        pods.retain(|it| namespace_of(it) == "kube-system" && label(it, "tier") == Some("control-plane"));
        pods
    }

    pub(super) fn bridges(&self, component: usize) -> Vec<&Value> {
        let mut pods = self.all("Pod");
        let name = COMPONENTS[component].name;
        pods.retain(|it| {
            namespace_of(it) == "kube-system" && label(it, "kubectl-selfhost.dev/bridge") == Some(name)
        });
        pods
    }

    pub(super) fn control_plane_nodes(&self) -> Vec<&Value> {
        let mut nodes = self.all("Node");
        nodes.retain(|it| label(it, ROLES[0]).is_some());
        nodes
    }
}

/// The usernames of an identity.
pub(super) fn usernames(settings: &Value, identity: &str) -> Vec<String> {
    if settings["identities"][identity].is_array() {
        return texts(&settings["identities"], identity).into_iter().map(ToOwned::to_owned).collect();
    }
    let of =
        |names: &[&str]| names.iter().map(|it| format!("system:serviceaccount:kube-system:{it}")).collect();
    match identity {
        "api-server" => vec!["system:apiserver".to_owned()],
        "controller-manager" => vec!["system:kube-controller-manager".to_owned()],
        "scheduler" => vec!["system:kube-scheduler".to_owned()],
        "cluster-role-aggregation" => of(&["clusterrole-aggregation-controller"]),
        "garbage-collector" => of(&["generic-garbage-collector"]),
        "node-controller" => of(&["node-controller", "taint-eviction-controller"]),
        "root-ca-publisher" => of(&["root-ca-cert-publisher"]),
        // The others are called like their ServiceAccount.
        other => of(&[other]),
    }
}

pub(super) const IDENTITIES: [&str; 12] = [
    "api-server",
    "bootstrap-signer",
    "certificate-controller",
    "cluster-role-aggregation",
    "controller-manager",
    "daemon-set-controller",
    "garbage-collector",
    "namespace-controller",
    "node-controller",
    "pod-garbage-collector",
    "root-ca-publisher",
    "scheduler",
];

pub(super) fn get<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    let mut value = value;
    for name in path {
        value = &value[*name];
    }
    value
}

pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("")
}

pub(super) fn yes(value: &Value, name: &str) -> bool {
    value[name] == Value::Bool(true)
}

pub(super) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], |items| items.as_slice())
}

pub(super) fn texts<'a>(value: &'a Value, name: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for item in list(value, name) {
        if let Some(text) = item.as_str() {
            found.push(text);
        }
    }
    found
}

pub(super) fn keys<'a>(value: &'a Value, name: &str) -> Vec<&'a str> {
    value[name].as_object().map(|fields| fields.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// Whether it is as good as not there.
pub(super) fn empty(value: &Value) -> bool {
    value.is_null()
        || *value == false
        || *value == ""
        || value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(serde_json::Map::is_empty)
}

pub(super) fn name_of(object: &Value) -> &str {
    text(&object["metadata"], "name")
}

pub(super) fn namespace_of(object: &Value) -> &str {
    text(&object["metadata"], "namespace")
}

pub(super) fn label<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object["metadata"]["labels"][name].as_str()
}

pub(super) fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][name].as_str()
}

pub(super) fn ready(object: &Value) -> bool {
    let conditions = list(&object["status"], "conditions");
    conditions.iter().any(|it| text(it, "type") == "Ready" && text(it, "status") == "True")
}

pub(super) fn ending(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

pub(super) fn mirror(pod: &Value) -> bool {
    annotation(pod, "kubernetes.io/config.mirror").is_some()
}

pub(super) fn node_of(pod: &Value) -> &str {
    text(&pod["spec"], "nodeName")
}

/// The component that a Pod runs, by its labels.
pub(super) fn runs(pod: &Value) -> Option<usize> {
    let by_app = COMPONENTS.iter().position(|it| label(pod, "k8s-app") == Some(it.daemonset));
    if by_app.is_some() || label(pod, "tier") != Some("control-plane") {
        return by_app;
    }
    COMPONENTS.iter().position(|it| label(pod, "component") == Some(it.name))
}

/// The component that a Pod is a bridge of.
pub(super) fn bridges(pod: &Value) -> Option<usize> {
    COMPONENTS.iter().position(|it| label(pod, "kubectl-selfhost.dev/bridge") == Some(it.name))
}

/// A component's container in a Pod or template.
pub(super) fn container(pod: &Value, component: usize) -> &Value {
    let containers = list(&pod["spec"], "containers");
    containers.iter().find(|it| text(it, "name") == COMPONENTS[component].name).unwrap_or(&NULL)
}

/// Every container of a Pod or template, of any kind.
pub(super) fn containers(pod: &Value) -> Vec<&Value> {
    let mut found = Vec::new();
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        found.extend(list(&pod["spec"], kind));
    }
    found
}

/// An image without its tag and digest.
pub(super) fn repository(image: &str) -> String {
    let name = image.split('@').next().unwrap_or("");
    let mut parts: Vec<&str> = name.split('/').collect();
    let last = parts.pop().unwrap_or("");
    parts.push(last.split(':').next().unwrap_or(""));
    parts.join("/")
}
