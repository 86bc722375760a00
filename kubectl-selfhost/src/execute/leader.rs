//! Leadership of the controller manager and the scheduler in a swap.
//!
//! A holder that was killed, or that does not release its lease, leaves the cluster without a leader until the lease
//! runs out: fifteen seconds, twice for each component. Once its Pod is gone for good, the lease is cleared.
//!
//! Invariant: a lease is cleared only when its holder ran on the node in question, and became leader before the process
//! that runs there now was started: then it is one that has ended. The write fails if anybody renewed the lease
//! meanwhile.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use selfhost_core::component::Component;
use selfhost_core::labels;

use super::await_ready::of_daemonset;
use super::ends::is_over;
use super::unpivot::mirror;
use super::{Context, ExecuteError, State};
use crate::api::{self, ApiError, call, until};
use crate::plan::bridge_of;
use crate::template::sealed_hash;

/// How long it may take until somebody leads: a whole lease, and a margin for a busy machine.
const ELECTION: Duration = Duration::from_secs(60);

/// How long the end of the old process may take to show in the API.
const END: Duration = Duration::from_secs(120);

/// Who led when the lease was last looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// The lease's holder: `HOSTNAME_UUID`.
    identity: String,
    /// When it became leader.
    since: Timestamp,
}

/// Remembers who leads before a bridge joins the election: that identity is not the bridge's.
pub async fn remember(
    context: &Context<'_>,
    state: &mut State,
    component: Component,
) -> Result<(), ExecuteError> {
    let Some(name) = component.leader_lease() else { return Ok(()) };
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    let bridges = ListParams::default().labels(&format!("{}={component}", labels::BRIDGE));
    let bridges = call("list the bridges", || pods.list(&bridges)).await?;
    state.leaders.remove(&component);
    // With a bridge of an interrupted operation nobody knows whose identity it is.
    if bridges.items.is_empty()
        && let Some(leader) = api::get(&leases(context), name).await?.as_ref().and_then(holder)
    {
        state.leaders.insert(component, leader);
    }
    Ok(())
}

/// Waits until somebody who still runs leads; clears the lease if its holder is provably gone.
pub async fn hand_over(
    context: &Context<'_>,
    state: &mut State,
    component: Component,
    node: &str,
) -> Result<(), ExecuteError> {
    let Some(name) = component.leader_lease() else { return Ok(()) };
    context.progress.waiting(&format!("the old {component} to end"));
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    until::<_, ExecuteError, _, _>(format!("the end of the old {component} on {node}"), END, || async {
        Ok(is_ended(context, &pods, component, node).await?.then_some(()))
    })
    .await?;

    let leases = leases(context);
    // Elsewhere it goes on leading: with several control-plane nodes most swaps replace a follower.
    let gone = match state.leaders.remove(&component) {
        Some(leader) if is_gone(context, &pods, &leader, component, node).await? => Some(leader.identity),
        _ => None,
    };
    if let Some(gone) = &gone {
        clear(&leases, name, gone).await?;
    }
    context.progress.waiting(&format!("a leader of {component}"));
    let leader = until::<_, ApiError, _, _>(format!("a leader of {component}"), ELECTION, || async {
        let lease = api::get(&leases, name).await?;
        Ok(lease.as_ref().and_then(|lease| leads(lease, gone.as_deref(), Timestamp::now())))
    })
    .await?;
    state.leaders.insert(component, leader);
    Ok(())
}

fn leases(context: &Context<'_>) -> Api<Lease> {
    Api::namespaced(context.client.clone(), labels::NAMESPACE)
}

/// Whether every process of the component on the node that is on its way out has ended: a static Pod whose manifest
/// was moved away, a Pod of an older template, any Pod of a DaemonSet that loses the node, a bridge that is being deleted.
async fn is_ended(
    context: &Context<'_>,
    pods: &Api<Pod>,
    component: Component,
    node: &str,
) -> Result<bool, ApiError> {
    let mut old = of_daemonset(pods, component, node).await?;
    if !context.plan.goal.ends_static() {
        let wanted = context.plan.hash(component);
        old.retain(|pod| sealed_hash(&pod.metadata) != wanted);
        old.extend(mirror(pods, component, node).await?);
    }
    let bridges = ListParams::default().labels(&format!("{}={component}", labels::BRIDGE));
    let bridges = call("list the bridges", || pods.list(&bridges)).await?;
    old.extend(bridges.items.into_iter().filter(|pod| {
        pod.metadata.deletion_timestamp.is_some() && bridge_of(pod).is_some_and(|(_, at)| at == node)
    }));
    Ok(old.iter().all(|pod| is_over(pod, component)))
}

/// Whether the leader was a process on this node that has ended. What is on its way out has ended already: so it was
/// one of those if it leads for longer than the component's own Pod runs.
async fn is_gone(
    context: &Context<'_>,
    pods: &Api<Pod>,
    leader: &Leader,
    component: Component,
    node: &str,
) -> Result<bool, ApiError> {
    if !was_on(context, &leader.identity, node).await? {
        return Ok(false);
    }
    let own = if context.plan.goal.ends_static() {
        mirror(pods, component, node).await?.into_iter().collect()
    } else {
        of_daemonset(pods, component, node).await?
    };
    Ok(own.iter().filter_map(|pod| runs_since(pod, component)).all(|since| leader.since < since))
}

/// Since when the Pod's process of `component` can have been there, at the earliest; `None` for a Pod that no kubelet
/// has seen yet, and for one that was deleted and whose process has ended: it is shown a moment longer. A static Pod that was
/// put back may be shown by how its earlier life ended.
fn runs_since(pod: &Pod, component: Component) -> Option<Timestamp> {
    if pod.metadata.deletion_timestamp.is_some() && is_over(pod, component) {
        return None;
    }
    let status = pod.status.as_ref()?;
    let of_component = status.container_statuses.iter().flatten().find(|c| c.name == component.name());
    let running =
        of_component.and_then(|container| container.state.as_ref()?.running.as_ref()?.started_at.as_ref());
    running.or(status.start_time.as_ref()).map(|time| time.0)
}

/// Whether a leader's identity, `HOSTNAME_UUID`, is of a process on this node.
async fn was_on(context: &Context<'_>, identity: &str, node: &str) -> Result<bool, ApiError> {
    let nodes: Api<Node> = Api::all(context.client.clone());
    let hostname = api::get(&nodes, node)
        .await?
        .and_then(|node| node.labels().get("kubernetes.io/hostname").cloned())
        .unwrap_or_else(|| node.to_owned());
    let of = |name: &str| identity.strip_prefix(name).is_some_and(|rest| rest.starts_with('_'));
    Ok(of(node) || of(&hostname))
}

/// Takes the holder out of the lease, if `gone` still holds it: the next one that asks has it.
async fn clear(leases: &Api<Lease>, name: &str, gone: &str) -> Result<(), ApiError> {
    let Some(mut lease) = api::get(leases, name).await? else { return Ok(()) };
    let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(gone)) else {
        return Ok(());
    };
    // The times stay, and tell until when somebody led.
    spec.holder_identity = Some(String::new());
    // Where somebody took it meanwhile: better still.
    api::replace(leases, &lease).await.map(drop)
}

/// Who holds the lease, be it good or not.
fn holder(lease: &Lease) -> Option<Leader> {
    let spec = lease.spec.as_ref()?;
    let identity = spec.holder_identity.clone().filter(|holder| !holder.is_empty())?;
    Some(Leader { identity, since: spec.acquire_time.as_ref()?.0 })
}

/// Who leads, if it is not the one who is gone and the lease is still good.
fn leads(lease: &Lease, gone: Option<&str>, now: Timestamp) -> Option<Leader> {
    let leader = holder(lease)?;
    let spec = lease.spec.as_ref()?;
    let renewed = spec.renew_time.as_ref()?.0;
    let good = now.duration_since(renewed).as_secs() < i64::from(spec.lease_duration_seconds?);
    (good && Some(leader.identity.as_str()) != gone).then_some(leader)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;

    #[test]
    fn a_leader_is_somebody_else_with_a_good_lease() {
        let now: Timestamp = "2026-01-01T00:00:20Z".parse().unwrap();
        for (holder, renewed, gone, expected) in [
            ("cp1_new", "2026-01-01T00:00:19Z", Some("cp1_old"), Some("cp1_new")),
            ("cp1_old", "2026-01-01T00:00:19Z", Some("cp1_old"), None),
            ("cp1_new", "2026-01-01T00:00:01Z", Some("cp1_old"), None),
            ("", "2026-01-01T00:00:19Z", Some("cp1_old"), None),
            ("cp1_any", "2026-01-01T00:00:19Z", None, Some("cp1_any")),
        ] {
            let lease = Lease {
                spec: Some(LeaseSpec {
                    holder_identity: Some(holder.to_owned()),
                    lease_duration_seconds: Some(15),
                    acquire_time: Some(MicroTime(renewed.parse().unwrap())),
                    renew_time: Some(MicroTime(renewed.parse().unwrap())),
                    ..LeaseSpec::default()
                }),
                ..Lease::default()
            };
            let leader = leads(&lease, gone, now).map(|leader| leader.identity);
            assert_eq!(leader.as_deref(), expected, "{holder} {renewed} {gone:?}");
        }
    }

    #[test]
    fn a_process_is_there_since_its_container_started_or_else_its_pod() {
        let pod = |metadata: &serde_json::Value, status: &serde_json::Value| -> Pod {
            serde_json::from_value(serde_json::json!({"metadata": metadata, "status": status})).unwrap()
        };
        let lives = serde_json::json!({"name": "p"});
        let deleted = serde_json::json!({"name": "p", "deletionTimestamp": "2026-01-01T00:00:09Z"});
        let is_static = serde_json::json!({"name": "p", "annotations": {labels::MIRROR: "hash"}});
        let container = |state: serde_json::Value| {
            serde_json::json!({"startTime": "2026-01-01T00:00:01Z", "containerStatuses": [{
                "name": "kube-scheduler", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                "state": state}]})
        };
        let (first, later) = (Some("2026-01-01T00:00:01Z"), Some("2026-01-01T00:00:05Z"));
        let running = container(serde_json::json!({"running": {"startedAt": "2026-01-01T00:00:05Z"}}));
        let ended = container(serde_json::json!({"terminated": {"exitCode": 0}}));
        for (metadata, status, expected) in [
            (&lives, serde_json::json!({"phase": "Pending"}), None),
            (&lives, serde_json::json!({"startTime": "2026-01-01T00:00:01Z"}), first),
            (&lives, container(serde_json::json!({"waiting": {}})), first),
            (&lives, running.clone(), later),
            (&deleted, running, later),
            (&lives, ended.clone(), first),
            (&is_static, ended.clone(), first),
            (&deleted, ended, None),
        ] {
            let since = runs_since(&pod(metadata, &status), Component::Scheduler);
            assert_eq!(since.map(|since| since.to_string()).as_deref(), expected, "{metadata} {status}");
        }
    }
}
