//! Which proxy leads to the API server, by the rules of Go's `http.ProxyFromEnvironment`, which kubectl follows.
//!
//! kube asks `NO_PROXY` about the proxy's own host instead of the server's; so the choice is made here.
//!
//! Invariant: pure; the environment is passed in.

use std::net::IpAddr;

use http::Uri;

/// The proxy variables of the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Proxies {
    /// `HTTPS_PROXY` or `https_proxy`.
    pub(super) https: Option<String>,
    /// `HTTP_PROXY` or `http_proxy`.
    pub(super) http: Option<String>,
    /// `NO_PROXY` or `no_proxy`.
    pub(super) none: Option<String>,
}

impl Proxies {
    /// The proxy for `server`, as a URL; `None` for a direct connection.
    pub(super) fn for_server(&self, server: &Uri) -> Option<String> {
        let proxy = if server.scheme_str() == Some("http") { &self.http } else { &self.https };
        let proxy = proxy.as_deref().filter(|proxy| !proxy.is_empty())?;
        let host = server.host()?.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok();
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return None;
        }
        let port = server.port_u16().unwrap_or(if server.scheme_str() == Some("http") { 80 } else { 443 });
        let excluded = self
            .none
            .iter()
            .flat_map(|list| list.split(','))
            .any(|rule| excludes(rule.trim(), &host, address, port));
        // Go takes `proxy:3128` for `http://proxy:3128`.
        (!excluded).then(|| if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") })
    }
}

/// Whether one entry of `NO_PROXY` is about this host.
fn excludes(rule: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if rule == "*" {
        return true;
    }
    if let (Some((net, bits)), Some(address)) = (rule.split_once('/'), address) {
        return match (net.parse::<IpAddr>(), bits.parse::<u8>()) {
            (Ok(net), Ok(bits)) => contains(net, bits, address),
            _ => false,
        };
    }
    let rule = rule.to_ascii_lowercase();
    let (name, rule_port) = match rule.rsplit_once(':') {
        // More than one colon is an IPv6 address without a port, unless it stands in brackets.
        Some((name, digits)) if !name.contains(':') || name.ends_with(']') => (name, digits.parse().ok()),
        _ => (rule.as_str(), None),
    };
    if rule_port.is_some_and(|rule_port: u16| rule_port != port) {
        return false;
    }
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if let Some(address) = address {
        return name.parse() == Ok(address);
    }
    // `example.com` is the host and all below it; `.example.com` and `*.example.com` only what is below it.
    match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
        Some(below) => host.strip_suffix(below).is_some_and(|rest| rest.ends_with('.')),
        None if name.is_empty() => false,
        None => host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
    }
}

fn contains(net: IpAddr, bits: u8, address: IpAddr) -> bool {
    match (net, address) {
        (IpAddr::V4(net), IpAddr::V4(address)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            net.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(net), IpAddr::V6(address)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            net.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(server: &str, no_proxy: &str, expected: Option<&str>) {
        let proxies = Proxies {
            https: Some("proxy:3128".to_owned()),
            http: Some("http://plain:80".to_owned()),
            none: Some(no_proxy.to_owned()),
        };
        let server: Uri = server.parse().unwrap();
        assert_eq!(proxies.for_server(&server).as_deref(), expected, "{server} without {no_proxy}");
    }

    #[test]
    fn follows_go() {
        let proxy = Some("http://proxy:3128");
        for (server, no_proxy, expected) in [
            ("https://api.example.com:6443", "", proxy),
            ("http://api.example.com", "", Some("http://plain:80")),
            ("https://localhost:6443", "", None),
            ("https://127.0.0.1:6443", "", None),
            ("https://[::1]:6443", "", None),
            ("https://api.example.com:6443", "*", None),
            ("https://api.example.com:6443", "example.com", None),
            ("https://api.example.com:6443", ".example.com", None),
            ("https://api.example.com:6443", "*.example.com", None),
            ("https://example.com:6443", ".example.com", proxy),
            ("https://badexample.com:6443", "example.com", proxy),
            ("https://api.example.com:6443", "other, api.example.com:6443", None),
            ("https://api.example.com:6443", "api.example.com:443", proxy),
            ("https://10.1.2.3:6443", "10.0.0.0/8", None),
            ("https://11.1.2.3:6443", "10.0.0.0/8", proxy),
            ("https://11.1.2.3:6443", "0.0.0.0/0", None),
            ("https://10.1.2.3:6443", "10.1.2.3", None),
            ("https://[fd00::5]:6443", "fd00::/8", None),
            ("https://[fd00::5]:6443", "fd00::5", None),
        ] {
            check(server, no_proxy, expected);
        }
    }

    #[test]
    fn no_variable_is_no_proxy() {
        let server = "https://api.example.com".parse().unwrap();
        assert_eq!(Proxies::default().for_server(&server), None);
    }
}
