//! A guard that serves, in this process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use selfhost_admission::capabilities::{Nothing, Objects, Source};
use selfhost_admission::engine::{Engine, Limits, Program, Runtime};
use selfhost_admission::health::Health;
use selfhost_admission::metrics::Metrics;
use selfhost_admission::server::tls::{ClientNames, Identity, Tls};
use selfhost_admission::server::{self, Guard, Workers, status};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::{self, Answer, Http, review, review_of};
use crate::guest;
use crate::pki::{Authority, CLIENT};

/// What one guard has.
pub(crate) struct Options {
    pub(crate) engine: Engine,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) workers: usize,
    pub(crate) queue: usize,
}

impl Options {
    /// A guest of these instructions.
    pub(crate) fn guest(body: &str) -> Self {
        Self::of(hand_written(body))
    }

    pub(crate) fn of(engine: Engine) -> Self {
        Self { engine, source: Arc::new(Nothing), workers: 2, queue: 64 }
    }
}

/// A guard.
pub(crate) struct Stand {
    pub(crate) address: SocketAddr,
    pub(crate) status: SocketAddr,
    pub(crate) guard: Arc<Guard>,
    pub(crate) tls: Arc<Tls>,
    pub(crate) authority: Authority,
    pub(crate) client: ClientConfig,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Stand {
    pub(crate) async fn start(options: Options) -> Self {
        let authority = Authority::new();
        let identity = Identity::new(&authority.material()).unwrap();
        let names = ClientNames::new(vec!["another".to_owned(), CLIENT.to_owned()]);
        let tls = Arc::new(Tls::new(identity, names));
        let guard = Arc::new(Guard {
            policy: ArcSwap::from_pointee(options.engine),
            source: options.source,
            metrics: Metrics::new(),
            health: Health::default(),
        });
        let workers = Arc::new(Workers::start(&guard, options.workers, options.queue).unwrap());
        let (listener, address) = listen().await;
        let (status_listener, status) = listen().await;
        tokio::spawn(status::serve(status_listener, Arc::clone(&guard)));
        let (stop, stopping) = watch::channel(false);
        let drain = Duration::from_mins(1);
        let server = tokio::spawn(server::serve(
            listener,
            Arc::clone(&tls),
            Arc::clone(&guard),
            workers,
            stopping,
            drain,
        ));
        let client = authority.client_config(CLIENT);
        Self { address, status, guard, tls, authority, client, stop, server }
    }

    /// The answer to a request.
    pub(crate) async fn ask(&self, request: &Value) -> Answer {
        client::send(self.address, &self.client, Http::Two, review(review_of(request))).await.unwrap()
    }

    /// Tells it to stop.
    pub(crate) fn stop(&self) {
        self.stop.send(true).unwrap();
    }

    /// Waits until it has.
    pub(crate) async fn stopped(self) {
        tokio::time::timeout(Duration::from_mins(1), self.server).await.unwrap().unwrap();
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// One runtime for all: each reserves address space.
pub(crate) fn runtime() -> &'static Arc<Runtime> {
    static RUNTIME: OnceLock<Arc<Runtime>> = OnceLock::new();
    RUNTIME.get_or_init(|| Arc::new(Runtime::new(Limits::default(), 64).unwrap()))
}

pub(crate) fn hand_written(body: &str) -> Engine {
    Engine::load(Program::compile(runtime(), &guest::guest(body)).unwrap(), b"").unwrap()
}

/// The policy's module: the one that `$SELFHOST_POLICY` names, or else the one that `cargo wasm` makes.
pub(crate) fn module() -> &'static [u8] {
    static MODULE: OnceLock<Vec<u8>> = OnceLock::new();
    MODULE.get_or_init(|| {
        let path = std::env::var_os("SELFHOST_POLICY").map_or_else(build, PathBuf::from);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    })
}

fn build() -> PathBuf {
    let status =
        Command::new(env!("CARGO")).arg("wasm").current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
    assert!(status.success(), "cargo wasm failed");
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    target.with_file_name("policy").join("kubectl-selfhost.wasm")
}

/// The policy with its own settings, compiled once.
pub(crate) fn policy() -> Engine {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| Program::compile(runtime(), module()).unwrap());
    Engine::load(program.clone(), b"").unwrap()
}

/// A cluster of three nodes, self-hosted, whose keys are Secrets.
pub(crate) fn cluster() -> Objects {
    Objects(serde_json::from_str(include_str!("../fixtures/objects.json")).unwrap())
}

/// A request of `tests/fixtures`.
pub(crate) fn fixture(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.json"));
    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap()
}
