//! The acts of the way back to static Pods: taking a node from the DaemonSet, putting its manifest back, deleting the
//! DaemonSet, and removing what was kept.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use selfhost_core::component::Component;
use selfhost_core::labels;
use serde::Deserialize;
use serde_json::{Value, json};

use super::await_ready::{everywhere, of_daemonset};
use super::bridge;
use super::ends::is_over;
use super::replace::{DRAIN, end};
use super::{Context, ExecuteError};
use crate::api::{self, ApiError, call};
use crate::node_task::{self, KEPT, STATE, Task};
use crate::template::{kept, standby};

/// How long the DaemonSet controller may take to see that it has lost a node.
const NOTICE: Duration = Duration::from_secs(20);

/// How long the node part may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Deletes the DaemonSet's Pod on the node, waits until it has drained and its process has ended, takes the component's
/// label from the node, and waits until nothing of the DaemonSet runs there.
///
/// In that order: a kubelet that starts anew refuses a Pod that drains on a node without the label, and ends it at once.
/// The DaemonSet controller may have begun the next Pod by then.
pub async fn withdraw(context: &Context<'_>, component: Component, node: &str) -> Result<(), ExecuteError> {
    context.progress.waiting(&format!("the Pod of {component} to drain"));
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    for pod in of_daemonset(&pods, component, node).await? {
        end(&pods, &pod, component).await?;
    }
    let nodes: Api<Node> = Api::all(context.client.clone());
    let label = BTreeMap::from([(labels::node_label(component), Value::Null)]);
    api::merge(&nodes, node, json!({"metadata": {"labels": label}})).await?;
    let what = format!("the end of the Pod of {component} on {node}");
    api::until::<_, ApiError, _, _>(what, DRAIN, || async {
        let left = delete_strays(&pods, component, node).await?;
        Ok(left.iter().all(|pod| is_over(pod, component)).then_some(()))
    })
    .await?;
    Ok(())
}

/// Deletes the Pods that the DaemonSet has on a node that has lost its label, or has made for it, and tells which are left.
///
/// The DaemonSet controller would do so itself, but for one that it made before it saw the node change, and that the
/// scheduler can place nowhere: when a node changes, it looks for Pods that are *on* that node, and for no others
/// (`syncNodeUpdate` in `pkg/controller/daemon/daemon_controller.go`). Such a Pod stays for good.
async fn delete_strays(pods: &Api<Pod>, component: Component, node: &str) -> Result<Vec<Pod>, ApiError> {
    let mut strays = everywhere(pods, component).await?;
    strays.retain(|pod| is_bound_for(pod, node));
    for pod in strays.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        api::delete(pods, pod).await?;
    }
    Ok(strays)
}

/// Whether the DaemonSet controller has counted out the nodes that lost their label: what it knows of nodes may be older than
/// what it knows of Pods, where the API server went away through which it watches both, and a Pod that it makes then would
/// take the port.
async fn counted_out(context: &Context<'_>, component: Component) -> Result<bool, ApiError> {
    let nodes: Api<Node> = Api::all(context.client.clone());
    let daemonsets: Api<DaemonSet> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    let labelled = ListParams::default().labels(labels::node_label(component));
    let nodes = call("list the nodes", || nodes.list(&labelled)).await?.items.len();
    let daemonset = api::get(&daemonsets, component.daemonset_name()).await?;
    let wanted = daemonset.and_then(|it| it.status).map_or(0, |it| it.desired_number_scheduled);
    Ok(usize::try_from(wanted).is_ok_and(|wanted| wanted <= nodes))
}

/// Whether the Pod is on the node, or is to come there: the DaemonSet controller names the node by an affinity, and the
/// scheduler puts the Pod on it.
fn is_bound_for(pod: &Pod, node: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    if let Some(name) = &spec.node_name {
        return name == node;
    }
    let affinity = spec.affinity.as_ref().and_then(|it| it.node_affinity.as_ref());
    let required = affinity.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref());
    let mut fields = required
        .into_iter()
        .flat_map(|it| &it.node_selector_terms)
        .flat_map(|term| term.match_fields.iter().flatten());
    fields
        .any(|field| field.key == "metadata.name" && field.values.iter().flatten().any(|value| value == node))
}

/// What the node part reports of a manifest that it put back.
#[derive(Debug, Deserialize)]
struct Restored {}

/// Puts the kept manifest back, once the DaemonSet's Pod is gone: nobody else listens on its port then.
pub async fn restore(context: &Context<'_>, component: Component, node: &str) -> Result<(), ExecuteError> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    context.progress.waiting("the DaemonSet controller");
    let begin = Instant::now();
    let what = format!("the Pod of {component} on {node} to be gone");
    api::until::<_, ApiError, _, _>(what, DRAIN, || async {
        // In this order: who has counted makes no other. Where nobody leads, nobody counts, and nobody makes one.
        let is_counted = counted_out(context, component).await? || begin.elapsed() > NOTICE;
        let is_gone = delete_strays(&pods, component, node).await?.is_empty();
        Ok((is_counted && is_gone).then_some(()))
    })
    .await?;
    let facts = context.facts_of(node)?;
    let name = format!("restore-{component}");
    let mut args = vec![format!("--file={}", facts.manifest_path(component)), format!("--kept={KEPT}")];
    let image = context.plan.nodes.get(node).and_then(|node| node.images.get(&component));
    if let Some(image) = image {
        args.extend([format!("--kept-image={}", image.kept), format!("--image={}", image.runs)]);
    }
    let task = Task {
        name: "restore-manifest",
        node,
        image: &context.plan.around.node_image,
        args,
        directories: vec![facts.manifest_dir.clone(), KEPT.to_owned()],
        limit: LIMIT,
    };
    context.progress.waiting(&format!("{name} on {node}"));
    node_task::run::<Restored>(&context.client, &task).await?;
    Ok(())
}

/// Deletes the DaemonSet, which must have no Pod any more.
pub async fn remove(context: &Context<'_>, component: Component) -> Result<(), ExecuteError> {
    let name = component.daemonset_name();
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    let begin = Instant::now();
    api::until(format!("the Pods of {component} to be gone"), DRAIN, || async {
        let left = everywhere(&pods, component).await?;
        // One that was begun for a node that has lost its label is about to go.
        if let Some(pod) = left.first().filter(|_| begin.elapsed() > NOTICE) {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("no node");
            return Err(ExecuteError::Stale {
                subject: format!("daemonset kube-system/{name}"),
                message: format!("it still has pod {} on {node}", pod.name_any()),
            });
        }
        Ok(left.is_empty().then_some(()))
    })
    .await?;
    let daemonsets: Api<DaemonSet> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    if let Some(daemonset) = api::get(&daemonsets, name).await? {
        api::delete(&daemonsets, &daemonset).await?;
    }
    Ok(())
}

/// What the node part reports of a task after which less is there.
#[derive(Debug, Deserialize)]
struct Removed {}

/// Removes a bridge that is left, the node's standby, what is kept on the node, then our marks on it, in that order: a mark
/// tells that there is something to remove.
pub async fn clean(context: &Context<'_>, node: &str) -> Result<(), ExecuteError> {
    // The standby diverts to it, too, and its gate stays while there are connections that were diverted.
    bridge::remove(context, Component::ApiServer, node).await?;
    let facts = context.facts_of(node)?;
    let manifests = &facts.manifest_dir;
    let task = |name, args: Vec<String>, directories| Task {
        name,
        node,
        image: &context.plan.around.node_image,
        args,
        directories,
        limit: LIMIT,
    };
    let standby = task(
        "remove-standby",
        vec![format!("--manifests={manifests}"), format!("--state={STATE}")],
        vec![manifests.clone(), STATE.to_owned()],
    );
    context.progress.waiting(&format!("remove-standby on {node}"));
    node_task::run::<Removed>(&context.client, &standby).await?;
    standby_gone(context, node).await?;
    let clean = task(
        "clean",
        vec![
            format!("--manifests={manifests}"),
            format!("--state={STATE}"),
            format!("--run={}", standby::RUN),
        ],
        // The parents: a directory that is mounted cannot be removed.
        vec![manifests.clone(), "/var/lib".to_owned(), "/run".to_owned()],
    );
    context.progress.waiting(&format!("clean on {node}"));
    node_task::run::<Removed>(&context.client, &clean).await?;
    let own = |keys: [String; 3]| -> BTreeMap<String, Value> {
        keys.into_iter().map(|key| (key, Value::Null)).collect()
    };
    let patch = json!({"metadata": {
        "labels": own(Component::ALL.map(|component| labels::node_label(component).to_owned())),
        "annotations": own(Component::ALL.map(kept::annotation)),
    }});
    let nodes: Api<Node> = Api::all(context.client.clone());
    Ok(api::merge(&nodes, node, patch).await?)
}

/// Waits until the kubelet has seen that the standby's manifests are gone, and has ended its Pods.
async fn standby_gone(context: &Context<'_>, node: &str) -> Result<(), ExecuteError> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    let here = ListParams::default()
        .labels(&format!("{}={}", labels::COMPONENT, labels::STANDBY))
        .fields(&format!("spec.nodeName={node}"));
    context.progress.waiting(&format!("the end of the standby on {node}"));
    api::until::<_, ApiError, _, _>(format!("the end of the standby on {node}"), DRAIN, || async {
        let left = call(format!("list the standby's Pods on {node}"), || pods.list(&here)).await?;
        Ok(left.items.is_empty().then_some(()))
    })
    .await?;
    Ok(())
}

/// The component's static Pod on the node, as the kubelet shows it.
pub async fn mirror(pods: &Api<Pod>, component: Component, node: &str) -> Result<Option<Pod>, ApiError> {
    let pod = api::get(pods, &format!("{component}-{node}")).await?;
    Ok(pod.filter(|pod| pod.annotations().contains_key(labels::MIRROR)))
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::client::testing::{list, mock};

    /// The spec of a Pod that the DaemonSet controller has made for cp1, and that the scheduler has not placed.
    fn to_come() -> Value {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["cp1"]}]}]}}},
            "containers": []})
    }

    #[tokio::test]
    async fn strays_are_deleted_also_those_that_are_on_no_node() {
        let on = |node: &str| json!({"nodeName": node, "containers": []});
        let pod = |name: &str, spec: Value| json!({"metadata": {"name": name, "uid": name}, "spec": spec});
        let mut going = pod("going", on("cp1"));
        going["metadata"]["deletionTimestamp"] = "2026-11-28T06:30:18Z".into();
        let pods = [pod("on-cp1", on("cp1")), pod("to-come", to_come()), going, pod("on-cp2", on("cp2"))];
        let (client, log) =
            mock(move |path| match path.strip_prefix("/api/v1/namespaces/kube-system/pods/") {
                None => list("Pod", &pods),
                Some(name) => (StatusCode::OK, pod(name, on("cp1")).to_string()),
            });
        let pods = Api::namespaced(client, labels::NAMESPACE);
        let strays = delete_strays(&pods, Component::Scheduler, "cp1").await.unwrap();
        let names: Vec<String> = strays.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["on-cp1", "to-come", "going"]);
        let log = log.sorted();
        let delete = |name: &str| format!("DELETE /api/v1/namespaces/kube-system/pods/{name}?");
        assert_eq!(log[..2], [delete("on-cp1"), delete("to-come")]);
        // One list, and not of those on the node only.
        assert!(log.len() == 3 && !log[2].contains("fieldSelector"), "{log:?}");
    }

    #[test]
    fn a_pod_that_is_to_come_counts() {
        let to_come = to_come();
        let mut there = to_come.clone();
        there["nodeName"] = "cp2".into();
        for (spec, expected) in [
            (json!({"nodeName": "cp1", "containers": []}), true),
            (json!({"nodeName": "cp2", "containers": []}), false),
            (json!({"containers": []}), false),
            (to_come, true),
            // The scheduler has the last word.
            (there, false),
        ] {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": spec})).unwrap();
            assert_eq!(is_bound_for(&pod, "cp1"), expected, "{spec}");
        }
    }
}
