//! RB, AR, NS and SVC once more.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::daemonsets::selects;
use super::judge::{Case, Said, annotation, empty, get, keys, label, list, name_of, text, texts, yes};
use super::pki::requested;
use super::pods::addresses;

const RBAC: &str = "rbac.authorization.k8s.io";

fn of_group<'a>(case: &Case, group: &str, resources: &'a str) -> Option<&'a str> {
    resources.split(' ').find(|it| case.resource() == format!("{group}/{it}"))
}

pub(super) fn rb1(case: &Case) -> Said {
    let resource = of_group(case, RBAC, "clusterroles roles clusterrolebindings rolebindings")?;
    let name = name_of(case.old());
    let prefixes = "system:kube- system:node system:controller: system:discovery system:basic-user \
         system:public-info-viewer system:volume-scheduler kubeadm:";
    let by_name = name == "cluster-admin" || prefixes.split_whitespace().any(|it| name.starts_with(it));
    let by_label = label(case.old(), "kubernetes.io/bootstrapping") == Some("rbac-defaults");
    if case.creates() || !(by_name || by_label) || ["admin", "edit", "view"].contains(&name) {
        return None;
    }
    let aggregated = case.by("cluster-role-aggregation") && resource.ends_with("roles");
    let fields: [&[&str]; 5] =
        [&["rules"], &["subjects"], &["roleRef"], &["aggregationRule"], &["metadata", "annotations"]];
    let changed = case.deletes() || fields.iter().any(|it| differs(case, it));
    Some(changed && !aggregated && !case.by("api-server"))
}

/// Whether a field differs; no annotations are as good as an empty map of them, and as what is no map.
fn differs(case: &Case, path: &[&str]) -> bool {
    let (new, old) = (get(case.object(), path), get(case.old(), path));
    let nothing = |it: &Value| it.as_object().is_none_or(serde_json::Map::is_empty);
    new != old && !(path[0] == "metadata" && nothing(new) && nothing(old))
}

/// Verbs, group, resource; whether it matters in `kube-system` alone.
const RIGHTS: [(&str, &str, &str, bool); 12] = [
    ("impersonate", "", "users", false),
    ("impersonate", "", "groups", false),
    ("impersonate", "", "serviceaccounts", false),
    ("bind escalate", RBAC, "clusterroles", false),
    ("create update patch delete deletecollection", "admissionregistration.k8s.io", "", false),
    ("get list watch", "", "secrets", true),
    ("create get", "", "pods/exec", true),
    ("create get", "", "pods/attach", true),
    ("update patch", "", "pods/ephemeralcontainers", true),
    ("create", "", "serviceaccounts/token", true),
    ("get create", "", "nodes/proxy", false),
    ("update patch", "certificates.k8s.io", "certificatesigningrequests/approval", false),
];

/// Which of those a role gives.
fn gives(case: &Case, role: &Value, in_system: bool) -> Vec<usize> {
    let gives = |rule: &Value, (verbs, group, resource, system): (&str, &str, &str, bool)| {
        let any = |field: &str, wanted: &[&str]| {
            texts(rule, field).iter().any(|it| *it == "*" || wanted.contains(it))
        };
        let verbs: Vec<&str> = verbs.split(' ').collect();
        let of_any = resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
        // Any resource of admission.
        let of_resource = if resource.is_empty() {
            !texts(rule, "resources").is_empty()
        } else {
            any("resources", &[resource, of_any.as_deref().unwrap_or(resource)])
        };
        let names = texts(rule, "resourceNames");
        let everywhere = case.resource().starts_with(&format!("{RBAC}/cluster"));
        let guarded = names.iter().any(|it| super::credentials::is_guarded_secret(case, it, everywhere));
        let for_named = resource == "secrets" && !names.is_empty() && !guarded;
        any("verbs", &verbs)
            && any("apiGroups", &[group])
            && of_resource
            && !for_named
            && (in_system || !system)
    };
    (0..RIGHTS.len()).filter(|at| list(role, "rules").iter().any(|rule| gives(rule, RIGHTS[*at]))).collect()
}

pub(super) fn rb2(case: &Case) -> Said {
    let resource = of_group(case, RBAC, "clusterroles roles clusterrolebindings rolebindings")?;
    if !case.writes() {
        return None;
    }
    if case.by("api-server") || case.by("cluster-role-aggregation") {
        return Some(false);
    }
    let in_system = resource.starts_with("cluster") || case.namespace() == "kube-system";
    let (new, old) = (case.object(), case.old());
    if resource.ends_with("roles") {
        let before = gives(case, old, in_system);
        let more = gives(case, new, in_system).iter().any(|it| !before.contains(it));
        let grows = case.changes(&["aggregationRule"]) && !new["aggregationRule"].is_null();
        let joins = keys(&new["metadata"], "labels").into_iter().any(|it| {
            it.starts_with("rbac.authorization.k8s.io/aggregate-to-") && label(new, it) != label(old, it)
        });
        return Some(more || grows || (joins && !gives(case, new, true).is_empty()));
    }
    let added = list(new, "subjects").iter().any(|it| !list(old, "subjects").contains(it));
    if !added && !case.changes(&["roleRef"]) {
        return Some(false);
    }
    let (kind, name) = (text(&new["roleRef"], "kind"), text(&new["roleRef"], "name"));
    if !["ClusterRole", "Role"].contains(&kind) {
        return Some(true);
    }
    let role = case.find(kind, if kind == "Role" { case.namespace() } else { "" }, name);
    Some(!gives(case, role, in_system).is_empty())
}

pub(super) fn rb3(case: &Case) -> Said {
    of_group(case, RBAC, "clusterrolebindings rolebindings").filter(|_| case.writes())?;
    let everybody = "Group/system:masters Group/system:authenticated Group/system:unauthenticated \
         Group/system:serviceaccounts User/system:anonymous";
    let given = list(case.object(), "subjects").iter().any(|it| {
        let new = !list(case.old(), "subjects").contains(it) || case.changes(&["roleRef"]);
        let who = format!("{}/{}", text(it, "kind"), text(it, "name"));
        new && everybody.split_whitespace().any(|it| it == who)
    });
    Some(given && !case.by("api-server"))
}

pub(super) fn rb4(case: &Case) -> Said {
    let deletes = case.is("/serviceaccounts") && case.deletes();
    deletes.then(|| super::credentials::trusted(case, case.namespace(), case.name()))
}

pub(super) fn rb5(case: &Case) -> Said {
    if case.resource() != "certificates.k8s.io/certificatesigningrequests" || case.deletes() {
        return None;
    }
    let (new, old) = (case.object(), case.old());
    let pem = STANDARD.decode(text(&new["spec"], "request")).unwrap_or_default();
    let asked = requested(&String::from_utf8_lossy(&pem));
    let approvals = |it: &Value| {
        list(&it["status"], "conditions").iter().filter(|it| text(it, "type") == "Approved").count()
    };
    let issues = !text(&new["status"], "certificate").is_empty() && case.changes(&["status", "certificate"]);
    let by_controller = case.by("certificate-controller") || case.by("controller-manager");
    let signer = text(&new["spec"], "signerName");
    let system = asked.is_none_or(|(name, _)| name.starts_with("system:"));
    let own = signer == "kubernetes.io/kube-apiserver-client" && system
        || signer.starts_with("kubernetes.io/") && signer != "kubernetes.io/kube-apiserver-client";
    let makes = (approvals(new) > approvals(old) || issues) && !by_controller && own;
    Some(makes || asked.is_some_and(|(_, group)| group == "system:masters"))
}

pub(super) fn ar1(case: &Case) -> Said {
    if !case.resource().starts_with("admissionregistration.k8s.io/") || !case.sub().is_empty() {
        return None;
    }
    let (name, guard) = (case.name(), case.guard_name());
    if case.creates() {
        return Some(name.ends_with(".static.k8s.io"));
    }
    let own = name == guard || [".", "-"].iter().any(|it| name.starts_with(&format!("{guard}{it}")));
    Some(own && (case.deletes() || case.changes(&["webhooks"]) || case.changes(&["spec"])))
}

pub(super) fn ar2(case: &Case) -> Said {
    let group = "admissionregistration.k8s.io";
    let resource = of_group(case, group, "mutatingwebhookconfigurations validatingwebhookconfigurations")?;
    if !case.writes() || case.name() == case.guard_name() {
        return None;
    }
    let mut bad = false;
    for webhook in list(case.object(), "webhooks") {
        let new = !list(case.old(), "webhooks").contains(webhook);
        let closed = text(webhook, "failurePolicy") != "Ignore";
        bad |= new && (closed || resource.starts_with("mutating")) && meets(webhook);
    }
    Some(bad)
}

/// Whether a webhook is asked about anything that a cluster needs to start.
fn meets(webhook: &Value) -> bool {
    let needed = "coordination.k8s.io/leases /nodes /pods /secrets /configmaps /serviceaccounts /namespaces \
         apps/daemonsets apps/controllerrevisions discovery.k8s.io/endpointslices";
    needed.split_whitespace().any(|it| {
        let (group, resource) = it.split_once('/').unwrap_or_default();
        let namespaced = !["nodes", "namespaces"].contains(&resource);
        let asked = list(webhook, "rules").iter().any(|rule| {
            let has = |field: &str, wanted: &[&str]| texts(rule, field).iter().any(|it| wanted.contains(it));
            let writes = list(rule, "operations").iter().filter(|it| it.is_string()).count() == 0
                || has("operations", &["*", "CREATE", "UPDATE", "DELETE"]);
            let scope = match text(rule, "scope") {
                "Cluster" => !namespaced,
                "Namespaced" => namespaced,
                _ => true,
            };
            has("apiGroups", &["*", group]) && has("resources", &["*", "*/*", resource]) && writes && scope
        });
        asked && !(namespaced && leaves_out_system(&webhook["namespaceSelector"]))
    })
}

fn leaves_out_system(selector: &Value) -> bool {
    let name = "kubernetes.io/metadata.name";
    if !empty(&selector["matchLabels"][name]) {
        return selector["matchLabels"][name] != "kube-system";
    }
    list(selector, "matchExpressions").iter().any(|it| {
        let among = texts(it, "values").contains(&"kube-system");
        let leaves_out = match text(it, "operator") {
            "In" => !among,
            "NotIn" => among,
            other => other == "DoesNotExist",
        };
        text(it, "key") == name && leaves_out
    })
}

pub(super) fn ar4(case: &Case) -> Said {
    if !case.is("apiregistration.k8s.io/apiservices") {
        return None;
    }
    let spec = if case.deletes() { &case.old()["spec"] } else { &case.object()["spec"] };
    let group = text(spec, "group");
    let metrics = ["metrics.k8s.io", "custom.metrics.k8s.io", "external.metrics.k8s.io"].contains(&group);
    let built_in = " apps autoscaling batch extensions policy rbac.authorization.k8s.io flowcontrol.apiserver.k8s.io \
         internal.apiserver.k8s.io";
    let short = group.ends_with(".k8s.io") && group.split('.').count() == 3;
    let own = built_in.split(' ').any(|it| it == group) || (short && !metrics);
    let local = empty(&spec["service"]);
    let bad = if case.deletes() {
        own && local
    } else {
        case.changes(&["spec"]) && ((own && !local) || yes(spec, "insecureSkipTLSVerify"))
    };
    Some(bad && !case.by("api-server"))
}

pub(super) fn ar5(case: &Case) -> Said {
    if !case.is("apiextensions.k8s.io/customresourcedefinitions") || !case.writes() {
        return None;
    }
    let spec = &case.object()["spec"];
    let group = format!(".{}", text(spec, "group"));
    let reserved = group.ends_with(".k8s.io") || group.ends_with(".kubernetes.io");
    let approved = annotation(case.object(), "api-approved.kubernetes.io");
    let approved = approved.is_some_and(is_community);
    let converter = get(spec, &["conversion", "webhook", "clientConfig", "service", "namespace"]);
    let bad = (reserved && !approved) || *converter == case.guard_namespace();
    Some(bad && case.changes(&["spec"]))
}

/// Whether an address is one of the project's own repositories.
fn is_community(address: &str) -> bool {
    let owner = address.strip_prefix("https://github.com/").and_then(|it| it.split_once('/')).map(|it| it.0);
    owner.is_some_and(|it| ["kubernetes", "kubernetes-csi", "kubernetes-sigs"].contains(&it))
}

pub(super) fn ar6(case: &Case) -> Said {
    let group = "flowcontrol.apiserver.k8s.io";
    let resource =
        of_group(case, group, "flowschemas prioritylevelconfigurations").filter(|_| case.sub().is_empty())?;
    let own = "catch-all endpoint-controller exempt kube-controller-manager kube-scheduler kube-system-service-accounts \
         leader-election node-high probes system system-leader-election system-node-high system-nodes workload-high \
         workload-leader-election workload-low";
    let changed = case.deletes() || case.changes(&["spec"]);
    let built_in = own.split_whitespace().any(|it| it == case.name()) && !case.creates();
    let precedence = &case.object()["spec"]["matchingPrecedence"];
    let first =
        resource == "flowschemas" && !empty(precedence) && precedence.as_i64().is_none_or(|it| it < 1000);
    Some(changed && (built_in || first) && !case.by("api-server"))
}

fn guarded_namespace(case: &Case, name: &str) -> bool {
    name == "kube-system" || name == case.guard_namespace()
}

pub(super) fn ns1(case: &Case) -> Said {
    if case.resource() != "/namespaces" || !guarded_namespace(case, case.name()) {
        return None;
    }
    if case.deletes() {
        return Some(true);
    }
    if case.sub() == "finalize" && !case.by("namespace-controller") {
        return Some(true);
    }
    if !case.updates() {
        return None;
    }
    let level = "pod-security.kubernetes.io/enforce";
    let (new, old) = (case.object(), case.old());
    let mut bad = false;
    for name in keys(&old["metadata"], "labels") {
        let loosened = name == level && [None, Some("privileged")].contains(&label(new, name));
        bad |= label(old, name).is_some() && label(new, name) != label(old, name) && !loosened;
    }
    let tightened = label(new, level).is_some_and(|it| it != "privileged");
    Some(bad || (tightened && label(old, level).is_none()))
}

pub(super) fn ns2(case: &Case) -> Said {
    let kinds = [
        "/resourcequotas",
        "/limitranges",
        "networking.k8s.io/networkpolicies",
        "policy/poddisruptionbudgets",
    ];
    if !case.writes()
        || !kinds.contains(&case.resource().as_str())
        || !guarded_namespace(case, case.namespace())
    {
        return None;
    }
    let spec = &case.object()["spec"];
    let of_guard = case.namespace() == case.guard_namespace();
    let ours = |selector: &Value| {
        let labels = &selector["matchLabels"];
        let all = !labels.as_object().is_some_and(|it| it.values().any(Value::is_string));
        of_guard || !empty(&selector["matchExpressions"]) || all || (0..3).any(|it| selects(labels, it))
    };
    let starves = match case.resource().as_str() {
        "/resourcequotas" => !list(&spec["scopeSelector"], "matchExpressions").iter().any(|it| {
            let critical = texts(it, "values").contains(&"system-node-critical");
            let spares = match text(it, "operator") {
                "In" => !critical,
                "NotIn" => critical,
                other => other == "DoesNotExist",
            };
            text(it, "scopeName") == "PriorityClass" && spares
        }),
        "/limitranges" => list(spec, "limits").iter().any(|it| {
            let of_pods = ["Container", "Pod"].contains(&text(it, "type"));
            of_pods
                && ["max", "min", "default", "maxLimitRequestRatio"].iter().any(|field| !empty(&it[*field]))
        }),
        "policy/poddisruptionbudgets" => ours(&spec["selector"]),
        _ => ours(&spec["podSelector"]),
    };
    Some(starves && case.changes(&["spec"]))
}

pub(super) fn ns3(case: &Case) -> Said {
    let deletes = case.is("scheduling.k8s.io/priorityclasses") && case.deletes();
    let has = |at: usize| {
        let daemonset = case.daemonset(at);
        !daemonset.is_null()
            && text(&daemonset["spec"]["template"]["spec"], "priorityClassName") == case.name()
    };
    deletes.then(|| (0..3).any(has))
}

pub(super) fn svc1(case: &Case) -> Said {
    if case.namespace() != "default" {
        return None;
    }
    let service = case.resource() == "/services" && case.name() == "kubernetes";
    let leads = |it: &Value| label(it, "kubernetes.io/service-name") == Some("kubernetes");
    let slice =
        case.resource() == "discovery.k8s.io/endpointslices" && (leads(case.object()) || leads(case.old()));
    if !service && !slice {
        return None;
    }
    if case.by("api-server") {
        return Some(false);
    }
    if !slice || case.name() != "kubernetes-bridge" {
        return Some(true);
    }
    if case.deletes() {
        return Some(false);
    }
    let nodes = addresses(case);
    let mut bad = false;
    for endpoint in list(case.object(), "endpoints") {
        for address in texts(endpoint, "addresses") {
            bad |= !address.parse::<IpAddr>().is_ok_and(|it| nodes.contains(&it));
        }
    }
    let own = list(case.find("EndpointSlice", "default", "kubernetes"), "ports");
    for port in list(case.object(), "ports") {
        bad |= !own.is_empty() && !own.iter().any(|it| it["port"] == port["port"]);
    }
    Some(bad)
}

pub(super) fn svc2(case: &Case) -> Said {
    let status = case.resource() == "/services" && case.sub() == "status";
    if !(status || (case.is("/services") && case.writes())) || case.key() == "default/kubernetes" {
        return None;
    }
    let of = |service: &Value| -> Vec<IpAddr> {
        let mut all = texts(&service["spec"], "externalIPs");
        all.push(text(&service["spec"], "loadBalancerIP"));
        all.extend(list(&service["status"]["loadBalancer"], "ingress").iter().map(|it| text(it, "ip")));
        all.into_iter().filter_map(|it| it.trim().parse().ok()).collect()
    };
    let mut taken = addresses(case);
    taken.extend(
        text(&case.find("Service", "default", "kubernetes")["spec"], "clusterIP").parse::<IpAddr>().ok(),
    );
    let before = of(case.old());
    Some(of(case.object()).iter().any(|it| taken.contains(it) && !before.contains(it)))
}
