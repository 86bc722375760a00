//! The report as text: a table, then what is worth a look. At most 80 columns, no color.

use std::cmp::Reverse;
use std::fmt::{Result, Write};
use std::time::Duration;

use super::{Gap, Report, Summary};

const WIDTH: usize = 80;
/// Of the second and further lines of one that was broken.
const HANGING_INDENT: usize = 2;
/// What is left of 80 columns by the five figures.
const NAME_WIDTH: usize = 28;
/// Beyond this the prober's own machine was too busy for the figures to be the server's alone.
const NOTABLE_LAG: Duration = Duration::from_millis(100);

pub(super) fn write(report: &Report, out: &mut impl Write) -> Result {
    let header = ["REQUESTS", "FAILED", "RETRY-AFTER", "LONGEST-GAP", "P99"].map(str::to_owned);
    write_row(out, "AVAILABILITY", &header)?;
    for series in &report.series {
        write_row(out, &format!("{} {}", series.target, series.mode), &cells(&series.summary))?;
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
            &format!("replayed: {replayed} whose connection went away first, as client-go does"),
        )?;
    }
    if let Some(bound) = &report.ended_by {
        let seconds = seconds(report.duration);
        write_line(out, &format!("ended by itself: {bound} reached after {seconds}"))?;
    }
    if report.max_send_lag > NOTABLE_LAG {
        let lag = seconds(report.max_send_lag);
        write_line(out, &format!("note: the prober's own machine delayed requests by up to {lag}"))?;
    }
    Ok(())
}

fn cells(summary: &Summary) -> [String; 5] {
    [
        summary.counts.requests.to_string(),
        summary.counts.failed.to_string(),
        summary.counts.retry_after.to_string(),
        seconds(summary.longest_gap.length),
        summary.latency.map_or_else(|| "-".to_owned(), |latency| short(latency.p99)),
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
    writeln!(out, "{name:<NAME_WIDTH$}{requests:>10}{failed:>8}{retry_after:>13}{gap:>13}{p99:>8}")
}

fn write_gap(out: &mut impl Write, gap: &Gap) -> Result {
    let during = gap.step.as_ref().map(|step| format!(" ({step})")).unwrap_or_default();
    write_line(out, &format!("longest gap: {} at {}{during}", seconds(gap.length), seconds(gap.began_at)))
}

fn write_failures(out: &mut impl Write, report: &Report) -> Result {
    for series in &report.series {
        if series.summary.failures.is_empty() {
            continue;
        }
        let mut failures: Vec<_> = series.summary.failures.iter().collect();
        failures.sort_by_key(|(_, count)| Reverse(**count));
        let kinds: Vec<String> =
            failures.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        write_line(out, &format!("failed at {} {}:", series.target, series.mode))?;
        write_line(out, &format!("  {}", kinds.join(", ")))?;
        for sample in &series.first_failures {
            let step = sample.step.as_ref().map(|step| format!(" ({step})")).unwrap_or_default();
            let line = format!("  {}{step} {}: {}", seconds(sample.at), sample.request, sample.text);
            write_line(out, &line)?;
        }
    }
    Ok(())
}

/// Breaks a line between words, and inside a word only if it has no end within the width.
///
/// Texts of servers pass here: control characters would break more than the line.
fn write_line(out: &mut impl Write, line: &str) -> Result {
    let indent = line.chars().take_while(|c| *c == ' ').count();
    let mut column = indent;
    write!(out, "{:indent$}", "")?;
    for word in line.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        let is_first = column == indent;
        if !is_first && column + 1 + length > WIDTH {
            column = indent + HANGING_INDENT;
            write!(out, "\n{:column$}", "")?;
        } else if !is_first {
            out.write_char(' ')?;
            column += 1;
        }
        for c in word.chars() {
            if column == WIDTH {
                column = indent + HANGING_INDENT;
                write!(out, "\n{:column$}", "")?;
            }
            out.write_char(c)?;
            column += 1;
        }
    }
    writeln!(out)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;
    use crate::config::Mode;
    use crate::failure::FailureKind;
    use crate::report::{Counts, FailureSample, Latency, SeriesReport};

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn summary(requests: u64, retry_after: u64, failures: &[(FailureKind, u64)], gap: Gap) -> Summary {
        let failed = failures.iter().map(|(_, count)| count).sum();
        let ok = requests - retry_after - failed;
        Summary {
            counts: Counts { requests, ok, failed, retry_after, replayed: 0 },
            failures: failures.iter().copied().collect(),
            latency: (ok > 0).then_some(Latency { p50: millis(3), p99: millis(12), max: millis(80) }),
            longest_gap: gap,
        }
    }

    fn gap(length: u64, began_at: u64, step: Option<&str>) -> Gap {
        Gap { length: millis(length), began_at: millis(began_at), step: step.map(str::to_owned) }
    }

    fn series(target: &str, mode: Mode, summary: Summary) -> SeriesReport {
        let target = target.to_owned();
        SeriesReport { target, mode, rate_per_second: 100.0, summary, first_failures: Vec::new() }
    }

    fn report(total: Summary, series: Vec<SeriesReport>) -> Report {
        Report {
            started_at: Timestamp::UNIX_EPOCH,
            duration: millis(72_000),
            total,
            series,
            steps: Vec::new(),
            ended_by: None,
            max_send_lag: millis(2),
        }
    }

    #[test]
    fn one_series_that_never_failed() {
        let figures = summary(7210, 1, &[], gap(80, 31_420, Some("release")));
        let report = report(figures.clone(), vec![series("10.250.0.11:6443", Mode::New, figures)]);
        let expected = "\
AVAILABILITY                  REQUESTS  FAILED  RETRY-AFTER  LONGEST-GAP     P99
10.250.0.11:6443 new              7210       0            1        0.08s    12ms
longest gap: 0.08s at 31.42s (release)
";
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn everything_that_went_wrong_is_told() {
        let refused = [(FailureKind::Status(403), 52), (FailureKind::Refused, 8221)];
        let mut bad = series(
            "[2001:db8:1234:5678:9abc:def0:1234:5678]:6443",
            Mode::ReusedHttp1,
            summary(8273, 0, &refused, gap(45_500, 12_310, Some("replace kube-apiserver"))),
        );
        bad.first_failures.push(FailureSample {
            at: millis(12_330),
            kind: FailureKind::Refused,
            step: Some("replace kube-apiserver".to_owned()),
            request: "GET /api/v1/namespaces/default".to_owned(),
            text: "connect: connection\nrefused (os error 111), and more than fits".to_owned(),
        });
        let good = series("10.250.0.11:6443", Mode::Reused, summary(7000, 0, &[], gap(80, 100, None)));
        let mut total = summary(15_273, 0, &refused, gap(45_500, 12_310, Some("replace kube-apiserver")));
        total.counts.replayed = 3;
        let mut report = report(total, vec![good, bad]);
        report.ended_by = Some("maxDuration".to_owned());
        report.max_send_lag = millis(1500);
        let expected = "\
AVAILABILITY                  REQUESTS  FAILED  RETRY-AFTER  LONGEST-GAP     P99
10.250.0.11:6443 reused           7000       0            0        0.08s    12ms
[2001:db8:1234:5678:9abc:def0:1234:5678]:6443 reused-http1
                                  8273    8273            0       45.50s       -
total                            15273    8273            0       45.50s    12ms
longest gap: 45.50s at 12.31s (replace kube-apiserver)
failed at [2001:db8:1234:5678:9abc:def0:1234:5678]:6443 reused-http1:
  8221 refused, 52 http-403
  12.33s (replace kube-apiserver) GET /api/v1/namespaces/default: connect:
    connection refused (os error 111), and more than fits
replayed: 3 whose connection went away first, as client-go does
ended by itself: maxDuration reached after 72.00s
note: the prober's own machine delayed requests by up to 1.50s
";
        assert_eq!(report.to_string(), expected);
        assert!(report.to_string().lines().all(|line| line.chars().count() <= WIDTH));
        let kinds: BTreeMap<_, _> = refused.into_iter().collect();
        assert_eq!(report.total.failures, kinds);
    }

    #[test]
    fn a_word_without_end_is_broken() {
        let mut out = String::new();
        write_line(&mut out, &format!("  a\u{1b}[31m {}", "ä".repeat(200))).unwrap();
        assert!(out.lines().all(|line| line.chars().count() <= WIDTH), "{out}");
        assert_eq!(out.matches('ä').count(), 200);
        assert!(!out.contains('\u{1b}'));
        assert_eq!(out.lines().count(), 4, "{out}");
    }

    #[test]
    fn latencies_keep_three_digits() {
        let cases =
            [(0, "0.0ms"), (9_940, "9.9ms"), (9_960, "10ms"), (999_400, "999ms"), (1_234_000, "1.23s")];
        for (micros, expected) in cases {
            assert_eq!(short(Duration::from_micros(micros)), expected, "{micros}");
        }
    }
}
