//! Reading and changing the flags of a component's command line, in every form that pflag accepts.

/// The value of `--name` in `command`: `--name=value`, `--name value`, or `true` for a bare `--name` that no value
/// follows. The last occurrence wins, as it does for pflag.
pub fn value<'a>(command: &'a [String], name: &str) -> Option<&'a str> {
    values(command, name).last()
}

/// The values of every `--name` in `command`, for a flag that may be given more than once.
pub fn values<'a>(command: &'a [String], name: &str) -> impl Iterator<Item = &'a str> {
    command.iter().enumerate().filter_map(move |(index, argument)| {
        let value = of_argument(argument, name)?;
        Some(value.unwrap_or_else(|| match command.get(index + 1) {
            Some(next) if !next.starts_with('-') => next.as_str(),
            _ => "true",
        }))
    })
}

/// `command` with `--name=value` in the place of its first `--name`, or at its end; every other one is removed.
pub fn set(command: &mut Vec<String>, name: &str, value: &str) {
    let at = command.iter().position(|argument| of_argument(argument, name).is_some());
    remove(command, name);
    let at = at.unwrap_or(command.len()).min(command.len());
    command.insert(at, format!("--{name}={value}"));
}

/// [`set`], unless `command` already has the flag: what the operator chose stays.
pub fn set_default(command: &mut Vec<String>, name: &str, default: &str) {
    if value(command, name).is_none() {
        set(command, name, default);
    }
}

/// `command` without any `--name`, and without the value that stands in an argument of its own.
pub fn remove(command: &mut Vec<String>, name: &str) {
    let mut index = 0;
    while index < command.len() {
        match of_argument(&command[index], name) {
            Some(Some(_)) => {
                command.remove(index);
            }
            Some(None) => {
                command.remove(index);
                if command.get(index).is_some_and(|next| !next.starts_with('-')) {
                    command.remove(index);
                }
            }
            None => index += 1,
        }
    }
}

/// `Some(Some(value))` for `--name=value`, `Some(None)` for `--name`, `None` for anything else. pflag takes `_` for
/// `-` in the names of Kubernetes' flags.
#[expect(clippy::option_option, reason = "the two levels are two questions: is it the flag, has it a value")]
fn of_argument<'a>(argument: &'a str, name: &str) -> Option<Option<&'a str>> {
    let rest = argument.strip_prefix("--")?;
    let (flag, value) = match rest.split_once('=') {
        Some((flag, value)) => (flag, Some(value)),
        None => (rest, None),
    };
    (flag.replace('_', "-") == name).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> Vec<String> {
        text.split(' ').map(ToOwned::to_owned).collect()
    }

    #[test]
    fn reads_every_form() {
        for (line, expected) in [
            ("kube-apiserver --secure-port=6443", Some("6443")),
            ("kube-apiserver --secure-port 6443", Some("6443")),
            ("kube-apiserver --secure_port=6443", Some("6443")),
            ("kube-apiserver --secure-port=1 --secure-port=2", Some("2")),
            ("kube-apiserver --secure-port", Some("true")),
            ("kube-apiserver --secure-port --v=2", Some("true")),
            ("kube-apiserver --secure-port-x=1", None),
            ("kube-apiserver", None),
        ] {
            assert_eq!(value(&command(line), "secure-port"), expected, "{line}");
        }
    }

    #[test]
    fn sets_in_place_and_once() {
        for (before, after) in [
            ("a --p=1 --q=2", "a --p=9 --q=2"),
            ("a --p 1 --q=2", "a --p=9 --q=2"),
            ("a --p=1 --q=2 --p=3", "a --p=9 --q=2"),
            ("a --q=2", "a --q=2 --p=9"),
        ] {
            let mut line = command(before);
            set(&mut line, "p", "9");
            assert_eq!(line, command(after), "{before}");
        }
        let mut line = command("a --p=1");
        set_default(&mut line, "p", "9");
        assert_eq!(line, command("a --p=1"));
    }
}
