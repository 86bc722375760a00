//! Carrying a plan out under the lock, measuring meanwhile, and taking an upgrade back that fails.
//!
//! Invariant: the journal is written before the first change, and is there until nothing is half done.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use selfhost_core::component::{Component, Hosting};
use selfhost_prober::{Budget, Handle, Load, Mode, Prober, Report};

use super::super::journal;
use super::allowance::Allowance;
use super::report::{Summary, done};
use super::{Job, Operator, unsafe_plan};
use crate::api::ApiError;
use crate::availability::{aim, reachable, server_address};
use crate::error::Failure;
use crate::execute::ends::Ends;
use crate::execute::{self, Context, ExecuteError, Outcome};
use crate::exit::Exit;
use crate::inventory::Inventory;
use crate::operation::Operation;
use crate::operation::record::Record;
use crate::plan::back;
use crate::plan::{Goal, Plan, Step, Verb, verify};
use crate::preflight::Preflight;
use crate::preflight::inspect::NodeFacts;
use crate::progress::Progress;
use crate::terminal::Terminal;

/// How long a kubelet may take to begin or to end what it finds in its manifests: it looks every twenty seconds, and an API
/// server that ends has a minute.
const FOLLOW: Duration = Duration::from_secs(90);

/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(500);

/// What an operation needs from its beginning to its end.
struct Course<'a> {
    /// How often the Pods had ended that were there at the beginning.
    before: Ends,
    node_image: &'a str,
    preflight: &'a Preflight,
    progress: &'a Progress,
    operation: &'a Operation,
    prober: &'a Handle,
    /// Whether an earlier run had begun it.
    resumed: bool,
}

/// Where a plan leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// To what was asked for. It ends when its budget is spent.
    Forth,
    /// To where it began. No budget: what it costs is less than what it costs to stay.
    Back,
}

/// What is known when the lock is taken.
#[derive(Clone, Copy)]
pub(super) struct Prepared<'a> {
    /// The node image by digest, if some node told it.
    pub(super) pinned: Option<&'a str>,
    /// What the plan was made from.
    pub(super) inventory: &'a Inventory,
    /// The plan to which the user agreed.
    pub(super) plan: &'a Plan,
    /// What pre-flight found out.
    pub(super) preflight: &'a Preflight,
    /// What is shown meanwhile.
    pub(super) progress: &'a Progress,
}

/// An operation that stopped, at its end or before.
struct Ended<'a> {
    plan: &'a Plan,
    outcome: Outcome,
    /// Whether taking it back succeeded; none where that was not tried.
    back: Option<Result<(), Failure>>,
    report: Report,
    operation: Operation,
}

impl Operator<'_> {
    /// Takes the lock, carries the plan out, and tells what it came to.
    pub(super) async fn carry_out(
        &self,
        job: &Job<'_>,
        prepared: &Prepared<'_>,
        terminal: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let Prepared { pinned, inventory, plan, preflight, progress } = *prepared;
        let client = self.connection.client();
        let revisions = if plan.goal.changes_templates() { self.revisions().await? } else { Vec::new() };
        let record = Record::new(inventory, plan, &job.asked, back::running(inventory, &revisions));
        progress.begin("taking the lock");
        let operation = Operation::begin(client, &plan.goal, &record, |by| {
            progress.note(&format!("waiting for {by} to let go of the lock, or to be found dead"));
        })
        .await?;
        // Whoever held the lock until now, and the cluster itself, may have gone on since the plan was made.
        let mut found = self.observe().await?;
        if inventory.operation.is_some() {
            progress.waiting("the kubelets to follow their manifests");
            found = self.settled(found, &preflight.nodes).await?;
        }
        let plan = match (job.planner)(&found, pinned) {
            Ok(again) if again.ends_as(plan) => again,
            Ok(_) | Err(_) => {
                if inventory.operation.is_some() {
                    operation.leave().await
                } else {
                    operation.finish().await
                }?;
                return Err(Failure::message("the cluster changed since the plan was made", Exit::Failure)
                    .with_hint(format!("plan again: {}", plan.command())));
            }
        };
        let plan = &plan;
        let prober = self.prober(plan).await?;
        let node_image = pinned.unwrap_or(&self.args.node_image);
        let before = Ends::of(&found);
        let course = Course {
            before,
            node_image,
            preflight,
            progress,
            operation: &operation,
            prober: &prober,
            resumed: inventory.operation.is_some(),
        };
        let whole = async {
            let outcome = self.execute(&course, plan, Way::Forth).await;
            let back = match &outcome.error {
                Some(error) if job.rolls_back && is_taken_back(&plan.goal, &outcome, error) => {
                    progress.end();
                    progress.note(&format!("{error}"));
                    progress.note(&format!("taking `{}` back", plan.goal));
                    Some(self.take_back(&course, &plan.goal).await)
                }
                _ => None,
            };
            (outcome, back)
        };
        let (outcome, back) = tokio::select! {
            whole = whole => whole,
            Ok(()) = tokio::signal::ctrl_c() => {
                progress.end();
                operation.leave().await?;
                writeln!(
                    terminal.err,
                    "Interrupted. The cluster serves; the operation is not finished. Next: kubectl selfhost resume, or kubectl selfhost abort",
                )?;
                return Ok(Exit::Interrupted);
            }
        };
        progress.end();
        let report = prober.stop().await;
        let ended = Ended { plan, outcome, back, report, operation };
        self.conclude(ended, progress, terminal).await
    }

    /// What is there once the kubelets have followed what an interrupted operation did to their manifests; or what there is
    /// after a while, where one does not.
    async fn settled(
        &self,
        mut found: Inventory,
        nodes: &BTreeMap<String, NodeFacts>,
    ) -> Result<Inventory, Failure> {
        let begin = Instant::now();
        while begin.elapsed() < FOLLOW && !follows_manifests(&found, nodes) {
            tokio::time::sleep(LOOK).await;
            found = self.observe().await?;
        }
        Ok(found)
    }

    /// Gives the lock back, and tells what the operation came to.
    async fn conclude(
        &self,
        ended: Ended<'_>,
        progress: &Progress,
        terminal: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let Ended { plan, outcome, back, report, operation } = ended;
        let mut summary = Summary {
            goal: plan.goal.to_string(),
            changed: outcome.changed,
            seconds: progress.elapsed().as_secs_f64(),
            ..Summary::default()
        };
        let Some(error) = outcome.error else {
            operation.finish().await?;
            summary.availability = Some(report);
            self.write_summary(terminal, &summary, &done(plan, progress.elapsed()))?;
            return Ok(Exit::Success);
        };
        match back {
            Some(Ok(())) => {
                operation.finish().await?;
                let stays = if plan.etcd.is_some() { " Only etcd stays where it came to." } else { "" };
                let text = format!(
                    "`{}` failed and was taken back: the control plane is as it was before, after {:.0} s.{stays}",
                    plan.goal, summary.seconds
                );
                summary.failure = Some(error.to_string());
                summary.rolled_back = true;
                summary.availability = Some(report);
                self.write_summary(terminal, &summary, &text)?;
                Err(Failure::from(error).with_exit(Exit::Failure))
            }
            Some(Err(also)) => {
                self.write_report(terminal, &report)?;
                operation.leave().await?;
                writeln!(terminal.err, "`{}` could not be taken back: {also}", plan.goal)?;
                Err(Failure::from(error)
                    .with_exit(Exit::Failure)
                    .with_hint("once the cause is gone: kubectl selfhost abort"))
            }
            None if outcome.changed => {
                self.write_report(terminal, &report)?;
                operation.leave().await?;
                Err(Failure::from(error).with_hint(
                    "the cluster serves, and the operation is not finished; once the cause is gone: kubectl selfhost resume, or back to where it began: kubectl selfhost abort",
                ))
            }
            None => {
                self.write_report(terminal, &report)?;
                operation.finish().await?;
                writeln!(terminal.err, "Nothing was changed.")?;
                Err(error.into())
            }
        }
    }

    /// Carries out the steps of `plan`.
    async fn execute(&self, course: &Course<'_>, plan: &Plan, way: Way) -> Outcome {
        let budget = Mutex::new(Allowance::new(Budget {
            max_failed: self.args.max_failed_requests,
            max_gap: self.args.max_gap.limit().unwrap_or(Duration::MAX),
        }));
        let gate = |step: &Step| {
            course.prober.mark(&step.to_string());
            if way == Way::Forth {
                let mut budget = budget.lock().unwrap_or_else(PoisonError::into_inner);
                budget.check(step, &course.prober.snapshot())
            } else {
                Ok(())
            }
        };
        let context = Context {
            client: self.connection.client().clone(),
            plan,
            facts: &course.preflight.nodes,
            before: course.before.clone(),
            operation: course.operation,
            settle: self.args.settle.limit().unwrap_or_default(),
            resumed: course.resumed || way == Way::Back,
            progress: course.progress,
            gate: &gate,
        };
        execute::run(&context).await
    }

    /// Brings the DaemonSets back to what the journal says of the beginning.
    async fn take_back(&self, course: &Course<'_>, goal: &Goal) -> Result<(), Failure> {
        let abort = Goal::Abort(Box::new(goal.clone()));
        course.operation.turn(&abort).await?;
        let inventory = self.observe().await?;
        let record = inventory.operation.as_ref().and_then(|open| open.record.clone()).unwrap_or_default();
        let plan =
            journal::plan(&abort, &record, &[], &inventory, course.node_image).map_err(|findings| {
                let reasons: Vec<String> = findings
                    .iter()
                    .map(|finding| format!("{}: {}", finding.subject, finding.message))
                    .collect();
                Failure::message(reasons.join("; "), Exit::Failure)
            })?;
        verify::verify(&plan).map_err(|error| unsafe_plan(&error))?;
        self.execute(course, &plan, Way::Back).await.error.map_or(Ok(()), |error| Err(error.into()))
    }

    /// The prober, aimed at every API server that is reached from here, and at the address in the kubeconfig.
    async fn prober(&self, plan: &Plan) -> Result<Handle, Failure> {
        let port = plan.port(Component::ApiServer);
        let mut addresses = vec![server_address(&self.connection).await?];
        let nodes = plan.nodes.values().map(|node| {
            let address = SocketAddr::new(node.address, port);
            (address.to_string(), address)
        });
        for (name, address) in reachable(nodes).await {
            if addresses.iter().all(|(_, known)| *known != address) {
                addresses.push((name, address));
            }
        }
        let config = aim(&self.connection, &addresses)
            .await?
            .load(Load::reads(Mode::New, 1, self.args.probe_rate))
            .load(Load::reads(Mode::Reused, 1, self.args.probe_rate));
        Prober::start(config).map_err(|error| {
            Failure::message(error.to_string(), Exit::Usage).with_hint("choose another --probe-rate")
        })
    }
}

/// Whether the static Pods that the API shows are those of the manifests on the nodes. Where an interrupted operation took one
/// away or put it back a moment ago, the API shows for some time what was before.
fn follows_manifests(inventory: &Inventory, nodes: &BTreeMap<String, NodeFacts>) -> bool {
    nodes.iter().all(|(node, facts)| {
        Component::ALL.into_iter().all(|component| {
            let mut here =
                inventory.instances.iter().filter(|it| it.node == *node && it.component == component);
            here.any(|it| it.hosting == Hosting::StaticPod) == facts.has_manifest(component)
        })
    })
}

/// Whether an upgrade that stopped so is taken back: what it brought does not run, or costs too much. What has another
/// cause is as bad on the way back.
fn is_taken_back(goal: &Goal, outcome: &Outcome, error: &ExecuteError) -> bool {
    let fails = match error {
        ExecuteError::TargetFails { .. } | ExecuteError::Budget(_) => true,
        ExecuteError::Api(ApiError::Timeout { .. }) => outcome.at == Some(Verb::Await),
        ExecuteError::Api(_)
        | ExecuteError::Task(_)
        | ExecuteError::LockLost(_)
        | ExecuteError::Stale { .. } => false,
    };
    // An etcd that does not serve was taken back by itself, and nothing else was touched yet.
    let of_etcd = outcome.at == Some(Verb::UpgradeEtcd);
    fails && outcome.changed && goal.changes_templates() && !of_etcd
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{kubeadm, self_hosted};

    #[test]
    fn a_manifest_that_the_kubelet_has_not_seen_is_waited_for() {
        let nodes = |manifests: &[&str]| {
            let mut facts = NodeFacts::default();
            facts.report.manifests =
                manifests.iter().map(|name| ((*name).to_owned(), String::new())).collect();
            BTreeMap::from([("cp1".to_owned(), facts)])
        };
        let all = ["kube-apiserver.yaml", "kube-controller-manager.yaml", "kube-scheduler.yaml", "etcd.yaml"];
        let (statics, hosted) = (kubeadm(1, "v1.36.3"), self_hosted(1, "v1.36.3"));
        assert!(follows_manifests(&statics, &nodes(&all)));
        assert!(!follows_manifests(&statics, &nodes(&all[1..])), "taken away, and the Pod is shown yet");
        assert!(follows_manifests(&hosted, &nodes(&all[3..])));
        assert!(!follows_manifests(&hosted, &nodes(&all[2..])), "put back, and not seen yet");
        assert!(follows_manifests(&statics, &BTreeMap::new()), "nothing is known");
    }

    #[test]
    fn what_the_target_does_is_taken_back_and_nothing_else() {
        let upgrade = Goal::Upgrade("v1.37.2".parse().unwrap());
        let fails = || ExecuteError::TargetFails {
            subject: "pod x".to_owned(),
            reason: "it was ready, and is not any more".to_owned(),
            words: None,
        };
        let timeout =
            || ExecuteError::Api(ApiError::Timeout { what: "pod x".to_owned(), after: Duration::ZERO });
        for (goal, error, at, changed, expected) in [
            (&upgrade, fails(), Verb::Await, true, true),
            (&upgrade, fails(), Verb::Bridge, true, true),
            (&upgrade, fails(), Verb::UpgradeEtcd, true, false),
            (&upgrade, fails(), Verb::Bridge, false, false),
            (&upgrade, ExecuteError::Budget("spent".to_owned()), Verb::Release, true, true),
            (&upgrade, timeout(), Verb::Await, true, true),
            (&upgrade, timeout(), Verb::Release, true, false),
            (&upgrade, ExecuteError::LockLost(Goal::Pivot), Verb::Await, true, false),
            (&Goal::Pivot, fails(), Verb::Await, true, false),
            (&Goal::Abort(Box::new(upgrade.clone())), fails(), Verb::Await, true, false),
        ] {
            let outcome = Outcome { error: None, at: Some(at), changed };
            assert_eq!(is_taken_back(goal, &outcome, &error), expected, "{goal} {error} {at:?} {changed}");
        }
    }
}
