//! `unpivot`: from DaemonSets back to static Pods.

use crate::cli::global::Global;
use crate::cli::unpivot::Args;
use crate::error::Failure;
use crate::exit::Exit;
use crate::operation::record::{Asked, Record};
use crate::plan::Goal;
use crate::terminal::Terminal;

use super::journal;
use super::operate::{Job, Operator, Planner};

/// Plans, asks, and goes back to static Pods.
pub(super) async fn run(global: &Global, args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let operator = Operator::connect(global, &args.operation).await?;
    let asked = Asked { discard_changes: args.discard_changes, ..Asked::default() };
    let record = Record { asked: asked.clone(), ..Record::default() };
    let node_image = &args.operation.node_image;
    let planner: Planner<'_> = &|inventory, pinned| {
        journal::plan(&Goal::Unpivot, &record, &[], inventory, pinned.unwrap_or(node_image))
    };
    operator.run(&Job { planner, asked, rolls_back: false }, terminal).await
}
