//! What changed between two reports, a line for each change.
//!
//! Invariant: pure. What passes by itself (ages, the time of the observation) is no change.

use std::collections::{BTreeMap, BTreeSet};

use selfhost_core::finding::Finding;

use super::report::{Report, Row};

/// The changes from `before` to `after`, in the report's own order.
pub fn changes(before: &Report, after: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    if before.hosting != after.hosting {
        lines.push(format!("control plane: {} -> {}", before.hosting, after.hosting));
    }
    let operation = |report: &Report| {
        report.operation.as_ref().map(|operation| {
            let state = if operation.running { "running" } else { "interrupted" };
            let step = operation.step.as_ref().map_or_else(String::new, |step| format!(" at \"{step}\""));
            format!("{} {state}{step}", operation.what)
        })
    };
    match (operation(before), operation(after)) {
        (Some(before), None) => lines.push(format!("operation: {before} -> done")),
        (before, Some(after)) if before.as_ref() != Some(&after) => lines.push(format!("operation: {after}")),
        _ => {}
    }
    rows(before, after, &mut lines);
    let texts = |findings: &[Finding]| findings.iter().map(text).collect::<BTreeSet<_>>();
    let (old, new) = (texts(&before.findings), texts(&after.findings));
    lines.extend(new.difference(&old).map(|finding| format!("found {finding}")));
    lines.extend(old.difference(&new).map(|finding| format!("gone {finding}")));
    lines
}

/// A finding without the words that change with time alone.
fn text(finding: &Finding) -> String {
    format!("{} {} {}", finding.code, finding.severity, finding.subject)
}

fn rows(before: &Report, after: &Report, lines: &mut Vec<String>) {
    let old = by_place(before);
    let new = by_place(after);
    for (place, states) in &new {
        if old.get(place) != Some(states) {
            let was = old.get(place).map_or_else(|| "nothing".to_owned(), |states| states.join(" and "));
            lines.push(format!("{place}: {was} -> {}", states.join(" and ")));
        }
    }
    for (place, states) in old.iter().filter(|(place, _)| !new.contains_key(*place)) {
        lines.push(format!("{place}: {} -> nothing", states.join(" and ")));
    }
}

/// The state of what runs at each place; two while one Pod takes over from another.
fn by_place(report: &Report) -> BTreeMap<String, Vec<String>> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in &report.rows {
        let place = match &row.node {
            Some(node) => format!("{} on {node}", row.component),
            None => row.component.to_owned(),
        };
        places.entry(place).or_default().push(state(row));
    }
    places
}

fn state(row: &Row) -> String {
    let Some(run) = &row.run else {
        return row.hosting.to_string();
    };
    let version = run.version.as_ref().map_or_else(|| "unknown version".to_owned(), ToString::to_string);
    let ready = if run.ready { "ready" } else { "not ready" };
    let restarts = if run.restarts == 0 { String::new() } else { format!(", restarted {}", run.restarts) };
    format!("{} {version} {ready}{restarts}", row.hosting)
}
