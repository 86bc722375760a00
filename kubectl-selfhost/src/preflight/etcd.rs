//! Asks each member that a plan upgrades whether it can be: the target image by running it, and etcd by its own word.
//!
//! The Pods are those that do the upgrade later, told to look only: so the image is on the node before anything is
//! touched.

use std::collections::BTreeMap;

use futures::future::join_all;
use kube::Client;
use selfhost_core::finding::{Code, Finding};

use super::inspect::NodeFacts;
use crate::execute::etcd::{Outcome, Report, task};
use crate::node_task::{self, TaskError};
use crate::plan::etcd::{Etcd, Member};
use crate::plan::{Plan, Verb};

/// Asks all members at the same time.
pub async fn check(
    client: &Client,
    plan: &Plan,
    etcd: &Etcd,
    facts: &BTreeMap<String, NodeFacts>,
) -> Vec<Finding> {
    let planned = |node: &str| {
        plan.steps.iter().any(|step| step.verb == Verb::UpgradeEtcd && step.node.as_deref() == Some(node))
    };
    let members = etcd.members.iter().filter(|(node, _)| planned(node));
    let asked = members.filter_map(|(node, member)| {
        let manifests = &facts.get(node)?.manifest_dir;
        Some(ask(client, etcd, member, node, &plan.around.node_image, manifests))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn ask(
    client: &Client,
    etcd: &Etcd,
    member: &Member,
    node: &str,
    node_image: &str,
    manifests: &str,
) -> Option<Finding> {
    let (task, pod) = task(etcd, member, node, node_image, manifests, &["--check".to_owned()]);
    finding(node, node_task::run_while_away(client, &task, &pod).await)
}

/// What its answer speaks against. Pure.
fn finding(node: &str, answer: Result<Report, TaskError>) -> Option<Finding> {
    let subject = format!("etcd on {node}");
    match answer {
        Ok(report) if report.outcome == Outcome::Refused => {
            let why = report.reason.unwrap_or_default();
            Some(
                Finding::new(Code::Unhealthy, subject, format!("is not ready to be upgraded: {why}"))
                    .hint("every member must be healthy before the first is touched"),
            )
        }
        Ok(_) => None,
        Err(TaskError::NotStarted { message, .. }) => Some(
            Finding::new(Code::ImagePull, subject, message)
                .hint("check the tag and the repository, or load the image on the node"),
        ),
        Err(TaskError::Failed { message, hint, .. }) => {
            let finding = Finding::new(Code::EtcdUnfit, subject, message);
            Some(finding.hint(hint.unwrap_or_else(|| "look at the image and the static Pod".to_owned())))
        }
        Err(error @ (TaskError::Api(_) | TaskError::Busy { .. })) => Some(
            Finding::new(Code::Unhealthy, subject, format!("could not be asked: {error}"))
                .hint(format!("kubectl -n kube-system describe pod selfhost-upgrade-etcd-{node}")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_has_its_finding() {
        let report = |outcome| {
            Ok(Report {
                outcome,
                version: "3.6.16".into(),
                away_ms: 0,
                reason: Some("x".into()),
                words: None,
            })
        };
        let failed = || TaskError::Failed {
            task: "upgrade-etcd".into(),
            node: "cp1".into(),
            message: "image a has etcd 3.6.8, and its tag says 3.6.16".into(),
            hint: None,
        };
        let not_started = || TaskError::NotStarted {
            task: "upgrade-etcd".into(),
            node: "cp1".into(),
            message: "ErrImageNeverPull".into(),
        };
        for (answer, expected) in [
            (report(Outcome::Ready), None),
            (report(Outcome::Refused), Some(Code::Unhealthy)),
            (Err(not_started()), Some(Code::ImagePull)),
            (Err(failed()), Some(Code::EtcdUnfit)),
        ] {
            assert_eq!(finding("cp1", answer).map(|finding| finding.code), expected);
        }
    }
}
