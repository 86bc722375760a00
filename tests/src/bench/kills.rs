//! `cargo bench-kills`: the kill matrix. Every step of every operation, with every victim, resumed and aborted.
//!
//! Invariant: the steps come from the plans themselves, so that a new one cannot be forgotten; and so does what each
//! cell has to end with: where the operation leads, or where it began.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::{Args, ValueEnum};

use super::random::Random;
use super::{Row, fresh, fresh_with, say, selfhost};
use crate::Spec;
use crate::cluster::{Cluster, DEFAULT_VERSION, UPGRADE_VERSION};
use crate::drive::{
    Load, Outcome, at_rest, components, kill_at_each, planned_steps, ready_within, run as run_plugin,
    run_and_kill, run_seeing, settled, step_of,
};
use crate::left;
use crate::progress::Progress;

/// Load in requests per second, from two places.
const RATE: u32 = 50;

/// From a boot to an API server that is ready.
const BACK: Duration = Duration::from_secs(60);

/// From one look for a victim to the next: a task that has little to do is there for some tenths of a second.
const LOOK: Duration = Duration::from_millis(10);

/// What a control plane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    hosting: &'static str,
    version: &'static str,
}

const STATIC: Shape = Shape { hosting: "static-pod", version: DEFAULT_VERSION };
const HOSTED: Shape = Shape { hosting: "self-hosted", version: DEFAULT_VERSION };
const UPGRADED: Shape = Shape { hosting: "self-hosted", version: UPGRADE_VERSION };

/// An operation: its command, and what is there before and after.
#[derive(Debug, Clone, Copy)]
struct Operation {
    command: &'static [&'static str],
    from: Shape,
    to: Shape,
}

const OPERATIONS: [Operation; 3] = [
    Operation { command: &["pivot", "--yes"], from: STATIC, to: HOSTED },
    Operation { command: &["upgrade", UPGRADE_VERSION, "--yes"], from: HOSTED, to: UPGRADED },
    Operation { command: &["unpivot", "--yes"], from: HOSTED, to: STATIC },
];

/// Those that put a guard before a self-hosted control plane, and take it away.
const GUARD_OPERATIONS: [Operation; 2] = [
    Operation { command: &["guard", "install", "--wide", "--static", "--yes"], from: HOSTED, to: HOSTED },
    Operation { command: &["guard", "uninstall", "--yes"], from: HOSTED, to: HOSTED },
];

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Victim {
    Plugin,
    Task,
    Bridge,
    Gate,
    Kubelet,
    /// Everything on the node at once.
    Power,
}

/// What is done after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Way {
    Resume,
    Abort,
}

/// The word for it on a command line.
fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Which cells of the matrix are tried.
#[derive(Debug, Args)]
pub(super) struct Selection {
    /// At all steps of an operation in one go, resumed each time; or aborted with `--way abort`, and begun anew.
    #[arg(long, conflicts_with_all = ["sample", "seed"])]
    sweep: bool,
    /// The operations of the guard, instead of the control plane's own.
    #[arg(long, requires = "sweep")]
    guard: bool,
    /// Only this operation, by the first word of its command.
    #[arg(long, value_name = "WORD", conflicts_with = "guard")]
    operation: Option<String>,
    /// Only at steps whose names contain this.
    #[arg(long, value_name = "TEXT", conflicts_with = "sweep")]
    step: Option<String>,
    /// Only those of this victim.
    #[arg(long, value_enum)]
    victim: Option<Victim>,
    /// Only those with this way on.
    #[arg(long, value_enum)]
    way: Option<Way>,
    /// Only this many of them, chosen at random.
    #[arg(long)]
    sample: Option<usize>,
    /// Where the choice comes from; a run is repeated with the seed that it printed.
    #[arg(long)]
    seed: Option<u64>,
}

impl Operation {
    /// `pivot, gate`; `guard install, gate`
    fn name(&self, victim: Victim) -> String {
        let words: Vec<&str> = self.command.iter().copied().take_while(|it| !it.starts_with('-')).collect();
        format!("{}, {}", words.join(" "), word(&victim))
    }
}

impl Victim {
    /// Whether a process on the node with this command line is meant, at this step.
    fn is(self, step: &str, words: &[&str]) -> bool {
        let program = words[0].rsplit('/').next().unwrap_or_default();
        let has = |word: &str| words.contains(&word);
        match self {
            Self::Plugin | Self::Power => false,
            Self::Task => program == "selfhost-node" && has("task"),
            // Of an operation; the standby has one, too.
            Self::Gate => {
                program == "selfhost-node"
                    && has("gate")
                    && !words.iter().any(|word| word.starts_with("--only-while="))
            }
            Self::Bridge if step.contains("controller-manager") => {
                program == "kube-controller-manager" && has("--secure-port=10267")
            }
            Self::Bridge if step.contains("scheduler") => {
                program == "kube-scheduler" && has("--secure-port=10269")
            }
            Self::Bridge => program == "kube-apiserver" && has("--secure-port=6444"),
            Self::Kubelet => program == "kubelet",
        }
    }

    /// Whether whoever serves may be hit, and requests with it.
    fn serves(self) -> bool {
        matches!(self, Self::Bridge | Self::Power)
    }

    /// How long the API may be away, in seconds: until the kubelet or a standby has started another, or the node was
    /// switched on and off again.
    fn bearable(self) -> f64 {
        if self == Self::Power { BACK.as_secs_f64() + 15.0 } else { 30.0 }
    }
}

/// One cell of the matrix.
#[derive(Debug, Clone)]
struct Cell {
    operation: Operation,
    step: String,
    victim: Victim,
    way: Way,
}

impl Selection {
    fn victims(&self) -> impl Iterator<Item = Victim> {
        let wanted = self.victim;
        let all = Victim::value_variants().iter().copied();
        all.filter(move |victim| wanted.is_none_or(|wanted| wanted == *victim))
    }

    fn operations(&self) -> impl Iterator<Item = Operation> {
        let all: &[Operation] = if self.guard { &GUARD_OPERATIONS } else { &OPERATIONS };
        let wanted = self.operation.as_deref();
        all.iter().copied().filter(move |it| wanted.is_none_or(|wanted| it.command.first() == Some(&wanted)))
    }
}

pub(super) fn run(selection: &Selection, progress: &Progress) -> Result<()> {
    if selection.sweep {
        return sweep(selection, progress);
    }
    let (mut random, seed) = Random::new(selection.seed);
    let cluster = fresh("bench-kills", 1, progress)?;
    let mut cells = Vec::new();
    for operation in selection.operations() {
        bring_to(&cluster, operation.from)?;
        let steps = planned_steps(&cluster, operation.command)?;
        let wanted = selection.step.as_deref().unwrap_or_default();
        for step in steps.into_iter().filter(|step| step.contains(wanted)) {
            for victim in selection.victims() {
                for way in Way::value_variants().iter().copied() {
                    cells.push(Cell { operation, step: step.clone(), victim, way });
                }
            }
        }
    }
    cells.retain(|cell| selection.way.is_none_or(|way| way == cell.way));
    let all = cells.len();
    if let Some(sample) = selection.sample {
        random.shuffle(&mut cells);
        cells.truncate(sample);
    }
    say(&format!("{} of {all} cells, seed {seed}", cells.len()))?;
    say("VICTIM   WAY     FAILED  LONGEST-GAP  THEN       STEP")?;
    for cell in &cells {
        let line = try_cell(&cluster, cell, progress).with_context(|| {
            format!("{} at {}, {} (seed {seed})", word(&cell.victim), cell.step, word(&cell.way))
        })?;
        say(&line)?;
    }
    say(&format!("{} cells: each ended clean", cells.len()))
}

/// Each operation for each victim, killed at each of its steps in turn, and resumed or aborted.
fn sweep(selection: &Selection, progress: &Progress) -> Result<()> {
    let mut spec = Spec::new("bench-kills".parse()?);
    spec.more.guard = selection.guard;
    let cluster = fresh_with(&spec, progress)?;
    say(&format!("{}  KILLS", Row::HEADER))?;
    let way = selection.way.unwrap_or(Way::Resume);
    let mut lost = 0;
    for victim in selection.victims() {
        for operation in selection.operations() {
            bring_to(&cluster, operation.from)?;
            let steps = planned_steps(&cluster, operation.command)?;
            let mut kills = 0;
            let row = Row::measure(&operation.name(victim), &cluster, || {
                kills = sweep_one(&cluster, operation, victim, way, &steps, progress)?;
                // Those of the guard are more than the steps of their plans.
                if selection.guard { selfhost(&cluster, operation.command) } else { Ok(()) }
            })?;
            say(&format!("{}  {kills} at {} steps", row.line(), steps.len()))?;
            for failure in row.failures() {
                say(&format!("  {failure}"))?;
            }
            let gap = row.availability.longest_gap();
            ensure!(gap < victim.bearable(), "nobody was served for {gap:.1} s");
            if !victim.serves() {
                lost += row.availability.totals().1;
            }
            ended_as(&cluster, operation.to)?;
            match operation.command {
                ["guard", "install", ..] => selfhost(&cluster, &["guard", "status"])?,
                ["guard", ..] => left::nothing_of_the_guard(&cluster)?,
                _ => {}
            }
        }
    }
    ensure!(lost == 0, "{lost} requests failed for a victim that serves nobody");
    Ok(())
}

/// One operation, until every step at which the victim is there has been killed once, and the operation is done. Tells how
/// many those were.
fn sweep_one(
    cluster: &Cluster,
    operation: Operation,
    victim: Victim,
    way: Way,
    steps: &BTreeSet<String>,
    progress: &Progress,
) -> Result<usize> {
    let mut kills = 0;
    if victim == Victim::Plugin {
        ensure!(
            way == Way::Resume,
            "aborts after a kill of the plugin are had cell by cell: without --sweep"
        );
        kill_at_each(cluster, operation.command, steps, |kill| {
            kills += 1;
            progress.line(kill);
        })?;
        return Ok(kills);
    }
    let mut pending = steps.clone();
    for _ in 0..=steps.len() {
        let outcome = hunt(cluster, victim, operation.command, &mut pending, progress)?;
        if outcome.code == Some(0) {
            return Ok(steps.len() - pending.len());
        }
        progress.line(format_args!("interrupted: {}", outcome.err.lines().last().unwrap_or_default()));
        at_rest(cluster)?;
        if way == Way::Abort {
            run_plugin(cluster, &["abort", "--yes"])?.success()?;
            ended_as(cluster, operation.from)?;
            continue;
        }
        let resumed = hunt(cluster, victim, &["resume", "--yes"], &mut pending, progress)?;
        // An upgrade that was taken back is begun anew.
        if resumed.code == Some(0) && shape(cluster)? == Some(operation.to) {
            return Ok(steps.len() - pending.len());
        }
        at_rest(cluster)?;
    }
    bail!("{:?} does not end", operation.command)
}

fn try_cell(cluster: &Cluster, cell: &Cell, progress: &Progress) -> Result<String> {
    bring_to(cluster, cell.operation.from)?;
    let load = Load::start(cluster, RATE)?;
    let (hit, done) = strike(cluster, cell, progress)?;
    if cell.victim != Victim::Plugin {
        // The kubelet may be on its way, and an API server, too.
        at_rest(cluster)?;
    }
    let outcome = run_plugin(cluster, &[&word(&cell.way), "--yes"])?.success()?;
    let availability = load.stop()?;
    let began_or_done = if done || cell.way == Way::Resume { cell.operation.to } else { cell.operation.from };
    let begun = !outcome.out.contains("nothing to do");
    // A plugin that was killed before it had the lock has begun nothing.
    let end = if begun || done { began_or_done } else { cell.operation.from };
    ended_as(cluster, end)?;
    let (_, failed, _) = availability.totals();
    let gap = availability.longest_gap();
    ensure!(failed == 0 || cell.victim.serves(), "{failed} requests failed: {:#?}", availability.series());
    ensure!(gap < cell.victim.bearable(), "nobody was served for {gap:.1} s");
    let then = match (hit, done, begun) {
        (false, ..) => "not there",
        (true, true, _) => "went on",
        (true, false, true) => &word(&cell.way),
        (true, false, false) => "not begun",
    };
    let (victim, way) = (word(&cell.victim), word(&cell.way));
    Ok(format!("{victim:<8} {way:<7} {failed:>6}  {gap:>10.2}s  {then:<10} {}", cell.step))
}

/// Runs the operation and kills the victim at the step. Tells whether it was there, and whether the operation has ended
/// as it should all the same.
fn strike(cluster: &Cluster, cell: &Cell, progress: &Progress) -> Result<(bool, bool)> {
    let at_step = |line: &str| step_of(line) == Some(cell.step.as_str());
    if cell.victim == Victim::Plugin {
        let delay = Duration::from_millis(300);
        let killed = run_and_kill(cluster, cell.operation.command, delay, at_step)?;
        ensure!(!killed.met.is_empty(), "it did not come to {}", cell.step);
        // The last step of an upgrade is a write, and no more.
        return Ok((true, killed.finished));
    }
    let mut pending = BTreeSet::from([cell.step.clone()]);
    let outcome = hunt(cluster, cell.victim, cell.operation.command, &mut pending, progress)?;
    Ok((pending.is_empty(), outcome.code == Some(0)))
}

/// Runs the command, and kills the victim once at each of the `pending` steps at which it is there; these are taken out.
fn hunt(
    cluster: &Cluster,
    victim: Victim,
    command: &[&str],
    pending: &mut BTreeSet<String>,
    progress: &Progress,
) -> Result<Outcome> {
    // The step that the plugin is at; none when it has ended.
    let now = Mutex::new(Some(String::new()));
    let at = || now.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        let hunter = scope.spawn(|| -> Result<()> {
            loop {
                let Some(step) = at().clone() else { return Ok(()) };
                if pending.contains(&step) && kill_on_node(cluster, victim, &step)? {
                    progress.line(format_args!("{} killed: {step}", word(&victim)));
                    pending.remove(&step);
                }
                thread::sleep(LOOK);
            }
        });
        let outcome = run_seeing(cluster, command, |line| {
            if let Some(step) = step_of(line) {
                *at() = Some(step.to_owned());
            }
        });
        *at() = None;
        hunter.join().map_err(|_| anyhow!("the hunter panicked"))??;
        outcome
    })
}

/// Kills every process of the victim on the node, each of which is in the node's own process space. Tells whether one was
/// there.
fn kill_on_node(cluster: &Cluster, victim: Victim, step: &str) -> Result<bool> {
    if victim == Victim::Power {
        cluster.power_cut("cp1")?;
        cluster.boot("cp1")?;
        ready_within(cluster, BACK)?;
        return Ok(true);
    }
    let killed = cluster.kill_those("cp1", |words| victim.is(step, words))? > 0;
    if killed && victim == Victim::Kubelet {
        // As systemd would, after a moment.
        thread::sleep(Duration::from_secs(2));
        cluster.exec("cp1", &["systemctl", "start", "kubelet"])?;
    }
    Ok(killed)
}

/// Demands that the control plane is this, and that nothing is left of what led to it.
fn ended_as(cluster: &Cluster, end: Shape) -> Result<()> {
    let now = shape(cluster)?;
    ensure!(now == Some(end), "{now:?} instead of {end:?}");
    left::nothing_of_an_operation(cluster)?;
    if end == STATIC { left::nothing(cluster) } else { Ok(()) }
}

/// What the control plane is; `None` where its parts differ.
fn shape(cluster: &Cluster) -> Result<Option<Shape>> {
    let status = run_plugin(cluster, &["status", "-o", "json", "--fail-on", "never"])?.json()?;
    let rows = components(&status);
    let is = |shape: &Shape| {
        rows.iter().all(|row| row["hosting"] == shape.hosting && row["version"] == shape.version)
    };
    Ok([STATIC, HOSTED, UPGRADED].into_iter().find(is))
}

/// Makes the control plane what it is to be.
fn bring_to(cluster: &Cluster, wanted: Shape) -> Result<()> {
    settled(cluster)?;
    let now = shape(cluster)?.context("the control plane is between two shapes")?;
    if now == UPGRADED && wanted != UPGRADED {
        selfhost(cluster, &["upgrade", "--rollback", DEFAULT_VERSION, "--yes"])?;
    }
    if now != STATIC && wanted == STATIC {
        selfhost(cluster, &["unpivot", "--yes"])?;
    }
    if now == STATIC && wanted != STATIC {
        selfhost(cluster, &["pivot", "--yes"])?;
    }
    Ok(())
}
