//! `guard test`: what the rules think of a change, without making it.

use std::io::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::global::Global;
use crate::cli::guard::Test;
use crate::cli::output::{DataFormat, Format};
use crate::client::{Connection, PATIENCE_TO_LOOK};
use crate::error::Failure;
use crate::exit::Exit;
use crate::guard::change::{self, Asker};
use crate::guard::facts::Source;
use crate::guard::report::Change;
use crate::render::document;
use crate::terminal::Terminal;

use super::settings;

/// The verdicts, as data.
#[derive(Debug, Serialize)]
struct Verdicts {
    changes: Vec<Change>,
}

/// Judges every change, and prints what the rules say.
pub(super) async fn run(global: &Global, args: &Test, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let settings = settings::read(args.settings.as_deref())?.1;
    let connection = &global.connection;
    let asker = Asker::named(connection.impersonate.as_deref(), &connection.impersonate_groups);
    let source = source(global, args).await?;
    let now = Timestamp::now().as_second();
    let mut changes = Vec::new();
    for path in &args.files {
        for object in change::read(path)? {
            let request = if change::is_review(&object) {
                object["request"].clone()
            } else {
                let old = source.now(&object).await.map_err(|error| {
                    Failure::message(format!("cannot read what is there now: {error}"), Exit::Failure)
                        .with_hint("give it with --old")
                })?;
                change::request(&object, old.as_ref(), args.delete, &asker)
            };
            let verdict = source.verdict(&request, &settings, now).await;
            changes.push(Change::new(&request, verdict));
        }
    }
    let denied = changes.iter().any(|change| !change.verdict.allowed);
    let out = &mut terminal.out;
    match args.output {
        Format::Json => document::write(out, DataFormat::Json, "Verdicts", &Verdicts { changes })?,
        Format::Yaml => document::write(out, DataFormat::Yaml, "Verdicts", &Verdicts { changes })?,
        Format::Table | Format::Wide => {
            let theme = out.theme;
            changes.iter().try_for_each(|change| change.write(out, &theme))?;
        }
    }
    out.flush()?;
    Ok(if denied { Exit::Findings } else { Exit::Success })
}

async fn source(global: &Global, args: &Test) -> Result<Source, Failure> {
    if args.live {
        // What is there is read with one's own rights, whoever is said to change it.
        let mut flags = global.connection.clone();
        flags.impersonate = None;
        flags.impersonate_groups.clear();
        flags.impersonate_uid = None;
        let connection = Connection::open(&flags, PATIENCE_TO_LOOK).await?;
        return Ok(Source::Cluster(connection.client().clone()));
    }
    let files = [&args.old[..], &args.with].concat();
    if files.is_empty() {
        return Ok(Source::Nothing);
    }
    let mut objects = Vec::new();
    for path in &files {
        objects.extend(change::read(path)?);
    }
    Ok(Source::Files(objects))
}
