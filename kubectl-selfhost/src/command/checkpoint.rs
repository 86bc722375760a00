//! `checkpoint refresh`: what runs now becomes each node's checkpoint.

use crate::cli::checkpoint::{Action, Args};
use crate::cli::global::Global;
use crate::error::Failure;
use crate::exit::Exit;
use crate::operation::record::{Asked, Record};
use crate::plan::Goal;
use crate::terminal::Terminal;

use super::journal;
use super::operate::{Job, Operator, Planner};

/// Plans, asks, and writes.
pub(super) async fn run(global: &Global, args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let Action::Refresh(args) = &args.action;
    let operator = Operator::connect(global, &args.operation).await?;
    let node_image = &args.operation.node_image;
    let planner: Planner<'_> = &|inventory, pinned| {
        let image = pinned.unwrap_or(node_image);
        journal::plan(&Goal::Refresh, &Record::default(), &[], inventory, image)
    };
    operator.run(&Job { planner, asked: Asked::default(), rolls_back: false }, terminal).await
}
