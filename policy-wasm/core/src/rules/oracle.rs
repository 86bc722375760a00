//! The rules against an independent oracle: random clusters, requests and settings, judged twice.
//!
//! [`judge`] is what the reference says, in the simplest words there are; it shares nothing with the rules. A case is
//! drawn as a few numbers, so that a disagreement can be made small: one of the [`worlds`], one of the [`requests`],
//! one to four [`edits`], and now and then noise. `cargo test` draws ten thousand, always the same; `cargo bench-oracle`
//! ten million others each time.
//!
//! Invariant: no rule is compared in name alone. Each must be violated, and hold where it had a say, or the test fails.

mod access;
mod configurations;
mod credentials;
mod daemonsets;
mod edits;
mod flags;
mod judge;
mod pki;
mod pods;
mod requests;
mod shape;
mod worlds;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::{Value, json};

use self::judge::{Case, Expected, NOW, judge};
use self::requests::{TARGETS, USERS};
use super::testing::World;
use super::{ALL, Evaluation, Judgement};
use crate::review::approval::{ANNOTATION, Approval, Change};
use crate::review::{Facts, Request, Settings, Verdict};
use crate::scope;

/// A case, as it is drawn.
#[derive(Debug, Clone)]
struct Draw {
    world: usize,
    target: usize,
    form: usize,
    edits: Vec<(usize, usize)>,
    user: usize,
    settings: usize,
    /// What else may be unusual about the request.
    quirk: usize,
    noise: usize,
}

fn draws() -> impl Strategy<Value = Draw> {
    let n = || 0..1_usize << 20;
    (n(), n(), n(), prop::collection::vec((n(), n()), 1..=4), n(), n(), n(), n()).prop_map(
        |(world, target, form, edits, user, settings, quirk, noise)| Draw {
            world,
            target,
            form,
            edits,
            user,
            settings,
            quirk,
            noise,
        },
    )
}

/// What all cases are drawn from.
struct Pool {
    worlds: Vec<OnceLock<World>>,
    settings: Vec<(Value, Settings)>,
    /// Targets, each as often as it weighs.
    targets: Vec<usize>,
}

fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| Pool {
        worlds: (0..worlds::WORLDS).map(|_| OnceLock::new()).collect(),
        settings: worlds::settings()
            .into_iter()
            .map(|it| (it.clone(), Settings::parse(it.to_string().as_bytes()).unwrap()))
            .collect(),
        targets: TARGETS.iter().enumerate().flat_map(|(at, it)| vec![at; it.weight]).collect(),
    })
}

/// A case, ready to be judged.
struct Made {
    world: usize,
    settings: usize,
    request: Value,
    approved: Vec<&'static str>,
    /// Whether an API server could send it.
    usual: bool,
}

impl Draw {
    /// The number of the cluster: as often one of the first, as it is, as one in which something happened.
    fn world(&self) -> usize {
        if self.world.is_multiple_of(2) { self.world / 2 % 8 } else { self.world / 2 % worlds::WORLDS }
    }

    /// None where the cluster has no such object.
    fn make(&self) -> Option<Made> {
        let pool = pool();
        let number = self.world();
        let world = pool.worlds[number].get_or_init(|| worlds::world(number));
        let target = &TARGETS[pool.targets[self.target % pool.targets.len()]];
        let mut request = (target.make)(world, self.form)?;
        let object = if request["object"].is_object() { "object" } else { "oldObject" };
        // What was there before may be as bad as what comes.
        if self.quirk.is_multiple_of(8) && request["operation"] == "UPDATE" && self.edits.len() > 1 {
            let (kind, n) = self.edits[1];
            target.edits[kind % target.edits.len()](&mut request["object"], n);
            request["oldObject"] = request["object"].clone();
        }
        for (kind, n) in &self.edits {
            target.edits[kind % target.edits.len()](&mut request[object], *n);
        }
        if self.user.is_multiple_of(2) && request["userInfo"]["username"] == "ann" {
            let (name, group) = USERS[self.user / 2 % USERS.len()];
            request["userInfo"] = json!({"username": name, "groups": [group]});
        }
        match self.quirk / 8 % 32 {
            0 => request["name"] = Value::Null,
            1 => request["dryRun"] = json!(true),
            2 => request["options"] = json!({"propagationPolicy": "Orphan"}),
            3 if request["resource"]["group"] == "apps"
                && request["resource"]["resource"] == "daemonsets" =>
            {
                request["resource"]["group"] = json!("extensions");
            }
            4 => request["name"] = json!("other"),
            5 => request["namespace"] = json!("other"),
            // What looks the same, and is something else.
            6 => request["resource"]["group"] = json!("example.org"),
            7 => request["resource"]["resource"] = json!("others"),
            8 => request["subResource"] = json!(["status", "scale", "binding"][self.quirk / 256 % 3]),
            9 if request["oldObject"].is_object() => {
                request["operation"] = json!("DELETE");
                request["object"] = Value::Null;
            }
            10 if request["object"].is_object() => {
                request["operation"] = json!("CREATE");
                request["oldObject"] = Value::Null;
            }
            _ => {}
        }
        if self.noise.is_multiple_of(8) {
            let side = ["object", "oldObject"][self.noise / 8 % 4 / 3];
            let mut left = self.noise / 32 % size(&request[side]);
            spoil(&mut request[side], &mut left, self.noise / 7);
        }
        let settings =
            if self.settings.is_multiple_of(2) { 0 } else { self.settings / 2 % pool.settings.len() };
        let object = if request["object"].is_object() { "object" } else { "oldObject" };
        let approved = if (self.quirk / 1024).is_multiple_of(16) {
            approve(&mut request, object, self.quirk / 16_384)
        } else {
            vec![]
        };
        let usual = !(6..=10).contains(&(self.quirk / 8 % 32));
        Some(Made { world: number, settings, request, approved, usual })
    }
}

/// How many values there are in one.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

/// Puts something else in the place of one value in it. Numbers stay small: the API's are of 32 bits.
fn spoil(value: &mut Value, left: &mut usize, n: usize) -> bool {
    if *left == 0 {
        *value = match n % 10 {
            0 => Value::Null,
            1 => json!(true),
            2 => json!(false),
            3 => json!(n % 100),
            4 => json!(""),
            5 => json!("x"),
            6 => json!([]),
            7 => json!({}),
            8 => json!([{"name": "x"}]),
            _ => json!({"name": "x"}),
        };
        return true;
    }
    *left -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|it| spoil(it, left, n)),
        Value::Object(fields) => fields.values_mut().any(|it| spoil(it, left, n)),
        _ => false,
    }
}

/// Writes an approval: of this change or another, in time or not. Gives the rules that it lifts.
fn approve(request: &mut Value, object: &str, n: usize) -> Vec<&'static str> {
    let annotated = request[object]["metadata"]["annotations"].is_object()
        || request[object]["metadata"]["annotations"].is_null();
    let has_sub = request["subResource"].as_str().is_some_and(|it| !it.is_empty());
    if has_sub || request["operation"] == "CONNECT" || !request[object]["metadata"].is_object() || !annotated
    {
        return vec![];
    }
    let Ok(read) = serde_json::from_value::<Request>(request.clone()) else { return vec![] };
    let rules: Vec<&str> = ALL.iter().map(|it| it.id).filter(|id| n % 4 < 2 || id.ends_with('1')).collect();
    let mut approval = Approval {
        change: Change::of(&read),
        rules: rules.iter().map(|it| (*it).to_owned()).collect(),
        not_after: NOW + 60,
        reason: "ticket 7".to_owned(),
        signatures: BTreeMap::new(),
    };
    let mut counts = true;
    match n / 4 % 8 {
        0 => approval.not_after = NOW,
        1 => approval.change.to = "00".to_owned(),
        2 => approval.reason = " ".to_owned(),
        3 => approval.not_after = NOW + 3_601,
        _ => counts = false,
    }
    counts = !counts;
    request[object]["metadata"]["annotations"][ANNOTATION] = json!(serde_json::to_string(&approval).unwrap());
    if counts { rules } else { vec![] }
}

/// What the rules say, with facts that are kept from case to case: they are the cluster's.
fn verdict(world: usize, settings: usize, request: &Request, facts: &mut BTreeMap<usize, Facts>) -> Verdict {
    let pool = pool();
    let facts = facts.entry(world).or_insert_with(|| Facts::at(NOW));
    let world = pool.worlds[world].get().unwrap();
    let mut judgement = Judgement::new(request, &pool.settings[settings].1);
    loop {
        match judgement.round(facts) {
            Evaluation::Decided(verdict) => return verdict,
            Evaluation::Needs(lookups) => {
                for lookup in lookups {
                    let answer = world.fetch(&lookup);
                    facts.insert(lookup, answer);
                }
            }
        }
    }
}

/// What a run has come to.
#[derive(Default)]
struct Tally {
    cases: u64,
    allowed: u64,
    /// By rule: how often it was violated, and how often it held where it had a say.
    rules: BTreeMap<&'static str, (u64, u64)>,
    /// By what differs: how often, and one of the draws.
    disagreements: BTreeMap<String, (u64, Draw)>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.allowed += other.allowed;
        for (rule, (violated, held)) in other.rules {
            let sum = self.rules.entry(rule).or_default();
            sum.0 += violated;
            sum.1 += held;
        }
        for (key, (count, draw)) in other.disagreements {
            self.disagreements.entry(key).or_insert((0, draw)).0 += count;
        }
    }
}

/// Judges a case twice. Gives what the oracle says, and what differs; none where there is no such case.
fn compare(draw: &Draw, facts: &mut BTreeMap<usize, Facts>) -> Option<(Expected, Option<String>)> {
    let made = draw.make()?;
    let cluster = &pool().worlds[made.world].get().unwrap().objects;
    let expected =
        judge(&Case::new(&made.request, cluster, &pool().settings[made.settings].0), &made.approved);
    let request: Request = serde_json::from_value(made.request).unwrap();
    let verdict = verdict(made.world, made.settings, &request, facts);
    let found = verdict.violations.iter().chain(&verdict.warnings).chain(&verdict.approved);
    let found: BTreeSet<(&str, String)> =
        found.map(|it| (it.rule, it.severity.as_str().to_owned())).collect();
    let mut differs: Vec<String> = Vec::new();
    let says = |who: &str, it: &(&str, String)| format!("{} ({}) says {who} alone", it.0, it.1);
    differs.extend(found.iter().filter(|it| !expected.found.contains(*it)).map(|it| says("the rule", it)));
    differs.extend(expected.found.iter().filter(|it| !found.contains(*it)).map(|it| says("the oracle", it)));
    if differs.is_empty() && expected.allowed != verdict.allowed {
        differs.push(format!("allowed: {} by the rules", verdict.allowed));
    }
    if made.usual && found.iter().any(|it| it.0 != "G-1") && !scope::covers(&request) {
        differs.push("no registration would send it".to_owned());
    }
    Some((expected, (!differs.is_empty()).then(|| differs.join(", "))))
}

/// Draws and judges cases.
fn run(cases: u32, seed: u64) -> Tally {
    let config =
        Config { cases, failure_persistence: None, max_global_rejects: u32::MAX, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let state = std::cell::RefCell::new((Tally::default(), BTreeMap::new()));
    let outcome = runner.run(&draws(), |draw| {
        let (tally, facts) = &mut *state.borrow_mut();
        // Something of which the cluster has none: draw again.
        let Some((expected, differs)) = compare(&draw, facts) else {
            return Err(TestCaseError::reject("there is none"));
        };
        tally.cases += 1;
        tally.allowed += u64::from(expected.allowed);
        for (rule, _) in &expected.found {
            tally.rules.entry(rule).or_default().0 += 1;
        }
        for rule in &expected.held {
            tally.rules.entry(rule).or_default().1 += 1;
        }
        if let Some(differs) = differs {
            tally.disagreements.entry(differs).or_insert((0, draw)).0 += 1;
        }
        Ok(())
    });
    outcome.unwrap();
    state.into_inner().0
}

/// How many cases a thread draws before it tells of them.
const CHUNK: u64 = 50_000;

/// The same on every core; `told` hears of what has been done up to now.
fn run_everywhere(cases: u64, seed: u64, told: impl Fn(&Tally) + Sync) -> Tally {
    let threads = std::thread::available_parallelism().map_or(1, |it| it.get() as u64);
    let chunks = cases.div_ceil(CHUNK).max(threads);
    let (tally, next) = (Mutex::new(Tally::default()), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let chunk = next.fetch_add(1, Ordering::Relaxed);
                    if chunk >= chunks {
                        break;
                    }
                    let found =
                        run(u32::try_from(cases.div_ceil(chunks)).unwrap(), seed.wrapping_add(chunk << 32));
                    let mut tally = tally.lock().unwrap();
                    tally.add(found);
                    told(&tally);
                }
            });
        }
    });
    tally.into_inner().unwrap()
}

/// A draw of the same disagreement, with as little in it as can be.
fn smaller(mut draw: Draw, differs: &str) -> Draw {
    let same = |draw: &Draw| {
        let found = compare(draw, &mut BTreeMap::new()).and_then(|it| it.1);
        found.as_deref() == Some(differs)
    };
    for at in (0..draw.edits.len()).rev() {
        let mut less = draw.clone();
        less.edits.remove(at);
        if !less.edits.is_empty() && same(&less) {
            draw = less;
        }
    }
    let plain: [fn(&mut Draw); 5] = [
        |it| it.world = it.world % 2 * 2,
        |it| it.user = 1,
        |it| it.settings = 0,
        |it| it.quirk = 1 + 8 * 31 + 1024,
        |it| it.noise = 1,
    ];
    for change in plain {
        let mut less = draw.clone();
        change(&mut less);
        if same(&less) {
            draw = less;
        }
    }
    draw
}

/// What differs between two values, by path.
fn changes(path: &str, new: &Value, old: &Value, found: &mut Vec<String>) {
    match (new, old) {
        (Value::Object(after), Value::Object(before)) => {
            let names: BTreeSet<&String> = after.keys().chain(before.keys()).collect();
            for name in names {
                changes(&format!("{path}/{name}"), &new[name], &old[name], found);
            }
        }
        _ if new == old => {}
        _ => found.push(format!("{path}: {new} instead of {old}")),
    }
}

/// The disagreements of a run, each with a case, for whoever has to find out who is right.
fn disagreements(tally: &Tally) -> String {
    let mut shown = String::new();
    for (differs, (count, draw)) in &tally.disagreements {
        let draw = smaller(draw.clone(), differs);
        let Some(made) = draw.make() else { continue };
        let mut request = made.request.clone();
        let (new, old) = (request["object"].take(), request["oldObject"].take());
        let mut found = Vec::new();
        changes("", &new, &old, &mut found);
        let settings = &pool().settings[made.settings].0;
        let _ = writeln!(
            shown,
            "\n{count} x {differs}\n  {draw:?}\n  {request}\n  in cluster {}, with {settings}\n  {}",
            made.world,
            found.join("\n  ").chars().take(1_500).collect::<String>()
        );
    }
    shown
}

/// No disagreement, and nothing that was compared in name alone.
fn check(tally: &Tally) {
    let shown = disagreements(tally);
    assert!(tally.disagreements.is_empty(), "{} disagreements{shown}", tally.disagreements.len());
    for rule in ALL.iter().filter(|_| tally.cases >= CASES) {
        let (violated, held) = tally.rules.get(rule.id).copied().unwrap_or_default();
        assert!(violated > 0 && held > 0, "{}: {violated} times violated, {held} times held", rule.id);
    }
    assert!(
        tally.allowed > tally.cases / 10 && tally.allowed < tally.cases * 9 / 10,
        "{} allowed",
        tally.allowed
    );
}

/// A number of the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|it| it.parse().ok())
}

/// How many cases the test draws, and from how many on each rule must have been met from both sides.
const CASES: u64 = 10_000;

#[test]
fn the_rules_say_what_the_reference_says() {
    check(&run_everywhere(number("ORACLE_CASES").unwrap_or(CASES), 7, |_| {}));
}

/// `cargo bench-oracle`: ten million cases, of another seed each time. `ORACLE_CASES` and `ORACLE_SEED` say otherwise.
#[test]
#[ignore = "ten million cases take minutes: cargo bench-oracle"]
fn bench() {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let (cases, seed) =
        (number("ORACLE_CASES").unwrap_or(10_000_000), number("ORACLE_SEED").unwrap_or(clock.as_secs()));
    let start = Instant::now();
    println!("seed {seed}");
    let tally = run_everywhere(cases, seed, |tally| {
        println!(
            "{} cases, {} s, {} kinds of disagreement",
            tally.cases,
            start.elapsed().as_secs(),
            tally.disagreements.len()
        );
    });
    let seconds = start.elapsed().as_secs().max(1);
    println!(
        "{} cases in {seconds} s, {} a second; {} allowed; {} disagreements",
        tally.cases,
        tally.cases / seconds,
        tally.allowed,
        tally.disagreements.values().map(|it| it.0).sum::<u64>()
    );
    println!("| rule | violated | held |\n|---|---:|---:|");
    for rule in ALL {
        let (violated, held) = tally.rules.get(rule.id).copied().unwrap_or_default();
        println!("| {} | {violated} | {held} |", rule.id);
    }
    check(&tally);
}
