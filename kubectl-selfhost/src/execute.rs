//! Executing a plan: the steps, one after the other, without a choice.
//!
//! Invariant: each step is idempotent and looks at the cluster, not at what this process did before, so that a kill at
//! any point leaves a cluster that serves and a plan whose rest is planned again. At every instant either the old or
//! the new serves.

pub mod await_ready;
pub mod backup;
pub mod bridge;
pub mod checkpoint;
pub mod ends;
pub mod etcd;
pub mod leader;
pub mod replace;
pub mod unpivot;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use selfhost_core::component::Component;
use selfhost_core::finding::Code;
use selfhost_core::labels;
use serde_json::json;

use crate::api::{self, ApiError, call, until};
use crate::node_task::TaskError;
use crate::operation::Operation;
use crate::plan::upgrade::configuration_with;
use crate::plan::{Goal, Plan, Step, Verb};
use crate::preflight::inspect::NodeFacts;
use crate::progress::Progress;

/// What an execution needs beside the plan.
pub struct Context<'a> {
    /// The cluster.
    pub client: Client,
    /// The plan.
    pub plan: &'a Plan,
    /// What pre-flight learned of the nodes.
    pub facts: &'a BTreeMap<String, NodeFacts>,
    /// How often the Pods had ended that were there when the operation began.
    pub before: ends::Ends,
    /// The lock and the journal.
    pub operation: &'a Operation,
    /// How long a new Pod must stay ready before its bridge is released.
    pub settle: Duration,
    /// Whether an earlier run may have changed what serves: then no bridge is taken away that may be all there is.
    pub resumed: bool,
    /// What is shown meanwhile.
    pub progress: &'a Progress,
    /// Called at the beginning of each step, and able to stop the execution: the availability budget.
    pub gate: &'a (dyn Fn(&Step) -> Result<(), String> + Sync),
}

impl Context<'_> {
    /// What pre-flight learned of the node.
    ///
    /// # Errors
    ///
    /// It did not inspect it.
    fn facts_of(&self, node: &str) -> Result<&NodeFacts, ExecuteError> {
        self.facts.get(node).ok_or_else(|| ExecuteError::Stale {
            subject: format!("node {node}"),
            message: "it was not inspected".to_owned(),
        })
    }
}

/// Why an execution stopped.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// A call to the API server failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A node task failed.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// What was started does not run. Nothing that served was touched for it.
    #[error("{}: {subject} does not start: {reason}{}", Code::TargetFails, last_words(words.as_ref()))]
    TargetFails {
        /// The Pod.
        subject: String,
        /// What the kubelet says.
        reason: String,
        /// The last line that the component itself wrote.
        words: Option<String>,
    },
    /// Somebody took the lock over.
    #[error("another process took operation {0} over")]
    LockLost(Goal),
    /// The measured availability is worse than the budget.
    #[error("the availability budget is spent: {0}")]
    Budget(String),
    /// The cluster does not have what the plan was made from.
    #[error("{subject} is not as it was planned: {message}")]
    Stale {
        /// The object.
        subject: String,
        /// What changed.
        message: String,
    },
}

fn last_words(words: Option<&String>) -> String {
    words.map(|words| format!("\n  it last said: {words}")).unwrap_or_default()
}

/// What an execution came to.
#[derive(Debug)]
pub struct Outcome {
    /// Why it stopped; none where the plan is done.
    pub error: Option<ExecuteError>,
    /// At which act it stopped.
    pub at: Option<Verb>,
    /// Whether anything is left to be finished: something was changed, by this run or an earlier one, or a bridge could
    /// not be taken away again.
    pub changed: bool,
}

/// Carries out every step.
pub async fn run(context: &Context<'_>) -> Outcome {
    let mut state = State { changed: context.resumed, ..State::default() };
    let total = context.plan.steps.len();
    for (index, step) in context.plan.steps.iter().enumerate() {
        context.progress.step(index + 1, total, step);
        if let Err(error) = run_step(context, &mut state, step).await {
            let changed = state.changed || !undo_bridges(context, &context.plan.steps[..=index]).await;
            return Outcome { error: Some(error), at: Some(step.verb), changed };
        }
    }
    let error = clean_up(context).await.err().map(ExecuteError::from);
    Outcome { error, at: None, changed: state.changed }
}

/// What one step leaves for a later one. Only a shortcut: a later step does without it, more slowly.
#[derive(Debug, Default)]
pub struct State {
    /// Something but a bridge was, or may have been, changed.
    pub changed: bool,
    /// Who led when a swap began, or when it came to its last hand-over.
    pub leaders: BTreeMap<Component, leader::Leader>,
    /// Of which the standby of the node stands in, and not a bridge.
    pub stood_in: BTreeSet<(Component, String)>,
}

async fn run_step(context: &Context<'_>, state: &mut State, step: &Step) -> Result<(), ExecuteError> {
    if context.operation.is_lost() {
        return Err(ExecuteError::LockLost(context.plan.goal.clone()));
    }
    (context.gate)(step).map_err(ExecuteError::Budget)?;
    context.operation.record(step).await?;
    match (step.verb, step.component, step.node.as_deref()) {
        (Verb::Snapshot, _, Some(node)) => etcd::snapshot(context, node).await,
        (Verb::UpgradeEtcd, _, Some(node)) => etcd::upgrade(context, state, node).await,
        (Verb::Adopt, Some(component), _) => replace::adopt(context, component).await,
        (Verb::Bridge, Some(component), Some(node)) => {
            leader::remember(context, state, component).await?;
            if bridge::start(context, component, node).await? == bridge::Meanwhile::Standby {
                state.stood_in.insert((component, node.to_owned()));
            }
            Ok(())
        }
        (Verb::Announce, Some(component), Some(node)) => announce(context, component, node).await,
        (Verb::Apply, Some(component), _) => {
            state.changed = true;
            replace::apply(context, component).await
        }
        (Verb::Start, Some(component), Some(node)) => {
            state.changed = true;
            replace::start(context, component, node).await
        }
        (Verb::Retire, Some(component), Some(node)) => {
            bridge::hold(context, component, node).await?;
            state.changed = true;
            replace::retire(context, component, node).await
        }
        (Verb::Delete, Some(component), Some(node)) => {
            bridge::hold(context, component, node).await?;
            state.changed = true;
            replace::delete(context, component, node).await
        }
        (Verb::Withdraw, Some(component), Some(node)) => {
            bridge::hold(context, component, node).await?;
            state.changed = true;
            unpivot::withdraw(context, component, node).await
        }
        (Verb::Restore, Some(component), Some(node)) => {
            state.changed = true;
            unpivot::restore(context, component, node).await
        }
        (Verb::Remove, Some(component), _) => {
            state.changed = true;
            unpivot::remove(context, component).await
        }
        (Verb::Clean, _, Some(node)) => {
            state.changed = true;
            unpivot::clean(context, node).await
        }
        // The standby's copy is no process that is on its way out, and gives its lease back in its own time.
        (Verb::HandOver, Some(component), Some(node))
            if state.stood_in.contains(&(component, node.to_owned())) =>
        {
            Ok(())
        }
        (Verb::HandOver, Some(component), Some(node)) => {
            leader::hand_over(context, state, component, node).await
        }
        (Verb::Await, Some(component), Some(node)) => {
            await_ready::await_ready(context, component, node).await
        }
        (Verb::Release, Some(component), Some(node)) => {
            state.changed = true;
            release(context, component, node).await
        }
        // The node may have a standby from its first file on.
        (Verb::Checkpoint | Verb::Renew, _, Some(node)) => {
            state.changed = true;
            checkpoint::write(context, node, step.verb == Verb::Renew).await
        }
        (Verb::Record, ..) => record(context).await,
        (verb, component, node) => {
            unreachable!("the planner makes no {verb:?} for {component:?} on {node:?}")
        }
    }
}

/// What stopped before it touched anything takes its bridges away again. Whether that was all, and nothing is left.
async fn undo_bridges(context: &Context<'_>, begun: &[Step]) -> bool {
    let mut bridges = bridged(begun).peekable();
    if bridges.peek().is_none() {
        return true;
    }
    let mut is_undone = true;
    let mut left = |what: &str, error: &dyn std::error::Error| {
        context.progress.note(&format!("{what} is left: {error}"));
        is_undone = false;
    };
    context.progress.begin("removing the bridge again");
    for (component, node) in bridges {
        if let Err(error) = bridge::remove(context, component, node).await {
            left(&format!("the bridge of {component} on {node}"), &error);
        }
    }
    if let Err(error) = remove_slice(&context.client).await {
        left(&format!("endpointslice default/{}", labels::BRIDGE_SLICE), &error);
    }
    is_undone
}

/// Of which component there may be a bridge on which node, once these steps were begun.
fn bridged(begun: &[Step]) -> impl Iterator<Item = (Component, &str)> {
    let bridges = begun.iter().filter(|step| step.verb == Verb::Bridge);
    bridges.filter_map(|step| Some((step.component?, step.node.as_deref()?)))
}

/// Keeps the node's address in the `kubernetes` Service.
async fn announce(context: &Context<'_>, component: Component, node: &str) -> Result<(), ExecuteError> {
    let slices: Api<EndpointSlice> = Api::namespaced(context.client.clone(), "default");
    let slice =
        crate::template::bridge::endpoint_slice(address(context, node)?, context.plan.port(component));
    Ok(api::apply(&slices, &slice).await?)
}

fn address(context: &Context<'_>, node: &str) -> Result<IpAddr, ExecuteError> {
    let planned = context.plan.nodes.get(node);
    planned.map(|node| node.address).ok_or_else(|| ExecuteError::Stale {
        subject: format!("node {node}"),
        message: "it is no control-plane node of the plan".to_owned(),
    })
}

/// Gives everything back to the component itself: new connections first, then those that the bridge still has.
async fn release(context: &Context<'_>, component: Component, node: &str) -> Result<(), ExecuteError> {
    if component == Component::ApiServer {
        context.progress.waiting("the kubernetes Service's own endpoint");
        let slices: Api<EndpointSlice> = Api::namespaced(context.client.clone(), "default");
        let own = address(context, node)?.to_string();
        until::<_, ApiError, _, _>(
            format!("{own} in the kubernetes Service"),
            Duration::from_secs(60),
            || async {
                let slice = api::get(&slices, "kubernetes").await?;
                let addresses = slice.into_iter().flat_map(|slice| slice.endpoints.unwrap_or_default());
                Ok(addresses.flat_map(|endpoint| endpoint.addresses).any(|a| a == own).then_some(()))
            },
        )
        .await?;
        remove_slice(&context.client).await?;
    }
    // The gate ends the divert as soon as it is told to stop; the bridge then drains, for which nobody waits here.
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    if let Some(pod) = api::get(&pods, &crate::template::bridge::name(component, node)).await? {
        api::delete(&pods, &pod).await?;
    }
    Ok(())
}

async fn remove_slice(client: &Client) -> Result<(), ApiError> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    if let Some(slice) = api::get(&slices, labels::BRIDGE_SLICE).await? {
        api::delete(&slices, &slice).await?;
    }
    Ok(())
}

/// Writes the new version into kubeadm's ConfigMap, so that kubeadm and its users are told the truth.
async fn record(context: &Context<'_>) -> Result<(), ExecuteError> {
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    let Some(map) = api::get(&maps, "kubeadm-config").await? else { return Ok(()) };
    let Some(configuration) = map.data.as_ref().and_then(|data| data.get("ClusterConfiguration")) else {
        return Ok(());
    };
    let patch = json!({
        "metadata": {"resourceVersion": map.resource_version()},
        "data": {"ClusterConfiguration": configuration_with(configuration, context.plan)},
    });
    Ok(api::merge(&maps, "kubeadm-config", patch).await?)
}

/// Waits until every bridge has drained, so that the next operation finds its ports free, and until the static Pods
/// that were replaced have ended, which nobody had to wait for.
async fn clean_up(context: &Context<'_>) -> Result<(), ApiError> {
    context.progress.begin("waiting until the bridges have drained");
    remove_slice(&context.client).await?;
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    // Of operations that were killed while a task ran: nobody else runs one while we have the lock.
    let tasks = ListParams::default().labels(labels::TASK);
    for task in call("list the node tasks", || pods.list(&tasks)).await?.items {
        api::delete(&pods, &task).await?;
    }
    let bridges = ListParams::default().labels(labels::BRIDGE);
    until::<_, ApiError, _, _>("the end of every bridge", Duration::from_secs(90), || async {
        let left = call("list the bridges", || pods.list(&bridges)).await?.items;
        // Whatever one was for is done, be it that a power cut did it.
        for bridge in left.iter().filter(|bridge| bridge.metadata.deletion_timestamp.is_none()) {
            api::delete(&pods, bridge).await?;
        }
        Ok(left.is_empty().then_some(()))
    })
    .await?;
    let retired = context.plan.steps.iter().filter(|step| step.verb == Verb::Retire);
    for (component, node) in retired.filter_map(|step| Some((step.component?, step.node.as_deref()?))) {
        let what = format!("the end of the static Pod of {component} on {node}");
        until::<_, ApiError, _, _>(what, Duration::from_secs(90), || async {
            Ok(unpivot::mirror(&pods, component, node).await?.is_none().then_some(()))
        })
        .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::pivot;
    use crate::plan::tests::{IMAGE, kubeadm};

    /// Whichever step it is that fails before anything was changed: no bridge is forgotten.
    #[test]
    fn every_bridge_of_the_steps_so_far_is_known() {
        let plan = pivot::plan(&kubeadm(1, "v1.36.3"), IMAGE, None).unwrap();
        let bridge = plan.steps.iter().position(|step| step.verb == Verb::Bridge).unwrap();
        let checkpoint = plan.steps.iter().position(|step| step.verb == Verb::Checkpoint).unwrap();
        assert!(bridge < checkpoint);
        let of = |count: usize| bridged(&plan.steps[..count]).collect::<Vec<_>>();
        assert_eq!(of(bridge), []);
        assert_eq!(of(bridge + 1), [(Component::ApiServer, "cp1")]);
        assert_eq!(of(checkpoint + 1), [(Component::ApiServer, "cp1")]);
        assert_eq!(of(plan.steps.len()).len(), Component::ALL.len());
    }
}
