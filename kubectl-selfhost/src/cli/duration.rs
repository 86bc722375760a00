//! Durations as kubectl takes them: Go's notation, or a bare number of seconds.
//!
//! Invariant: whatever kubectl accepts is accepted, and means the same; whatever it refuses is refused.

use std::str::FromStr;
use std::time::Duration;

/// A limit to a single server request; none by default, as for kubectl.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeout(Option<Duration>);

/// Text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a duration such as 1s, 2m or 3h, and not a number of seconds")]
pub struct BadDuration;

impl Timeout {
    /// A limit of `limit`; zero is none.
    pub fn after(limit: Duration) -> Self {
        Self((!limit.is_zero()).then_some(limit))
    }

    /// The limit, if there is one.
    pub const fn limit(self) -> Option<Duration> {
        self.0
    }
}

impl FromStr for Timeout {
    type Err = BadDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(Self::after)
    }
}

/// A duration in Go's notation (`1h2m3.5s`), or a number of seconds. Negative ones are refused.
pub fn parse(text: &str) -> Result<Duration, BadDuration> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map(Duration::from_secs).map_err(|_| BadDuration);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err(BadDuration);
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(BadDuration)?;
        let number: f64 = rest[..end].parse().map_err(|_| BadDuration)?;
        rest = &rest[end..];
        // Longest first: `ms` is not minutes.
        let (unit, seconds) = [
            ("ns", 1e-9),
            ("us", 1e-6),
            ("\u{b5}s", 1e-6),
            ("\u{3bc}s", 1e-6),
            ("ms", 1e-3),
            ("s", 1.0),
            ("m", 60.0),
            ("h", 3600.0),
        ]
        .into_iter()
        .find(|(unit, _)| rest.starts_with(unit))
        .ok_or(BadDuration)?;
        rest = &rest[unit.len()..];
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| BadDuration)?;
        total = total.checked_add(part).ok_or(BadDuration)?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_kubectl_takes() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("5", 5_000),
            ("1s", 1_000),
            ("1.5s", 1_500),
            ("+2s", 2_000),
            ("300ms", 300),
            ("2m", 120_000),
            ("1h2m3s", 3_723_000),
            (".5s", 500),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "s", "1x", "-1s", "1s2", "1 s", ".s", "99999999999999999999", "1e3s", "1..5s"] {
            assert_eq!(parse(bad), Err(BadDuration), "{bad}");
        }
    }

    #[test]
    fn zero_is_no_limit() {
        assert_eq!("0".parse::<Timeout>().map(Timeout::limit), Ok(None));
        assert_eq!("3s".parse::<Timeout>().map(Timeout::limit), Ok(Some(Duration::from_secs(3))));
    }
}
