//! `probe`: the prober on its own.

use http::Method;
use selfhost_prober::{Load, Mode, Prober, Report, RequestSpec};

use crate::availability::{aim, server_address};
use crate::cli::global::Global;
use crate::cli::output::{DataFormat, Format};
use crate::cli::probe::Args;
use crate::client::{Connection, PATIENCE_TO_LOOK};
use crate::error::Failure;
use crate::exit::Exit;
use crate::render::document;
use crate::terminal::Terminal;
use std::io::Write as _;

/// Streams for each kind of connection: as many clients as share the rate.
const STREAMS: usize = 10;

/// Measures, and prints the report.
pub(super) async fn run(global: &Global, args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let connection = Connection::open(&global.connection, PATIENCE_TO_LOOK).await?;
    let mut targets: Vec<_> = args.targets.iter().map(|target| (target.to_string(), *target)).collect();
    if targets.is_empty() {
        targets.push(server_address(&connection).await?);
    }
    let mut config = aim(&connection, &targets).await?;
    #[expect(clippy::cast_precision_loss, reason = "ten streams")]
    let rate = args.rate / 2.0 / STREAMS as f64;
    let read = RequestSpec::get(args.path.clone());
    let mut reused = vec![read.clone()];
    if let Some(object) = &args.write {
        reused.push(write_to(object)?);
    }
    config = config.load(Load::new(Mode::New, STREAMS, rate, vec![read]));
    config = config.load(Load::new(Mode::Reused, STREAMS, rate, reused));
    if let Some(timeout) = args.timeout.limit() {
        config = config.timeout(timeout);
    }
    if let Some(duration) = args.duration.limit() {
        config = config.max_duration(duration);
    }
    let mut prober = Prober::start(config)
        .map_err(|error| Failure::message(error.to_string(), Exit::Failure).with_hint("lower the rate"))?;
    tokio::select! {
        () = prober.wait() => {}
        Ok(()) = tokio::signal::ctrl_c() => {}
    }
    let report = prober.stop().await;
    write(terminal, args.output, &report)?;
    Ok(if report.total.counts.failed == 0 { Exit::Success } else { Exit::Findings })
}

/// A server-side apply that writes a number into a ConfigMap of the stream's own: many clients that write one object
/// would measure how they get in each other's way.
fn write_to(object: &str) -> Result<RequestSpec, Failure> {
    let Some((namespace, prefix)) = object.split_once('/') else {
        return Err(Failure::message(format!("--write {object:?} is not NAMESPACE/PREFIX"), Exit::Usage));
    };
    Ok(RequestSpec::write(
        Method::PATCH,
        format!(
            "/api/v1/namespaces/{namespace}/configmaps/{prefix}-{{stream}}?fieldManager=selfhost-probe&force=true"
        ),
        "application/apply-patch+yaml",
        format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{prefix}-{{stream}}"}},"data":{{"counter":"{{counter}}"}}}}"#
        ),
    ))
}

/// Writes an availability report in any format.
pub(super) fn write(terminal: &mut Terminal, format: Format, report: &Report) -> std::io::Result<()> {
    match format {
        Format::Table | Format::Wide => {
            let mut text = String::new();
            report.write_table(&mut text).map_err(std::io::Error::other)?;
            write!(terminal.out, "{text}")
        }
        Format::Json => document::write(&mut terminal.out, DataFormat::Json, "AvailabilityReport", report),
        Format::Yaml => document::write(&mut terminal.out, DataFormat::Yaml, "AvailabilityReport", report),
    }
}
