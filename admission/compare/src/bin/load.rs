//! `cargo bench-guard-load`: the guard's server at a rate of reviews over TLS, while its certificates are rotated.
//!
//! Invariant: open loop. A review that was due is sent and counted, whatever became of those before, and its time runs from
//! when it was due.

#![expect(clippy::unwrap_used, reason = "of the tests' modules: a helper that cannot go on ends the bench")]

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arc_swap::ArcSwap;
use bytes::Bytes;
use clap::Parser;
use rustls::ClientConfig;
use selfhost_admission::capabilities::Nothing;
use selfhost_admission::engine::{Engine, Limits, Program, Runtime};
use selfhost_admission::health::Health;
use selfhost_admission::metrics::Metrics;
use selfhost_admission::reload::{PolicyFiles, Reloader};
use selfhost_admission::self_test::SelfTest;
use selfhost_admission::server::tls::{ClientNames, Identity, Tls};
use selfhost_admission::server::{self, Guard, Workers};
use selfhost_compare::{fixtures, module, target};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};

use client::{Answer, Connection, Http, review, review_of};
use pki::{Authority, CLIENT};
use volume::Volume;

#[expect(dead_code, reason = "the tests have more use for it")]
#[path = "../../../tests/host/client.rs"]
mod client;
#[path = "../../../tests/host/pki.rs"]
mod pki;
#[path = "../../../tests/host/volume.rs"]
mod volume;

/// Sends reviews of a DaemonSet's update at a rate, and rotates certificates meanwhile.
#[derive(Debug, Parser)]
#[command(name = "cargo bench-guard-load", bin_name = "cargo bench-guard-load")]
struct Cli {
    /// Reviews in a second.
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// For how long.
    #[arg(long, default_value = "20")]
    seconds: u32,
    /// How often certificates change in that time; each tenth time the authorities do, too.
    #[arg(long, default_value = "100")]
    rotations: u32,
    /// Connections, each with a review at a time.
    #[arg(long, default_value = "32", value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let mut rig = Rig::start().await?;
    let mut clients = JoinSet::new();
    let begin = Instant::now() + Duration::from_millis(100);
    for first in 0..cli.connections {
        let client = rig.client();
        let (rate, total, step) = (cli.rate, cli.rate * cli.seconds, cli.connections as usize);
        clients.spawn(async move {
            let mut connection = None;
            let mut results = Vec::new();
            for index in (first..total).step_by(step) {
                let due = begin + Duration::from_secs(1) * index / rate;
                tokio::time::sleep_until(due.into()).await;
                results.push(client.ask(&mut connection).await.map(|()| due.elapsed()));
            }
            results
        });
    }
    let rotations = cli.rotations;
    let pause = Duration::from_secs(cli.seconds.into()) / rotations.max(1);
    let rotator = spawn_blocking(move || {
        for rotation in 0..rotations {
            std::thread::sleep(pause);
            rig.rotate(rotation);
        }
    });
    let results = clients.join_all().await.into_iter().flatten().collect();
    rotator.await?;
    report(&cli, results)
}

fn report(cli: &Cli, results: Vec<Result<Duration>>) -> Result<ExitCode> {
    let sent = results.len();
    let (good, bad): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    let mut times: Vec<Duration> = good.into_iter().flatten().collect();
    times.sort();
    let percentile = |per_mille: usize| {
        let index = times.len().saturating_sub(1) * per_mille / 1000;
        times.get(index).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    let mut out = anstream::stdout().lock();
    writeln!(out, "reviews    {sent} at {} a second, {} rotations of certificates", cli.rate, cli.rotations)?;
    writeln!(out, "failures   {}", bad.len())?;
    let [half, most, nearly, all] = [500, 990, 999, 1000].map(percentile);
    writeln!(
        out,
        "latency    p50 {half:.2} ms, p99 {most:.2} ms, p99.9 {nearly:.2} ms, longest {all:.2} ms"
    )?;
    for error in bad.into_iter().filter_map(Result::err).take(5) {
        writeln!(out, "           {error:#}")?;
    }
    Ok(if times.len() == sent { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A guard with the policy, and what its certificates come from.
struct Rig {
    address: SocketAddr,
    config: ClientConfig,
    body: Bytes,
    authorities: [Authority; 2],
    volume: Volume,
    /// It stays what it is.
    _policy: Volume,
    reloader: Reloader,
    /// The server goes on while it is here.
    _stop: watch::Sender<bool>,
}

impl Rig {
    async fn start() -> Result<Self> {
        let runtime = Arc::new(Runtime::new(Limits::default(), 16)?);
        let module = module(&target()?)?;
        let engine = Engine::load(Program::compile(&runtime, &module)?, b"")?;
        let authorities = [Authority::new(), Authority::new()];
        let material = authorities[0].material();
        let volume = Volume::new(&[
            ("tls.crt", &material.certificates),
            ("tls.key", &material.key),
            ("ca.crt", &material.client_ca),
        ]);
        let names = ClientNames::new(vec![CLIENT.to_owned()]);
        let tls = Arc::new(Tls::new(Identity::new(&material)?, names));
        let guard = Arc::new(Guard {
            policy: ArcSwap::from_pointee(engine),
            source: Arc::new(Nothing),
            metrics: Metrics::new(),
            health: Health::default(),
        });
        let workers = std::thread::available_parallelism()?.get();
        let workers = Arc::new(Workers::start(&guard, workers, 256)?);
        let policy = Volume::new(&[("policy.wasm", &module)]);
        let policy_files = PolicyFiles { module: policy.path("policy.wasm"), settings: None };
        let files = volume.tls_files();
        let reloader = Reloader::new(
            policy_files,
            files,
            runtime,
            SelfTest::embedded(),
            Arc::clone(&guard),
            Arc::clone(&tls),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(server::serve(listener, tls, guard, workers, stopping, Duration::ZERO));
        let config = authorities[0].client_config(CLIENT);
        let request = std::fs::read(fixtures().join("daemonset-label.json")).context("read the request")?;
        let body = review_of(&serde_json::from_slice(&request)?);
        Ok(Self { address, config, body, authorities, volume, _policy: policy, reloader, _stop: stop })
    }

    fn client(&self) -> Client {
        Client { address: self.address, config: self.config.clone(), body: self.body.clone() }
    }

    fn rotate(&mut self, rotation: u32) {
        let [own, other] = &self.authorities;
        let (certificate, key) = own.server(30);
        let authorities =
            if (rotation / 10).is_multiple_of(2) { own.pem() } else { own.pem() + &other.pem() };
        let files = [("tls.crt", &certificate), ("tls.key", &key), ("ca.crt", &authorities)];
        self.volume.write(&files.map(|(name, text)| (name, text.as_bytes())));
        self.reloader.look();
    }
}

struct Client {
    address: SocketAddr,
    config: ClientConfig,
    body: Bytes,
}

impl Client {
    /// One review. An open connection that the server has just ended is replaced once, as Go's client does.
    async fn ask(&self, open: &mut Option<Connection>) -> Result<()> {
        if let Some(connection) = open
            && connection.ready().await
            && let Ok(answer) = connection.send(review(self.body.clone()), self.address).await
        {
            return admitted(&answer);
        }
        let mut connection = Connection::open(self.address, &self.config, Http::Two).await?;
        let answer = connection.send(review(self.body.clone()), self.address).await?;
        *open = Some(connection);
        admitted(&answer)
    }
}

fn admitted(answer: &Answer) -> Result<()> {
    let text = String::from_utf8_lossy(&answer.body);
    ensure!(text.contains(r#""allowed":true"#), "{}: {text}", answer.status);
    Ok(())
}
