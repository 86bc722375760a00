//! `cargo bench-guard-api`: what the guard adds to a write, on real API servers.
//!
//! Three of them with the same objects: one with nothing registered, one with the policies in CEL (tier 0), one with the
//! webhook of the widest reach. They are asked in turn, so that whatever else the machine does is the same for each.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use selfhost_core::registration::{self, Registration};
use selfhost_core::review::settings::Guard;
use selfhost_tests::cluster::DEFAULT_VERSION;
use selfhost_tests::process::Process;
use selfhost_tests::{ApiServer, Progress, refusal};
use serde_json::{Value, json};

use call::{Call, Proxy};
use place::Place;

#[expect(dead_code, reason = "the tests have more use for it")]
#[path = "../../api/conformance/call.rs"]
mod call;
#[expect(dead_code, reason = "the tests have more use for it")]
#[path = "../../api/conformance/place.rs"]
mod place;
#[expect(dead_code, reason = "the tests have more use for it")]
#[path = "../../api/conformance/seed.rs"]
mod seed;

/// How long an API server may take to hear of a registration.
const HEARD: Duration = Duration::from_secs(60);

/// Writes a DaemonSet on API servers with nothing, with policies, and with the webhook, in turn.
#[derive(Debug, Parser)]
#[command(name = "cargo bench-guard-api", bin_name = "cargo bench-guard-api")]
struct Cli {
    /// Writes of each kind.
    #[arg(long, default_value = "500", value_parser = clap::value_parser!(u32).range(100..))]
    rounds: u32,
}

/// What is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    Policies,
    Webhook,
}

/// An API server with its registration.
struct Stand {
    proxy: Proxy,
    _guard: Option<Process>,
    _server: ApiServer,
    _place: Place,
}

impl Stand {
    fn start(kind: Kind, progress: &Progress) -> Result<Self> {
        let place = Place::new()?;
        let flags = [place.admission_config(false)?];
        let server = ApiServer::start_with(&DEFAULT_VERSION.parse()?, &flags, progress)?;
        let proxy = Proxy::start(&server)?;
        let world = seed::seed(&proxy)?;
        let (url, own) = (place.url(), Guard::default());
        let registration = Registration {
            url: &url,
            ca_bundle: &place.ca_bundle,
            fail: true,
            wide: true,
            secrets: &world.secrets,
            config_maps: &world.config_maps,
            guard: &own,
        };
        let guard = (kind == Kind::Webhook).then(|| place.start(&server)).transpose()?;
        let objects = match kind {
            Kind::Nothing => Vec::new(),
            Kind::Policies => registration::tier0(&registration),
            Kind::Webhook => vec![registration::webhook(&registration)],
        };
        for object in &objects {
            let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
            let plural =
                kind.strip_suffix('y').map_or_else(|| format!("{kind}s"), |stem| format!("{stem}ies"));
            proxy
                .send(&Call::post(&format!("/apis/admissionregistration.k8s.io/v1/{plural}"), object))?
                .object()?;
        }
        let stand = Self { proxy, _guard: guard, _server: server, _place: place };
        if kind != Kind::Nothing {
            stand.wait()?;
        }
        Ok(stand)
    }

    /// Waits until what is registered denies.
    fn wait(&self) -> Result<()> {
        let begin = Instant::now();
        while self.proxy.try_out(&Call::delete(seed::SERVER))?.status != 403 {
            ensure!(begin.elapsed() < HEARD, "the API server does not hear of its registration");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn write(&self, call: &Call) -> Result<Duration> {
        let begin = Instant::now();
        let answer = self.proxy.send(call)?;
        let taken = begin.elapsed();
        answer.object().context("write the DaemonSet")?;
        Ok(taken)
    }
}

/// The writes, each with two values that come by turns: the API server stores nothing that is as it was.
fn writes() -> [(&'static str, [Call; 2]); 3] {
    let label =
        |value: &str| Call::merge(seed::SERVER, &json!({"metadata": {"labels": {"example.org/a": value}}}));
    let image = |tag: &str| {
        let container: Value =
            json!({"name": "kube-apiserver", "image": format!("registry.k8s.io/kube-apiserver:{tag}")});
        let template = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
        Call::strategic(seed::SERVER, &template)
    };
    let other = |value: &str| {
        let path = "/apis/apps/v1/namespaces/team/daemonsets/agent";
        Call::merge(path, &json!({"metadata": {"labels": {"example.org/a": value}}}))
    };
    [
        ("a label of an API server's DaemonSet", [label("a"), label("b")]),
        ("its image", [image("v1.36.3"), image("v1.36.4")]),
        ("a label of a DaemonSet that is not guarded", [other("a"), other("b")]),
    ]
}

fn main() -> ExitCode {
    refusal::exit_code(run(&Cli::parse()).map(|()| ExitCode::SUCCESS))
}

fn run(cli: &Cli) -> Result<()> {
    let progress = Progress::stderr();
    let mut stands = Vec::new();
    for kind in [Kind::Nothing, Kind::Policies, Kind::Webhook] {
        stands
            .push(progress.step(&format!("an API server with {kind:?}"), || Stand::start(kind, &progress))?);
    }
    let mut out = anstream::stdout().lock();
    writeln!(
        out,
        "{:<44} {:>17} {:>17} {:>17} {:>15} {:>15}",
        "", "nothing", "CEL", "webhook", "CEL adds", "webhook adds"
    )?;
    writeln!(
        out,
        "{:<44} {:>17} {:>17} {:>17} {:>15} {:>15}",
        "write", "p50 p99 ms", "p50 p99 ms", "p50 p99 ms", "p50 ms", "p50 ms"
    )?;
    for (name, calls) in writes() {
        let mut times: BTreeMap<usize, Vec<Duration>> = BTreeMap::new();
        for round in 0..cli.rounds + cli.rounds / 10 {
            for (index, stand) in stands.iter().enumerate() {
                let taken = stand.write(&calls[usize::from(round % 2 == 0)])?;
                // The first tenth warms connections and pools up.
                if round >= cli.rounds / 10 {
                    times.entry(index).or_default().push(taken);
                }
            }
        }
        let mut at = |index: usize, percent: usize| {
            let all = times.entry(index).or_default();
            all.sort();
            all[(all.len() * percent / 100).min(all.len() - 1)].as_secs_f64() * 1e3
        };
        let medians = [at(0, 50), at(1, 50), at(2, 50)];
        let cell = |median: f64, last: f64| format!("{median:.2} {last:.2}");
        writeln!(
            out,
            "{name:<44} {:>17} {:>17} {:>17} {:>15.2} {:>15.2}",
            cell(medians[0], at(0, 99)),
            cell(medians[1], at(1, 99)),
            cell(medians[2], at(2, 99)),
            medians[1] - medians[0],
            medians[2] - medians[0]
        )?;
    }
    Ok(())
}
