//! DS-9: the version knows every flag.

use super::{Checked, Reach, Rule};
use crate::review::command::{Known, is_known_minor};
use crate::review::record::Edit;
use crate::review::{Facts, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "DS-9",
    title: "the version that will run knows every flag",
    severity: Severity::Warn,
    fixed: false,
    reach: Reach::Named,
    why: "A component that meets a flag it does not know ends at once, and does so on every node that it comes to.",
    evasion: "- A flag with an underscore, or apart from its value: read as pflag does.",
    blind: "Flags are known by the components' own `--help`, of the minor versions in \
            `policy-wasm/core/src/flags/`. Deprecated flags are hidden there and still work, so that this is a warning; \
            of other versions nothing is said. `kubectl selfhost upgrade` asks the target's image itself, which is \
            exact. A gate that a version has removed is not seen.",
    check,
};

fn check(request: &Request, _: &Settings, facts: &Facts) -> Checked {
    let Some(edit) = Edit::of_template(request, facts)? else { return Ok(Vec::new()) };
    let component = edit.component;
    let Some(version) = edit.new.version(component).filter(|version| is_known_minor(version.minor)) else {
        return Ok(Vec::new());
    };
    let Some(command) = edit.new.command(component) else { return Ok(Vec::new()) };
    let unknown = command.names().into_iter().filter(|name| {
        !matches!(*name, "help" | "version" | "v" | "vmodule")
            && !Known::of(component, name).is_some_and(|known| known.is_in(version.minor))
    });
    let violations = unknown.map(|name| {
        Violation::new(
            "spec.template.spec.containers[].command",
            format!("{component} {version} does not show --{name} in its help"),
            "remove it, or try it: kubectl selfhost upgrade --dry-run=server",
        )
    });
    Ok(violations.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::component::Component;
    use crate::rules::testing::{World, create, daemonset, table};

    #[test]
    fn removed_flags_are_told() {
        let world = World::new();
        let edit = |component: Component, minor: u32, flag: &str| {
            world.edit_container(component, |it| {
                it["image"] = json!(format!("registry.k8s.io/{component}:v1.{minor}.2"));
                it["command"].as_array_mut().unwrap().push(json!(flag));
            })
        };
        let mut cases = vec![
            ("removed long ago", edit(Component::ApiServer, 36, "--insecure-port=0"), true),
            ("misspelt", edit(Component::ApiServer, 37, "--audit-log-pth=/x"), true),
            ("with underscores", edit(Component::ApiServer, 37, "--audit_log_path=/x"), false),
            ("of a version that is not known", edit(Component::ApiServer, 35, "--insecure-port=0"), false),
            ("new in 1.37", edit(Component::ControllerManager, 37, "--concurrent-disruption-syncs=5"), false),
            ("not yet in 1.36", edit(Component::ControllerManager, 36, "--concurrent-disruption-syncs=5"), true),
        ];
        cases.extend(Component::ALL.map(|component| ("kubeadm's", create(&daemonset(component)), false)));
        table(&RULE, &world, cases);
    }
}
