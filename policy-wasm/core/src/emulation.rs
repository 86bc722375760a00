//! Compatibility versions (KEP-4330): a binary that behaves like an older minor, by its flag `--emulated-version`.
//!
//! Source: `k8s.io/component-base/compatibility` and the `Skew` section of KEP-4330. kube-apiserver,
//! kube-controller-manager and kube-scheduler have the flag; the kubelet has not.

use std::fmt;

use crate::flags;
use crate::version::{KubeVersion, MinorVersion};

/// The flag with the minor that a component emulates.
pub const FLAG: &str = "emulated-version";

/// The flag with the oldest minor that must be able to read what a component stores.
pub const MIN_COMPATIBILITY: &str = "min-compatibility-version";

/// The API server's flags that it accepts only while it emulates.
pub const ONLY_WHILE_EMULATING: [&str; 2] =
    ["emulation-forward-compatible", "runtime-config-emulation-forward-compatible"];

/// The oldest minor that any binary emulates: the one with which the flag came, in alpha.
const OLDEST: MinorVersion = MinorVersion { major: 1, minor: 31 };

/// The first minor that can emulate the one before it. Compatibility versions are beta since then.
pub const FIRST: MinorVersion = MinorVersion { major: 1, minor: 32 };

/// How many minors a binary can go back.
const REACH: u32 = 3;

/// The oldest minor that a binary of this version emulates.
pub fn oldest_of(binary: &KubeVersion) -> MinorVersion {
    MinorVersion { major: binary.major, minor: binary.minor.saturating_sub(REACH) }.max(OLDEST)
}

/// The minor before that of `target`, if a binary of `target` can emulate it.
pub fn before(target: &KubeVersion) -> Option<MinorVersion> {
    let before = MinorVersion { major: target.major, minor: target.minor.checked_sub(1)? };
    (oldest_of(target) <= before).then_some(before)
}

/// The minor that a flag of compatibility versions names for Kubernetes itself: `1.36`, or `kube=1.36` in a list.
///
/// `None` where the flag is not there, and where it names none: a component does not start with such a flag.
pub fn named(command: &[String], flag: &str) -> Option<MinorVersion> {
    let of_kube = |item: &str| match item.split_once('=') {
        Some((name, version)) if name.trim() == "kube" => version.trim().parse().ok(),
        Some(_) => None,
        None => item.trim().parse().ok(),
    };
    flags::values(command, flag).flat_map(|value| value.split(',')).find_map(of_kube)
}

/// What a component runs: the version of its binary, and the older minor that it emulates.
///
/// The order is that of behaviour: what emulates 1.36 comes before every 1.37.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Running {
    /// The version of the binary.
    pub binary: KubeVersion,
    /// The minor that it behaves like, where that is not its own.
    pub emulates: Option<MinorVersion>,
}

impl Running {
    /// What a binary of this version runs with this command line.
    pub fn new(binary: KubeVersion, command: &[String]) -> Self {
        let emulates = named(command, FLAG).filter(|minor| *minor != binary.minor_version());
        Self { binary, emulates }
    }

    /// The minor that it behaves like.
    pub fn behaves_like(&self) -> MinorVersion {
        self.emulates.unwrap_or(self.binary.minor_version())
    }

    /// Whether a kubelet may talk to an API server that runs this.
    ///
    /// The KEP counts from what is emulated, the published policy from the binary. Both must admit it.
    pub fn admits_kubelet(&self, kubelet: &KubeVersion) -> bool {
        self.binary.admits_kubelet(kubelet) && self.behaves_like().first().admits_kubelet(kubelet)
    }

    /// Whether a controller manager or scheduler that runs `client` may talk to an API server that runs this. Both
    /// counts must admit it, as for [`Self::admits_kubelet`].
    pub fn admits_controller(&self, client: &Self) -> bool {
        self.binary.admits_controller(&client.binary)
            && self.behaves_like().first().admits_controller(&client.behaves_like().first())
    }

    /// Whether it is newer than `other`, by its binary or by what it behaves like.
    pub fn is_newer_minor_than(&self, other: &Self) -> bool {
        other.binary.minor_version() < self.binary.minor_version()
            || other.behaves_like() < self.behaves_like()
    }

    /// How many minors lie between the two: by their binaries or by what they behave like, whichever is more. `None`
    /// where the major version is another one.
    pub fn minors_from(&self, other: &Self) -> Option<u32> {
        let apart =
            |a: MinorVersion, b: MinorVersion| (a.major == b.major).then(|| a.minor.abs_diff(b.minor));
        let binaries = apart(self.binary.minor_version(), other.binary.minor_version())?;
        Some(binaries.max(apart(self.behaves_like(), other.behaves_like())?))
    }
}

impl From<KubeVersion> for Running {
    /// A binary that emulates nothing.
    fn from(binary: KubeVersion) -> Self {
        Self { binary, emulates: None }
    }
}

impl PartialOrd for Running {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Running {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.behaves_like()
            .cmp(&other.behaves_like())
            .then_with(|| self.binary.cmp(&other.binary))
            .then_with(|| self.emulates.cmp(&other.emulates))
    }
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.emulates {
            Some(minor) => f.pad(&format!("{} (as {minor})", self.binary)),
            None => self.binary.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> KubeVersion {
        text.parse().unwrap()
    }

    fn runs(text: &str) -> Running {
        let (binary, emulates) = text.split_once(" as ").map_or((text, None), |(b, e)| (b, Some(e)));
        let flag = emulates.map(|minor| format!("--{FLAG}={minor}"));
        Running::new(v(binary), &flag.into_iter().collect::<Vec<_>>())
    }

    #[test]
    fn reads_the_flag_as_components_do() {
        for (line, expected) in [
            ("--emulated-version=1.36", Some("1.36")),
            ("--emulated-version kube=1.36", Some("1.36")),
            ("--emulated-version=v1.36.0", Some("1.36")),
            ("--emulated-version=wardle=1.2,kube=1.35", Some("1.35")),
            ("--emulated-version=wardle=1.2 --emulated-version=kube=1.35", Some("1.35")),
            ("--emulated-version=wardle=1.2", None),
            ("--emulated-version=1.36.3", None),
            ("--emulated-version=1", None),
            ("--emulated-version", None),
            ("--min-compatibility-version=1.35", None),
        ] {
            let command: Vec<String> = line.split(' ').map(ToOwned::to_owned).collect();
            assert_eq!(named(&command, FLAG).map(|it| it.to_string()).as_deref(), expected, "{line}");
        }
    }

    /// As `kubeEffectiveVersionFloors` of `k8s.io/apiserver/pkg/util/compatibility`.
    #[test]
    fn a_binary_goes_back_three_minors_and_not_behind_1_31() {
        for (binary, oldest, the_one_before) in [
            ("v1.37.2", "1.34", Some("1.36")),
            ("v1.34.0", "1.31", Some("1.33")),
            ("v1.32.0", "1.31", Some("1.31")),
            ("v1.31.5", "1.31", None),
            ("v1.22.0", "1.31", None),
        ] {
            assert_eq!(oldest_of(&v(binary)).to_string(), oldest, "{binary}");
            assert_eq!(before(&v(binary)).is_some(), FIRST <= v(binary).minor_version(), "{binary}");
            assert_eq!(before(&v(binary)).map(|it| it.to_string()).as_deref(), the_one_before, "{binary}");
        }
    }

    #[test]
    fn shows_and_orders_by_what_it_behaves_like() {
        assert_eq!(runs("v1.37.2 as 1.36").to_string(), "v1.37.2 (as 1.36)");
        assert_eq!(runs("v1.37.2 as 1.37").to_string(), "v1.37.2", "its own minor is no emulation");
        let sorted = ["v1.37.1 as 1.35", "v1.36.3", "v1.36.9", "v1.37.2 as 1.36", "v1.37.0", "v1.37.2"];
        for pair in sorted.windows(2) {
            assert!(runs(pair[0]) < runs(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn the_skew_policy_counts_from_the_binary_and_from_what_is_emulated() {
        for (server, kubelet, allowed) in [
            ("v1.37.2 as 1.36", "v1.36.3", true),
            ("v1.37.2 as 1.36", "v1.37.0", false),
            ("v1.37.2 as 1.36", "v1.34.0", true),
            ("v1.37.2 as 1.36", "v1.33.0", false),
        ] {
            assert_eq!(runs(server).admits_kubelet(&v(kubelet)), allowed, "{server} {kubelet}");
        }
        for (server, client, allowed) in [
            ("v1.37.2 as 1.36", "v1.36.3", true),
            ("v1.37.2 as 1.36", "v1.37.2 as 1.36", true),
            ("v1.37.2", "v1.37.2 as 1.36", true),
            ("v1.37.2 as 1.36", "v1.37.2", false),
            ("v1.37.2 as 1.36", "v1.35.0", false),
            ("v1.36.3", "v1.37.2 as 1.36", false),
            ("v1.37.2", "v1.37.2 as 1.35", false),
        ] {
            assert_eq!(runs(server).admits_controller(&runs(client)), allowed, "{server} {client}");
        }
        assert!(runs("v1.37.2").is_newer_minor_than(&runs("v1.37.2 as 1.36")));
        assert!(!runs("v1.37.2").is_newer_minor_than(&runs("v1.37.0")));
        for (a, b, apart) in [
            ("v1.37.2 as 1.36", "v1.36.3", 1),
            ("v1.38.0", "v1.37.2 as 1.36", 2),
            ("v1.37.2", "v1.37.2 as 1.36", 1),
            ("v1.37.2", "v1.37.0", 0),
        ] {
            assert_eq!(runs(a).minors_from(&runs(b)), Some(apart), "{a} {b}");
        }
    }
}
