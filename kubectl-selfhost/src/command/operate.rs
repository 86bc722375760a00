//! What `pivot` and `upgrade` have in common: observe, plan, verify, ask, execute, report.
//!
//! Invariant: nothing is written before the user has agreed but the short-lived Pods of pre-flight, and nothing at all
//! in a client-side dry run.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use selfhost_core::component::Component;
use selfhost_core::finding::{Finding, Severity};
use selfhost_core::version::KubeVersion;
use selfhost_prober::{Budget, Handle, Load, Mode, Prober, Report};

use crate::api::ApiError;
use crate::availability::{aim, reachable, server_address};
use crate::cli::global::Global;
use crate::cli::operation::{self, DryRun};
use crate::cli::output::{DataFormat, Format};
use crate::client::{Connection, PATIENCE_TO_LOOK};
use crate::error::{Explain, Failure};
use crate::execute::{self, Context, ExecuteError};
use crate::exit::Exit;
use crate::inventory::Inventory;
use crate::inventory::observe::observe;
use crate::node_task::TaskError;
use crate::operation::{LockError, Operation};
use crate::plan::preconditions::OLDEST_EXECUTABLE_MINOR;
use crate::plan::{Plan, Step, verify};
use crate::preflight::{self, Preflight};
use crate::progress::Progress;
use crate::render::document;
use crate::terminal::Terminal;

use super::{dry_run, probe};

/// Makes a plan from an inventory, with the node image pinned by digest if a node told its digest.
pub(super) type Planner<'a> = &'a (dyn Fn(&Inventory, Option<&str>) -> Result<Plan, Vec<Finding>> + Sync);

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

    /// Looks at the cluster.
    pub(super) async fn observe(&self) -> Result<Inventory, Failure> {
        let inventory = observe(self.connection.client(), Timestamp::now()).await;
        Ok(inventory.map_err(|error| self.connection.unreachable(&error))?)
    }

    /// Plans with `planner`, and carries the plan out as far as the arguments allow.
    pub(super) async fn run(&self, planner: Planner<'_>, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let inventory = self.observe().await?;
        let pinned = pinned(&inventory, &self.args.node_image);
        let plan = match planner(&inventory, pinned.as_deref()) {
            Ok(plan) => plan,
            Err(findings) => return self.refuse(terminal, &findings),
        };
        verify::verify(&plan).map_err(|error| {
            Failure::message(format!("the plan is not safe, and was not carried out: {error}"), Exit::Failure)
                .with_hint("this is a defect of kubectl selfhost: please report it with the output of `kubectl selfhost status -o yaml`")
        })?;
        if self.args.dry_run == DryRun::Client {
            dry_run::write(terminal, self.args.output, &inventory, &plan)?;
            writeln!(
                terminal.err,
                "Nothing was changed. Next: kubectl selfhost {} --dry-run=server",
                plan.goal
            )?;
            return Ok(Exit::Success);
        }
        if plan.is_empty() && inventory.operation.is_none() {
            return self.nothing_to_do(terminal, &plan);
        }
        if let Some(finding) = too_old(&inventory) {
            return self.refuse(terminal, &[finding]);
        }
        let progress = Progress::to_stderr();
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
            writeln!(
                terminal.err,
                "Every check passed. Nothing was changed. Next: kubectl selfhost {}",
                plan.goal
            )?;
            return Ok(Exit::Success);
        }
        if !self.confirmed(terminal, &plan)? {
            writeln!(terminal.err, "Nothing was changed.")?;
            return Ok(Exit::Failure);
        }
        self.carry_out(planner, pinned.as_deref(), &plan, &preflight, &progress, terminal).await
    }

    fn nothing_to_do(&self, terminal: &mut Terminal, plan: &Plan) -> Result<Exit, Failure> {
        let summary =
            Summary { goal: plan.goal.to_string(), changed: false, seconds: 0.0, availability: None };
        self.write_summary(terminal, &summary, "Nothing to do: everything is as planned.")?;
        Ok(Exit::Success)
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

    fn confirmed(&self, terminal: &mut Terminal, plan: &Plan) -> Result<bool, Failure> {
        if self.args.yes {
            return Ok(true);
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::message("there is no terminal to ask for confirmation", Exit::Usage)
                .with_hint(format!("kubectl selfhost {} --yes", plan.goal)));
        }
        let nodes: Vec<&str> = plan.nodes.keys().map(String::as_str).collect();
        write!(
            terminal.err,
            "{} on {} ({} steps). Go ahead? [y/N] ",
            plan.goal,
            nodes.join(", "),
            plan.steps.len()
        )?;
        terminal.err.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }

    async fn carry_out(
        &self,
        planner: Planner<'_>,
        pinned: Option<&str>,
        plan: &Plan,
        preflight: &Preflight,
        progress: &Progress,
        terminal: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let client = self.connection.client();
        progress.begin("taking the lock");
        let operation = Operation::begin(client, &plan.goal, |by| {
            progress.note(&format!("waiting for {by} to let go of the lock, or to be found dead"));
        })
        .await?;
        // Whoever held the lock until now, and the cluster itself, may have gone on since the plan was made.
        let plan = match planner(&self.observe().await?, pinned) {
            Ok(again) if again.ends_as(plan) => again,
            Ok(_) | Err(_) => {
                operation.leave().await?;
                return Err(Failure::message("the cluster changed since the plan was made", Exit::Failure)
                    .with_hint(format!("plan again: kubectl selfhost {}", plan.goal)));
            }
        };
        let plan = &plan;
        let prober = self.prober(plan).await?;
        let budget = Budget {
            max_failed: self.args.max_failed_requests,
            max_gap: self.args.max_gap.limit().unwrap_or(Duration::MAX),
        };
        let gate = |step: &Step| {
            prober.mark(&step.to_string());
            budget.check(&prober.snapshot()).map_err(|exceeded| exceeded.to_string())
        };
        let context = Context {
            client: client.clone(),
            plan,
            facts: &preflight.nodes,
            operation: &operation,
            settle: self.args.settle.limit().unwrap_or_default(),
            progress,
            gate: &gate,
        };
        let outcome = tokio::select! {
            outcome = execute::run(&context) => outcome,
            Ok(()) = tokio::signal::ctrl_c() => {
                progress.end();
                operation.leave().await?;
                writeln!(
                    terminal.err,
                    "Interrupted. The cluster serves; the operation is not finished. Next: kubectl selfhost {}",
                    plan.goal
                )?;
                return Ok(Exit::Interrupted);
            }
        };
        progress.end();
        let report = prober.stop().await;
        let Some(error) = outcome.error else {
            operation.finish().await?;
            let summary = Summary {
                goal: plan.goal.to_string(),
                changed: outcome.changed,
                seconds: progress.elapsed().as_secs_f64(),
                availability: Some(report),
            };
            self.write_summary(terminal, &summary, &done(plan, progress.elapsed()))?;
            return Ok(Exit::Success);
        };
        self.write_report(terminal, &report)?;
        let failure = Failure::from(error);
        if outcome.changed {
            operation.leave().await?;
            return Err(failure.with_hint(format!(
                "the cluster serves, and the operation is not finished; once the cause is gone: kubectl selfhost {}",
                plan.goal
            )));
        }
        operation.finish().await?;
        writeln!(terminal.err, "Nothing was changed.")?;
        Err(failure)
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

    fn write_report(&self, terminal: &mut Terminal, report: &Report) -> io::Result<()> {
        match self.args.output {
            Format::Table | Format::Wide => probe::write(terminal, self.args.output, report),
            Format::Json | Format::Yaml => Ok(()),
        }
    }

    fn write_summary(&self, terminal: &mut Terminal, summary: &Summary, text: &str) -> io::Result<()> {
        match self.args.output {
            Format::Json => document::write(&mut terminal.out, DataFormat::Json, "OperationReport", summary),
            Format::Yaml => document::write(&mut terminal.out, DataFormat::Yaml, "OperationReport", summary),
            Format::Table | Format::Wide => {
                if let Some(report) = &summary.availability {
                    self.write_report(terminal, report)?;
                    writeln!(terminal.out)?;
                }
                writeln!(terminal.out, "{text}")
            }
        }
    }
}

/// The result of an operation.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    goal: String,
    changed: bool,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    availability: Option<Report>,
}

fn done(plan: &Plan, took: Duration) -> String {
    let what = match &plan.goal {
        crate::plan::Goal::Pivot => "The control plane is self-hosted".to_owned(),
        crate::plan::Goal::Upgrade(target) => format!("The control plane runs {target}"),
    };
    format!("{what}, after {:.0} s.\nNext: kubectl selfhost status", took.as_secs_f64())
}

/// The node image by its digest, if some node holds it under the name that was given.
fn pinned(inventory: &Inventory, image: &str) -> Option<String> {
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

fn write_findings(terminal: &mut Terminal, findings: &[Finding]) -> io::Result<()> {
    let theme = terminal.err.theme;
    for finding in findings {
        let code = match finding.severity {
            Severity::Error => theme.bad(finding.code.to_string()),
            Severity::Warning => theme.warn(finding.code.to_string()),
            Severity::Info => theme.strong(finding.code.to_string()),
        };
        writeln!(terminal.err, "{code}  {}: {}", finding.subject, finding.message)?;
        if let Some(hint) = &finding.hint {
            writeln!(terminal.err, "        {} {hint}", theme.hint("hint:"))?;
        }
    }
    Ok(())
}

impl Explain for ApiError {
    fn exit(&self) -> Exit {
        match self {
            Self::Timeout { .. } => Exit::TimedOut,
            Self::Call { .. } | Self::Silence { .. } => Exit::Failure,
        }
    }
}

impl Explain for LockError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Held { what, .. } => {
                Some(format!("wait for it, or go on with it: kubectl selfhost {what}"))
            }
            Self::Api(error) => error.hint(),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Held { .. } => Exit::Findings,
            Self::Api(error) => error.exit(),
        }
    }
}

impl Explain for ExecuteError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Api(error) => error.hint(),
            Self::Task(TaskError::Failed { hint, .. }) => hint.clone(),
            Self::TargetFails { subject, .. } => Some(format!("kubectl -n kube-system describe {subject}")),
            Self::Task(_) | Self::LockLost(_) | Self::Budget(_) | Self::Stale { .. } => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Api(error) | Self::Task(TaskError::Api(error)) => error.exit(),
            _ => Exit::Failure,
        }
    }
}
