//! Planning a refresh of checkpoints: what runs now is written into every standby that does not hold it, or is damaged.
//!
//! Invariant: only what has served is written. A DaemonSet that was edited and not rolled is refused.

use std::collections::BTreeMap;

use selfhost_core::component::Component;
use selfhost_core::finding::{Code, Finding};

use super::pivot::current_template;
use super::upgrade::not_self_hosted;
use super::{Goal, Plan, around, survey};
use crate::inventory::{self, Inventory};

/// The plan that brings the checkpoints up to date, or what speaks against it. The abort of it is a plan without steps:
/// a checkpoint of what has served is right, whoever began it.
pub fn plan(inventory: &Inventory, goal: Goal, node_image: &str) -> Result<Plan, Vec<Finding>> {
    let (nodes, mut findings) = survey(inventory, &goal);
    let mut templates = BTreeMap::new();
    for component in Component::ALL {
        if let Some(finding) = not_self_hosted(inventory, component) {
            findings.push(finding);
            continue;
        }
        findings.extend(drift(inventory, component));
        match current_template(inventory, component) {
            Ok(template) => drop(templates.insert(component, template)),
            Err(more) => findings.extend(more),
        }
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    let aborts = matches!(goal, Goal::Abort(_));
    let plan = Plan {
        goal,
        steps: Vec::new(),
        templates,
        nodes,
        around: around(inventory, node_image),
        record: None,
        etcd: None,
    };
    Ok(plan.with_checkpoints(inventory, |_| !aborts))
}

/// A DaemonSet that was edited, and runs what it said before: what has not served is not to be kept, nor to be rolled by
/// the way.
pub(super) fn drift(inventory: &Inventory, component: Component) -> Option<Finding> {
    let daemonset = inventory.daemonsets.get(&component)?;
    let stale = inventory::drift::stale_nodes(inventory, component, daemonset);
    if stale.is_empty() {
        return None;
    }
    let subject = format!("daemonset kube-system/{}", component.daemonset_name());
    let message = format!("was edited, and {} still run what it said before", stale.join(", "));
    let mut finding = Finding::new(Code::Drift, subject, message);
    finding.severity = Code::Unhealthy.severity();
    Some(finding.hint("what has not served is not kept: roll it first, with kubectl selfhost upgrade"))
}
