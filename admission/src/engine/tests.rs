//! Guests that misbehave, each in its own way, written by hand.

use super::*;
use crate::capabilities::{Objects, Reply};
use guest::{ACCEPTED, ACCEPTED_AT, ASK_CALL, DENIED, DENIED_AT, guest, respond};

#[path = "../../tests/host/guest.rs"]
mod guest;

/// Runs until it is stopped.
const SPIN: &str = "(loop $again (br $again)) (unreachable)";

/// Takes a megabyte of memory after the other.
const HOG: &str = "(loop $again (drop (memory.grow (i32.const 16))) (br $again)) (unreachable)";

fn runtime(limits: Limits) -> Arc<Runtime> {
    Arc::new(Runtime::new(limits, 2).unwrap())
}

fn engine(runtime: &Arc<Runtime>, body: &str) -> Engine {
    Engine::load(Program::compile(runtime, &guest(body)).unwrap(), b"").unwrap()
}

fn evaluate(engine: &Engine) -> Result<Verdict, EvaluateError> {
    evaluate_within(engine, Duration::from_mins(1), Arc::new(Nothing))
}

fn evaluate_within(
    engine: &Engine,
    time: Duration,
    source: Arc<dyn Source>,
) -> Result<Verdict, EvaluateError> {
    engine.evaluate(Bytes::from_static(b"{}"), 0, Instant::now() + time, source)
}

#[test]
fn a_verdict_is_what_the_guest_says() {
    let runtime = runtime(Limits::default());
    assert!(evaluate(&engine(&runtime, &respond(ACCEPTED_AT, ACCEPTED))).unwrap().accepted);
    assert!(!evaluate(&engine(&runtime, &respond(DENIED_AT, DENIED))).unwrap().accepted);
}

#[test]
fn a_module_that_was_compiled_ahead_is_loaded_and_another_is_compiled() {
    let runtime = runtime(Limits::default());
    let directory = tempfile::tempdir().unwrap();
    let wasm = guest(&respond(ACCEPTED_AT, ACCEPTED));
    let file = ahead::file(directory.path(), Digest::of(&wasm));
    let load = |wasm: &[u8]| Program::load(&runtime, wasm, directory.path()).unwrap();
    let accepts = |program| evaluate(&Engine::load(program, b"").unwrap()).unwrap().accepted;

    let program = load(&wasm);
    assert!(program.compiled().unwrap().contains("No such file"), "{:?}", program.compiled());
    assert!(accepts(program));

    let code = ahead::compile(&wasm).unwrap();
    assert_eq!(code, ahead::compile(&wasm).unwrap(), "the same code each time");
    std::fs::write(&file, code).unwrap();
    let program = load(&wasm);
    assert_eq!((program.compiled(), program.id()), (None, Digest::of(&wasm)));
    assert!(accepts(program));

    // Each module has a file of its own.
    assert!(!accepts(load(&guest(&respond(DENIED_AT, DENIED)))));

    for other in [b"".as_slice(), b"no code", &wasm] {
        std::fs::write(&file, other).unwrap();
        let program = load(&wasm);
        assert!(program.compiled().unwrap().starts_with(file.to_str().unwrap()), "{:?}", program.compiled());
        assert!(accepts(program));
    }

    // Code is made for one configuration: with another limit, it is loaded or compiled anew, whichever is right.
    std::fs::write(&file, ahead::compile(&wasm).unwrap()).unwrap();
    let limits = Limits { memory: 1 << 20, ..Limits::default() };
    let program =
        Program::load(&Arc::new(Runtime::new(limits, 2).unwrap()), &wasm, directory.path()).unwrap();
    assert!(accepts(program));
}

#[test]
fn a_guest_gets_settings_time_and_request_as_one_payload() {
    let runtime = runtime(Limits::default());
    // It hands its payload back as its answer, which has no verdict; so what was written is seen in a field more.
    let echo = "(call $__guest_request (i32.const 1024) (i32.const 2048))
        (call $__guest_response (i32.const 2048) (local.get $payload)) (i32.const 1)";
    let program = Program::compile(&runtime, &guest(echo)).unwrap();
    let engine = Engine::load(program, br#"{"a": 1}"#).unwrap();
    let payload = [
        engine.head.clone(),
        Bytes::from_static(b"7,\"request\":"),
        Bytes::from_static(b"{}"),
        Bytes::from_static(b"}"),
    ];
    let call = Call { operation: "validate", payload };
    let answer = engine.program.call(call, Instant::now() + PATIENCE, Arc::new(Nothing)).unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), r#"{"settings":{"a": 1},"now":7,"request":{}}"#);
}

#[test]
fn each_fault_has_its_name() {
    let runtime = runtime(Limits::default());
    let long = "(call $__guest_response (i32.const 0) (i32.const 2000000)) (i32.const 1)";
    let ask_on = format!("(loop $again (drop {ASK_CALL}) (br $again)) (unreachable)");
    for (what, body, kind) in [
        ("runs on", SPIN, "timeout"),
        ("takes memory", HOG, "out-of-memory"),
        ("breaks off", "(unreachable)", "trap"),
        ("recurs", "(return (call 9 (i32.const 1) (i32.const 1)))", "trap"),
        ("fails", "(call $__guest_error (i32.const 0) (i32.const 4)) (i32.const 0)", "bad-answer"),
        ("says nothing", "(i32.const 1)", "bad-answer"),
        ("says something else", &respond(0, "\"v1\""), "bad-answer"),
        ("points outside", long, "host-call"),
        (
            "points outside by a sign",
            "(call $__guest_response (i32.const -1) (i32.const 4)) (i32.const 1)",
            "host-call",
        ),
        (
            "has no room for the request",
            "(call $__guest_request (i32.const 1048575) (i32.const 0)) (i32.const 1)",
            "host-call",
        ),
        ("asks on and on", &ask_on, "host-call"),
    ] {
        let error = evaluate(&engine(&runtime, body)).unwrap_err();
        assert_eq!(error.kind(), kind, "{what}: {error:?}");
    }
}

#[test]
fn what_one_guest_did_is_not_seen_by_the_next() {
    let runtime = runtime(Limits::default());
    // It leaves a mark in its memory and in a global, and breaks off; with the mark there, it accepts.
    let body = format!(
        "(if (i32.or (i32.load (i32.const 4096)) (global.get $times)) (then {} (return)))
        (i32.store (i32.const 4096) (i32.const 1)) (global.set $times (i32.const 1)) (unreachable)",
        respond(ACCEPTED_AT, ACCEPTED)
    );
    let engine = engine(&runtime, &body);
    for _ in 0..5 {
        assert_eq!(evaluate(&engine).unwrap_err().kind(), "trap");
    }
}

#[test]
fn a_good_guest_goes_on_between_bad_ones() {
    let runtime = runtime(Limits::default());
    let good = engine(&runtime, &respond(ACCEPTED_AT, ACCEPTED));
    for body in [SPIN, HOG, "(unreachable)"] {
        let bad = engine(&runtime, body);
        for _ in 0..3 {
            assert!(evaluate(&bad).is_err());
            assert!(evaluate(&good).unwrap().accepted);
        }
    }
}

#[test]
fn a_guest_that_runs_on_ends_with_its_time_or_with_the_review() {
    let long = Limits { time: Duration::from_mins(1), ..Limits::default() };
    let spins = engine(&runtime(long), SPIN);
    let begun = Instant::now();
    let result = evaluate_within(&spins, Duration::from_millis(50), Arc::new(Nothing));
    assert_eq!(result, Err(EvaluateError::Timeout), "the review is over");
    assert!(begun.elapsed() < Duration::from_secs(30));
    let short = Limits { time: Duration::from_millis(5), ..Limits::default() };
    let spins = engine(&runtime(short), SPIN);
    assert_eq!(evaluate(&spins), Err(EvaluateError::Timeout), "its time is");
}

/// A source that takes its time.
struct Slow(Duration);

impl Source for Slow {
    fn fetch(&self, _: &selfhost_core::review::Lookup, _: Instant) -> Reply {
        std::thread::sleep(self.0);
        Reply::Missing
    }
}

#[test]
fn waiting_for_the_cluster_is_not_the_guests_time_but_the_reviews() {
    let limits = Limits { time: Duration::from_millis(25), ..Limits::default() };
    let ask = format!("(drop {ASK_CALL}) {}", respond(ACCEPTED_AT, ACCEPTED));
    let engine = engine(&runtime(limits), &ask);
    let slow = || Arc::new(Slow(Duration::from_millis(100)));
    assert!(evaluate_within(&engine, Duration::from_mins(1), slow()).unwrap().accepted);
    assert_eq!(evaluate_within(&engine, Duration::from_millis(50), slow()), Err(EvaluateError::Timeout));
}

#[test]
fn an_object_reaches_the_guest() {
    let runtime = runtime(Limits::default());
    // Its answer is the object that it asked for.
    let body = format!(
        "(if (i32.ne (i32.const 1) {ASK_CALL}) (then (unreachable)))
        (call $__host_response (i32.const 1024))
        (call $__guest_response (i32.const 1024) (call $__host_response_len)) (i32.const 1)"
    );
    let engine = engine(&runtime, &body);
    let node =
        serde_json::json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}, "accepted": true});
    let objects = Arc::new(Objects(vec![node]));
    assert!(evaluate_within(&engine, PATIENCE, objects).unwrap().accepted);
    assert!(
        evaluate_within(&engine, PATIENCE, Arc::new(Objects::default())).is_err(),
        "there is no such node"
    );
}

#[test]
fn modules_that_are_no_policy_are_refused() {
    let runtime = runtime(Limits::default());
    let load = |text: &str, settings: &[u8]| {
        let wasm = wat::parse_str(text).unwrap();
        Engine::load(Program::compile(&runtime, &wasm)?, settings).map(drop)
    };
    let wasi = r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32))))"#;
    let large = r#"(module (memory (export "memory") 513))"#;
    let says = |text: &str| {
        format!(
            r#"(module (import "wapc" "__guest_response" (func $say (param i32 i32)))
            (memory (export "memory") 1) (data (i32.const 0) "{}")
            (func (export "__guest_call") (param i32 i32) (result i32)
            (call $say (i32.const 0) (i32.const {})) (i32.const 1)))"#,
            text.replace('"', "\\\""),
            text.len()
        )
    };
    let good = guest("(unreachable)");
    let settings =
        |settings: &[u8]| Engine::load(Program::compile(&runtime, &good).unwrap(), settings).map(drop);
    for (what, result, expected) in [
        ("WASI", load(wasi, b""), "linked: "),
        ("a large memory", load(large, b""), "compiled: "),
        ("no entry", load("(module)", b""), "does not answer protocol_version"),
        ("another protocol", load(&says("\"v2\""), b""), "does not speak"),
        ("no answer on settings", load(&says("\"v1\""), b""), "does not answer validate_settings"),
        ("settings that are not JSON", settings(b"{\n\"a\": c2VjcmV0}"), "(line 2, column 6)"),
        ("two settings", settings(b"{} {}"), "not JSON"),
    ] {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{what}: {error}");
        assert!(!error.contains("c2VjcmV0"), "{what}: {error}");
    }
    assert!(Program::compile(&runtime, b"no module").is_err());
}
