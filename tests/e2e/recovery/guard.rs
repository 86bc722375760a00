//! A guard that does not answer denies what it guards, and stops nothing else.

use anyhow::{Result, ensure};
use selfhost_tests::drive::run;
use selfhost_tests::lockout::{self, Lockout};

use crate::common;

/// One power cut with a guard whose policy is broken; then the ways out. `cargo bench-lockout` has the other ways in which
/// a guard stops answering, each with a power cut of its own.
#[test]
fn a_guard_that_does_not_answer_locks_nobody_out() -> Result<()> {
    let cluster = common::guarded("lockout")?;
    run(&cluster, &["pivot", "--yes"])?.success()?;
    lockout::mend(&cluster)?;

    Lockout::BrokenModule.bring_about(&cluster)?;
    let back = lockout::survive(&cluster, Lockout::BrokenModule)?;
    println!("power cut with a broken guard: the API is ready after {:.1} s", back.as_secs_f64());
    let status = run(&cluster, &["guard", "status"])?;
    ensure!(status.code == Some(4) && status.out.contains("denies, but is not answered"), "{}", status.out);

    lockout::open_the_hatch(&cluster)?;
    lockout::mend(&cluster)?;
    lockout::harmless(&cluster)?;
    run(&cluster, &["guard", "status"])?.success()?;
    lockout::uninstall_dead(&cluster)
}
