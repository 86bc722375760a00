//! `guard`: the rules before the API servers.

use crate::api::ApiError;
use crate::cli::global::Global;
use crate::cli::guard::{Action, Args};
use crate::error::Failure;
use crate::exit::Exit;
use crate::guard::register;
use crate::terminal::Terminal;

use super::interruptible;

mod approve;
mod install;
mod scope;
mod settings;
mod status;
mod test;
mod uninstall;

/// Does what is asked for.
pub(super) async fn run(global: &Global, args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    match &args.action {
        // These end by themselves where a swap may be under way.
        Action::Install(args) => install::run(global, args, terminal).await,
        Action::Uninstall(args) => uninstall::run(global, args, terminal).await,
        Action::Status(args) => interruptible(status::run(global, args, terminal)).await,
        Action::Scope(args) => interruptible(scope::run(global, args, terminal)).await,
        Action::Approve(args) => approve::run(args, terminal),
        Action::Test(args) => interruptible(test::run(global, args, terminal)).await,
    }
}

/// A failure of what changes the registration; where that is kept, with the way to force it.
fn or_forced(error: ApiError) -> Failure {
    let is_kept = register::is_kept(&error);
    let failure = Failure::from(error);
    if is_kept { failure.or_hint(&register::how_to_force()) } else { failure }
}
