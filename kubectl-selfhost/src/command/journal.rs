//! `resume` and `abort`: what to do with the operation that is open, from its journal.
//!
//! Invariant: the journal alone decides. What it names is planned from what is there now, as its own command would.

use k8s_openapi::api::apps::v1::ControllerRevision;
use selfhost_core::finding::Finding;

use crate::cli::global::Global;
use crate::cli::operation::Operation;
use crate::error::Failure;
use crate::exit::Exit;
use crate::inventory::{Inventory, OpenOperation};
use crate::operation::record::Record;
use crate::plan::back::{self, Destination};
use crate::plan::{Goal, Plan, guard, pivot, refresh, unpivot, upgrade};
use crate::terminal::Terminal;

use super::operate::{Job, Operator, Planner};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// To where the operation leads.
    On,
    /// To where it began.
    Back,
}

/// Reads the journal, plans, asks, and goes on or back.
pub(super) async fn run(
    global: &Global,
    args: &Operation,
    way: Way,
    rolls_back: bool,
    terminal: &mut Terminal,
) -> Result<Exit, Failure> {
    let operator = Operator::connect(global, args).await?;
    let inventory = operator.observe().await?;
    let Some(open) = &inventory.operation else {
        return operator.nothing_to_do(terminal, "none", "No operation is open: there is nothing to do.");
    };
    let goal = goal(open, way)?;
    let record = open.record.clone().unwrap_or_default();
    let revisions = match &goal {
        Goal::Rollback(_) => operator.revisions().await?,
        _ => Vec::new(),
    };
    let planner: Planner<'_> =
        &|inventory, pinned| plan(&goal, &record, &revisions, inventory, pinned.unwrap_or(&args.node_image));
    let job = Job { planner, asked: record.asked.clone(), rolls_back };
    operator.run(&job, terminal).await
}

/// The goal of whoever goes that way with the open operation.
fn goal(open: &OpenOperation, way: Way) -> Result<Goal, Failure> {
    let goal: Goal = open.what.parse().map_err(|error: crate::plan::UnknownGoal| {
        Failure::message(error.to_string(), Exit::Failure)
            .with_hint("kubectl -n kube-system get configmap selfhost-operation -o yaml")
    })?;
    Ok(match (way, goal) {
        (Way::Back, goal @ Goal::Abort(_)) | (Way::On, goal) => goal,
        (Way::Back, goal) => Goal::Abort(Box::new(goal)),
    })
}

/// The plan for `goal`, with what was written down when the operation began.
pub(super) fn plan(
    goal: &Goal,
    record: &Record,
    revisions: &[ControllerRevision],
    inventory: &Inventory,
    node_image: &str,
) -> Result<Plan, Vec<Finding>> {
    let unpivot = |undo| unpivot::Options { discard_changes: record.asked.discard_changes, undo };
    match goal {
        Goal::Pivot => pivot::plan(inventory, node_image, None),
        Goal::Unpivot => unpivot::plan(inventory, node_image, unpivot(None)),
        Goal::Upgrade(target) => {
            let asked = &record.asked;
            let repository = asked.image_repository.as_deref();
            upgrade::plan(inventory, target, node_image, repository, asked.etcd.as_ref())
        }
        Goal::Emulate(target) => {
            upgrade::emulate(inventory, target, node_image, record.asked.image_repository.as_deref())
        }
        Goal::Rollback(target) => {
            let destination = back::revisions_of(target, revisions)?;
            let findings = back::skew(inventory, &destination.api_server(target));
            if findings.is_empty() {
                back::plan(inventory, goal.clone(), &destination, node_image)
            } else {
                Err(findings)
            }
        }
        Goal::Refresh => refresh::plan(inventory, Goal::Refresh, node_image),
        // A journal always has it; without it nothing could be named that is there.
        Goal::Arm => {
            let credential = record.asked.guard_credential.as_deref().unwrap_or_default();
            guard::plan(inventory, Some(credential), node_image)
        }
        Goal::Disarm => guard::plan(inventory, None, node_image),
        Goal::Abort(aborted) => match aborted.as_ref() {
            Goal::Refresh => refresh::plan(inventory, goal.clone(), node_image),
            Goal::Pivot => unpivot::plan(inventory, node_image, unpivot(Some(&record.was_static()))),
            Goal::Unpivot => pivot::plan(inventory, node_image, Some(&record.was_static())),
            Goal::Upgrade(_)
            | Goal::Emulate(_)
            | Goal::Rollback(_)
            | Goal::Arm
            | Goal::Disarm
            | Goal::Abort(_) => {
                let destination = Destination {
                    templates: record.templates.clone(),
                    recorded: record.kubeadm_version.clone(),
                };
                back::plan(inventory, goal.clone(), &destination, node_image)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{IMAGE, codes, interrupted, kubeadm, self_hosted};

    #[test]
    fn the_journal_decides_what_is_done() {
        let abort = |what: &str| format!("abort {what}");
        for what in
            ["pivot", "unpivot", "upgrade v1.37.2", "upgrade v1.37.2 --emulate", "upgrade --rollback v1.36.3"]
        {
            let open = |what: &str| interrupted(what);
            assert_eq!(goal(&open(what), Way::On).unwrap().to_string(), what);
            assert_eq!(goal(&open(what), Way::Back).unwrap().to_string(), abort(what));
            // An abort is not aborted: both ways lead back.
            assert_eq!(goal(&open(&abort(what)), Way::On).unwrap().to_string(), abort(what));
            assert_eq!(goal(&open(&abort(what)), Way::Back).unwrap().to_string(), abort(what));
        }
        let failure = goal(&interrupted("certs rotate"), Way::On).unwrap_err();
        assert_eq!(failure.to_string(), "\"certs rotate\" is no operation that this release knows");
    }

    #[test]
    fn what_has_not_begun_is_not_carried_on_by_another_goal() {
        let mut inventory = self_hosted(1, "v1.36.3");
        inventory.operation = Some(interrupted("upgrade v1.37.2"));
        let plan = |goal: &str| plan(&goal.parse().unwrap(), &Record::default(), &[], &inventory, IMAGE);
        assert_eq!(codes(plan("upgrade v1.37.2")), [""; 0]);
        assert_eq!(codes(plan("upgrade v1.37.1")), ["SH0202"]);
        assert_eq!(codes(plan("upgrade v1.37.2 --emulate")), ["SH0202"]);
        assert_eq!(codes(plan("pivot")), ["SH0202"]);
        assert_eq!(codes(plan("abort pivot")), ["SH0202"]);
    }

    /// A journal of an operation that had changed nothing yet: the way back is no way at all.
    #[test]
    fn the_abort_of_what_changed_nothing_changes_nothing() {
        let mut inventory = self_hosted(1, "v1.36.3");
        inventory.operation = Some(interrupted("upgrade v1.37.2"));
        let templates = inventory.daemonsets.iter().map(|(c, d)| (*c, d.spec.template.clone())).collect();
        let record = Record { templates, ..Record::default() };
        let abort = "abort upgrade v1.37.2".parse().unwrap();
        assert!(plan(&abort, &record, &[], &inventory, IMAGE).unwrap().is_empty());

        let mut inventory = self_hosted(1, "v1.36.3");
        inventory.operation = Some(interrupted("unpivot"));
        let abort = "abort unpivot".parse().unwrap();
        assert!(plan(&abort, &Record::default(), &[], &inventory, IMAGE).unwrap().is_empty());

        let mut inventory = kubeadm(1, "v1.36.3");
        inventory.operation = Some(interrupted("pivot"));
        let abort = "abort pivot".parse().unwrap();
        let rest = plan(&abort, &Record::default(), &[], &inventory, IMAGE).unwrap().steps;
        assert!(rest.iter().all(|step| step.verb == crate::plan::Verb::Clean), "{rest:?}");
    }
}
