//! CM-2: the configurations that flags name can be read, and do not weaken what they configure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Checked, Reach, Rule};
use crate::review::material::{File, Written, kind_of, yaml};
use crate::review::object::{at, flag, is_empty, list, text, texts};
use crate::review::{Facts, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "CM-2",
    title: "a configuration that a flag names can be read, and takes no protection away",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "`--authorization-config` replaces `--authorization-mode`, and the scheduler's `--config` replaces its flags: \
          what DS-8 keeps in the command line could be lost in a file.",
    evasion: "- Another `kind` or group under the flag: denied, as the component would at its start.\n\
              - Another key of the same ConfigMap, another mount: which key a flag names is read from the template.\n\
              - A key that no flag names, written first, and then named by an edit of the DaemonSet: judged then, beside what \
              the flag named before.\n\
              - A webhook authorizer before Node and RBAC that fails open: denied.\n\
              - Anonymous access that was off, or bound to paths: denied when it widens.\n\
              - An audit policy whose first rule drops everything: denied.",
    blind: "Fields that a component does not know end it at its start; only the fields that are named here are looked at. \
            The bridge of a swap finds out before anything is replaced. Configurations on the nodes' disks.",
    check,
};

/// Flags that name a configuration, with the kind and group that it must be of.
const KINDS: [(&str, &str, &str); 7] = [
    ("admission-control-config-file", "AdmissionConfiguration", "apiserver.config.k8s.io"),
    ("audit-policy-file", "Policy", "audit.k8s.io"),
    ("authentication-config", "AuthenticationConfiguration", "apiserver.config.k8s.io"),
    ("authorization-config", "AuthorizationConfiguration", "apiserver.config.k8s.io"),
    ("config", "KubeSchedulerConfiguration", "kubescheduler.config.k8s.io"),
    ("egress-selector-config-file", "EgressSelectorConfiguration", "apiserver.k8s.io"),
    ("tracing-config-file", "TracingConfiguration", "apiserver.config.k8s.io"),
];

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    let Some(written) = Written::of(request, settings, facts)? else { return Ok(Vec::new()) };
    let mut violations = Vec::new();
    for file in &written.files {
        for (flag, kind, group) in KINDS.into_iter().filter(|(flag, ..)| file.is_for(&[flag])) {
            let new = match yaml(&file.new) {
                Ok(new) if kind_of(&new) == (kind, group) => new,
                Ok(_) => {
                    let message = format!("--{flag} takes a {kind} of {group}");
                    violations.push(file.violation(message, "keep apiVersion and kind"));
                    continue;
                }
                Err(message) => {
                    violations.push(file.violation(message, format!("write a {kind} of {group}")));
                    continue;
                }
            };
            let old = file.old.as_deref().and_then(|old| yaml(old).ok()).unwrap_or(Value::Null);
            let mut found = Found { file, violations: &mut violations };
            match kind {
                "AdmissionConfiguration" => admission(&new, &old, &mut found),
                "Policy" => audit(&new, &mut found),
                "AuthenticationConfiguration" => authentication(&new, &old, &mut found),
                "AuthorizationConfiguration" => authorization(&new, &mut found),
                "KubeSchedulerConfiguration" => scheduler(&new, &mut found),
                _ => {}
            }
        }
    }
    Ok(violations)
}

struct Found<'a> {
    file: &'a File,
    violations: &'a mut Vec<Violation>,
}

impl Found<'_> {
    fn add(&mut self, message: impl Into<String>, next: &str) {
        self.violations.push(self.file.violation(message, next));
    }
}

fn admission(new: &Value, old: &Value, found: &mut Found<'_>) {
    let plugins = |value: &Value| -> BTreeSet<String> {
        list(value, "plugins").iter().map(|plugin| text(plugin, "name").to_owned()).collect()
    };
    for lost in plugins(old).difference(&plugins(new)) {
        found.add(format!("the configuration of admission plugin {lost} is lost"), "keep it");
    }
    let directory = |value: &Value, name: &str| {
        let plugin = list(value, "plugins").iter().find(|plugin| text(plugin, "name") == name);
        plugin.map_or(Value::Null, |plugin| at(plugin, &["configuration", "staticManifestsDir"]).clone())
    };
    for plugin in plugins(old) {
        let before = directory(old, &plugin);
        if !is_empty(&before) && directory(new, &plugin) != before {
            found.add(format!("the static manifests of {plugin} are no longer read"), "keep staticManifestsDir");
        }
    }
}

fn audit(new: &Value, found: &mut Found<'_>) {
    let first = list(new, "rules").first();
    let everything = |rule: &Value| {
        ["users", "userGroups", "verbs", "resources", "namespaces", "nonResourceURLs"]
            .iter()
            .all(|field| is_empty(&rule[*field]))
    };
    if first.is_none_or(|rule| text(rule, "level") == "None" && everything(rule)) {
        found.add("nothing would be audited", "put a rule first that keeps what you want to know");
    }
}

fn authentication(new: &Value, old: &Value, found: &mut Found<'_>) {
    let anonymous = |value: &Value| value["anonymous"].clone();
    let (after, before) = (anonymous(new), anonymous(old));
    let paths = |value: &Value| -> BTreeSet<String> {
        list(value, "conditions").iter().map(|it| text(it, "path").to_owned()).collect()
    };
    let is_open = flag(&after, "enabled") && paths(&after).is_empty();
    let was_bound = before.is_object() && !(flag(&before, "enabled") && paths(&before).is_empty());
    let widens = flag(&after, "enabled") && !paths(&after).is_subset(&paths(&before));
    if was_bound && (is_open || after.is_null() || widens) {
        found.add("anonymous requests would be served where they were not", "keep anonymous as it was");
    }
    let issuers = |value: &Value| -> BTreeSet<String> {
        list(value, "jwt").iter().map(|it| text(&it["issuer"], "url").to_owned()).collect()
    };
    for lost in issuers(old).difference(&issuers(new)) {
        found.add(format!("users of {lost} could not log in"), "keep the issuer");
    }
}

fn authorization(new: &Value, found: &mut Found<'_>) {
    let authorizers = list(new, "authorizers");
    let kinds: Vec<&str> = authorizers.iter().map(|it| text(it, "type")).collect();
    for kind in ["Node", "RBAC"].into_iter().filter(|kind| !kinds.contains(kind)) {
        found.add(format!("there is no authorizer {kind}"), "keep Node and RBAC");
    }
    if kinds.contains(&"AlwaysAllow") {
        found.add("AlwaysAllow admits everything", "remove it");
    }
    // The last one passes nobody on.
    let others = authorizers.split_last().map(|(_, others)| others).unwrap_or_default();
    let open = others.iter().filter(|it| text(it, "type") == "Webhook" && text(&it["webhook"], "failurePolicy") != "Deny");
    for webhook in open {
        let message = format!("webhook authorizer {} is passed by when it does not answer", text(webhook, "name"));
        found.add(message, "set failurePolicy: Deny, or put it last");
    }
}

fn scheduler(new: &Value, found: &mut Found<'_>) {
    let election = &new["leaderElection"];
    if election["leaderElect"].as_bool() == Some(false) {
        found.add("without leader election two schedulers act at once", "remove leaderElect");
    }
    for field in ["resourceName", "resourceNamespace"] {
        if !matches!(text(election, field), "" | "kube-scheduler" | "kube-system") {
            found.add(format!("leaderElection.{field} is another lease's"), "remove it");
        }
    }
    let profiles = list(new, "profiles");
    let names: Vec<&str> = profiles.iter().map(|it| text(it, "schedulerName")).collect();
    if !profiles.is_empty() && !names.iter().any(|name| matches!(*name, "" | "default-scheduler")) {
        found.add("nobody would schedule Pods of default-scheduler", "keep a profile of that name");
    }
    let disabled = profiles.iter().flat_map(|it| texts_of(&it["plugins"]));
    let binders: Vec<String> = disabled.filter(|name| matches!(name.as_str(), "*" | "DefaultBinder" | "NodeAffinity" | "TaintToleration")).collect();
    for name in binders {
        found.add(format!("plugin {name} is turned off, by which Pods find their nodes"), "remove it from disabled");
    }
}

/// The plugins that a profile turns off at any point.
fn texts_of(plugins: &Value) -> Vec<String> {
    let points = plugins.as_object().into_iter().flatten();
    points
        .flat_map(|(_, point)| list(point, "disabled").iter().map(|it| text(it, "name").to_owned()))
        .chain(texts(plugins, "disabled").into_iter().map(ToOwned::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::component::Component;
    use crate::rules::testing::{configured, table};

    /// What is written while no flag names it is judged when one does.
    #[test]
    fn a_flag_that_names_another_key_writes_too() {
        let mut world = configured();
        let text = |authorizers: &str| {
            json!(format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers: {authorizers}\n"
            ))
        };
        let data = &mut world.object_mut("ConfigMap", "kube-system/apiserver-config")["data"];
        data["same.yaml"] = text("[{type: Node, name: n}, {type: RBAC, name: r}]");
        data["weak.yaml"] = text("[{type: AlwaysAllow, name: a}]");
        let names = |file: &str| {
            world.edit_container(Component::ApiServer, |it| {
                for word in it["command"].as_array_mut().unwrap() {
                    if word == "--authorization-config=/etc/config/authorization.yaml" {
                        *word = json!(format!("--authorization-config={file}"));
                    }
                }
            })
        };
        let replaced = world.edit_container(Component::ApiServer, |it| {
            let words = it["command"].as_array_mut().unwrap();
            words.retain(|word| !word.as_str().unwrap().starts_with("--admission-control-config-file"));
            words.push(json!("--admission-control-config-file=/etc/config/audit.yaml"));
        });
        table(
            &RULE,
            &world,
            [
                ("the same under another name", names("/etc/config/same.yaml"), false),
                ("a weaker one", names("/etc/config/weak.yaml"), true),
                ("one that is not there", names("/etc/config/missing.yaml"), true),
                ("one on the node's disk", names("/etc/kubernetes/pki/authorization.yaml"), false),
                ("another kind", replaced, true),
            ],
        );
    }

    #[test]
    fn configurations_keep_their_protection() {
        let world = configured();
        let write = |key: &str, text: &str| {
            world.update("ConfigMap", "kube-system/apiserver-config", |it| it["data"][key] = json!(text))
        };
        let authorizers = |items: &str| {
            write("authorization.yaml", &format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers: {items}\n"
            ))
        };
        let audit = |rules: &str| {
            write("audit.yaml", &format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: {rules}\n"))
        };
        let anonymous = |text: &str| {
            write("authentication.yaml", &format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n{text}\n"
            ))
        };
        let manifests = |text: &str| {
            write("admission.yaml", &format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins: {text}\n"
            ))
        };
        table(
            &RULE,
            &world,
            [
                ("Node and RBAC", authorizers("[{type: Node, name: n}, {type: RBAC, name: r}]"), false),
                ("RBAC alone", authorizers("[{type: RBAC, name: r}]"), true),
                ("AlwaysAllow", authorizers("[{type: Node}, {type: RBAC}, {type: AlwaysAllow}]"), true),
                ("a webhook that fails open", authorizers("[{type: Webhook, name: w, webhook: {failurePolicy: NoOpinion}}, {type: Node}, {type: RBAC}]"), true),
                ("a webhook that fails closed", authorizers("[{type: Webhook, name: w, webhook: {failurePolicy: Deny}}, {type: Node}, {type: RBAC}]"), false),
                ("a webhook that fails open at the end", authorizers("[{type: Node}, {type: RBAC}, {type: Webhook, name: w}]"), false),
                ("one that fails open, twice", authorizers("[{type: Webhook, name: w}, {type: Node}, {type: RBAC}, {type: Webhook, name: w}]"), true),
                ("another kind", write("authorization.yaml", "apiVersion: v1\nkind: Config\n"), true),
                ("of another group", write("authorization.yaml", "apiVersion: apiserver.k8s.io/v1\nkind: AuthorizationConfiguration\n\
                    authorizers: [{type: Node}, {type: RBAC}]\n"), true),
                ("no YAML", write("authorization.yaml", "{"), true),
                ("two of one key", write("authorization.yaml", "kind: a\nkind: b\n"), true),
                ("an audit policy", audit("[{level: Metadata}]"), false),
                ("no audit", audit("[{level: None}, {level: Metadata}]"), true),
                ("no rules", audit("[]"), true),
                ("no audit of watches", audit("[{level: None, verbs: [watch]}, {level: Metadata}]"), false),
                ("anonymous as before", anonymous("anonymous: {enabled: true, conditions: [{path: /livez}]} # probes"), false),
                ("anonymous off", anonymous("anonymous: {enabled: false}"), false),
                ("anonymous everywhere", anonymous("anonymous: {enabled: true}"), true),
                ("anonymous by default", anonymous(""), true),
                ("anonymous on a path more", anonymous("anonymous: {enabled: true, conditions: [{path: /livez}, {path: /api}]}"), true),
                ("manifests as before", manifests("[{name: ValidatingAdmissionPolicy, configuration: {staticManifestsDir: /m}}] # ours"), false),
                ("manifests elsewhere", manifests("[{name: ValidatingAdmissionPolicy, configuration: {staticManifestsDir: /n}}]"), true),
                ("no manifests", manifests("[]"), true),
                ("an issuer more", anonymous("anonymous: {enabled: false}\njwt: [{issuer: {url: https://a}}]"), false),
                ("a plugin's configuration more", manifests("[{name: PodSecurity}, {name: ValidatingAdmissionPolicy, configuration: {staticManifestsDir: /m}}]"), false),
                ("another key", world.update("ConfigMap", "kube-system/apiserver-config", |it| it["data"]["x"] = json!("{")), false),
            ],
        );
    }

    #[test]
    fn what_was_open_stays_open() {
        let mut world = configured();
        let text = |rest: &str| {
            json!(format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n{rest}\n"))
        };
        let map = world.object_mut("ConfigMap", "kube-system/apiserver-config");
        map["data"]["authentication.yaml"] = text("jwt: []");
        let write = |rest: &str| {
            world.update("ConfigMap", "kube-system/apiserver-config", |it| it["data"]["authentication.yaml"] = text(rest))
        };
        table(&RULE, &world, [("what was the default", write("anonymous: {enabled: true}"), false)]);
    }

    #[test]
    fn a_scheduler_schedules() {
        let mut world = configured();
        let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
        world.objects.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"config.yaml": head},
            "metadata": {"name": "scheduler", "namespace": "kube-system"}}));
        let key = format!("kube-system/{}", Component::Scheduler.daemonset_name());
        let spec = &mut world.object_mut("DaemonSet", &key)["spec"]["template"]["spec"];
        spec["volumes"].as_array_mut().unwrap().push(json!({"name": "c", "configMap": {"name": "scheduler"}}));
        let container = &mut spec["containers"][0];
        container["volumeMounts"].as_array_mut().unwrap().push(json!({"name": "c", "mountPath": "/etc/scheduler"}));
        container["command"].as_array_mut().unwrap().push(json!("--config=/etc/scheduler/config.yaml"));
        let write = |rest: &str| {
            let text = format!("{head}{rest}\n");
            world.update("ConfigMap", "kube-system/scheduler", |it| it["data"]["config.yaml"] = json!(text))
        };
        table(
            &RULE,
            &world,
            [
                ("election", write("leaderElection: {leaderElect: true, resourceName: kube-scheduler}"), false),
                ("no election", write("leaderElection: {leaderElect: false}"), true),
                ("another lease", write("leaderElection: {resourceName: mine}"), true),
                ("a lease elsewhere", write("leaderElection: {resourceNamespace: default}"), true),
                ("the usual profile", write("profiles: [{schedulerName: default-scheduler}, {schedulerName: x}]"), false),
                ("a profile without a name", write("profiles: [{}]"), false),
                ("another profile alone", write("profiles: [{schedulerName: x}]"), true),
                ("a plugin off", write("profiles: [{plugins: {score: {disabled: [{name: ImageLocality}]}}}]"), false),
                ("a filter off", write("profiles: [{plugins: {filter: {disabled: [{name: TaintToleration}]}}}]"), true),
                ("everything off", write("profiles: [{plugins: {multiPoint: {disabled: [{name: '*'}]}}}]"), true),
            ],
        );
    }
}
