//! Container images, made from nothing.
//!
//! Invariant: an archive is a function of the files in it (no times, no owners), so its manifest digest is known before
//! any registry or runtime saw it, and `name@sha256:...` resolves on a node that merely imported it.

mod archive;
pub mod guard;
pub mod node;
mod program;
pub(crate) mod store;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::binaries::{Binaries, ETCD_BAD_TAG, ETCD_TAG, ETCD_UPGRADE_TAG};
use crate::paths;
use crate::progress::Progress;
use archive::{Archive, Entry};

/// The registry kubeadm takes its images from.
const REGISTRY: &str = "registry.k8s.io";

/// Tag of the sandbox image: kubeadm's default for 1.36 and 1.37.
pub const PAUSE_TAG: &str = "3.10.2";

/// Control-plane components that run as Pods.
const COMPONENTS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// An image in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Name and tag, `registry.k8s.io/etcd:3.6.8-0`.
    pub reference: String,
    /// Digest of the manifest, `sha256:...`.
    pub digest: String,
    /// The OCI layout as a tar file.
    pub archive: PathBuf,
}

impl Image {
    /// Name and digest without the tag: what a node has to know as well to find a Pod's pinned image.
    pub fn by_digest(&self) -> String {
        let (name, _tag) = split_tag(&self.reference);
        format!("{name}@{}", self.digest)
    }

    /// Name, tag and digest: what people and manifests write.
    pub fn pinned(&self) -> String {
        format!("{}@{}", self.reference, self.digest)
    }
}

/// The images kubeadm needs for the version of `binaries`, etcd and pause included; archives are made if missing.
pub fn of_version(binaries: &Binaries, progress: &Progress) -> Result<Vec<Image>> {
    let directory = binaries.root().join("images");
    let tag = binaries.version().to_string();
    let bin = |name: &str| Entry::program(binaries.path(name), format!("usr/local/bin/{name}"));
    let mut archives: Vec<Archive> = COMPONENTS
        .iter()
        .map(|name| Archive::new(format!("{REGISTRY}/{name}:{tag}"), vec![bin(name)]))
        .collect();
    archives.push(etcd(ETCD_TAG, bin));
    archives.push(
        Archive::new(
            format!("{REGISTRY}/pause:{PAUSE_TAG}"),
            vec![Entry::program(binaries.path("pause"), "pause".to_owned())],
        )
        .entrypoint("/pause"),
    );
    archives.iter().map(|archive| archive.ensure(&directory, progress)).collect()
}

/// The images of the etcd that clusters are upgraded to: one that starts, and one that does not, though it tells its
/// version: its environment has a setting that etcd reads only when it starts.
pub fn of_etcd_upgrade(progress: &Progress) -> Result<Vec<Image>> {
    let programs = Binaries::ensure_etcd_upgrade(progress)?;
    let bin = |name: &str| Entry::program(programs.join(name), format!("usr/local/bin/{name}"));
    let directory = paths::cache()?.join("images");
    let good = etcd(ETCD_UPGRADE_TAG, bin);
    let bad = etcd(ETCD_BAD_TAG, bin).env("ETCD_MAX_SNAPSHOTS=not-a-number");
    [good, bad].iter().map(|archive| archive.ensure(&directory, progress)).collect()
}

/// An image of etcd with this tag.
fn etcd(tag: &str, bin: impl Fn(&str) -> Entry) -> Archive {
    Archive::new(format!("{REGISTRY}/etcd:{tag}"), ["etcd", "etcdctl", "etcdutl"].map(bin).into())
}

/// Reads reference and digest of an OCI layout archive that this crate wrote.
pub fn read(path: &std::path::Path) -> Result<Image> {
    let file = fs::File::open(path).with_context(|| format!("open image {}", path.display()))?;
    archive::read(file, path).with_context(|| format!("read image {}", path.display()))
}

/// `registry/name` and `tag` of `registry/name:tag`.
fn split_tag(reference: &str) -> (&str, Option<&str>) {
    match reference.rsplit_once(':') {
        // A colon before a slash belongs to the registry's port.
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (reference, None),
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_not_a_tag() {
        assert_eq!(split_tag("localhost:5000/name"), ("localhost:5000/name", None));
        assert_eq!(split_tag("localhost:5000/name:v1"), ("localhost:5000/name", Some("v1")));
    }

    #[test]
    fn references_with_digest() {
        let image = Image { reference: "a/b:v1".into(), digest: "sha256:00".into(), archive: PathBuf::new() };
        assert_eq!(image.by_digest(), "a/b@sha256:00");
        assert_eq!(image.pinned(), "a/b:v1@sha256:00");
    }
}
