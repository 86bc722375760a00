//! Findings: what a check has to say, with a code that stays the same for ever.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// It works, and needs attention.
    Warning,
    /// It does not work, or an operation cannot start.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $severity:ident;)+) => {
        /// A finding's code. Codes are never reused; each has a section in `docs/reference/findings.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $($(#[doc = $doc])+ #[serde(rename = $code)] $variant,)+
        }

        impl Code {
            /// Every code, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// `SH0101`
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// How much a finding with this code matters.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)+ }
            }
        }
    };
}

codes! {
    /// A part of the cluster could not be read.
    Unreadable = "SH0001", Warning;
    /// The API server could not be reached at all.
    Unreachable = "SH0002", Error;
    /// No control plane is visible: a managed cluster, or no right to see it.
    NoControlPlane = "SH0003", Info;

    /// A component has no Pod on a control-plane node.
    Missing = "SH0101", Error;
    /// A component runs both as static Pod and from a DaemonSet.
    Mixed = "SH0102", Warning;
    /// A component's Pod is not ready.
    NotReady = "SH0103", Error;
    /// A component's Pod restarts often.
    Restarts = "SH0104", Warning;
    /// Copies of one component run different versions.
    VersionsDiffer = "SH0105", Warning;
    /// A controller manager or scheduler is outside of the version skew policy.
    ComponentSkew = "SH0106", Error;
    /// A kubelet is outside of the version skew policy.
    KubeletSkew = "SH0107", Error;
    /// A DaemonSet would roll its Pods by itself on an edit.
    RollsByItself = "SH0108", Warning;
    /// A running Pod is not what its DaemonSet's template says: an edit waits to be rolled.
    Drift = "SH0109", Warning;
    /// The cluster was made self-hosted by kubeadm 1.5 to 1.18.
    KubeadmSelfHosted = "SH0110", Info;
    /// A self-hosted control plane has nothing that would bring it back after a reboot.
    NoStandby = "SH0111", Warning;
    /// A certificate expires soon.
    CertificateExpires = "SH0112", Warning;
    /// A certificate has expired.
    CertificateExpired = "SH0113", Error;
    /// An operation was interrupted, or is running.
    OperationOpen = "SH0114", Warning;
    /// A bridge Pod is left over.
    BridgeLeft = "SH0115", Warning;
    /// One of a node's two checkpoints would not act.
    CheckpointDamaged = "SH0116", Warning;
    /// A node's latest checkpoint is not what runs there.
    CheckpointStale = "SH0117", Warning;

    /// A control-plane node is not ready.
    NodeNotReady = "SH0201", Error;
    /// Another operation holds the lock.
    Locked = "SH0202", Error;
    /// The control plane is not healthy enough to be changed.
    Unhealthy = "SH0203", Error;
    /// An image cannot be pulled.
    ImagePull = "SH0204", Error;
    /// A port that the operation needs is taken.
    PortTaken = "SH0205", Error;
    /// The node has too little memory for a second copy of the component.
    Memory = "SH0206", Error;
    /// The node's kernel cannot divert connections.
    NoNftables = "SH0207", Error;
    /// A host firewall does not let the diverted port through.
    FirewallBlocks = "SH0208", Error;
    /// The path through the divert could not be proved from here.
    PathUnproven = "SH0209", Warning;
    /// Pod Security admission would refuse the tool's Pods.
    PodSecurity = "SH0210", Error;
    /// A quota would refuse the tool's Pods.
    Quota = "SH0211", Error;
    /// A webhook that may be unreachable would block the tool's writes.
    WebhookBlocks = "SH0212", Error;
    /// Static manifests differ between nodes in more than per-node values.
    ManifestsDiffer = "SH0213", Error;
    /// Too little room on the node's disk.
    DiskFull = "SH0214", Error;
    /// The target's version is more than one minor ahead.
    MinorSkipped = "SH0215", Error;
    /// The target is older than what runs.
    Downgrade = "SH0216", Error;
    /// The target does not know a flag that is in use.
    FlagRemoved = "SH0217", Error;
    /// A right that the operation needs is missing.
    Forbidden = "SH0218", Error;
    /// The target version is not known in full.
    VersionUnknown = "SH0219", Error;
    /// The component is not laid out as kubeadm lays it out, so that it cannot be moved.
    LayoutUnknown = "SH0220", Error;
    /// The node image is not pinned by digest.
    NotPinned = "SH0221", Warning;
    /// The cluster is not self-hosted.
    NotSelfHosted = "SH0222", Error;
    /// The version is too old for this tool to change the cluster; it can be inspected and planned.
    PlanOnly = "SH0223", Error;
    /// A node has no kept manifest, so that there is nothing to go back to.
    NotKept = "SH0224", Error;
    /// A DaemonSet was changed since the pivot, and the change would be lost on the way back.
    ChangedSincePivot = "SH0225", Error;
    /// The DaemonSets have no revision to go back to.
    NoRevision = "SH0226", Error;
    /// What the newer version may have stored, the older one cannot read.
    StorageUnreadable = "SH0227", Error;
    /// The upgrade cannot be made in two steps.
    NotEmulable = "SH0230", Error;
    /// A flag of compatibility versions does not go with the target.
    EmulationMisfit = "SH0231", Error;
    /// A two-step upgrade is not finished, and the target is another minor.
    EmulationOpen = "SH0232", Error;
    /// etcd is not made of static Pods on the control-plane nodes.
    EtcdExternal = "SH0240", Error;
    /// etcd must come to a newer patch of its minor version before it comes to the next one.
    EtcdPatchFirst = "SH0241", Error;
    /// A member of etcd cannot be upgraded to this image, by the word of the image and of the node.
    EtcdUnfit = "SH0242", Error;
    /// The API servers are known to a guard, which has to be uninstalled first.
    GuardInstalled = "SH0250", Error;
    /// The API server has an admission configuration of its operator's.
    AdmissionConfigured = "SH0251", Error;
    /// The guard has something against what the operation writes.
    GuardDenies = "SH0252", Error;
    /// The target does not start.
    TargetFails = "SH0301", Error;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One thing that a check found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Its code.
    pub code: Code,
    /// What it is about: `kube-scheduler on cp-2`, `daemonset kube-system/self-hosted-kube-apiserver`.
    pub subject: String,
    /// What is the matter, in a lower-case fragment.
    pub message: String,
    /// What to do next, often a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    /// A finding with the severity of its code and without a hint.
    pub fn new(code: Code, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: code.severity(), code, subject: subject.into(), message: message.into(), hint: None }
    }

    /// The same finding, with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_sorted() {
        for pair in Code::ALL.windows(2) {
            assert!(pair[0].as_str() < pair[1].as_str(), "{} {}", pair[0], pair[1]);
        }
    }
}
