//! Tables as kubectl prints them: upper-case headers, columns padded with spaces, no lines.
//!
//! Invariant: widths are counted before colouring, so that a table has the same columns with colours and without.

use std::io::{self, Write};

use crate::theme::{Theme, Tone};

/// Spaces between two columns; kubectl has three, with two our rows keep to 80 columns.
const GAP: usize = 2;

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Text that says something of the state.
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// Writes `headers` and `rows`. A row may be shorter than the headers; an empty cell is left blank.
pub fn write(out: &mut dyn Write, theme: &Theme, headers: &[&str], rows: &[Vec<Cell>]) -> io::Result<()> {
    let mut widths: Vec<usize> = headers.iter().map(|header| width(header)).collect();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            if let Some(widest) = widths.get_mut(column) {
                *widest = (*widest).max(width(&cell.text));
            }
        }
    }
    let headers: Vec<Cell> = headers.iter().map(|header| Cell::new(*header, Tone::Strong)).collect();
    write_row(out, theme, &widths, &headers)?;
    rows.iter().try_for_each(|row| write_row(out, theme, &widths, row))
}

fn write_row(out: &mut dyn Write, theme: &Theme, widths: &[usize], row: &[Cell]) -> io::Result<()> {
    // Padding is written only before a cell that has text: no line ends in spaces.
    let mut padding = 0;
    for (cell, widest) in row.iter().zip(widths) {
        if cell.text.is_empty() {
            padding += widest + GAP;
            continue;
        }
        write!(out, "{:padding$}{}", "", theme.paint(cell.tone, &cell.text))?;
        padding = widest - width(&cell.text) + GAP;
    }
    writeln!(out)
}

/// Names of Kubernetes objects are ASCII; a character is a column.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<Cell>> {
        vec![
            vec!["kube-apiserver".into(), Cell::new("1/1", Tone::Good), "41d".into()],
            vec!["etcd".into(), "".into(), "3m".into()],
            vec!["x".into()],
        ]
    }

    #[test]
    fn pads_and_leaves_no_trailing_space() {
        let mut out = Vec::new();
        write(&mut out, &Theme::plain(), &["COMPONENT", "READY", "AGE"], &rows()).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        COMPONENT       READY  AGE
        kube-apiserver  1/1    41d
        etcd                   3m
        x
        "#);
    }

    #[test]
    fn colours_do_not_move_columns() {
        let (mut plain, mut colored) = (Vec::new(), Vec::new());
        write(&mut plain, &Theme::plain(), &["COMPONENT", "READY", "AGE"], &rows()).unwrap();
        write(&mut colored, &Theme::colored(), &["COMPONENT", "READY", "AGE"], &rows()).unwrap();
        assert_ne!(plain, colored);
        let colored = String::from_utf8(colored).unwrap();
        assert_eq!(anstream::adapter::strip_str(&colored).to_string().as_bytes(), plain);
    }
}
