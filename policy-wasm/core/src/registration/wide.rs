//! What has to be looked at to keep others away from the control plane.
//!
//! While a guard that fails closed is dead, this is what cannot be done, and who notices:
//!
//! | what | in ordinary work |
//! |---|---|
//! | Pods, and templates of workloads, that name a node, tolerate the control plane's taint or select its label, and have a host path, host port, host namespace, capability or privilege | edits of network, storage and monitoring agents; their Pods still come and go |
//! | templates of workloads, and Pods without a controller, in `kube-system` and where a guarded Secret is | installing and upgrading add-ons there |
//! | changes and deletions of the control plane's own Pods, and of their status by others than those whose word it is | swaps |
//! | bindings by another scheduler than `kube-scheduler` | Pods of such a scheduler wait |
//! | quotas, limits, network policies and disruption budgets in `kube-system` and the guard's namespace | |
//! | the role and component labels of nodes, deletions of control-plane nodes | joining and removing one |
//! | external addresses of Services | a load balancer's controller waits |
//! | ClusterRoles and Roles of `kube-system` with a right of RB-2's list; `ClusterRoleBindings`; bindings to everybody | installing operators |
//! | certificate requests, but those of nodes, and approvals by others than the controllers | |
//! | `APIServices` of the API's own groups, custom resources in them, flow schemas, priority classes, what is bootstrapped of RBAC | |
//!
//! Left out are the system's own identities, each for what it has to write so that a cluster comes up: kubelets for their
//! Pods, tokens, nodes and certificates; the controllers that make Pods, `ReplicaSets` and Jobs of templates that were
//! admitted; the API server for what it bootstraps. Not the garbage collector: it would be the way to delete a
//! control-plane Pod by an owner reference, and no cold start needs it for one.
//!
//! Rules look closer than these conditions. What the conditions see needs no look at another object.

use super::cel::{
    KUBELET, TARGET, WHOLE, daemonsets, either, is_in, key, labelled, list, named_like_a_part, namespace,
    quote, sub, user, user_named,
};
use super::{Condition, Registration};
use crate::component::Component;
use crate::labels;
use crate::review::settings::Identity;
use crate::rules::{ar6, node3, po2, rb1, rb2, rb3};

/// Who makes Pods of templates that were judged. The controller manager's own user is here, and in the lists below,
/// because it is every controller where each has no ServiceAccount of its own; where they have, it makes their tokens.
const MAKERS: [&str; 6] = [
    MANAGER,
    DAEMONSETS,
    "system:serviceaccount:kube-system:job-controller",
    "system:serviceaccount:kube-system:replicaset-controller",
    "system:serviceaccount:kube-system:replication-controller",
    "system:serviceaccount:kube-system:statefulset-controller",
];

/// Who makes workloads of other workloads.
const DERIVED: [(&str, [&str; 2]); 2] = [
    ("replicasets", [MANAGER, "system:serviceaccount:kube-system:deployment-controller"]),
    ("jobs", [MANAGER, "system:serviceaccount:kube-system:cronjob-controller"]),
];

/// The controller manager.
const MANAGER: &str = "system:kube-controller-manager";

/// The DaemonSet controller, which adopts Pods, too.
const DAEMONSETS: &str = "system:serviceaccount:kube-system:daemon-set-controller";

/// Whether the object has a controller. Whoever makes objects of others is taken at their word for such, and for no other.
const OWNED: &str = "(has(object.metadata.ownerReferences) && object.metadata.ownerReferences.exists(r, \
                     has(r.controller) && r.controller))";

/// Who takes Pods away from nodes that are lost.
const TAKERS: [Identity; 4] = [
    Identity::ControllerManager,
    Identity::DaemonSetController,
    Identity::NodeController,
    Identity::PodGarbageCollector,
];

/// The workloads, each with the path to its template, and what of it decides whether it is looked at.
const WORKLOADS: [(&str, &str, &str); 8] = [
    ("podtemplates", "template", "template"),
    ("replicationcontrollers", "spec.template", "spec"),
    ("daemonsets", "spec.template", "spec.template"),
    ("deployments", "spec.template", "spec.template"),
    ("replicasets", "spec.template", "spec.template"),
    ("statefulsets", "spec.template", "spec.template"),
    ("jobs", "spec.template", "spec.template"),
    ("cronjobs", "spec.jobTemplate.spec.template", "spec.jobTemplate"),
];

pub(super) fn conditions(registration: &Registration<'_>) -> Vec<Condition> {
    let near = near(registration);
    let guarded = namespace([labels::NAMESPACE, &registration.guard.namespace]);
    let mut conditions = vec![Condition::of("pods", pods(registration, &near))];
    conditions.extend(WORKLOADS.map(|(resource, template, part)| {
        Condition::of(resource, workload(resource, template, part, &near))
    }));
    conditions.push(Condition::of("bindings", format!("!{}", user(&[Identity::Scheduler]))));
    for resource in ["resourcequotas", "limitranges", "networkpolicies", "poddisruptionbudgets"] {
        conditions.push(Condition::of(resource, &guarded));
    }
    let accounts = registration.trusted_accounts();
    conditions.extend([
        Condition::of("serviceaccounts", service_accounts(registration)),
        Condition::of("secrets", token_secrets(&accounts.iter().map(String::as_str).collect::<Vec<_>>())),
        Condition::of("configmaps", root_authorities()),
        Condition::of("nodes", nodes()),
        Condition::of("services", services()),
        Condition::of("clusterroles", roles("")),
        Condition::of("roles", roles(&format!("{} && ", namespace([labels::NAMESPACE])))),
        Condition::of("clusterrolebindings", bindings("")),
        Condition::of("rolebindings", bindings(&format!("{} && ", namespace([labels::NAMESPACE])))),
        Condition::of("certificatesigningrequests", certificate_requests()),
        Condition::of("apiservices", api_services()),
        Condition::of("customresourcedefinitions", custom_resources(&registration.guard.namespace)),
        // Which ones the DaemonSets have, only they tell.
        Condition::of("priorityclasses", "oldObject != null"),
    ]);
    let levels = [is_in(&format!("{TARGET}.metadata.name"), ar6::OWN), early()];
    for resource in ["flowschemas", "prioritylevelconfigurations"] {
        conditions.push(Condition::of(
            resource,
            format!("!{} && ({})", user(&[Identity::ApiServer]), levels.join(" || ")),
        ));
    }
    conditions
}

/// Whether the object is where the control plane or one of its Secrets is.
fn near(registration: &Registration<'_>) -> String {
    let of_secrets = registration.secrets.iter().filter_map(|key| key.split_once('/'));
    let mut names: Vec<&str> = of_secrets.map(|(namespace, _)| namespace).collect();
    // The guard mounts its own.
    names.retain(|name| *name != registration.guard.namespace && *name != labels::NAMESPACE);
    names.push(labels::NAMESPACE);
    names.sort_unstable();
    names.dedup();
    namespace(names)
}

/// Whether `o` is a Pod of the control plane, by its labels.
fn part() -> String {
    let components = Component::ALL.map(Component::name);
    let by_tier = format!(
        "({} && {})",
        labelled("o", labels::TIER, [labels::TIER_CONTROL_PLANE]),
        labelled("o", labels::COMPONENT, components)
    );
    let rest = [
        labelled("o", labels::K8S_APP, daemonsets()),
        labelled("o", labels::COMPONENT, [labels::STANDBY]),
        labelled("o", labels::BRIDGE, components),
    ];
    format!("({by_tier} || {})", rest.join(" || "))
}

fn pods(registration: &Registration<'_>, near: &str) -> String {
    let system = namespace([labels::NAMESPACE]);
    let guard = namespace([&registration.guard.namespace]);
    let part = either(&part());
    let changed = format!("({guard} || ({system} && {part}))");
    let made = format!("({} && {OWNED})", user_named(MAKERS));
    let created = format!("!{made} && !{KUBELET} && ({near} || {})", reaches("object"));
    let updated = format!("!{} && {changed}", user_named([MANAGER, DAEMONSETS]));
    let deleted = format!("!{} && !{KUBELET} && {system} && {part}", user(&TAKERS));
    // By it labels can be changed, which is nobody's, and readiness.
    let (after, before) = ("object.metadata.labels", "oldObject.metadata.labels");
    let relabelled = format!("(has({after}) != has({before}) || (has({after}) && {after} != {before}))");
    let tells = format!("({} || {} || {KUBELET})", user(&po2::STATUS), user_named([po2::DISRUPTION]));
    let status = format!("{changed} && ({relabelled} || !{tells})");
    format!(
        "{} ? ({status}) : ({WHOLE} ? (request.operation == \"CREATE\" ? ({created}) : (request.operation == \"UPDATE\" ? ({updated}) : \
         ({deleted}))) : ({} ? ({system} && {}) : ({} ? !{} : {changed})))",
        sub("status"),
        sub("eviction"),
        named_like_a_part(),
        sub("binding"),
        user(&[Identity::Scheduler])
    )
}

fn workload(resource: &str, template: &str, part: &str, near: &str) -> String {
    let changed = format!("(oldObject == null || object.{part} != oldObject.{part})");
    // Those are the other webhook's.
    let other = if resource == "daemonsets" {
        let own = is_in("object.metadata.name", daemonsets());
        format!(" && !({} && {own})", namespace([labels::NAMESPACE]))
    } else {
        String::new()
    };
    let has = if resource == "replicationcontrollers" { "has(object.spec.template) && " } else { "" };
    let reaches = reaches(&format!("object.{template}"));
    let derived = DERIVED.iter().find(|(it, _)| *it == resource);
    let derived =
        derived.map(|(_, makers)| format!(" && !({} && {OWNED})", user_named(makers.iter().copied())));
    format!("{WHOLE}{}{other} && {has}{changed} && ({near} || {reaches})", derived.unwrap_or_default())
}

/// Whether a Pod, or a template, may come to a control-plane node and get hold of something there (PO-5).
fn reaches(pod: &str) -> String {
    let s = format!("{pod}.spec");
    let flag = |name: &str| format!("(has({s}.{name}) && {s}.{name})");
    let network = flag("hostNetwork");
    let holds = [
        flag("hostPID"),
        flag("hostIPC"),
        format!("(has({s}.volumes) && {s}.volumes.exists(v, has(v.hostPath)))"),
        format!(
            "({s}.containers + (has({s}.initContainers) ? {s}.initContainers : [])).exists(c, \
             (has(c.securityContext) && ((has(c.securityContext.privileged) && c.securityContext.privileged) || \
             (has(c.securityContext.capabilities) && has(c.securityContext.capabilities.add)))) || \
             (has(c.ports) && c.ports.exists(p, {network} || has(p.hostPort))))"
        ),
    ];
    let roles = labels::CONTROL_PLANE_ROLES;
    let marks = roles.into_iter().chain(Component::ALL.map(labels::node_label));
    let comes = [
        format!("(has({s}.nodeName) && {s}.nodeName != \"\")"),
        format!("(has({s}.nodeSelector) && {}.exists(k, k in {s}.nodeSelector))", list(marks)),
        format!(
            "(has({s}.tolerations) && {s}.tolerations.exists(t, !has(t.key) || t.key == \"\" || {}))",
            is_in("t.key", roles)
        ),
    ];
    format!("(({}) && ({}))", comes.join(" || "), holds.join(" || "))
}

/// Deletions of those whom rules trust, and their tokens.
fn service_accounts(registration: &Registration<'_>) -> String {
    let accounts = registration.trusted_accounts();
    let asked = format!(
        "(has(request.namespace) && has(request.name) && {})",
        is_in("(request.namespace + \"/\" + request.name)", &accounts)
    );
    let by_system = user(&[Identity::ControllerManager]);
    format!("{WHOLE} ? {} : ({asked} && !{KUBELET} && !{by_system})", key(&accounts))
}

/// Secrets that the token controller fills, of those whom rules trust.
fn token_secrets(accounts: &[&str]) -> String {
    const ACCOUNT: &str = "kubernetes.io/service-account.name";
    let account = quote(ACCOUNT);
    let annotations = "object.metadata.annotations";
    let owner = is_in(&format!("(request.namespace + \"/\" + {annotations}[{account}])"), accounts);
    format!(
        "has(request.namespace) && has(object.type) && object.type == \"kubernetes.io/service-account-token\" && \
         has({annotations}) && {account} in {annotations} && {owner} && !{}",
        user(&[Identity::ControllerManager])
    )
}

/// What every Pod believes the API server to be; that of `kube-system` is the other webhook's.
fn root_authorities() -> String {
    format!(
        "{TARGET}.metadata.name == \"kube-root-ca.crt\" && !{} && !{}",
        namespace([labels::NAMESPACE]),
        user(&[Identity::RootCaPublisher, Identity::NamespaceController])
    )
}

/// Labels that decide what runs on a node, by whatever request, so that no heartbeat is sent; deletions; and the kubelet's
/// proxy.
fn nodes() -> String {
    let ours = format!(
        "(k.startsWith({}) || {})",
        quote(&format!("{}/", labels::PREFIX)),
        is_in("k", labels::CONTROL_PLANE_ROLES)
    );
    let lacks = |one: &str, other: &str| {
        format!(
            "(has({one}.metadata.labels) && {one}.metadata.labels.exists(k, {ours} && (!has({other}.metadata.labels) || \
             !(k in {other}.metadata.labels) || {other}.metadata.labels[k] != {one}.metadata.labels[k])))"
        )
    };
    let has = |one: &str| format!("(has({one}.metadata.labels) && {one}.metadata.labels.exists(k, {ours}))");
    let paths = node3::READS.into_iter().flat_map(|path| [path.to_owned(), format!("/{path}")]);
    format!(
        "request.operation == \"CONNECT\" ? (!has(object.path) || !({})) : (({WHOLE} || {}) && (oldObject == null ? {} : \
         (object == null ? {} : ({} || {}))))",
        is_in("object.path", paths),
        sub("status"),
        has("object"),
        has("oldObject"),
        lacks("object", "oldObject"),
        lacks("oldObject", "object")
    )
}

/// New external addresses; `default/kubernetes` is the other webhook's.
fn services() -> String {
    let differs = |path: &str| {
        let after = format!("object.{path}");
        let before = format!("oldObject.{path}");
        format!("(has({after}) && (oldObject == null || !has({before}) || {after} != {before}))")
    };
    let load_balancer = "has(object.status) && has(object.status.loadBalancer) && \
                         has(object.status.loadBalancer.ingress) && (oldObject == null || !has(oldObject.status) || \
                         !has(oldObject.status.loadBalancer) || !has(oldObject.status.loadBalancer.ingress) || \
                         object.status.loadBalancer.ingress != oldObject.status.loadBalancer.ingress)";
    format!(
        "object != null && !{} && ({} || {} || ({load_balancer}))",
        key(["default/kubernetes"]),
        differs("spec.externalIPs"),
        differs("spec.loadBalancerIP")
    )
}

/// Whether the object before is one that the control plane works with (RB-1).
fn bootstrapped() -> String {
    format!(
        "(oldObject != null && (oldObject.metadata.name == \"cluster-admin\" || \
         {}.exists(p, oldObject.metadata.name.startsWith(p)) || {}))",
        list(rb1::PREFIXES),
        labelled("oldObject", rb1::BOOTSTRAPPING, ["rbac-defaults"])
    )
}

fn roles(place: &str) -> String {
    let rights = rb2::RIGHTS.map(|(verbs, group, resource, ..)| {
        let verbs = verbs.iter().chain(&["*"]);
        let of_group = format!("r.apiGroups.exists(g, {})", is_in("g", [group, "*"]));
        let of_resource = if resource == "*" {
            "true".to_owned()
        } else {
            let sub = resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
            let names = [resource.to_owned(), "*".to_owned()].into_iter().chain(sub);
            format!("r.resources.exists(x, {})", is_in("x", names))
        };
        format!("(r.verbs.exists(v, {}) && {of_group} && {of_resource})", is_in("v", verbs))
    });
    let strong = format!(
        "(has(object.rules) && object.rules != null && object.rules.exists(r, has(r.apiGroups) && has(r.resources) && \
         ({})))",
        rights.join(" || ")
    );
    let system = user(&[Identity::ApiServer, Identity::ClusterRoleAggregation]);
    let aggregates = "has(object.aggregationRule)";
    format!("!{system} && ({} || ({place}object != null && ({strong} || {aggregates})))", bootstrapped())
}

fn bindings(place: &str) -> String {
    let everybody =
        format!("(has(object.subjects) && object.subjects.exists(s, {}))", is_in("s.name", rb3::EVERYBODY));
    let grown = "(oldObject == null || (has(object.subjects) && (!has(oldObject.subjects) || \
                 object.subjects != oldObject.subjects)))";
    format!(
        "!{} && ({} || (object != null && ({everybody} || ({place}{grown}))))",
        user(&[Identity::ApiServer]),
        bootstrapped()
    )
}

/// Nodes that join ask for their certificates, and the controllers approve them.
fn certificate_requests() -> String {
    let controllers = user(&[Identity::CertificateController, Identity::ControllerManager]);
    let joins = "(has(request.userInfo.groups) && \"system:bootstrappers\" in request.userInfo.groups)";
    format!("!{controllers} && !(request.operation == \"CREATE\" && ({KUBELET} || {joins}))")
}

fn api_services() -> String {
    let group = format!("{TARGET}.spec.group");
    format!(
        "!{} && (!has({group}) || {} || {group}.endsWith(\".k8s.io\") || (has({TARGET}.spec.insecureSkipTLSVerify) && \
         {TARGET}.spec.insecureSkipTLSVerify))",
        user(&[Identity::ApiServer]),
        is_in(&group, ["", "apps", "autoscaling", "batch", "extensions", "policy"])
    )
}

fn custom_resources(guard: &str) -> String {
    format!(
        "[\"k8s.io\", \"kubernetes.io\"].exists(e, object.spec.group == e || object.spec.group.endsWith(\".\" + e)) || \
         (has(object.spec.conversion) && has(object.spec.conversion.webhook) && \
         has(object.spec.conversion.webhook.clientConfig) && \
         has(object.spec.conversion.webhook.clientConfig.service) && \
         object.spec.conversion.webhook.clientConfig.service.namespace == {})",
        quote(guard)
    )
}

/// A flow schema that is matched before the built-in ones.
fn early() -> String {
    format!(
        "(object != null && has(object.spec.matchingPrecedence) && object.spec.matchingPrecedence < {})",
        ar6::FIRST
    )
}
