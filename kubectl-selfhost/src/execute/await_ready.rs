//! Waiting until the component itself serves again, and has done so for the settling time.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use selfhost_core::component::Component;
use selfhost_core::labels;
use serde_json::json;

use super::bridge::{failure, wait_ready};
use super::unpivot::mirror;
use super::{Context, ExecuteError};
use crate::api::{self, ApiError, call};
use crate::plan::is_ready;
use crate::template::sealed_hash;

/// How long the DaemonSet controller and the scheduler may take to make the Pod.
const MAKE: Duration = Duration::from_secs(120);

/// How long the kubelet may take to see a manifest, and to show its static Pod: it looks every twenty seconds.
const SEE: Duration = Duration::from_secs(120);

/// Waits for the Pod that serves in the end on `node`, until it is ready and has stayed so.
pub async fn await_ready(
    context: &Context<'_>,
    component: Component,
    node: &str,
) -> Result<(), ExecuteError> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    let is_static = context.plan.goal.ends_static();
    let pod = if is_static {
        context.progress.waiting("the kubelet");
        api::until::<_, ApiError, _, _>(format!("the static Pod of {component} on {node}"), SEE, || async {
            let pod = mirror(&pods, component, node).await?;
            Ok(pod.filter(|pod| pod.metadata.deletion_timestamp.is_none()))
        })
        .await?
    } else {
        context.progress.waiting("the DaemonSet controller and the scheduler");
        let wanted = context.plan.hash(component);
        api::until::<_, ApiError, _, _>(format!("a Pod of {component} on {node}"), MAKE, || async {
            let here = of_daemonset(&pods, component, node).await?;
            Ok(here.into_iter().find(|pod| {
                pod.metadata.deletion_timestamp.is_none() && sealed_hash(&pod.metadata) == wanted
            }))
        })
        .await?
    };
    context.progress.waiting(&format!("pod {}", pod.name_any()));
    wait_ready(&context.before, &pods, &pod).await?;
    if component == Component::ApiServer && !is_static {
        annotate(context, &pods, &pod, node).await?;
    }
    context.progress.waiting(&format!(
        "pod {} to stay ready for {} s",
        pod.name_any(),
        context.settle.as_secs()
    ));
    stay_ready(context, &pods, &pod).await
}

/// The component's DaemonSet Pods on the node.
pub async fn of_daemonset(pods: &Api<Pod>, component: Component, node: &str) -> Result<Vec<Pod>, ApiError> {
    let parameters = ListParams::default()
        .labels(&format!("{}={}", labels::K8S_APP, component.daemonset_name()))
        .fields(&format!("spec.nodeName={node}"));
    Ok(call(format!("list the Pods of {component} on {node}"), || pods.list(&parameters)).await?.items)
}

/// The Pods of the component's DaemonSet on every node, also those that are on none yet.
pub async fn everywhere(pods: &Api<Pod>, component: Component) -> Result<Vec<Pod>, ApiError> {
    let of_app = ListParams::default().labels(&format!("{}={}", labels::K8S_APP, component.daemonset_name()));
    Ok(call(format!("list the Pods of {component}"), || pods.list(&of_app)).await?.items)
}

/// kubeadm reads the address of each API server from this annotation when a node joins. It differs by node, so that
/// it cannot stand in the template.
async fn annotate(context: &Context<'_>, pods: &Api<Pod>, pod: &Pod, node: &str) -> Result<(), ExecuteError> {
    let Some(planned) = context.plan.nodes.get(node) else { return Ok(()) };
    let endpoint = planned.endpoint(context.plan.port(Component::ApiServer));
    let annotation = json!({"metadata": {"annotations": {labels::ADVERTISE_ADDRESS: endpoint}}});
    Ok(api::merge(pods, &pod.name_any(), annotation).await?)
}

async fn stay_ready(context: &Context<'_>, pods: &Api<Pod>, pod: &Pod) -> Result<(), ExecuteError> {
    let settle = context.settle;
    let name = pod.name_any();
    let begin = std::time::Instant::now();
    while begin.elapsed() < settle {
        tokio::time::sleep(Duration::from_millis(500).min(settle)).await;
        let now = api::get(pods, &name).await?.filter(|now| now.uid() == pod.uid());
        let lost = |reason: &str| ExecuteError::TargetFails {
            subject: format!("pod {name}"),
            reason: reason.to_owned(),
            words: None,
        };
        match now {
            None => return Err(lost("it was deleted by somebody")),
            Some(now) => {
                if let Some(error) = failure(&context.before, &now) {
                    return Err(error);
                }
                if !is_ready(&now) {
                    return Err(lost("it was ready, and is not any more"));
                }
            }
        }
    }
    Ok(())
}
