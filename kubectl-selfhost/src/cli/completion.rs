//! The arguments of `completion`.

use clap_complete::Shell;

/// Print a shell's completion script.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Completion of `kubectl selfhost ...` itself: kubectl asks a command `kubectl_complete-selfhost`
for candidates. This binary answers under that name, so a link is all it takes:

  ln -s \"$(command -v kubectl-selfhost)\" ~/.local/bin/kubectl_complete-selfhost

The scripts complete `kubectl-selfhost` called by its own name:

  # bash
  source <(kubectl selfhost completion bash)

  # zsh
  kubectl selfhost completion zsh > \"${fpath[1]}/_kubectl-selfhost\"

  # fish
  kubectl selfhost completion fish > ~/.config/fish/completions/kubectl-selfhost.fish

  # PowerShell
  kubectl selfhost completion powershell | Out-String | Invoke-Expression"
)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}
