//! The process: what is loaded before it serves, and how it ends.
//!
//! Invariant: nothing is served before a policy has passed its self-test, and what has begun is answered before it ends.

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use clap::Parser;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::capabilities::Live;
use crate::cli::{Cli, Command, Serve};
use crate::engine::ahead::{self, KeepError};
use crate::engine::{Limits, Runtime};
use crate::health::Health;
use crate::logs;
use crate::metrics::Metrics;
use crate::reload::{self, PolicyFiles, ReloadError, Reloader, TlsFiles, chain};
use crate::self_test::SelfTest;
use crate::server::tls::{ClientNames, Tls};
use crate::server::{self, Guard, Workers, status};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How often the policy that runs is tried.
const CHECK: Duration = Duration::from_secs(10);

/// Why the process ends.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Load(#[from] ReloadError),
    #[error("cannot configure the client of the API server")]
    Config(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Compile(#[from] KeepError),
    #[error("cannot start")]
    Start(#[source] std::io::Error),
}

impl RunError {
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Load(ReloadError::Load(_)) | Self::Compile(KeepError::Compile(_)) => {
                Some("--policy takes the module of a release; docs/reference/rules.md has the settings")
            }
            Self::Config(_) => Some("pass --kubeconfig FILE where this is no Pod of the cluster"),
            Self::Listen { .. } => Some(
                "another guard may still run on this node; --listen and --status-listen change the ports",
            ),
            _ => None,
        }
    }
}

/// From the arguments to the exit code.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be said about a closed standard error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match start(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut out = anstream::stderr().lock();
            let _ = writeln!(out, "error: {}", chain(&error));
            if let Some(hint) = error.hint() {
                let _ = writeln!(out, "hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn start(cli: &Cli) -> Result<(), RunError> {
    if let Some(Command::Compile { module, directory }) = &cli.command {
        return compile(module, directory);
    }
    // Without any argument there would be help instead.
    let Some(serve) = &cli.serve else { return Ok(()) };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(RunError::Start)?;
    runtime.block_on(run(serve))
}

fn compile(module: &Path, directory: &Path) -> Result<(), RunError> {
    let wasm = reload::read(module)?;
    let file = ahead::keep(directory, &wasm)?;
    let _ = writeln!(anstream::stdout(), "{}", file.display());
    Ok(())
}

async fn run(cli: &Serve) -> Result<(), RunError> {
    let workers = cli.workers.map_or_else(processors, usize::from);
    // One more for those that are tried.
    let slots = u32::try_from(workers + 1).unwrap_or(u32::MAX);
    let wasm = Arc::new(Runtime::new(Limits::default(), slots).map_err(ReloadError::from)?);
    let policy_files = PolicyFiles {
        module: cli.policy.clone(),
        settings: cli.settings.clone(),
        compiled: cli.compiled.clone(),
    };
    let tls_files = TlsFiles {
        certificates: cli.tls_cert_file.clone(),
        key: cli.tls_private_key_file.clone(),
        client_ca: cli.client_ca_file.clone(),
    };
    let test = SelfTest::embedded();
    let policy = reload::policy(&wasm, &policy_files, &test)?;
    let identity = reload::identity(&tls_files)?;
    if cli.check {
        let _ = writeln!(
            anstream::stdout(),
            "policy {} with settings {}",
            policy.program().id(),
            policy.settings()
        );
        return Ok(());
    }
    // The only subscriber of the process.
    let _ = tracing::subscriber::set_global_default(logs::subscriber(cli.log_level, std::io::stderr));
    let metrics = Metrics::new();
    let source = Arc::new(Live::new(client(cli).await?, Handle::current(), metrics.clone()));
    let guard =
        Arc::new(Guard { policy: ArcSwap::from_pointee(policy), source, metrics, health: Health::default() });
    let tls = Arc::new(Tls::new(identity, ClientNames::new(cli.client_name.clone())));
    let (listener, address) = listen(cli.listen).await?;
    let (status_listener, status_address) = listen(cli.status_listen).await?;
    let status = tokio::spawn(status::serve(status_listener, Arc::clone(&guard)));
    let reloader = Reloader::new(policy_files, tls_files, wasm, test, Arc::clone(&guard), Arc::clone(&tls));
    reloader.check();
    let threads = Arc::new(Workers::start(&guard, workers, cli.queue.into()).map_err(RunError::Start)?);
    thread::Builder::new()
        .name("reload".to_owned())
        .spawn(move || watch_files(reloader))
        .map_err(RunError::Start)?;
    let (stop, stopping) = watch::channel(false);
    let mut terminated = signal(SignalKind::terminate()).map_err(RunError::Start)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(RunError::Start)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        // The server has ended by itself: there is nothing to stop.
        let _ = stop.send(true);
    });
    tracing::info!(listen = %address, status = %status_address, workers, "serving");
    reload::tell_compiled(guard.policy.load().program());
    server::serve(listener, tls, guard, threads, stopping, cli.drain).await;
    status.abort();
    tracing::info!("ended");
    Ok(())
}

fn watch_files(mut reloader: Reloader) {
    let mut checked = Instant::now();
    loop {
        thread::sleep(LOOK);
        reloader.look();
        if checked.elapsed() >= CHECK {
            reloader.check();
            checked = Instant::now();
        }
    }
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), RunError> {
    let error = |source| RunError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    let address = listener.local_addr().map_err(error)?;
    Ok((listener, address))
}

async fn client(cli: &Serve) -> Result<kube::Client, RunError> {
    let config = match &cli.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|error| RunError::Config(Box::new(error)))?;
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(|error| RunError::Config(Box::new(error)))?
        }
        None => kube::Config::incluster().map_err(|error| RunError::Config(Box::new(error)))?,
    };
    kube::Client::try_from(config).map_err(|error| RunError::Config(Box::new(error)))
}
