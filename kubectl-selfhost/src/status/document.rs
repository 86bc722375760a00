//! The report for programs.
//!
//! Invariant: within an `apiVersion` fields are only ever added, and a field that has no value is `null`, not absent:
//! a script can tell "unknown" from a name that it mistyped.

use std::collections::BTreeSet;
use std::io::{self, Write};

use jiff::Timestamp;
use selfhost_core::component::Hosting;
use selfhost_core::finding::{Code, Finding, Severity};
use serde::Serialize;

use super::report::{Report, Row, Run, StandbyRow};
use crate::cli::output::DataFormat;
use crate::inventory::OpenOperation;
use crate::inventory::credentials::Source;
use crate::render::document;

/// Where findings are explained, a section for each code.
pub const FINDINGS_URL: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/reference/findings.md");

/// The `kind` of the document.
pub const KIND: &str = "ControlPlaneStatus";

/// The section of the documentation that explains `code`.
pub fn docs_of(code: Code) -> String {
    format!("{FINDINGS_URL}#{}", code.as_str().to_lowercase())
}

/// Writes the report.
pub fn write(out: &mut dyn Write, format: DataFormat, report: &Report) -> io::Result<()> {
    document::write(out, format, KIND, &Status::of(report))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    observed_at: Timestamp,
    server: Server<'a>,
    hosting: Hosting,
    versions: Vec<String>,
    nodes: Option<Vec<Node<'a>>>,
    components: Vec<Component<'a>>,
    standbys: Vec<Standby<'a>>,
    guard: Option<Guard<'a>>,
    operation: Option<Operation<'a>>,
    findings: Vec<FindingDocument<'a>>,
    next_command: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Server<'a> {
    url: &'a str,
    version: Option<String>,
}

/// That the API servers ask a guard; whether they enforce it, `guard status` tells.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Guard<'a> {
    credential: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Node<'a> {
    name: &'a str,
    ready: bool,
    kubelet_version: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Component<'a> {
    #[serde(rename = "component")]
    name: &'a str,
    node: Option<&'a str>,
    hosting: Hosting,
    ready: Option<bool>,
    ready_containers: Option<usize>,
    containers: Option<usize>,
    version: Option<String>,
    /// The older minor that it behaves like, `1.36`.
    emulates: Option<String>,
    restarts: Option<i32>,
    created_at: Option<Timestamp>,
    address: Option<&'a str>,
    pod: Option<&'a str>,
    image: Option<&'a str>,
    update_strategy: Option<&'a str>,
    credentials: Option<Credentials>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Standby<'a> {
    node: &'a str,
    checkpoint: u64,
    version: Option<String>,
    whole: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Credentials {
    source: Source,
    /// The end of the first of those certificates that can be seen.
    expires_at: Option<Timestamp>,
    /// What cannot be seen.
    unknown: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Operation<'a> {
    what: &'a str,
    holder: &'a str,
    running: bool,
    step: Option<&'a str>,
    since: Option<Timestamp>,
    renewed_at: Option<Timestamp>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FindingDocument<'a> {
    code: Code,
    severity: Severity,
    subject: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
    docs: String,
}

impl<'a> Status<'a> {
    fn of(report: &'a Report) -> Self {
        let nodes = report.nodes.as_ref().map(|nodes| {
            let node = |node: &'a super::report::NodeRow| Node {
                name: &node.name,
                ready: node.ready,
                kubelet_version: node.kubelet.as_ref().map(ToString::to_string),
            };
            nodes.iter().map(node).collect()
        });
        let binaries: BTreeSet<_> = report.versions.iter().map(|runs| &runs.binary).collect();
        Self {
            observed_at: report.taken_at,
            server: Server {
                url: &report.server,
                version: report.server_version.as_ref().map(ToString::to_string),
            },
            hosting: report.hosting,
            versions: binaries.iter().map(ToString::to_string).collect(),
            nodes,
            components: report.rows.iter().map(Component::of).collect(),
            standbys: report.standbys.iter().map(Standby::of).collect(),
            guard: report.guard.as_deref().map(|credential| Guard { credential }),
            operation: report.operation.as_ref().map(Operation::of),
            findings: report.findings.iter().map(FindingDocument::of).collect(),
            next_command: report.next.as_ref().map(|next| next.command.as_str()),
        }
    }
}

impl<'a> Component<'a> {
    fn of(row: &'a Row) -> Self {
        let run = row.run.as_ref();
        let runs = run.and_then(|run| run.version.as_ref());
        Self {
            name: row.component,
            node: row.node.as_deref(),
            hosting: row.hosting,
            ready: run.map(|run| run.ready),
            ready_containers: run.map(|run| run.containers.0),
            containers: run.map(|run| run.containers.1),
            version: runs.map(|runs| runs.binary.to_string()),
            emulates: runs.and_then(|runs| Some(runs.emulates?.to_string())),
            restarts: run.map(|run| run.restarts),
            created_at: run.and_then(|run| run.created),
            address: run.and_then(|run| run.address.as_deref()),
            pod: run.map(|run| run.pod.as_str()),
            image: run.and_then(|run| run.image.as_deref()),
            update_strategy: run.and_then(|run| run.strategy.as_deref()),
            credentials: run.map(Credentials::of),
        }
    }
}

impl<'a> Standby<'a> {
    fn of(row: &'a StandbyRow) -> Self {
        Self {
            node: &row.node,
            checkpoint: row.generation,
            version: row.version.as_ref().map(ToString::to_string),
            whole: row.whole,
        }
    }
}

impl Credentials {
    fn of(run: &Run) -> Self {
        let unknown = match run.source {
            Source::HostPath => Some("what is on the node's disk and not served by the component"),
            Source::Mixed => Some("what is on the node's disk"),
            Source::Secret if run.expires.is_some() => None,
            Source::Secret => Some("the Secrets cannot be read, or hold no certificate"),
            Source::Unknown => Some("where the component's credentials come from"),
        };
        Self { source: run.source, expires_at: run.expires, unknown }
    }
}

impl<'a> Operation<'a> {
    fn of(operation: &'a OpenOperation) -> Self {
        Self {
            what: &operation.what,
            holder: &operation.holder,
            running: operation.running,
            step: operation.step.as_deref(),
            since: operation.since,
            renewed_at: operation.renewed,
        }
    }
}

impl<'a> FindingDocument<'a> {
    fn of(finding: &'a Finding) -> Self {
        Self {
            code: finding.code,
            severity: finding.severity,
            subject: &finding.subject,
            message: &finding.message,
            hint: finding.hint.as_deref(),
            docs: docs_of(finding.code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained() {
        let docs = include_str!("../../../docs/reference/findings.md");
        let sections: Vec<&str> = docs.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(sections, codes);
        for (code, section) in codes.iter().zip(docs.split("\n### ").skip(1)) {
            assert!(section.contains("What to do"), "{code}");
        }
    }

    #[test]
    fn severities_are_those_of_the_documentation() {
        let docs = include_str!("../../../docs/reference/findings.md");
        for (code, section) in Code::ALL.iter().zip(docs.split("\n### ").skip(1)) {
            let severity = code.severity().to_string();
            assert!(section.to_lowercase().contains(&format!("*{severity}")), "{code} {severity}");
        }
    }
}
