//! Commands: arguments in, an exit code out.
//!
//! Invariant: the only place where a result becomes an exit code. A command writes to the [`Terminal`] that it is
//! given and never ends the process.

use std::ffi::OsString;
use std::future::Future;
use std::io;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::error::Failure;
use crate::exit::Exit;
use crate::terminal::Terminal;

use journal::Way;

mod backup;
mod checkpoint;
mod completion;
mod dry_run;
mod guard;
mod journal;
mod log;
mod operate;
mod pivot;
mod probe;
mod status;
mod unpivot;
mod upgrade;
mod version;

/// Runs the plugin with the process's arguments, program name included.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    let args: Vec<OsString> = args.into_iter().collect();
    if completion::is_asked_for(&args) {
        return completion::answer(&args, &mut io::stdout().lock());
    }
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to tell about an output that cannot be written to.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Success };
        }
    };
    let mut terminal = Terminal::standard(cli.global.color.into());
    log::start(cli.global.verbosity);
    match run(&cli, &mut terminal) {
        Ok(exit) => exit,
        Err(failure) => {
            let theme = terminal.err.theme;
            let _ = failure.write(&mut terminal.err, &theme);
            failure.exit()
        }
    }
}

fn run(cli: &Cli, terminal: &mut Terminal) -> Result<Exit, Failure> {
    match &cli.command {
        Command::Status(args) => block_on(interruptible(status::run(&cli.global, args, terminal)))?,
        Command::Pivot(args) => block_on(pivot::run(&cli.global, args, terminal))?,
        Command::Unpivot(args) => block_on(unpivot::run(&cli.global, args, terminal))?,
        Command::Resume(args) => {
            let (operation, rolls_back) = (&args.operation, !args.no_rollback);
            block_on(journal::run(&cli.global, operation, Way::On, rolls_back, terminal))?
        }
        Command::Abort(args) => {
            block_on(journal::run(&cli.global, &args.operation, Way::Back, false, terminal))?
        }
        Command::Backup(args) => block_on(interruptible(backup::run(&cli.global, args, terminal)))?,
        Command::Guard(args) => block_on(guard::run(&cli.global, args, terminal))?,
        Command::Checkpoint(args) => block_on(checkpoint::run(&cli.global, args, terminal))?,
        Command::Upgrade(args) => block_on(upgrade::run(&cli.global, args, terminal))?,
        Command::Probe(args) => block_on(probe::run(&cli.global, args, terminal))?,
        Command::Completion(args) => completion::script(args, terminal),
        Command::Version(args) => block_on(interruptible(version::run(&cli.global, args, terminal)))?,
    }
}

/// Runs `future` on a runtime of its own.
fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Two: one for the command, one for what it waits for.
        .worker_threads(2)
        .enable_all()
        .build()?;
    let output = runtime.block_on(future);
    // A connection attempt, or a name lookup on a blocking thread, must not hold the process back.
    runtime.shutdown_background();
    Ok(output)
}

/// `command`, unless the user interrupts it. For commands that change nothing: they may stop anywhere.
async fn interruptible(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    tokio::select! {
        result = command => result,
        Ok(()) = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}
