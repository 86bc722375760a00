//! TCP sockets of the network namespace, from the kernel.
//!
//! Invariant: what cannot be read is an error, never "no socket".

mod diag;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Socket {
    /// Its own address; an IPv4 address mapped into IPv6 is shown as the IPv4 address it is.
    pub(crate) local: SocketAddr,
    pub(crate) state: State,
}

/// What a socket is doing, as far as anyone here asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Accepts connections.
    Listening,
    /// Part of a connection on which bytes may still be under way.
    Connected,
    /// Holds nothing but its number: `TIME_WAIT` or `CLOSE`.
    Over,
}

/// The table of sockets cannot be read or understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("read {path}")]
    Read { path: &'static str, source: io::Error },
    #[error("unknown line in the kernel's table of TCP sockets: {0:?}")]
    Line(String),
}

/// The ports on which anybody listens, on whatever address.
pub(crate) fn listening() -> Result<BTreeSet<u16>, Error> {
    // A kernel without that interface has the files still.
    diag::listening().or_else(|_| Ok(listening_among(&list()?)))
}

fn listening_among(sockets: &[Socket]) -> BTreeSet<u16> {
    let listeners = sockets.iter().filter(|socket| socket.state == State::Listening);
    listeners.map(|socket| socket.local.port()).collect()
}

/// Every TCP socket of this process' network namespace, from `/proc/net/tcp` and `/proc/net/tcp6`.
pub(crate) fn list() -> Result<Vec<Socket>, Error> {
    let mut sockets = Vec::new();
    for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
        match fs::read_to_string(path) {
            Ok(table) => sockets.extend(parse(&table)?),
            // A kernel without IPv6 has no such file.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.ends_with('6') => {}
            Err(source) => return Err(Error::Read { path, source }),
        }
    }
    Ok(sockets)
}

/// Whether a connection from outside the machine's loopback to `port` is open.
pub(crate) fn connected(sockets: &[Socket], port: u16) -> bool {
    sockets.iter().any(|socket| {
        socket.local.port() == port && socket.state == State::Connected && !socket.local.ip().is_loopback()
    })
}

fn parse(table: &str) -> Result<Vec<Socket>, Error> {
    table.lines().skip(1).map(|line| parse_line(line).ok_or_else(|| Error::Line(line.to_owned()))).collect()
}

/// One line: `sl  local_address rem_address   st ...`, addresses as words in the machine's byte order.
fn parse_line(line: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    let local = SocketAddr::new(parse_address(address)?, u16::from_str_radix(port, 16).ok()?);
    let state = match u8::from_str_radix(fields.nth(1)?, 16).ok()? {
        // include/net/tcp_states.h of the kernel.
        10 => State::Listening,
        6 | 7 => State::Over,
        _ => State::Connected,
    };
    Some(Socket { local, state })
}

fn parse_address(hex: &str) -> Option<IpAddr> {
    let mut bytes = [0; 16];
    match hex.len() {
        8 => {
            parse_words(hex, &mut bytes[..4])?;
            Some(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into())
        }
        32 => {
            parse_words(hex, &mut bytes)?;
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

fn parse_words(hex: &str, bytes: &mut [u8]) -> Option<()> {
    for (index, word) in bytes.chunks_exact_mut(4).enumerate() {
        let digits = hex.get(index * 8..index * 8 + 8)?;
        word.copy_from_slice(&u32::from_str_radix(digits, 16).ok()?.to_ne_bytes());
    }
    Some(())
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    // Captured on a control-plane node; the fields after the state are as the kernel prints them.
    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0B00FA0A:094B 0B00FA0A:C1F2 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 0 10 -1
   2: 0B00FA0A:192C 0B00FA0A:9C40 06 00000000:00000000 03:00000D2B 00000000     0        0 0 3 0
";
    const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr
   0: 00000000000000000000000000000000:192B 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
   1: 0000000000000000FFFF00000B00FA0A:192C 0000000000000000FFFF00000B00FA0A:A2C0 01 00000000:00000000 02:00000A2B
   2: 0000000000000000FFFF00000100007F:192D 0000000000000000FFFF00000100007F:A2C1 08 00000000:00000000 02:00000A2B
";

    #[test]
    fn both_tables_are_read() {
        let show = |table| {
            parse(table).unwrap().iter().map(|s| format!("{} {:?}", s.local, s.state)).collect::<Vec<_>>()
        };
        assert_eq!(
            show(TCP),
            ["127.0.0.1:3306 Listening", "10.250.0.11:2379 Connected", "10.250.0.11:6444 Over"]
        );
        assert_eq!(
            show(TCP6),
            ["[::]:6443 Listening", "10.250.0.11:6444 Connected", "127.0.0.1:6445 Connected"]
        );
    }

    #[test]
    fn questions_about_ports() {
        let tcp6 = parse(TCP6).unwrap();
        assert_eq!(listening_among(&tcp6), BTreeSet::from([6443]));
        assert!(connected(&tcp6, 6444), "a connection to the node's address");
        assert!(!connected(&tcp6, 6445), "a connection over loopback");
        let tcp = parse(TCP).unwrap();
        assert!(!connected(&tcp, 6444), "TIME_WAIT");
        assert_eq!(listening_among(&tcp), BTreeSet::from([3306]));
    }

    #[test]
    fn a_damaged_line_is_an_error() {
        for line in [
            "  0: 0100007F 00000000:0000 0A",
            "  0: 01007F:0CEA 00000000:0000 0A",
            "  0:",
            "  0: 0100007F:0CEA 1:1 XX",
        ] {
            assert!(parse(&format!("header\n{line}\n")).is_err(), "{line:?}");
        }
    }

    #[test]
    fn an_own_listener_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listening_among(&list().unwrap()).contains(&port));
        drop(listener);
        assert!(!listening_among(&list().unwrap()).contains(&port));
    }
}
