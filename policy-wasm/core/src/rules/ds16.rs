//! DS-16: nothing changes in a freeze, and not faster than somebody can watch.

use super::{Checked, Reach, Rule};
use crate::review::object::{list, text};
use crate::review::record::Edit;
use crate::review::{Facts, Object, Operation, Request, Settings, Severity, Violation};

/// The rule.
pub const RULE: Rule = Rule {
    id: "DS-16",
    title: "nothing is edited in a freeze, or sooner than the settings' pause after the last edit",
    severity: Severity::NeedsApproval,
    fixed: false,
    reach: Reach::Named,
    why: "A freeze is the one agreement that people forget at night, and an automation that edits in a loop is \
          stopped by nothing else. Without `freeze` and `pause` in the settings the rule says nothing.",
    evasion: "- Another field manager: the last edit of anybody counts.\n\
              - Stripping `managedFields`: then the time of the last edit is unknown, and the edit is denied.",
    blind: "",
    check,
};

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    if (settings.freeze.is_empty() && settings.pause == 0) || Edit::of_template(request, facts)?.is_none() {
        return Ok(Vec::new());
    }
    let now = facts.now()?;
    let mut violations = Vec::new();
    for freeze in settings.freeze.iter().filter(|it| (it.from..it.until).contains(&now)) {
        let message = format!("there is a freeze: {}", freeze.reason);
        violations.push(Violation::new("", message, "wait for its end"));
    }
    if settings.pause > 0 && request.operation == Operation::Update {
        let last = request.old().and_then(last_edit);
        let is_soon = last.is_none_or(|last| now.saturating_sub(last) < settings.pause);
        if is_soon {
            let message = format!("the last edit was less than {} s ago, or its time is unknown", settings.pause);
            violations.push(Violation::new("", message, "wait, and see what the last edit came to"));
        }
    }
    Ok(violations)
}

/// When the object's own fields were last written, in seconds since 1970.
fn last_edit(object: Object<'_>) -> Option<i64> {
    let entries = list(object.metadata(), "managedFields").iter();
    let own = entries.filter(|entry| text(entry, "subresource").is_empty());
    own.filter_map(|entry| seconds(text(entry, "time"))).max()
}

/// The API's own form of a time, `2026-01-01T00:00:00Z`, in seconds since 1970.
fn seconds(time: &str) -> Option<i64> {
    let time = time.strip_suffix('Z')?;
    let (date, clock) = time.split_once('T')?;
    let numbers = |text: &str, separator: char| -> Option<[i64; 3]> {
        let numbers: Option<Vec<i64>> = text.split(separator).map(|it| it.parse().ok()).collect();
        numbers?.try_into().ok()
    };
    let ([year, month, day], [hour, minute, second]) = (numbers(date, '-')?, numbers(clock, ':')?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 in a calendar whose year begins in March (Hinnant, "chrono-compatible low-level date algorithms").
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::component::Component;
    use crate::review::settings::Freeze;
    use crate::rules::testing::{NOW, World, create, daemonset, table};

    fn world(from: i64, until: i64, pause: i64) -> World {
        let mut world = World::new();
        world.settings.pause = pause;
        world.settings.freeze.push(Freeze { from, until, reason: "end of the year".into() });
        world
    }

    fn edit(world: &World, fields: &Value) -> Value {
        let mut request = world.edit_container(Component::Scheduler, |it| {
            it["command"].as_array_mut().unwrap().push(json!("--v=2"));
        });
        request["oldObject"]["metadata"]["managedFields"] = fields.clone();
        request
    }

    #[test]
    fn a_freeze_and_a_pause() {
        let fields = |time: &str, sub: &str| json!([{"manager": "x", "time": time, "subresource": sub}]);
        let hour_ago = fields("2027-01-15T07:00:00Z", "");
        let minute_ago = fields("2027-01-15T07:59:00Z", "");
        let status_minute_ago =
            json!([{"time": "2027-01-15T07:00:00Z"}, {"time": "2027-01-15T07:59:59Z", "subresource": "status"}]);
        let mut unfrozen = world(0, 1, 600);
        unfrozen.settings.freeze.clear();
        for (name, world, fields, expected) in [
            ("before the freeze", world(NOW + 1, NOW + 9, 0), &hour_ago, false),
            ("in the freeze", world(NOW, NOW + 9, 0), &hour_ago, true),
            ("after the freeze", world(NOW - 9, NOW, 0), &hour_ago, false),
            ("long after the last edit", world(0, 1, 600), &hour_ago, false),
            ("soon after the last edit", world(0, 1, 600), &minute_ago, true),
            ("soon after the last status", world(0, 1, 600), &status_minute_ago, false),
            ("stripped", world(0, 1, 600), &json!([]), true),
            ("stripped, without a pause", world(0, 1, 0), &json!([]), false),
            ("just long enough after the last edit", world(0, 1, 3600), &hour_ago, false),
            ("too soon, and there is no freeze", unfrozen, &minute_ago, true),
        ] {
            table(&RULE, &world, [(name, edit(&world, fields), expected)]);
        }
        let made = create(&daemonset(Component::Scheduler));
        table(&RULE, &world(0, 1, 600), [("made, where there is a pause", made.clone(), false)]);
        let frozen = world(0, NOW + 1, 0);
        let label = frozen.edit(Component::Scheduler, |it| it["metadata"]["labels"]["x"] = json!("y"));
        table(&RULE, &frozen, [("made in the freeze", made, true), ("relabelled in the freeze", label, false)]);
    }

    #[test]
    fn times() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00Z", Some(951_825_600)),
            ("2027-01-15T08:00:00Z", Some(NOW)),
            ("2000-03-01T00:00:00Z", Some(951_868_800)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800)),
            ("2026-12-31T23:59:59Z", Some(1_798_761_599)),
            ("2027-11-05T06:07:08Z", Some(1_825_394_828)),
            ("2100-03-01T00:00:00Z", Some(4_107_542_400)),
            ("1969-12-31T23:59:59Z", None),
            ("2027-00-15T08:00:00Z", None),
            ("2027-01-00T08:00:00Z", None),
            ("2027-01-32T08:00:00Z", None),
            ("2027-01-15T08:00:00", None),
            ("2027-13-15T08:00:00Z", None),
            ("9223372036854775807-01-01T00:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
