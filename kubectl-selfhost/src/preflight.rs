//! Pre-flight: everything that can be known before the first change is made, asked of those who know it: the API
//! server (by dry runs of every write), each node (by a task), and the target's own binaries (by their flags).
//!
//! Invariant: changes nothing but short-lived Pods of its own, and removes those.

pub mod dry_run;
pub mod etcd;
pub mod inspect;
pub mod path;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use kube::Client;
use selfhost_core::component::Component;
use selfhost_core::finding::{Code, Finding, Severity};
use selfhost_core::labels;

use crate::inventory::Inventory;
use crate::node_task::KEPT;
use crate::plan::{Plan, Step, Verb, bridge_of};
use inspect::NodeFacts;

/// What pre-flight found out.
#[derive(Debug, Default)]
pub struct Preflight {
    /// What is known of each control-plane node.
    pub nodes: BTreeMap<String, NodeFacts>,
    /// What speaks against the plan, and what is worth knowing.
    pub findings: Vec<Finding>,
}

impl Preflight {
    /// Whether anything forbids to go on.
    pub fn refuses(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// Runs every check that the plan calls for.
pub async fn check(client: &Client, inventory: &Inventory, plan: &Plan, waiting: impl Fn(&str)) -> Preflight {
    let mut preflight = Preflight::default();
    if plan.is_empty() {
        return preflight;
    }
    waiting("dry runs on the API server");
    preflight.findings.extend(dry_run::check(client, plan).await);
    if !plan.around.node_image.contains("@sha256:") {
        preflight.findings.push(
            Finding::new(Code::NotPinned, plan.around.node_image.clone(), "is not pinned by digest")
                .hint("name it as IMAGE@sha256:DIGEST"),
        );
    }
    if preflight.refuses() {
        return preflight;
    }
    waiting("images, flags and room on each node");
    let begin = Instant::now();
    let nodes = loop {
        let nodes = look_at_nodes(client, inventory, plan).await;
        let stands_in = !inventory.standbys.is_empty()
            && nodes.findings.iter().any(|finding| finding.code == Code::PortTaken);
        if !stands_in || begin.elapsed() > STANDBY_YIELDS {
            break nodes;
        }
        waiting("the standby to go back to sleep");
        tokio::time::sleep(Duration::from_secs(3)).await;
    };
    if let Some(etcd) = &plan.etcd
        && !nodes.refuses()
    {
        waiting("etcd, by its own word");
        preflight.findings.extend(etcd::check(client, plan, etcd, &nodes.nodes).await);
    }
    preflight.nodes = nodes.nodes;
    preflight.findings.extend(nodes.findings);
    let diverts = |step: &Step| step.verb == Verb::Bridge && step.component == Some(Component::ApiServer);
    if !preflight.refuses() {
        waiting("the path through the divert");
        let nodes = plan.nodes.keys().filter(|node| {
            plan.steps.iter().any(|step| diverts(step) && step.node.as_ref() == Some(node))
                && !has_bridge(inventory, Component::ApiServer, node)
        });
        let proofs = join_all(nodes.map(|node| path::prove(client, plan, node))).await;
        preflight.findings.extend(proofs.into_iter().flatten());
    }
    preflight.findings.sort();
    preflight
}

/// How long a standby may take to give its ports back once the component itself is ready: it waits until that has
/// settled, until nothing is diverted any more, and until its copy has drained.
const STANDBY_YIELDS: Duration = Duration::from_secs(90);

/// Asks every control-plane node, all at the same time.
async fn look_at_nodes(client: &Client, inventory: &Inventory, plan: &Plan) -> Preflight {
    let mut preflight = Preflight::default();
    let nodes = plan.nodes.keys().map(|node| inspect::inspect(client, plan, node));
    for (node, result) in plan.nodes.keys().zip(join_all(nodes).await) {
        match result {
            Ok((facts, findings)) => {
                preflight.findings.extend(findings);
                preflight.findings.extend(node_findings(inventory, plan, node, &facts));
                preflight.nodes.insert(node.clone(), facts);
            }
            Err(finding) => preflight.findings.push(finding),
        }
    }
    preflight
}

fn has_bridge(inventory: &Inventory, component: Component, node: &str) -> bool {
    inventory.bridges.iter().any(|pod| bridge_of(pod) == Some((component, node.to_owned())))
}

/// Room that a second copy needs beyond what the first uses now: it starts by listing everything.
const MEMORY_FACTOR: f64 = 1.25;

/// Room on disk for the kept manifests: a few kilobytes, with a wide margin.
const DISK_BYTES: u64 = 16 << 20;

/// What speaks against the plan on one node. Pure.
fn node_findings(inventory: &Inventory, plan: &Plan, node: &str, facts: &NodeFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let report = &facts.report;
    let bridged: Vec<Component> = plan
        .steps
        .iter()
        .filter(|step| step.verb == Verb::Bridge && step.node.as_deref() == Some(node))
        .filter_map(|step| step.component)
        .filter(|component| !has_bridge(inventory, *component, node))
        .collect();
    for component in &bridged {
        let port = component.bridge_port();
        if report.ports.iter().any(|seen| seen.port == port && !seen.free) {
            findings.push(
                Finding::new(
                    Code::PortTaken,
                    format!("node {node}"),
                    format!("port {port} is taken, and the bridge of {component} needs it"),
                )
                .hint(format!("on the node: ss -ltnp 'sport = :{port}'")),
            );
        }
    }
    let running = report.processes.iter().filter(|process| bridged.iter().any(|c| c.name() == process.name));
    let running = running.map(|process| process.rss_bytes);
    if let Some(largest) = running.max() {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an estimate of memory, far below the precision of f64"
        )]
        let needed = (largest as f64 * MEMORY_FACTOR) as u64;
        if report.memory_available_bytes < needed {
            findings.push(
                Finding::new(
                    Code::Memory,
                    format!("node {node}"),
                    format!(
                        "{} MiB of memory are available, and a second copy needs {} MiB",
                        report.memory_available_bytes >> 20,
                        needed >> 20
                    ),
                )
                .hint("free memory on the node: a swap runs two copies for about a minute"),
            );
        }
    }
    if bridged.contains(&Component::ApiServer) && !report.divert.supported {
        let error = report.divert.error.as_deref().unwrap_or("it gives no reason");
        findings.push(
            Finding::new(Code::NoNftables, format!("node {node}"), format!("nftables refuses: {error}"))
                .hint("the kernel needs nf_tables, nft_chain_nat and nft_nat: modprobe nft_chain_nat"),
        );
    }
    if report.kept_free_bytes < DISK_BYTES {
        findings.push(
            Finding::new(
                Code::DiskFull,
                format!("node {node}"),
                format!("{} KiB are free below /var/lib/selfhost", report.kept_free_bytes >> 10),
            )
            .hint("free some room: the static manifests are kept there for the way back"),
        );
    }
    for step in &plan.steps {
        if let (Verb::Retire, Some(component), Some(at)) = (step.verb, step.component, step.node.as_deref())
            && at == node
            && facts.manifest_hash(component).is_none()
        {
            findings.push(
                Finding::new(
                    Code::LayoutUnknown,
                    format!("{component} on {node}"),
                    format!("there is no {}", facts.manifest_path(component)),
                )
                .hint("the kubelet's staticPodPath must hold kubeadm's manifests"),
            );
        }
    }
    findings.extend(nothing_to_restore(plan, node, facts));
    findings.extend(no_standby(plan, node, facts));
    findings
}

/// A static API server goes only where something else starts one after a power cut. The plan knows the standby by its Pod,
/// which the kubelet shows for up to two minutes after its manifests have gone. Pure.
fn no_standby(plan: &Plan, node: &str, facts: &NodeFacts) -> Option<Finding> {
    // A checkpoint at the end of a plan has no component, and comes too late.
    let has = |verb| {
        let step = Step { verb, component: Some(Component::ApiServer), node: Some(node.to_owned()) };
        plan.steps.contains(&step)
    };
    let counted_on =
        plan.nodes.get(node).is_some_and(|node| node.standby) && has(Verb::Retire) && !has(Verb::Checkpoint);
    let is_there = facts.report.manifests.keys().any(|name| name.starts_with(labels::STANDBY));
    (counted_on && !is_there).then(|| {
        let message = "has no manifest any more, and the kubelet still shows its Pod";
        Finding::new(Code::Unhealthy, format!("standby on {node}"), message)
            .hint("the kubelet sees it within two minutes: run the command again")
    })
}

/// What speaks against putting manifests back on one node. Pure.
fn nothing_to_restore(plan: &Plan, node: &str, facts: &NodeFacts) -> Vec<Finding> {
    let here = plan.steps.iter().filter(|s| s.verb == Verb::Restore && s.node.as_deref() == Some(node));
    here.filter_map(|step| step.component)
        .filter(|component| !facts.can_restore(*component))
        .map(|component| {
            let message = format!("there is no {KEPT}/{component}.yaml to put back");
            Finding::new(Code::NotKept, format!("{component} on {node}"), message)
                .hint("put a copy of the static manifest there, on the node")
        })
        .collect()
}

#[cfg(test)]
#[path = "preflight/tests.rs"]
mod tests;
