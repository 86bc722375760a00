//! etcd's versions: which one belongs to a Kubernetes version, and which upgrades etcd supports.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::version::KubeVersion;

/// The tag of an image of etcd: `3.6.8-0`, which is version 3.6.8 in its first build, or `v3.6.8`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct EtcdTag {
    text: String,
    version: EtcdVersion,
}

/// A version of etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EtcdVersion {
    /// Always 3 up to now.
    pub major: u32,
    /// The unit of the upgrade policy.
    pub minor: u32,
    /// The patch version.
    pub patch: u32,
}

/// Text that is no tag of etcd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the tag of an image of etcd, such as 3.6.8-0")]
pub struct BadTag(String);

/// Why etcd does not support an upgrade.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// It leads back.
    #[error("is newer than {0}")]
    Downgrade(EtcdVersion),
    /// It leads over a minor version.
    #[error("is more than one minor version behind {0}")]
    MinorSkipped(EtcdVersion),
    /// It begins at a patch from which the next minor version cannot be reached safely.
    #[error("is older than {least}, from which on etcd supports the upgrade to {to}")]
    PatchFirst {
        /// Where it leads.
        to: EtcdVersion,
        /// The first patch that is new enough.
        least: EtcdVersion,
    },
}

impl EtcdTag {
    /// The version that an image with this tag has.
    pub const fn version(&self) -> EtcdVersion {
        self.version
    }
}

impl FromStr for EtcdTag {
    type Err = BadTag;

    fn from_str(text: &str) -> Result<Self, BadTag> {
        let bad = || BadTag(text.to_owned());
        let is_of_tag = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let version = text.strip_prefix('v').unwrap_or(text);
        let version = version.split_once('-').map_or(version, |(version, _build)| version);
        let numbers: Option<Vec<u32>> = version.split('.').map(|number| number.parse().ok()).collect();
        match numbers.as_deref() {
            Some([major, minor, patch]) if text.chars().all(is_of_tag) => {
                let version = EtcdVersion { major: *major, minor: *minor, patch: *patch };
                Ok(Self { text: text.to_owned(), version })
            }
            _ => Err(bad()),
        }
    }
}

impl From<EtcdTag> for String {
    fn from(tag: EtcdTag) -> Self {
        tag.text
    }
}

impl TryFrom<String> for EtcdTag {
    type Error = BadTag;

    fn try_from(text: String) -> Result<Self, BadTag> {
        text.parse()
    }
}

impl fmt::Display for EtcdTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Display for EtcdVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}.{}", self.major, self.minor, self.patch))
    }
}

/// The minor versions of Kubernetes of which it is known here which etcd kubeadm gives them.
///
/// Source: `DefaultEtcdVersion` in `cmd/kubeadm/app/constants/constants.go` of Kubernetes v1.36.3 and v1.37.2. It may
/// differ between the patches of a minor version, so that none is guessed.
const OF_KUBEADM: [(u32, &str); 2] = [(36, "3.6.8-0"), (37, "3.7.0-0")];

/// The tag that kubeadm gives the etcd of a Kubernetes version; `None` where that is not known here.
pub fn of_kubeadm(version: &KubeVersion) -> Option<EtcdTag> {
    let (_, tag) = OF_KUBEADM.iter().find(|(minor, _)| version.major == 1 && *minor == version.minor)?;
    tag.parse().ok()
}

/// Where the next minor version asks for more than just the one before it.
///
/// Source: etcd's upgrade guides, <https://etcd.io/docs/v3.6/upgrades/upgrade_3_6/> (removed members come back) and
/// <https://etcd.io/docs/v3.7/upgrades/upgrade_3_7/>.
const LEAST_PATCHES: [(EtcdVersion, u32); 2] =
    [(EtcdVersion { major: 3, minor: 5, patch: 26 }, 6), (EtcdVersion { major: 3, minor: 6, patch: 11 }, 7)];

/// Whether etcd supports the upgrade from one version to another: within a minor version, or to the next one
/// (<https://etcd.io/docs/v3.6/upgrades/upgrading-etcd/>).
pub fn check_upgrade(from: EtcdVersion, to: EtcdVersion) -> Result<(), Unsupported> {
    if to < from {
        return Err(Unsupported::Downgrade(to));
    }
    if to.major != from.major || to.minor - from.minor > 1 {
        return Err(Unsupported::MinorSkipped(to));
    }
    let least = LEAST_PATCHES
        .iter()
        .find(|(least, minor)| least.major == from.major && least.minor == from.minor && *minor == to.minor);
    match least {
        Some((least, _)) if from < *least => Err(Unsupported::PatchFirst { to, least: *least }),
        Some(_) | None => Ok(()),
    }
}

/// The tag of an image, where it is one of etcd's.
pub fn of_image(image: &str) -> Option<EtcdTag> {
    let name = image.split_once('@').map_or(image, |(name, _digest)| name);
    let (_, tag) = name.rsplit_once('/').map_or(name, |(_, last)| last).split_once(':')?;
    tag.parse().ok()
}

/// The image reference with another tag, in another repository if one is named: `registry.example.org/k8s`.
pub fn image(now: &str, tag: &EtcdTag, repository: Option<&str>) -> String {
    let name = now.split_once('@').map_or(now, |(name, _digest)| name);
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let end = name[start..].find(':').map_or(name.len(), |colon| start + colon);
    match repository {
        Some(repository) => format!("{}/{}:{tag}", repository.trim_end_matches('/'), &name[start..end]),
        None => format!("{}:{tag}", &name[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> EtcdVersion {
        text.parse::<EtcdTag>().unwrap().version()
    }

    #[test]
    fn tags() {
        for (tag, expected) in [
            ("3.6.8-0", Some("3.6.8")),
            ("v3.5.21", Some("3.5.21")),
            ("3.7.0-rc.1-0", Some("3.7.0")),
            ("3.6", None),
            ("latest", None),
            ("3.6.8-0@sha256:00", None),
            ("3.6.8 0", None),
            ("", None),
        ] {
            let found = tag.parse::<EtcdTag>().ok();
            assert_eq!(found.as_ref().map(|it| it.version().to_string()).as_deref(), expected, "{tag}");
            assert!(found.is_none_or(|found| found.to_string() == tag));
        }
    }

    #[test]
    fn each_minor_version_has_its_etcd() {
        let of = |version: &str| of_kubeadm(&version.parse().unwrap()).map(|tag| tag.to_string());
        assert_eq!(of("v1.36.3").as_deref(), Some("3.6.8-0"));
        assert_eq!(of("v1.37.2").as_deref(), Some("3.7.0-0"));
        assert_eq!(of("v1.38.0"), None);
    }

    #[test]
    fn what_etcd_supports() {
        use Unsupported::{Downgrade, MinorSkipped, PatchFirst};
        let least = |text| Err((1, Some(version(text))));
        for (from, to, expected) in [
            ("3.6.8", "3.6.8", Ok(())),
            ("3.6.8", "3.6.16", Ok(())),
            ("3.6.16", "3.6.8", Err((2, None))),
            ("3.7.0", "3.6.16", Err((2, None))),
            ("3.6.8", "3.7.0", least("3.6.11")),
            ("3.6.11", "3.7.0", Ok(())),
            ("3.5.25", "3.6.8", least("3.5.26")),
            ("3.5.26", "3.6.8", Ok(())),
            ("3.4.1", "3.5.0", Ok(())),
            ("3.5.26", "3.7.0", Err((3, None))),
            ("3.7.0", "4.0.0", Err((3, None))),
        ] {
            let found = check_upgrade(version(from), version(to)).map_err(|error| match error {
                PatchFirst { least, .. } => (1, Some(least)),
                Downgrade(_) => (2, None),
                MinorSkipped(_) => (3, None),
            });
            assert_eq!(found, expected, "{from} {to}");
        }
    }

    #[test]
    fn images() {
        let tag = "3.6.16-0".parse().unwrap();
        for (now, repository, expected) in [
            ("registry.k8s.io/etcd:3.6.8-0", None, "registry.k8s.io/etcd:3.6.16-0"),
            ("registry.k8s.io/etcd:3.6.8-0@sha256:00", None, "registry.k8s.io/etcd:3.6.16-0"),
            ("localhost:5000/etcd", None, "localhost:5000/etcd:3.6.16-0"),
            ("registry.k8s.io/etcd:3.6.8-0", Some("example.org/m/"), "example.org/m/etcd:3.6.16-0"),
        ] {
            assert_eq!(image(now, &tag, repository), expected);
        }
        assert_eq!(of_image("registry.k8s.io/etcd:3.6.8-0@sha256:00"), "3.6.8-0".parse().ok());
        assert_eq!(of_image("registry.k8s.io/etcd@sha256:00"), None);
    }
}
