//! The ports on which anybody listens, asked of the kernel by `sock_diag(7)`.
//!
//! Listeners have a small table of their own, and this reads only that. `/proc/net/tcp` walks every bucket of the table of
//! connections as well, which grows with the machine's memory: many milliseconds for an answer that is asked every second.
//!
//! Invariant: the answer is whole, or an error.

use std::collections::BTreeSet;
use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};

/// What the kernel puts into one datagram at most (`NLMSG_GOODSIZE` and `min_dump_alloc` of `netlink_dump`).
const DATAGRAM: usize = 32 * 1024;

/// Every port with a listener, on whatever address, in this process' network namespace.
pub(super) fn listening() -> io::Result<BTreeSet<u16>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut ports = BTreeSet::new();
    dump(&socket, AF_INET, SocketId::new_v4(), &mut ports)?;
    dump(&socket, AF_INET6, SocketId::new_v6(), &mut ports)?;
    Ok(ports)
}

fn dump(socket: &Socket, family: u8, socket_id: SocketId, ports: &mut BTreeSet<u16>) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::LISTEN,
        socket_id,
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    loop {
        let mut datagram = Vec::with_capacity(DATAGRAM);
        socket.recv(&mut datagram, 0)?;
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    ports.insert(response.header.socket_id.source_port);
                }
                _ => {}
            }
            // Each message begins at a multiple of four bytes (`NLMSG_ALIGN`).
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length.max(4)..).unwrap_or_default();
        }
        if datagram.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_seen_while_it_listens() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            assert!(listening().unwrap().contains(&port), "{address}");
            let connection = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            drop(listener);
            assert!(!listening().unwrap().contains(&port), "a connection is no listener");
            drop(connection);
        }
    }

    #[test]
    fn an_answer_of_many_datagrams_is_read_whole() {
        let listeners: Vec<TcpListener> =
            (0..600).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports = listening().unwrap();
        for listener in &listeners {
            assert!(ports.contains(&listener.local_addr().unwrap().port()));
        }
    }
}
