//! What a cluster shall be.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, ensure};
use selfhost_core::version::KubeVersion;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// The version a cluster has unless it is told otherwise: the one upgrades start from.
pub const DEFAULT_VERSION: &str = "v1.36.3";

/// The version upgrades go to.
pub const UPGRADE_VERSION: &str = "v1.37.2";

/// Most workers a cluster may have: their addresses are 21 to 99 of the subnet.
const MOST_WORKERS: u8 = 79;

/// A cluster to be created.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Name of the cluster.
    pub name: Name,
    /// Its Kubernetes version.
    pub version: KubeVersion,
    /// 1, or 3 behind a load balancer.
    pub control_planes: u8,
    /// Nodes without control plane.
    pub workers: u8,
    /// kubeadm documents to merge over the defaults.
    pub kubeadm_config: Option<PathBuf>,
    /// Encrypt every object in etcd, with a key on the nodes' disks.
    pub encrypt: bool,
    /// How kube-proxy does its work.
    pub proxy_mode: ProxyMode,
    /// What its nodes have beside the images of its version.
    pub more: MoreImages,
}

/// Images that nodes have beside those that kubeadm starts from.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a set of images by itself")]
pub struct MoreImages {
    /// Those of [`UPGRADE_VERSION`].
    pub upgrade: bool,
    /// The project's own, built now.
    pub own: bool,
    /// The etcd that clusters are upgraded to.
    pub etcd_upgrade: bool,
    /// The guard's, built now.
    pub guard: bool,
}

impl MoreImages {
    /// For a cluster that only has to run.
    pub const NONE: Self = Self { upgrade: false, own: false, etcd_upgrade: false, guard: false };
}

impl Spec {
    /// One control-plane node at [`DEFAULT_VERSION`] with all images.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            version: KubeVersion { major: 1, minor: 36, patch: 3, pre: None },
            control_planes: 1,
            workers: 0,
            kubeadm_config: None,
            encrypt: false,
            proxy_mode: ProxyMode::Iptables,
            more: MoreImages { upgrade: true, own: true, etcd_upgrade: false, guard: false },
        }
    }

    /// Refuses what the bed cannot make.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            matches!(self.control_planes, 1 | 3),
            Refusal::new(
                format!("{} control-plane nodes", self.control_planes),
                "give 1 or 3: an even number of etcd members survives no more than one less"
            )
        );
        ensure!(
            self.workers <= MOST_WORKERS,
            Refusal::new(format!("{} workers", self.workers), format!("give at most {MOST_WORKERS}"))
        );
        if let Some(file) = &self.kubeadm_config {
            ensure!(
                file.exists(),
                Refusal::new(format!("no file {}", file.display()), "give kubeadm documents as YAML or JSON")
            );
        }
        Ok(())
    }
}

/// Name of a cluster: it becomes a directory and a control group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl FromStr for Name {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.len() <= 40 && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(inner) {
            return Ok(Self(text.to_owned()));
        }
        Err(Refusal::new(
            format!("{text:?} is no cluster name"),
            "use lower-case letters, digits and dashes, a letter first, 40 at most",
        ))
    }
}

impl TryFrom<String> for Name {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// How kube-proxy programs the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ProxyMode {
    /// iptables rules.
    #[default]
    Iptables,
    /// nftables rules.
    Nftables,
}

impl fmt::Display for ProxyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["dev", "e2e-pivot-1", "a"] {
            assert_eq!(good.parse::<Name>().unwrap().as_ref(), good);
        }
        for bad in ["", "../x", "1a", "Dev", "-a", "a/b", "a b", &"a".repeat(41)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_default_version_is_the_default() {
        assert_eq!(Spec::new("a".parse().unwrap()).version.to_string(), DEFAULT_VERSION);
    }

    #[test]
    fn impossible_clusters_are_refused() {
        let spec =
            |control_planes, workers| Spec { control_planes, workers, ..Spec::new("a".parse().unwrap()) };
        assert!(spec(1, 0).check().is_ok());
        assert!(spec(3, 79).check().is_ok());
        assert!(spec(2, 0).check().is_err());
        assert!(spec(1, 80).check().is_err());
    }
}
