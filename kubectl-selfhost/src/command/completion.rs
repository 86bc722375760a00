//! Shell completion: scripts for the binary itself, and kubectl's protocol for `kubectl selfhost`.
//!
//! kubectl runs `kubectl_complete-selfhost WORD... PARTIAL` and reads one candidate a line, with its description after
//! a tab, then `:` and a number of cobra's directives (kubectl, `pkg/cmd/plugin/plugin_completion.go`). This binary
//! answers when it is called by that name.
//!
//! Invariant: no network; what fails gives no candidates and no message.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory as _;

use crate::cli::{Cli, completion::Args};
use crate::error::Failure;
use crate::exit::Exit;
use crate::terminal::Terminal;

/// The name under which kubectl asks for candidates.
const PROTOCOL_NAME: &str = "kubectl_complete-selfhost";

/// cobra's `ShellCompDirectiveNoFileComp`: do not offer files where there are no candidates.
const NO_FILES: &str = ":4";

/// cobra's `ShellCompDirectiveDefault`: the shell may offer files.
const FILES: &str = ":0";

/// Writes the script for a shell.
pub(super) fn script(args: &Args, terminal: &mut Terminal) -> Result<Exit, Failure> {
    let mut command = Cli::command().bin_name("kubectl-selfhost");
    clap_complete::generate(args.shell, &mut command, "kubectl-selfhost", &mut terminal.out);
    terminal.out.flush()?;
    Ok(Exit::Success)
}

/// Whether kubectl asks for candidates.
pub(super) fn is_asked_for(args: &[OsString]) -> bool {
    args.first()
        .and_then(|program| Path::new(program).file_stem())
        .is_some_and(|name| name == OsStr::new(PROTOCOL_NAME))
}

/// Answers kubectl.
pub(super) fn answer(args: &[OsString], out: &mut dyn Write) -> Exit {
    match write_candidates(args, out) {
        Ok(()) => Exit::Success,
        Err(_) => Exit::Failure,
    }
}

fn write_candidates(args: &[OsString], out: &mut dyn Write) -> io::Result<()> {
    let mut command = Cli::command();
    let mut args = args.to_vec();
    if args.len() < 2 {
        args.push(OsString::new());
    }
    let last = args.len() - 1;
    let previous = args[last - 1].to_str().unwrap_or_default().to_owned();
    let partial = args[last].clone();
    let mut n_candidates = 0;
    for candidate in clap_complete::engine::complete(&mut command, args, last, None)? {
        let value = candidate.get_value().to_string_lossy();
        if candidate.is_hide_set() || (value.starts_with('-') && !partial.to_string_lossy().starts_with('-'))
        {
            // Flags are offered when asked for, as kubectl does.
            continue;
        }
        n_candidates += 1;
        match candidate.get_help().map(|help| help.to_string().replace(['\n', '\t'], " ")) {
            Some(help) if !help.is_empty() => writeln!(out, "{value}\t{help}")?,
            _ => writeln!(out, "{value}")?,
        }
    }
    writeln!(out, "{}", if n_candidates == 0 && takes_file(&previous) { FILES } else { NO_FILES })
}

/// Whether `flag` is followed by the name of a file.
fn takes_file(flag: &str) -> bool {
    matches!(flag, "--kubeconfig" | "--certificate-authority" | "--client-certificate" | "--client-key")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(line: &str) -> String {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        assert!(is_asked_for(&args));
        let mut out = Vec::new();
        assert_eq!(answer(&args, &mut out), Exit::Success);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn is_told_by_the_program_name() {
        for (program, asked) in [
            ("/usr/bin/kubectl_complete-selfhost", true),
            ("kubectl_complete-selfhost.exe", true),
            ("/usr/bin/kubectl-selfhost", false),
        ] {
            assert_eq!(is_asked_for(&[OsString::from(program)]), asked, "{program}");
        }
        assert!(!is_asked_for(&[]));
    }

    #[test]
    fn offers_commands_with_their_help() {
        let out = candidates("kubectl_complete-selfhost sta");
        assert!(out.starts_with("status\tShow what hosts the control plane"), "{out}");
        assert!(out.ends_with("\n:4\n"), "{out}");
    }

    #[test]
    fn offers_all_commands_and_no_flags_without_a_word() {
        let out = candidates("kubectl_complete-selfhost ");
        for command in ["status\t", "completion\t", "version\t"] {
            assert!(out.contains(command), "{out}");
        }
        assert!(!out.contains("--"), "{out}");
    }

    #[test]
    fn offers_flags_and_their_values() {
        assert!(candidates("kubectl_complete-selfhost status --fail").starts_with("--fail-on\t"));
        let out = candidates("kubectl_complete-selfhost status --fail-on ");
        assert!(out.contains("error\t") && out.contains("warning\t") && out.contains("never\t"), "{out}");
    }

    #[test]
    fn offers_files_where_a_file_is_wanted() {
        assert!(candidates("kubectl_complete-selfhost status --fail-on x").ends_with(":4\n"));
    }
}
