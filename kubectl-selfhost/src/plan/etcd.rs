//! Planning that etcd comes along: a static Pod all the while, one member at a time, before any API server.
//!
//! Invariant: only upgrades that etcd supports are planned, and each plan with one of them begins with a snapshot.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, Pod, Volume, VolumeMount};
use kube::ResourceExt as _;
use selfhost_core::etcd::{self, EtcdTag, Unsupported};
use selfhost_core::finding::{Code, Finding};
use selfhost_core::flags;

use super::backup::{self, NodeBackup};
use super::{Step, Verb, is_ready};
use crate::inventory::Inventory;
use crate::inventory::recognize::{command, image, main_container};

/// The name of etcd's container, and of its Pod before the kubelet's `-<node>`.
pub const NAME: &str = "etcd";

/// Where snapshots are on a node, as `kubectl selfhost backup` has it.
const BACKUPS: &str = "/var/lib/selfhost/backups";

/// The flags by which the node part knows how to ask etcd; kubeadm sets all of them.
const NEEDED: [&str; 5] = ["listen-client-urls", "trusted-ca-file", "cert-file", "key-file", "data-dir"];

/// What etcd comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Etcd {
    /// The tag that was asked for.
    pub tag: EtcdTag,
    /// The image of every member.
    pub image: String,
    /// The members, by node.
    pub members: BTreeMap<String, Member>,
}

/// A member of etcd, as it runs now.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The name of its Pod.
    pub pod: String,
    /// Its image.
    pub from: String,
    /// Its command line.
    pub command: Vec<String>,
    /// Its environment.
    pub env: Vec<EnvVar>,
    /// The directories of the host that it needs.
    pub volumes: Vec<Volume>,
    /// Where they are in its container.
    pub mounts: Vec<VolumeMount>,
    /// Whether it serves.
    pub ready: bool,
    /// The snapshot that is taken of it, if it is the one of which it is taken.
    pub backup: NodeBackup,
}

/// What brings every member to `tag`, or what speaks against it. `repository` replaces the image's repository.
pub fn plan(inventory: &Inventory, tag: &EtcdTag, repository: Option<&str>) -> Result<Etcd, Vec<Finding>> {
    let mut findings = Vec::new();
    let mut members = BTreeMap::new();
    let mut target = String::new();
    let name = format!("{}-before-etcd", inventory.taken_at.strftime("%Y%m%dT%H%M%SZ"));
    for node in inventory.control_plane.keys() {
        let pod = inventory.etcd.get(node).and_then(|pod| Some((pod, image(pod, NAME)?)));
        match (pod, backup::of(inventory, node, BACKUPS, &name)) {
            (Some((pod, from)), Ok(backup)) => {
                target = etcd::image(from, tag, repository);
                let member = member(pod, from, backup);
                findings.extend(against(node, &member, tag));
                members.insert(node.clone(), member);
            }
            _ => findings.push(
                Finding::new(
                    Code::EtcdExternal,
                    format!("etcd on {node}"),
                    "is no static Pod, and stays as it is",
                )
                .hint("leave --etcd away, and upgrade etcd where it runs"),
            ),
        }
    }
    if findings.is_empty() { Ok(Etcd { tag: tag.clone(), image: target, members }) } else { Err(findings) }
}

/// What speaks against the upgrade of one member.
fn against(node: &str, member: &Member, tag: &EtcdTag) -> Vec<Finding> {
    let subject = format!("etcd on {node}");
    let mut findings = Vec::new();
    if let Some(now) = etcd::of_image(&member.from) {
        findings.extend(unsupported(&subject, &now, tag));
    } else {
        let message = format!("runs {}, whose tag is no version", member.from);
        let finding = Finding::new(Code::VersionUnknown, subject.clone(), message);
        findings.push(finding.hint("an upgrade must know where it starts"));
    }
    if let Some(flag) = NEEDED.iter().find(|flag| flags::value(&member.command, flag).is_none()) {
        let message = format!("has no --{flag}, by which it could be asked");
        let finding = Finding::new(Code::LayoutUnknown, subject, message);
        findings.push(finding.hint("etcd is asked itself whether it is healthy, as kubeadm lays it out"));
    }
    findings
}

impl Etcd {
    /// A snapshot, and then one member after the other; nothing where every member is there already.
    pub fn steps(&self) -> Vec<Step> {
        let step = |verb, node: &String| Step { verb, component: None, node: Some(node.clone()) };
        let is_there = |member: &Member| member.ready && member.from == self.image;
        let rest: Vec<&String> =
            self.members.iter().filter(|(_, member)| !is_there(member)).map(|(node, _)| node).collect();
        // A member that an interrupted operation left half-way cannot be asked for one.
        let healthy = self.members.iter().find(|(_, member)| member.ready).map(|(node, _)| node);
        let Some(first) = rest.first() else { return Vec::new() };
        let snapshot = step(Verb::Snapshot, healthy.unwrap_or(first));
        std::iter::once(snapshot).chain(rest.iter().map(|node| step(Verb::UpgradeEtcd, node))).collect()
    }
}

fn member(pod: &Pod, from: &str, backup: NodeBackup) -> Member {
    let container = main_container(pod, NAME);
    Member {
        pod: pod.name_any(),
        from: from.to_owned(),
        command: command(pod, NAME),
        env: container.and_then(|it| it.env.clone()).unwrap_or_default(),
        volumes: pod.spec.as_ref().and_then(|spec| spec.volumes.clone()).unwrap_or_default(),
        mounts: container.and_then(|it| it.volume_mounts.clone()).unwrap_or_default(),
        ready: is_ready(pod),
        backup,
    }
}

fn unsupported(subject: &str, now: &EtcdTag, tag: &EtcdTag) -> Option<Finding> {
    let why = etcd::check_upgrade(now.version(), tag.version()).err()?;
    let (code, hint) = match &why {
        Unsupported::Downgrade(_) => (Code::Downgrade, "leave --etcd away, or name a newer tag".to_owned()),
        Unsupported::MinorSkipped(_) => {
            (Code::MinorSkipped, "one minor at a time: name a tag in between".to_owned())
        }
        Unsupported::PatchFirst { least, .. } => (
            Code::EtcdPatchFirst,
            format!(
                "first the newest patch of what runs: kubectl selfhost upgrade --etcd={least}-0, or newer"
            ),
        ),
    };
    Some(Finding::new(code, subject, format!("runs {}, which {why}", now.version())).hint(hint))
}

/// The `etcd.local.imageTag` of kubeadm's `ClusterConfiguration`.
pub fn recorded_tag(configuration: &str) -> Option<&str> {
    let line = tag_line(configuration)?;
    Some(line.trim().strip_prefix(TAG_KEY)?.trim().trim_matches(['"', '\'']))
}

/// kubeadm's `ClusterConfiguration` with another `etcd.local.imageTag`, where it has one; every other byte stays.
pub fn record_tag(configuration: &str, tag: &EtcdTag) -> String {
    let Some(line) = tag_line(configuration) else { return configuration.to_owned() };
    let indent = &line[..line.len() - line.trim_start().len()];
    configuration.replacen(line, &format!("{indent}{TAG_KEY} {tag}"), 1)
}

const TAG_KEY: &str = "imageTag:";

/// The line with the tag of etcd's image: `dns` and the components have lines of that name, too.
fn tag_line(configuration: &str) -> Option<&str> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = configuration.lines().skip_while(|line| line.trim_end() != "etcd:").skip(1);
    let local =
        lines.find(|line| indent(line) == 0 || line.trim() == "local:").filter(|it| indent(it) > 0)?;
    let of_local = lines.take_while(|line| indent(line) > indent(local));
    let mut all = of_local.filter(|line| line.trim_start().starts_with(TAG_KEY));
    all.find(|line| !line.trim_start().starts_with('#'))
}

#[cfg(test)]
#[path = "etcd_tests.rs"]
mod tests;
