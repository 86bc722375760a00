//! Planning an unpivot: from DaemonSets back to static Pods, with the manifests that the pivot kept.
//!
//! Invariant: a manifest is put back only after the DaemonSet's Pod on that node is gone, so that two copies never
//! want one port; a DaemonSet is deleted only when no node has its Pod any more.

use std::collections::BTreeMap;

use selfhost_core::component::{Component, Hosting};
use selfhost_core::finding::{Code, Finding};
use selfhost_core::labels;

use super::pivot::current_template;
use super::{
    Goal, OtherImage, Plan, PlannedNode, Scope, Step, Verb, around, bridge_of, is_lost, is_ready, survey,
};
use crate::inventory::{Instance, Inventory};
use crate::template::kept::{self, Kept};

/// How far an unpivot goes, and what it gives up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// What was changed in a DaemonSet since the pivot may be lost.
    pub discard_changes: bool,
    /// What a pivot that is aborted found static: that alone goes back.
    pub undo: Option<&'a Scope>,
}

/// The plan that makes every component a static Pod again, or what speaks against it.
///
/// Components that are static already are left alone, so that an unpivot that was interrupted is finished by the same
/// command.
pub fn plan(inventory: &Inventory, node_image: &str, options: Options<'_>) -> Result<Plan, Vec<Finding>> {
    let goal = match options.undo {
        None => Goal::Unpivot,
        Some(_) => Goal::Abort(Box::new(Goal::Pivot)),
    };
    let (mut nodes, mut findings) = survey(inventory, &goal);
    if options.undo.is_none() && super::guard::credential(inventory).is_some() {
        // The manifests that come back have no certificate for it, so that it would deny what they ask.
        findings.push(
            Finding::new(
                Code::GuardInstalled,
                "guard",
                "is installed, and knows no API server that is a static Pod",
            )
            .hint("kubectl selfhost guard uninstall"),
        );
    }
    let mut templates = BTreeMap::new();
    for component in inventory.daemonsets.keys() {
        // Only what runs is asked for here: static Pods next to it may differ, and are not moved.
        let mut hosted = inventory.clone();
        hosted.instances.retain(|instance| instance.hosting == Hosting::SelfHosted);
        match current_template(&hosted, *component) {
            Ok(template) => drop(templates.insert(*component, template)),
            Err(more) => findings.extend(more),
        }
    }
    let mut steps = Vec::new();
    for component in Component::ALL {
        let goes = |node: &str| options.undo.is_none_or(|goes| goes.contains(&(component, node.to_owned())));
        let Some(template) = templates.get(&component) else {
            findings.extend(nodes.keys().filter_map(|node| without_template(inventory, component, node)));
            continue;
        };
        let runs = Kept::of(component, template);
        for (name, node) in nodes.iter_mut().filter(|(name, _)| goes(name)) {
            let swap = swap(inventory, component, name);
            if swap.iter().any(|step| step.verb == Verb::Restore) {
                let kept = inventory.control_plane.get(name).and_then(|node| Kept::on(component, node));
                // An operation that is undone is undone whatever was edited meanwhile.
                let discard = options.discard_changes || options.undo.is_some();
                findings.extend(put_back(component, name, node, kept, runs.as_ref(), discard));
            }
            steps.extend(swap);
        }
        let stays = nodes.keys().any(|node| !goes(node) && hosts(inventory, component, node));
        if !stays {
            steps.push(Step { verb: Verb::Remove, component: Some(component), node: None });
        }
    }
    let open = inventory.operation.is_some();
    for name in nodes.keys() {
        let goes = |component| options.undo.is_none_or(|goes| goes.contains(&(component, name.clone())));
        let stays = Component::ALL.iter().any(|c| !goes(*c) && hosts(inventory, *c, name));
        if !stays && (open || !steps.is_empty() || is_marked(inventory, name)) {
            steps.push(Step { verb: Verb::Clean, component: None, node: Some(name.clone()) });
        }
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    Ok(Plan {
        goal,
        steps,
        templates,
        nodes,
        around: around(inventory, node_image),
        record: None,
        etcd: None,
    })
}

/// What is self-hosted by somebody else's hand: there is no DaemonSet of ours from which to start.
fn without_template(inventory: &Inventory, component: Component, node: &str) -> Option<Finding> {
    let mut here = inventory.instances_on(component, node);
    here.any(|instance| instance.hosting == Hosting::SelfHosted).then(|| {
        Finding::new(Code::NotSelfHosted, format!("{component} on {node}"), "has no DaemonSet of this tool's")
            .hint("kubectl selfhost status -o wide")
    })
}

/// Decides with which image the kept manifest is put back, or why it is not.
fn put_back(
    component: Component,
    name: &str,
    node: &mut PlannedNode,
    kept: Option<Kept>,
    runs: Option<&Kept>,
    discard: bool,
) -> Option<Finding> {
    let changed = match (&kept, runs) {
        (Some(kept), Some(runs)) if kept.shape == runs.shape => None,
        (Some(_), _) => Some("was changed since the pivot in more than its version"),
        (None, _) => Some("has no note on the node of what it was made from"),
    };
    if let (Some(changed), false) = (changed, discard) {
        let hint =
            "kubectl selfhost unpivot --discard-changes puts the kept manifest back without the change";
        return Some(
            Finding::new(Code::ChangedSincePivot, format!("{component} on {name}"), changed).hint(hint),
        );
    }
    if let (Some(kept), Some(runs)) = (kept, runs)
        && kept.image != runs.image
    {
        node.images.insert(component, OtherImage { kept: kept.image, runs: runs.image.clone() });
    }
    None
}

/// Whether the component runs from a DaemonSet on the node, or would.
fn hosts(inventory: &Inventory, component: Component, node: &str) -> bool {
    let mut here = inventory.instances_on(component, node);
    here.any(|instance| instance.hosting == Hosting::SelfHosted) || is_labelled(inventory, component, node)
}

fn is_labelled(inventory: &Inventory, component: Component, node: &str) -> bool {
    let labels = inventory.control_plane.get(node).and_then(|node| node.metadata.labels.as_ref());
    labels.is_some_and(|labels| labels.contains_key(labels::node_label(component)))
}

/// Whether the node carries anything that a pivot wrote.
fn is_marked(inventory: &Inventory, node: &str) -> bool {
    let annotations = inventory.control_plane.get(node).and_then(|node| node.metadata.annotations.as_ref());
    let noted = |component| annotations.is_some_and(|all| all.contains_key(&kept::annotation(component)));
    inventory.checkpoint(node).is_some()
        || Component::ALL.into_iter().any(|it| noted(it) || is_labelled(inventory, it, node))
}

/// The steps that make `component` static on `node`, or finish that, from what is there now.
fn swap(inventory: &Inventory, component: Component, node: &str) -> Vec<Step> {
    let instances: Vec<&Instance> = inventory.instances_on(component, node).collect();
    let ready = instances.iter().any(|i| i.hosting == Hosting::StaticPod && is_ready(&i.pod));
    let replaced = ready && !hosts(inventory, component, node);
    let bridged = inventory.bridges.iter().any(|pod| bridge_of(pod) == Some((component, node.to_owned())));
    let verbs: &[Verb] = match (component, replaced, bridged) {
        _ if is_lost(inventory, component, node) => &[Verb::Withdraw, Verb::Restore, Verb::Await],
        (_, true, false) => &[],
        (Component::ApiServer, true, true) => &[Verb::Await, Verb::Release],
        (_, true, true) => &[Verb::Await, Verb::Release, Verb::HandOver],
        (Component::ApiServer, false, _) => {
            &[Verb::Bridge, Verb::Announce, Verb::Withdraw, Verb::Restore, Verb::Await, Verb::Release]
        }
        // The bridge has to lead before the static Pod asks: whose a lease is that both could have cannot be told.
        (_, false, _) => &[
            Verb::Bridge,
            Verb::Withdraw,
            Verb::HandOver,
            Verb::Restore,
            Verb::Await,
            Verb::Release,
            Verb::HandOver,
        ],
    };
    super::steps(component, node, verbs)
}

#[cfg(test)]
#[path = "unpivot_tests.rs"]
mod tests;
