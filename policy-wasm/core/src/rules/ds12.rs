//! DS-12: the probes ask the component itself, and give it time.

use serde_json::Value;

use super::{Checked, Reach, Rule};
use crate::component::Component;
use crate::review::object::{at, is_empty, text};
use crate::review::pod::Pod;
use crate::review::record::Edit;
use crate::review::{Facts, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "DS-12",
    title: "probes ask the component itself and give it time, and no limit kills it",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Named,
    why: "A liveness probe on the wrong port is a kill switch with a delay; a readiness probe that asks nobody says \
          that a dead server serves; a memory limit ends the API server when it is needed most.",
    evasion: "- Another kind of probe, path, scheme, host or port; a probe that is gone: denied.\n\
              - Times: a liveness probe with less than 20 s of patience, a startup probe with less than 60 s, a \
              grace period of less than 10 s or more than 10 min: denied.\n\
              - A memory limit that is new or lower: denied.",
    blind: "",
    check,
};

const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];

fn check(request: &Request, _: &Settings, facts: &Facts) -> Checked {
    let Some(edit) = Edit::of_template(request, facts)? else { return Ok(Vec::new()) };
    let component = edit.component;
    let (Some(new), Some(command)) = (edit.new.container(component), edit.new.command(component)) else {
        return Ok(Vec::new());
    };
    let before = edit.old.as_ref().map(|old| old.pod());
    let nothing = Value::Null;
    let old = before.and_then(|pod| pod.container(component)).unwrap_or(&nothing);
    let port = match command.text("secure-port") {
        "" => component.default_port().to_string(),
        port => port.to_owned(),
    };
    let mut violations = Vec::new();
    for name in PROBES {
        let (probe, was) = (&new[name], &old[name]);
        if probe == was {
            continue;
        }
        let found = if is_empty(probe) { Some("it is gone".to_owned()) } else { trouble(name, probe, &port) };
        violations.extend(found.map(|message| {
            let next = format!("ask {} with httpGet on 127.0.0.1:{port} over HTTPS", path(name));
            Violation::new(format!("spec.template.spec.containers[].{name}"), message, next)
        }));
    }
    let grace = |value: Option<&Value>| value.and_then(|it| it["terminationGracePeriodSeconds"].as_i64());
    let seconds = grace(Some(edit.new.spec())).unwrap_or(30);
    if !(10..=600).contains(&seconds) && grace(before.map(Pod::spec)) != Some(seconds) {
        violations.push(Violation::new(
            "spec.template.spec.terminationGracePeriodSeconds",
            format!("{seconds} s is no time to drain in"),
            format!("set it between 10 and 600; {} is what kubectl selfhost sets", usual_grace(component)),
        ));
    }
    let limit = |it: &Value| at(it, &["resources", "limits", "memory"]).clone();
    if !is_empty(&limit(new)) && limit(new) != limit(old) && !is_raised(&limit(new), &limit(old)) {
        violations.push(Violation::new(
            "spec.template.spec.containers[].resources.limits.memory",
            "the kernel would kill the component at this limit",
            "set a request, and no limit",
        ));
    }
    Ok(violations)
}

/// Whether a limit of memory is no lower than the one before. What cannot be read is.
fn is_raised(new: &Value, old: &Value) -> bool {
    let bytes = |it: &Value| it.as_str().and_then(bytes);
    bytes(new).zip(bytes(old)).is_some_and(|(new, old)| new >= old)
}

/// A quantity of the API, `128Mi`; none where it is written in another way than people write memory.
fn bytes(quantity: &str) -> Option<u128> {
    let digits = quantity.trim_end_matches(|it: char| it.is_ascii_alphabetic());
    let factor: u128 = match &quantity[digits.len()..] {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    Some(u128::from(digits.parse::<u64>().ok()?) * factor)
}

const fn usual_grace(component: Component) -> u32 {
    match component {
        Component::ApiServer => 60,
        Component::ControllerManager | Component::Scheduler => 30,
    }
}

fn path(probe: &str) -> &'static str {
    if probe == "readinessProbe" { "/readyz" } else { "/livez" }
}

/// What is wrong with a probe.
fn trouble(name: &str, probe: &Value, port: &str) -> Option<String> {
    let get = &probe["httpGet"];
    if !get.is_object() || ["exec", "tcpSocket", "grpc"].iter().any(|other| !is_empty(&probe[*other])) {
        return Some("it asks something other than the component".to_owned());
    }
    let paths: &[&str] = match name {
        "readinessProbe" => &["/readyz", "/healthz"],
        _ => &["/livez", "/healthz"],
    };
    if !paths.contains(&text(get, "path")) {
        return Some(format!("{:?} is not where the component tells it", text(get, "path")));
    }
    if text(get, "scheme") != "HTTPS" {
        return Some("the component serves HTTPS alone".to_owned());
    }
    if !matches!(text(get, "host"), "127.0.0.1" | "::1" | "localhost") {
        return Some("only 127.0.0.1 is never diverted to a bridge".to_owned());
    }
    if get["port"].as_u64().map(|it| it.to_string()).as_deref() != Some(port) {
        return Some(format!("the component serves on {port}"));
    }
    let number = |field: &str, default: u64| probe[field].as_u64().unwrap_or(default);
    let patience = number("periodSeconds", 10).saturating_mul(number("failureThreshold", 3));
    match name {
        "livenessProbe" if patience < 20 => Some(format!("it kills after {patience} s")),
        "startupProbe" if patience.saturating_add(number("initialDelaySeconds", 0)) < 60 => {
            Some(format!("it kills after {patience} s, while the component still starts"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{World, create, daemonset, table};

    #[test]
    fn quantities() {
        for (quantity, expected) in [
            ("512", Some(512)),
            ("3k", Some(3_000)),
            ("3M", Some(3_000_000)),
            ("3G", Some(3_000_000_000)),
            ("3T", Some(3_000_000_000_000)),
            ("3Ki", Some(3_072)),
            ("3Mi", Some(3_145_728)),
            ("3Gi", Some(3_221_225_472)),
            ("3Ti", Some(3_298_534_883_328)),
            ("3m", None),
            ("1.5Gi", None),
            ("", None),
        ] {
            assert_eq!(bytes(quantity), expected, "{quantity}");
        }
    }

    #[test]
    fn probes_tell_the_truth() {
        let world = World::new();
        let edit = |change: fn(&mut Value)| world.edit_container(Component::ApiServer, change);
        let grace = |seconds: i64| {
            world.edit(Component::ApiServer, |it| {
                it["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(seconds);
            })
        };
        table(
            &RULE,
            &world,
            [
                ("made", create(&daemonset(Component::Scheduler)), false),
                ("more patience", edit(|it| it["livenessProbe"]["failureThreshold"] = json!(12)), false),
                ("no liveness", edit(|it| it["livenessProbe"] = json!(null)), true),
                ("no readiness", edit(|it| drop(it.as_object_mut().unwrap().remove("readinessProbe"))), true),
                ("a command", edit(|it| it["readinessProbe"] = json!({"exec": {"command": ["true"]}})), true),
                ("a command beside", edit(|it| it["readinessProbe"]["exec"] = json!({"command": ["true"]})), true),
                ("another path", edit(|it| it["readinessProbe"]["httpGet"]["path"] = json!("/version")), true),
                ("livez for readyz", edit(|it| it["readinessProbe"]["httpGet"]["path"] = json!("/livez")), true),
                ("another port", edit(|it| it["livenessProbe"]["httpGet"]["port"] = json!(1)), true),
                ("a named port", edit(|it| it["livenessProbe"]["httpGet"]["port"] = json!("probe-port")), true),
                ("another host", edit(|it| it["livenessProbe"]["httpGet"]["host"] = json!("10.0.0.12")), true),
                ("HTTP", edit(|it| it["livenessProbe"]["httpGet"]["scheme"] = json!("HTTP")), true),
                ("no patience", edit(|it| it["livenessProbe"]["failureThreshold"] = json!(1)), true),
                ("no time to start", edit(|it| it["startupProbe"]["failureThreshold"] = json!(5)), true),
                ("a memory limit", edit(|it| it["resources"]["limits"] = json!({"memory": "64Mi"})), true),
                ("a CPU limit", edit(|it| it["resources"]["limits"] = json!({"cpu": "4"})), false),
                ("no grace", grace(0), true),
                ("an hour's grace", grace(3600), true),
                ("half the grace", grace(30), false),
                ("a late start", edit(|it| {
                    it["startupProbe"]["failureThreshold"] = json!(30);
                    it["startupProbe"]["initialDelaySeconds"] = json!(30);
                }), false),
                ("a start that is not late enough", edit(|it| {
                    it["startupProbe"]["failureThreshold"] = json!(30);
                    it["startupProbe"]["initialDelaySeconds"] = json!(29);
                }), true),
                ("twenty seconds", edit(|it| it["livenessProbe"]["failureThreshold"] = json!(2)), false),
                ("patience without end", edit(|it| {
                    it["startupProbe"]["periodSeconds"] = json!(u64::MAX);
                    it["startupProbe"]["initialDelaySeconds"] = json!(1);
                }), false),
            ],
        );
        let no_grace = |it: &mut Value| it["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(0);
        for (request, told) in [
            (edit(|it| it["livenessProbe"] = json!(null)), "ask /livez with"),
            (edit(|it| it["readinessProbe"] = json!(null)), "ask /readyz with"),
            (grace(0), "60 is what kubectl selfhost sets"),
            (world.edit(Component::Scheduler, no_grace), "30 is what kubectl selfhost sets"),
        ] {
            let message = world.verdict(&request).message();
            assert!(message.contains(told), "{told}: {message}");
        }
        let mut limited = World::new();
        limited.object_mut("DaemonSet", "kube-system/self-hosted-kube-apiserver")["spec"]["template"]["spec"]["containers"]
            [0]["resources"]["limits"] = json!({"memory": "1Gi"});
        let limit = |memory: Value| {
            limited.edit_container(Component::ApiServer, |it| it["resources"]["limits"]["memory"] = memory)
        };
        table(
            &RULE,
            &limited,
            [
                ("a higher limit", limit(json!("2Gi")), false),
                ("the same limit in another way", limit(json!("1024Mi")), false),
                ("a limit in bytes", limit(json!("1073741825")), false),
                ("a lower limit", limit(json!("1023Mi")), true),
                ("a lower limit of another unit", limit(json!("1073M")), true),
                ("a limit that cannot be read", limit(json!("1e12")), true),
                ("no limit", limit(json!(null)), false),
            ],
        );
    }
}
