//! The report as text: a table, then what is worth a look. At most 80 columns, no color.

use std::fmt::{Result, Write};
use std::time::Duration;

use super::{Gap, Report, Summary};

const WIDTH: usize = 80;
/// What is left of 80 columns by the five figures.
const NAME_WIDTH: usize = 28;
/// Beyond this the prober's own machine was too busy for the figures to be the server's alone.
const NOTABLE_LAG: Duration = Duration::from_millis(100);

pub(super) fn write(report: &Report, out: &mut impl Write) -> Result {
    let header = ["REQUESTS", "FAILED", "RETRY-AFTER", "LONGEST-GAP", "P99"].map(str::to_owned);
    write_row(out, "AVAILABILITY", &header)?;
    for series in &report.series {
        write_row(
            out,
            &format!("{} {}", series.target, series.mode),
            &cells(&series.summary),
        )?;
    }
    if report.series.len() > 1 {
        write_row(out, "total", &cells(&report.total))?;
    }
    write_gap(out, &report.total.longest_gap)?;
    write_failures(out, report)?;
    if report.total.counts.replayed > 0 {
        let replayed = report.total.counts.replayed;
        write_line(
            out,
            &format!("replayed: {replayed} that the server had not processed, as client-go does"),
        )?;
    }
    if let Some(bound) = &report.ended_by {
        let seconds = seconds(report.duration);
        write_line(out, &format!("ended by itself: {bound} reached after {seconds}"))?;
    }
    if report.max_send_lag > NOTABLE_LAG {
        let lag = seconds(report.max_send_lag);
        write_line(
            out,
            &format!("note: the prober's own machine delayed requests by up to {lag}"),
        )?;
    }
    Ok(())
}

fn cells(summary: &Summary) -> [String; 5] {
    [
        summary.counts.requests.to_string(),
        summary.counts.failed.to_string(),
        summary.counts.retry_after.to_string(),
        seconds(summary.longest_gap.length),
        summary
            .latency
            .map_or_else(|| "-".to_owned(), |latency| short(latency.p99)),
    ]
}

fn write_row(out: &mut impl Write, name: &str, cells: &[String; 5]) -> Result {
    // A name that does not fit has a line of its own: no address is ever cut.
    let name = if name.chars().count() > NAME_WIDTH {
        writeln!(out, "{name}")?;
        ""
    } else {
        name
    };
    let [requests, failed, retry_after, gap, p99] = cells;
    writeln!(
        out,
        "{name:<NAME_WIDTH$}{requests:>10}{failed:>8}{retry_after:>13}{gap:>13}{p99:>8}"
    )
}

fn write_gap(out: &mut impl Write, gap: &Gap) -> Result {
    let during = gap
        .step
        .as_ref()
        .map(|step| format!(" ({step})"))
        .unwrap_or_default();
    write_line(
        out,
        &format!(
            "longest gap: {} at {}{during}",
            seconds(gap.length),
            seconds(gap.began_at)
        ),
    )
}

fn write_failures(out: &mut impl Write, report: &Report) -> Result {
    for series in &report.series {
        if series.summary.failures.is_empty() {
            continue;
        }
        let kinds: Vec<String> = series
            .summary
            .failures
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        write_line(
            out,
            &format!(
                "failed at {} {}: {}",
                series.target,
                series.mode,
                kinds.join(", ")
            ),
        )?;
        for sample in &series.first_failures {
            let step = sample
                .step
                .as_ref()
                .map(|step| format!(" ({step})"))
                .unwrap_or_default();
            let line = format!(
                "  {}{step} {}: {}",
                seconds(sample.at),
                sample.request,
                sample.text
            );
            write_line(out, &line)?;
        }
    }
    Ok(())
}

/// Cuts at the right edge; the whole text is in the JSON report. Control characters would break the table.
fn write_line(out: &mut impl Write, line: &str) -> Result {
    let line: String = line
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match line.char_indices().nth(WIDTH) {
        Some(_) => {
            let kept: String = line.chars().take(WIDTH - 3).collect();
            writeln!(out, "{kept}...")
        }
        None => writeln!(out, "{line}"),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.2}s", duration.as_secs_f64())
}

fn short(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    if millis < 9.95 {
        format!("{millis:.1}ms")
    } else if millis < 999.5 {
        format!("{millis:.0}ms")
    } else {
        seconds(duration)
    }
}
