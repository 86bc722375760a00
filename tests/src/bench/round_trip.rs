//! `cargo bench-round-trip`: there and back again, and nothing of it is to be seen on the node.

use anyhow::{Result, ensure};

use super::{Row, fresh, say, selfhost};
use crate::left;
use crate::progress::Progress;
use crate::tree::Tree;

/// What kubeadm and the tool write to on a node.
const DIRECTORY: &str = "/etc/kubernetes";

pub(super) fn run(times: u32, progress: &Progress) -> Result<()> {
    let cluster = fresh("bench-round-trip", 1, progress)?;
    let before = Tree::of(&cluster, "cp1", DIRECTORY)?;
    say(Row::HEADER)?;
    let mut failed = 0;
    for round in 1..=times {
        for command in ["pivot", "unpivot"] {
            let what = format!("{round}: {command}");
            let row = Row::measure(&what, &cluster, || selfhost(&cluster, &[command, "--yes"]))?;
            say(&row.line())?;
            for failure in row.failures() {
                say(&format!("  {failure}"))?;
            }
            failed += row.availability.totals().1;
        }
        let after = Tree::of(&cluster, "cp1", DIRECTORY)?;
        let difference = before.difference(&after);
        ensure!(difference.is_empty(), "{DIRECTORY} is not what it was:\n{}", difference.join("\n"));
        left::nothing(&cluster)?;
        say(&format!("  {} files in {DIRECTORY}: no difference; nothing of the tool is left", after.len()))?;
    }
    let row = Row::measure("and pivot", &cluster, || selfhost(&cluster, &["pivot", "--yes"]))?;
    say(&row.line())?;
    failed += row.availability.totals().1;
    ensure!(failed == 0, "{failed} requests failed");
    Ok(())
}
