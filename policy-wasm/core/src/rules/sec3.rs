//! SEC-3: certificates are valid now, and for a while.

use super::certificates::{BUNDLES, before, holds_certificates, is_leaf};
use super::{Checked, Reach, Rule};
use crate::review::material::Written;
use crate::review::{Facts, Request, Settings, Severity};
use crate::x509::certificates;

/// The rule.
pub const RULE: Rule = Rule {
    id: "SEC-3",
    title: "certificates are valid now, for a while, and not for less long than those they replace",
    severity: Severity::Deny,
    fixed: false,
    reach: Reach::Named,
    why: "A certificate that is about to expire is an outage with a date. That of an authority counts too: \
          many checkers look at leaves alone.",
    evasion: "- Not valid yet: denied, with `certificates.skew` seconds of tolerance.\n\
              - A shorter one in the place of a longer one: denied.\n\
              - An authority that has expired: denied when it is new; an old one may stay in a bundle, and SEC-6 says when \
              it may go.",
    blind: "The clock is the host's. Where the host has none, the rule denies.",
    check,
};

fn check(request: &Request, settings: &Settings, facts: &Facts) -> Checked {
    let Some(written) = Written::of(request, settings, facts)? else { return Ok(Vec::new()) };
    let mut violations = Vec::new();
    for file in written.files.iter().filter(|file| holds_certificates(file)) {
        // SEC-2 has it where it cannot be read.
        let Ok(found) = certificates(&file.new) else { continue };
        let now = facts.now()?;
        let known = before(file);
        for certificate in found.iter().filter(|it| !(file.is_for(&BUNDLES) && known.contains(it))) {
            let subject = certificate.subject();
            if certificate.not_before() > now.saturating_add(settings.certificates.skew) {
                let message = format!("{subject} is not valid before {}", date(certificate.not_before()));
                violations.push(file.violation(message, "issue it with a begin in the past, or set the clock"));
            }
            if certificate.not_after() < now.saturating_add(settings.certificates.remaining) {
                let message = format!("{subject} is valid only until {}", date(certificate.not_after()));
                violations.push(file.violation(message, "issue one that is valid for longer"));
            }
        }
        if let (true, Some(new), Some(old)) = (is_leaf(file), found.first(), known.first())
            && new.not_after() < old.not_after()
        {
            let message = format!(
                "{} is valid until {}, and the one before until {}",
                new.subject(),
                date(new.not_after()),
                date(old.not_after())
            );
            violations.push(file.violation(message, "issue one that is valid for longer"));
        }
    }
    Ok(violations)
}

/// The day of a time, `2026-01-01`, for a message.
fn date(seconds: i64) -> String {
    // Hinnant, "chrono-compatible low-level date algorithms".
    let days = seconds.div_euclid(86_400) + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::rules::testing::{NOW, pki, put, secrets, table};
    use crate::x509::testing::{Authority, Leaf};

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (NOW, "2027-01-15"),
            (951_825_600, "2000-02-29"),
            (-1, "1969-12-31"),
            (920_246_400, "1999-03-01"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(seconds), expected);
        }
        let _ = (date(i64::MIN), date(i64::MAX));
    }

    #[test]
    fn certificates_last() {
        let world = secrets();
        let leaf = |since: (i32, u8, u8), until: (i32, u8, u8)| {
            let (certificate, key) = pki().cluster.issue(&Leaf { since, until, ..Leaf::server() });
            world.update("Secret", "kube-system/apiserver", |it: &mut Value| {
                put(it, "tls.crt", &certificate);
                put(it, "tls.key", &key);
            })
        };
        let bundle = |pem: String| world.update("Secret", "kube-system/ca", |it: &mut Value| put(it, "tls.crt", &pem));
        let with = |until: (i32, u8, u8)| format!("{}{}", pki().cluster.pem(), Authority::until("new", until).pem());
        table(
            &RULE,
            &world,
            [
                ("longer", leaf((2026, 1, 1), (2029, 1, 1)), false),
                ("as long", leaf((2027, 1, 15), (2028, 1, 1)), false),
                ("shorter", leaf((2026, 1, 1), (2027, 6, 1)), true),
                ("expired", leaf((2026, 1, 1), (2027, 1, 1)), true),
                ("about to expire", leaf((2026, 1, 1), (2027, 1, 20)), true),
                ("not yet", leaf((2027, 1, 16), (2029, 1, 1)), true),
                ("an authority more", bundle(with((2036, 1, 1))), false),
                ("an expired authority more", bundle(with((2027, 1, 1))), true),
            ],
        );
        // To the second: midnight of the 16th is 16 hours on, the end of the year 351 days less 8 hours.
        let mut exact = world.clone();
        exact.settings.certificates.skew = 16 * 3_600;
        exact.settings.certificates.remaining = 351 * 86_400 - 8 * 3_600;
        table(&RULE, &exact, [("not yet, and for as long as it must", leaf((2027, 1, 16), (2028, 1, 1)), false)]);
        exact.settings.certificates.skew -= 1;
        table(&RULE, &exact, [("a second too early", leaf((2027, 1, 16), (2028, 1, 1)), true)]);
        exact.settings.certificates.skew += 1;
        exact.settings.certificates.remaining += 1;
        table(&RULE, &exact, [("a second too short", leaf((2027, 1, 16), (2028, 1, 1)), true)]);
        let request = Request::parse(leaf((2026, 1, 1), (2029, 1, 1)).to_string().as_bytes()).unwrap();
        let clockless = crate::rules::Judgement::new(&request, &world.settings).round(&Facts::default());
        assert!(!matches!(clockless, crate::rules::Evaluation::Decided(verdict) if verdict.allowed));
    }
}
