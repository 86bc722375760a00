//! What is counted and timed, for Prometheus.
//!
//! Invariant: labels are of fixed lists, never a value out of a review. Times are whole microseconds in buckets that tell
//! ten of them from twenty: a review takes some hundred.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::capabilities::Reply;

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Everything that is counted.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    reviews: Family<Labels<3>, Counter>,
    refused: Family<Labels<1>, Counter>,
    failures: Family<Labels<1>, Counter>,
    lookups: Family<Labels<1>, Counter>,
    reloads: Family<Labels<2>, Counter>,
    review_time: Histogram,
    waiting_time: Histogram,
    policy_time: Histogram,
    lookup_time: Histogram,
    connections: Gauge,
    expiry: Gauge,
    policy: Family<[(&'static str, String); 2], Gauge>,
}

/// Resources that rules are about. Another one is counted as `other`.
const RESOURCES: [&str; 12] = [
    "clusterrolebindings",
    "clusterroles",
    "configmaps",
    "controllerrevisions",
    "daemonsets",
    "endpointslices",
    "namespaces",
    "nodes",
    "pods",
    "secrets",
    "serviceaccounts",
    "services",
];

/// Operations of reviews.
const OPERATIONS: [&str; 4] = ["CONNECT", "CREATE", "DELETE", "UPDATE"];

const OTHER: &str = "other";

fn known(list: &[&'static str], name: &str) -> &'static str {
    list.iter().find(|it| **it == name).map_or(OTHER, |it| it)
}

/// The operation of a review, or `other`.
pub fn operation_of(name: &str) -> &'static str {
    known(&OPERATIONS, name)
}

/// What became of a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The policy lets it go on.
    Allowed,
    /// The policy denies it.
    Denied,
    /// The policy came to no verdict, which denies it.
    Failed,
    /// There was no time for it, which denies it.
    Shed,
}

impl Outcome {
    /// `allowed`
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Shed => "shed",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let times = || Histogram::new(exponential_buckets(10.0, 2.0, 18));
        let mut inner = Inner {
            registry: Registry::with_prefix("selfhost_admission"),
            reviews: Family::default(),
            refused: Family::default(),
            failures: Family::default(),
            lookups: Family::default(),
            reloads: Family::default(),
            review_time: times(),
            waiting_time: times(),
            policy_time: times(),
            lookup_time: times(),
            connections: Gauge::default(),
            expiry: Gauge::default(),
            policy: Family::default(),
        };
        let registry = &mut inner.registry;
        registry.register("reviews", "Reviews that were answered", inner.reviews.clone());
        registry.register("refused_requests", "Requests that were no reviews", inner.refused.clone());
        registry.register("failures", "Reviews without a verdict", inner.failures.clone());
        registry.register("lookups", "Reads of the cluster", inner.lookups.clone());
        registry.register("reloads", "Changes of files that were taken or kept out", inner.reloads.clone());
        for (name, help, histogram) in [
            (
                "review_duration_microseconds",
                "From the request's last byte to its answer",
                &inner.review_time,
            ),
            ("queue_duration_microseconds", "Waiting for a worker", &inner.waiting_time),
            (
                "policy_duration_microseconds",
                "In the policy, reads of the cluster included",
                &inner.policy_time,
            ),
            ("lookup_duration_microseconds", "One read of the cluster", &inner.lookup_time),
        ] {
            registry.register(name, help, histogram.clone());
        }
        registry.register("connections", "Open connections", inner.connections.clone());
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the first certificate of the chain that is served expires",
            inner.expiry.clone(),
        );
        registry.register("policy", "The policy that runs, by SHA-256", inner.policy.clone());
        Self(Arc::new(inner))
    }

    /// A review was answered.
    pub fn review(&self, resource: &str, operation: &str, outcome: Outcome, took: Duration) {
        let labels = [
            ("resource", known(&RESOURCES, resource)),
            ("operation", operation_of(operation)),
            ("outcome", outcome.as_str()),
        ];
        self.0.reviews.get_or_create(&labels).inc();
        self.0.review_time.observe(microseconds(took));
    }

    /// A request was refused before it was one.
    pub fn refused(&self, reason: &'static str) {
        self.0.refused.get_or_create(&[("reason", reason)]).inc();
    }

    /// A review has no verdict.
    pub fn failed(&self, kind: &'static str) {
        self.0.failures.get_or_create(&[("kind", kind)]).inc();
    }

    /// A review waited so long, and its evaluation took so long.
    pub fn evaluated(&self, waited: Duration, took: Duration) {
        self.0.waiting_time.observe(microseconds(waited));
        self.0.policy_time.observe(microseconds(took));
    }

    /// Something was looked up.
    pub fn lookup(&self, reply: &Reply, took: Duration) {
        let result = match reply {
            Reply::Found(_) => "found",
            Reply::Missing => "missing",
            Reply::Unavailable(_) => "unavailable",
        };
        self.0.lookups.get_or_create(&[("result", result)]).inc();
        self.0.lookup_time.observe(microseconds(took));
    }

    /// Files have changed.
    pub fn reloaded(&self, what: &'static str, taken: bool) {
        let result = if taken { "taken" } else { "kept-out" };
        self.0.reloads.get_or_create(&[("what", what), ("result", result)]).inc();
    }

    /// A connection was opened; it is closed when the result is dropped.
    pub fn connection(&self) -> Connection {
        self.0.connections.inc();
        Connection(self.0.connections.clone())
    }

    /// The certificates that are served expire then.
    pub fn expiry(&self, seconds: i64) {
        self.0.expiry.set(seconds);
    }

    /// This policy runs.
    pub fn policy(&self, module: String, settings: String) {
        self.0.policy.clear();
        self.0.policy.get_or_create(&[("module", module), ("settings", settings)]).set(1);
    }

    /// All of it, as Prometheus reads it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = text::encode(&mut text, &self.0.registry);
        text
    }
}

/// An open connection.
pub struct Connection(Gauge);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 285 years")]
fn microseconds(time: Duration) -> f64 {
    time.as_micros() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_review_says_is_no_label() {
        let metrics = Metrics::new();
        metrics.review("c2VjcmV0", "c2VjcmV0", Outcome::Denied, Duration::from_micros(150));
        metrics.review("secrets", "UPDATE", Outcome::Allowed, Duration::from_micros(150));
        let text = metrics.text();
        assert!(!text.contains("c2VjcmV0"), "{text}");
        for line in [
            r#"selfhost_admission_reviews_total{resource="other",operation="other",outcome="denied"} 1"#,
            r#"selfhost_admission_reviews_total{resource="secrets",operation="UPDATE",outcome="allowed"} 1"#,
            r#"selfhost_admission_review_duration_microseconds_bucket{le="80.0"} 0"#,
            r#"selfhost_admission_review_duration_microseconds_bucket{le="160.0"} 2"#,
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn metrics_are_documented() {
        let docs = include_str!("../../docs/reference/admission.md");
        let metrics = Metrics::new();
        metrics.review("", "", Outcome::Shed, Duration::ZERO);
        metrics.refused("client");
        metrics.failed("trap");
        metrics.lookup(&Reply::Missing, Duration::ZERO);
        metrics.reloaded("policy", true);
        metrics.policy(String::new(), String::new());
        let text = metrics.text();
        let names = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .filter_map(|it| it.split(' ').next());
        for name in names {
            assert!(
                docs.contains(&format!("`{name}`")) || docs.contains(&format!("`{name}_total`")),
                "{name}"
            );
        }
    }

    #[test]
    fn one_policy_runs() {
        let metrics = Metrics::new();
        metrics.policy("a".to_owned(), "b".to_owned());
        metrics.policy("c".to_owned(), "d".to_owned());
        let lines: Vec<_> =
            metrics.text().lines().filter(|it| it.contains("policy{")).map(str::to_owned).collect();
        assert_eq!(lines, [r#"selfhost_admission_policy{module="c",settings="d"} 1"#]);
    }
}
