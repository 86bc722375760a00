//! Colours: green, yellow and red for states, cyan for hints, nothing else.
//!
//! Invariant: colour never carries a fact that the text does not; the plain theme writes no escape sequence at all.

use std::fmt::{self, Display};

use owo_colors::{OwoColorize, Style};
use selfhost_core::finding::Severity;

/// The styles of one output stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Theme {
    good: Style,
    warn: Style,
    bad: Style,
    hint: Style,
    strong: Style,
}

/// Text in one style; its width is that of the text.
#[derive(Debug, Clone, Copy)]
pub struct Styled<T> {
    text: T,
    style: Style,
}

/// What a piece of text says of the state that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Tone {
    /// Nothing to look at.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Works, and needs attention.
    Warn,
    /// Does not work.
    Bad,
    /// What to do next.
    Hint,
    /// A heading.
    Strong,
}

impl From<Severity> for Tone {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Plain,
            Severity::Warning => Self::Warn,
            Severity::Error => Self::Bad,
        }
    }
}

impl Theme {
    /// No colour.
    pub fn plain() -> Self {
        Self::default()
    }

    /// The colours of the house.
    pub fn colored() -> Self {
        Self {
            good: Style::new().green(),
            warn: Style::new().yellow(),
            bad: Style::new().red(),
            hint: Style::new().cyan(),
            strong: Style::new().bold(),
        }
    }

    /// [`Theme::colored`] or [`Theme::plain`].
    pub fn new(colored: bool) -> Self {
        if colored { Self::colored() } else { Self::plain() }
    }

    /// `text` in the style of `tone`.
    pub fn paint<T: Display>(&self, tone: Tone, text: T) -> Styled<T> {
        let style = match tone {
            Tone::Plain => Style::new(),
            Tone::Good => self.good,
            Tone::Warn => self.warn,
            Tone::Bad => self.bad,
            Tone::Hint => self.hint,
            Tone::Strong => self.strong,
        };
        Styled { text, style }
    }

    /// As it should be.
    pub fn good<T: Display>(&self, text: T) -> Styled<T> {
        self.paint(Tone::Good, text)
    }

    /// Works, and needs attention.
    pub fn warn<T: Display>(&self, text: T) -> Styled<T> {
        self.paint(Tone::Warn, text)
    }

    /// Does not work.
    pub fn bad<T: Display>(&self, text: T) -> Styled<T> {
        self.paint(Tone::Bad, text)
    }

    /// What to do next.
    pub fn hint<T: Display>(&self, text: T) -> Styled<T> {
        self.paint(Tone::Hint, text)
    }

    /// A heading.
    pub fn strong<T: Display>(&self, text: T) -> Styled<T> {
        self.paint(Tone::Strong, text)
    }
}

impl<T: Display> Display for Styled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.style.is_plain() { self.text.fmt(f) } else { self.text.style(self.style).fmt(f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_writes_no_escape() {
        let theme = Theme::plain();
        for tone in [Tone::Plain, Tone::Good, Tone::Warn, Tone::Bad, Tone::Hint, Tone::Strong] {
            assert_eq!(theme.paint(tone, "ready").to_string(), "ready");
        }
    }

    #[test]
    fn colored_differs_in_escapes_alone() {
        let theme = Theme::colored();
        assert_eq!(theme.paint(Tone::Plain, "ready").to_string(), "ready");
        for tone in [Tone::Good, Tone::Warn, Tone::Bad, Tone::Hint, Tone::Strong] {
            let text = theme.paint(tone, "ready").to_string();
            assert!(text.starts_with("\u{1b}["), "{text:?}");
            assert_eq!(anstream::adapter::strip_str(&text).to_string(), "ready");
        }
    }
}
