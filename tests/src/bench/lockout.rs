//! `cargo bench-lockout`: a guard that does not answer, in every way, and a power cut of the only node.

use anyhow::{Context as _, Result};

use super::{fresh_with, say};
use crate::Spec;
use crate::cluster::Cluster;
use crate::drive::run as run_plugin;
use crate::lockout::{self, Lockout};
use crate::progress::Progress;

pub(super) fn run(progress: &Progress) -> Result<()> {
    let mut spec = Spec::new("bench-lockout".parse()?);
    spec.more.guard = true;
    let cluster = fresh_with(&spec, progress)?;
    run_plugin(&cluster, &["pivot", "--yes"])?.success()?;
    lockout::mend(&cluster)?;
    say("GUARD            API READY  THEN")?;
    for lockout in Lockout::ALL {
        let name = format!("{lockout:?}");
        let line = try_one(&cluster, lockout).with_context(|| name.clone())?;
        say(&format!("{name:<15}  {line}"))?;
    }
    lockout::uninstall_dead(&cluster)?;
    say("dead, and uninstalled: nothing is left of it")
}

fn try_one(cluster: &Cluster, lockout: Lockout) -> Result<String> {
    lockout.bring_about(cluster)?;
    let back = lockout::survive(cluster, lockout)?;
    lockout::mend(cluster)?;
    lockout::harmless(cluster).context("after it was put right")?;
    run_plugin(cluster, &["guard", "status"])?.success()?;
    Ok(format!("{:>7.1} s  whole, put right", back.as_secs_f64()))
}
