//! Three ways to a verdict on the same request: the rules by themselves, the guard's host, and the host inside of
//! Kubewarden, the last two with the same module.
//!
//! Invariant: each is given the same bytes and the same answers from the cluster, as what it takes them as.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use selfhost_admission::capabilities::{Objects, Recorder, Reply, Source};
use selfhost_admission::engine::{Engine, Limits, Program, Runtime, Verdict, ahead};
use selfhost_core::review::{Answer, Lookup, Settings};
use selfhost_core::rules;
use selfhost_tests::{Progress, wasm};
use serde_json::Value;
use wapc::WapcHost;
use wasmtime_provider::{WasmtimeEngineProviderBuilder, WasmtimeEngineProviderPre};

pub mod harm;
pub mod process;
pub mod rig;
pub mod times;
pub mod traffic;

#[expect(clippy::unwrap_used, dead_code, reason = "of the tests: one that cannot go on ends the bench")]
#[path = "../../tests/host/client.rs"]
mod client;
#[expect(clippy::unwrap_used, reason = "of the tests: one that cannot go on ends the bench")]
#[path = "../../tests/host/files.rs"]
mod files;
#[expect(clippy::unwrap_used, dead_code, reason = "of the tests: one that cannot go on ends the bench")]
#[path = "../../tests/host/guest.rs"]
mod guest;
#[expect(clippy::unwrap_used, reason = "of the tests: one that cannot go on ends the bench")]
#[path = "../../tests/host/pki.rs"]
mod pki;
#[expect(clippy::unwrap_used, reason = "of the tests: one that cannot go on ends the bench")]
#[path = "../../tests/host/volume.rs"]
mod volume;

/// The time of the fixtures: 2027-01-15T08:00:00Z.
pub const NOW: i64 = 1_800_000_000;

/// The longest that a verdict may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A request with everything that is asked of the cluster on the way to its verdict.
pub struct Case {
    /// The file's name.
    pub name: String,
    request: Bytes,
    answers: Arc<Answers>,
}

/// Lookups and their answers, in each form that somebody takes them in.
#[derive(Default)]
struct Answers {
    json: BTreeMap<Lookup, Reply>,
    values: BTreeMap<Lookup, Answer>,
}

impl Source for Answers {
    fn fetch(&self, lookup: &Lookup, _: Instant) -> Reply {
        self.json.get(lookup).cloned().unwrap_or_else(|| Reply::Unavailable("not recorded".to_owned()))
    }
}

/// Every request of a directory, judged in the cluster of its `objects.json`.
pub fn cases(directory: &Path, hosts: &Hosts) -> Result<Vec<Case>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let objects: Vec<Value> = serde_json::from_slice(&read(&directory.join("objects.json"))?)?;
    let cluster = Arc::new(Objects(objects));
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    paths.retain(|path| path.file_name().is_some_and(|name| name != "objects.json"));
    paths.iter().map(|path| case(path, &read(path)?, &cluster, hosts)).collect()
}

fn case(path: &Path, request: &[u8], cluster: &Arc<Objects>, hosts: &Hosts) -> Result<Case> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    // As an API server sends it.
    let request = Bytes::from(serde_json::from_slice::<Value>(request)?.to_string());
    let recorder = Arc::new(Recorder::new(cluster.clone()));
    hosts.engine.evaluate(request.clone(), NOW, Instant::now() + PATIENCE, recorder.clone())?;
    let mut answers = Answers::default();
    for lookup in recorder.recording().lookups() {
        answers.values.insert(lookup.clone(), lookup.among(&cluster.0));
        answers.json.insert(lookup.clone(), cluster.fetch(lookup, Instant::now()));
    }
    Ok(Case { name, request, answers: Arc::new(answers) })
}

/// The hosts, with one module.
pub struct Hosts {
    engine: Engine,
    other: WasmtimeEngineProviderPre,
}

impl Hosts {
    /// Compiles the module for each: for the guard as its image has it, for the other on this machine.
    pub fn new(module: &[u8]) -> Result<Self> {
        let runtime = Arc::new(Runtime::new(Limits { time: PATIENCE, ..Limits::default() }, 2)?);
        let directory = tempfile::tempdir()?;
        ahead::keep(directory.path(), module)?;
        let program = Program::load(&runtime, module, directory.path())?;
        if let Some(reason) = program.compiled() {
            bail!("it was not loaded as it was compiled: {reason}");
        }
        let engine = Engine::load(program, b"")?;
        // As Kubewarden has it, which interrupts by epochs, too.
        let mut config = wasmtime::Config::default();
        config.epoch_interruption(true).wasm_function_references(true);
        let wasmtime = wasmtime::Engine::new(&config).map_err(|error| anyhow!("{error}"))?;
        let module = wasmtime::Module::new(&wasmtime, module).map_err(|error| anyhow!("{error}"))?;
        let other = WasmtimeEngineProviderBuilder::new().engine(wasmtime).module(module).build_pre()?;
        Ok(Self { engine, other })
    }

    /// The verdict of the rules by themselves: whether it is allowed, and why not.
    pub fn native(&self, case: &Case) -> (bool, Option<String>) {
        let verdict = rules::decide(&case.request, &Settings::default(), NOW, |lookup| {
            case.answers
                .values
                .get(lookup)
                .cloned()
                .unwrap_or_else(|| Answer::Unavailable("not recorded".to_owned()))
        });
        (verdict.allowed, (!verdict.allowed).then(|| verdict.message()))
    }

    /// The verdict of the module in the guard's host.
    pub fn own(&self, case: &Case) -> Result<Verdict> {
        let source = Arc::clone(&case.answers) as Arc<dyn Source>;
        Ok(self.engine.evaluate(case.request.clone(), NOW, Instant::now() + PATIENCE, source)?)
    }

    /// The verdict of the module in Kubewarden's host.
    pub fn other(&self, case: &Case) -> Result<Verdict> {
        let deadlines = wasmtime_provider::EpochDeadlines { wapc_init: 1 << 30, wapc_func: 1 << 30 };
        let engine = self.other.rehydrate(Some(deadlines))?;
        let answers = Arc::clone(&case.answers);
        let callback = move |_: u64, binding: &str, namespace: &str, operation: &str, payload: &[u8]| {
            selfhost_admission::engine::answer(binding, namespace, operation, payload, answers.as_ref())
                .map_err(Into::into)
        };
        let host = WapcHost::new(Box::new(engine), Some(Box::new(callback)))?;
        let request = std::str::from_utf8(&case.request)?;
        let payload = format!(r#"{{"settings":{{}},"now":{NOW},"request":{request}}}"#);
        let answer = host.call("validate", payload.as_bytes())?;
        Ok(serde_json::from_slice(&answer)?)
    }
}

/// A request that asks for nothing: what is left is the making of an instance.
pub fn empty() -> Case {
    Case { name: "empty".to_owned(), request: Bytes::from_static(b"{}"), answers: Arc::default() }
}

/// The policy's module: the one that `$SELFHOST_POLICY` names, or else the one that `cargo wasm` makes.
pub fn module() -> Result<Vec<u8>> {
    let path = match std::env::var_os("SELFHOST_POLICY") {
        Some(path) => PathBuf::from(path),
        None => wasm::build(&Progress::stderr())?.path,
    };
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Where the requests are.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}
