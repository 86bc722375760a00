//! The acts that change what runs: taking over a DaemonSet, writing it, moving a static manifest away, deleting a Pod.

use std::collections::BTreeMap;
use std::time::Duration;

use json_patch::jsonptr::PointerBuf;
use json_patch::{PatchOperation, ReplaceOperation, TestOperation};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, ResourceExt};
use selfhost_core::component::Component;
use selfhost_core::labels;
use serde::Deserialize;
use serde_json::json;

use super::await_ready::{everywhere, of_daemonset};
use super::ends::is_over;
use super::{Context, ExecuteError};
use crate::api::{self, ApiError};
use crate::node_task::{self, KEPT, Task};
use crate::template::kept::{self, Kept};
use crate::template::sealed_hash;

/// How long a static Pod may take to stop listening once its manifest is gone.
const STOP_LISTENING: Duration = Duration::from_secs(60);

/// How long an old Pod may take to drain: its grace period, and a margin.
pub const DRAIN: Duration = Duration::from_secs(120);

/// Takes over a DaemonSet that somebody else made: it stops rolling by itself, and every node on which it runs gets
/// our label, so that it keeps its Pod when the template asks for that label.
pub async fn adopt(context: &Context<'_>, component: Component) -> Result<(), ExecuteError> {
    let daemonsets: Api<DaemonSet> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    let name = component.daemonset_name();
    let on_delete = json!({"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}});
    api::merge(&daemonsets, name, on_delete).await?;
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    let running = everywhere(&pods, component).await?;
    for node in running.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref()) {
        hand_to_daemonset(context, component, node, None).await?;
    }
    Ok(())
}

/// Writes the DaemonSet as planned. Its template is replaced as a whole: what the plan does not name is not there.
pub async fn apply(context: &Context<'_>, component: Component) -> Result<(), ExecuteError> {
    let name = component.daemonset_name();
    let wanted = context.plan.daemonset(component).ok_or_else(|| ExecuteError::Stale {
        subject: format!("daemonset kube-system/{name}"),
        message: "the plan has no template for it".to_owned(),
    })?;
    let daemonsets: Api<DaemonSet> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    let Some(now) = api::get(&daemonsets, name).await? else {
        api::create(&daemonsets, &wanted).await?;
        return Ok(());
    };
    if hash_of(&now) == hash_of(&wanted) && now.spec.update_strategy == wanted.spec.update_strategy {
        return Ok(());
    }
    let at = |tokens: [&str; 2]| PointerBuf::from_tokens(tokens);
    let patch = json_patch::Patch(vec![
        // Nobody else's edit, made since it was read, is lost.
        PatchOperation::Test(TestOperation {
            path: at(["metadata", "generation"]),
            value: json!(now.metadata.generation),
        }),
        PatchOperation::Replace(ReplaceOperation {
            path: at(["spec", "template"]),
            value: json!(wanted.spec.template),
        }),
        PatchOperation::Replace(ReplaceOperation {
            path: at(["spec", "updateStrategy"]),
            value: json!(wanted.spec.update_strategy),
        }),
    ]);
    Ok(api::json_patch(&daemonsets, name, patch).await?)
}

fn hash_of(daemonset: &DaemonSet) -> Option<&str> {
    sealed_hash(daemonset.spec.template.metadata.as_ref()?)
}

/// What the node part reports of a manifest that it took away.
#[derive(Debug, Deserialize)]
struct Retired {
    /// Whether another manifest stays the one that is to be put back.
    #[serde(default)]
    aside: bool,
}

/// Moves the static manifest away, waits until its server has stopped listening, and labels the node.
pub async fn retire(context: &Context<'_>, component: Component, node: &str) -> Result<(), ExecuteError> {
    let stale = |message: String| ExecuteError::Stale { subject: format!("{component} on {node}"), message };
    let facts = context.facts_of(node)?;
    let file = facts.manifest_path(component);
    let hash = facts.manifest_hash(component).ok_or_else(|| stale(format!("there is no {file}")))?;
    // An interrupted operation came as far as to hand the node over: whoever listens now is the DaemonSet's own Pod.
    if !facts.has_manifest(component) && is_handed_over(context, component, node).await? {
        return Ok(());
    }
    let name = format!("retire-{component}");
    let task = Task {
        name: "retire-manifest",
        node,
        image: &context.plan.around.node_image,
        args: vec![
            format!("--file={file}"),
            format!("--kept={KEPT}"),
            format!("--sha256={hash}"),
            format!("--port={}", context.plan.port(component)),
            format!("--timeout={}", STOP_LISTENING.as_secs()),
        ],
        directories: vec![facts.manifest_dir.clone(), KEPT.to_owned()],
        limit: STOP_LISTENING,
    };
    context.progress.waiting(&format!("{name} on {node}"));
    let retired = node_task::run::<Retired>(&context.client, &task).await?;
    // What the node says of the other one stays true.
    let kept = kept(context, component).filter(|_| !retired.aside);
    hand_to_daemonset(context, component, node, kept).await
}

/// Whether the node carries the component's label already.
async fn is_handed_over(
    context: &Context<'_>,
    component: Component,
    node: &str,
) -> Result<bool, ExecuteError> {
    let nodes: Api<Node> = Api::all(context.client.clone());
    let node = api::get(&nodes, node).await?;
    Ok(node.is_some_and(|node| node.labels().contains_key(labels::node_label(component))))
}

/// What the manifest holds that is being moved away: the one from which the plan's template was made.
fn kept(context: &Context<'_>, component: Component) -> Option<Kept> {
    let pivots = !context.plan.goal.changes_templates() && !context.plan.goal.goes_back();
    context.plan.templates.get(&component).filter(|_| pivots).and_then(|t| Kept::of(component, t))
}

/// Labels the node, so that the DaemonSet makes a Pod on it, and notes what its kept manifest holds.
pub async fn hand_to_daemonset(
    context: &Context<'_>,
    component: Component,
    node: &str,
    kept: Option<Kept>,
) -> Result<(), ExecuteError> {
    let nodes: Api<Node> = Api::all(context.client.clone());
    let label = BTreeMap::from([(labels::node_label(component), "true")]);
    let mut metadata = json!({"labels": label});
    if let Some(kept) = kept {
        metadata["annotations"] = json!({kept::annotation(component): kept.to_string()});
    }
    Ok(api::merge(&nodes, node, json!({"metadata": metadata})).await?)
}

/// Hands a node to the DaemonSet that has no static Pod of the component any more. An interrupted pivot may have moved the
/// manifest away, and not come to the note of what it holds.
pub async fn start(context: &Context<'_>, component: Component, node: &str) -> Result<(), ExecuteError> {
    let nodes: Api<Node> = Api::all(context.client.clone());
    let now = api::get(&nodes, node).await?.unwrap_or_default();
    // Whether that manifest is the one to be put back is not known here: an earlier note is nearer to the truth.
    let kept = kept(context, component).filter(|_| Kept::on(component, &now).is_none());
    if kept.is_none() && now.labels().contains_key(labels::node_label(component)) {
        return Ok(());
    }
    hand_to_daemonset(context, component, node, kept).await
}

/// Deletes every Pod of the DaemonSet on the node that is not what the plan wants, and waits until it has drained and
/// its process has ended: when the Pod is gone, a moment later, the DaemonSet controller makes the next one.
pub async fn delete(context: &Context<'_>, component: Component, node: &str) -> Result<(), ExecuteError> {
    start(context, component, node).await?;
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    let wanted = context.plan.hash(component);
    for pod in of_daemonset(&pods, component, node).await? {
        if sealed_hash(&pod.metadata) == wanted {
            continue;
        }
        context.progress.waiting(&format!("pod {} to drain", pod.name_any()));
        end(&pods, &pod, component).await?;
    }
    Ok(())
}

/// Deletes the Pod, unless that was done already, and waits until it has drained and its process has ended.
pub async fn end(pods: &Api<Pod>, pod: &Pod, component: Component) -> Result<(), ApiError> {
    if pod.metadata.deletion_timestamp.is_none() {
        api::delete(pods, pod).await?;
    }
    api::gone_or(pods, pod, DRAIN, |now| is_over(now, component)).await
}
