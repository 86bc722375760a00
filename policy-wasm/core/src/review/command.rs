//! The command line of a component's container as its process would get it: `command` and `args`, with `$(VAR)`
//! expanded as the kubelet does, then read as pflag reads it.
//!
//! Invariant: what cannot be told from the object alone (a variable from a Secret, a shell, a flag whose end is not
//! clear) is trouble, never a guess.

use std::collections::BTreeMap;

use serde_json::Value;

use super::object::{list, text, texts};
use crate::component::Component;

/// The flags of a component, by its own `--help`.
const fn table(component: Component) -> &'static str {
    match component {
        Component::ApiServer => include_str!("../flags/kube-apiserver.txt"),
        Component::ControllerManager => include_str!("../flags/kube-controller-manager.txt"),
        Component::Scheduler => include_str!("../flags/kube-scheduler.txt"),
    }
}

/// A flag that is known: the kind of its value, and the minors that have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// `bool`, `string`, `strings`
    pub kind: &'static str,
    minors: &'static str,
}

impl Known {
    /// What is known of a flag.
    pub fn of(component: Component, name: &str) -> Option<Self> {
        // The lines are sorted.
        let table = table(component);
        let (mut low, mut high) = (0, table.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let start = table[..middle].rfind('\n').map_or(0, |newline| newline + 1);
            let end = table[middle..].find('\n').map_or(table.len(), |newline| middle + newline);
            let (flag, rest) = table[start..end].split_once(' ')?;
            match flag.cmp(name) {
                std::cmp::Ordering::Less => low = end + 1,
                std::cmp::Ordering::Greater => high = start,
                std::cmp::Ordering::Equal => {
                    let (kind, minors) = rest.split_once(' ')?;
                    return Some(Self { kind, minors });
                }
            }
        }
        None
    }

    /// Whether this minor version has it.
    pub fn is_in(self, minor: u32) -> bool {
        self.minors.split(' ').any(|it| it.parse() == Ok(minor))
    }

    /// Whether the flag may stand without a value: then pflag never takes the next argument for one.
    fn stands_alone(self) -> bool {
        self.kind == "bool" || self.kind.contains("[=")
    }

    /// Whether each occurrence adds to those before it, instead of taking their place.
    fn adds(self) -> bool {
        !matches!(
            self.kind,
            "bool"
                | "string"
                | "int"
                | "int32"
                | "ip"
                | "duration"
                | "float"
                | "float32"
                | "Level"
                | "quantity"
                | "portRange"
        ) && !self.kind.contains("[=")
    }
}

/// Whether the flags of this minor version are known.
pub fn is_known_minor(minor: u32) -> bool {
    Known::of(Component::ApiServer, "etcd-servers").is_some_and(|known| known.is_in(minor))
}

/// A flag's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// What it is on every node.
    Fixed(String),
    /// What differs by node, as it is written: `$(HOST_IP)`.
    ByNode(String),
}

impl Text {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Fixed(text) | Self::ByNode(text) => text,
        }
    }
}

/// A command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    flags: Vec<(String, Text)>,
    /// What could not be read for sure.
    pub trouble: Vec<String>,
    component: Option<Component>,
}

impl CommandLine {
    /// The command line of the component's container.
    pub fn of(component: Component, container: &Value) -> Self {
        let mut line = Self { component: Some(component), ..Self::default() };
        let environment = Environment::of(container);
        let written = texts(container, "command").into_iter().chain(texts(container, "args"));
        let mut arguments: Vec<Text> = written.map(|argument| environment.expand(argument)).collect();
        if list(container, "command").is_empty() {
            line.trouble.push("has no command, so that the image's own entry point decides".to_owned());
            return line;
        }
        let program = arguments.remove(0);
        let name = program.as_str().rsplit('/').next().unwrap_or_default();
        if name != component.name() || matches!(program, Text::ByNode(_)) {
            line.trouble.push(format!("starts {:?} and not {component}", program.as_str()));
            return line;
        }
        line.read(&arguments);
        line
    }

    fn read(&mut self, arguments: &[Text]) {
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let written = argument.as_str();
            let Some(flag) = written.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
                let level = match written.strip_prefix("-v") {
                    // Apart, whatever it is.
                    Some("") => rest.next().map(Text::as_str),
                    short => short.map(|level| level.strip_prefix('=').unwrap_or(level)),
                };
                if level.is_none_or(|level| level.parse::<u8>().is_err()) {
                    self.trouble
                        .push(format!("has the argument {written:?}, which is no flag with its value"));
                }
                continue;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag, None),
            };
            if name.contains('$') || name.chars().any(|c| !c.is_ascii_graphic()) {
                self.trouble
                    .push(format!("has the argument {written:?}, whose name is not known before it runs"));
                continue;
            }
            let name = name.replace('_', "-");
            let known = self.component.and_then(|component| Known::of(component, &name));
            let value = match value {
                Some(value) => of_same(argument, value),
                None if known.is_some_and(Known::stands_alone) => Text::Fixed("true".to_owned()),
                None if known.is_some() => match rest.next() {
                    // pflag takes whatever comes, another flag too; whoever wrote that meant something else.
                    Some(next) if next.as_str().starts_with('-') => {
                        let next = next.as_str();
                        self.trouble.push(format!("has --{name} with {next:?} for its value"));
                        continue;
                    }
                    Some(next) => next.clone(),
                    None => {
                        self.trouble.push(format!("has --{name} without a value"));
                        continue;
                    }
                },
                None => match rest.clone().next() {
                    Some(next) if !next.as_str().starts_with('-') => {
                        rest.next();
                        next.clone()
                    }
                    _ => Text::Fixed("true".to_owned()),
                },
            };
            self.flags.push((name, value));
        }
    }

    /// The names of all flags, sorted, each once.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.flags.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether the flag is there at all.
    pub fn has(&self, name: &str) -> bool {
        self.flags.iter().any(|(flag, _)| flag == name)
    }

    /// What the flag comes to: the last occurrence.
    pub fn last(&self, name: &str) -> Option<&Text> {
        self.flags.iter().rfind(|(flag, _)| flag == name).map(|(_, value)| value)
    }

    /// The last occurrence as it is written; empty where there is none.
    pub fn text(&self, name: &str) -> &str {
        self.last(name).map(Text::as_str).unwrap_or_default()
    }

    /// Whether a flag of truth is on; `default` where it is not there.
    pub fn is_on(&self, name: &str, default: bool) -> bool {
        match self.last(name).map(Text::as_str) {
            None => default,
            // What Go's strconv.ParseBool takes for true.
            Some(value) => matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"),
        }
    }

    /// Every value of a flag that takes a list: of each occurrence that counts, split at commas.
    pub fn list(&self, name: &str) -> Vec<&str> {
        self.occurrences(name).into_iter().flat_map(|value| value.split(',')).map(str::trim).collect()
    }

    /// The same, with the blanks that a component does not take away.
    pub fn exact_list(&self, name: &str) -> Vec<&str> {
        self.occurrences(name).into_iter().flat_map(|value| value.split(',')).collect()
    }

    /// Every occurrence that counts, as it is written.
    pub fn occurrences(&self, name: &str) -> Vec<&str> {
        let known = self.component.and_then(|component| Known::of(component, name));
        let mut all = self.flags.iter().filter(|(flag, _)| flag == name).map(|(_, value)| value.as_str());
        match known {
            Some(known) if !known.adds() => all.next_back().into_iter().collect(),
            _ => all.collect(),
        }
    }

    /// The values of the flag, in the order of its occurrences, for a comparison.
    pub fn values(&self, name: &str) -> Vec<&Text> {
        self.flags.iter().filter(|(flag, _)| flag == name).map(|(_, value)| value).collect()
    }
}

/// A part of a text that may differ by node.
fn of_same(whole: &Text, part: &str) -> Text {
    match whole {
        Text::ByNode(_) if part.contains("$(") => Text::ByNode(part.to_owned()),
        _ => Text::Fixed(part.to_owned()),
    }
}

/// The variables that a container's definition sets.
struct Environment {
    /// A text, or `None` for what is only known on the node.
    variables: BTreeMap<String, Option<String>>,
    /// Whether there may be others, of any name.
    open: bool,
}

impl Environment {
    fn of(container: &Value) -> Self {
        let open = !list(container, "envFrom").is_empty();
        let mut environment = Self { variables: BTreeMap::new(), open };
        for variable in list(container, "env") {
            let value = match environment.expand(text(variable, "value")) {
                _ if !variable["valueFrom"].is_null() => None,
                Text::Fixed(value) => Some(value),
                Text::ByNode(_) => None,
            };
            environment.variables.insert(text(variable, "name").to_owned(), value);
        }
        environment
    }

    /// What the kubelet makes of `$(NAME)` (k8s.io/kubernetes, `third_party/forked/golang/expansion`): `$$` is a dollar,
    /// and a name that is not defined stays as it is.
    fn expand(&self, written: &str) -> Text {
        let mut expanded = String::with_capacity(written.len());
        let mut by_node = false;
        let mut rest = written;
        while let Some(dollar) = rest.find('$') {
            expanded.push_str(&rest[..dollar]);
            let after = &rest[dollar + 1..];
            if let Some(tail) = after.strip_prefix('$') {
                expanded.push('$');
                rest = tail;
            } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|it| it.split_once(')')) {
                match self.variables.get(name) {
                    Some(Some(value)) => expanded.push_str(value),
                    found => {
                        by_node |= found.is_some() || self.open;
                        expanded.push_str("$(");
                        expanded.push_str(name);
                        expanded.push(')');
                    }
                }
                rest = tail;
            } else {
                expanded.push('$');
                rest = after;
            }
        }
        expanded.push_str(rest);
        if by_node { Text::ByNode(expanded) } else { Text::Fixed(expanded) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(container: &Value) -> CommandLine {
        CommandLine::of(Component::ApiServer, container)
    }

    fn command(words: &str) -> CommandLine {
        line(&json!({"command": words.split(' ').collect::<Vec<_>>()}))
    }

    #[test]
    fn reads_what_pflag_reads() {
        for (words, name, expected) in [
            ("kube-apiserver --secure-port=6443", "secure-port", vec!["6443"]),
            ("kube-apiserver --secure-port 6443", "secure-port", vec!["6443"]),
            ("kube-apiserver --secure_port=6443", "secure-port", vec!["6443"]),
            ("/usr/local/bin/kube-apiserver --secure-port=1 --secure-port=2", "secure-port", vec!["2"]),
            ("kube-apiserver --anonymous-auth --profiling=false", "anonymous-auth", vec!["true"]),
            (
                "kube-apiserver --authorization-mode=Node --authorization_mode RBAC",
                "authorization-mode",
                vec!["Node", "RBAC"],
            ),
            ("kube-apiserver -v=2 --secure-port=1", "secure-port", vec!["1"]),
            ("kube-apiserver -v 2 --secure-port=1", "secure-port", vec!["1"]),
        ] {
            let line = command(words);
            assert_eq!(line.occurrences(name), expected, "{words}");
            assert_eq!(line.trouble, Vec::<String>::new(), "{words}");
        }
        assert_eq!(
            command("kube-apiserver --authorization-mode=Node,RBAC").list("authorization-mode"),
            ["Node", "RBAC"]
        );
    }

    #[test]
    fn what_is_not_sure_is_trouble() {
        for words in [
            "sh -c kube-apiserver",
            "/bin/kube-apiserver.sh",
            "kube-apiserver --audit-log-path --anonymous-auth=false",
            "kube-apiserver --secure-port",
            "kube-apiserver serve",
            "kube-apiserver -- --anonymous-auth=true",
            "kube-apiserver -x",
        ] {
            assert!(!command(words).trouble.is_empty(), "{words}");
        }
        assert!(!line(&json!({"args": ["--secure-port=1"]})).trouble.is_empty(), "no command");
    }

    #[test]
    fn expands_as_the_kubelet_does() {
        let with = |env: Value, argument: &str| {
            line(&json!({"command": ["kube-apiserver"], "args": [argument], "env": env}))
        };
        let literal =
            json!([{"name": "A", "value": "--anonymous-auth"}, {"name": "B", "value": "$(A)=true"}]);
        assert_eq!(with(literal.clone(), "$(B)").text("anonymous-auth"), "true");
        assert!(!with(literal, "$$(B)").trouble.is_empty(), "an escaped one is no flag");
        let secret = json!([{"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
        assert!(!with(secret.clone(), "$(S)").trouble.is_empty());
        assert!(!with(secret.clone(), "--$(S)=x").trouble.is_empty());
        assert_eq!(
            with(secret, "--advertise-address=$(S)").last("advertise-address"),
            Some(&Text::ByNode("$(S)".into()))
        );
        assert_eq!(
            with(json!([]), "--advertise-address=$(S)").last("advertise-address"),
            Some(&Text::Fixed("$(S)".into())),
            "a name that nobody defines stays as it is"
        );
    }

    #[test]
    fn the_tables_are_there() {
        for component in Component::ALL {
            assert!(
                Known::of(component, "tls-cert-file").is_some_and(|known| known.is_in(37)),
                "{component}"
            );
            assert!(Known::of(component, "feature-gates").is_some_and(Known::adds), "{component}");
        }
        for component in Component::ALL {
            for line in table(component).lines().filter(|line| !line.starts_with('#')) {
                let name = line.split(' ').next().unwrap();
                assert!(Known::of(component, name).is_some(), "{component} {name}: the table is not sorted");
            }
        }
        assert!(is_known_minor(36) && is_known_minor(37) && !is_known_minor(35));
        assert_eq!(Known::of(Component::ApiServer, "insecure-port"), None);
    }
}
