//! `guard scope`: which requests can reach the guard.

use std::io::Write as _;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde::Serialize;

use crate::api::{self, ApiError};
use crate::cli::global::Global;
use crate::cli::guard::Scope as Args;
use crate::cli::output::{DataFormat, Format};
use crate::client::{Connection, PATIENCE_TO_LOOK};
use crate::error::Failure;
use crate::exit::Exit;
use crate::guard::scope::{self, Webhook};
use crate::guard::{place, register};
use crate::render::document;
use crate::template::guard::MANIFEST;
use crate::terminal::Terminal;

#[derive(Debug, Serialize)]
struct Scope {
    webhooks: Vec<Webhook>,
}

/// Reads what is registered, and tells.
pub(super) async fn run(global: &Global, args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let connection = Connection::open(&global.connection, PATIENCE_TO_LOOK).await?;
    let client = connection.client();
    let place = place::find(client).await?.unwrap_or_default();
    let Some(mut webhooks) = register::registered(client, &place).await? else {
        return Err(Failure::message("no guard is registered", Exit::Failure)
            .with_hint("what would be: kubectl selfhost guard install --dry-run -o yaml"));
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &place.namespace);
    match api::get(&secrets, &place.name).await {
        Ok(secret) => webhooks.extend(secret.iter().flat_map(of_manifest)),
        Err(ApiError::Call { source, .. }) if api::code(&source) == Some(403) => writeln!(
            terminal.err,
            "What static manifests send, if there are any, is not shown: their Secret {}/{} may not be read.",
            place.namespace, place.name
        )?,
        Err(error) => return Err(error.into()),
    }
    let theme = terminal.out.theme;
    match args.output {
        Format::Json => {
            document::write(&mut terminal.out, DataFormat::Json, "GuardScope", &Scope { webhooks })?;
        }
        Format::Yaml => {
            document::write(&mut terminal.out, DataFormat::Yaml, "GuardScope", &Scope { webhooks })?;
        }
        Format::Table => scope::write(&mut terminal.out, &theme, &webhooks, false)?,
        Format::Wide => scope::write(&mut terminal.out, &theme, &webhooks, true)?,
    }
    terminal.out.flush()?;
    Ok(Exit::Success)
}

/// The webhooks of the static manifest in the guard's Secret.
fn of_manifest(secret: &Secret) -> Vec<Webhook> {
    let manifest = secret.data.as_ref().and_then(|data| data.get(MANIFEST));
    manifest.map(|it| scope::of(&serde_json::from_slice(&it.0).unwrap_or_default())).unwrap_or_default()
}
