//! `version`: of this plugin, and of the API server.
//!
//! Invariant: `--client` asks nobody.

use std::io::Write as _;

use serde::Serialize;

use crate::cli::global::Global;
use crate::cli::version::Args;
use crate::client::{Connection, PATIENCE_TO_LOOK};
use crate::error::Failure;
use crate::exit::Exit;
use crate::render::document;
use crate::terminal::Terminal;

/// The versions, as data.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_version: Option<String>,
}

/// Prints the versions.
pub(super) async fn run(global: &Global, args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let server_version = if args.client {
        None
    } else {
        let connection = Connection::open(&global.connection, PATIENCE_TO_LOOK).await?;
        let version = connection.client().apiserver_version().await;
        Some(version.map_err(|error| connection.unreachable(&error))?.git_version)
    };
    let versions = Versions { client_version: format!("v{}", env!("CARGO_PKG_VERSION")), server_version };
    let out = &mut terminal.out;
    if let Some(format) = args.output {
        document::write(out, format, "Version", &versions)?;
    } else {
        writeln!(out, "Client version: {}", versions.client_version)?;
        if let Some(server) = &versions.server_version {
            writeln!(out, "Server version: {server}")?;
        }
    }
    out.flush()?;
    Ok(Exit::Success)
}
