//! Where the guard is asked: by the API server of its own node, over loopback.

use std::net::Ipv4Addr;

/// Loopback: no network, no DNS and no Service between an API server and its guard.
pub const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The port of the guard's health and metrics is the one after.
pub const DEFAULT_PORT: u16 = 9443;

/// `127.0.0.1:9443`
pub fn host(port: u16) -> String {
    format!("{LOOPBACK}:{port}")
}

/// The URL of a registration.
pub fn url(port: u16) -> String {
    format!("https://{}/validate", host(port))
}
