//! DS-8: no flag that the cluster's safety rests on is lost or weakened.

use super::{Checked, Reach, Rule};
use crate::component::Component;
use crate::review::command::{CommandLine, Text};
use crate::review::record::Edit;
use crate::review::{Facts, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "DS-8",
    title: "no flag that the cluster's safety rests on is lost or weakened",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "A flag less is a default more: without `--authorization-mode` an API server admits everything, without \
          `--encryption-provider-config` it cannot read its Secrets, without `--service-account-key-file` no token is \
          good. Most of that shows only at the next start, on the first node.",
    evasion: "- `--a=b`, `--a b`, `--a_b`, repeats (the last counts, or all of them, by the flag's type): read as pflag \
              does, with the types that the components' own `--help` tells.\n\
              - `$(VAR)`: expanded as the kubelet does; what comes from a Secret, a ConfigMap or the node is denied where \
              it could be a flag.\n\
              - `command` and `args`: read together. No command, a shell, a script, any other program: denied.\n\
              - A value that swallows the next flag (`--audit-log-path --anonymous-auth=false`), an argument that is no \
              flag, `--`, `--help`: denied.\n\
              - By a file that a flag names: CM-2, SEC-2 to SEC-9, and on the node's disk not at all.\n\
              - By another file: where a Secret or ConfigMap holds it, the same rules compare it with the one before.",
    blind: "Files on the nodes that flags name: an authorization or admission configuration there is changed without \
            a request. `kubectl selfhost status` compares nodes, not contents.",
    check,
};

/// Flags that must not go where they were set.
const fn kept(component: Component) -> &'static [&'static str] {
    match component {
        Component::ApiServer => &[
            "admission-control-config-file",
            "audit-log-path",
            "audit-policy-file",
            "audit-webhook-config-file",
            "authentication-config",
            "authentication-token-webhook-config-file",
            "authorization-config",
            "authorization-webhook-config-file",
            "client-ca-file",
            "egress-selector-config-file",
            "encryption-provider-config",
            "etcd-cafile",
            "etcd-certfile",
            "etcd-keyfile",
            "etcd-servers",
            "kubelet-certificate-authority",
            "kubelet-client-certificate",
            "kubelet-client-key",
            "oidc-ca-file",
            "oidc-client-id",
            "oidc-issuer-url",
            "proxy-client-cert-file",
            "proxy-client-key-file",
            "requestheader-allowed-names",
            "requestheader-client-ca-file",
            "service-account-signing-key-file",
            "tls-cert-file",
            "tls-private-key-file",
        ],
        Component::ControllerManager => &[
            "authentication-kubeconfig",
            "authorization-kubeconfig",
            "client-ca-file",
            "cluster-signing-cert-file",
            "cluster-signing-key-file",
            "kubeconfig",
            "requestheader-client-ca-file",
            "root-ca-file",
            "service-account-private-key-file",
        ],
        Component::Scheduler => &["authentication-kubeconfig", "authorization-kubeconfig", "config", "kubeconfig"],
    }
}

/// Flags whose value the cluster was made with.
const fn fixed(component: Component) -> &'static [&'static str] {
    match component {
        Component::ApiServer => &["etcd-prefix", "secure-port", "storage-backend"],
        Component::ControllerManager => {
            &["cluster-cidr", "cluster-name", "leader-elect-resource-name", "leader-elect-resource-namespace", "secure-port"]
        }
        Component::Scheduler => &["leader-elect-resource-name", "leader-elect-resource-namespace", "secure-port"],
    }
}

/// Flags of which every value that was there must stay.
const GROWING: [&str; 3] = ["service-account-issuer", "service-account-key-file", "service-cluster-ip-range"];

/// Admission plugins without which the cluster is another one.
const PLUGINS: [&str; 11] = [
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "NamespaceLifecycle",
    "NodeRestriction",
    "Priority",
    "ServiceAccount",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
];

/// Feature gates that guard something; turning one off is a step back.
const GATES: [&str; 8] = [
    "AnonymousAuthConfigurableEndpoints",
    "AuthorizeNodeWithSelectors",
    "AuthorizeWithSelectors",
    "ManifestBasedAdmissionControlConfig",
    "ServiceAccountNodeAudienceRestriction",
    "StructuredAuthenticationConfiguration",
    "StructuredAuthorizationConfiguration",
    "ValidatingAdmissionPolicy",
];

/// Groups of the API that the control plane itself is made of.
const GROUPS: [&str; 9] = [
    "v1",
    "api/all",
    "api/ga",
    "admissionregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "coordination.k8s.io",
    "rbac.authorization.k8s.io",
];

/// Controllers without which the cluster does not come back, or keeps what it should forget.
const CONTROLLERS: [&str; 14] = [
    "certificatesigningrequest-approving-controller",
    "certificatesigningrequest-signing-controller",
    "csrapproving",
    "csrsigning",
    "daemonset",
    "daemonset-controller",
    "garbagecollector",
    "garbage-collector-controller",
    "namespace",
    "namespace-controller",
    "node-lifecycle-controller",
    "nodelifecycle",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-token-controller",
];

fn check(request: &Request, _: &Settings, facts: &Facts) -> Checked {
    let Some(edit) = Edit::of_template(request, facts)? else { return Ok(Vec::new()) };
    let Some(container) = edit.new.container(edit.component) else {
        return Ok(vec![Violation::new(
            "spec.template.spec.containers",
            format!("there is no container {}", edit.component),
            "keep the component's own container",
        )]);
    };
    let before = edit.old.as_ref().map(|old| old.pod());
    let old = before.and_then(|pod| pod.container(edit.component));
    let same = |field: &str| old.is_some_and(|old| old[field] == container[field]);
    if ["command", "args", "env", "envFrom"].into_iter().all(same) {
        return Ok(Vec::new());
    }
    let new = CommandLine::of(edit.component, container);
    let old = old.map(|old| CommandLine::of(edit.component, old)).unwrap_or_default();
    let mut found = Found(Vec::new());
    for trouble in &new.trouble {
        found.add(trouble.clone(), "write each flag as --name=value, and the command as the component's own");
    }
    common(edit.component, &new, &old, &mut found);
    match edit.component {
        Component::ApiServer => api_server(&new, &old, &mut found),
        Component::ControllerManager => controller_manager(&new, &old, &mut found),
        Component::Scheduler => {}
    }
    Ok(found.0)
}

/// The violations of one command line.
struct Found(Vec<Violation>);

impl Found {
    fn add(&mut self, message: impl Into<String>, next: impl Into<String>) {
        self.0.push(Violation::new("spec.template.spec.containers[].command", message, next));
    }
}

fn common(component: Component, new: &CommandLine, old: &CommandLine, found: &mut Found) {
    for flag in kept(component).iter().filter(|flag| old.has(flag)) {
        if new.text(flag).is_empty() && !old.text(flag).is_empty() {
            found.add(format!("--{flag} is lost"), format!("keep --{flag}={}", old.text(flag)));
        }
    }
    for flag in fixed(component) {
        if old.values(flag).last() != new.values(flag).last() && (old.has(flag) || new.has(flag)) && !is_first(old) {
            let was = if old.has(flag) { old.text(flag) } else { "its default" };
            found.add(format!("--{flag} is not what the cluster was made with"), format!("keep it at {was}"));
        }
    }
    for flag in GROWING {
        let values = new.list(flag);
        for lost in old.list(flag).into_iter().filter(|value| !values.contains(value)) {
            let next = "add the new one beside it, and take the old one away when nothing uses it any more";
            found.add(format!("--{flag} has lost {lost}"), next);
        }
    }
    for flag in ["help", "version"] {
        if new.has(flag) {
            found.add(format!("with --{flag} {component} ends at once"), "remove it");
        }
    }
    if matches!(new.last("secure-port").map(Text::as_str), Some("0")) {
        found.add("with --secure-port=0 it serves nothing", "remove it");
    }
    if component != Component::ApiServer && !new.is_on("leader-elect", true) {
        let message = "without leader election two copies act at once, and a swap runs two";
        found.add(message, "set --leader-elect=true");
    }
    for item in new.list("feature-gates") {
        let (gate, value) = item.split_once('=').unwrap_or((item, ""));
        // `component:Gate=value`, since 1.31.
        let gate = gate.rsplit(':').next().unwrap_or(gate);
        let off = is_false(value);
        let broad = gate == "AllAlpha" && !off || gate == "AllBeta" && off;
        if (off && GATES.contains(&gate) || broad) && !old.list("feature-gates").contains(&item) {
            found.add(format!("--feature-gates={item} takes protection away"), "leave the gate at its default");
        }
    }
    if new.text("tls-min-version").ends_with("TLS10") || new.text("tls-min-version").ends_with("TLS11") {
        found.add("it admits TLS before 1.2", "set --tls-min-version=VersionTLS12");
    }
    let default = ["/healthz", "/livez", "/readyz"];
    let open = new.list("authorization-always-allow-paths").into_iter().filter(|path| !default.contains(path));
    for path in open.filter(|path| !old.list("authorization-always-allow-paths").contains(path)) {
        found.add(format!("{path:?} would be open to everybody"), "remove it from --authorization-always-allow-paths");
    }
}

/// What Go's strconv.ParseBool takes for false.
fn is_false(value: &str) -> bool {
    matches!(value, "0" | "f" | "F" | "false" | "FALSE" | "False")
}

/// Whether nothing is known of what was before.
fn is_first(old: &CommandLine) -> bool {
    old.names().is_empty()
}

fn api_server(new: &CommandLine, old: &CommandLine, found: &mut Found) {
    let modes = new.list("authorization-mode");
    if !new.has("authorization-config") {
        let before = old.list("authorization-mode");
        let was_there = |mode: &str| is_first(old) || old.has("authorization-config") || before.contains(&mode);
        let exact = new.exact_list("authorization-mode");
        for mode in ["Node", "RBAC"].into_iter().filter(|mode| !exact.contains(mode) && was_there(mode)) {
            found.add(format!("--authorization-mode has no {mode}"), "set --authorization-mode=Node,RBAC");
        }
    }
    if modes.contains(&"AlwaysAllow") && !old.list("authorization-mode").contains(&"AlwaysAllow") {
        found.add("--authorization-mode=AlwaysAllow admits everything", "set --authorization-mode=Node,RBAC");
    }
    let anonymous = |line: &CommandLine| line.is_on("anonymous-auth", true);
    if anonymous(new) && !anonymous(old) && !is_first(old) {
        found.add("anonymous requests would be served", "keep --anonymous-auth=false");
    }
    let disabled = new.list("disable-admission-plugins");
    for plugin in PLUGINS.into_iter().filter(|plugin| disabled.contains(plugin)) {
        found.add(format!("admission plugin {plugin} is turned off"), "remove it from --disable-admission-plugins");
    }
    let enabled = new.list("enable-admission-plugins");
    if !enabled.contains(&"NodeRestriction") && (is_first(old) || old.list("enable-admission-plugins").contains(&"NodeRestriction")) {
        let next = "keep NodeRestriction among --enable-admission-plugins";
        found.add("a kubelet could change other nodes and their Pods", next);
    }
    if enabled.contains(&"AlwaysDeny") {
        found.add("admission plugin AlwaysDeny refuses everything", "remove it");
    }
    for flag in ["admission-control", "basic-auth-file", "insecure-bind-address", "token-auth-file"] {
        if new.has(flag) && !old.has(flag) {
            found.add(format!("--{flag} opens a second way in"), "remove it");
        }
    }
    if !matches!(new.text("insecure-port"), "" | "0") {
        found.add("--insecure-port serves everybody without asking who they are", "set it to 0");
    }
    if !new.is_on("service-account-lookup", true) {
        let next = "remove --service-account-lookup";
        found.add("tokens of deleted ServiceAccounts would stay good", next);
    }
    if new.text("endpoint-reconciler-type") == "none" && old.text("endpoint-reconciler-type") != "none" {
        found.add("the address would be missing in the kubernetes Service", "remove --endpoint-reconciler-type");
    }
    if let Some(Text::Fixed(address)) = new.last("advertise-address")
        && old.last("advertise-address") != new.last("advertise-address")
    {
        let message = format!("every node would advertise {address}");
        found.add(message, "keep --advertise-address=$(HOST_IP)");
    }
    if !matches!(new.text("bind-address"), "" | "0.0.0.0" | "::" | "127.0.0.1" | "::1") {
        found.add("it would not answer its probes on 127.0.0.1", "remove --bind-address");
    }
    if matches!(new.text("bind-address"), "127.0.0.1" | "::1") {
        found.add("it would serve this machine alone", "remove --bind-address");
    }
    let plain = new.list("etcd-servers").into_iter().any(|server| !server.starts_with("https://"));
    if plain && !old.list("etcd-servers").iter().any(|server| !server.starts_with("https://")) {
        found.add("etcd would be asked without TLS", "keep https:// in --etcd-servers");
    }
    if new.text("audit-log-path").starts_with("/dev/null") {
        found.add("the audit log would be lost", "name a file in --audit-log-path");
    }
    for item in new.list("runtime-config").into_iter().filter(|item| !old.list("runtime-config").contains(item)) {
        let Some((group, value)) = item.split_once('=') else { continue };
        let ours = GROUPS.iter().any(|it| group == *it || group.strip_prefix(it).is_some_and(|rest| rest.starts_with('/')));
        if ours && is_false(value) {
            found.add(format!("--runtime-config={item} turns off what the control plane is made of"), "remove it");
        }
    }
}

fn controller_manager(new: &CommandLine, old: &CommandLine, found: &mut Found) {
    if !new.is_on("use-service-account-credentials", false) && old.is_on("use-service-account-credentials", false) {
        let message = "all controllers would act as one user, with all rights";
        found.add(message, "keep --use-service-account-credentials=true");
    }
    let controllers = new.list("controllers");
    if new.has("controllers") && !controllers.contains(&"*") && (old.list("controllers").contains(&"*") || !old.has("controllers")) {
        found.add("only the controllers that are named would run", "keep * in --controllers");
    }
    for controller in controllers.iter().filter_map(|item| item.strip_prefix('-')) {
        if CONTROLLERS.contains(&controller) && !old.list("controllers").iter().any(|it| it.strip_prefix('-') == Some(controller)) {
            found.add(format!("controller {controller} is turned off"), "remove it from --controllers");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::testing::{World, create, daemonset, table};

    /// An edit that puts these words behind the command.
    fn with(component: Component, words: &[&str]) -> Value {
        World::new().edit_container(component, |it| {
            it["command"].as_array_mut().unwrap().extend(words.iter().map(|word| json!(word)));
        })
    }

    /// An edit that takes every flag of this name away.
    fn without(component: Component, flag: &str) -> Value {
        World::new().edit_container(component, |it| {
            it["command"].as_array_mut().unwrap().retain(|word| !word.as_str().unwrap().starts_with(&format!("--{flag}=")));
        })
    }

    #[test]
    fn flags_of_every_component_are_kept() {
        let world = World::new();
        for component in Component::ALL {
            let before = daemonset(component);
            let line = CommandLine::of(component, &before["spec"]["template"]["spec"]["containers"][0]);
            for flag in kept(component).iter().chain(fixed(component)).filter(|flag| line.has(flag)) {
                table(&RULE, &world, [(*flag, without(component, flag), true)]);
            }
            table(&RULE, &world, [("made", create(&before), false), ("-v", with(component, &["--v=4"]), false)]);
        }
    }

    #[test]
    fn weakening_is_seen_in_every_form() {
        let world = World::new();
        let api = |words: &[&str]| with(Component::ApiServer, words);
        let blank = world.edit_container(Component::ApiServer, |it| {
            for word in it["command"].as_array_mut().unwrap() {
                if word == "--authorization-mode=Node,RBAC" {
                    *word = json!("--authorization-mode=Node,RBAC ");
                }
            }
        });
        table(
            &RULE,
            &world,
            [
                ("harmless", api(&["--max-requests-inflight=800", "--goaway-chance", "0.001"]), false),
                ("anonymous, before as by default", api(&["--anonymous-auth=true"]), false),
                ("AlwaysAllow in addition", api(&["--authorization-mode=AlwaysAllow"]), true),
                ("AlwaysAllow, apart", api(&["--authorization-mode", "AlwaysAllow"]), true),
                ("AlwaysAllow, with an underscore", api(&["--authorization_mode=AlwaysAllow"]), true),
                ("no modes", without(Component::ApiServer, "authorization-mode"), true),
                ("a blank behind a mode", blank, true),
                ("a plugin off", api(&["--disable-admission-plugins=PodSecurity,ValidatingAdmissionWebhook"]), true),
                ("a harmless plugin off", api(&["--disable-admission-plugins=DefaultStorageClass"]), false),
                ("NodeRestriction gone", without(Component::ApiServer, "enable-admission-plugins"), true),
                ("the old flag for plugins", api(&["--admission-control=AlwaysAdmit"]), true),
                ("a token file", api(&["--token-auth-file=/etc/kubernetes/pki/tokens"]), true),
                ("a gate off", api(&["--feature-gates=ValidatingAdmissionPolicy=false"]), true),
                ("a gate off, of a component", api(&["--feature-gates=kube:ValidatingAdmissionPolicy=false"]), true),
                ("every alpha gate", api(&["--feature-gates=AllAlpha=true"]), true),
                ("a gate on", api(&["--feature-gates=ManifestBasedAdmissionControlConfig=true"]), false),
                ("an API off", api(&["--runtime-config=admissionregistration.k8s.io/v1=false"]), true),
                ("an API off, as a number", api(&["--runtime-config=api/all=0"]), true),
                ("an API off, as a letter", api(&["--runtime-config=a=b,v1=F"]), true),
                ("an API on", api(&["--runtime-config=apps/v1=true"]), false),
                ("an alpha API on", api(&["--runtime-config=storage.k8s.io/v1alpha1=true"]), false),
                ("another prefix in etcd", api(&["--etcd-prefix=/other"]), true),
                ("etcd without TLS", api(&["--etcd-servers=http://127.0.0.1:2379"]), true),
                ("another port", api(&["--secure-port=6445"]), true),
                ("an issuer more", api(&["--service-account-issuer=https://new.example.org"]), false),
                ("a fixed address", api(&["--advertise-address=10.0.0.11"]), true),
                ("one address to bind to", api(&["--bind-address=10.0.0.11"]), true),
                ("the audit log lost", api(&["--audit-log-path=/dev/null"]), true),
                ("no lookup", api(&["--service-account-lookup=false"]), true),
                ("another path open to all", api(&["--authorization-always-allow-paths=/livez,/metrics"]), true),
                ("the usual paths open to all", api(&["--authorization-always-allow-paths=/livez,/readyz,/healthz"]), false),
                ("a protected gate on", api(&["--feature-gates=ValidatingAdmissionPolicy=true"]), false),
                ("another gate off", api(&["--feature-gates=WatchList=false"]), false),
                ("every alpha gate off", api(&["--feature-gates=AllAlpha=false"]), false),
                ("every beta gate off", api(&["--feature-gates=AllBeta=false"]), true),
                ("every beta gate on", api(&["--feature-gates=AllBeta=true"]), false),
                ("old TLS, 1.1", api(&["--tls-min-version=VersionTLS11"]), true),
                ("new TLS", api(&["--tls-min-version=VersionTLS13"]), false),
                ("a port that serves nothing", with(Component::Scheduler, &["--secure-port=0"]), true),
                ("AlwaysDeny", api(&["--enable-admission-plugins=NodeRestriction,AlwaysDeny"]), true),
                ("an insecure port", api(&["--insecure-port=8080"]), true),
                ("no insecure port", api(&["--insecure-port=0"]), false),
                ("no reconciler", api(&["--endpoint-reconciler-type=none"]), true),
                ("the usual reconciler", api(&["--endpoint-reconciler-type=lease"]), false),
                ("its own address again", api(&["--advertise-address=$(HOST_IP)"]), false),
                ("this machine alone", api(&["--bind-address=127.0.0.1"]), true),
                ("every address", api(&["--bind-address=::"]), false),
                ("old TLS", api(&["--tls-min-version=VersionTLS10"]), true),
                ("help", api(&["--help"]), true),
                ("help, short", api(&["-h"]), true),
                ("a word", api(&["serve"]), true),
                ("a flag swallowed by the verbosity", api(&["-v", "--profiling=false"]), true),
                ("a verbosity that is no number", api(&["-v=high"]), true),
                ("a verbosity with its number apart", api(&["-v", "4"]), false),
                ("a verbosity without a number", api(&["-v"]), true),
                ("a swallowed flag", api(&["--audit-log-path", "--anonymous-auth=false"]), true),
                ("another group off", api(&["--runtime-config=example.org/v1=false"]), false),
                ("no leader election", with(Component::Scheduler, &["--leader-elect=false"]), true),
                ("no leader election, F", with(Component::Scheduler, &["--leader-elect=F"]), true),
                ("one user for all", with(Component::ControllerManager, &["--use-service-account-credentials=false"]), true),
                ("a controller off", with(Component::ControllerManager, &["--controllers=-daemonset-controller"]), true),
                ("a harmless controller off", with(Component::ControllerManager, &["--controllers=*,-ttl-controller"]), false),
                ("named controllers alone", with(Component::ControllerManager, &["--controllers=daemonset-controller"]), false),
                ("another lease", with(Component::ControllerManager, &["--leader-elect-resource-name=x"]), true),
            ],
        );
    }

    #[test]
    fn the_last_value_counts_where_it_is_one() {
        let mut world = World::new();
        let key = "kube-system/self-hosted-kube-apiserver";
        let command = |world: &mut World, flag: &str| {
            world.object_mut("DaemonSet", key)["spec"]["template"]["spec"]["containers"][0]["command"]
                .as_array_mut()
                .unwrap()
                .push(json!(flag));
        };
        command(&mut world, "--anonymous-auth=false");
        command(&mut world, "--encryption-provider-config=/etc/kubernetes/pki/encryption.yaml");
        let edit = |flag: &str| {
            world.edit_container(Component::ApiServer, |it| it["command"].as_array_mut().unwrap().push(json!(flag)))
        };
        table(
            &RULE,
            &world,
            [
                ("on again", edit("--anonymous-auth=true"), true),
                ("on again, bare", edit("--anonymous-auth"), true),
                ("off again", edit("--anonymous-auth=0"), false),
                ("an empty value", edit("--encryption-provider-config="), true),
                ("another file", edit("--encryption-provider-config=/etc/kubernetes/pki/new.yaml"), false),
            ],
        );
    }

    #[test]
    fn what_was_there_stays_possible() {
        let mut world = World::new();
        let key = "kube-system/self-hosted-kube-apiserver";
        world.object_mut("DaemonSet", key)["spec"]["template"]["spec"]["containers"][0]["command"]
            .as_array_mut()
            .unwrap()
            .push(json!("--service-account-lookup=false"));
        let edit = |change: fn(&mut Value)| world.edit_container(Component::ApiServer, change);
        table(
            &RULE,
            &world,
            [
                ("another image", edit(|it| it["image"] = json!("registry.k8s.io/kube-apiserver:v1.37.2")), false),
                ("another flag", edit(|it| it["command"].as_array_mut().unwrap().push(json!("--v=4"))), true),
            ],
        );
    }

    #[test]
    fn the_first_one_has_what_it_needs() {
        let mut world = World::new();
        world.objects.retain(|it| !matches!(it["kind"].as_str(), Some("DaemonSet" | "Pod")));
        let bare = |flag: &str| {
            let mut made = daemonset(Component::ApiServer);
            made["spec"]["template"]["spec"]["containers"][0]["command"]
                .as_array_mut()
                .unwrap()
                .retain(|word| !word.as_str().unwrap().starts_with(flag));
            create(&made)
        };
        table(
            &RULE,
            &world,
            [
                ("all", create(&daemonset(Component::ApiServer)), false),
                ("no modes", bare("--authorization-mode="), true),
                ("no NodeRestriction", bare("--enable-admission-plugins="), true),
            ],
        );
    }

    #[test]
    fn controllers_keep_running() {
        let world = World::new();
        let mut by_default = World::new();
        by_default.object_mut("DaemonSet", "kube-system/self-hosted-kube-controller-manager")["spec"]["template"]["spec"]
            ["containers"][0]["command"]
            .as_array_mut()
            .unwrap()
            .retain(|word| !word.as_str().unwrap().starts_with("--controllers="));
        let named = |world: &World, value: &str| world.edit_flags(Component::ControllerManager, &[("controllers", value)]);
        table(
            &RULE,
            &world,
            [
                ("all still", named(&world, "*,tokencleaner"), false),
                ("some of them", named(&world, "daemonset-controller"), true),
                ("some, where all ran by default", named(&by_default, "daemonset-controller"), true),
                ("all, where all ran by default", named(&by_default, "*"), false),
            ],
        );
    }

    #[test]
    fn variables_are_seen_through() {
        let world = World::new();
        let edit = |env: Value, argument: &str| {
            world.edit_container(Component::ApiServer, |it| {
                it["env"].as_array_mut().unwrap().extend(env.as_array().unwrap().iter().cloned());
                it["args"] = json!([argument]);
            })
        };
        let literal = json!([{"name": "X", "value": "--authorization-mode=AlwaysAllow"}]);
        let half = json!([{"name": "X", "value": "AlwaysAllow"}]);
        let secret = json!([{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
        table(
            &RULE,
            &world,
            [
                ("a flag", edit(literal, "$(X)"), true),
                ("a value", edit(half.clone(), "--authorization-mode=$(X)"), true),
                ("an escaped one", edit(half, "--v=$$(X)"), false),
                ("from a Secret", edit(secret, "$(X)"), true),
                ("in args", edit(json!([]), "--authorization-mode=AlwaysAllow"), true),
                ("a shell", world.edit_container(Component::ApiServer, |it| {
                    it["command"] = json!(["/bin/sh", "-c", "kube-apiserver --authorization-mode=Node,RBAC"]);
                }), true),
                ("no command", world.edit_container(Component::ApiServer, |it| it["command"] = json!(null)), true),
                ("another program of that name", world.edit_container(Component::ApiServer, |it| {
                    it["command"][0] = json!("/tmp/kube-apiserver-x");
                }), true),
                ("no container", world.edit_container(Component::ApiServer, |it| it["name"] = json!("server")), true),
            ],
        );
    }
}
