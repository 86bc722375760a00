//! `backup`: observe, plan, and one task on each control-plane node.
//!
//! Invariant: one node after the other, so that etcd sends what it has to one at a time.

use std::io::{self, Write as _};

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::backup::Args;
use crate::cli::global::Global;
use crate::cli::output::{DataFormat, Format};
use crate::client::{Connection, PATIENCE_TO_LOOK};
use crate::error::Failure;
use crate::execute::backup::{Backup, take};
use crate::exit::Exit;
use crate::inventory::observe::observe;
use crate::plan::backup::{NodeBackup, plan};
use crate::preflight::inspect::manifest_dir;
use crate::progress::Progress;
use crate::render::{document, table};
use crate::terminal::Terminal;

/// What was made, for programs.
#[derive(Serialize)]
struct Backups {
    backups: Vec<Made>,
}

/// A backup, and whose it is.
#[derive(Serialize)]
struct Made {
    node: String,
    #[serde(flatten)]
    backup: Backup,
}

/// Backs up each node, and prints what was made.
pub(super) async fn run(global: &Global, args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let connection = Connection::open(&global.connection, PATIENCE_TO_LOOK).await?;
    let now = Timestamp::now();
    let inventory =
        observe(connection.client(), now).await.map_err(|error| connection.unreachable(&error))?;
    let planned = plan(&inventory, &args.nodes, &args.to, &now.strftime("%Y%m%dT%H%M%SZ").to_string())?;
    if args.dry_run {
        write_plan(terminal, args.output, &planned)?;
        return Ok(Exit::Success);
    }
    let progress = Progress::to_stderr();
    let mut backups = Vec::new();
    for backup in &planned {
        progress.begin(&format!("backup of {} to {}", backup.node, backup.directory));
        match one(&connection, args, backup).await {
            Ok(made) => backups.push(Made { node: backup.node.clone(), backup: made }),
            Err(failure) => {
                progress.end();
                // What was made is worth knowing, and stays.
                if !backups.is_empty() {
                    write(terminal, args.output, &Backups { backups })?;
                }
                return Err(failure);
            }
        }
    }
    progress.end();
    write(terminal, args.output, &Backups { backups })?;
    Ok(Exit::Success)
}

async fn one(connection: &Connection, args: &Args, backup: &NodeBackup) -> Result<Backup, Failure> {
    let client = connection.client();
    let manifests = manifest_dir(client, &backup.node).await.map_err(|finding| {
        let failure = Failure::message(format!("{}: {}", finding.subject, finding.message), Exit::Findings);
        match finding.hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    })?;
    Ok(take(client, &args.node_image, &manifests, backup).await?)
}

/// Says what would be backed up.
fn write_plan(terminal: &mut Terminal, format: Format, planned: &[NodeBackup]) -> io::Result<()> {
    #[derive(Serialize)]
    struct Plan<'a> {
        backups: &'a [NodeBackup],
    }
    let plan = Plan { backups: planned };
    match format {
        Format::Json => document::write(&mut terminal.out, DataFormat::Json, "BackupPlan", &plan)?,
        Format::Yaml => document::write(&mut terminal.out, DataFormat::Yaml, "BackupPlan", &plan)?,
        Format::Table | Format::Wide => {
            let rows: Vec<Vec<table::Cell>> = planned
                .iter()
                .map(|it| {
                    vec![it.node.as_str().into(), it.directory.as_str().into(), it.etcd_image.as_str().into()]
                })
                .collect();
            let theme = terminal.out.theme;
            table::write(&mut terminal.out, &theme, &["NODE", "DIRECTORY", "ETCD"], &rows)?;
        }
    }
    writeln!(terminal.err, "Nothing was changed. Next: the same command without --dry-run")
}

/// Prints what was made, and what to do with it.
fn write(terminal: &mut Terminal, format: Format, made: &Backups) -> io::Result<()> {
    match format {
        Format::Json => document::write(&mut terminal.out, DataFormat::Json, "Backups", made),
        Format::Yaml => document::write(&mut terminal.out, DataFormat::Yaml, "Backups", made),
        Format::Table | Format::Wide => {
            let theme = terminal.out.theme;
            write_table(&mut terminal.out, &theme, &made.backups)
        }
    }
}

fn write_table(out: &mut dyn io::Write, theme: &crate::theme::Theme, made: &[Made]) -> io::Result<()> {
    let rows: Vec<Vec<table::Cell>> = made
        .iter()
        .map(|Made { node, backup }| {
            vec![
                node.as_str().into(),
                backup.revision.to_string().into(),
                size(backup.snapshot_bytes).into(),
                backup.sha256.get(..12).unwrap_or(&backup.sha256).into(),
                backup.files.all().to_string().into(),
                backup.directory.as_str().into(),
            ]
        })
        .collect();
    let headers = ["NODE", "REVISION", "SNAPSHOT", "SHA256", "FILES", "DIRECTORY"];
    table::write(out, theme, &headers, &rows)?;
    writeln!(out)?;
    for Made { node, backup } in made {
        let files = backup.files;
        writeln!(
            out,
            "{node} holds etcd {} with {} keys, which {} restored once; {} static manifests, {} certificates and keys, \
             {} kubeconfigs, {} kept manifests and checkpoints, {} other files.",
            backup.etcd_version,
            backup.keys,
            backup.checked_by,
            files.manifests,
            files.pki,
            files.kubeconfigs,
            files.kept,
            files.others
        )?;
    }
    writeln!(
        out,
        "A backup holds every secret of the cluster, and is lost with its node: copy it to where both is minded."
    )?;
    let Some(Made { node, backup }) = made.first() else { return Ok(()) };
    writeln!(out, "To restore, as root on {node}: selfhost-node restore --from {}", backup.directory)?;
    writeln!(out, "Next: scp -rp root@{node}:{} .", backup.directory)
}

/// A size with three digits, as people read it.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn size(bytes: u64) -> String {
    let mut rest = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if rest < 1000.0 {
            return if rest < 10.0 && unit != "B" {
                format!("{rest:.1} {unit}")
            } else {
                format!("{rest:.0} {unit}")
            };
        }
        rest /= 1024.0;
    }
    format!("{rest:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execute::backup::Files;
    use crate::theme::Theme;

    #[test]
    fn what_was_made_is_told_with_what_to_do_next() {
        let backup = Backup {
            directory: "/var/lib/selfhost/backups/20261125T014645Z-cp1".to_owned(),
            revision: 540,
            keys: 312,
            snapshot_bytes: 798_752,
            sha256: "0123456789abcdef".repeat(4),
            checked_by: "etcdutl".to_owned(),
            etcd_version: "3.6.8".to_owned(),
            member: "cp1".to_owned(),
            members: 1,
            files: Files { manifests: 4, pki: 22, kubeconfigs: 5, kept: 0, others: 1 },
        };
        let mut out = Vec::new();
        write_table(&mut out, &Theme::plain(), &[Made { node: "cp1".to_owned(), backup }]).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KiB"),
            (798_752, "780 KiB"),
            (2 << 30, "2.0 GiB"),
            (8 << 40, "8.0 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
