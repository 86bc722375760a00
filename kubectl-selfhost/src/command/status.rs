//! `status`: observe, judge, show.
//!
//! Invariant: read-only. Every format shows the same facts and leads to the same exit code.

use std::io::{self, Write};

use jiff::Timestamp;

use crate::cli::global::Global;
use crate::cli::output::{DataFormat, Format};
use crate::cli::status::Args;
use crate::client::{self, Connection, PATIENCE_TO_LOOK};
use crate::error::Failure;
use crate::exit::Exit;
use crate::inventory::certificates::{self, Address};
use crate::inventory::observe::observe;
use crate::status::Report;
use crate::status::table::Columns;
use crate::status::{document, table};
use crate::terminal::{Stream, Terminal};

mod watch;

/// Prints the status, once or until interrupted.
pub(super) async fn run(global: &Global, args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let connection = Connection::open(&global.connection, PATIENCE_TO_LOOK).await?;
    if args.watch {
        return watch::watch(&connection, args, terminal).await;
    }
    let report = report(&connection).await?;
    write(&mut terminal.out, args.output, &report)?;
    terminal.out.flush()?;
    Ok(exit(args, &report))
}

/// Observes the cluster, and judges what was seen.
async fn report(connection: &Connection) -> Result<Report, client::Error> {
    let mut inventory = observe(connection.client(), Timestamp::now())
        .await
        .map_err(|error| connection.unreachable(&error))?;
    inventory.certificates =
        certificates::observe(&inventory, connection.client(), connected(connection)).await;
    Ok(Report::new(&inventory, connection.server().to_string()))
}

/// Where the server that answers can be greeted; not through a proxy, and not without TLS.
fn connected(connection: &Connection) -> Option<Address> {
    let server = connection.server();
    if connection.is_proxied() || server.scheme_str() != Some("https") {
        return None;
    }
    let host = server.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(Address { node: None, host, port: server.port_u16().unwrap_or(443) })
}

fn write(out: &mut Stream, format: Format, report: &Report) -> io::Result<()> {
    let theme = out.theme;
    match format {
        Format::Table => table::write(out, &theme, Columns::Narrow, report),
        Format::Wide => table::write(out, &theme, Columns::Wide, report),
        Format::Json => document::write(out, DataFormat::Json, report),
        Format::Yaml => document::write(out, DataFormat::Yaml, report),
    }
}

/// The exit code that a report leads to.
fn exit(args: &Args, report: &Report) -> Exit {
    if report.worst().is_some_and(|worst| args.fail_on.is_reached_by(worst)) {
        Exit::Findings
    } else {
        Exit::Success
    }
}
