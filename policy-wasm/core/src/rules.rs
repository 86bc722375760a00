//! The rules of the guard, and the verdict that they come to.
//!
//! Each rule is a file: what it is, why, how people get around such a rule, what of that no admission can see, and a
//! function. The documentation, the settings and the evaluation are made from the one list, [`ALL`].
//!
//! Invariant: pure, and closed on failure. A review that cannot be read, a fact that cannot be had, a guarded object
//! of another shape: each is a reason to deny, and never one to panic.
//!
//! Invariant: a rule looks at what changes. What was bad before stays possible to relabel and to repair.

#![expect(
    clippy::unnecessary_wraps,
    reason = "every rule has the same signature, whether it looks anything up or not"
)]

use crate::review::approval::{self, Granted};
use crate::review::{
    Answer, Facts, Lookup, NotAReview, Request, Settings, Severity, Unknown, Verdict, Violation,
};

/// What a rule says of a request; or that it needs to know more.
pub type Checked = Result<Vec<Violation>, Unknown>;

/// Which requests a rule is meant for, and so what a registration has to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The objects that are guarded by name: what every registration sends.
    Named,
    /// Other objects too: only where a registration sends more than the guarded names.
    Wide,
    /// Kinds that the API server never sends to a webhook that is registered through it, only to one in a static
    /// manifest.
    Static,
}

/// A rule.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// What it is called, for ever: `DS-1`.
    pub id: &'static str,
    /// What must hold, in a sentence without its full stop.
    pub title: &'static str,
    /// How much it matters where the settings say nothing.
    pub severity: Severity,
    /// Whether settings may not change that.
    pub fixed: bool,
    /// Which requests it is meant for.
    pub reach: Reach,
    /// Why, in Markdown.
    pub why: &'static str,
    /// How it is evaded, and what is done about that, in Markdown.
    pub evasion: &'static str,
    /// What of it admission cannot see, in Markdown; empty where it sees all of it.
    pub blind: &'static str,
    /// Looks at a request.
    pub check: fn(&Request, &Settings, &Facts) -> Checked,
}

macro_rules! rules {
    ($($module:ident)+) => {
        $(pub mod $module;)+

        /// Every rule, in the order of the reference.
        pub const ALL: &[Rule] = &[$($module::RULE),+];
    };
}

rules! {
    g1
    ds1 ds2 ds3 ds4 ds5 ds6 ds7 ds8 ds9 ds10 ds11 ds12 ds13 ds14 ds15 ds16 cr1
    sec1 sec2 sec3 sec4 sec5 sec6 sec7 sec8 sec9 sec10 sec11 sec12
    cm1 cm2 cm3 cm4
    rb1 rb2 rb3 rb4 rb5
    ar1 ar2 ar4 ar5 ar6
    po1 po2 po3 po4 po5 po6
    node1 node2 node3 node4 ns1 ns2 ns3 svc1 svc2
}

/// The files once more, for tools that read sources and expand no macro: cargo-mutants.
#[cfg(any())]
#[rustfmt::skip]
#[path = "."]
mod sources {
    mod g1;
    mod ds1; mod ds2; mod ds3; mod ds4; mod ds5; mod ds6; mod ds7; mod ds8; mod ds9; mod ds10; mod ds11; mod ds12;
    mod ds13; mod ds14; mod ds15; mod ds16; mod cr1;
    mod sec1; mod sec2; mod sec3; mod sec4; mod sec5; mod sec6; mod sec7; mod sec8; mod sec9; mod sec10; mod sec11;
    mod sec12;
    mod cm1; mod cm2; mod cm3; mod cm4;
    mod rb1; mod rb2; mod rb3; mod rb4; mod rb5;
    mod ar1; mod ar2; mod ar4; mod ar5; mod ar6;
    mod po1; mod po2; mod po3; mod po4; mod po5; mod po6;
    mod node1; mod node2; mod node3; mod node4; mod ns1; mod ns2; mod ns3; mod svc1; mod svc2;
}

mod certificates;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod own_writes;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod testing;

/// The rule with this id.
pub fn find(id: &str) -> Option<&'static Rule> {
    ALL.iter().find(|rule| rule.id == id)
}

/// A verdict, or what has to be looked up for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evaluation {
    /// It is decided.
    Decided(Verdict),
    /// Evaluate again with these.
    Needs(Vec<Lookup>),
}

/// How many times a review may ask for more: which DaemonSets there are, what they mount, what is in that.
const ROUNDS: usize = 6;

/// Evaluates a review to its end; `fetch` makes the live reads.
pub fn decide(
    request: &[u8],
    settings: &Settings,
    now: i64,
    fetch: impl FnMut(&Lookup) -> Answer,
) -> Verdict {
    match Request::parse(request) {
        Ok(request) => conclude(&request, settings, Facts::at(now), fetch),
        Err(error) => unreadable(&error),
    }
}

/// Evaluates a request to its end, beginning with these facts; `fetch` makes the live reads.
pub fn conclude(
    request: &Request,
    settings: &Settings,
    mut facts: Facts,
    mut fetch: impl FnMut(&Lookup) -> Answer,
) -> Verdict {
    let mut judgement = Judgement::new(request, settings);
    loop {
        match judgement.round(&facts) {
            Evaluation::Decided(verdict) => return verdict,
            Evaluation::Needs(lookups) => {
                for lookup in lookups {
                    let answer = fetch(&lookup);
                    facts.insert(lookup, answer);
                }
            }
        }
    }
}

/// The verdict on what is no review.
pub fn unreadable(error: &NotAReview) -> Verdict {
    g1::unreadable(&error.to_string())
}

/// A request under evaluation, with what each rule has said.
///
/// A rule that has all the facts it asked for says the same in every later round, and is not asked again.
#[derive(Debug)]
pub struct Judgement<'a> {
    request: &'a Request,
    settings: &'a Settings,
    /// As many as there are rules; `None` where a rule is still to say something.
    said: Vec<Option<Vec<Violation>>>,
    rounds: usize,
}

impl<'a> Judgement<'a> {
    /// No rule has said anything.
    pub fn new(request: &'a Request, settings: &'a Settings) -> Self {
        Self { request, settings, said: vec![None; ALL.len()], rounds: 0 }
    }

    /// Asks the rules that have not said anything, with the facts that are there now. What still needs facts after
    /// a few rounds is denied.
    pub fn round(&mut self, facts: &Facts) -> Evaluation {
        self.rounds += 1;
        for (rule, said) in ALL.iter().zip(&mut self.said).filter(|(_, said)| said.is_none()) {
            *said = ask(rule, self.request, self.settings, facts);
            if rule.id == g1::RULE.id && said.as_ref().is_some_and(|said| !said.is_empty()) {
                // Nothing else can be said of what cannot be read.
                break;
            }
        }
        let found: Vec<Violation> = self.said.iter().flatten().flatten().cloned().collect();
        let granted = if found.iter().any(|it| it.severity == Severity::NeedsApproval) {
            match approval::of(self.request, &self.settings.approval, facts) {
                Ok(granted) => granted,
                Err(Unknown::Asked) => Ok(None),
                Err(Unknown::Unavailable(reason)) => {
                    Err(format!("whether it is approved is not known: {reason}"))
                }
            }
        } else {
            Ok(None)
        };
        let asked = facts.take_asked();
        if asked.is_empty() {
            Evaluation::Decided(verdict(found, &granted))
        } else if self.rounds < ROUNDS {
            Evaluation::Needs(asked)
        } else {
            Evaluation::Decided(g1::unreadable("the review asks for more than it may"))
        }
    }
}

/// What a rule says of a request; `None` where it asked for facts that are not there.
fn ask(rule: &Rule, request: &Request, settings: &Settings, facts: &Facts) -> Option<Vec<Violation>> {
    let severity = severity(rule, settings);
    if severity == Severity::Off || settings.exempts(rule.id, request) {
        return Some(Vec::new());
    }
    let before = facts.asked();
    let violations = match (rule.check)(request, settings, facts) {
        Ok(violations) if facts.asked() == before => violations,
        Err(Unknown::Unavailable(reason)) if facts.asked() == before => vec![undecided(&reason)],
        Ok(_) | Err(_) => return None,
    };
    Some(violations.into_iter().map(|it| Violation { rule: rule.id, severity, ..it }).collect())
}

/// How much a rule matters under these settings.
fn severity(rule: &Rule, settings: &Settings) -> Severity {
    match settings.rules.get(rule.id) {
        Some(severity) if !rule.fixed => *severity,
        _ => rule.severity,
    }
}

/// A rule that applies, and cannot be decided: as good as violated.
fn undecided(reason: &str) -> Violation {
    Violation::new(
        "",
        format!("cannot be decided: {reason}"),
        "try again once the API server answers the guard",
    )
}

fn verdict(found: Vec<Violation>, granted: &Result<Option<Granted>, String>) -> Verdict {
    let mut verdict = Verdict::default();
    for mut violation in found {
        match (violation.severity, granted) {
            (Severity::Off, _) => {}
            (Severity::Warn, _) => verdict.warnings.push(violation),
            (Severity::NeedsApproval, Ok(Some(granted))) if granted.rules.contains(violation.rule) => {
                verdict.approved.push(violation);
            }
            (Severity::NeedsApproval, Err(reason)) => {
                violation.next = format!("{} ({reason})", violation.next);
                verdict.violations.push(violation);
            }
            (Severity::NeedsApproval | Severity::Deny, _) => verdict.violations.push(violation),
        }
    }
    verdict.allowed = verdict.violations.is_empty();
    if let Ok(Some(granted)) = granted
        && !verdict.approved.is_empty()
    {
        verdict.approvals.push(granted.audit.clone());
    }
    verdict
}
