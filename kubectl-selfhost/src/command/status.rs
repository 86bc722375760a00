//! `status`: observe, judge, show.

use crate::cli::global::Global;
use crate::cli::status::Args;
use crate::client::{Connection, PATIENCE_TO_LOOK};
use crate::error::Failure;
use crate::exit::Exit;
use crate::terminal::Terminal;

/// Prints the status.
pub(super) async fn run(global: &Global, _args: &Args, _terminal: &mut Terminal) -> Result<Exit, Failure> {
    let connection = Connection::open(&global.connection, PATIENCE_TO_LOOK).await?;
    let version = connection.client().apiserver_version().await;
    version.map_err(|error| connection.unreachable(&error))?;
    Ok(Exit::Success)
}
