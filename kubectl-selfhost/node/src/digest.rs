//! SHA-256 of files.
//!
//! Invariant: a digest is 64 lower-case hexadecimal digits, so that equal digests are equal strings.

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// A SHA-256 sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Digest(String);

/// Text that is not a SHA-256 sum.
#[derive(Debug, thiserror::Error)]
#[error("not a sha-256 sum of 64 hexadecimal digits: {0:?}")]
pub(crate) struct Malformed(String);

impl Digest {
    /// The digest of `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::from_sum(&sha2::Sha256::digest(bytes))
    }

    /// The digest of everything that `from` gives, and how many bytes that is.
    pub(crate) fn of_all(mut from: impl io::Read) -> io::Result<(Self, u64)> {
        let mut hashing = Hashing::default();
        let size = io::copy(&mut from, &mut hashing)?;
        Ok((hashing.finish(), size))
    }

    /// The digest that these bytes are.
    pub(crate) fn from_sum(sum: &[u8]) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in sum {
            write!(text, "{byte:02x}").expect("a string can always grow");
        }
        Self(text)
    }

    /// The first eight digits, enough to tell generations of one file apart.
    pub(crate) fn short(&self) -> &str {
        &self.0[..8]
    }
}

/// A digest in the making: whatever is written to it counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hashing(sha2::Sha256);

impl Hashing {
    /// The digest of what was written.
    pub(crate) fn finish(self) -> Digest {
        Digest::from_sum(&self.0.finalize())
    }
}

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl FromStr for Digest {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(Malformed(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_a_known_text() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), abc);
        assert_eq!(abc.to_uppercase().parse::<Digest>().unwrap(), Digest::of(b"abc"));
        assert_eq!(Digest::of(b"abc").short(), "ba7816bf");
    }

    #[test]
    fn malformed_digests_are_refused() {
        for text in ["", "abc", &"g".repeat(64), &"a".repeat(63), &"a".repeat(65)] {
            assert!(text.parse::<Digest>().is_err(), "{text:?}");
        }
    }
}
