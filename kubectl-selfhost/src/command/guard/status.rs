//! `guard status`: whether each API server enforces the rules.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client};
use selfhost_core::component::Component;
use selfhost_core::review::settings::Guard;
use serde::Serialize;

use crate::api;
use crate::cli::global::Global;
use crate::cli::guard::Status as Args;
use crate::cli::output::{DataFormat, Format};
use crate::client::{Connection, PATIENCE_TO_LOOK};
use crate::error::Failure;
use crate::exit::Exit;
use crate::guard::canary::Answer;
use crate::guard::credentials::Credentials;
use crate::guard::scope::Webhook;
use crate::guard::servers::{self, Server};
use crate::guard::{place, register};
use crate::inventory::observe::observe;
use crate::inventory::recognize;
use crate::plan::{guard, is_ready};
use crate::render::document;
use crate::render::table::{self, Cell};
use crate::template::guard::has_manifests;
use crate::terminal::Terminal;
use crate::theme::Tone;

/// What there is of a guard, and what it does.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    /// `selfhost-guard/selfhost-guard`; absent where none is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    /// `named` or `wide`; absent where none is registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    reach: Option<&'static str>,
    /// Whether what it does not answer is denied.
    fails_closed: bool,
    /// Whether its certificates can be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificates: Option<String>,
    /// Whether the API servers' DaemonSet names the credential that the guard knows.
    credential_is_current: bool,
    /// Whether static manifests are to keep the registration.
    static_manifests: bool,
    /// Whether its Pod is ready, by node.
    pods: BTreeMap<String, bool>,
    /// Each API server.
    servers: Vec<Server>,
}

impl Status {
    fn enforces(&self) -> bool {
        self.reach.is_some() && self.fails_closed && self.servers.iter().all(Server::enforces)
    }

    /// What puts right what is as it should not be.
    fn install(&self) -> String {
        let wide = if self.reach == Some("wide") { " --wide" } else { "" };
        let static_manifests = if self.static_manifests { " --static" } else { "" };
        format!("kubectl selfhost guard install{wide}{static_manifests}")
    }
}

/// Looks, asks, and tells.
pub(super) async fn run(global: &Global, args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let connection = Connection::open(&global.connection, PATIENCE_TO_LOOK).await?;
    let status = look(&connection).await?;
    let enforces = status.enforces();
    match args.output {
        Format::Json => document::write(&mut terminal.out, DataFormat::Json, "GuardStatus", &status)?,
        Format::Yaml => document::write(&mut terminal.out, DataFormat::Yaml, "GuardStatus", &status)?,
        Format::Table | Format::Wide => write(terminal, &status)?,
    }
    terminal.out.flush()?;
    Ok(if enforces { Exit::Success } else { Exit::Findings })
}

async fn look(connection: &Connection) -> Result<Status, Failure> {
    let client = connection.client();
    let inventory =
        observe(client, Timestamp::now()).await.map_err(|error| connection.unreachable(&error))?;
    let nodes =
        inventory.instances.iter().filter(|it| it.component == Component::ApiServer).filter_map(|it| {
            let address: IpAddr = it.pod.status.as_ref()?.host_ip.as_ref()?.parse().ok()?;
            Some((it.node.clone(), address))
        });
    let nodes: BTreeMap<String, IpAddr> = nodes.collect();
    let pod = inventory.instances.iter().find(|it| it.component == Component::ApiServer).map(|it| &it.pod);
    let command = pod.map(|pod| recognize::command(pod, Component::ApiServer.name())).unwrap_or_default();
    let port = crate::template::bridge::port(Component::ApiServer, &command);
    let connections = servers::reach(connection, nodes, port).await?;
    let found = place::find(client).await?;
    let credential = guard::credential(&inventory);
    let static_manifests = credential.as_deref().is_some_and(has_manifests);
    let registration = register::named(&found.clone().unwrap_or_default());
    let servers = servers::ask(&connections, static_manifests.then_some(&registration)).await;
    let webhooks =
        register::registered(client, &found.clone().unwrap_or_default()).await?.unwrap_or_default();
    let reach = match webhooks.len() {
        0 => None,
        1 => Some("named"),
        _ => Some("wide"),
    };
    let (certificates, known) = match &found {
        Some(place) => certificates(client, place).await?,
        None => (None, None),
    };
    Ok(Status {
        place: found.as_ref().map(|it| format!("{}/{}", it.namespace, it.name)),
        reach,
        fails_closed: !webhooks.is_empty() && webhooks.iter().all(Webhook::fails_closed),
        certificates,
        credential_is_current: known.is_some() && known == credential,
        static_manifests,
        pods: match &found {
            Some(place) => pods(client, place).await?,
            None => BTreeMap::new(),
        },
        servers,
    })
}

/// What is the matter with the guard's certificates, if anything, and the name of the API servers' credential.
async fn certificates(client: &Client, place: &Guard) -> Result<(Option<String>, Option<String>), Failure> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &place.namespace);
    Ok(match api::get(&secrets, &place.name).await? {
        None => (Some("there is no Secret with them".to_owned()), None),
        Some(secret) => match Credentials::of(secret, Timestamp::now()) {
            Ok(found) => (None, Some(found.name())),
            Err(error) => (Some(error.to_string()), None),
        },
    })
}

async fn pods(client: &Client, place: &Guard) -> Result<BTreeMap<String, bool>, Failure> {
    let found = place::pods(client, place).await?;
    let node = |pod: &Pod| Some((pod.spec.as_ref()?.node_name.clone()?, is_ready(pod)));
    Ok(found.iter().filter_map(node).collect())
}

fn write(terminal: &mut Terminal, status: &Status) -> io::Result<()> {
    let theme = terminal.out.theme;
    let place = status.place.as_deref().unwrap_or("not installed");
    let registered = match (status.reach, status.fails_closed) {
        (None, _) => theme.bad("not registered".to_owned()),
        (Some(reach), true) if status.static_manifests => {
            theme.good(format!("{reach}; what it does not answer is denied; kept by static manifests"))
        }
        (Some(reach), true) => theme.good(format!("{reach}; what it does not answer is denied")),
        (Some(reach), false) => theme.warn(format!("{reach}; what it does not answer goes through")),
    };
    writeln!(terminal.out, "Guard          {place}\nRegistration   {registered}")?;
    if let Some(problem) = &status.certificates {
        writeln!(terminal.out, "Certificates   {}", theme.bad(problem))?;
    } else if status.place.is_some() && !status.credential_is_current {
        let what = "the API servers are told to use others than it knows";
        writeln!(terminal.out, "Certificates   {}", theme.bad(what))?;
    }
    writeln!(terminal.out)?;
    let rows: Vec<Vec<Cell>> = status
        .servers
        .iter()
        .map(|server| {
            let pod = match status.pods.get(&server.node) {
                Some(true) => Cell::new("ready", Tone::Good),
                Some(false) => Cell::new("not ready", Tone::Bad),
                None => Cell::new("-", Tone::Plain),
            };
            let mut row = row(server);
            row.insert(2, pod);
            row
        })
        .collect();
    table::write(&mut terminal.out, &theme, &["NODE", "API SERVER", "GUARD", "ENFORCES"], &rows)?;
    if status.enforces() {
        return Ok(());
    }
    let install = status.install();
    if status.place.is_none() {
        writeln!(terminal.out, "\nNext: {install}")
    } else {
        writeln!(
            terminal.out,
            "\nNext: {install} puts it right, kubectl selfhost guard uninstall takes it away"
        )
    }
}

/// Node, address, and what the API server said.
fn row(server: &Server) -> Vec<Cell> {
    let (mut text, mut tone) = match &server.canary {
        Answer::Enforces(rules) => (format!("yes ({rules})"), Tone::Good),
        Answer::Admits => ("no: it admits what no guard admits".to_owned(), Tone::Bad),
        other => doubt(other),
    };
    match &server.registration {
        None => {}
        // Together with the rest.
        Some(Answer::Enforces(rules)) => {
            if let Answer::Enforces(others) = &server.canary {
                text = format!("yes ({others}, {rules})");
            }
        }
        Some(_) if tone != Tone::Good => {}
        Some(Answer::Admits) => {
            (text, tone) = ("no: it lets the registration be deleted".to_owned(), Tone::Bad);
        }
        Some(other) => (text, tone) = doubt(other),
    }
    let node = if server.node.is_empty() { "-" } else { &server.node };
    vec![node.to_owned().into(), server.address.clone().into(), Cell::new(text, tone)]
}

/// An answer that is neither yes nor no.
fn doubt(answer: &Answer) -> (String, Tone) {
    match answer {
        Answer::Fails(why) => (format!("denies, but is not answered: {why}"), Tone::Bad),
        other => (format!("unknown: {}", words(other)), Tone::Warn),
    }
}

/// What was said, or what it means.
fn words(answer: &Answer) -> &str {
    match answer {
        Answer::Enforces(_) => "enforces the rules",
        Answer::Admits => "does not ask it",
        Answer::Fails(why) | Answer::DeniedByOther(why) | Answer::Unknown(why) => why,
    }
}

/// What an API server said, in one line.
pub(super) fn said(server: &Server) -> String {
    let worst = server.answers().find(|answer| !matches!(answer, Answer::Enforces(_)));
    format!("{} {}", server.address, words(worst.unwrap_or(&server.canary)))
}

/// What `guard install` ends with.
pub(super) fn write_servers(terminal: &mut Terminal, format: Format, servers: &[Server]) -> io::Result<()> {
    if matches!(format, Format::Json | Format::Yaml) {
        return Ok(());
    }
    let theme = terminal.out.theme;
    let rows: Vec<Vec<Cell>> = servers.iter().map(row).collect();
    table::write(&mut terminal.out, &theme, &["NODE", "API SERVER", "ENFORCES"], &rows)
}
