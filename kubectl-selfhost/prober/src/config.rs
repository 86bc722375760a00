//! What to probe and how hard. Parsed and checked here once; everything behind trusts it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};

use crate::request::RequestSpec;

/// Everything a prober needs; build it with [`Config::new`] and the methods that add to it.
#[derive(Clone)]
pub struct Config {
    pub(crate) targets: Vec<Target>,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) headers: HeaderMap,
    pub(crate) loads: Vec<Load>,
    pub(crate) timeout: Duration,
    pub(crate) max_duration: Duration,
    pub(crate) max_requests: u64,
    pub(crate) max_in_flight: usize,
}

/// One address to connect to: an API server, a load balancer or a Service address.
#[derive(Clone, Debug)]
pub struct Target {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) server_name: ServerName<'static>,
    pub(crate) authority: String,
}

/// How a stream of requests uses connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// A fresh TCP and TLS connection for each request, HTTP/1.1, `Connection: close`.
    New,
    /// One HTTP/2 connection for each stream, kept as client-go keeps its own.
    Reused,
    /// HTTP/1.1 connections kept alive between requests.
    #[serde(rename = "reused-http1")]
    ReusedHttp1,
}

/// Equal streams of requests that run against every target.
#[derive(Clone, Debug)]
pub struct Load {
    pub(crate) mode: Mode,
    pub(crate) streams: usize,
    pub(crate) rate: f64,
    pub(crate) requests: Vec<RequestSpec>,
}

/// Why a configuration cannot be run.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// There is no target.
    #[error("no target to probe")]
    NoTarget,
    /// Two targets have the same name: their figures would be mixed, and one could hide the other's gap.
    #[error("two targets are called {name:?}")]
    DuplicateTarget {
        /// The name.
        name: String,
    },
    /// There is no load, or a load without streams or requests.
    #[error("no requests to send to the targets")]
    NoRequests,
    /// The rate of a load is zero, negative, not a number or beyond [`Config::MAX_RATE`].
    #[error("rate {rate} of load {mode} is not between 0.01 and {max} requests per second", max = Config::MAX_RATE)]
    Rate {
        /// The load's mode.
        mode: Mode,
        /// The rate as given.
        rate: String,
    },
    /// A limit (timeout, duration, number of requests, requests in flight) is zero.
    #[error("limit {name} is zero")]
    ZeroLimit {
        /// Which limit.
        name: &'static str,
    },
    /// The server name is neither a DNS name nor an address.
    #[error("server name {name:?} of target {target} is neither a dns name nor an ip address")]
    ServerName {
        /// The target's name.
        target: String,
        /// The server name as given.
        name: String,
    },
    /// The path of a request cannot be sent.
    #[error("path {path:?} is not an absolute path of a url")]
    Path {
        /// The path as given.
        path: String,
    },
    /// The content type of a write is not a header value.
    #[error("content type {content_type:?} is not a header value")]
    ContentType {
        /// The content type as given.
        content_type: String,
    },
}

impl ConfigError {
    /// What to do next, for the `hint:` line.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoTarget => "name at least one api server address",
            Self::DuplicateTarget { .. } => "name each target once, for example by its address and port",
            Self::NoRequests => "give each load at least one stream and one path",
            Self::Rate { .. } => "lower the rate, or split it over more streams",
            Self::ZeroLimit { .. } => "give a limit above zero, or leave the default",
            Self::ServerName { .. } => "use a name that the server's certificate carries",
            Self::Path { .. } => "start the path with /, for example /api/v1/namespaces/default",
            Self::ContentType { .. } => "use for example application/merge-patch+json",
        }
    }
}

impl Config {
    /// Most requests per second that one stream may be asked for: beyond it the timer (1 ms) sets the pace.
    pub const MAX_RATE: f64 = 500.0;
    const MIN_RATE: f64 = 0.01;

    /// A configuration with the default limits and no load yet.
    ///
    /// `tls` carries the trust anchors and client certificate; only the ALPN protocols and TLS session
    /// resumption (off, as in client-go: its `tls.Config` has no `ClientSessionCache`) are set on copies of it.
    pub fn new(tls: Arc<ClientConfig>, targets: Vec<Target>) -> Self {
        Self {
            targets,
            tls,
            headers: HeaderMap::new(),
            loads: Vec::new(),
            timeout: Duration::from_secs(5),
            max_duration: Duration::from_secs(3600),
            max_requests: 2_000_000,
            max_in_flight: 1024,
        }
    }

    /// Adds a load that runs against every target.
    #[must_use]
    pub fn load(mut self, load: Load) -> Self {
        self.loads.push(load);
        self
    }

    /// Adds a header to every request, for example `Authorization`. The value is treated as a secret.
    #[must_use]
    pub fn header(mut self, name: HeaderName, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        self.headers.append(name, value);
        self
    }

    /// Sets how long a request may take from the moment it is sent, connecting included (default 5 s).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets after how long sending ends by itself (default one hour).
    #[must_use]
    pub fn max_duration(mut self, max_duration: Duration) -> Self {
        self.max_duration = max_duration;
        self
    }

    /// Sets after how many requests, over all targets, sending ends by itself (default two million).
    #[must_use]
    pub fn max_requests(mut self, max_requests: u64) -> Self {
        self.max_requests = max_requests;
        self
    }

    /// Sets how many requests of one target and mode may wait for their answer (default 1024).
    ///
    /// A request that is due beyond it is not sent and counts as [`crate::FailureKind::Overloaded`].
    #[must_use]
    pub fn max_in_flight(mut self, max_in_flight: usize) -> Self {
        self.max_in_flight = max_in_flight;
        self
    }

    /// Requests per second that this configuration sends in total.
    #[expect(clippy::cast_precision_loss, reason = "numbers of streams and targets are small")]
    pub fn total_rate(&self) -> f64 {
        let per_target: f64 = self.loads.iter().map(|load| load.rate * load.streams as f64).sum();
        per_target * self.targets.len() as f64
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.targets.is_empty() {
            return Err(ConfigError::NoTarget);
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = self.targets.iter().find(|target| !names.insert(&target.name)) {
            return Err(ConfigError::DuplicateTarget { name: twice.name.clone() });
        }
        if self.loads.is_empty() {
            return Err(ConfigError::NoRequests);
        }
        for load in &self.loads {
            if load.streams == 0 || load.requests.is_empty() {
                return Err(ConfigError::NoRequests);
            }
            if !(Self::MIN_RATE..=Self::MAX_RATE).contains(&load.rate) {
                return Err(ConfigError::Rate { mode: load.mode, rate: load.rate.to_string() });
            }
            for request in &load.requests {
                request.check()?;
            }
        }
        let limits = [
            ("timeout", self.timeout.is_zero()),
            ("max duration", self.max_duration.is_zero()),
            ("max requests", self.max_requests == 0),
            ("max in flight", self.max_in_flight == 0),
        ];
        match limits.into_iter().find(|(_, is_zero)| *is_zero) {
            Some((name, _)) => Err(ConfigError::ZeroLimit { name }),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Config {
    /// Header values are secrets and the TLS configuration holds a key: neither is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("targets", &self.targets)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("loads", &self.loads)
            .field("timeout", &self.timeout)
            .field("max_duration", &self.max_duration)
            .field("max_requests", &self.max_requests)
            .field("max_in_flight", &self.max_in_flight)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// A target called `name` in reports, reached at `address`, whose certificate is for `server_name`.
    ///
    /// `server_name` is a DNS name or an IP address (without brackets); it also becomes the `Host` header.
    pub fn new(name: impl Into<String>, address: SocketAddr, server_name: &str) -> Result<Self, ConfigError> {
        let name = name.into();
        let parsed = ServerName::try_from(server_name.to_owned())
            .map_err(|_| ConfigError::ServerName { target: name.clone(), name: server_name.to_owned() })?;
        let host =
            if server_name.contains(':') { format!("[{server_name}]") } else { server_name.to_owned() };
        Ok(Self { name, address, server_name: parsed, authority: format!("{host}:{}", address.port()) })
    }

    /// The name used in reports.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Load {
    /// `streams` streams that each send `rate` requests per second, the given ones in turn.
    pub fn new(mode: Mode, streams: usize, rate: f64, requests: Vec<RequestSpec>) -> Self {
        Self { mode, streams, rate, requests }
    }

    /// The same at another rate.
    #[must_use]
    pub fn rate(mut self, rate: f64) -> Self {
        self.rate = rate;
        self
    }

    /// Streams that read [`RequestSpec::DEFAULT_PATH`].
    pub fn reads(mode: Mode, streams: usize, rate: f64) -> Self {
        Self::new(mode, streams, rate, vec![RequestSpec::default()])
    }
}

impl Mode {
    /// The word used in reports and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Reused => "reused",
            Self::ReusedHttp1 => "reused-http1",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::crypto::ring::default_provider;

    use super::*;

    fn target(name: &str) -> Target {
        Target::new(name, "127.0.0.1:6443".parse().unwrap(), "127.0.0.1").unwrap()
    }

    fn config(targets: Vec<Target>) -> Config {
        let tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        Config::new(Arc::new(tls), targets)
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        let one = || config(vec![target("a")]);
        let reads = |streams, rate| Load::reads(Mode::New, streams, rate);
        let rate = |rate: &str| ConfigError::Rate { mode: Mode::New, rate: rate.to_owned() };
        let zero = |name| ConfigError::ZeroLimit { name };
        let cases = [
            (config(vec![]).load(reads(1, 1.0)), ConfigError::NoTarget),
            (
                config(vec![target("a"), target("b"), target("a")]).load(reads(1, 1.0)),
                ConfigError::DuplicateTarget { name: "a".to_owned() },
            ),
            (one(), ConfigError::NoRequests),
            (one().load(reads(0, 1.0)), ConfigError::NoRequests),
            (one().load(Load::new(Mode::New, 1, 1.0, vec![])), ConfigError::NoRequests),
            (one().load(reads(1, 0.0)), rate("0")),
            (one().load(reads(1, -1.0)), rate("-1")),
            (one().load(reads(1, f64::NAN)), rate("NaN")),
            (one().load(reads(1, 501.0)), rate("501")),
            (one().load(reads(1, 1.0)).timeout(Duration::ZERO), zero("timeout")),
            (one().load(reads(1, 1.0)).max_duration(Duration::ZERO), zero("max duration")),
            (one().load(reads(1, 1.0)).max_requests(0), zero("max requests")),
            (one().load(reads(1, 1.0)).max_in_flight(0), zero("max in flight")),
        ];
        for (config, expected) in cases {
            assert_eq!(config.check(), Err(expected));
        }
        assert_eq!(one().load(reads(1, 500.0)).check(), Ok(()));
    }

    #[test]
    fn addresses_and_names_become_an_authority() {
        let authority = |server_name| {
            Target::new("a", "[::1]:443".parse().unwrap(), server_name).map(|target| target.authority)
        };
        assert_eq!(authority("kubernetes.default"), Ok("kubernetes.default:443".to_owned()));
        assert_eq!(authority("::1"), Ok("[::1]:443".to_owned()));
        assert!(matches!(authority("no such name"), Err(ConfigError::ServerName { .. })));
    }

    #[test]
    fn secrets_are_not_shown() {
        let config =
            config(vec![target("a")]).header(http::header::AUTHORIZATION, "Bearer s3cret".parse().unwrap());
        let shown = format!("{config:?} {:?}", config.headers);
        assert!(shown.contains("authorization") && !shown.contains("s3cret"), "{shown}");
    }
}
