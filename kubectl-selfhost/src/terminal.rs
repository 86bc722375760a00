//! Where results and everything else go: results to standard output, the rest to standard error.
//!
//! Invariant: no other module opens these streams, so that each command runs in a test against buffers.

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};

use crate::theme::Theme;

/// The two output streams, and what they can show.
pub struct Terminal {
    /// Standard output: the result, and nothing else.
    pub out: Stream,
    /// Standard error: progress, hints, errors.
    pub err: Stream,
}

/// One output stream.
pub struct Stream {
    writer: Box<dyn Write + Send>,
    /// The colours to use on it.
    pub theme: Theme,
    /// Whether a person looks at it, so that a line may be redrawn.
    pub interactive: bool,
}

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Terminal {
    /// The process's own streams. `choice` is `--color`; with `auto`, `NO_COLOR`, `CLICOLOR_FORCE`, `TERM` and
    /// whether the stream is a terminal decide.
    pub fn standard(choice: ColorChoice) -> Self {
        Self {
            out: Stream::standard(io::stdout(), choice, io::stdout().is_terminal()),
            err: Stream::standard(io::stderr(), choice, io::stderr().is_terminal()),
        }
    }

    /// Two writers without colours and without a person before them.
    pub fn to_writers(out: impl Write + Send + 'static, err: impl Write + Send + 'static) -> Self {
        Self { out: Stream::plain(out), err: Stream::plain(err) }
    }
}

impl Stream {
    fn standard<S>(stream: S, choice: ColorChoice, terminal: bool) -> Self
    where
        S: anstream::stream::RawStream + anstream::stream::AsLockedWrite + Send + 'static,
    {
        let choice = match choice {
            ColorChoice::Auto => AutoStream::choice(&stream),
            ColorChoice::Always | ColorChoice::AlwaysAnsi | ColorChoice::Never => choice,
        };
        Self {
            theme: Theme::new(choice != ColorChoice::Never),
            // A terminal that knows no colours (TERM=dumb) cannot move the cursor either.
            interactive: terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
            // AutoStream translates for Windows consoles that know no escape sequences.
            writer: Box::new(AutoStream::new(stream, choice)),
        }
    }

    fn plain(writer: impl Write + Send + 'static) -> Self {
        Self { writer: Box::new(writer), theme: Theme::plain(), interactive: false }
    }

    /// The terminal's size; 80 x 24 where it is not known.
    pub fn size(&self) -> Size {
        match terminal_size::terminal_size() {
            // Some pseudo-terminals say that they have no columns at all.
            Some((width, height)) if self.interactive && width.0 != 0 && height.0 != 0 => {
                Size { width: width.0.into(), height: height.0.into() }
            }
            _ => Size { width: 80, height: 24 },
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.writer.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
