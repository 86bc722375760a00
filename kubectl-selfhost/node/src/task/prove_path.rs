//! Proves that a diverted connection gets through whatever firewall the node has.
//!
//! Invariants: only the one named source is diverted, and answered; whoever finds the port open finds the divert in
//! place; the table is removed however the task ends, and diverts nothing once its time is over even when the task
//! was killed.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use crate::nft::probe;
use crate::{nft, report, stop};

/// How long one connection may take to take its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Diverts and answers one connection.
#[derive(Debug)]
pub(crate) struct ProvePath {
    /// The prober's address and port, as the node sees them.
    pub(crate) from: SocketAddr,
    /// The public API address, which the prober connects to.
    pub(crate) target: SocketAddr,
    /// Where its connection should arrive.
    pub(crate) bridge_port: u16,
    /// What it gets as an answer.
    pub(crate) token: String,
    /// How long to wait for it.
    pub(crate) timeout: Duration,
}

/// The path cannot be tried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("prober {from} and node {node} are not of one address family")]
    Families { from: IpAddr, node: IpAddr },
    #[error("listen on port {port}")]
    Listen { port: u16, source: io::Error },
    #[error("start a thread")]
    Thread(#[source] io::Error),
    #[error("divert one connection")]
    Nft(#[source] nft::Error),
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Families { .. } => "connect to the node's address of the prober's family",
            Self::Listen { .. } => "free the port, or name another one for the bridge",
            Self::Thread(_) => "the container's limits of processes or memory are too low",
            Self::Nft(error) => error.hint(),
        }
    }
}

enum Event {
    Answered,
    Stop,
}

impl ProvePath {
    pub(crate) fn run(&self) -> Result<report::ProvePath, Error> {
        let (from, node) = (self.from.ip(), self.target.ip());
        if from.is_ipv4() != node.is_ipv4() {
            return Err(Error::Families { from, node });
        }
        let (events, inbox) = mpsc::channel();
        let stopping = events.clone();
        stop::on_signal(move || {
            // The task is gone when it has ended anyway.
            let _ = stopping.send(Event::Stop);
        })
        .map_err(Error::Thread)?;

        let seconds = u32::try_from(self.timeout.as_secs()).unwrap_or(u32::MAX).max(1);
        nft::apply(&probe::install(self.from, self.target, self.bridge_port, seconds)).map_err(Error::Nft)?;
        // The divert comes first: the prober takes the open port as the sign to connect.
        let listening = self.listen(events);
        // Neither a signal nor the end of the time is an error: the answer is then no.
        let answered = listening.is_ok() && matches!(inbox.recv_timeout(self.timeout), Ok(Event::Answered));
        let removed = nft::apply(&probe::remove()).map_err(Error::Nft);
        listening.and(removed)?;
        Ok(report::ProvePath { answered })
    }

    /// Answers connections on a thread of its own, until the process ends.
    fn listen(&self, events: Sender<Event>) -> Result<(), Error> {
        let any: IpAddr =
            if self.target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let port = self.bridge_port;
        let listener = TcpListener::bind((any, port)).map_err(|source| Error::Listen { port, source })?;
        let (from, token) = (self.from, self.token.clone());
        let accept = move || {
            for stream in listener.incoming().flatten() {
                // Somebody else's connection to the port itself proves nothing.
                let is_prober = stream.peer_addr().is_ok_and(|peer| peer == from);
                if is_prober && answer(&stream, &token).is_ok() && events.send(Event::Answered).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("answer".to_owned()).spawn(accept).map_err(Error::Thread)?;
        Ok(())
    }
}

/// Writes the token and closes the connection in peace: the prober may be saying something too, and closing with
/// that unread would reset the connection and take the answer with it.
fn answer(mut stream: &TcpStream, token: &str) -> io::Result<()> {
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(format!("{token}\n").as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut rest = [0; 512];
    // Its end, or its being too slow, are both fine: the answer is out.
    while matches!(stream.read(&mut rest), Ok(1..)) {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_prober_is_answered() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let prober = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let task = ProvePath {
            from: prober,
            target: "127.0.0.1:6443".parse().unwrap(),
            bridge_port: port,
            token: "cafe".to_owned(),
            timeout: Duration::ZERO,
        };
        let (events, inbox) = mpsc::channel();
        task.listen(events).unwrap();
        let read = |mut stream: TcpStream| {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };

        let stranger = TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(read(stranger), "");
        assert!(inbox.try_recv().is_err());

        let prober = connect_from(prober, ("127.0.0.1", port).into_address());
        (&prober).write_all(b"hello").unwrap();
        assert_eq!(read(prober), "cafe\n");
        assert!(matches!(inbox.recv_timeout(Duration::from_secs(5)), Ok(Event::Answered)));
    }

    trait IntoAddress {
        fn into_address(self) -> SocketAddr;
    }

    impl IntoAddress for (&str, u16) {
        fn into_address(self) -> SocketAddr {
            SocketAddr::new(self.0.parse().unwrap(), self.1)
        }
    }

    fn connect_from(source: SocketAddr, target: SocketAddr) -> TcpStream {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &source).unwrap();
        connect(&socket, &target).unwrap();
        socket.into()
    }
}
