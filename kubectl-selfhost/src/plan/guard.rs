//! Planning what a guard asks of the API servers: that they have a certificate by which it knows them, or none any
//! more. Versions stay as they are.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use selfhost_core::component::Component;
use selfhost_core::finding::{Code, Finding};

use super::pivot::current_template;
use super::refresh::drift;
use super::upgrade::not_self_hosted;
use super::{Goal, Plan, Step, Verb, around, preconditions, survey, swap};
use crate::inventory::Inventory;
use crate::template;

/// The plan with whose end every API server reads `credential`, or none.
pub fn plan(inventory: &Inventory, credential: Option<&str>, node_image: &str) -> Result<Plan, Vec<Finding>> {
    let goal = if credential.is_some() { Goal::Arm } else { Goal::Disarm };
    let (nodes, mut findings) = survey(inventory, &goal);
    let mut templates = BTreeMap::new();
    for component in Component::ALL {
        if let Some(finding) = not_self_hosted(inventory, component) {
            findings.push(finding);
            continue;
        }
        // What the operation itself has written is not rolled yet.
        if inventory.operation.is_none() {
            findings.extend(drift(inventory, component));
        }
        match current_template(inventory, component) {
            Ok(template) => drop(templates.insert(component, template)),
            Err(more) => findings.extend(more),
        }
    }
    if let Some(template) = templates.remove(&Component::ApiServer) {
        let changed = match credential {
            Some(credential) => template::guard::arm(template, credential),
            None => Ok(template::guard::disarm(template)),
        };
        match changed {
            Ok(template) => drop(templates.insert(Component::ApiServer, template)),
            Err(error) => findings.push(
                Finding::new(
                    Code::AdmissionConfigured,
                    format!("daemonset kube-system/{}", Component::ApiServer.daemonset_name()),
                    error.to_string(),
                )
                .hint(
                    "take --admission-control-config-file away; it can name one file, and the guard needs it",
                ),
            ),
        }
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    let mut steps = preconditions::adoptions(inventory);
    let wanted = templates.get(&Component::ApiServer).and_then(|template| template.metadata.as_ref());
    let hash = wanted.and_then(template::sealed_hash).unwrap_or_default();
    for node in nodes.keys() {
        steps.extend(swap(inventory, Component::ApiServer, node, hash));
    }
    let plan = Plan {
        goal,
        steps,
        templates,
        nodes,
        around: around(inventory, node_image),
        record: None,
        etcd: None,
    };
    let mut plan = plan.with_checkpoints(inventory, |_| true);
    if credential.is_none() {
        renew(inventory, &mut plan);
    }
    Ok(plan)
}

/// No generation of a standby is to name a credential that will be removed: where one does, both are written.
fn renew(inventory: &Inventory, plan: &mut Plan) {
    let names_one = |pod: &Pod| {
        let template = template::standby::templates(pod).remove(&Component::ApiServer);
        template.is_some_and(|template| template::guard::credential(&template).is_some())
    };
    let nodes: Vec<String> = plan
        .nodes
        .keys()
        .filter(|node| inventory.standbys.get(*node).into_iter().flatten().any(names_one))
        .cloned()
        .collect();
    plan.steps.retain(|step| {
        step.verb != Verb::Checkpoint || step.node.as_ref().is_none_or(|node| !nodes.contains(node))
    });
    plan.steps.extend(nodes.into_iter().map(|node| Step {
        verb: Verb::Renew,
        component: None,
        node: Some(node),
    }));
}

/// The credential that the API servers' DaemonSet names.
pub fn credential(inventory: &Inventory) -> Option<String> {
    let daemonset = inventory.daemonsets.get(&Component::ApiServer)?;
    template::guard::credential(&daemonset.spec.template)
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
