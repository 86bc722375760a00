//! `upgrade`: to another version, or what it could be upgraded to.

use std::io::Write as _;
use std::time::Duration;

use http::Request;
use kube::{Client, Config};
use selfhost_core::component::Component;
use selfhost_core::emulation::Running;
use selfhost_core::etcd::{self, EtcdTag};
use selfhost_core::finding::{Code, Finding};
use selfhost_core::version::{KubeVersion, VersionRequest};
use serde::Serialize;

use crate::cli::global::Global;
use crate::cli::output::{DataFormat, Format};
use crate::cli::upgrade::Args;
use crate::error::Failure;
use crate::exit::Exit;
use crate::inventory::Inventory;
use crate::operation::record::{Asked, Record};
use crate::plan::preconditions::running;
use crate::plan::upgrade::{resolve, versions_on_nodes};
use crate::plan::{Goal, back, upgrade};
use crate::render::{document, table};
use crate::template::emulation::half_way;
use crate::terminal::Terminal;

use super::journal;
use super::operate::{Job, Operator, Planner};

/// How long the release URL may take.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Plans, asks, and upgrades; without a version, shows what there is.
pub(super) async fn run(global: &Global, args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let operator = Operator::connect(global, &args.operation).await?;
    let inventory = operator.observe().await?;
    if args.rollback {
        return roll_back(&operator, args, &inventory, terminal).await;
    }
    let known = versions_on_nodes(&inventory);
    let target = match (&args.version, &args.etcd) {
        (Some(request), _) => resolve_request(request, known, &args.release_url).await,
        (None, Some(_)) => the_one_that_runs(&inventory),
        (None, None) => {
            let targets = targets(&inventory, known, &args.release_url).await;
            write_targets(terminal, args.operation.output, &targets)?;
            return Ok(Exit::Success);
        }
    };
    let target = match target {
        Ok(target) => target,
        Err(finding) => return operator.refuse(terminal, &[finding]),
    };
    let etcd = match etcd_tag(args, &inventory, &target) {
        Ok(etcd) => etcd,
        Err(finding) => return operator.refuse(terminal, &[finding]),
    };
    let node_image = args.operation.node_image.clone();
    let repository = args.image_repository.clone();
    let (emulate, planned_etcd) = (args.emulate, etcd.clone());
    let planner: Planner<'_> = &move |inventory, pinned| {
        let image = pinned.unwrap_or(&node_image);
        if emulate {
            upgrade::emulate(inventory, &target, image, repository.as_deref())
        } else {
            upgrade::plan(inventory, &target, image, repository.as_deref(), planned_etcd.as_ref())
        }
    };
    let asked = Asked { image_repository: args.image_repository.clone(), etcd, ..Asked::default() };
    operator.run(&Job { planner, asked, rolls_back: !args.no_rollback }, terminal).await
}

/// The version of all components, where they agree. One that emulates another is half-way to it.
fn the_one_that_runs(inventory: &Inventory) -> Result<KubeVersion, Finding> {
    let whole = |it: Running| it.emulates.is_none().then_some(it.binary);
    let mut running = inventory.instances.iter().map(|it| running(inventory, it).and_then(whole));
    match running.next().flatten() {
        Some(version) if running.all(|other| other.as_ref() == Some(&version)) => Ok(version),
        _ => Err(Finding::new(
            Code::VersionUnknown,
            "the control plane",
            "does not run one version, which would be the one to stay at",
        )
        .hint("name the version: kubectl selfhost upgrade vX.Y.Z --etcd")),
    }
}

/// The tag that etcd comes to: the one that was named, or else what an interrupted run of the same upgrade was asked for,
/// or else kubeadm's.
fn etcd_tag(args: &Args, inventory: &Inventory, target: &KubeVersion) -> Result<Option<EtcdTag>, Finding> {
    match &args.etcd {
        None => {
            let open = inventory.operation.as_ref();
            let same = open.filter(|open| Goal::Upgrade(target.clone()).continues(&open.what));
            Ok(same.and_then(|open| open.record.as_ref()?.asked.etcd.clone()))
        }
        Some(Some(tag)) => Ok(Some(tag.clone())),
        Some(None) => etcd::of_kubeadm(target).map(Some).ok_or_else(|| {
            Finding::new(
                Code::VersionUnknown,
                format!("etcd of {target}"),
                "is not known to this release",
            )
            .hint(format!(
                "name its tag, which `kubeadm config images list --kubernetes-version {target}` tells: kubectl \
                 selfhost upgrade {target} --etcd=TAG"
            ))
        }),
    }
}

/// Plans, asks, and goes back to a revision of the DaemonSets.
async fn roll_back(
    operator: &Operator<'_>,
    args: &Args,
    inventory: &Inventory,
    terminal: &mut Terminal,
) -> Result<Exit, Failure> {
    let revisions = operator.revisions().await?;
    let target = match &args.version {
        Some(VersionRequest::Exact(target)) => Ok(target.clone()),
        Some(request @ VersionRequest::Minor(..)) => {
            let finding =
                Finding::new(Code::VersionUnknown, format!("version {request}"), "is not a whole version");
            Err(finding.hint("name the version that ran: kubectl selfhost upgrade --rollback vX.Y.Z"))
        }
        None => match inventory.operation.as_ref().map(|open| open.what.parse()) {
            // One that was interrupted goes on: half-way there, the previous version is another one.
            Some(Ok(Goal::Rollback(target))) => Ok(target),
            _ => back::previous_version(inventory, &revisions),
        },
    };
    let goal = match target {
        Ok(target) => Goal::Rollback(target),
        Err(finding) => return operator.refuse(terminal, &[finding]),
    };
    let planner: Planner<'_> = &|inventory, pinned| {
        let image = pinned.unwrap_or(&args.operation.node_image);
        journal::plan(&goal, &Record::default(), &revisions, inventory, image)
    };
    let job = Job { planner, asked: Asked::default(), rolls_back: !args.no_rollback };
    operator.run(&job, terminal).await
}

/// The version that is meant: a whole one is taken as it is, a minor is looked up.
async fn resolve_request(
    request: &VersionRequest,
    mut known: Vec<KubeVersion>,
    release_url: &str,
) -> Result<KubeVersion, Finding> {
    let mut trouble = "no release URL is given".to_owned();
    if let VersionRequest::Minor(major, minor) = request
        && !release_url.is_empty()
    {
        match newest_release(release_url, *major, *minor).await {
            Ok(version) => known.push(version),
            Err(error) => trouble = error,
        }
    }
    resolve(request, &known).ok_or_else(|| {
        Finding::new(
            Code::VersionUnknown,
            format!("version {request}"),
            format!("no patch of it is known: no node has its image, and {trouble}"),
        )
        .hint(format!("name the whole version: kubectl selfhost upgrade {request}.N"))
    })
}

/// The newest patch of a minor, from `URL/stable-MAJOR.MINOR.txt`.
async fn newest_release(url: &str, major: u32, minor: u32) -> Result<KubeVersion, String> {
    let trouble = |error: &dyn std::fmt::Display| format!("{url} does not tell: {error}");
    let base = url.trim_end_matches('/').parse().map_err(|error: http::uri::InvalidUri| trouble(&error))?;
    let mut config = Config::new(base);
    config.default_retry = false;
    config.connect_timeout = Some(LOOK_UP);
    config.read_timeout = Some(LOOK_UP);
    let client = Client::try_from(config).map_err(|error| trouble(&error))?;
    let request = Request::get(format!("/stable-{major}.{minor}.txt"))
        .body(Vec::new())
        .map_err(|error| trouble(&error))?;
    let answer = tokio::time::timeout(LOOK_UP, client.request_text(request)).await;
    let text =
        answer.map_err(|_| trouble(&"no answer"))?.map_err(|error| trouble(&crate::error::chain(&error)))?;
    text.trim().parse().map_err(|error| trouble(&error))
}

/// What runs, and what it could be upgraded to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Targets {
    components: Vec<Current>,
    targets: Vec<KubeVersion>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Current {
    component: Component,
    node: String,
    version: Option<KubeVersion>,
    emulates: Option<String>,
    #[serde(skip)]
    running: Option<Running>,
}

async fn targets(inventory: &Inventory, known: Vec<KubeVersion>, release_url: &str) -> Targets {
    let components: Vec<Current> = inventory
        .instances
        .iter()
        .map(|instance| {
            let running = running(inventory, instance);
            Current {
                component: instance.component,
                node: instance.node.clone(),
                version: running.as_ref().map(|running| running.binary.clone()),
                emulates: running.as_ref().and_then(|running| Some(running.emulates?.to_string())),
                running,
            }
        })
        .collect();
    let oldest = components.iter().filter_map(|current| current.version.clone()).min();
    // What is half way of two steps is finished first: the version that runs is a target, and no later minor is.
    let half_way = half_way(&inventory.daemonsets);
    let mut targets = known;
    if let Some(oldest) = &oldest
        && !release_url.is_empty()
    {
        for minor in [oldest.minor, oldest.minor + 1] {
            targets.extend(newest_release(release_url, oldest.major, minor).await);
        }
    }
    targets.retain(|target| {
        oldest.as_ref().is_some_and(|oldest| {
            if half_way.is_some() {
                oldest <= target && target.minor == oldest.minor
            } else {
                oldest < target && target.minor <= oldest.minor + 1
            }
        })
    });
    targets.extend(half_way);
    targets.sort();
    targets.dedup();
    Targets { components, targets }
}

fn write_targets(terminal: &mut Terminal, format: Format, targets: &Targets) -> std::io::Result<()> {
    let theme = terminal.out.theme;
    match format {
        Format::Json => {
            return document::write(&mut terminal.out, DataFormat::Json, "UpgradeTargets", targets);
        }
        Format::Yaml => {
            return document::write(&mut terminal.out, DataFormat::Yaml, "UpgradeTargets", targets);
        }
        Format::Table | Format::Wide => {}
    }
    let newest = targets.targets.last();
    let shown = newest.map_or_else(|| "<none known>".to_owned(), ToString::to_string);
    let rows: Vec<Vec<table::Cell>> = targets
        .components
        .iter()
        .map(|current| {
            let version =
                current.running.as_ref().map_or_else(|| "<unknown>".to_owned(), ToString::to_string);
            vec![
                current.component.name().into(),
                current.node.clone().into(),
                version.into(),
                shown.clone().into(),
            ]
        })
        .collect();
    table::write(&mut terminal.out, &theme, &["COMPONENT", "NODE", "CURRENT", "TARGET"], &rows)?;
    writeln!(terminal.out)?;
    match newest {
        Some(newest) => {
            let known: Vec<String> = targets.targets.iter().map(ToString::to_string).collect();
            writeln!(terminal.out, "Known targets: {}", known.join(", "))?;
            writeln!(terminal.out, "Next: kubectl selfhost upgrade {newest} --dry-run=server")
        }
        None => writeln!(
            terminal.out,
            "No newer version is known: neither from images on the nodes nor from the release URL.\n\
             Next: kubectl selfhost upgrade vX.Y.Z"
        ),
    }
}
