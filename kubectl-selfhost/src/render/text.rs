//! Running text, wrapped between words.

use std::io::{self, Write};

/// Where it is wrapped.
pub const WIDTH: usize = 80;

/// Writes `text` after `first`, wrapped between words; further lines begin below the code's text.
pub fn write_wrapped(out: &mut dyn Write, first: &str, text: &str) -> io::Result<()> {
    const INDENT: usize = 10;
    write!(out, "{first}")?;
    let mut column = anstream::adapter::strip_str(first).to_string().chars().count();
    let mut begins = true;
    for word in text.split(' ') {
        let width = word.chars().count();
        if !begins && column + 1 + width > WIDTH {
            write!(out, "\n{:INDENT$}", "")?;
            (column, begins) = (INDENT, true);
        }
        if !begins {
            write!(out, " ")?;
            column += 1;
        }
        write!(out, "{word}")?;
        (column, begins) = (column + width, false);
    }
    writeln!(out)
}
