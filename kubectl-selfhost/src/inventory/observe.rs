//! Observing a cluster: eight reads whatever its size, made at the same time, and an inventory of their answers.
//!
//! Invariant: read-only. An answer that does not come is a finding and a [`Part`] that is unread; only where no answer
//! comes at all, or the API server knows nobody by these credentials, there is no inventory.

use std::collections::BTreeSet;
use std::fmt::Debug;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource, ResourceExt as _};
use selfhost_core::component::Component;
use selfhost_core::finding::{Code, Finding};
use selfhost_core::labels;
use serde::de::DeserializeOwned;

use super::recognize::{self, Role};
use super::{Instance, Inventory, Part};
use crate::client::Trouble;
use crate::inventory::operation;

#[cfg(test)]
mod tests;

/// The answers of one observation, as they came.
#[derive(Debug)]
pub struct Answers {
    /// `gitVersion` of `/version`.
    pub version: kube::Result<String>,
    /// All nodes.
    pub nodes: kube::Result<Vec<DeserializeGuard<Node>>>,
    /// The Pods in `kube-system`.
    pub pods: kube::Result<Vec<DeserializeGuard<Pod>>>,
    /// The DaemonSets in `kube-system`.
    pub daemonsets: kube::Result<Vec<DeserializeGuard<DaemonSet>>>,
    /// Lease `kube-system/selfhost-operation`.
    pub lease: kube::Result<Lease>,
    /// ConfigMap `kube-system/selfhost-operation`.
    pub operation: kube::Result<ConfigMap>,
    /// ConfigMap `kube-system/kubeadm-config`.
    pub kubeadm: kube::Result<ConfigMap>,
    /// Service `default/kubernetes`.
    pub service: kube::Result<Service>,
}

/// Observes the cluster. The error is that of a cluster that was not reached.
pub async fn observe(client: &Client, now: Timestamp) -> kube::Result<Inventory> {
    let answers = ask(client).await;
    if answers.is_silence() {
        // The first error is as good as the others, and it exists.
        answers.version?;
        unreachable!("silence has errors alone");
    }
    Ok(assemble(answers, now))
}

async fn ask(client: &Client) -> Answers {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), labels::NAMESPACE);
    let leases: Api<Lease> = Api::namespaced(client.clone(), labels::NAMESPACE);
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let (version, nodes, pods, daemonsets, lease, operation, kubeadm, service) = tokio::join!(
        client.apiserver_version(),
        list(Api::all(client.clone())),
        list(Api::namespaced(client.clone(), labels::NAMESPACE)),
        list(Api::namespaced(client.clone(), labels::NAMESPACE)),
        leases.get(labels::OPERATION),
        maps.get(labels::OPERATION),
        maps.get("kubeadm-config"),
        services.get("kubernetes"),
    );
    let version = version.map(|info| info.git_version);
    Answers { version, nodes, pods, daemonsets, lease, operation, kubeadm, service }
}

/// One list call. An object that does not parse spoils itself alone.
async fn list<K>(api: Api<DeserializeGuard<K>>) -> kube::Result<Vec<DeserializeGuard<K>>>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    Ok(api.list(&ListParams::default()).await?.items)
}

impl Answers {
    /// Whether nobody answered, or the API server does not know the user: then there is nothing to show.
    fn is_silence(&self) -> bool {
        let silent = |error: Option<&kube::Error>| {
            error
                .map(Trouble::of)
                .is_some_and(|trouble| trouble.is_no_answer() || trouble == Trouble::Unauthorized)
        };
        silent(self.version.as_ref().err())
            && silent(self.nodes.as_ref().err())
            && silent(self.pods.as_ref().err())
            && silent(self.daemonsets.as_ref().err())
            && silent(self.lease.as_ref().err())
            && silent(self.operation.as_ref().err())
            && silent(self.kubeadm.as_ref().err())
            && silent(self.service.as_ref().err())
    }
}

/// The inventory that `answers` make.
pub fn assemble(answers: Answers, now: Timestamp) -> Inventory {
    let mut inventory = Inventory::empty(now);
    let reader = &mut inventory;
    if let Some(version) = taken(answers.version, Part::Version, reader) {
        match version.parse() {
            Ok(version) => reader.server_version = Some(version),
            Err(error) => reader.findings.push(unreadable("API server", format!("{error}"))),
        }
    }
    let nodes = objects(taken(answers.nodes, Part::Nodes, reader), "node", reader);
    let pods = objects(taken(answers.pods, Part::Pods, reader), "pod", reader);
    let daemonsets = objects(taken(answers.daemonsets, Part::DaemonSets, reader), "daemonset", reader);
    let lease = taken(answers.lease, Part::Lease, reader);
    let journal = taken(answers.operation, Part::Operation, reader);
    let kubeadm = taken(answers.kubeadm, Part::Kubeadm, reader);
    let service = taken(answers.service, Part::Service, reader);

    inventory.operation = operation::read(lease.as_ref(), journal.as_ref(), now);
    inventory.kubeadm = kubeadm.and_then(|map| map.data?.remove("ClusterConfiguration"));
    inventory.service_ip = service.and_then(|service| service.spec?.cluster_ip?.parse().ok());
    for daemonset in daemonsets {
        let name = daemonset.name_any();
        if let Some(component) = Component::ALL.into_iter().find(|c| c.daemonset_name() == name) {
            inventory.daemonsets.insert(component, daemonset);
        }
    }
    sort_pods(pods, &mut inventory);
    sort_nodes(nodes, &mut inventory);
    inventory.findings.extend(no_control_plane(&inventory));
    inventory.findings.sort();
    inventory
}

fn sort_pods(pods: Vec<Pod>, inventory: &mut Inventory) {
    for pod in pods {
        let role = recognize::role(&pod);
        let node = recognize::node_name(&pod).map(ToOwned::to_owned);
        match (role, node) {
            (Role::Instance(component, hosting), Some(node)) => {
                inventory.instances.push(Instance { component, node, hosting, pod });
            }
            (Role::Bridge, _) => inventory.bridges.push(pod),
            (Role::Standby, Some(node)) => inventory.standbys.entry(node).or_default().push(pod),
            (Role::Etcd, Some(node)) => drop(inventory.etcd.insert(node, pod)),
            // A Pod that is meant for no node runs nowhere.
            (Role::Instance(..) | Role::Standby | Role::Etcd, None) | (Role::Other, _) => {}
        }
    }
    inventory.instances.sort_by(|a, b| {
        (a.component, &a.node, a.hosting, a.pod.name_any()).cmp(&(
            b.component,
            &b.node,
            b.hosting,
            b.pod.name_any(),
        ))
    });
    inventory.bridges.sort_by_key(kube::ResourceExt::name_any);
    for generations in inventory.standbys.values_mut() {
        generations.sort_by_key(|pod| std::cmp::Reverse(recognize::generation(pod)));
    }
}

fn sort_nodes(nodes: Vec<Node>, inventory: &mut Inventory) {
    let running: BTreeSet<String> =
        inventory.instances.iter().map(|instance| instance.node.clone()).collect();
    for node in nodes {
        let name = node.name_any();
        let kubelet = node.status.as_ref().and_then(|status| status.node_info.as_ref());
        inventory.kubelets.insert(name.clone(), kubelet.and_then(|info| info.kubelet_version.parse().ok()));
        if recognize::is_control_plane(&node) || running.contains(&name) {
            inventory.control_plane.insert(name, node);
        }
    }
    // What runs a component is a control-plane node, also where nodes cannot be read.
    for name in running {
        inventory.control_plane.entry(name.clone()).or_insert_with(|| Node {
            metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() },
            ..Node::default()
        });
    }
}

/// Says so when nothing of a control plane is to be seen, though one could look: it is managed by somebody else, or
/// does not run in Pods.
fn no_control_plane(inventory: &Inventory) -> Option<Finding> {
    let visible = inventory.is_control_plane_visible() || inventory.unread.contains(&Part::Pods);
    (!visible).then(|| {
        Finding::new(
            Code::NoControlPlane,
            "control plane",
            "runs outside of this cluster's Pods: managed by a provider, or by services of the nodes",
        )
        .hint("nothing to do here; only control planes that run as Pods can be pivoted")
    })
}

/// The answer; `None` where there is none, which is a finding unless the object, or its whole API group, is absent.
fn taken<T>(answer: kube::Result<T>, part: Part, inventory: &mut Inventory) -> Option<T> {
    let error = match answer {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    let trouble = Trouble::of(&error);
    if trouble == Trouble::NotFound && part.may_be_absent() {
        return None;
    }
    inventory.unread.insert(part);
    let message = match trouble {
        Trouble::Forbidden => {
            let user = forbidden_user(&error).map_or_else(String::new, |user| format!(" for user {user:?}"));
            format!("{}: forbidden{user}", part.failure())
        }
        _ => format!("{}: {}", part.failure(), trouble.cause(&error)),
    };
    let finding = Finding::new(Code::Unreadable, part.object(), message);
    inventory.findings.push(match trouble.hint() {
        Some(hint) => finding.hint(hint),
        None => finding,
    });
    None
}

/// The objects of a list that parse; for each other one a finding.
fn objects<K: Resource>(
    list: Option<Vec<DeserializeGuard<K>>>,
    kind: &str,
    inventory: &mut Inventory,
) -> Vec<K> {
    let mut good = Vec::new();
    for object in list.into_iter().flatten() {
        match object.0 {
            Ok(object) => good.push(object),
            Err(bad) => {
                let name = bad.metadata.name.unwrap_or_default();
                let subject = match bad.metadata.namespace {
                    Some(namespace) => format!("{kind} {namespace}/{name}"),
                    None => format!("{kind} {name}"),
                };
                inventory.findings.push(unreadable(&subject, bad.error));
            }
        }
    }
    good
}

fn unreadable(subject: &str, why: impl std::fmt::Display) -> Finding {
    Finding::new(Code::Unreadable, subject, format!("is not understood: {why}"))
}

/// The user in the API server's refusal: `pods is forbidden: User "x" cannot list resource ...`.
fn forbidden_user(error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else {
        return None;
    };
    let (_, rest) = status.message.split_once("User \"")?;
    rest.split_once('"').map(|(user, _)| user.to_owned())
}

impl Part {
    /// That it could not be had, in a way that names the right that it takes.
    const fn failure(self) -> &'static str {
        match self {
            Self::Nodes | Self::Pods | Self::DaemonSets => "cannot be listed",
            Self::Version | Self::Lease | Self::Operation | Self::Kubeadm | Self::Service => "cannot be read",
        }
    }

    /// What it is, as the user knows it.
    const fn object(self) -> &'static str {
        match self {
            Self::Version => "/version",
            Self::Nodes => "nodes",
            Self::Pods => "pods in kube-system",
            Self::DaemonSets => "daemonsets in kube-system",
            Self::Lease => "lease kube-system/selfhost-operation",
            Self::Operation => "configmap kube-system/selfhost-operation",
            Self::Kubeadm => "configmap kube-system/kubeadm-config",
            Self::Service => "service default/kubernetes",
        }
    }

    /// Whether "not found" is a good answer: objects that exist only at times, and API groups that old API servers do
    /// not have (Lease came with 1.14, apps/v1 with 1.9).
    const fn may_be_absent(self) -> bool {
        match self {
            Self::DaemonSets | Self::Lease | Self::Operation | Self::Kubeadm => true,
            Self::Version | Self::Nodes | Self::Pods | Self::Service => false,
        }
    }
}
