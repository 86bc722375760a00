//! The report: every fact that `status` shows, in whatever format.
//!
//! Invariant: pure. What is not known is `None` or `Unknown` here and is said to be unknown in each format.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use selfhost_core::component::{Component, Hosting};
use selfhost_core::emulation::Running;
use selfhost_core::finding::{Finding, Severity};
use selfhost_core::version::{self, KubeVersion};

use super::{findings, next};
use crate::inventory::credentials::{self, Source};
use crate::inventory::{Instance, Inventory, OpenOperation, Part, Place, checkpoints, recognize};
use crate::plan::guard;
use crate::template::emulation::half_way;

/// The name by which etcd's rows go.
pub const ETCD: &str = "etcd";

/// What `status` shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// When the observation began.
    pub taken_at: Timestamp,
    /// The URL of the API server that answered.
    pub server: String,
    /// What that API server says of itself.
    pub server_version: Option<KubeVersion>,
    /// How the control plane as a whole is hosted.
    pub hosting: Hosting,
    /// What its components run, without etcd; more than one in the middle of an upgrade.
    pub versions: Vec<Running>,
    /// The control-plane nodes; `None` where nodes cannot be read.
    pub nodes: Option<Vec<NodeRow>>,
    /// Component by node, in the order of replacement, etcd last.
    pub rows: Vec<Row>,
    /// What would bring each node's control plane back after a power cut.
    pub standbys: Vec<StandbyRow>,
    /// The credential by which the API servers ask a guard; none where they have none.
    pub guard: Option<String>,
    /// The open operation.
    pub operation: Option<OpenOperation>,
    /// What needs attention, the worst first.
    pub findings: Vec<Finding>,
    /// The command that makes sense next.
    pub next: Option<next::Next>,
}

/// A control-plane node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// Whether its condition `Ready` is true.
    pub ready: bool,
    /// Its kubelet's version.
    pub kubelet: Option<KubeVersion>,
}

/// The latest checkpoint of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandbyRow {
    /// The node.
    pub node: String,
    /// Which checkpoint it is.
    pub generation: u64,
    /// The version of its API server; `None` where its image's tag is no version.
    pub version: Option<KubeVersion>,
    /// Whether every generation that there should be would act.
    pub whole: bool,
}

/// One component on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The component's name, or `etcd`.
    pub component: &'static str,
    /// The node; `None` where it is not known.
    pub node: Option<String>,
    /// How it is hosted there.
    pub hosting: Hosting,
    /// The Pod that runs it.
    pub run: Option<Run>,
}

/// A Pod that runs a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The Pod's name.
    pub pod: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Containers that are ready, and containers.
    pub containers: (usize, usize),
    /// What the running container runs; `None` where it does not run, or its image's tag is no version.
    pub version: Option<Running>,
    /// The image that the Pod asks for.
    pub image: Option<String>,
    /// How often its containers were restarted.
    pub restarts: i32,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// The node's address.
    pub address: Option<String>,
    /// Where its credentials come from.
    pub source: Source,
    /// When the first of its certificates that can be seen ends.
    pub expires: Option<Timestamp>,
    /// When a DaemonSet's Pods are replaced after an edit.
    pub strategy: Option<String>,
}

impl Report {
    /// The report on `inventory`, which the API server at `server` gave.
    pub fn new(inventory: &Inventory, server: impl Into<String>) -> Self {
        let mut findings = inventory.findings.clone();
        findings.extend(findings::all(inventory));
        findings.sort_by(|a, b| (b.severity, a.code, &a.subject).cmp(&(a.severity, b.code, &b.subject)));
        findings.dedup();
        let hosting = hosting(inventory);
        let worst = findings.iter().map(|finding| finding.severity).max();
        let half_way = half_way(&inventory.daemonsets);
        let next = next::next(
            hosting,
            inventory.operation.as_ref(),
            worst == Some(Severity::Error),
            half_way.as_ref(),
        );
        Self {
            taken_at: inventory.taken_at,
            server: server.into(),
            server_version: inventory.server_version.clone(),
            hosting,
            versions: versions(inventory),
            nodes: nodes(inventory),
            rows: rows(inventory),
            standbys: standbys(inventory),
            guard: guard::credential(inventory),
            operation: inventory.operation.clone(),
            findings,
            next,
        }
    }

    /// The severity of the worst finding.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}

/// How the control plane as a whole is hosted.
fn hosting(inventory: &Inventory) -> Hosting {
    let kinds: BTreeSet<Hosting> = inventory.instances.iter().map(|instance| instance.hosting).collect();
    match kinds.into_iter().collect::<Vec<_>>().as_slice() {
        [only] => *only,
        [] if inventory.unread.contains(&Part::Pods) => Hosting::Unknown,
        [] if inventory.is_control_plane_visible() => Hosting::Missing,
        [] => Hosting::External,
        _ => Hosting::Mixed,
    }
}

fn versions(inventory: &Inventory) -> Vec<Running> {
    let running = inventory.instances.iter().filter_map(running_of);
    let distinct: BTreeSet<Running> = running.collect();
    if distinct.is_empty() {
        inventory.server_version.iter().cloned().map(Running::from).collect()
    } else {
        distinct.into_iter().collect()
    }
}

/// What an instance runs.
pub fn running_of(instance: &Instance) -> Option<Running> {
    recognize::running(&instance.pod, instance.component.name())
}

fn nodes(inventory: &Inventory) -> Option<Vec<NodeRow>> {
    let row = |(name, node): (&String, _)| NodeRow {
        name: name.clone(),
        ready: recognize::is_node_ready(node),
        kubelet: inventory.kubelets.get(name).cloned().flatten(),
    };
    (!inventory.unread.contains(&Part::Nodes)).then(|| inventory.control_plane.iter().map(row).collect())
}

fn standbys(inventory: &Inventory) -> Vec<StandbyRow> {
    let row = |node: &String| {
        let latest = inventory.checkpoint(node)?;
        Some(StandbyRow {
            node: node.clone(),
            generation: recognize::generation(latest),
            version: recognize::image(latest, Component::ApiServer.name()).and_then(version::of_image),
            whole: checkpoints::damage(inventory, node).is_empty(),
        })
    };
    inventory.standbys.keys().filter_map(row).collect()
}

fn rows(inventory: &Inventory) -> Vec<Row> {
    let mut rows = Vec::new();
    let absent = match hosting(inventory) {
        Hosting::External => Hosting::External,
        Hosting::Unknown => Hosting::Unknown,
        Hosting::StaticPod | Hosting::SelfHosted | Hosting::Mixed | Hosting::Missing => Hosting::Missing,
    };
    for component in Component::ALL {
        if absent != Hosting::Missing {
            // Which nodes it would be on is not known either.
            rows.push(Row { component: component.name(), node: None, hosting: absent, run: None });
            continue;
        }
        for node in inventory.control_plane.keys() {
            let mut here = inventory.instances_on(component, node).peekable();
            if here.peek().is_none() {
                let node = Some(node.clone());
                rows.push(Row { component: component.name(), node, hosting: absent, run: None });
            }
            rows.extend(here.map(|instance| instance_row(inventory, instance)));
        }
    }
    rows.extend(inventory.etcd.iter().map(|(node, pod)| Row {
        component: ETCD,
        node: Some(node.clone()),
        hosting: Hosting::StaticPod,
        run: Some(run(pod, ETCD)),
    }));
    if inventory.etcd.is_empty() && absent != Hosting::External {
        let hosting =
            if inventory.unread.contains(&Part::Pods) { Hosting::Unknown } else { Hosting::External };
        rows.push(Row { component: ETCD, node: None, hosting, run: None });
    }
    rows
}

fn instance_row(inventory: &Inventory, instance: &Instance) -> Row {
    let daemonset = inventory.daemonsets.get(&instance.component);
    let strategy =
        daemonset.filter(|_| instance.hosting == Hosting::SelfHosted).map(findings::hosting::strategy);
    let seen = inventory.certificates.iter().filter(|certificate| {
        certificate.component == instance.component
            && match &certificate.place {
                // All Pods of a component mount the same Secrets.
                Place::Secret(_) => true,
                Place::Served(_) => certificate.node.as_ref() == Some(&instance.node),
            }
    });
    Row {
        component: instance.component.name(),
        node: Some(instance.node.clone()),
        hosting: instance.hosting,
        run: Some(Run {
            expires: seen.map(|certificate| certificate.not_after).min(),
            strategy: strategy.map(ToOwned::to_owned),
            ..run(&instance.pod, instance.component.name())
        }),
    }
}

fn run(pod: &Pod, component: &str) -> Run {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let n_wanted = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    Run {
        pod: pod.name_any(),
        ready: recognize::is_ready(pod),
        containers: (containers.iter().filter(|container| container.ready).count(), n_wanted),
        version: recognize::running(pod, component),
        image: recognize::image(pod, component).map(ToOwned::to_owned),
        restarts: containers.iter().map(|container| container.restart_count).sum(),
        created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        address: status.and_then(|status| status.host_ip.clone()),
        source: credentials::source(pod, component),
        expires: None,
        strategy: None,
    }
}
