//! The settings of the policy: which rule matters how much, what is guarded beside the control plane itself, and whom
//! the rules trust with what.
//!
//! Invariant: settings that this build does not understand in full are refused. A rule's name with a slip of the pen
//! would otherwise be a rule that is silently as strict, or as lax, as before.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::approval::Approvals;
use super::{Request, User};
use crate::labels;
use crate::rules;

/// What becomes of a review that violates a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The rule is not looked at.
    Off,
    /// It goes on, with a warning.
    Warn,
    /// It is denied, unless an approval of just this change is with it.
    NeedsApproval,
    /// It is denied.
    Deny,
}

impl Severity {
    /// `needs-approval`
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::NeedsApproval => "needs-approval",
            Self::Deny => "deny",
        }
    }
}

/// An identity of the system that some write is left to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// The API server itself.
    ApiServer,
    /// The bootstrap signer, which signs `cluster-info`.
    BootstrapSigner,
    /// The certificate controllers: they approve and sign requests of kubelets.
    CertificateController,
    /// The aggregation of ClusterRoles.
    ClusterRoleAggregation,
    /// The controller manager, by its own certificate.
    ControllerManager,
    /// The DaemonSet controller.
    DaemonSetController,
    /// The garbage collector.
    GarbageCollector,
    /// The namespace controller.
    NamespaceController,
    /// The node controllers: lifecycle, and eviction by taints.
    NodeController,
    /// The collector of Pods of nodes that are gone.
    PodGarbageCollector,
    /// Whoever writes `kube-root-ca.crt` into each namespace.
    RootCaPublisher,
    /// The scheduler.
    Scheduler,
}

impl Identity {
    /// Every one.
    pub const ALL: [Self; 12] = [
        Self::ApiServer,
        Self::BootstrapSigner,
        Self::CertificateController,
        Self::ClusterRoleAggregation,
        Self::ControllerManager,
        Self::DaemonSetController,
        Self::GarbageCollector,
        Self::NamespaceController,
        Self::NodeController,
        Self::PodGarbageCollector,
        Self::RootCaPublisher,
        Self::Scheduler,
    ];

    /// `daemon-set-controller`
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiServer => "api-server",
            Self::BootstrapSigner => "bootstrap-signer",
            Self::CertificateController => "certificate-controller",
            Self::ClusterRoleAggregation => "cluster-role-aggregation",
            Self::ControllerManager => "controller-manager",
            Self::DaemonSetController => "daemon-set-controller",
            Self::GarbageCollector => "garbage-collector",
            Self::NamespaceController => "namespace-controller",
            Self::NodeController => "node-controller",
            Self::PodGarbageCollector => "pod-garbage-collector",
            Self::RootCaPublisher => "root-ca-publisher",
            Self::Scheduler => "scheduler",
        }
    }

    /// The usernames that stand for it where the settings do not name others: those of a controller manager with
    /// `--use-service-account-credentials`, as kubeadm runs it.
    pub const fn usernames(self) -> &'static [&'static str] {
        match self {
            Self::ApiServer => &["system:apiserver"],
            Self::BootstrapSigner => &["system:serviceaccount:kube-system:bootstrap-signer"],
            Self::CertificateController => &["system:serviceaccount:kube-system:certificate-controller"],
            Self::ClusterRoleAggregation => {
                &["system:serviceaccount:kube-system:clusterrole-aggregation-controller"]
            }
            Self::ControllerManager => &["system:kube-controller-manager"],
            Self::DaemonSetController => &["system:serviceaccount:kube-system:daemon-set-controller"],
            Self::GarbageCollector => &["system:serviceaccount:kube-system:generic-garbage-collector"],
            Self::NamespaceController => &["system:serviceaccount:kube-system:namespace-controller"],
            Self::NodeController => &[
                "system:serviceaccount:kube-system:node-controller",
                "system:serviceaccount:kube-system:taint-eviction-controller",
            ],
            Self::PodGarbageCollector => &["system:serviceaccount:kube-system:pod-garbage-collector"],
            Self::RootCaPublisher => &["system:serviceaccount:kube-system:root-ca-cert-publisher"],
            Self::Scheduler => &["system:kube-scheduler"],
        }
    }
}

/// Somebody for whom a rule is not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Exemption {
    /// The rule.
    pub rule: String,
    /// Exact usernames.
    #[serde(default)]
    pub users: BTreeSet<String>,
    /// Exact groups.
    #[serde(default)]
    pub groups: BTreeSet<String>,
    /// `namespace/name` of the objects that it is for; all of them where there is none.
    #[serde(default)]
    pub objects: BTreeSet<String>,
}

/// A time in which nothing is changed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Freeze {
    /// When it begins, in seconds since 1970.
    pub from: i64,
    /// When it ends.
    pub until: i64,
    /// Why, for whoever meets it.
    pub reason: String,
}

/// The guard's own place.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Guard {
    /// The namespace of its Pods.
    pub namespace: String,
    /// The name of its DaemonSet, its registration and its ServiceAccount.
    pub name: String,
}

impl Default for Guard {
    fn default() -> Self {
        Self { namespace: "selfhost-guard".to_owned(), name: "selfhost-guard".to_owned() }
    }
}

/// What certificates must have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Certificates {
    /// For how many seconds a new certificate must at least be valid.
    pub remaining: i64,
    /// By how many seconds clocks may differ.
    pub skew: i64,
}

impl Default for Certificates {
    fn default() -> Self {
        Self { remaining: 7 * 86_400, skew: 300 }
    }
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Settings {
    /// Severities, by rule, where they are not the rule's own.
    pub rules: BTreeMap<String, Severity>,
    /// For whom which rule is not looked at.
    pub exempt: Vec<Exemption>,
    /// Usernames by identity, where they are not the usual ones.
    pub identities: BTreeMap<Identity, BTreeSet<String>>,
    /// `namespace/name` of Secrets that are guarded beside those that the control plane mounts.
    pub secrets: BTreeSet<String>,
    /// `namespace/name` of ConfigMaps that are guarded beside those that the control plane mounts.
    pub config_maps: BTreeSet<String>,
    /// Who may write guarded Secrets and ConfigMaps; anybody who has the right where it is empty.
    pub writers: BTreeSet<String>,
    /// Repositories, or whole references, of the node part's image.
    pub node_images: BTreeSet<String>,
    /// The guard's own place.
    pub guard: Guard,
    /// What certificates must have left.
    pub certificates: Certificates,
    /// When nothing is changed.
    pub freeze: Vec<Freeze>,
    /// How many seconds lie at least between two edits of one DaemonSet.
    pub pause: i64,
    /// How a change that needs approval is approved.
    pub approval: Approvals,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rules: BTreeMap::new(),
            exempt: Vec::new(),
            identities: BTreeMap::new(),
            secrets: BTreeSet::new(),
            config_maps: BTreeSet::new(),
            writers: BTreeSet::new(),
            node_images: BTreeSet::from(["ghcr.io/kubectl-selfhost/selfhost-node".to_owned()]),
            guard: Guard::default(),
            certificates: Certificates::default(),
            freeze: Vec::new(),
            pause: 0,
            approval: Approvals::default(),
        }
    }
}

/// Settings that are refused.
#[derive(Debug, thiserror::Error)]
pub enum BadSettings {
    /// They are not what this build reads.
    #[error("cannot read the settings: {0}")]
    Unreadable(#[from] serde_path_to_error::Error<serde_json::Error>),
    /// A setting that could not be relied on.
    #[error("{setting}: {what}")]
    Unreliable {
        /// Which: `exempt[0]`.
        setting: String,
        /// What is the matter with it.
        what: String,
        /// What to do.
        hint: &'static str,
    },
}

impl BadSettings {
    fn new(setting: impl Into<String>, what: impl Into<String>, hint: &'static str) -> Self {
        Self::Unreliable { setting: setting.into(), what: what.into(), hint }
    }

    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "docs/reference/rules.md has every setting, with an example",
            Self::Unreliable { hint, .. } => hint,
        }
    }
}

impl Settings {
    /// Reads settings; an empty text, `null` and `{}` are the defaults.
    pub fn parse(json: &[u8]) -> Result<Self, BadSettings> {
        if json.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let mut reader = serde_json::Deserializer::from_slice(json);
        let settings: Option<Self> = serde_path_to_error::deserialize(&mut reader)?;
        let whole = serde_path_to_error::Track::new().path();
        reader.end().map_err(|error| serde_path_to_error::Error::new(whole, error))?;
        let settings = settings.unwrap_or_default();
        settings.validate()?;
        Ok(settings)
    }

    /// Whether they can be relied on.
    pub fn validate(&self) -> Result<(), BadSettings> {
        for id in self.rules.keys() {
            changeable(&format!("rules.{id}"), id)?;
        }
        for (index, exemption) in self.exempt.iter().enumerate() {
            let setting = format!("exempt[{index}]");
            changeable(&setting, &exemption.rule)?;
            let nobody = |names: &BTreeSet<String>| names.iter().all(|name| name.trim().is_empty());
            if nobody(&exemption.users) && nobody(&exemption.groups) {
                let what = format!("the exemption from {} names neither a user nor a group", exemption.rule);
                return Err(BadSettings::new(setting, what, "name whom it is for in `users` or `groups`"));
            }
        }
        for (identity, names) in &self.identities {
            if names.iter().any(|name| name.trim().is_empty() || name.contains('*')) {
                return Err(BadSettings::new(
                    format!("identities.{}", identity.as_str()),
                    "a username is empty or a pattern",
                    "write each username in full",
                ));
            }
        }
        if let Some((index, freeze)) = self.freeze.iter().enumerate().find(|(_, it)| it.until <= it.from) {
            return Err(BadSettings::new(
                format!("freeze[{index}]"),
                format!("the freeze {:?} ends before it begins", freeze.reason),
                "`until` comes after `from`, both in seconds since 1970",
            ));
        }
        for (setting, value) in [
            ("pause", self.pause),
            ("certificates.remaining", self.certificates.remaining),
            ("certificates.skew", self.certificates.skew),
            ("approval.longest", self.approval.longest),
        ] {
            if value < 0 {
                return Err(BadSettings::new(setting, "it is negative", "give it in seconds, 0 or more"));
            }
        }
        self.approval
            .validate()
            .map_err(|(setting, what, hint)| BadSettings::new(format!("approval.{setting}"), what, hint))
    }

    /// Whether `user` is this identity.
    pub fn is(&self, user: &User, identity: Identity) -> bool {
        match self.identities.get(&identity) {
            Some(names) => names.contains(&user.username),
            None => identity.usernames().contains(&user.username.as_str()),
        }
    }

    /// Whether `user` is one of these identities.
    pub fn is_any(&self, user: &User, identities: &[Identity]) -> bool {
        identities.iter().any(|identity| self.is(user, *identity))
    }

    /// Whether the rule is not looked at for this request.
    pub fn exempts(&self, rule: &str, request: &Request) -> bool {
        self.exempt.iter().filter(|exemption| exemption.rule == rule).any(|exemption| {
            let user = &request.user;
            let named = exemption.users.contains(&user.username)
                || user.groups.iter().any(|group| exemption.groups.contains(group));
            named && (exemption.objects.is_empty() || exemption.objects.contains(&request.key()))
        })
    }

    /// Whether the namespace holds parts of the control plane or of the guard.
    pub fn is_guarded_namespace(&self, namespace: &str) -> bool {
        namespace == labels::NAMESPACE || namespace == self.guard.namespace
    }

    /// `namespace/name` of the ServiceAccounts that rules trust: whoever had a token of one would be trusted too.
    pub fn trusted_accounts(&self) -> BTreeSet<String> {
        let usual = |identity: Identity| identity.usernames().iter().map(|name| (*name).to_owned());
        let names = Identity::ALL.into_iter().flat_map(|identity| match self.identities.get(&identity) {
            Some(names) => names.iter().cloned().collect::<Vec<_>>(),
            None => usual(identity).collect(),
        });
        let account = |name: String| {
            let (namespace, name) = name.strip_prefix("system:serviceaccount:")?.split_once(':')?;
            Some(format!("{namespace}/{name}"))
        };
        let writers = self.writers.iter().cloned();
        let own = format!("{}/{}", self.guard.namespace, self.guard.name);
        names.chain(writers).filter_map(account).chain([own]).collect()
    }

    /// Whether `image` is the node part's.
    pub fn is_node_image(&self, image: &str) -> bool {
        self.node_images.iter().any(|allowed| allowed == image || allowed == repository(image))
    }
}

/// A rule that exists, and that settings may change.
fn changeable(setting: &str, id: &str) -> Result<(), BadSettings> {
    match rules::find(id) {
        None => Err(BadSettings::new(
            setting,
            format!("there is no rule {id:?}"),
            "docs/reference/rules.md has them all",
        )),
        Some(rule) if rule.fixed => Err(BadSettings::new(
            setting,
            format!("rule {id} cannot be changed: without it no other rule could be relied on"),
            "leave it out",
        )),
        Some(_) => Ok(()),
    }
}

/// The repository of an image reference, without tag and digest.
pub fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    name[start..].find(':').map_or(name, |colon| &name[..start + colon])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each refusal names the setting.
    #[test]
    fn what_is_not_understood_is_refused() {
        for (json, expected) in [
            ("", None),
            ("null", None),
            ("{}", None),
            (r#"{"rules": {"DS-13": "deny"}}"#, None),
            (r#"{"rules": {"DS-99": "deny"}}"#, Some("rules.DS-99: there is no rule \"DS-99\"")),
            (r#"{"rules": {"ds-1": "deny"}}"#, Some("rules.ds-1: there is no rule")),
            (
                r#"{"rules": {"DS-1": "ignore"}}"#,
                Some("cannot read the settings: rules.DS-1: unknown variant"),
            ),
            (r#"{"rules": {"G-1": "off"}}"#, Some("rules.G-1: rule G-1 cannot be changed")),
            (r#"{"rule": {}}"#, Some("cannot read the settings: rule: unknown field")),
            (r#"{"pause": 1, "pause": 0}"#, Some("duplicate field `pause`")),
            ("{} {}", Some("cannot read the settings: trailing characters")),
            (r#"{"exempt": [{"rule": "DS-1", "users": ["ann"]}]}"#, None),
            (r#"{"exempt": [{"rule": "DS-1"}]}"#, Some("exempt[0]: the exemption from DS-1 names neither")),
            (r#"{"exempt": [{"rule": "DS-1", "users": [" "]}]}"#, Some("exempt[0]: ")),
            (r#"{"exempt": [{"rule": "DS-0", "users": ["ann"]}]}"#, Some("exempt[0]: there is no rule")),
            (r#"{"exempt": [{"rule": "G-1", "users": ["ann"]}]}"#, Some("exempt[0]: rule G-1 cannot be")),
            (r#"{"exempt": [{"rule": "DS-1", "users": "ann"}]}"#, Some("exempt[0].users: invalid type")),
            (r#"{"identities": {"scheduler": ["system:*"]}}"#, Some("identities.scheduler: a username")),
            (r#"{"identities": {"nobody": ["x"]}}"#, Some("identities.?: unknown variant `nobody`")),
            (
                r#"{"freeze": [{"from": 2, "until": 1, "reason": "x"}]}"#,
                Some("freeze[0]: the freeze \"x\" ends"),
            ),
            (r#"{"freeze": [{"from": "monday"}]}"#, Some("freeze[0].from: invalid type")),
            (r#"{"pause": -1}"#, Some("pause: it is negative")),
            (r#"{"certificates": {"skew": -1}}"#, Some("certificates.skew: it is negative")),
            (
                r#"{"approval": {"required": 1}}"#,
                Some("approval.required: 1 signatures are required, of 0 keys"),
            ),
            (r#"{"approval": {"keys": {"ann": "x"}}}"#, Some("approval.keys.ann: it is no ECDSA P-256")),
        ] {
            let found = Settings::parse(json.as_bytes()).err();
            assert!(found.as_ref().is_none_or(|error| !error.hint().is_empty()), "{json}");
            let found = found.map(|error| error.to_string());
            match expected {
                None => assert_eq!(found, None, "{json}"),
                Some(part) => {
                    assert!(found.as_ref().is_some_and(|it| it.contains(part)), "{json}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn identities_are_called_what_settings_call_them() {
        for identity in Identity::ALL {
            assert_eq!(serde_json::to_value(identity).unwrap(), identity.as_str());
        }
    }

    #[test]
    fn identities_are_exact() {
        let user = |name: &str| User { username: name.into(), groups: Vec::new() };
        let settings = Settings::default();
        let controller = "system:serviceaccount:kube-system:daemon-set-controller";
        assert!(settings.is(&user(controller), Identity::DaemonSetController));
        for other in ["system:serviceaccount:default:daemon-set-controller", &format!("{controller}-2"), ""] {
            assert!(!settings.is(&user(other), Identity::DaemonSetController), "{other}");
        }
        let one: Settings = Settings::parse(
            br#"{"identities": {"daemon-set-controller": ["system:kube-controller-manager"]}}"#,
        )
        .unwrap();
        assert!(one.is(&user("system:kube-controller-manager"), Identity::DaemonSetController));
        assert!(
            !one.is(&user(controller), Identity::DaemonSetController),
            "named ones replace the usual ones"
        );
    }

    #[test]
    fn repositories() {
        for (image, expected) in [
            ("registry.k8s.io/kube-apiserver:v1.37.2", "registry.k8s.io/kube-apiserver"),
            ("localhost:5000/kube-apiserver", "localhost:5000/kube-apiserver"),
            ("localhost:5000/kube-apiserver:v1@sha256:00", "localhost:5000/kube-apiserver"),
            ("kube-apiserver", "kube-apiserver"),
            ("", ""),
        ] {
            assert_eq!(repository(image), expected);
        }
        let settings = Settings::default();
        assert!(settings.is_node_image("ghcr.io/kubectl-selfhost/selfhost-node:v0.1.0"));
        assert!(!settings.is_node_image("ghcr.io/kubectl-selfhost/selfhost-node.evil.org/x:v1"));
        assert!(!settings.is_node_image("evil.org/ghcr.io/kubectl-selfhost/selfhost-node:v1"));
    }
}
