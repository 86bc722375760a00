//! The report for people: a summary line, a table, findings, and the next command.
//!
//! Invariant: reads the same without colours, and the table's columns keep to 80 characters where names allow it
//! and nothing emulates: which component does is worth the three characters more.

use std::collections::BTreeSet;
use std::io::{self, Write};

use jiff::Timestamp;
use selfhost_core::component::Hosting;
use selfhost_core::finding::{Finding, Severity};

use super::document::FINDINGS_URL;
use super::report::{Report, Row, Run};
use crate::inventory::OpenOperation;
use crate::inventory::credentials::Source;
use crate::render::age;
use crate::render::table::{self, Cell};
use crate::render::text::write_wrapped;
use crate::theme::{Theme, Tone};

/// How many columns to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// Those that fit into 80 characters.
    Narrow,
    /// All.
    Wide,
}

/// Writes the report.
pub fn write(out: &mut dyn Write, theme: &Theme, columns: Columns, report: &Report) -> io::Result<()> {
    writeln!(out, "{}", summary(theme, report))?;
    if !report.standbys.is_empty() {
        writeln!(out, "{}", standby_line(theme, report))?;
    }
    if report.guard.is_some() {
        // What they do with it, only they can tell, and they are not asked here.
        let ask = theme.hint("kubectl selfhost guard status");
        writeln!(out, "{}           known to the API servers   {ask}", theme.strong("Guard"))?;
    }
    if let Some(operation) = &report.operation {
        writeln!(out, "{}", operation_line(theme, operation, report.taken_at))?;
    }
    writeln!(out)?;
    let rows: Vec<Vec<Cell>> = report.rows.iter().map(|row| cells(row, columns, report.taken_at)).collect();
    table::write(out, theme, headers(columns), &rows)?;
    writeln!(out)?;
    write_findings(out, theme, &report.findings)?;
    if let Some(next) = &report.next {
        writeln!(out, "\n{}: {}", next.purpose, theme.hint(&next.command))?;
    }
    Ok(())
}

fn summary(theme: &Theme, report: &Report) -> String {
    let versions: Vec<String> = report.versions.iter().map(ToString::to_string).collect();
    let versions = if versions.is_empty() { "version unknown".to_owned() } else { versions.join(" and ") };
    let nodes = match &report.nodes {
        None => (Tone::Warn, "nodes unknown".to_owned()),
        Some(nodes) if nodes.is_empty() => (Tone::Plain, "no nodes of its own".to_owned()),
        Some(nodes) => {
            let n_ready = nodes.iter().filter(|node| node.ready).count();
            let tone = if n_ready == nodes.len() { Tone::Good } else { Tone::Bad };
            let word = if nodes.len() == 1 { "node" } else { "nodes" };
            (tone, format!("{n_ready}/{} {word} ready", nodes.len()))
        }
    };
    format!(
        "{}   {}   {versions}   {}",
        theme.strong("Control plane"),
        theme.paint(tone_of(report.hosting), report.hosting),
        theme.paint(nodes.0, nodes.1),
    )
}

/// What would start it again, and on how many of the nodes.
fn standby_line(theme: &Theme, report: &Report) -> String {
    let versions: BTreeSet<_> = report.standbys.iter().filter_map(|it| it.version.as_ref()).collect();
    let versions: Vec<String> = versions.into_iter().map(ToString::to_string).collect();
    let whole = report.standbys.iter().filter(|it| it.whole).count();
    let all = report.nodes.as_ref().map_or(report.standbys.len(), Vec::len);
    let word = if all == 1 { "node" } else { "nodes" };
    let tone = if whole == all { Tone::Good } else { Tone::Warn };
    let where_to = theme.paint(tone, format!("{whole}/{all} {word}"));
    format!("{}         checkpoint of {}   {where_to}", theme.strong("Standby"), versions.join(" and "))
}

/// The step is in the finding, which has room for it.
fn operation_line(theme: &Theme, operation: &OpenOperation, now: Timestamp) -> String {
    let state = if operation.running { theme.good("running") } else { theme.warn("interrupted") };
    let since =
        operation.since.map_or_else(String::new, |since| format!("   {}", age::age(Some(since), now)));
    format!("{}       {}   {state}{since}", theme.strong("Operation"), operation.what)
}

fn headers(columns: Columns) -> &'static [&'static str] {
    match columns {
        Columns::Narrow => &["COMPONENT", "NODE", "HOSTING", "READY", "VERSION", "RESTARTS", "AGE"],
        Columns::Wide => &[
            "COMPONENT",
            "NODE",
            "HOSTING",
            "READY",
            "VERSION",
            "RESTARTS",
            "AGE",
            "ADDRESS",
            "CREDENTIALS",
            "EXPIRES",
            "STRATEGY",
            "POD",
            "IMAGE",
        ],
    }
}

fn cells(row: &Row, columns: Columns, now: Timestamp) -> Vec<Cell> {
    let node = row.node.clone().unwrap_or_else(|| match row.hosting {
        Hosting::External => "<none>".to_owned(),
        _ => "<unknown>".to_owned(),
    });
    let mut cells: Vec<Cell> =
        vec![row.component.into(), node.into(), Cell::new(row.hosting.to_string(), tone_of(row.hosting))];
    let Some(run) = &row.run else { return cells };
    let (ready, all) = run.containers;
    let tone = if run.ready { Tone::Good } else { Tone::Bad };
    cells.push(Cell::new(format!("{ready}/{all}"), tone));
    cells.push(
        run.version.as_ref().map_or_else(|| Cell::new("<unknown>", Tone::Warn), |v| v.to_string().into()),
    );
    cells.push(run.restarts.to_string().into());
    cells.push(age::age(run.created, now).into());
    if columns == Columns::Wide {
        cells.push(run.address.clone().unwrap_or_else(|| "<unknown>".to_owned()).into());
        cells.push(run.source.to_string().into());
        cells.push(expires(run, now));
        cells.push(run.strategy.clone().unwrap_or_else(|| "<none>".to_owned()).into());
        cells.push(run.pod.clone().into());
        cells.push(run.image.clone().unwrap_or_else(|| "<unknown>".to_owned()).into());
    }
    cells
}

/// The time that is left to the first certificate that can be seen; else why none can.
fn expires(run: &Run, now: Timestamp) -> Cell {
    match (run.expires, run.source) {
        (Some(end), _) if end <= now => Cell::new("expired", Tone::Bad),
        (Some(end), _) => age::age(Some(now), end).into(),
        (None, Source::HostPath | Source::Mixed) => "<on-disk>".into(),
        (None, Source::Secret | Source::Unknown) => "<unknown>".into(),
    }
}

fn tone_of(hosting: Hosting) -> Tone {
    match hosting {
        Hosting::SelfHosted => Tone::Good,
        Hosting::StaticPod | Hosting::External => Tone::Plain,
        Hosting::Mixed | Hosting::Unknown => Tone::Warn,
        Hosting::Missing => Tone::Bad,
    }
}

fn write_findings(out: &mut dyn Write, theme: &Theme, findings: &[Finding]) -> io::Result<()> {
    if findings.is_empty() {
        return writeln!(out, "{}", theme.good("No findings."));
    }
    for (severity, title) in
        [(Severity::Error, "Errors"), (Severity::Warning, "Warnings"), (Severity::Info, "Notes")]
    {
        let those: Vec<&Finding> = findings.iter().filter(|finding| finding.severity == severity).collect();
        if those.is_empty() {
            continue;
        }
        writeln!(out, "{}:", theme.paint(Tone::from(severity), title))?;
        for (index, finding) in those.iter().enumerate() {
            let text = format!("{}: {}", finding.subject, finding.message);
            let code = theme.paint(Tone::from(severity), finding.code);
            write_wrapped(out, &format!("  {code}  "), &text)?;
            // The same hint several times in a row is noise: the last one stands for all.
            let repeated = those.get(index + 1).is_some_and(|next| next.hint == finding.hint);
            let Some(hint) = finding.hint.as_ref().filter(|_| !repeated) else {
                continue;
            };
            if hint.starts_with("kubectl ") {
                // A command must stay on one line to be copied.
                writeln!(out, "          {} {hint}", theme.hint("hint:"))?;
            } else {
                write_wrapped(out, &format!("          {} ", theme.hint("hint:")), hint)?;
            }
        }
    }
    writeln!(out, "Each code is explained at {FINDINGS_URL}")
}
