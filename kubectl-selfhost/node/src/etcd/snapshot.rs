//! A snapshot of etcd, as its gateway sends it: messages in JSON, one a line, each with a part of the database in base64.
//! After the database comes its SHA-256, so that whoever stores it can tell a whole one from a part.
//!
//! Invariant: what is decoded goes on to the file as it arrives, and never lies in memory as a whole. A snapshot without
//! its own checksum at its end is an error, however the stream ended.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Error, Etcd, status, tls, trouble};
use crate::digest::{Digest, Hashing};

/// The length of the checksum at the end.
const SUM_BYTES: usize = 32;

/// The longest line of the stream that is read. etcd sends 32 KiB at a time, which are 43 KiB in base64.
const LINE_BYTES: u64 = 8 << 20;

/// A snapshot that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saved {
    /// Of the file, with the checksum.
    pub(crate) size: u64,
    /// Of the file, with the checksum.
    pub(crate) digest: Digest,
}

/// What arrived is no whole snapshot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("read it")]
    Read(#[source] io::Error),
    #[error("write it")]
    Write(#[source] io::Error),
    #[error("etcd answered {0}")]
    Refused(String),
    #[error("etcd stopped in the middle: {0}")]
    Stopped(String),
    #[error("a message of it cannot be read")]
    Message(#[source] serde_json::Error),
    #[error("a part of it is no base64")]
    Blob(#[source] base64::DecodeError),
    #[error("it is cut: {size} bytes arrived, and {remaining} are missing")]
    Cut { size: u64, remaining: u64 },
    #[error("its sha-256 is {found}, and etcd says {expected}")]
    Checksum { found: Digest, expected: Digest },
}

impl Etcd {
    /// Writes all that this member has to `file`, within `time`.
    pub(crate) fn snapshot(&self, file: &mut File, time: Duration) -> Result<Saved, Error> {
        let request = self.request("maintenance/snapshot", "{}");
        let stream = tls::open(&self.endpoint.0, &self.tls, &self.name, request.as_bytes(), time)
            .map_err(|source| self.failed(source))?;
        receive(BufReader::with_capacity(128 << 10, stream), file)
            .map_err(|source| Error::Snapshot { endpoint: self.endpoint, source })
    }
}

/// Either the next part, or why there is none.
#[derive(Deserialize)]
struct Message {
    result: Option<Part>,
    error: Option<Trouble>,
}

/// Zeros and empty texts are left out; numbers are in quotes, as protobuf's JSON has it for 64 bits.
#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    remaining_bytes: Option<String>,
    #[serde(default)]
    blob: String,
}

#[derive(Deserialize)]
struct Trouble {
    #[serde(default)]
    message: String,
}

/// Reads an HTTP answer with a snapshot to its end, and writes the snapshot to `file`.
fn receive(mut answer: impl BufRead, file: &mut impl Write) -> Result<Saved, Broken> {
    read_head(&mut answer)?;
    let mut sink = Sink::new(file);
    let mut remaining = 0;
    while let Some(line) = read_line(&mut answer)? {
        if line.is_empty() {
            continue;
        }
        let part = match serde_json::from_slice(&line) {
            Ok(Message { result: Some(part), .. }) => part,
            Ok(Message { error: Some(trouble), .. }) => return Err(Broken::Stopped(trouble.message)),
            Ok(Message { .. }) => continue,
            // The last line of a stream that ended inside of it.
            Err(error) if error.is_eof() => return Err(Broken::Cut { size: sink.size, remaining }),
            Err(error) => return Err(Broken::Message(error)),
        };
        remaining = part.remaining_bytes.and_then(|it| it.parse().ok()).unwrap_or_default();
        sink.take(&STANDARD.decode(part.blob).map_err(Broken::Blob)?).map_err(Broken::Write)?;
    }
    sink.finish(remaining)
}

/// Whether a file is a whole snapshot, by its own checksum; the digest of the file.
pub(crate) fn check(path: &Path) -> Result<Digest, Broken> {
    let mut file = BufReader::with_capacity(128 << 10, File::open(path).map_err(Broken::Read)?);
    let mut nowhere = io::sink();
    let mut sink = Sink::new(&mut nowhere);
    loop {
        let part = file.fill_buf().map_err(Broken::Read)?;
        if part.is_empty() {
            return Ok(sink.finish(0)?.digest);
        }
        let length = part.len();
        sink.take(part).map_err(Broken::Write)?;
        file.consume(length);
    }
}

/// Reads up to the empty line; an answer other than 200 is one of few words.
fn read_head(answer: &mut impl BufRead) -> Result<(), Broken> {
    let first = read_line(answer)?.unwrap_or_default();
    let first = String::from_utf8_lossy(&first).into_owned();
    while read_line(answer)?.is_some_and(|line| !line.is_empty()) {}
    match status(&first) {
        status if status.starts_with("200") => Ok(()),
        "" => Err(Broken::Refused("no HTTP".to_owned())),
        status => {
            let body = read_line(answer)?.unwrap_or_default();
            Err(Broken::Refused(trouble(status, &body)))
        }
    }
}

/// The next line without its end; none at the end of the stream.
fn read_line(answer: &mut impl BufRead) -> Result<Option<Vec<u8>>, Broken> {
    let mut line = Vec::new();
    match io::Read::take(&mut *answer, LINE_BYTES).read_until(b'\n', &mut line) {
        // Servers that close without TLS's farewell; whether all was said is told by what was said.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(Broken::Read(error)),
        _ if line.is_empty() => return Ok(None),
        Err(_) | Ok(_) => {}
    }
    while line.last().is_some_and(|&byte| byte == b'\n' || byte == b'\r') {
        line.pop();
    }
    Ok(Some(line))
}

/// Where the parts go: to the file, and into two digests. What may be the checksum is not part of what it is of, and
/// that is known only at the end.
struct Sink<'a, W> {
    file: &'a mut W,
    size: u64,
    whole: Hashing,
    body: Hashing,
    /// The last bytes, at most as many as a checksum has.
    end: Vec<u8>,
}

impl<'a, W: Write> Sink<'a, W> {
    fn new(file: &'a mut W) -> Self {
        Self { file, size: 0, whole: Hashing::default(), body: Hashing::default(), end: Vec::new() }
    }

    /// Everything came, but for `remaining` bytes.
    fn finish(self, remaining: u64) -> Result<Saved, Broken> {
        if remaining > 0 || self.size <= SUM_BYTES as u64 {
            return Err(Broken::Cut { size: self.size, remaining });
        }
        let (found, expected) = (self.body.finish(), Digest::from_sum(&self.end));
        if found != expected {
            return Err(Broken::Checksum { found, expected });
        }
        Ok(Saved { size: self.size, digest: self.whole.finish() })
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.whole.write_all(bytes)?;
        self.size += bytes.len() as u64;
        self.end.extend_from_slice(bytes);
        let before = self.end.len().saturating_sub(SUM_BYTES);
        self.body.write_all(&self.end[..before])?;
        self.end.drain(..before);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    const HEAD: &str = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n";

    /// A database of three parts.
    fn database() -> Vec<u8> {
        (0..70_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect()
    }

    fn line(remaining: usize, blob: &[u8]) -> String {
        let blob = STANDARD.encode(blob);
        if remaining == 0 {
            format!("{{\"result\":{{\"blob\":\"{blob}\",\"version\":\"3.6.0\"}}}}\n")
        } else {
            format!("{{\"result\":{{\"remaining_bytes\":\"{remaining}\",\"blob\":\"{blob}\"}}}}\n")
        }
    }

    /// The lines of a stream with `database`, and with `sum` at the end.
    fn lines(database: &[u8], sum: &[u8]) -> Vec<String> {
        let mut rest = database.len();
        let parts = database.chunks(32 << 10).map(|part| {
            rest -= part.len();
            line(rest, part)
        });
        parts.chain([line(0, sum)]).collect()
    }

    fn sum(bytes: &[u8]) -> Vec<u8> {
        let digest = Digest::of(bytes).to_string();
        (0..32).map(|n| u8::from_str_radix(&digest[2 * n..2 * n + 2], 16).unwrap()).collect()
    }

    fn receive_text(text: &str) -> (Result<Saved, Broken>, Vec<u8>) {
        let mut file = Vec::new();
        // A small buffer: parts are longer than what one read gives.
        let saved = receive(BufReader::with_capacity(1000, text.as_bytes()), &mut file);
        (saved, file)
    }

    #[test]
    fn a_whole_snapshot_is_written_as_it_is() {
        let database = database();
        let (saved, file) = receive_text(&format!("{HEAD}{}", lines(&database, &sum(&database)).concat()));
        let expected = [database.clone(), sum(&database)].concat();
        assert_eq!(file, expected);
        let saved = saved.unwrap();
        assert_eq!((saved.size, saved.digest), (70_032, Digest::of(&expected)));
        // The checksum may come in the same message as the end of what it is of.
        let one = line(0, &expected);
        assert_eq!(receive_text(&format!("{HEAD}{one}")).1, expected);
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let database = database();
        let good = lines(&database, &sum(&database));
        let wrong = lines(&database, &sum(b"another"));
        let stopped = "{\"error\":{\"code\":14,\"message\":\"etcdserver: server stopped\"}}\n";
        let in_a_line = good.concat().len() - good[3].len() - 100;
        for (text, expected) in [
            (String::new(), "etcd answered no HTTP".to_owned()),
            (HEAD.to_owned(), "it is cut: 0 bytes arrived, and 0 are missing".to_owned()),
            (format!("{HEAD}\n\n"), "it is cut: 0 bytes arrived, and 0 are missing".to_owned()),
            (
                format!("{HEAD}{}", line(0, &sum(b""))),
                "it is cut: 32 bytes arrived, and 0 are missing".to_owned(),
            ),
            // Cut between two messages, inside of one, and before the checksum.
            (
                format!("{HEAD}{}", good[..2].concat()),
                "it is cut: 65536 bytes arrived, and 4464 are missing".to_owned(),
            ),
            (
                format!("{HEAD}{}", &good.concat()[..in_a_line]),
                "it is cut: 65536 bytes arrived, and 4464 are missing".to_owned(),
            ),
            (
                format!("{HEAD}{}{stopped}", good[0]),
                "etcd stopped in the middle: etcdserver: server stopped".to_owned(),
            ),
            (
                format!("{HEAD}{}", wrong.concat()),
                format!("its sha-256 is {}, and etcd says {}", Digest::of(&database), Digest::of(b"another")),
            ),
            (
                "HTTP/1.0 403 Forbidden\r\n\r\n{\"code\":7,\"message\":\"etcdserver: permission denied\"}\n"
                    .to_owned(),
                "etcd answered 403 Forbidden: etcdserver: permission denied".to_owned(),
            ),
            (
                "HTTP/1.0 404 Not Found\r\n\r\n404 page not found\n".to_owned(),
                "etcd answered 404 Not Found".to_owned(),
            ),
        ] {
            assert_eq!(receive_text(&text).0.unwrap_err().to_string(), expected);
        }
        let before_the_sum = format!("{HEAD}{}", good[..3].concat());
        assert!(matches!(receive_text(&before_the_sum).0, Err(Broken::Checksum { .. })));
        let nonsense = format!("{HEAD}{}<html>\n", good[0]);
        assert!(matches!(receive_text(&nonsense).0, Err(Broken::Message(_))));
        let no_base64 = format!("{HEAD}{{\"result\":{{\"blob\":\"?\"}}}}\n");
        assert!(matches!(receive_text(&no_base64).0, Err(Broken::Blob(_))));
    }

    /// A line that never ends is not read into memory until that is full.
    #[test]
    fn a_line_has_an_end() {
        let endless = HEAD.as_bytes().chain(io::repeat(b'a'));
        let broken = receive(BufReader::new(endless), &mut io::sink()).unwrap_err();
        assert!(matches!(broken, Broken::Message(_)), "{broken}");
    }
}
