//! What went wrong with a request, read from the errors of the layers below.
//!
//! Invariant: an error that no rule recognises is `Other`, with its text kept; it is never dropped.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum FailureKind {
    /// An answer with a status that was not expected, 429 and 503 without `Retry-After` among them.
    Status(u16),
    /// Nobody listens at the address (`ECONNREFUSED`).
    Refused,
    /// The peer reset the connection (RST) or the HTTP/2 stream.
    Reset,
    /// The peer closed the connection before the answer was complete.
    Closed,
    /// No complete answer within the timeout.
    Timeout,
    /// The host or network cannot be reached.
    Unreachable,
    /// The TLS handshake or record layer failed.
    Tls,
    /// The request was due, but too many earlier ones were still waiting.
    Overloaded,
    /// Anything else; the text of the first ones is in the report.
    Other,
}

/// A failed attempt: its kind, and the text of the whole error chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) text: String,
}

/// Texts come from servers: keep what fits in a log line.
const MAX_TEXT_CHARS: usize = 300;

impl FailureKind {
    const WORDS: [(Self, &str); 8] = [
        (Self::Refused, "refused"),
        (Self::Reset, "reset"),
        (Self::Closed, "closed"),
        (Self::Timeout, "timeout"),
        (Self::Unreachable, "unreachable"),
        (Self::Tls, "tls"),
        (Self::Overloaded, "overloaded"),
        (Self::Other, "other"),
    ];
}

impl fmt::Display for FailureKind {
    /// The word used in reports and as the key in JSON: `refused`, `http-403`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Status(code) = self {
            return write!(f, "http-{code}");
        }
        let word = Self::WORDS.into_iter().find_map(|(kind, word)| (kind == *self).then_some(word));
        f.write_str(word.expect("every other kind has a word"))
    }
}

impl From<FailureKind> for String {
    fn from(kind: FailureKind) -> Self {
        kind.to_string()
    }
}

impl TryFrom<String> for FailureKind {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let status = text.strip_prefix("http-").and_then(|code| code.parse().ok());
        if let Some(code @ 100..=999) = status {
            return Ok(Self::Status(code));
        }
        Self::WORDS
            .into_iter()
            .find_map(|(kind, word)| (word == text).then_some(kind))
            .ok_or_else(|| format!("unknown kind of failure {text:?}"))
    }
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        let text: String = text.into();
        let text = match text.char_indices().nth(MAX_TEXT_CHARS) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text,
        };
        Self { kind, text }
    }

    /// Reads kind and text from an error and its sources.
    pub(crate) fn from_error(error: &(dyn Error + 'static)) -> Self {
        let mut texts: Vec<String> = Vec::new();
        for cause in causes(error) {
            let text = cause.to_string();
            // Some layers repeat their cause in their own text.
            if texts.iter().all(|earlier| !earlier.contains(&text)) {
                texts.push(text);
            }
        }
        Self::new(kind_of(error), texts.join(": "))
    }
}

/// The error in the chain that is hyper's own HTTP/2 error, if there is one.
pub(crate) fn http2_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e h2::Error> {
    causes(error).into_iter().find_map(|cause| cause.downcast_ref())
}

fn kind_of(error: &(dyn Error + 'static)) -> FailureKind {
    // The deepest layer that says something decides: hyper wraps h2, which wraps io, which wraps rustls.
    causes(error).into_iter().rev().find_map(kind_of_one).unwrap_or(FailureKind::Other)
}

fn kind_of_one(error: &(dyn Error + 'static)) -> Option<FailureKind> {
    if error.is::<rustls::Error>() {
        return Some(FailureKind::Tls);
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return kind_of_io(error.kind());
    }
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        return if error.is_reset() {
            Some(FailureKind::Reset)
        } else if error.is_go_away() && error.is_remote() {
            Some(FailureKind::Closed)
        } else {
            None
        };
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
            Some(FailureKind::Closed)
        } else if error.is_timeout() {
            Some(FailureKind::Timeout)
        } else {
            None
        };
    }
    None
}

fn kind_of_io(kind: io::ErrorKind) -> Option<FailureKind> {
    use io::ErrorKind as Io;
    match kind {
        Io::ConnectionRefused => Some(FailureKind::Refused),
        Io::ConnectionReset | Io::ConnectionAborted => Some(FailureKind::Reset),
        // h2 reports an end of file with requests in flight as a broken pipe.
        Io::UnexpectedEof | Io::BrokenPipe | Io::NotConnected => Some(FailureKind::Closed),
        Io::TimedOut => Some(FailureKind::Timeout),
        Io::HostUnreachable | Io::NetworkUnreachable => Some(FailureKind::Unreachable),
        // The only layer below that calls data invalid is TLS; h2 keeps this kind and loses the type.
        Io::InvalidData => Some(FailureKind::Tls),
        // io::ErrorKind is not exhaustive; the rest says nothing about the server.
        _ => None,
    }
}

/// The error and everything below it, outermost first.
///
/// `io::Error` hides the error it wraps from `source` (it passes on that error's source), and `h2::Error` has no
/// source at all, so both are opened here.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> Vec<&'e (dyn Error + 'static)> {
    let mut found = Vec::new();
    let mut open = VecDeque::from([error]);
    while let Some(error) = open.pop_front() {
        found.push(error);
        let in_io = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let in_http2 = error.downcast_ref::<h2::Error>().and_then(h2::Error::get_io);
        match (in_io, in_http2) {
            (Some(inner), _) => open.push_back(inner),
            (None, Some(inner)) => open.push_back(inner),
            (None, None) => open.extend(error.source()),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_survive_their_text() {
        let kinds = [FailureKind::Status(403), FailureKind::Refused, FailureKind::Other];
        for kind in kinds {
            assert_eq!(FailureKind::try_from(String::from(kind)), Ok(kind));
        }
        assert!(FailureKind::try_from("http-1".to_owned()).is_err());
    }

    #[test]
    fn kinds_are_read_through_the_layers() {
        let tls = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::DecryptError);
        let cases: [(&(dyn Error + 'static), FailureKind); 7] = [
            (&io::Error::from(io::ErrorKind::ConnectionRefused), FailureKind::Refused),
            (&io::Error::from(io::ErrorKind::ConnectionReset), FailureKind::Reset),
            (&io::Error::from(io::ErrorKind::UnexpectedEof), FailureKind::Closed),
            (&io::Error::from(io::ErrorKind::HostUnreachable), FailureKind::Unreachable),
            (&io::Error::other(io::Error::from(io::ErrorKind::TimedOut)), FailureKind::Timeout),
            (&io::Error::other("no such thing"), FailureKind::Other),
            (&tls, FailureKind::Tls),
        ];
        for (error, expected) in cases {
            assert_eq!(Failure::from_error(error).kind, expected, "{error}");
        }
    }

    #[test]
    fn texts_are_joined_once_and_bounded() {
        let wrapped = io::Error::other(rustls::Error::General("odd".to_owned()));
        let text = Failure::from_error(&wrapped).text;
        assert_eq!(text.matches("odd").count(), 1, "{text}");
        assert_eq!(
            Failure::new(FailureKind::Other, "ä".repeat(1000)).text.chars().count(),
            MAX_TEXT_CHARS + 3
        );
    }
}
