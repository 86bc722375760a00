//! `guard uninstall`: the registration first, so that from then on nothing is denied; then everything else.
//!
//! Invariant: the registration goes whatever else is the matter: a control plane that is not healthy is the reason to
//! take a guard away, and none to keep it.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use kube::Client;
use selfhost_core::review::settings::Guard;
use serde_json::{Value, json};

use super::super::journal;
use super::super::operate::{Job, Operator, Planner, pinned};
use super::or_forced;
use crate::api::{self, ApiError};
use crate::cli::global::Global;
use crate::cli::guard::Uninstall;
use crate::cli::operation::{DryRun, Operation};
use crate::cli::output::Format;
use crate::error::Failure;
use crate::exit::Exit;
use crate::guard::change::Identity;
use crate::guard::objects::{self, Installation};
use crate::guard::{address, place, register, write};
use crate::inventory::Inventory;
use crate::node_task::{self, Task};
use crate::operation::record::{Asked, Record};
use crate::plan::{Goal, guard};
use crate::progress::Progress;
use crate::template::guard::ON_HOST;
use crate::terminal::Terminal;

/// How long the removal of files on a node may take.
const LIMIT: Duration = Duration::from_secs(30);

/// How long the namespace may take to end: the guard's Pods drain for up to 15 s.
const ENDED: Duration = Duration::from_secs(120);

/// What a node says of files that are gone.
#[derive(serde::Deserialize)]
struct Removed {}

/// Asks, takes the registration away, swaps, and removes the rest.
pub(super) async fn run(global: &Global, args: &Uninstall, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let operator = Operator::connect(global, &args.operation).await?;
    let client = operator.connection().client().clone();
    let inventory = operator.observe().await?;
    let found = place::find(&client).await?;
    let guard = found.clone().unwrap_or_default();
    let is_registered = write::get(&client, &register::named(&guard)).await?.is_some();
    if found.is_none() && !is_registered && guard::credential(&inventory).is_none() {
        return operator.nothing_to_do(terminal, &Goal::Disarm.to_string(), "No guard is installed.");
    }
    let record = Record::default();
    let node_image =
        pinned(&inventory, &args.operation.node_image).unwrap_or_else(|| args.operation.node_image.clone());
    let planner: Planner<'_> = &|inventory, pinned| {
        journal::plan(&Goal::Disarm, &record, &[], inventory, pinned.unwrap_or(&args.operation.node_image))
    };
    let plan = planner(&inventory, Some(&node_image));
    if args.operation.dry_run != DryRun::None {
        if matches!(args.operation.output, Format::Table | Format::Wide) {
            let (registration, namespace) = (register::named(&guard), objects::namespace(&guard));
            writeln!(terminal.out, "delete {}", Identity::of(&registration))?;
            writeln!(terminal.out, "delete {} and everything in it\n", Identity::of(&namespace))?;
        }
        return match plan {
            Ok(_) => {
                operator.run(&Job { planner, asked: Asked::default(), rolls_back: false }, terminal).await
            }
            Err(findings) => operator.refuse(terminal, &findings),
        };
    }
    let agreed = if let Ok(plan) = &plan {
        operator.confirmed(terminal, plan)?
    } else {
        let goal = Goal::Disarm;
        operator.agreed(
            terminal,
            None,
            &format!("{goal}, as far as it goes now: its registration"),
            &goal.command(),
        )?
    };
    if !agreed {
        writeln!(terminal.err, "Nothing was changed.")?;
        return Ok(Exit::Failure);
    }
    let progress = Progress::to_stderr();
    progress.begin("taking the registration away");
    register::unregister(&client, &guard).await.map_err(or_forced)?;
    progress.end();
    let plan = match plan {
        Ok(plan) => plan,
        Err(findings) => {
            let exit = operator.refuse(terminal, &findings)?;
            writeln!(
                terminal.err,
                "But the registration is gone: nothing is guarded any more. Next, once that is mended: kubectl selfhost guard uninstall"
            )?;
            return Ok(exit);
        }
    };
    if !plan.is_empty() {
        let agreed = Operation { yes: true, ..args.operation.clone() };
        let job = Job { planner, asked: Asked::default(), rolls_back: true };
        let exit = operator.with(&agreed).run(&job, terminal).await?;
        if exit != Exit::Success {
            return Ok(exit);
        }
    }
    remove(&client, &guard, &inventory, &node_image, &progress).await?;
    progress.end();
    let text = "No guard is installed any more.\nNext: kubectl selfhost status";
    operator.done_beside(terminal, &plan, progress.elapsed(), text)?;
    Ok(Exit::Success)
}

/// Removes the guard's objects, and the files of the API servers, which nobody reads any more.
async fn remove(
    client: &Client,
    guard: &Guard,
    inventory: &Inventory,
    node_image: &str,
    progress: &Progress,
) -> Result<(), Failure> {
    progress.begin("removing the guard");
    let none = BTreeSet::new();
    let mut objects = objects::all(&Installation {
        guard,
        image: "",
        node_image: "",
        settings: &json!({}),
        credential: "",
        port: address::DEFAULT_PORT,
        api_port: 0,
        secrets: &none,
        config_maps: &none,
    });
    // Its rights are not in its namespace alone.
    objects.extend(rights_elsewhere(client, guard).await?);
    for object in objects.iter().rev() {
        write::delete(client, object).await?;
    }
    let namespace = objects::namespace(guard);
    api::until::<_, ApiError, _, _>(format!("the end of namespace {}", guard.namespace), ENDED, || async {
        Ok(write::get(client, &namespace).await?.is_none().then_some(()))
    })
    .await?;
    progress.begin("removing its files");
    // After its Pods, which would put them there again.
    for node in inventory.control_plane.keys() {
        progress.waiting(&format!("remove-files on {node}"));
        let parent = ON_HOST.rsplit_once('/').map_or(ON_HOST, |(parent, _)| parent);
        let task = Task {
            name: "remove-files",
            node,
            image: node_image,
            args: vec![format!("--directory={ON_HOST}")],
            directories: vec![parent.to_owned()],
            limit: LIMIT,
        };
        node_task::run::<Removed>(client, &task).await?;
    }
    Ok(())
}

/// Roles by its name in whichever namespace has guarded Secrets or ConfigMaps.
async fn rights_elsewhere(client: &Client, guard: &Guard) -> Result<Vec<Value>, ApiError> {
    let mut found = Vec::new();
    for kind in ["Role", "RoleBinding"] {
        let any = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": guard.name, "namespace": ""},
        });
        found.extend(write::named_anywhere(client, &any).await?);
    }
    Ok(found)
}
