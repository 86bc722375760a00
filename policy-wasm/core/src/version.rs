//! Kubernetes versions and the version skew policy.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A Kubernetes version, `v1.37.2` or with a pre-release or build suffix.
///
/// Ordering follows major, minor, patch; a pre-release comes before its release. Build metadata does not count.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KubeVersion {
    /// Always 1 up to now.
    pub major: u32,
    /// The minor version: the unit of the skew policy.
    pub minor: u32,
    /// The patch version.
    pub patch: u32,
    /// Pre-release, without its dash: `rc.1`.
    pub pre: Option<String>,
}

/// What a user asks for: a whole version, or a minor whose newest known patch is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionRequest {
    /// `v1.37.2`
    Exact(KubeVersion),
    /// `v1.37`
    Minor(u32, u32),
}

/// A minor version on its own, `1.36`: what a component can emulate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MinorVersion {
    /// Always 1 up to now.
    pub major: u32,
    /// The minor version.
    pub minor: u32,
}

impl MinorVersion {
    /// Its first release.
    pub const fn first(self) -> KubeVersion {
        KubeVersion { major: self.major, minor: self.minor, patch: 0, pre: None }
    }
}

impl fmt::Display for MinorVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Text that is not a Kubernetes version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a Kubernetes version such as v1.37.2")]
pub struct BadVersion(String);

impl FromStr for KubeVersion {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadVersion(text.to_owned());
        let rest = text.trim().strip_prefix('v').unwrap_or(text.trim());
        let rest = rest.split_once('+').map_or(rest, |(version, _build)| version);
        let (numbers, pre) = match rest.split_once('-') {
            Some((numbers, pre)) if !pre.is_empty() => (numbers, Some(pre.to_owned())),
            Some(_) => return Err(bad()),
            None => (rest, None),
        };
        let mut parts = numbers.split('.').map(number);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(major)), Some(Some(minor)), Some(Some(patch)), None) => {
                Ok(Self { major, minor, patch, pre })
            }
            _ => Err(bad()),
        }
    }
}

fn number(text: &str) -> Option<u32> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

impl FromStr for VersionRequest {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(version) = text.parse() {
            return Ok(Self::Exact(version));
        }
        let rest = text.strip_prefix('v').unwrap_or(text);
        match rest.split_once('.').map(|(major, minor)| (number(major), number(minor))) {
            Some((Some(major), Some(minor))) => Ok(Self::Minor(major, minor)),
            _ => Err(BadVersion(text.to_owned())),
        }
    }
}

impl FromStr for MinorVersion {
    type Err = BadVersion;

    /// `1.36`; a patch must be 0, as for the flags.
    fn from_str(text: &str) -> Result<Self, BadVersion> {
        match text.parse()? {
            VersionRequest::Minor(major, minor) => Ok(Self { major, minor }),
            VersionRequest::Exact(KubeVersion { major, minor, patch: 0, pre: None }) => {
                Ok(Self { major, minor })
            }
            VersionRequest::Exact(_) => Err(BadVersion(text.to_owned())),
        }
    }
}

impl fmt::Display for VersionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(version) => write!(f, "{version}"),
            Self::Minor(major, minor) => write!(f, "v{major}.{minor}"),
        }
    }
}

impl fmt::Display for KubeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("v{}.{}.{}", self.major, self.minor, self.patch);
        if let Some(pre) = &self.pre {
            text.push('-');
            text.push_str(pre);
        }
        f.pad(&text)
    }
}

impl From<KubeVersion> for String {
    fn from(version: KubeVersion) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for KubeVersion {
    type Error = BadVersion;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl PartialOrd for KubeVersion {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KubeVersion {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.major, self.minor, self.patch).cmp(&(other.major, other.minor, other.patch)).then_with(
            || match (&self.pre, &other.pre) {
                (None, None) => std::cmp::Ordering::Equal,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(_), None) => std::cmp::Ordering::Less,
                (Some(a), Some(b)) => compare_pre(a, b),
            },
        )
    }
}

/// Semantic versioning 2.0, section 11: identifiers from left to right, numbers below words, numbers by value.
fn compare_pre(a: &str, b: &str) -> std::cmp::Ordering {
    use std::cmp::Ordering;
    let mut left = a.split('.');
    let mut right = b.split('.');
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(x), Some(y)) => match (number(x), number(y)) {
                (Some(x), Some(y)) => x.cmp(&y),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => x.cmp(y),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

impl KubeVersion {
    /// Its minor version on its own.
    pub const fn minor_version(&self) -> MinorVersion {
        MinorVersion { major: self.major, minor: self.minor }
    }

    /// How many minors the kubelet may be behind the API server: two, three since v1.28.
    /// Source: the version skew policy of Kubernetes.
    pub const fn max_kubelet_lag(&self) -> u32 {
        if self.minor < 28 { 2 } else { 3 }
    }

    /// Whether a kubelet of version `kubelet` may talk to an API server of this version: never newer, and at most
    /// [`Self::max_kubelet_lag`] minors older.
    pub fn admits_kubelet(&self, kubelet: &Self) -> bool {
        self.major == kubelet.major
            && kubelet.minor <= self.minor
            && self.minor - kubelet.minor <= self.max_kubelet_lag()
    }

    /// Whether a controller manager or scheduler of version `client` may talk to an API server of this version:
    /// never newer, and at most one minor older.
    pub fn admits_controller(&self, client: &Self) -> bool {
        self.major == client.major && client.minor <= self.minor && self.minor - client.minor <= 1
    }
}

/// The version in an image reference's tag: `registry.k8s.io/kube-apiserver:v1.37.2@sha256:...` gives v1.37.2.
///
/// `None` where there is no tag, or where it is not a version.
pub fn of_image(image: &str) -> Option<KubeVersion> {
    let name = image.split_once('@').map_or(image, |(name, _digest)| name);
    let (_, tag) = name.rsplit_once('/').map_or(name, |(_, last)| last).split_once(':')?;
    // A tag cannot hold `+`; Kubernetes writes it as `_`.
    tag.split('_').next()?.parse().ok()
}

/// The image reference with its tag (and digest, which belongs to that tag) replaced by `version`.
pub fn retag(image: &str, version: &KubeVersion) -> String {
    let name = image.split_once('@').map_or(image, |(name, _digest)| name);
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let end = name[start..].find(':').map_or(name.len(), |colon| start + colon);
    format!("{}:{version}", &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> KubeVersion {
        text.parse().unwrap()
    }

    #[test]
    fn parses_what_components_report() {
        for (text, shown) in [
            ("v1.37.2", "v1.37.2"),
            ("1.11.10", "v1.11.10"),
            ("v1.38.0-rc.1", "v1.38.0-rc.1"),
            ("v1.29.4+k3s1", "v1.29.4"),
            ("v1.29.4-gke.100+abc", "v1.29.4-gke.100"),
        ] {
            assert_eq!(v(text).to_string(), shown);
        }
        for bad in ["", "v1", "v1.37", "v1.37.x", "v1.37.2.3", "v1.37.2-", "latest", "v1.+3.4", "v-1.2.3"] {
            assert!(bad.parse::<KubeVersion>().is_err(), "{bad}");
        }
    }

    #[test]
    fn requests_may_leave_out_the_patch() {
        assert_eq!("v1.37".parse(), Ok(VersionRequest::Minor(1, 37)));
        assert_eq!("1.11".parse(), Ok(VersionRequest::Minor(1, 11)));
        assert_eq!("v1.37.2".parse(), Ok(VersionRequest::Exact(v("v1.37.2"))));
        assert!("stable".parse::<VersionRequest>().is_err());
        assert!("v1.37.".parse::<VersionRequest>().is_err());
    }

    #[test]
    fn orders_like_semver() {
        let sorted = ["v1.9.11", "v1.11.0-alpha.2", "v1.11.0-alpha.10", "v1.11.0-rc.1", "v1.11.0", "v1.36.3"];
        for pair in sorted.windows(2) {
            assert!(v(pair[0]) < v(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn skew_policy() {
        for (server, kubelet, allowed) in [
            ("v1.37.2", "v1.34.0", true),
            ("v1.37.2", "v1.33.9", false),
            ("v1.37.2", "v1.38.0", false),
            ("v1.27.1", "v1.25.0", true),
            ("v1.27.1", "v1.24.0", false),
        ] {
            assert_eq!(v(server).admits_kubelet(&v(kubelet)), allowed, "{server} {kubelet}");
        }
        assert!(v("v1.37.2").admits_controller(&v("v1.36.3")));
        assert!(!v("v1.36.3").admits_controller(&v("v1.37.2")));
        assert!(!v("v1.37.2").admits_controller(&v("v1.35.0")));
    }

    #[test]
    fn reads_and_writes_image_tags() {
        for (image, version) in [
            ("registry.k8s.io/kube-apiserver:v1.37.2", Some("v1.37.2")),
            ("registry.k8s.io/kube-apiserver:v1.37.2@sha256:00", Some("v1.37.2")),
            ("localhost:5000/kube-apiserver", None),
            ("localhost:5000/kube-apiserver:v1.11.3", Some("v1.11.3")),
            ("k8s.gcr.io/kube-apiserver-amd64:v1.11.3", Some("v1.11.3")),
            ("kube-apiserver:latest", None),
        ] {
            assert_eq!(of_image(image), version.map(v), "{image}");
        }
        for (image, after) in [
            ("registry.k8s.io/kube-apiserver:v1.36.3@sha256:00", "registry.k8s.io/kube-apiserver:v1.37.2"),
            ("localhost:5000/kube-apiserver", "localhost:5000/kube-apiserver:v1.37.2"),
            ("kube-apiserver:v1.36.3", "kube-apiserver:v1.37.2"),
        ] {
            assert_eq!(retag(image, &v("v1.37.2")), after);
        }
    }
}
