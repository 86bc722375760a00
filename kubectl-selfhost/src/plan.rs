//! Plans: what an operation will do, decided before it does anything.
//!
//! Invariant: pure and synchronous. A plan is made from an inventory and a target, never changes, and names every
//! write; whoever executes it chooses nothing. Planning again from what an interrupted execution left gives the rest
//! of the same plan.

pub mod back;
pub mod backup;
mod emulation;
pub mod etcd;
pub mod goal;
pub mod guard;
pub mod pivot;
pub mod preconditions;
pub mod refresh;
pub mod unpivot;
pub mod upgrade;
pub mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use selfhost_core::component::{Component, Hosting};
use selfhost_core::finding::{Code, Finding};
use selfhost_core::labels;
use selfhost_core::version::KubeVersion;
use serde::Serialize;

pub use crate::inventory::recognize::is_ready;
pub use goal::{Goal, UnknownGoal};

use crate::inventory::{Instance, Inventory, checkpoints};
use crate::template::{self, bridge, standby};

/// Components on nodes: what an operation is about, where that is not all of them.
pub type Scope = BTreeSet<(Component, String)>;

/// What an operation will do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it is for.
    pub goal: Goal,
    /// Every act, in order.
    pub steps: Vec<Step>,
    /// What each component's DaemonSet will run.
    pub templates: BTreeMap<Component, PodTemplateSpec>,
    /// The control-plane nodes, by name.
    pub nodes: BTreeMap<String, PlannedNode>,
    /// What the bridges need to know.
    pub around: bridge::Surroundings,
    /// The version that kubeadm's ConfigMap is to name at the end.
    pub record: Option<KubeVersion>,
    /// What etcd comes to; none where it stays as it is.
    pub etcd: Option<etcd::Etcd>,
}

/// A control-plane node, as far as a plan depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedNode {
    /// The address at which its API server is reached.
    pub address: IpAddr,
    /// The value of kubeadm's annotation on its API server Pod, to be kept.
    pub advertised: Option<String>,
    /// What the component's Pod on this node is made from now.
    pub hosting: BTreeMap<Component, Hosting>,
    /// Whether its standby is in place.
    pub standby: bool,
    /// The images with which kept manifests are put back, where they are not those that the manifests name.
    pub images: BTreeMap<Component, OtherImage>,
}

/// The image that a kept manifest names, and the one that is to be in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherImage {
    /// What the kept manifest names.
    pub kept: String,
    /// What runs.
    pub runs: String,
}

/// One act of a plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Step {
    /// What is done.
    pub verb: Verb,
    /// To which component; none where the act is about the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<Component>,
    /// On which node; none where the act is about the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// What a step does. Each is idempotent: done twice, the second time does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Saves what etcd has, through etcd's own API, and tries whether that can be restored.
    Snapshot,
    /// Brings the node's etcd to the planned image, and waits until that serves, by its own word.
    UpgradeEtcd,
    /// Takes over a DaemonSet of kubeadm's: no rolling by itself, nodes carry our label.
    Adopt,
    /// Starts the bridge and waits until it is ready; an API server's gate diverts from then on.
    Bridge,
    /// Keeps the node's address in the `kubernetes` Service while its API server is away.
    Announce,
    /// Writes the DaemonSet. Nothing rolls.
    Apply,
    /// Hands a node on which nothing of the component is left to the DaemonSet. Its standby serves meanwhile.
    Start,
    /// Moves the static manifest away, waits until its server has stopped listening, and hands the node to the
    /// DaemonSet.
    Retire,
    /// Deletes the Pod, so that the DaemonSet makes the next one.
    Delete,
    /// Takes the node away from the DaemonSet, and waits until its Pod there has drained and is gone.
    Withdraw,
    /// Puts the kept static manifest back.
    Restore,
    /// Clears the leader lease of a holder that is provably gone.
    HandOver,
    /// Waits until the new Pod is ready and has stayed so.
    Await,
    /// Ends the divert and removes the bridge.
    Release,
    /// Writes what serves now into the node's standby.
    Checkpoint,
    /// Writes what serves now into both generations of the node's standby: what the earlier one needs is about to go.
    Renew,
    /// Deletes the DaemonSet, which has no Pod any more.
    Remove,
    /// Removes what is kept on the node, and our marks on it.
    Clean,
    /// Writes the new version into kubeadm's ConfigMap.
    Record,
}

impl Verb {
    /// The verb as a user reads it in a plan.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Snapshot => "take snapshot",
            Self::UpgradeEtcd => "upgrade",
            Self::Adopt => "adopt DaemonSet",
            Self::Bridge => "start bridge",
            Self::Announce => "keep address announced",
            Self::Apply => "write DaemonSet",
            Self::Start => "start Pod",
            Self::Retire => "move static manifest away",
            Self::Delete => "replace Pod",
            Self::Withdraw => "withdraw from DaemonSet",
            Self::Restore => "put static manifest back",
            Self::HandOver => "hand over leadership",
            Self::Await => "wait until ready",
            Self::Release => "release bridge",
            Self::Checkpoint => "write checkpoint",
            Self::Renew => "write both checkpoints",
            Self::Remove => "delete DaemonSet",
            Self::Clean => "remove what was kept",
            Self::Record => "record version",
        }
    }
}

impl Step {
    /// What it acts on, by the name that users know: a component, or etcd; none where it is about the node or the
    /// cluster.
    pub const fn subject(&self) -> Option<&'static str> {
        match (self.verb, self.component) {
            (Verb::Snapshot | Verb::UpgradeEtcd, _) => Some("etcd"),
            (_, Some(component)) => Some(component.name()),
            (_, None) => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = &self.node {
            write!(f, "{node} ")?;
        }
        if let Some(subject) = self.subject() {
            write!(f, "{subject}: ")?;
        }
        f.write_str(self.verb.describe())
    }
}

impl Plan {
    /// Names the plan by its content: the same plan, made again, has the same id.
    pub fn id(&self) -> String {
        use std::fmt::Write as _;
        let mut text = self.goal.to_string();
        for (component, template) in &self.templates {
            let hash = template.metadata.as_ref().and_then(template::sealed_hash).unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{component} {hash}");
        }
        if let Some(etcd) = &self.etcd {
            let _ = write!(text, "\netcd {}", etcd.image);
        }
        for step in &self.steps {
            let _ = write!(text, "\n{step}");
        }
        template::short_hash(text.as_bytes())[..8].to_owned()
    }

    /// The DaemonSet that `component` ends with.
    pub fn daemonset(&self, component: Component) -> Option<k8s_openapi::api::apps::v1::DaemonSet> {
        Some(template::daemonset(component, self.templates.get(&component)?.clone()))
    }

    /// The hash of the template that `component` ends with.
    pub fn hash(&self, component: Component) -> Option<&str> {
        template::sealed_hash(self.templates.get(&component)?.metadata.as_ref()?)
    }

    /// The bridge Pod of `component` on `node`.
    pub fn bridge(&self, component: Component, node: &str) -> Option<Pod> {
        Some(bridge::pod(component, self.templates.get(&component)?, node, &self.around))
    }

    /// The standby Pod of `node`, as JSON: what the cluster serves with when the plan is done.
    pub fn standby(&self, node: &str) -> Option<String> {
        let address = self.nodes.get(node)?.address;
        let peers: Vec<IpAddr> =
            self.nodes.iter().filter(|(name, _)| *name != node).map(|(_, node)| node.address).collect();
        Some(standby::content(&self.templates, node, address, &peers, &self.around))
    }

    /// Adds a checkpoint for each of `nodes` whose standby is not what the plan ends with, or is damaged.
    fn with_checkpoints(mut self, inventory: &Inventory, nodes: impl Fn(&str) -> bool) -> Self {
        let written = |node: &str| {
            self.steps.iter().any(|it| it.verb == Verb::Checkpoint && it.node.as_deref() == Some(node))
        };
        let stale = self.nodes.keys().filter(|node| nodes(node) && !written(node)).filter(|node| {
            let wanted = self.standby(node).and_then(|content| standby::hash(&content));
            inventory.checkpoint(node).and_then(|pod| template::sealed_hash(&pod.metadata))
                != wanted.as_deref()
                || !checkpoints::damage(inventory, node).is_empty()
        });
        let steps: Vec<Step> = stale
            .map(|node| Step { verb: Verb::Checkpoint, component: None, node: Some(node.clone()) })
            .collect();
        self.steps.extend(steps);
        self
    }

    /// The port on which `component` serves.
    pub fn port(&self, component: Component) -> u16 {
        self.templates.get(&component).map_or(component.default_port(), |template| {
            bridge::port(component, &template::command_line(component, template))
        })
    }

    /// Whether both plans end with the same cluster. Their steps may differ: what an interrupted operation began goes on
    /// by itself for a while, and the later plan has less to do.
    pub fn ends_as(&self, other: &Self) -> bool {
        self.goal == other.goal
            && self.templates == other.templates
            && self.around == other.around
            && self.etcd.as_ref().map(|etcd| &etcd.image) == other.etcd.as_ref().map(|etcd| &etcd.image)
            && self.nodes.keys().eq(other.nodes.keys())
    }

    /// The command that begins it, and that goes on with it.
    pub fn command(&self) -> String {
        let etcd = self.etcd.as_ref().map(|etcd| format!(" --etcd={}", etcd.tag)).unwrap_or_default();
        format!("{}{etcd}", self.goal.command())
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// The steps that replace `component` on `node`, or finish replacing it, from what is there now.
fn swap(inventory: &Inventory, component: Component, node: &str, wanted: &str) -> Vec<Step> {
    let instances: Vec<&Instance> =
        inventory.instances.iter().filter(|i| i.component == component && i.node == node).collect();
    let is_static = instances.iter().any(|instance| instance.hosting == Hosting::StaticPod);
    let is_new = |instance: &&&Instance| {
        instance.hosting == Hosting::SelfHosted
            && template::sealed_hash(&instance.pod.metadata) == Some(wanted)
    };
    let replaced = !is_static && instances.iter().any(|i| is_new(&i) && is_ready(&i.pod));
    let bridged = inventory.bridges.iter().any(|pod| bridge_of(pod) == Some((component, node.to_owned())));
    let has_standby = inventory.checkpoint(node).is_some();
    let is_lost = is_lost(inventory, component, node);

    let stays = |hosting| instances.iter().any(|i| i.hosting == hosting && !i.is_ending());
    let is_mixed = stays(Hosting::StaticPod) && stays(Hosting::SelfHosted);

    let verbs: &[Verb] = match (component, replaced, bridged) {
        _ if is_lost => &[Verb::Apply, Verb::Start, Verb::Await],
        (_, true, false) => &[],
        (Component::ApiServer, true, true) => &[Verb::Await, Verb::Release],
        (_, true, true) => &[Verb::Await, Verb::Release, Verb::HandOver],
        (Component::ApiServer, false, _) if is_static && !has_standby => &[
            Verb::Bridge,
            Verb::Announce,
            // From the next step on, nothing else would start an API server after a power cut.
            Verb::Checkpoint,
            Verb::Apply,
            Verb::Retire,
            Verb::Await,
            Verb::Release,
        ],
        (Component::ApiServer, false, _) if is_static => {
            &[Verb::Bridge, Verb::Announce, Verb::Apply, Verb::Retire, Verb::Await, Verb::Release]
        }
        (Component::ApiServer, false, _) => {
            &[Verb::Bridge, Verb::Announce, Verb::Apply, Verb::Delete, Verb::Await, Verb::Release]
        }
        (_, false, _) if is_static => &[
            Verb::Bridge,
            Verb::Apply,
            Verb::Retire,
            Verb::HandOver,
            Verb::Await,
            Verb::Release,
            Verb::HandOver,
        ],
        (_, false, _) => &[
            Verb::Bridge,
            Verb::Apply,
            Verb::Delete,
            Verb::HandOver,
            Verb::Await,
            Verb::Release,
            Verb::HandOver,
        ],
    };
    let mut steps = steps(component, node, verbs);
    if is_mixed {
        // The DaemonSet's Pod ends again and again, because the port is taken, and the kubelet waits longer each time: it
        // goes first, and when the node is handed over it is made anew.
        let withdraw = Step { verb: Verb::Withdraw, component: Some(component), node: Some(node.to_owned()) };
        let at = steps.iter().position(|step| step.verb == Verb::Retire).unwrap_or(steps.len());
        steps.insert(at, withdraw);
    }
    steps
}

/// These acts, one after the other, on one component of one node.
fn steps(component: Component, node: &str, verbs: &[Verb]) -> Vec<Step> {
    let step = |verb: &Verb| Step { verb: *verb, component: Some(component), node: Some(node.to_owned()) };
    verbs.iter().map(step).collect()
}

/// What every plan begins with: the nodes, and what speaks against any operation.
fn survey(inventory: &Inventory, goal: &Goal) -> (BTreeMap<String, PlannedNode>, Vec<Finding>) {
    let mut findings = preconditions::common(inventory, goal);
    let nodes = planned_nodes(inventory).unwrap_or_else(|more| {
        findings.extend(more);
        BTreeMap::new()
    });
    (nodes, findings)
}

/// What the bridges need to know of the cluster.
fn around(inventory: &Inventory, node_image: &str) -> bridge::Surroundings {
    bridge::Surroundings { node_image: node_image.to_owned(), service_ip: inventory.service_ip }
}

/// Whether nothing of the component is left on the node but its standby, which serves: somebody deleted the DaemonSet, or
/// the power was cut between two steps. A bridge that is not ready does not count: it waits for the standby's port.
fn is_lost(inventory: &Inventory, component: Component, node: &str) -> bool {
    let here = (component, node.to_owned());
    let bridge_serves =
        inventory.bridges.iter().any(|pod| bridge_of(pod).as_ref() == Some(&here) && is_ready(pod));
    inventory.instances_on(component, node).all(Instance::is_ending)
        && !bridge_serves
        && inventory.checkpoint(node).is_some()
}

/// Which component a bridge Pod stands in for, and on which node.
pub fn bridge_of(pod: &Pod) -> Option<(Component, String)> {
    let component = pod.metadata.labels.as_ref()?.get(labels::BRIDGE)?.parse().ok()?;
    Some((component, pod.spec.as_ref()?.node_name.clone()?))
}

/// The nodes of a plan: every control-plane node, with its address.
fn planned_nodes(inventory: &Inventory) -> Result<BTreeMap<String, PlannedNode>, Vec<Finding>> {
    let mut nodes = BTreeMap::new();
    let mut findings = Vec::new();
    for (name, node) in &inventory.control_plane {
        let here = || inventory.instances.iter().filter(|instance| instance.node == *name);
        let of_pod = here().find_map(|instance| instance.pod.status.as_ref()?.host_ip.clone());
        let of_node = || {
            let addresses = node.status.as_ref()?.addresses.as_ref()?;
            Some(addresses.iter().find(|address| address.type_ == "InternalIP")?.address.clone())
        };
        let Some(address) = of_pod.or_else(of_node).and_then(|address| address.parse().ok()) else {
            findings.push(
                Finding::new(Code::LayoutUnknown, format!("node {name}"), "has no internal address")
                    .hint("the kubelet reports it: kubectl get node -o wide"),
            );
            continue;
        };
        let advertised = here()
            .filter(|instance| instance.component == Component::ApiServer)
            .find_map(|i| i.pod.metadata.annotations.as_ref()?.get(labels::ADVERTISE_ADDRESS).cloned());
        let standby = inventory.checkpoint(name).is_some();
        let mut hosting = BTreeMap::new();
        for instance in here().filter(|it| !it.is_ending()) {
            let seen = hosting.entry(instance.component).or_insert(instance.hosting);
            if *seen != instance.hosting {
                *seen = Hosting::Mixed;
            }
        }
        nodes.insert(
            name.clone(),
            PlannedNode { address, advertised, hosting, standby, images: BTreeMap::new() },
        );
    }
    if findings.is_empty() { Ok(nodes) } else { Err(findings) }
}

/// Nodes by what is asked of them.
impl PlannedNode {
    /// The value for kubeadm's annotation: what it was, or what kubeadm would write.
    pub fn endpoint(&self, port: u16) -> String {
        self.advertised.clone().unwrap_or_else(|| std::net::SocketAddr::new(self.address, port).to_string())
    }
}

#[cfg(test)]
mod admitted_tests;
#[cfg(test)]
pub(crate) mod tests;
