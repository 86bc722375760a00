//! What a dry run prints: the plan, the changes to each component, and on request the exact objects.

use std::collections::BTreeSet;
use std::io::{self, Write};

use k8s_openapi::Metadata;
use selfhost_core::component::Component;
use serde::Serialize;
use serde_json::Value;

use crate::cli::output::Format;
use crate::inventory::Inventory;
use crate::plan::{Plan, Verb};
use crate::render::table;
use crate::template::bridge;
use crate::terminal::Terminal;

/// Prints the plan; in JSON and YAML, every object that it would write.
pub(super) fn write(
    terminal: &mut Terminal,
    format: Format,
    inventory: &Inventory,
    plan: &Plan,
) -> io::Result<()> {
    write_with(terminal, format, inventory, plan, &[])
}

/// The same, where objects are written before the plan is carried out.
pub(super) fn write_with(
    terminal: &mut Terminal,
    format: Format,
    inventory: &Inventory,
    plan: &Plan,
    before: &[Value],
) -> io::Result<()> {
    let all = || [before, &objects(plan)].concat();
    match format {
        Format::Table | Format::Wide => {
            if plan.goal.ends_static() {
                write_restores(terminal, plan)?;
            } else {
                write_changes(terminal, inventory, plan)?;
            }
            write_steps(terminal, plan)
        }
        Format::Json => {
            let list = List { api_version: "v1", kind: "List", items: all() };
            serde_json::to_writer_pretty(&mut terminal.out, &list)?;
            writeln!(terminal.out)
        }
        Format::Yaml => {
            for object in all() {
                let text = serde_saphyr::to_string(&object).map_err(io::Error::other)?;
                writeln!(terminal.out, "---\n{}", text.trim_end())?;
            }
            Ok(())
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    api_version: &'static str,
    kind: &'static str,
    items: Vec<Value>,
}

/// Every object that the plan writes, as it is sent.
fn objects(plan: &Plan) -> Vec<Value> {
    let mut objects = Vec::new();
    for step in &plan.steps {
        if let (Verb::Checkpoint, Some(node)) = (step.verb, step.node.as_deref()) {
            objects.extend(plan.standby(node).and_then(|pod| serde_json::from_str(&pod).ok()));
        }
        let Some(component) = step.component else { continue };
        let object = match (step.verb, step.node.as_deref()) {
            (Verb::Bridge, Some(node)) => plan.bridge(component, node).map(|pod| value(&pod)),
            (Verb::Announce, Some(node)) => plan
                .nodes
                .get(node)
                .map(|planned| value(&bridge::endpoint_slice(planned.address, plan.port(component)))),
            (Verb::Apply, _) => plan.daemonset(component).map(|daemonset| value(&daemonset)),
            _ => None,
        };
        objects.extend(object.filter(|object| !objects.contains(object)));
    }
    objects
}

fn value<K: Serialize + k8s_openapi::Resource + Metadata>(object: &K) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("apiVersion".to_owned(), K::API_VERSION.into());
        fields.insert("kind".to_owned(), K::KIND.into());
    }
    value
}

/// How each component's Pod changes, in the words of its manifest.
fn write_changes(terminal: &mut Terminal, inventory: &Inventory, plan: &Plan) -> io::Result<()> {
    for component in Component::ALL {
        let Some(template) = plan.templates.get(&component) else { continue };
        let Some(now) = spec_now(inventory, component) else { continue };
        let then = serde_json::to_value(&template.spec).unwrap_or_default();
        let mut lines = Vec::new();
        compare(&mut lines, "", &now, &then);
        if lines.is_empty() {
            continue;
        }
        let theme = terminal.out.theme;
        writeln!(
            terminal.out,
            "{}",
            theme.strong(format!("{component}, from what runs now to its DaemonSet:"))
        )?;
        for line in lines {
            let shown = match line.as_bytes().first() {
                Some(b'+') => theme.good(line).to_string(),
                Some(b'-') => theme.bad(line).to_string(),
                _ => line,
            };
            writeln!(terminal.out, "  {shown}")?;
        }
        writeln!(terminal.out)?;
    }
    Ok(())
}

/// Which manifests are put back, and with which image.
fn write_restores(terminal: &mut Terminal, plan: &Plan) -> io::Result<()> {
    let theme = terminal.out.theme;
    let restores = plan.steps.iter().filter(|step| step.verb == Verb::Restore);
    let mut any = false;
    for (component, node) in restores.filter_map(|step| Some((step.component?, step.node.as_deref()?))) {
        let image = plan.nodes.get(node).and_then(|planned| planned.images.get(&component));
        let how = match image {
            None => "byte for byte as it was kept".to_owned(),
            Some(image) => format!("as it was kept, with image {}", image.runs),
        };
        writeln!(terminal.out, "{} {how}", theme.strong(format!("{component}.yaml on {node}:")))?;
        any = true;
    }
    if any { writeln!(terminal.out) } else { Ok(()) }
}

/// What the component is made from now: its DaemonSet's template, or its static Pod without what the kubelet wrote.
fn spec_now(inventory: &Inventory, component: Component) -> Option<Value> {
    if let Some(daemonset) = inventory.daemonsets.get(&component) {
        return serde_json::to_value(&daemonset.spec.template.spec).ok();
    }
    let now = inventory.instances.iter().find(|instance| instance.component == component)?;
    let mut spec = now.pod.spec.clone()?;
    spec.node_name = None;
    spec.priority = None;
    spec.preemption_policy = None;
    serde_json::to_value(spec).ok()
}

/// The differences of two JSON values, as lines `- path: value` and `+ path: value`; lists of text (a command line)
/// are compared as sets.
fn compare(lines: &mut Vec<String>, path: &str, now: &Value, then: &Value) {
    if now == then {
        return;
    }
    match (now, then) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(lines, &at, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
            }
        }
        (Value::Array(a), Value::Array(b)) if a.iter().chain(b).all(Value::is_string) => {
            let show = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            lines.extend(
                a.iter().filter(|value| !b.contains(value)).map(|v| format!("- {path}: {}", show(v))),
            );
            lines.extend(
                b.iter().filter(|value| !a.contains(value)).map(|v| format!("+ {path}: {}", show(v))),
            );
        }
        (Value::Array(a), Value::Array(b)) if a.iter().chain(b).all(|item| name(item).is_some()) => {
            let mut names: Vec<&str> = a.iter().chain(b).filter_map(name).collect();
            let mut seen = BTreeSet::new();
            names.retain(|name| seen.insert(*name));
            let of = |list: &[Value], wanted: &str| {
                list.iter().find(|item| name(item) == Some(wanted)).cloned().unwrap_or_default()
            };
            for name in names {
                compare(lines, &format!("{path}[{name}]"), &of(a, name), &of(b, name));
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(lines, &format!("{path}[{index}]"), a, b);
            }
        }
        _ => {
            if !now.is_null() {
                lines.push(format!("- {path}: {now}"));
            }
            if !then.is_null() {
                lines.push(format!("+ {path}: {then}"));
            }
        }
    }
}

/// What an item of a list is known by.
fn name(item: &Value) -> Option<&str> {
    item.get("name")?.as_str()
}

/// The steps as a table.
pub(super) fn write_steps(terminal: &mut Terminal, plan: &Plan) -> io::Result<()> {
    let theme = terminal.out.theme;
    let rows: Vec<Vec<table::Cell>> = plan
        .steps
        .iter()
        .enumerate()
        .map(|(index, step)| {
            vec![
                (index + 1).to_string().into(),
                step.node.as_deref().unwrap_or("-").into(),
                step.subject().unwrap_or("-").into(),
                step.verb.describe().into(),
            ]
        })
        .collect();
    table::write(&mut terminal.out, &theme, &["STEP", "NODE", "COMPONENT", "ACTION"], &rows)?;
    writeln!(terminal.out, "\nPlan {}: {} steps.", plan.id(), plan.steps.len())?;
    pause(plan).map_or(Ok(()), |note| writeln!(terminal.out, "{note}"))
}

/// What a plan costs that its bridges cannot spare the users: an API server without its etcd has nothing to say.
pub(super) fn pause(plan: &Plan) -> Option<String> {
    let nodes: Vec<&str> = plan
        .steps
        .iter()
        .filter(|it| it.verb == Verb::UpgradeEtcd)
        .filter_map(|it| it.node.as_deref())
        .collect();
    if nodes.is_empty() {
        return None;
    }
    let who = if plan.nodes.len() == 1 {
        "The API pauses for some seconds, twice, while etcd is restarted".to_owned()
    } else {
        format!(
            "The API servers of {} pause for some seconds, twice each and one after the other, while their etcd is \
             restarted",
            nodes.join(", ")
        )
    };
    Some(format!(
        "{who}. The availability budget does not count that.\n\
         An etcd that has served with the new version stays there, also if the rest is taken back."
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_told_in_the_words_of_the_manifest() {
        let now =
            json!({"a": 1, "containers": [{"name": "c", "command": ["x", "--old", "--same"], "ports": [1]}]});
        let then = json!({"b": 2, "containers": [{"name": "c", "command": ["x", "--same", "--new"]}, {"name": "d"}]});
        let mut lines = Vec::new();
        compare(&mut lines, "", &now, &then);
        assert_eq!(
            lines,
            [
                "- a: 1",
                "+ b: 2",
                "- containers[c].command: --old",
                "+ containers[c].command: --new",
                "- containers[c].ports: [1]",
                "+ containers[d]: {\"name\":\"d\"}",
            ]
        );
    }
}
