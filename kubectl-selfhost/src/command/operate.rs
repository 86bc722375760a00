//! What the commands that change a control plane have in common: observe, plan, verify, ask, execute, report.
//!
//! Invariant: nothing is written before the user has agreed but the short-lived Pods of pre-flight, and nothing at all
//! in a client-side dry run.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::Api;
use kube::api::ListParams;
use selfhost_core::finding::Finding;
use selfhost_core::labels;
use selfhost_core::version::KubeVersion;

use crate::api::{self, ApiError, call};
use crate::cli::global::Global;
use crate::cli::operation::{self, DryRun};
use crate::cli::output::{DataFormat, Format};
use crate::client::{Connection, PATIENCE_TO_LOOK};
use crate::error::Failure;
use crate::exit::Exit;
use crate::inventory::Inventory;
use crate::inventory::observe::observe;
use crate::node_task;
use crate::operation::record::Asked;
use crate::plan::preconditions::OLDEST_EXECUTABLE_MINOR;
use crate::plan::{Plan, verify};
use crate::preflight;
use crate::progress::Progress;
use crate::render::document;
use crate::terminal::Terminal;

use super::dry_run;
use carry_out::Prepared;
use report::{Summary, write_findings};

mod allowance;
mod carry_out;
mod explain;
mod report;

/// Makes a plan from an inventory, with the node image pinned by digest if a node told its digest.
pub(super) type Planner<'a> = &'a (dyn Fn(&Inventory, Option<&str>) -> Result<Plan, Vec<Finding>> + Sync);

/// What is to be carried out, and how it was asked for.
pub(super) struct Job<'a> {
    /// Makes the plan.
    pub(super) planner: Planner<'a>,
    /// What the journal has to know beyond the goal.
    pub(super) asked: Asked,
    /// Whether an upgrade is taken back at once when what it brought fails.
    pub(super) rolls_back: bool,
}

/// A connection, and how to operate through it.
pub(super) struct Operator<'a> {
    connection: Connection,
    args: &'a operation::Operation,
}

impl<'a> Operator<'a> {
    /// Connects.
    pub(super) async fn connect(global: &Global, args: &'a operation::Operation) -> Result<Self, Failure> {
        let connection = Connection::open(&global.connection, PATIENCE_TO_LOOK).await?;
        Ok(Self { connection, args })
    }

    /// The same, asked for in another way.
    pub(super) fn with<'b>(&self, args: &'b operation::Operation) -> Operator<'b> {
        Operator { connection: self.connection.clone(), args }
    }

    /// The connection.
    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Looks at the cluster.
    pub(super) async fn observe(&self) -> Result<Inventory, Failure> {
        let inventory = observe(self.connection.client(), Timestamp::now()).await;
        Ok(inventory.map_err(|error| self.connection.unreachable(&error))?)
    }

    /// The revisions of the DaemonSets; none where they may not be read.
    pub(super) async fn revisions(&self) -> Result<Vec<ControllerRevision>, Failure> {
        let revisions: Api<ControllerRevision> =
            Api::namespaced(self.connection.client().clone(), labels::NAMESPACE);
        let all = ListParams::default();
        match call("list the revisions of DaemonSets", || revisions.list(&all)).await {
            Ok(list) => Ok(list.items),
            Err(ApiError::Call { source, .. }) if api::code(&source) == Some(403) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Plans, and carries the plan out as far as the arguments allow.
    pub(super) async fn run(&self, job: &Job<'_>, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let mut inventory = self.observe().await?;
        let progress = Progress::to_stderr();
        if inventory.operation.is_some() {
            progress.begin("what the interrupted operation began on nodes");
            node_task::all_ended(self.connection.client(), |task| progress.waiting(task)).await?;
            progress.end();
            inventory = self.observe().await?;
        }
        let pinned = pinned(&inventory, &self.args.node_image);
        let plan = match (job.planner)(&inventory, pinned.as_deref()) {
            Ok(plan) => plan,
            Err(findings) => return self.refuse(terminal, &findings),
        };
        verify::verify(&plan).map_err(|error| unsafe_plan(&error))?;
        if self.args.dry_run == DryRun::Client {
            dry_run::write(terminal, self.args.output, &inventory, &plan)?;
            writeln!(terminal.err, "Nothing was changed. Next: {} --dry-run=server", plan.command())?;
            return Ok(Exit::Success);
        }
        if plan.is_empty() && inventory.operation.is_none() {
            return self.nothing_to_do(
                terminal,
                &plan.goal.to_string(),
                "Nothing to do: everything is as planned.",
            );
        }
        if let Some(finding) = too_old(&inventory) {
            return self.refuse(terminal, &[finding]);
        }
        progress.begin("pre-flight checks");
        let preflight =
            preflight::check(self.connection.client(), &inventory, &plan, |what| progress.waiting(what))
                .await;
        progress.end();
        if preflight.refuses() {
            return self.refuse(terminal, &preflight.findings);
        }
        write_findings(terminal, &preflight.findings)?;
        if self.args.dry_run == DryRun::Server {
            dry_run::write(terminal, self.args.output, &inventory, &plan)?;
            writeln!(terminal.err, "Every check passed. Nothing was changed. Next: {}", plan.command())?;
            return Ok(Exit::Success);
        }
        if !self.confirmed(terminal, &plan)? {
            writeln!(terminal.err, "Nothing was changed.")?;
            return Ok(Exit::Failure);
        }
        let prepared = Prepared {
            pinned: pinned.as_deref(),
            inventory: &inventory,
            plan: &plan,
            preflight: &preflight,
            progress: &progress,
        };
        self.carry_out(job, &prepared, terminal).await
    }

    /// Says that nothing was changed, and why; that is a success.
    pub(super) fn nothing_to_do(
        &self,
        terminal: &mut Terminal,
        goal: &str,
        why: &str,
    ) -> Result<Exit, Failure> {
        let summary = Summary { goal: goal.to_owned(), ..Summary::default() };
        self.write_summary(terminal, &summary, why)?;
        Ok(Exit::Success)
    }

    /// Says what was done beside the steps of `plan`, which has said so itself: programs read one report.
    pub(super) fn done_beside(
        &self,
        terminal: &mut Terminal,
        plan: &Plan,
        took: Duration,
        text: &str,
    ) -> Result<(), Failure> {
        if !plan.is_empty() && matches!(self.args.output, Format::Json | Format::Yaml) {
            return Ok(());
        }
        let goal = plan.goal.to_string();
        let summary = Summary { goal, changed: true, seconds: took.as_secs_f64(), ..Summary::default() };
        Ok(self.write_summary(terminal, &summary, text)?)
    }

    /// Says why not. In JSON and YAML the findings are the result.
    pub(super) fn refuse(&self, terminal: &mut Terminal, findings: &[Finding]) -> Result<Exit, Failure> {
        let mut sorted = findings.to_vec();
        sorted.sort();
        sorted.dedup();
        let refusal = BTreeMap::from([("findings", &sorted)]);
        match self.args.output {
            Format::Json => document::write(&mut terminal.out, DataFormat::Json, "Refusal", &refusal)?,
            Format::Yaml => document::write(&mut terminal.out, DataFormat::Yaml, "Refusal", &refusal)?,
            Format::Table | Format::Wide => {
                write_findings(terminal, &sorted)?;
                writeln!(terminal.err, "Refused. Nothing was changed.")?;
            }
        }
        Ok(Exit::Findings)
    }

    /// Whether the user agrees to the plan.
    pub(super) fn confirmed(&self, terminal: &mut Terminal, plan: &Plan) -> Result<bool, Failure> {
        let nodes: Vec<&str> = plan.nodes.keys().map(String::as_str).collect();
        let command = plan.command();
        let what = format!(
            "{} on {} ({} steps)",
            command.trim_start_matches("kubectl selfhost "),
            nodes.join(", "),
            plan.steps.len()
        );
        self.agreed(terminal, dry_run::pause(plan).as_deref(), &what, &command)
    }

    /// Whether the user agrees to `what`, which `command` does.
    pub(super) fn agreed(
        &self,
        terminal: &mut Terminal,
        note: Option<&str>,
        what: &str,
        command: &str,
    ) -> Result<bool, Failure> {
        if self.args.yes {
            return Ok(true);
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::message("there is no terminal to ask for confirmation", Exit::Usage)
                .with_hint(format!("{command} --yes")));
        }
        if let Some(note) = note {
            writeln!(terminal.err, "{note}")?;
        }
        write!(terminal.err, "{what}. Go ahead? [y/N] ")?;
        terminal.err.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }
}

/// The node image by its digest, if some node holds it under the name that was given.
pub(super) fn pinned(inventory: &Inventory, image: &str) -> Option<String> {
    if image.contains('@') {
        return None;
    }
    let repository = image.rsplit_once(':').map_or(image, |(repository, _)| repository);
    let images = inventory.control_plane.values().filter_map(|node| node.status.as_ref()?.images.as_ref());
    images.flatten().find_map(|held| {
        let names = held.names.as_ref()?;
        names
            .iter()
            .any(|name| name == image)
            .then(|| names.iter().find(|name| name.starts_with(&format!("{repository}@"))).cloned())?
    })
}

fn too_old(inventory: &Inventory) -> Option<Finding> {
    let version: &KubeVersion = inventory.server_version.as_ref()?;
    (version.minor < OLDEST_EXECUTABLE_MINOR).then(|| {
        Finding::new(
            selfhost_core::finding::Code::PlanOnly,
            format!("API server {version}"),
            format!(
                "is older than v1.{OLDEST_EXECUTABLE_MINOR}: this release plans for it and changes nothing"
            ),
        )
        .hint("see the plan with --dry-run=client")
    })
}

/// A plan that the verifier refuses is never carried out.
fn unsafe_plan(error: &verify::Unsafe) -> Failure {
    Failure::message(format!("the plan is not safe, and was not carried out: {error}"), Exit::Failure).with_hint(
        "this is a defect of kubectl selfhost: please report it with the output of `kubectl selfhost status -o yaml`",
    )
}
