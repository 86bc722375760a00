//! `guard install`: the server, the API servers' certificate for it, and last the registration.
//!
//! Invariant: nothing is denied before every API server that can be reached was seen to ask the guard, and one that does
//! not ask it takes the registration away again.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};
use selfhost_core::component::Component;
use selfhost_core::finding::{Code, Finding};
use selfhost_core::registration::{self, Registration};
use selfhost_core::review::Settings;
use selfhost_core::review::settings::Guard;
use serde_json::{Value, json};

use super::super::journal;
use super::super::operate::{Job, Operator, Planner, pinned};
use super::{or_forced, settings, status};
use crate::api::{self, ApiError};
use crate::cli::global::Global;
use crate::cli::guard::Install;
use crate::cli::operation::{DryRun, Operation};
use crate::cli::output::Format;
use crate::error::Failure;
use crate::exit::Exit;
use crate::guard::canary;
use crate::guard::credentials::Credentials;
use crate::guard::objects::{self, Installation};
use crate::guard::register;
use crate::guard::scope::Webhook;
use crate::guard::servers::{self, Server};
use crate::guard::{address, place, write};
use crate::inventory::Inventory;
use crate::node_task::why_not_started;
use crate::operation::record::{Asked, Record};
use crate::plan::{Goal, Plan};
use crate::progress::Progress;
use crate::template::guard::KUBECONFIG;
use crate::terminal::Terminal;

/// The first minor whose API servers can read static manifests (KEP-5793).
const OLDEST_STATIC_MINOR: u32 = 36;

/// The first minor at which what is registered is there and stable: conditions of webhooks, and policies in CEL.
const OLDEST_MINOR: u32 = 30;

/// What to do where the guard itself is in the way of being put right.
const UNANSWERED: &str = "where it is the guard that denies it, or does not answer: kubectl selfhost guard uninstall, and \
                          install it anew";

/// How long the guard's Pods may take: images, and a policy that is compiled on a busy node.
const READY: Duration = Duration::from_secs(180);

/// How long an API server may take to hear of a registration.
const HEARD: Duration = Duration::from_secs(30);

/// What is to be there in the end.
struct Target<'a> {
    args: &'a Install,
    guard: Guard,
    settings: Value,
    credentials: Credentials,
    url: String,
    ca_bundle: String,
    secrets: BTreeSet<String>,
    config_maps: BTreeSet<String>,
    /// The image of the node part, by digest where it is known.
    node_image: String,
    api_port: u16,
}

impl Target<'_> {
    fn objects(&self) -> Vec<Value> {
        objects::all(&Installation {
            guard: &self.guard,
            image: &self.args.guard_image,
            node_image: &self.node_image,
            settings: &self.settings,
            credential: &self.credentials.name(),
            port: self.args.port,
            api_port: self.api_port,
            secrets: &self.secrets,
            config_maps: &self.config_maps,
        })
    }

    fn registration(&self, fail: bool) -> Registration<'_> {
        Registration {
            url: &self.url,
            ca_bundle: &self.ca_bundle,
            fail,
            wide: self.args.wide,
            secrets: &self.secrets,
            config_maps: &self.config_maps,
            guard: &self.guard,
        }
    }
}

/// Plans, asks, installs, swaps, registers.
pub(super) async fn run(global: &Global, args: &Install, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let (written, read) = settings::read(args.settings.as_deref())?;
    let operator = Operator::connect(global, &args.operation).await?;
    let client = operator.connection().client().clone();
    let inventory = operator.observe().await?;
    if let Some(finding) =
        too_old(&inventory, args.static_manifests).or(another_place(&client, &read.guard).await?)
    {
        return operator.refuse(terminal, &[finding]);
    }
    let (credentials, replaced) = credentials(&client, &read.guard, args).await?;
    let credential = credentials.name();
    let record = Record {
        asked: Asked { guard_credential: Some(credential.clone()), ..Asked::default() },
        ..Record::default()
    };
    let node_image =
        pinned(&inventory, &args.operation.node_image).unwrap_or_else(|| args.operation.node_image.clone());
    let planner: Planner<'_> = &|inventory, pinned| {
        journal::plan(&Goal::Arm, &record, &[], inventory, pinned.unwrap_or(&args.operation.node_image))
    };
    let plan = match planner(&inventory, Some(&node_image)) {
        Ok(plan) => plan,
        Err(findings) => return operator.refuse(terminal, &findings),
    };
    let target = target(args, written, &read, credentials, &inventory, &plan, node_image);
    if args.operation.dry_run != DryRun::None {
        return dry_run(&operator, &target, planner, &inventory, &plan, terminal).await;
    }
    if !operator.confirmed(terminal, &plan)? {
        writeln!(terminal.err, "Nothing was changed.")?;
        return Ok(Exit::Failure);
    }
    let progress = Progress::to_stderr();
    if replaced && register::unregister(&client, &target.guard).await.map_err(or_forced)? {
        // What they know each other by now would not do in the middle of the change.
        progress.note("the guard gets other certificates, and is not registered until it has them");
    }
    put_up(&client, &target, &inventory, &progress).await?;
    progress.end();
    if !plan.is_empty() {
        let agreed = Operation { yes: true, ..args.operation.clone() };
        let swapped = operator.with(&agreed);
        let job = Job { planner, asked: record.asked.clone(), rolls_back: true };
        let exit = swapped.run(&job, terminal).await?;
        if exit != Exit::Success {
            return Ok(exit);
        }
    }
    let servers = register_and_try(&operator, &target, &plan, &progress).await?;
    progress.end();
    status::write_servers(terminal, args.operation.output, &servers)?;
    let text = "The guard is installed.\nNext: kubectl selfhost guard scope";
    operator.done_beside(terminal, &plan, progress.elapsed(), text)?;
    Ok(Exit::Success)
}

fn too_old(inventory: &Inventory, static_manifests: bool) -> Option<Finding> {
    let version = inventory.server_version.as_ref()?;
    let (oldest, what, hint) = if static_manifests && version.minor >= OLDEST_MINOR {
        (OLDEST_STATIC_MINOR, "it reads no static manifests", "install the guard without --static")
    } else {
        (
            OLDEST_MINOR,
            "it cannot be told to ask the guard about some objects and no others",
            "what the rules say of a change: kubectl selfhost guard test FILE --live",
        )
    };
    (version.minor < oldest).then(|| {
        let message = format!("is older than v1.{oldest}: {what}");
        Finding::new(Code::PlanOnly, format!("API server {version}"), message).hint(hint)
    })
}

/// A guard that is installed elsewhere, by other settings: two would judge the same.
async fn another_place(client: &Client, wanted: &Guard) -> Result<Option<Finding>, Failure> {
    let found = place::find(client).await?.filter(|found| found != wanted);
    Ok(found.map(|found| {
        let message = format!("is installed already, as {}/{}", found.namespace, found.name);
        Finding::new(Code::GuardInstalled, "guard", message).hint("kubectl selfhost guard uninstall")
    }))
}

/// Those that are there, if they are whole, valid, and for this port, or new ones; with the static manifest that is asked
/// for. Tells whether other certificates take the place of what is there.
async fn credentials(client: &Client, guard: &Guard, args: &Install) -> Result<(Credentials, bool), Failure> {
    let now = Timestamp::now();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &guard.namespace);
    let found = api::get(&secrets, &guard.name).await?.and_then(|secret| Credentials::of(secret, now).ok());
    let found = found.filter(|found| {
        let kubeconfig: Value = serde_json::from_slice(&found.files[KUBECONFIG]).unwrap_or_default();
        kubeconfig["users"][0]["name"] == address::host(args.port)
    });
    let replaced = found.is_none();
    let credentials = match found {
        Some(found) => found,
        None => Credentials::make(now, args.port)?,
    };
    let none = BTreeSet::new();
    let manifest = args.static_manifests.then(|| {
        registration::static_manifest(&Registration {
            url: &address::url(args.port),
            ca_bundle: &credentials.ca_bundle(),
            fail: true,
            wide: args.wide,
            secrets: &none,
            config_maps: &none,
            guard,
        })
    });
    Ok((credentials.with_manifest(manifest.as_ref()), replaced))
}

fn target<'a>(
    args: &'a Install,
    written: Value,
    read: &Settings,
    credentials: Credentials,
    inventory: &Inventory,
    plan: &Plan,
    node_image: String,
) -> Target<'a> {
    let [mut secrets, mut config_maps] = objects::mounted(inventory);
    secrets.extend(read.secrets.iter().cloned());
    config_maps.extend(read.config_maps.iter().cloned());
    let mut settings = written;
    // The node part's Pods are privileged: the rules admit them by their image.
    if settings.get("nodeImages").is_none() {
        settings["nodeImages"] = json!([node_image]);
    }
    let api_port = plan.port(Component::ApiServer);
    let guard = read.guard.clone();
    Target {
        args,
        guard,
        settings,
        url: address::url(args.port),
        ca_bundle: credentials.ca_bundle(),
        credentials,
        secrets,
        config_maps,
        node_image,
        api_port,
    }
}

/// What would be written; with `--dry-run=server`, what the API server thinks of the swaps.
async fn dry_run(
    operator: &Operator<'_>,
    target: &Target<'_>,
    planner: Planner<'_>,
    inventory: &Inventory,
    plan: &Plan,
    terminal: &mut Terminal,
) -> Result<Exit, Failure> {
    let mut objects = target.objects();
    let registration = target.registration(true);
    objects.push(registration::webhook(&registration));
    objects.extend(registration::tier0(&registration));
    let output = target.args.operation.output;
    if matches!(output, Format::Table | Format::Wide) {
        for object in &objects {
            writeln!(terminal.out, "write {}", crate::guard::change::Identity::of(object))?;
        }
        writeln!(terminal.out)?;
    }
    if target.args.operation.dry_run == DryRun::Server {
        let job = Job { planner, asked: Asked::default(), rolls_back: false };
        return operator.run(&job, terminal).await;
    }
    super::super::dry_run::write_with(terminal, output, inventory, plan, &objects)?;
    writeln!(terminal.err, "Nothing was changed. Next: kubectl selfhost guard install --dry-run=server")?;
    Ok(Exit::Success)
}

/// Writes everything but the registration, and waits until a guard serves on every control-plane node.
async fn put_up(
    client: &Client,
    target: &Target<'_>,
    inventory: &Inventory,
    progress: &Progress,
) -> Result<(), Failure> {
    progress.begin("writing the guard's objects");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &target.guard.namespace);
    let objects = target.objects();
    for (index, object) in objects.iter().enumerate() {
        // What runs is as it is here and in no other way; the rest is added to by others, and that is theirs.
        let written = if object["kind"] == "DaemonSet" {
            put_daemonset(client, object, &target.guard, progress).await
        } else {
            write::ensure(client, object).await.map_err(Failure::from)
        };
        written.map_err(|failure| failure.or_hint(UNANSWERED))?;
        if index == 0 {
            // In the namespace, before the Pods that mount it.
            api::apply(&secrets, &target.credentials.secret(&target.guard)).await?;
        }
    }
    progress.begin("waiting until a guard serves on every control-plane node");
    let guard = &target.guard;
    let daemonsets: Api<DaemonSet> = Api::namespaced(client.clone(), &guard.namespace);
    let what = format!("the guard's Pods in {}", guard.namespace);
    let nodes = i32::try_from(inventory.control_plane.len()).unwrap_or(i32::MAX);
    let waited = api::until::<_, Failure, _, _>(what, READY, || async {
        let Some(daemonset) = api::get(&daemonsets, &guard.name).await? else { return Ok(None) };
        if serves(&daemonset, nodes) {
            return Ok(Some(()));
        }
        let found = place::pods(client, guard).await?;
        match found.iter().find_map(|pod| Some((pod.name_any(), why_not_started(pod)?))) {
            Some((name, why)) => {
                Err(Failure::message(format!("pod {}/{name}: {why}", guard.namespace), Exit::Failure)
                    .with_hint(
                        "nothing is registered yet: name other images with --guard-image and --node-image",
                    ))
            }
            None => Ok(None),
        }
    });
    waited.await.map_err(|failure| {
        failure.or_hint(&format!(
            "nothing is registered yet: kubectl -n {0} describe pods; kubectl -n {0} logs ds/{1}",
            guard.namespace, guard.name
        ))
    })
}

/// Writes the guard's DaemonSet. The guard itself denies what is more than another version of its images; and whoever may
/// install it may also take its registration away.
async fn put_daemonset(
    client: &Client,
    daemonset: &Value,
    guard: &Guard,
    progress: &Progress,
) -> Result<(), Failure> {
    let put = || write::put(client, daemonset, |_, _| ());
    match put().await {
        Err(error) if canary::denying(&error).is_some() => {}
        other => return Ok(other?),
    }
    progress.note("the guard keeps its DaemonSet from this change, and is not registered until it is made");
    register::unregister(client, guard).await.map_err(or_forced)?;
    api::until("the API servers to ask the guard no more", HEARD, || async {
        match put().await {
            Err(error) if canary::denying(&error).is_some() => Ok(None),
            other => Ok(Some(other?)),
        }
    })
    .await
}

/// Whether what the DaemonSet says now runs on as many nodes.
fn serves(daemonset: &DaemonSet, nodes: i32) -> bool {
    daemonset.status.as_ref().is_some_and(|status| {
        status.observed_generation == daemonset.metadata.generation
            && status.updated_number_scheduled == Some(status.desired_number_scheduled)
            && status.number_ready == status.desired_number_scheduled
            && status.desired_number_scheduled >= nodes
    })
}

/// Registers so that what is not answered goes through, has each API server try it, and only then denies that.
async fn register_and_try(
    operator: &Operator<'_>,
    target: &Target<'_>,
    plan: &Plan,
    progress: &Progress,
) -> Result<Vec<Server>, Failure> {
    let client = operator.connection().client();
    let nodes: Vec<(String, IpAddr)> =
        plan.nodes.iter().map(|(name, node)| (name.clone(), node.address)).collect();
    let connections = servers::reach(operator.connection(), nodes, target.api_port).await?;
    let registration = register::named(&target.guard);
    let kept = target.args.static_manifests.then_some(&registration);
    progress.begin("registering it");
    // One that denies already stays so while it is written anew: its Pods serve. One that was interrupted before it did is
    // tried first, as any other.
    let webhooks = register::registered(client, &target.guard).await?.unwrap_or_default();
    let denies = webhooks.iter().any(Webhook::fails_closed);
    register::register(client, &target.registration(denies)).await.map_err(or_forced)?;
    let enforcing = async || {
        api::until::<_, ApiError, _, _>("every API server to ask the guard", HEARD, || async {
            let servers = servers::ask(&connections, kept).await;
            Ok(servers.iter().all(Server::enforces).then_some(servers))
        })
        .await
    };
    progress.begin("having each API server ask it");
    if let Err(error) = enforcing().await {
        let servers = servers::ask(&connections, kept).await;
        if !denies {
            register::unregister(client, &target.guard).await.map_err(or_forced)?;
        }
        let said: Vec<String> = servers.iter().map(status::said).collect();
        return Err(Failure::from(error).with_hint(format!(
            "{}; {}",
            said.join("; "),
            if denies { "see kubectl selfhost guard status" } else { "it is not registered any more" }
        )));
    }
    let registration = target.registration(true);
    register::register(client, &registration).await.map_err(or_forced)?;
    register::write_policies(client, &registration).await.map_err(or_forced)?;
    progress.begin("having each API server ask it once more");
    Ok(enforcing().await?)
}
