//! An independent reading of a plan, before anything is executed.
//!
//! Invariant: shares no decision with the planner. It knows only what must never happen, and looks for it.

use k8s_openapi::api::apps::v1::DaemonSet;
use selfhost_core::component::{Component, Hosting};
use selfhost_core::labels;

use super::{Plan, Step, Verb};

/// Why a plan must not be executed. Always a defect of the planner, never of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsafe {
    /// A component is replaced, and nothing serves meanwhile.
    #[error("{0}: nothing would serve meanwhile")]
    NoBridge(Step),
    /// An API server is replaced, and the `kubernetes` Service would be empty meanwhile.
    #[error("{0}: the kubernetes Service would be empty meanwhile")]
    NotAnnounced(Step),
    /// A component is replaced by a DaemonSet that was not written yet.
    #[error("{0}: its DaemonSet was not written before")]
    NotApplied(Step),
    /// A static manifest is put back while the DaemonSet still has the node.
    #[error("{0}: two copies would want one port")]
    TwoCopies(Step),
    /// A DaemonSet, or what is kept on a node, is removed while something there is self-hosted or will be again.
    #[error("{0}: it is still needed")]
    StillNeeded(Step),
    /// An API server's static manifest is taken away, and after a power cut nothing would start another.
    #[error("{0}: nothing would start an API server after a power cut")]
    NoStandby(Step),
    /// A swap begins before the one before it has ended.
    #[error("{0}: the swap before it has not ended")]
    Overlap(Step),
    /// A swap does not end.
    #[error("{0}: its swap is never ended")]
    Open(Step),
    /// etcd is upgraded, and what it has was not saved before.
    #[error("{0}: no snapshot of etcd was taken before")]
    NoSnapshot(Step),
    /// More than one member of etcd at a time, or one member twice.
    #[error("{0}: etcd's members must go one at a time, each once")]
    Members(Step),
    /// etcd is upgraded when a component was touched already.
    #[error("{0}: etcd comes before any component")]
    EtcdLate(Step),
    /// The version skew policy wants another order of components.
    #[error("{0}: {1} must be replaced before it")]
    Order(Step, Component),
    /// A DaemonSet would do what no rule of ours admits.
    #[error("daemonset {0}: {1}")]
    DaemonSet(&'static str, &'static str),
}

/// Reads the whole plan; returns what is wrong first.
pub fn verify(plan: &Plan) -> Result<(), Unsafe> {
    for component in plan.templates.keys() {
        let daemonset = plan.daemonset(*component).unwrap_or_default();
        if let Some(problem) = daemonset_problem(*component, &daemonset) {
            return Err(Unsafe::DaemonSet(component.daemonset_name(), problem));
        }
    }
    verify_removals(plan)?;
    verify_standbys(plan)?;
    verify_etcd(&plan.steps)?;
    // Where nothing of a component is, nothing can be taken away, and its standby serves already.
    let is_lost = |component: Component, node: &str| {
        plan.nodes.get(node).is_some_and(|it| it.standby && !it.hosting.contains_key(&component))
    };
    verify_steps(&plan.steps, plan.goal.goes_back(), is_lost)
}

/// No DaemonSet is deleted that runs a component on a node which is not taken from it before, and no node loses what is
/// kept on it, its standby above all, while it runs one.
fn verify_removals(plan: &Plan) -> Result<(), Unsafe> {
    for (index, removal) in plan.steps.iter().enumerate() {
        if !matches!(removal.verb, Verb::Remove | Verb::Clean) {
            continue;
        }
        let (before, after) = plan.steps.split_at(index);
        let concerns = |component: Component, node: &str| {
            removal.component.is_none_or(|it| it == component)
                && removal.node.as_deref().is_none_or(|it| it == node)
        };
        for (name, node) in &plan.nodes {
            let hosted = node
                .hosting
                .iter()
                .filter(|(_, hosting)| matches!(hosting, Hosting::SelfHosted | Hosting::Mixed));
            for (component, _) in hosted.filter(|(component, _)| concerns(**component, name)) {
                let released = before.iter().any(|step| {
                    step.verb == Verb::Withdraw
                        && step.component == Some(*component)
                        && step.node.as_ref() == Some(name)
                });
                if !released {
                    return Err(Unsafe::StillNeeded(removal.clone()));
                }
            }
        }
        let again = after[1..].iter().any(|step| match (step.component, step.node.as_deref()) {
            (Some(component), Some(node)) => concerns(component, node),
            _ => false,
        });
        if again {
            return Err(Unsafe::StillNeeded(removal.clone()));
        }
    }
    Ok(())
}

/// No API server's static manifest is taken away before its node has a standby.
fn verify_standbys(plan: &Plan) -> Result<(), Unsafe> {
    for (index, step) in plan.steps.iter().enumerate() {
        let (Verb::Retire, Some(Component::ApiServer), Some(node)) =
            (step.verb, step.component, step.node.as_deref())
        else {
            continue;
        };
        let written = plan.steps[..index]
            .iter()
            .any(|before| before.verb == Verb::Checkpoint && before.node.as_deref() == Some(node));
        if !written && plan.nodes.get(node).is_none_or(|node| !node.standby) {
            return Err(Unsafe::NoStandby(step.clone()));
        }
    }
    Ok(())
}

/// etcd's members go one at a time, after a snapshot, before any component.
fn verify_etcd(steps: &[Step]) -> Result<(), Unsafe> {
    for (index, step) in steps.iter().enumerate().filter(|(_, step)| step.verb == Verb::UpgradeEtcd) {
        let before = &steps[..index];
        if !before.iter().any(|step| step.verb == Verb::Snapshot) {
            return Err(Unsafe::NoSnapshot(step.clone()));
        }
        if step.node.is_none() || before.contains(step) {
            return Err(Unsafe::Members(step.clone()));
        }
        if before.iter().any(|step| step.component.is_some()) {
            return Err(Unsafe::EtcdLate(step.clone()));
        }
    }
    Ok(())
}

/// `back` for the way to an older version, on which the order of components is the other way round.
fn verify_steps(steps: &[Step], back: bool, is_lost: impl Fn(Component, &str) -> bool) -> Result<(), Unsafe> {
    let mut open: Option<Swap> = None;
    let mut applied = Vec::new();
    let mut last = None;
    for step in steps {
        let (Some(component), Some(node)) = (step.component, step.node.as_deref()) else {
            match &open {
                Some(_) if step.verb != Verb::Adopt => return Err(Unsafe::Overlap(step.clone())),
                _ => continue,
            }
        };
        if let Some(before) =
            last.filter(|before| if back { *before < component } else { *before > component })
        {
            return Err(Unsafe::Order(Step { component: Some(before), ..step.clone() }, component));
        }
        last = Some(component);
        let swap = match &mut open {
            Some(swap) if swap.component == component && swap.node == node => swap,
            Some(_) => return Err(Unsafe::Overlap(step.clone())),
            None if step.verb == Verb::HandOver => continue,
            None => open.insert(Swap::begin(step, component, node, is_lost(component, node))),
        };
        match step.verb {
            Verb::Bridge => swap.serves = Meanwhile::Bridge,
            Verb::Announce => swap.announced = true,
            Verb::Apply => applied.push(component),
            Verb::Retire | Verb::Delete | Verb::Withdraw => {
                if swap.serves == Meanwhile::Nobody {
                    return Err(Unsafe::NoBridge(step.clone()));
                }
                let by_bridge = swap.serves == Meanwhile::Bridge;
                if component == Component::ApiServer && by_bridge && !swap.announced {
                    return Err(Unsafe::NotAnnounced(step.clone()));
                }
                if step.verb == Verb::Withdraw {
                    swap.withdrawn = true;
                } else if !applied.contains(&component) {
                    return Err(Unsafe::NotApplied(step.clone()));
                }
                swap.proven = false;
            }
            Verb::Start if swap.serves == Meanwhile::Standby => {}
            Verb::Await if swap.serves == Meanwhile::Standby => open = None,
            Verb::Await => swap.proven = true,
            Verb::Release if swap.proven => open = None,
            Verb::Start | Verb::Release => return Err(Unsafe::NoBridge(step.clone())),
            Verb::Restore if !swap.withdrawn => return Err(Unsafe::TwoCopies(step.clone())),
            Verb::Restore => swap.proven = false,
            Verb::Snapshot
            | Verb::UpgradeEtcd
            | Verb::HandOver
            | Verb::Adopt
            | Verb::Checkpoint
            | Verb::Renew
            | Verb::Record
            | Verb::Remove
            | Verb::Clean => {}
        }
    }
    open.map_or(Ok(()), |swap| Err(Unsafe::Open(swap.first)))
}

/// Who serves while a component is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    /// Nobody, as far as the plan has come.
    Nobody,
    /// The bridge.
    Bridge,
    /// The standby: the component was away before the plan began.
    Standby,
}

/// A swap between its first step and its release.
struct Swap {
    component: Component,
    node: String,
    first: Step,
    serves: Meanwhile,
    announced: bool,
    /// Whether the DaemonSet was told to leave the node.
    withdrawn: bool,
    /// Whether the component itself was seen ready since it was last touched.
    proven: bool,
}

impl Swap {
    fn begin(step: &Step, component: Component, node: &str, is_lost: bool) -> Self {
        Self {
            component,
            node: node.to_owned(),
            first: step.clone(),
            serves: if is_lost { Meanwhile::Standby } else { Meanwhile::Nobody },
            announced: false,
            withdrawn: false,
            proven: false,
        }
    }
}

fn daemonset_problem(component: Component, daemonset: &DaemonSet) -> Option<&'static str> {
    let spec = &daemonset.spec;
    let Some(pod) = &spec.template.spec else { return Some("has no Pod spec") };
    let labels = spec.template.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
    let labels = labels.unwrap_or_default();
    let selector = spec.selector.match_labels.clone().unwrap_or_default();
    let strategy = spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    let node = pod.node_selector.clone().unwrap_or_default();
    if strategy != Some("OnDelete") {
        Some("would roll by itself on an edit")
    } else if selector.is_empty() || selector.iter().any(|(key, value)| labels.get(key) != Some(value)) {
        Some("does not select its own Pods")
    } else if node.get(labels::node_label(component)).map(String::as_str) != Some("true") {
        Some("would start on nodes that were not handed to it")
    } else if pod.host_network != Some(true) {
        Some("is not on the host's network")
    } else if pod.containers.iter().any(|container| container.ports.is_some()) {
        Some("declares ports, which block a second Pod on the node")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(component: Component, node: &str, verbs: &[Verb]) -> Vec<Step> {
        verbs
            .iter()
            .map(|verb| Step { verb: *verb, component: Some(component), node: Some(node.to_owned()) })
            .collect()
    }

    #[test]
    fn finds_what_must_never_happen() {
        use Component::{ApiServer, Scheduler};
        use Verb::{
            Announce, Apply, Await, Bridge, Delete, HandOver, Release, Remove, Restore, Retire, Start,
            Withdraw,
        };
        let whole = [Bridge, Announce, Apply, Delete, Await, Release];
        let check = |steps: &[Step], expected: Option<&str>| {
            let found = verify_steps(steps, false, |_, node| node == "lost").err().map(|e| format!("{e:?}"));
            let name = found.as_deref().map(|text| text.split('(').next().unwrap_or_default());
            assert_eq!(name, expected, "{steps:?}");
        };
        check(&[], None);
        check(&steps(ApiServer, "a", &whole), None);
        check(&[steps(ApiServer, "a", &whole), steps(ApiServer, "b", &whole)].concat(), None);
        check(&steps(Scheduler, "a", &[Bridge, Apply, Retire, HandOver, Await, Release, HandOver]), None);
        check(&steps(ApiServer, "a", &[Await, Release]), None);
        check(&steps(ApiServer, "a", &[Announce, Apply, Delete, Await, Release]), Some("NoBridge"));
        check(&steps(ApiServer, "a", &[Bridge, Apply, Delete, Await, Release]), Some("NotAnnounced"));
        check(&steps(ApiServer, "a", &[Bridge, Announce, Delete, Await, Release]), Some("NotApplied"));
        check(&steps(ApiServer, "a", &[Bridge, Announce, Apply, Delete, Release]), Some("NoBridge"));
        check(&steps(ApiServer, "a", &whole[..5]), Some("Open"));
        check(&[steps(ApiServer, "a", &whole[..3]), steps(ApiServer, "b", &whole)].concat(), Some("Overlap"));
        let unpivot = [Bridge, Announce, Withdraw, Restore, Await, Release];
        check(&steps(ApiServer, "a", &unpivot), None);
        check(&steps(ApiServer, "a", &unpivot[1..]), Some("NoBridge"));
        check(&steps(ApiServer, "a", &[Bridge, Withdraw, Restore, Await, Release]), Some("NotAnnounced"));
        check(&steps(ApiServer, "a", &[Bridge, Announce, Restore, Await, Release]), Some("TwoCopies"));
        check(&steps(ApiServer, "a", &[Bridge, Announce, Withdraw, Restore, Release]), Some("NoBridge"));
        check(&steps(ApiServer, "lost", &[Apply, Start, Await]), None);
        check(&steps(ApiServer, "lost", &[Withdraw, Restore, Await]), None);
        check(&steps(ApiServer, "a", &[Apply, Start, Await]), Some("NoBridge"));
        check(&steps(ApiServer, "a", &[Withdraw, Restore, Await]), Some("NoBridge"));
        let remove = Step { verb: Remove, component: Some(ApiServer), node: None };
        let early = [steps(ApiServer, "a", &unpivot[..4]), vec![remove]].concat();
        check(&early, Some("Overlap"));
        let late = [steps(Scheduler, "a", &[Await, Release]), steps(ApiServer, "a", &whole)].concat();
        check(&late, Some("Order"));
        assert_eq!(
            verify_steps(&late, true, |_, _| false),
            Ok(()),
            "on the way back the API servers come last"
        );
    }

    #[test]
    fn etcds_members_go_one_at_a_time_after_a_snapshot() {
        let step =
            |verb, node: Option<&str>| Step { verb, component: None, node: node.map(ToOwned::to_owned) };
        let snapshot = || step(Verb::Snapshot, Some("a"));
        let upgrade = |node| step(Verb::UpgradeEtcd, Some(node));
        let swap = || Step { component: Some(Component::ApiServer), ..step(Verb::Bridge, Some("a")) };
        assert_eq!(verify_etcd(&[snapshot(), upgrade("a"), upgrade("b"), swap()]), Ok(()));
        assert_eq!(verify_etcd(&[upgrade("a")]), Err(Unsafe::NoSnapshot(upgrade("a"))));
        assert_eq!(verify_etcd(&[upgrade("a"), snapshot()]), Err(Unsafe::NoSnapshot(upgrade("a"))));
        let all = step(Verb::UpgradeEtcd, None);
        assert_eq!(verify_etcd(&[snapshot(), all.clone()]), Err(Unsafe::Members(all)));
        let twice = [snapshot(), upgrade("a"), upgrade("a")];
        assert_eq!(verify_etcd(&twice), Err(Unsafe::Members(upgrade("a"))));
        assert_eq!(verify_etcd(&[snapshot(), swap(), upgrade("a")]), Err(Unsafe::EtcdLate(upgrade("a"))));
    }

    #[test]
    fn what_is_needed_after_a_power_cut_is_not_missing() {
        use crate::plan::tests::{IMAGE, kubeadm};
        let mut plan = crate::plan::pivot::plan(&kubeadm(1, "v1.36.3"), IMAGE, None).unwrap();
        let clean = Step { verb: Verb::Clean, component: None, node: Some("cp1".into()) };
        let mut early = plan.clone();
        early.steps.insert(0, clean.clone());
        assert_eq!(verify(&early), Err(Unsafe::StillNeeded(clean)), "the node is needed again later");
        plan.steps.retain(|step| step.verb != Verb::Checkpoint);
        assert!(matches!(verify(&plan), Err(Unsafe::NoStandby(_))));
        plan.nodes.get_mut("cp1").unwrap().standby = true;
        assert_eq!(verify(&plan), Ok(()));
    }
}
