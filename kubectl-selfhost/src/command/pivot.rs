//! `pivot`: from static Pods to DaemonSets.

use crate::cli::global::Global;
use crate::cli::pivot::Args;
use crate::error::Failure;
use crate::exit::Exit;
use crate::operation::record::Asked;
use crate::plan;
use crate::terminal::Terminal;

use super::operate::{Job, Operator, Planner};

/// Plans, asks, and pivots.
pub(super) async fn run(global: &Global, args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let operator = Operator::connect(global, &args.operation).await?;
    let node_image = &args.operation.node_image;
    let planner: Planner<'_> =
        &|inventory, pinned| plan::pivot::plan(inventory, pinned.unwrap_or(node_image), None);
    operator.run(&Job { planner, asked: Asked::default(), rolls_back: false }, terminal).await
}
