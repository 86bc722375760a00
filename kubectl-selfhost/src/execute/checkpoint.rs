//! Writing what serves now into a node's standby.

use std::time::Duration;

use serde::Deserialize;

use super::{Context, ExecuteError};
use crate::node_task::{self, STATE, Task};

/// How long the task itself may take: it writes two small files and one program.
const LIMIT: Duration = Duration::from_secs(30);

/// What the node part reports: the part of it that is used here.
#[derive(Debug, Deserialize)]
struct Written {
    generation: u64,
    damaged: Vec<String>,
}

/// Writes the checkpoint, unless the node has it already. What served until now stays as the generation before, or, with
/// `both`, does not.
pub async fn write(context: &Context<'_>, node: &str, both: bool) -> Result<(), ExecuteError> {
    let facts = context.facts_of(node)?;
    let pod = context.plan.standby(node).ok_or_else(|| ExecuteError::Stale {
        subject: format!("node {node}"),
        message: "it is no control-plane node of the plan".to_owned(),
    })?;
    let mut args = vec![
        format!("--manifests={}", facts.manifest_dir),
        format!("--state={STATE}"),
        format!("--content={pod}"),
    ];
    args.extend(both.then(|| "--both".to_owned()));
    let task = Task {
        name: "checkpoint",
        node,
        image: &context.plan.around.node_image,
        args,
        directories: vec![facts.manifest_dir.clone(), STATE.to_owned()],
        limit: LIMIT,
    };
    context.progress.waiting(&format!("the checkpoint of {node}"));
    let done: Written = node_task::run(&context.client, &task).await?;
    for damaged in &done.damaged {
        context.progress.note(&format!("checkpoint {} replaces a damaged one: {damaged}", done.generation));
    }
    Ok(())
}
