//! What the documentation hands out for use, taken from the documentation itself.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::paths;

/// Every YAML block of `docs/reference/rbac.md`, as one stream of documents.
pub fn roles() -> Result<String> {
    let path = paths::checkout().join("docs/reference/rbac.md");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let blocks: Vec<&str> =
        text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    ensure!(blocks.len() >= 2, "{} hands out no roles", path.display());
    Ok(blocks.join("---\n"))
}

/// Applies what [`roles`] says with this `kubectl`.
pub fn apply_roles(mut kubectl: Command) -> Result<()> {
    let mut child = kubectl
        .args(["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("run kubectl")?;
    child.stdin.take().context("its standard input")?.write_all(roles()?.as_bytes())?;
    let status = child.wait()?;
    ensure!(status.success(), "kubectl apply ended with {status}");
    Ok(())
}
