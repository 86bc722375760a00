//! What the flags of compatibility versions have to say to an upgrade: whether it can be made in two steps, and whether
//! what is there goes with the target.
//!
//! Invariant: pure. A flag of the operator's own is kept or refused, never changed.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use selfhost_core::component::Component;
use selfhost_core::emulation;
use selfhost_core::finding::{Code, Finding};
use selfhost_core::version::{KubeVersion, MinorVersion};
use selfhost_core::{flags, labels};

use super::{back, preconditions};
use crate::inventory::Inventory;
use crate::template;

/// The minor that `target` is to emulate in the first of two steps: the one before, which everything behaves like now.
pub(super) fn first_step(inventory: &Inventory, target: &KubeVersion) -> Result<MinorVersion, Vec<Finding>> {
    let plainly = || format!("in one step: kubectl selfhost upgrade {target}");
    let Some(before) = emulation::before(target) else {
        return Err(vec![
            Finding::new(
                Code::NotEmulable,
                format!("version {target}"),
                format!("does not emulate the minor before it: v{} is the first that does", emulation::FIRST),
            )
            .hint(plainly()),
        ]);
    };
    let mut findings: Vec<Finding> = inventory
        .instances
        .iter()
        .filter_map(|instance| Some((instance, preconditions::running(inventory, instance)?)))
        .filter(|(_, runs)| before < runs.behaves_like())
        .map(|(instance, runs)| {
            Finding::new(
                Code::NotEmulable,
                format!("{} on {}", instance.component, instance.node),
                format!("runs {runs}, which is no minor behind {target}: there is nothing to emulate"),
            )
            .hint(plainly())
        })
        .collect();
    // The first step is made for the way back, which these have not.
    findings.extend(back::alpha_apis(inventory, &format!("v{before}")));
    if findings.is_empty() { Ok(before) } else { Err(findings) }
}

/// What speaks against bringing `template`, which is there now, to `target`, where it is to emulate `emulated`.
pub(super) fn misfits(
    component: Component,
    template: &PodTemplateSpec,
    target: &KubeVersion,
    emulated: Option<MinorVersion>,
) -> Vec<Finding> {
    let subject = format!("daemonset {}/{}", labels::NAMESPACE, component.daemonset_name());
    let edit = format!("kubectl -n {} edit daemonset {}", labels::NAMESPACE, component.daemonset_name());
    let command = template::command_line(component, template);
    let misfit = |message: String| Finding::new(Code::EmulationMisfit, subject.clone(), message);
    let by_upgrade = template::emulation::of_upgrade(component, template);
    let mut findings = Vec::new();
    if let Some(minor) = by_upgrade {
        let first = template::emulation::running(component, template).map(|runs| runs.binary);
        if let Some(first) = first.filter(|first| first.minor_version() < target.minor_version()) {
            findings.push(
                Finding::new(
                    Code::EmulationOpen,
                    subject.clone(),
                    format!(
                        "emulates {minor} since `upgrade {first} --emulate`, which is to be finished first"
                    ),
                )
                .hint(format!("kubectl selfhost upgrade {first}")),
            );
        }
    } else if emulated.is_some() && flags::value(&command, emulation::FLAG).is_some() {
        findings.push(
            misfit(format!("has an --{} of its own, which decides what it emulates", emulation::FLAG)).hint(
                format!("keep it, in one step: kubectl selfhost upgrade {target}; or take it away: {edit}"),
            ),
        );
    }
    let oldest = emulation::oldest_of(target);
    let own = (by_upgrade.is_none() && emulated.is_none()).then_some(emulation::FLAG);
    for flag in own.into_iter().chain([emulation::MIN_COMPATIBILITY]) {
        if let Some(minor) = emulation::named(&command, flag).filter(|minor| *minor < oldest) {
            findings.push(
                misfit(format!("has --{flag}={minor}, and {target} goes back to {oldest} only"))
                    .hint(format!("change the flag first: {edit}")),
            );
        }
    }
    let switches = by_upgrade.is_some() && emulated.is_none();
    for flag in emulation::ONLY_WHILE_EMULATING {
        if switches && flags::value(&command, flag).is_some_and(|value| value != "false") {
            findings.push(
                misfit(format!("has --{flag}, which {target} accepts only while it emulates"))
                    .hint(format!("take the flag away first: {edit}")),
            );
        }
    }
    findings
}

#[cfg(test)]
#[path = "emulation_tests.rs"]
mod tests;
