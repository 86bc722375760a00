//! How often the containers of a Pod have ended: what tells a Pod that fails from one that was there in worse times.
//!
//! Invariant: counted against what was there when the operation began. After a power cut every Pod has ended once, and is
//! none the worse for it; a Pod that this operation made has never ended. A static Pod that comes back soon is shown with the
//! containers that it had before: what ended before the Pod was made is not counted either.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt as _;
use selfhost_core::component::Component;
use selfhost_core::labels;

use crate::inventory::Inventory;

/// How often the Pods had ended that were there when the operation began, by UID.
#[derive(Debug, Clone, Default)]
pub struct Ends(BTreeMap<String, i32>);

impl Ends {
    /// Counts them.
    pub fn of(inventory: &Inventory) -> Self {
        let instances = inventory.instances.iter().map(|instance| &instance.pod);
        let counted = instances.chain(&inventory.bridges).chain(inventory.standbys.values().flatten());
        Self(counted.filter_map(|pod| Some((pod.metadata.uid.clone()?, count(pod)))).collect())
    }

    /// The container of `pod` that has ended since, the one that did so last.
    pub fn since<'a>(&self, pod: &'a Pod) -> Option<&'a ContainerStatus> {
        let before = pod.metadata.uid.as_ref().and_then(|uid| self.0.get(uid)).copied().unwrap_or_default();
        if count(pod) <= before {
            return None;
        }
        let time = |status: &ContainerStatus| Some(end(status)?.finished_at.as_ref()?.0);
        let made = pod.metadata.creation_timestamp.as_ref().map(|made| made.0);
        let in_this_life =
            |status: &ContainerStatus| time(status).zip(made).is_none_or(|(end, made)| end > made);
        statuses(pod)
            .filter(|status| end(status).is_some() && in_this_life(status))
            .max_by_key(|status| time(status))
    }
}

/// How the container ended last, be it that it has ended now or that it was started again since.
pub fn end(status: &ContainerStatus) -> Option<&k8s_openapi::api::core::v1::ContainerStateTerminated> {
    [status.state.as_ref(), status.last_state.as_ref()]
        .into_iter()
        .flatten()
        .find_map(|state| state.terminated.as_ref())
}

/// Whether the Pod's process of `component` has ended for good. The kubelet says so a second or two before it removes
/// the Pod from the API, and starts nothing any more in a Pod that is being deleted, nor in a static Pod of which it has
/// no manifest.
pub fn is_over(pod: &Pod, component: Component) -> bool {
    let is_going =
        pod.metadata.deletion_timestamp.is_some() || pod.annotations().contains_key(labels::MIRROR);
    let status = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let own = status.into_iter().flatten().find(|container| container.name == component.name());
    let has_ended =
        own.and_then(|container| container.state.as_ref()).is_some_and(|state| state.terminated.is_some());
    is_going && has_ended
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten())
}

/// The ends of all containers: each restart follows one, and a container that does not run has ended once more.
fn count(pod: &Pod) -> i32 {
    statuses(pod)
        .map(|status| {
            let runs = status.state.as_ref().is_some_and(|state| state.running.is_some());
            status.restart_count + i32::from(!runs && end(status).is_some())
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A Pod whose container is in `state`, was in `last` before, and was started again `restarts` times.
    fn pod(uid: &str, state: &Value, last: &Value, restarts: i32) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": uid},
            "status": {"containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": false,
                "restartCount": restarts, "state": state, "lastState": last}]}
        }))
        .unwrap()
    }

    #[test]
    fn a_power_cut_is_no_failure_and_an_end_is() {
        let running = json!({"running": {}});
        let ended = json!({"terminated": {"exitCode": 1}});
        let backing_off = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let none = Value::Null;
        for (before, now, fails) in [
            ((&running, &none, 0), (&running, &none, 0), false),
            ((&running, &none, 0), (&ended, &none, 0), true),
            ((&running, &none, 0), (&backing_off, &ended, 0), true),
            ((&running, &none, 0), (&running, &ended, 1), true),
            // It was cut off, and was started again.
            ((&running, &ended, 1), (&running, &ended, 1), false),
            ((&ended, &none, 0), (&running, &ended, 1), false),
            ((&backing_off, &ended, 3), (&running, &ended, 4), false),
            ((&backing_off, &ended, 3), (&backing_off, &ended, 4), true),
        ] {
            let of = |(state, last, restarts): (&Value, &Value, i32)| pod("u", state, last, restarts);
            let mut inventory = Inventory::empty(crate::inventory::testing::now());
            inventory.bridges.push(of(before));
            assert_eq!(Ends::of(&inventory).since(&of(now)).is_some(), fails, "{before:?} {now:?}");
        }
        let new = pod("v", &running, &ended, 1);
        assert!(Ends::default().since(&new).is_some(), "nobody knew this Pod");
    }

    #[test]
    fn a_static_pod_that_came_back_has_not_failed_by_how_it_ended_before() {
        let at = |time: &str| json!({"terminated": {"exitCode": 137, "finishedAt": time}});
        let running = json!({"running": {}});
        for (end, fails) in
            [("2026-11-28T07:22:40Z", false), ("2026-11-28T07:22:41Z", false), ("2026-11-28T07:22:42Z", true)]
        {
            for (state, last, restarts) in [(&running, &at(end), 1), (&at(end), &Value::Null, 0)] {
                let mut pod = pod("u", state, last, restarts);
                let made: Value = "2026-11-28T07:22:41Z".into();
                pod.metadata.creation_timestamp = serde_json::from_value(made).unwrap();
                assert_eq!(Ends::default().since(&pod).is_some(), fails, "{end} {state}");
            }
        }
    }

    #[test]
    fn a_process_is_over_when_nothing_starts_it_again() {
        let ended = json!({"terminated": {"exitCode": 1}});
        let runs = json!({"running": {"startedAt": "2026-01-01T00:00:05Z"}});
        let going = json!({"name": "p", "deletionTimestamp": "2026-01-01T00:00:05Z"});
        let static_pod = json!({"name": "p", "annotations": {labels::MIRROR: "h"}});
        for (metadata, name, state, expected) in [
            (&going, "kube-scheduler", &ended, true),
            (&going, "kube-scheduler", &runs, false),
            (&going, "gate", &ended, false),
            (&static_pod, "kube-scheduler", &ended, true),
            (&static_pod, "kube-scheduler", &runs, false),
            // The kubelet starts it again.
            (&json!({"name": "p"}), "kube-scheduler", &ended, false),
        ] {
            let pod = json!({"metadata": metadata, "status": {"containerStatuses": [{"name": name,
                "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}});
            let pod = serde_json::from_value(pod).unwrap();
            assert_eq!(is_over(&pod, Component::Scheduler), expected, "{metadata} {name} {state}");
        }
    }
}
