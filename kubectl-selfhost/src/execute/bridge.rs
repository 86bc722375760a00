//! Starting and removing a bridge.

use std::cell::Cell;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use selfhost_core::component::Component;
use selfhost_core::labels;

use super::await_ready::of_daemonset;
use super::ends::{self, Ends};
use super::unpivot::mirror;
use super::{Context, ExecuteError};
use crate::api;
use crate::node_task;
use crate::plan::is_ready;
use crate::template::{bridge, sealed_hash};

/// How long a component may take to become ready: kubeadm's own startup probe allows 250 s.
const START: Duration = Duration::from_secs(260);

/// From a gate's beginning until the kernel has forgotten every connection that was reset before: ten seconds
/// (`nf_conntrack_tcp_timeout_close`), and the gate's own start. A client that used such a port again would reach the
/// server that is about to go.
const FORGOTTEN: Duration = Duration::from_secs(12);

/// For how long the component must have served nobody, and its bridge must not have got its port, until the standby is
/// taken to have it: a Pod that is there and not ready for a moment is none of the standby's business.
const STOOD_IN: Duration = Duration::from_secs(10);

/// Who serves while a component is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meanwhile {
    /// Its bridge.
    Bridge,
    /// The node's standby, which has the bridge's port: the component went away after the plan was made.
    Standby,
}

/// Starts the bridge, or finds the one that an interrupted operation left, and waits until it is ready.
///
/// Where the standby stands in, it goes on until the component is back, and only then gives the port away: nobody can wait
/// for that here, and nobody has to.
pub async fn start(
    context: &Context<'_>,
    component: Component,
    node: &str,
) -> Result<Meanwhile, ExecuteError> {
    let wanted = context.plan.bridge(component, node).ok_or_else(|| ExecuteError::Stale {
        subject: component.to_string(),
        message: "the plan has no template for it".to_owned(),
    })?;
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    let name = wanted.name_any();
    let (pod, made) = match api::get(&pods, &name).await? {
        Some(pod) if is_kept(&pod, &wanted, serves(&pods, component, node).await?) => (pod, None),
        _ => (node_task::start(&pods, &wanted).await?, Some(Instant::now())),
    };
    context.progress.waiting(&format!("pod {name}"));
    let alone = Alone::new(context, &pods, component, node);
    let meanwhile = api::until::<_, ExecuteError, _, _>(format!("pod {name}"), START, || async {
        let is_kept_out = match look(&context.before, &pods, &pod).await? {
            Look::Ready => return Ok(Some(Meanwhile::Bridge)),
            Look::Fails(error) if !is_port_held(&error) => return Err(error),
            Look::Fails(_) => true,
            Look::Waits => is_kept_out(&pods, &name).await?,
        };
        Ok(alone.stands_in(is_kept_out).await?.then_some(Meanwhile::Standby))
    })
    .await?;
    if meanwhile == Meanwhile::Standby {
        context
            .progress
            .note(&format!("the standby of {node} stands in for {component}: it needs no bridge"));
        remove(context, component, node).await?;
        return Ok(meanwhile);
    }
    // The standby's gate, where there is one, has seen to that long ago.
    if let Some(made) = made.filter(|_| component == Component::ApiServer && !alone.has_standby) {
        context.progress.waiting("the end of what the kernel remembers");
        tokio::time::sleep(FORGOTTEN.saturating_sub(made.elapsed())).await;
    }
    Ok(meanwhile)
}

/// Whether a container ended because somebody still has its port: an earlier bridge that drains, or a standby that
/// stands in. The kubelet starts it again, and in the end it has the port.
fn is_port_held(error: &ExecuteError) -> bool {
    let ExecuteError::TargetFails { words, .. } = error else { return false };
    words.as_ref().is_some_and(|words| words.contains(PORT_HELD))
}

/// The end of what Go says of a port that somebody else listens on.
const PORT_HELD: &str = "address already in use";

/// Whether the bridge waits to be started again, and somebody had its port when it was started last.
async fn is_kept_out(pods: &Api<Pod>, name: &str) -> Result<bool, ExecuteError> {
    Ok(api::get(pods, name).await?.is_some_and(|pod| waits_for_port(&pod)))
}

fn waits_for_port(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().any(|status| {
        let runs = status.state.as_ref().is_some_and(|state| state.running.is_some());
        let last = ends::end(status).and_then(|end| last_line(end.message.as_deref().unwrap_or_default()));
        !runs && last.is_some_and(|words| words.contains(PORT_HELD))
    })
}

/// Tells from when on the standby of a node is taken to stand in for a component, and to have the port of its bridge.
struct Alone<'a> {
    pods: &'a Api<Pod>,
    component: Component,
    node: &'a str,
    has_standby: bool,
    since: Cell<Option<Instant>>,
}

impl<'a> Alone<'a> {
    fn new(context: &Context<'_>, pods: &'a Api<Pod>, component: Component, node: &'a str) -> Self {
        let has_standby = context.plan.nodes.get(node).is_some_and(|planned| planned.standby);
        Self { pods, component, node, has_standby, since: Cell::new(None) }
    }

    /// To be asked again and again, with whether the bridge is kept out of its port.
    async fn stands_in(&self, is_kept_out: bool) -> Result<bool, ExecuteError> {
        if !self.has_standby || !is_kept_out || serves(self.pods, self.component, self.node).await? {
            self.since.set(None);
            return Ok(false);
        }
        let since = self.since.get().unwrap_or_else(Instant::now);
        self.since.set(Some(since));
        Ok(since.elapsed() > STOOD_IN)
    }
}

/// Whether a bridge that is there is used, and not replaced by the one that is wanted.
///
/// What runs the wanted template is used, whatever image of the gate it has. Any other one is used only while it is
/// ready and the component itself is not: then it is all that serves on the node, and would be missed for as long as
/// the next one takes to start.
fn is_kept(there: &Pod, wanted: &Pod, component_serves: bool) -> bool {
    there.metadata.deletion_timestamp.is_none()
        && (sealed_hash(&there.metadata) == sealed_hash(&wanted.metadata)
            || (is_ready(there) && !component_serves))
}

/// Whether the component itself is ready on the node, as a static Pod or from its DaemonSet.
async fn serves(pods: &Api<Pod>, component: Component, node: &str) -> Result<bool, ExecuteError> {
    let own = of_daemonset(pods, component, node).await?;
    let mirror = mirror(pods, component, node).await?;
    Ok(own.iter().chain(&mirror).any(is_ready))
}

/// Waits until the Pod is ready, or until it fails.
pub async fn wait_ready(before: &Ends, pods: &Api<Pod>, pod: &Pod) -> Result<(), ExecuteError> {
    api::until(format!("pod {}", pod.name_any()), START, || async {
        match look(before, pods, pod).await? {
            Look::Ready => Ok(Some(())),
            Look::Waits => Ok(None),
            Look::Fails(error) => Err(error),
        }
    })
    .await
}

/// How long a bridge may take to be ready again: the kubelet waits for up to a minute before it starts a container for the
/// fourth time.
const AGAIN: Duration = Duration::from_secs(120);

/// Waits until the bridge, if there is one, serves and diverts at this moment: what it stands in for is about to go. A gate
/// that ended since it was ready diverts nothing after some seconds, and the kubelet lets it wait before it starts again.
///
/// Where the standby stands in, which then has the port of the bridge, there is nothing to wait for.
pub async fn hold(context: &Context<'_>, component: Component, node: &str) -> Result<(), ExecuteError> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    let name = bridge::name(component, node);
    let alone = Alone::new(context, &pods, component, node);
    api::until(format!("pod {name}, without which nothing is taken away"), AGAIN, || async {
        let Some(pod) = api::get(&pods, &name).await?.filter(|pod| !is_ready(pod)) else {
            return Ok(Some(()));
        };
        Ok(alone.stands_in(waits_for_port(&pod)).await?.then_some(()))
    })
    .await
}

/// What a Pod that is to become ready looks like.
enum Look {
    Ready,
    Waits,
    Fails(ExecuteError),
}

async fn look(before: &Ends, pods: &Api<Pod>, pod: &Pod) -> Result<Look, ExecuteError> {
    let name = pod.name_any();
    Ok(match api::get(pods, &name).await? {
        None => Look::Fails(ExecuteError::TargetFails {
            subject: format!("pod {name}"),
            reason: "it was deleted by somebody".to_owned(),
            words: None,
        }),
        Some(now) if is_ready(&now) => Look::Ready,
        Some(now) => failure(before, &now).map_or(Look::Waits, Look::Fails),
    })
}

/// What shows that the Pod will not become ready: it was refused, has no image, or has ended by itself.
pub fn failure(before: &Ends, pod: &Pod) -> Option<ExecuteError> {
    let fails = |reason: String, words: Option<String>| ExecuteError::TargetFails {
        subject: format!("pod {}", pod.name_any()),
        reason,
        words,
    };
    if let Some(message) = node_task::why_not_started(pod) {
        return Some(fails(message, None));
    }
    let status = before.since(pod)?;
    let ended = ends::end(status)?;
    let words = last_line(ended.message.as_deref().unwrap_or_default());
    Some(fails(format!("container {} ended with exit code {}", status.name, ended.exit_code), words))
}

/// The line that says why: the last one that is an error of the component, or else the last one.
fn last_line(message: &str) -> Option<String> {
    let lines = || message.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines().rfind(|line| line.starts_with("Error:") || line.starts_with("error:"));
    error.or_else(|| lines().next_back()).map(ToOwned::to_owned)
}

/// Removes the bridge and waits until it is gone.
pub async fn remove(context: &Context<'_>, component: Component, node: &str) -> Result<(), ExecuteError> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), labels::NAMESPACE);
    if let Some(pod) = api::get(&pods, &bridge::name(component, node)).await? {
        api::delete(&pods, &pod).await?;
        api::gone(&pods, &pod, Duration::from_secs(90)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: &serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {"name": "b"}, "status": status})).unwrap()
    }

    #[test]
    fn a_bridge_that_alone_serves_is_kept() {
        let bridge = |hash: &str, ready: bool| -> Pod {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "b", "annotations": {labels::TEMPLATE_HASH: hash}},
                "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}
            }))
            .unwrap()
        };
        let wanted = bridge("old", false);
        for (hash, ready, component_serves, expected) in [
            ("old", true, true, true),
            ("old", false, false, true),
            ("bad", true, false, true),
            ("bad", true, true, false),
            ("bad", false, false, false),
            ("bad", false, true, false),
        ] {
            let there = bridge(hash, ready);
            assert_eq!(
                is_kept(&there, &wanted, component_serves),
                expected,
                "{hash} {ready} {component_serves}"
            );
        }
    }

    #[test]
    fn tells_what_will_not_become_ready() {
        let cases = [
            (serde_json::json!({"phase": "Pending"}), None),
            (
                serde_json::json!({"phase": "Failed", "reason": "OutOfcpu", "message": "no cpu"}),
                Some("OutOfcpu: no cpu"),
            ),
            (
                serde_json::json!({"containerStatuses": [{"name": "kube-apiserver", "image": "i", "imageID": "",
                    "ready": false, "restartCount": 0,
                    "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}]}),
                Some("i: ImagePullBackOff: not found"),
            ),
            (
                serde_json::json!({"containerStatuses": [{"name": "kube-apiserver", "image": "i", "imageID": "",
                    "ready": false, "restartCount": 0,
                    "state": {"waiting": {"reason": "ContainerCreating"}}}]}),
                None,
            ),
            (
                serde_json::json!({"containerStatuses": [{"name": "kube-apiserver", "image": "i", "imageID": "",
                    "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "CreateContainerConfigError",
                    "message": "services have not yet been read at least once, cannot construct envvars"}}}]}),
                None,
            ),
            (
                serde_json::json!({"containerStatuses": [{"name": "kube-apiserver", "image": "i", "imageID": "",
                    "ready": false, "restartCount": 1,
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": {"exitCode": 1, "message":
                        "I0101 one\nE0101 run.go:72] \"command failed\" err=\"no etcd\"\n"}}}]}),
                Some("it last said: E0101 run.go:72] \"command failed\" err=\"no etcd\""),
            ),
        ];
        for (status, expected) in cases {
            let text = failure(&Ends::default(), &pod(&status)).map(|error| error.to_string());
            match expected {
                None => assert_eq!(text, None, "{status}"),
                Some(part) => assert!(text.as_ref().is_some_and(|t| t.contains(part)), "{status}: {text:?}"),
            }
        }
    }

    /// A bridge that the standby keeps out is no reason to wait, and one that is started is.
    #[test]
    fn a_bridge_that_waits_for_its_port_is_known() {
        let ended = |message: &str| serde_json::json!({"terminated": {"exitCode": 1, "message": message}});
        let held = "err=\"failed to create listener: listen tcp 0.0.0.0:6444: bind: address already in use\"";
        let backing_off = serde_json::json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let running = serde_json::json!({"running": {}});
        for (state, last, expected) in [
            (&backing_off, ended(held), true),
            (&ended(held), serde_json::Value::Null, true),
            (&running, ended(held), false),
            (&backing_off, ended("no etcd"), false),
            (&running, serde_json::Value::Null, false),
        ] {
            let pod = pod(&serde_json::json!({"containerStatuses": [{"name": "kube-apiserver", "image": "i",
                "imageID": "", "ready": false, "restartCount": 3, "state": state, "lastState": last}]}));
            assert_eq!(waits_for_port(&pod), expected, "{state} {last}");
        }
    }

    #[test]
    fn finds_the_line_that_says_why() {
        assert_eq!(last_line("usage\nError: unknown flag: --x\n\n"), Some("Error: unknown flag: --x".into()));
        assert_eq!(last_line("one\ntwo\n"), Some("two".into()));
        assert_eq!(last_line(" \n"), None);
    }
}
