//! The prober against small servers on the loopback that each misbehave in one way.
//!
//! Every test counts exactly: the number of requests is fixed by the configuration, and time only bounds.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod kinds;
mod open_loop;
mod pki;
mod raw_http2;
mod replay;
mod server;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use selfhost_prober::{Config, Load, Mode, Prober, Report, RequestSpec, Target};

use crate::pki::Pki;

/// One stream to one server: `requests` requests at 50 per second, each with two seconds to answer.
fn config(pki: &Pki, address: SocketAddr, mode: Mode, requests: u64) -> Config {
    config_of(pki, address, Load::reads(mode, 1, 50.0), requests)
}

fn config_of(pki: &Pki, address: SocketAddr, load: Load, requests: u64) -> Config {
    let target = Target::new("server", address, "localhost").unwrap();
    Config::new(pki.client(), vec![target])
        .load(load)
        .timeout(Duration::from_secs(2))
        .max_requests(requests)
        // A safety net only: no test gets this far.
        .max_duration(Duration::from_secs(60))
}

fn writes(mode: Mode) -> Load {
    let write = RequestSpec::write(
        http::Method::PATCH,
        "/{stream}/{counter}",
        "application/merge-patch+json",
        r#"{"data":{"counter":"{counter}"}}"#,
    );
    Load::new(mode, 1, 50.0, vec![write])
}

/// Runs until the number of requests is reached and every answer is in.
async fn run(config: Config) -> Report {
    let mut prober = Prober::start(config).unwrap();
    prober.wait().await;
    let report = prober.stop().await;
    let counts = report.total.counts;
    assert_eq!(counts.requests, counts.ok + counts.retry_after + counts.failed, "{report}");
    report
}

/// The failures as text, so that a wrong one is shown with its name.
fn failures(report: &Report) -> BTreeMap<String, u64> {
    report.total.failures.iter().map(|(kind, count)| (kind.to_string(), *count)).collect()
}

fn only(kind: &str, count: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([(kind.to_owned(), count)])
}
