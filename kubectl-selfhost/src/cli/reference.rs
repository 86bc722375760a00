//! The reference of commands, made from their definitions: `docs/reference/commands.md`.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use super::Cli;

/// From the directory of the package, where cargo runs its tests.
const PATH: &str = "../docs/reference/commands.md";

/// Fails when the file is not what the definitions say. `UPDATE_DOCS=1 cargo test -p kubectl-selfhost reference`
/// writes it.
#[test]
fn the_reference_of_commands_is_up_to_date() {
    let wanted = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PATH, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        wanted == found,
        "docs/reference/commands.md is stale: UPDATE_DOCS=1 cargo test -p kubectl-selfhost reference"
    );
}

fn reference() -> String {
    // Built twice: a built command has its global flags in every subcommand, which would be told each time.
    let plain = Cli::command();
    let mut text = String::from(
        "# Commands\n\nMade from the command line's own definition: `UPDATE_DOCS=1 cargo test -p kubectl-selfhost reference`.\n",
    );
    for command in plain.get_subcommands().filter(|command| !command.is_hide_set()) {
        section(&mut text, command.get_name(), command);
    }
    text.push_str(
        "\n## Flags of every command\n\nThey stand after `selfhost`, before or after the command.\n",
    );
    flags(&mut text, plain.get_arguments());
    text
}

/// A command, and then its own commands. `name` is what is typed: `checkpoint refresh`.
fn section(text: &mut String, name: &str, command: &Command) {
    let mut built = Cli::command();
    built.build();
    let found = name.split(' ').try_fold(&mut built, |command, word| command.find_subcommand_mut(word));
    let usage = found.map(|command| command.render_usage().to_string()).unwrap_or_default();
    let usage = usage.trim_start_matches("Usage: ");
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    write!(text, "\n## kubectl selfhost {name}\n\n{}\n\n```\n{usage}\n```\n", about.trim()).unwrap();
    flags(text, command.get_arguments());
    if let Some(after) = command.get_after_help() {
        write!(text, "\n```\n{}\n```\n", after.to_string().trim()).unwrap();
    }
    for own in command.get_subcommands() {
        section(text, &format!("{name} {}", own.get_name()), own);
    }
}

fn flags<'a>(text: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let shown: Vec<&Arg> = arguments.filter(|argument| !argument.is_hide_set()).collect();
    if shown.is_empty() {
        return;
    }
    text.push_str("\n| flag | meaning | default |\n|---|---|---|\n");
    for argument in shown {
        let name = name(argument);
        let mut help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let values: Vec<String> = argument
            .get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if !values.is_empty() && argument.get_action().takes_values() && values != ["`true`", "`false`"] {
            write!(help, ": {}", values.join(", ")).unwrap();
        }
        let defaults: Vec<String> = argument
            .get_default_values()
            .iter()
            .filter(|_| argument.get_action().takes_values())
            .map(|value| format!("`{}`", value.to_string_lossy()))
            .collect();
        writeln!(text, "| `{name}` | {} | {} |", help.replace('|', "\\|"), defaults.join(", ")).unwrap();
    }
}

fn name(argument: &Arg) -> String {
    let value = argument
        .get_value_names()
        .filter(|_| argument.get_action().takes_values())
        .map(|names| names.join(" "))
        .unwrap_or_default();
    match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) if !value.is_empty() => format!("-{short}, --{long} {value}"),
        (None, Some(long)) if !value.is_empty() => format!("--{long} {value}"),
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (None, Some(long)) => format!("--{long}"),
        (Some(short), None) => format!("-{short} {value}").trim().to_owned(),
        (None, None) => value,
    }
}
