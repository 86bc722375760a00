//! What an operation prints at its end.

use std::io::{self, Write as _};
use std::time::Duration;

use selfhost_core::emulation;
use selfhost_core::finding::{Finding, Severity};
use selfhost_prober::Report;

use super::super::probe;
use super::Operator;
use crate::cli::output::{DataFormat, Format};
use crate::plan::{Goal, Plan};
use crate::render::document;
use crate::terminal::Terminal;

/// The result of an operation.
#[derive(Debug, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    /// What it was for.
    pub(super) goal: String,
    /// Whether anything was changed.
    pub(super) changed: bool,
    /// How long it took.
    pub(super) seconds: f64,
    /// What failed, where it was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<String>,
    /// Whether it was taken back.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) rolled_back: bool,
    /// What it cost those who use the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) availability: Option<Report>,
}

impl Operator<'_> {
    /// Prints the availability, where the output is for people.
    pub(super) fn write_report(&self, terminal: &mut Terminal, report: &Report) -> io::Result<()> {
        match self.args.output {
            Format::Table | Format::Wide => probe::write(terminal, self.args.output, report),
            Format::Json | Format::Yaml => Ok(()),
        }
    }

    /// Prints the summary, with `text` in the place of what only programs read.
    pub(super) fn write_summary(
        &self,
        terminal: &mut Terminal,
        summary: &Summary,
        text: &str,
    ) -> io::Result<()> {
        match self.args.output {
            Format::Json => document::write(&mut terminal.out, DataFormat::Json, "OperationReport", summary),
            Format::Yaml => document::write(&mut terminal.out, DataFormat::Yaml, "OperationReport", summary),
            Format::Table | Format::Wide => {
                if let Some(report) = &summary.availability {
                    self.write_report(terminal, report)?;
                    writeln!(terminal.out)?;
                }
                writeln!(terminal.out, "{text}")
            }
        }
    }
}

/// The last lines of an operation that reached its goal.
pub(super) fn done(plan: &Plan, took: Duration) -> String {
    let took = format!("after {:.0} s", took.as_secs_f64());
    let what = match &plan.goal {
        Goal::Emulate(target) => {
            let before = emulation::before(target).map_or_else(String::new, |minor| minor.to_string());
            return format!(
                "The control plane runs {target} as {before}, {took}.\n\
                 Next: kubectl selfhost upgrade {target} makes the switch, once it has proved itself\n      \
                 kubectl selfhost upgrade --rollback goes back"
            );
        }
        Goal::Pivot => "The control plane is self-hosted".to_owned(),
        Goal::Unpivot => "The control plane is made of static Pods".to_owned(),
        Goal::Upgrade(target) | Goal::Rollback(target) => format!("The control plane runs {target}"),
        Goal::Refresh => "Every standby holds what runs now".to_owned(),
        Goal::Arm => {
            return format!(
                "The guard knows every API server by its certificate, {took}.\n\
                 Next: kubectl selfhost guard install registers it, if it does not go on to do so now"
            );
        }
        Goal::Disarm => "No API server has a certificate for the guard any more".to_owned(),
        Goal::Abort(goal) => format!("The control plane is as it was before `{goal}`"),
    };
    let etcd = plan.etcd.as_ref().map(|etcd| format!(" and etcd {}", etcd.tag.version())).unwrap_or_default();
    format!("{what}{etcd}, {took}.\nNext: kubectl selfhost status")
}

/// Writes findings for people.
pub(super) fn write_findings(terminal: &mut Terminal, findings: &[Finding]) -> io::Result<()> {
    let theme = terminal.err.theme;
    for finding in findings {
        let code = match finding.severity {
            Severity::Error => theme.bad(finding.code.to_string()),
            Severity::Warning => theme.warn(finding.code.to_string()),
            Severity::Info => theme.strong(finding.code.to_string()),
        };
        writeln!(terminal.err, "{code}  {}: {}", finding.subject, finding.message)?;
        if let Some(hint) = &finding.hint {
            writeln!(terminal.err, "        {} {hint}", theme.hint("hint:"))?;
        }
    }
    Ok(())
}
