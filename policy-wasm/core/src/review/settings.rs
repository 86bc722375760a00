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
    Unreadable(#[from] serde_json::Error),
    /// A rule that does not exist.
    #[error("there is no rule {0:?}; docs/reference/rules.md has them all")]
    UnknownRule(String),
    /// A rule that is what makes the others hold.
    #[error("rule {0} cannot be changed: without it no other rule could be relied on")]
    Fixed(&'static str),
    /// An exemption of everybody.
    #[error("the exemption from {0} names neither a user nor a group")]
    ExemptsEverybody(String),
    /// An identity of nobody, or of everybody.
    #[error("identity {0:?}: a username must be written in full")]
    Identity(Identity),
    /// A freeze that ends before it begins.
    #[error("the freeze {0:?} ends before it begins")]
    Freeze(String),
    /// A time that is no time.
    #[error("{0} must not be negative")]
    Negative(&'static str),
    /// Approvals that nobody could give, or anybody could.
    #[error("approval: {0}")]
    Approval(String),
}

impl Settings {
    /// Reads settings; an empty text, `null` and `{}` are the defaults.
    pub fn parse(json: &[u8]) -> Result<Self, BadSettings> {
        if json.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let settings: Self = serde_json::from_slice::<Option<Self>>(json)?.unwrap_or_default();
        settings.validate()?;
        Ok(settings)
    }

    /// Whether they can be relied on.
    pub fn validate(&self) -> Result<(), BadSettings> {
        for id in self.rules.keys().chain(self.exempt.iter().map(|exemption| &exemption.rule)) {
            let rule = rules::find(id).ok_or_else(|| BadSettings::UnknownRule(id.clone()))?;
            if rule.fixed {
                return Err(BadSettings::Fixed(rule.id));
            }
        }
        for exemption in &self.exempt {
            let nobody = |names: &BTreeSet<String>| names.iter().all(|name| name.trim().is_empty());
            if nobody(&exemption.users) && nobody(&exemption.groups) {
                return Err(BadSettings::ExemptsEverybody(exemption.rule.clone()));
            }
        }
        for (identity, names) in &self.identities {
            if names.iter().any(|name| name.trim().is_empty() || name.contains('*')) {
                return Err(BadSettings::Identity(*identity));
            }
        }
        if let Some(freeze) = self.freeze.iter().find(|freeze| freeze.until <= freeze.from) {
            return Err(BadSettings::Freeze(freeze.reason.clone()));
        }
        for (name, value) in [
            ("pause", self.pause),
            ("certificates.remaining", self.certificates.remaining),
            ("certificates.skew", self.certificates.skew),
            ("approval.longest", self.approval.longest),
        ] {
            if value < 0 {
                return Err(BadSettings::Negative(name));
            }
        }
        self.approval.validate().map_err(BadSettings::Approval)
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

/// The repository of an image reference, without tag and digest.
pub fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    name[start..].find(':').map_or(name, |colon| &name[..start + colon])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_refused() {
        for (json, expected) in [
            ("", None),
            ("null", None),
            ("{}", None),
            (r#"{"rules": {"DS-13": "deny"}}"#, None),
            (r#"{"rules": {"DS-99": "deny"}}"#, Some("no rule \"DS-99\"")),
            (r#"{"rules": {"ds-1": "deny"}}"#, Some("no rule")),
            (r#"{"rules": {"DS-1": "ignore"}}"#, Some("cannot read")),
            (r#"{"rules": {"G-1": "off"}}"#, Some("cannot be changed")),
            (r#"{"rule": {}}"#, Some("cannot read")),
            (r#"{"exempt": [{"rule": "DS-1", "users": ["ann"]}]}"#, None),
            (r#"{"exempt": [{"rule": "DS-1"}]}"#, Some("neither a user nor a group")),
            (r#"{"exempt": [{"rule": "DS-1", "users": [" "]}]}"#, Some("neither a user nor a group")),
            (r#"{"exempt": [{"rule": "DS-0", "users": ["ann"]}]}"#, Some("no rule")),
            (r#"{"exempt": [{"rule": "G-1", "users": ["ann"]}]}"#, Some("cannot be changed")),
            (r#"{"identities": {"scheduler": ["system:*"]}}"#, Some("in full")),
            (r#"{"identities": {"nobody": ["x"]}}"#, Some("cannot read")),
            (r#"{"freeze": [{"from": 2, "until": 1, "reason": "x"}]}"#, Some("ends before")),
            (r#"{"pause": -1}"#, Some("negative")),
            (r#"{"approval": {"required": 1}}"#, Some("approval")),
        ] {
            let found = Settings::parse(json.as_bytes()).err().map(|error| error.to_string());
            match expected {
                None => assert_eq!(found, None, "{json}"),
                Some(part) => {
                    assert!(found.as_ref().is_some_and(|it| it.contains(part)), "{json}: {found:?}");
                }
            }
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
