//! The reference of rules, made from their definitions: `docs/reference/rules.md`.

use std::fmt::Write as _;

use super::{ALL, Reach, Rule};
use crate::review::Severity;

/// From the directory of the package, where cargo runs its tests.
const PATH: &str = "../../docs/reference/rules.md";

/// Fails when the file is not what the definitions say. `UPDATE_DOCS=1 cargo test -p selfhost-core reference` writes it.
#[test]
fn the_reference_of_rules_is_up_to_date() {
    let wanted = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PATH, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        wanted == found,
        "docs/reference/rules.md is stale: UPDATE_DOCS=1 cargo test -p selfhost-core reference"
    );
}

/// Tools that read sources and expand no macro find the file of every rule.
#[test]
fn every_file_is_listed() {
    let source = include_str!("../rules.rs");
    for rule in ALL {
        let module = rule.id.to_lowercase().replace('-', "");
        assert!(source.contains(&format!("mod {module};")), "{module} is not in `sources`");
    }
}

/// The groups of rules, by the beginning of their names.
const GROUPS: [(&str, &[&str]); 7] = [
    ("What every rule rests on", &["G-"]),
    ("DaemonSets", &["DS-", "CR-"]),
    ("Secrets", &["SEC-"]),
    ("ConfigMaps", &["CM-"]),
    ("Rights and identities", &["RB-"]),
    ("Registrations", &["AR-"]),
    ("Pods, nodes, namespaces, Services", &["PO-", "NODE-", "NS-", "SVC-"]),
];

/// What the guard is asked for and no admission can decide.
const IMPOSSIBLE: [(&str, &str); 12] = [
    (
        "Reading Secrets",
        "`get`, `list` and `watch` are not admitted. RBAC decides, the audit log tells; SEC-12 sees Secrets that are mounted.",
    ),
    (
        "Static Pods",
        "A kubelet runs what lies in its directory. Only the mirror, its shadow in the API, is admitted.",
    ),
    (
        "Files on the nodes",
        "Certificates, kubeconfigs and configurations behind a hostPath are changed without a request.",
    ),
    (
        "etcd",
        "A direct write to etcd asks no API server, its members are no objects, and its quorum is not in the API (DS-13, NODE-4). etcd stays a static Pod here, so that there is no workload of it to guard.",
    ),
    (
        "An API server that is set up otherwise",
        "Each API server admits by its own flags and files. One of three without the guard is a way around it for a third of the requests.",
    ),
    (
        "Impersonation",
        "A review names the impersonated user, not who impersonates (RB-2 guards the right). Approvals rest on keys or on the act, never on a username.",
    ),
    (
        "The guard's own registration",
        "The API server asks no webhook about webhooks that are registered through it. AR-1 and AR-2 are seen only by a webhook in a static manifest (`guard install --static`); without one `kubectl selfhost guard status` tells.",
    ),
    ("The content of an image", "A tag is believed, not what it holds (DS-6)."),
    (
        "Whether a target starts",
        "DS-9 and DS-10 see what is written. The bridge of a swap finds out what is true, before anything is replaced.",
    ),
    (
        "Whether all API servers have seen a change",
        "Two-phase rotations (SEC-6 to SEC-8) are judged by what is stored, not by what each server has loaded.",
    ),
    ("A backup", "No object tells whether there is a snapshot of etcd (DS-14 sees standbys)."),
    ("Old tokens and certificates", "What was issued before stays valid until it lapses."),
];

/// What holds for the evaluation as a whole, and is tested as a property.
const PROPERTIES: [(&str, &str); 7] = [
    ("G-2", "What no rule is about goes through."),
    ("G-3", "A dry run has the same verdict, and spends no approval."),
    (
        "G-4",
        "An approval counts for one change of one object, for the rules that it names, for a short time; with keys in the settings it counts with enough signatures.",
    ),
    ("G-5", "The same review with the same facts has the same verdict, wherever it is evaluated."),
    ("G-6", "Exemptions are settings: they name a rule, and whom; `G-1` cannot be exempted."),
    ("SEC-13", "No verdict holds a byte of a Secret. Keys are told by the SHA-256 of their public half."),
    (
        "SVC-3",
        "Leases, Events and Endpoints are let through before any rule looks at them: a rule that met a leader's Lease could stop the cluster.",
    ),
];

fn reference() -> String {
    let mut text = String::from(
        "# Rules\n\nMade from the rules' own definitions: `UPDATE_DOCS=1 cargo test -p selfhost-core reference`.\n\n\
         They are built into a [Wasm module](policy.md), which `kubectl selfhost guard install` puts before the API servers; see [the guard](../guide/guard.md).\n\n\
         A rule has a name that stays the same for ever, and a severity:\n\n\
         | severity | what becomes of a request that violates the rule |\n|---|---|\n\
         | deny | It is denied. |\n\
         | needs-approval | It is denied, unless an [approval](#approvals) of just this change is with it. |\n\
         | warn | It goes on, with a warning. |\n\
         | off | The rule is not looked at. |\n\n\
         A rule looks at what a request changes: what was there before may be relabelled and repaired.\n\
         It looks at the object as it would be stored, so that the kind of patch, server-side apply, and the version of the \
         API make no difference.\n\
         What a rule needs to know beside the request (other objects, the time) the host looks up; where it cannot, the rule \
         counts as violated.\n\n\
         Some rules are only asked where a registration sends more than the guarded objects by name; each says so.\n\n",
    );
    text.push_str("| rule | what must hold | severity | asked |\n|---|---|---|---|\n");
    for rule in ALL {
        let (id, title) = (rule.id, rule.title);
        let anchor = id.to_lowercase();
        writeln!(text, "| [{id}](#{anchor}) | {title} | {} | {} |", shown(rule), reach(rule.reach)).unwrap();
    }
    text.push_str(&settings());
    for (title, prefixes) in GROUPS {
        write!(text, "\n## {title}\n").unwrap();
        for rule in ALL.iter().filter(|rule| prefixes.iter().any(|prefix| rule.id.starts_with(prefix))) {
            section(&mut text, rule);
        }
    }
    text.push_str("\n## What holds for all of them\n\n| | |\n|---|---|\n");
    for (id, what) in PROPERTIES {
        writeln!(text, "| {id} | {what} |").unwrap();
    }
    text.push_str("\n## What admission cannot see\n\n| what | why, and what helps |\n|---|---|\n");
    for (what, why) in IMPOSSIBLE {
        writeln!(text, "| {what} | {why} |").unwrap();
    }
    text
}

fn settings() -> String {
    format!(
        "\n## Settings\n\nJSON. What this version does not know is refused, the name of a rule too.\n\n\
         ```json\n{{\n  \"rules\": {{\"DS-13\": \"deny\", \"PO-1\": \"warn\"}},\n  \
         \"exempt\": [{{\"rule\": \"SEC-7\", \"users\": [\"ann\"], \"objects\": [\"kube-system/sa\"]}}],\n  \
         \"identities\": {{\"daemon-set-controller\": [\"system:kube-controller-manager\"]}},\n  \
         \"secrets\": [\"vault/root\"], \"configMaps\": [],\n  \
         \"writers\": [\"system:serviceaccount:rotation:rotator\"],\n  \
         \"nodeImages\": [\"{}\"],\n  \
         \"guard\": {{\"namespace\": \"selfhost-guard\", \"name\": \"selfhost-guard\"}},\n  \
         \"certificates\": {{\"remaining\": 604800, \"skew\": 300}},\n  \
         \"freeze\": [{{\"from\": 1798675200, \"until\": 1799107200, \"reason\": \"end of the year\"}}],\n  \
         \"pause\": 0,\n  \"approval\": {{\"keys\": {{}}, \"required\": 0, \"longest\": 3600}}\n}}\n```\n\n\
         | setting | what |\n|---|---|\n\
         | `rules` | Severities, where they are not the rule's own. |\n\
         | `exempt` | For whom a rule is not looked at: exact users or groups, for all objects or for those that are named. |\n\
         | `identities` | The usernames of the system's controllers, where they are not the usual ones: each rule trusts exact names. |\n\
         | `secrets`, `configMaps` | What is guarded beside what the control plane's DaemonSets mount. |\n\
         | `writers` | Who may write guarded Secrets and ConfigMaps (SEC-10). |\n\
         | `nodeImages` | Repositories, or whole references, of the node part's image (PO-5). A reference with a digest is the safer one. |\n\
         | `guard` | Where the guard itself is. |\n\
         | `certificates` | Seconds that a new certificate must have left, and by which clocks may differ (SEC-3). |\n\
         | `freeze`, `pause` | When nothing is edited, and how many seconds lie between two edits (DS-16). Times are seconds since 1970. |\n\
         | `approval` | Public keys (ECDSA P-256, in PEM) by the name of their holder, how many of them must have signed, and for how many seconds an approval may be given. |\n\n\
         ### Approvals\n\n\
         An approval is the annotation `kubectl-selfhost.dev/approval` on the object that is changed, in JSON: the change (operation, \
         resource, object, UID, the version that is changed, the SHA-256 of what it becomes), the rules that it lifts, until when, \
         why, and signatures.\n\
         It lifts rules of severity needs-approval, and no others.\n\
         For a deletion it stands on the object that is deleted, and for a connection on the Pod or node.\n\
         Where the settings have no keys, writing it is the act: that stops a slip, not somebody who means it.\n",
        crate::review::Settings::default().node_images.first().unwrap(),
    )
}

fn section(text: &mut String, rule: &Rule) {
    write!(text, "\n### {}\n\n", rule.id).unwrap();
    writeln!(text, "*{}.* {}.", capitalized(&shown(rule)), capitalized(rule.title)).unwrap();
    write!(text, "\n{}\n", rule.why).unwrap();
    if !rule.evasion.is_empty() {
        write!(text, "\nHow it is evaded, and what is done about it:\n\n{}\n", listed(rule.evasion)).unwrap();
    }
    if !rule.blind.is_empty() {
        write!(text, "\nWhat admission cannot see: {}\n", rule.blind).unwrap();
    }
    match rule.reach {
        Reach::Named => {}
        Reach::Wide => {
            text.push_str("\nAsked where the registration sends more than the guarded objects by name.\n");
        }
        Reach::Static => {
            text.push_str("\nAsked where the registration is a static manifest of the API servers.\n");
        }
    }
    if rule.fixed {
        text.push_str("\nIts severity cannot be changed.\n");
    } else {
        write!(text, "\nTo change it: `{{\"rules\": {{\"{}\": \"{}\"}}}}`.\n", rule.id, other(rule.severity))
            .unwrap();
    }
}

fn shown(rule: &Rule) -> String {
    rule.severity.as_str().to_owned()
}

const fn reach(reach: Reach) -> &'static str {
    match reach {
        Reach::Named => "always",
        Reach::Wide => "on request",
        Reach::Static => "by static manifest",
    }
}

const fn other(severity: Severity) -> &'static str {
    match severity {
        Severity::Deny => "needs-approval",
        Severity::NeedsApproval | Severity::Off => "warn",
        Severity::Warn => "deny",
    }
}

fn listed(text: &str) -> String {
    if text.starts_with("- ") { text.to_owned() } else { format!("- {text}") }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[test]
fn every_rule_says_what_it_is() {
    for rule in ALL {
        assert!(!rule.title.ends_with('.') && !rule.title.is_empty(), "{}", rule.id);
        assert!(rule.why.ends_with('.') || rule.why.ends_with(')'), "{}: {}", rule.id, rule.why);
        assert!(
            rule.blind.is_empty() || rule.blind.ends_with('.') || rule.blind.ends_with(')'),
            "{}",
            rule.id
        );
        let groups = GROUPS.iter().filter(|(_, prefixes)| prefixes.iter().any(|it| rule.id.starts_with(it)));
        assert_eq!(groups.count(), 1, "{} is in one group", rule.id);
    }
}
