//! `status --watch`: the same report again and again.
//!
//! On a terminal the report is redrawn in its place. Elsewhere the first report is followed by a line for each change,
//! and by a heartbeat, so that a CI job is not taken for dead; `json` and `yaml` give a document for each change.
//!
//! Invariant: an API server that goes away is an event to tell, not an end.

use std::io::{self, Write as _};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{report, write};
use crate::cli::output::Format;
use crate::cli::status::Args;
use crate::client::Connection;
use crate::error::{Failure, chain};
use crate::exit::Exit;
use crate::status::{Report, changes};
use crate::terminal::{Stream, Terminal};

/// The time from one observation to the next: short against the 20 s of a swap, long against the work of eight reads.
const INTERVAL: Duration = Duration::from_secs(2);

/// How long one observation may take. A server that lost its power answers nothing at all, and TCP waits for minutes.
const ANSWER: Duration = Duration::from_secs(8);

/// How often somebody without a terminal hears that it goes on.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Watches until the user interrupts, or the reader of the output goes away.
pub(super) async fn watch(
    connection: &Connection,
    args: &Args,
    terminal: &mut Terminal,
) -> Result<Exit, Failure> {
    let live = terminal.out.interactive && matches!(args.output, Format::Table | Format::Wide);
    // A cluster that was never there is an error, as without --watch.
    let mut last = report(connection).await?;
    let mut screen = Screen::default();
    if live {
        screen.draw(&mut terminal.out, args.output, &last, None)?;
    } else {
        write(&mut terminal.out, args.output, &last)?;
        terminal.out.flush()?;
    }
    let mut away_since: Option<Timestamp> = None;
    let mut last_sign = Instant::now();
    loop {
        tokio::time::sleep(INTERVAL).await;
        match observed(connection).await {
            Ok(now) => {
                let back = away_since.take();
                let lines = changes::changes(&last, &now);
                if live {
                    screen.draw(&mut terminal.out, args.output, &now, None)?;
                } else {
                    if let Some(since) = back {
                        note(terminal, &format!("API server is back, after {}", span(since)))?;
                        last_sign = Instant::now();
                    }
                    if !lines.is_empty() {
                        tell(terminal, args.output, &lines, &now)?;
                        last_sign = Instant::now();
                    }
                }
                last = now;
            }
            Err(why) => {
                let since = *away_since.get_or_insert_with(|| {
                    last_sign = Instant::now() - HEARTBEAT;
                    Timestamp::now()
                });
                let text = format!("no answer for {}: {why}", span(since));
                if live {
                    screen.draw(&mut terminal.out, args.output, &last, Some(&text))?;
                } else if HEARTBEAT <= last_sign.elapsed() {
                    note(terminal, &text)?;
                    last_sign = Instant::now();
                }
            }
        }
        if !live && HEARTBEAT <= last_sign.elapsed() {
            note(terminal, "no change")?;
            last_sign = Instant::now();
        }
    }
}

/// A report, or why there is none.
async fn observed(connection: &Connection) -> Result<Report, String> {
    match tokio::time::timeout(ANSWER, report(connection)).await {
        Ok(report) => report.map_err(|error| chain(&error)),
        Err(_) => Err(format!("the API server at {} hangs", connection.server())),
    }
}

fn span(since: Timestamp) -> String {
    crate::render::age::age(Some(since), Timestamp::now())
}

/// Tells of changes: as lines, or as the document that they lead to.
fn tell(terminal: &mut Terminal, format: Format, lines: &[String], report: &Report) -> io::Result<()> {
    match format {
        Format::Table | Format::Wide => {
            for line in lines {
                writeln!(terminal.out, "{} {line}", clock(report.taken_at))?;
            }
        }
        Format::Json | Format::Yaml => write(&mut terminal.out, format, report)?,
    }
    terminal.out.flush()
}

/// A remark that is no result.
fn note(terminal: &mut Terminal, text: &str) -> io::Result<()> {
    writeln!(terminal.err, "{} {text}", clock(Timestamp::now()))?;
    terminal.err.flush()
}

/// The time of day in UTC, as logs have it.
fn clock(time: Timestamp) -> String {
    time.strftime("%H:%M:%SZ").to_string()
}

/// The part of the terminal that is drawn again.
#[derive(Default)]
struct Screen {
    /// Lines of the last drawing that are above the cursor.
    n_lines: usize,
}

impl Screen {
    /// Draws the report in the place of the last one. What does not fit is cut off at the bottom and at the right:
    /// lines that wrap or scroll away could not be drawn over.
    fn draw(
        &mut self,
        out: &mut Stream,
        format: Format,
        report: &Report,
        note: Option<&str>,
    ) -> io::Result<()> {
        let mut text = Vec::new();
        {
            let theme = out.theme;
            let columns = match format {
                Format::Wide => super::Columns::Wide,
                _ => super::Columns::Narrow,
            };
            // First, so that it is seen on a small terminal, too.
            let note =
                note.map_or_else(|| "watching, Ctrl-C ends".to_owned(), |note| theme.bad(note).to_string());
            writeln!(text, "{} {note}\n", clock(Timestamp::now()))?;
            super::table::write(&mut text, &theme, columns, report)?;
        }
        let size = out.size();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<String> =
            text.lines().take(size.height.saturating_sub(1)).map(|line| cut(line, size.width)).collect();
        if self.n_lines != 0 {
            write!(out, "\x1b[{}A\r", self.n_lines)?;
        }
        for line in &lines {
            // Clear the rest of the line after writing it, so that nothing flickers.
            writeln!(out, "{line}\x1b[K")?;
        }
        write!(out, "\x1b[J")?;
        self.n_lines = lines.len();
        out.flush()
    }
}

/// The first `width` visible characters of `line`; escape sequences are kept and not counted.
fn cut(line: &str, width: usize) -> String {
    let mut cut = String::new();
    let mut n_visible = 0;
    let mut in_escape = false;
    for character in line.chars() {
        if in_escape {
            in_escape = !character.is_ascii_alphabetic();
        } else if character == '\x1b' {
            in_escape = true;
        } else {
            if width <= n_visible {
                continue;
            }
            n_visible += 1;
        }
        cut.push(character);
    }
    cut
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::inventory::testing::static_cluster;

    /// A writer that can be looked into.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn drawing_goes_over_the_last_one_and_keeps_to_the_screen() {
        let paper = Paper::default();
        let mut out = Terminal::to_writers(paper.clone(), io::sink()).out;
        let mut screen = Screen::default();
        let nodes: Vec<String> = (1..=3).map(|n| format!("cp-{n}")).collect();
        let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
        for names in [&nodes[..1], &nodes[..], &nodes[..1]] {
            let report = Report::new(&static_cluster(names, "v1.37.2"), "");
            screen.draw(&mut out, Format::Table, &report, None).unwrap();
        }
        let text = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        let drawings: Vec<&str> = text.split_inclusive("\x1b[J").collect();
        assert_eq!(drawings.len(), 3);
        let n_lines = |drawing: &str| drawing.matches("\x1b[K\n").count();
        // 24 rows: the longest one fits, with a row for the cursor.
        assert_eq!(drawings.iter().map(|it| n_lines(it)).collect::<Vec<_>>(), [13, 21, 13]);
        assert!(!drawings[0].contains("A\r"), "the first one goes over nothing");
        assert!(drawings[1].starts_with("\x1b[13A\r"));
        assert!(drawings[2].starts_with("\x1b[21A\r"));

        let many: Vec<String> = (1..=30).map(|n| format!("cp-{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let report = Report::new(&static_cluster(&many, "v1.37.2"), "");
        screen.draw(&mut out, Format::Table, &report, None).unwrap();
        assert_eq!(screen.n_lines, 23);
    }

    #[test]
    fn cutting_counts_what_is_seen() {
        for (line, width, expected) in [
            ("kube-apiserver", 4, "kube"),
            ("kube", 4, "kube"),
            ("\x1b[31mred\x1b[0m text", 5, "\x1b[31mred\x1b[0m t"),
            ("ab\x1b[31mcd\x1b[0m", 2, "ab\x1b[31m\x1b[0m"),
        ] {
            assert_eq!(cut(line, width), expected);
        }
    }
}
