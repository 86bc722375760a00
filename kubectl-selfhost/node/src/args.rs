//! The command line.
//!
//! Invariant: every value is parsed here, so that nothing is done before all arguments are known to make sense.

use std::ffi::OsString;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::prelude::{Long, Short, Value};
use lexopt::{Parser, ValueExt};
use rustls::pki_types::ServerName;

use crate::backup::Directories;
use crate::etcd;
use crate::gate::Config;
use crate::nft::divert::Divert;
use crate::recover;
use crate::restore;
use crate::standby;
use crate::task::{
    Checkpoint, Clean, FinishBackup, Inspect, OtherImage, PlaceFiles, ProvePath, RemoveFiles, RemoveStandby,
    Restore, RestoreData, Retire, SaveBackup, Task, TryBackup, UpgradeEtcd,
};
use crate::tls::Credentials;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
The node part of kubectl selfhost. It runs in Pods that the plugin creates; only recover and restore are run by hand.

Usage:
  selfhost-node gate --node-ip IP --ca FILE [--port 6443] [--bridge-port 6444]
                [--service-ip IP [--service-port 443]] [--server-name kubernetes]
                [--client-cert FILE --client-key FILE] [--only-while FILE]
  selfhost-node gate-check
  selfhost-node standby --component NAME --port N --standby-port N --run DIR --minor N --generation N --digest HEX
                [--ca FILE [--server-name kubernetes]] [--peers IP:PORT,IP:PORT,...] -- COMMAND [ARGUMENT...]
  selfhost-node recover [--from auto|checkpoint|etcd|kept] [--dry-run] [--timeout SECONDS] [--node-ip IP]
                [--encryption-provider-config FILE] [--manifests DIR] [--state DIR] [--pki DIR]
                [--etcd https://IP:PORT] [--port 6443] [--bridge-port 6444]
  selfhost-node restore --from DIR [--snapshot FILE] [--dry-run] [--timeout SECONDS] [--etcd https://IP:PORT]
                [--port 6443] [--bridge-port 6444]
  selfhost-node task inspect --manifests DIR --kept DIR [--ports N,N,...]
  selfhost-node task retire-manifest --file FILE --kept DIR --sha256 HEX --port N [--timeout SECONDS]
  selfhost-node task restore-manifest --file FILE --kept DIR [--kept-image IMAGE --image IMAGE]
  selfhost-node task prove-path --from IP:PORT --node-ip IP --token HEX [--port 6443] [--bridge-port 6444]
                [--timeout SECONDS]
  selfhost-node task upgrade-etcd --file FILE --kept DIR --from IMAGE --image IMAGE --version VERSION
                --logs PREFIX --scratch DIR [--check] [--settle SECONDS] [--timeout SECONDS] -- COMMAND [ARGUMENT...]
  selfhost-node task lend-program --to FILE
  selfhost-node task wait-port-free --port N [--timeout SECONDS]
  selfhost-node task checkpoint --manifests DIR --state DIR --content JSON [--both]
  selfhost-node task remove-standby --manifests DIR --state DIR
  selfhost-node task clean --manifests DIR --state DIR --run DIR
  selfhost-node task place-files --from DIR --to DIR
  selfhost-node task remove-files --directory DIR
  selfhost-node task save-backup --at DIR --scratch DIR --node NAME --kubernetes VERSION --etcd-image IMAGE
                [--etcd https://IP:PORT] [--etcd-cafile FILE --etcd-certfile FILE --etcd-keyfile FILE]
                [--data-dir DIR] [--manifests DIR] [--state DIR] [--pki DIR] [--files FILE,FILE,...]
                [--timeout SECONDS]
  selfhost-node task try-backup --at DIR --scratch DIR
  selfhost-node task backup --at DIR --scratch DIR
  selfhost-node task restore-data --snapshot FILE --data DIR --membership JSON --result FILE
  selfhost-node --help | --version

gate diverts new connections to NODE-IP:PORT and SERVICE-IP:SERVICE-PORT to the bridge port while the API server there
is ready; gate-check succeeds while it does. standby runs COMMAND while nobody serves on the component's own port.
restore puts a backup back in the place of what this node has, which it keeps beside.
recover brings an API server back on a node that has none: from the standby's checkpoint, else from what etcd has.
A task prints its result as one JSON object.
";

/// The public port of an API server that kubeadm set up.
const API_PORT: u16 = 6443;

/// The bridge's port.
const BRIDGE_PORT: u16 = 6444;

/// The port of the `kubernetes` Service.
const SERVICE_PORT: u16 = 443;

/// How long tasks wait by default: the kubelet's file poll (20 s) and a Pod's grace period (30 s), with some room.
const WAIT_SECONDS: u64 = 60;

/// How long an API server gets to come back by default: the standby tries for 90 s, and once more after a pause.
const RECOVER_SECONDS: u64 = 240;

/// How long a new etcd must serve by default.
const SETTLE_SECONDS: u64 = 3;

/// How long a new etcd may take by default until it serves: a large database on a slow disk takes a minute, and the
/// kubelet may need two to start it.
const ETCD_SECONDS: u64 = 180;

/// How long etcd gets to send all that it has by default: a database of its largest usual size, 8 GiB, over a slow disk.
const SNAPSHOT_SECONDS: u64 = 600;

/// How long a prober gets to connect by default.
const PROVE_SECONDS: u64 = 15;

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Version,
    Gate(Config),
    GateCheck,
    Standby(standby::Config),
    Recover(recover::Config),
    Restore(restore::Config),
    Task(Task),
}

/// Arguments that make no sense.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Error {
    message: String,
    /// Whether a task was asked for: whoever asked reads the termination message.
    pub(crate) in_task: bool,
}

/// Parses all arguments; the first is the program's own name.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Error> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    // What follows `--` is another program's.
    let arguments = args.get(2..).unwrap_or_default().to_vec();
    let command = match args.iter().position(|argument| argument == "--") {
        Some(at) => args.split_off(at).split_off(1),
        None => Vec::new(),
    };
    let mut parser = Parser::from_iter(args);
    let mut in_task = false;
    parse_command(&mut parser, &arguments, command, &mut in_task)
        .map_err(|error| Error { message: error.to_string(), in_task })
}

fn parse_command(
    parser: &mut Parser,
    arguments: &[OsString],
    rest: Vec<OsString>,
    in_task: &mut bool,
) -> Result<Command, lexopt::Error> {
    let command = match parser.next()? {
        Some(Long("help") | Short('h')) => return Ok(Command::Help),
        Some(Long("version") | Short('V')) => return Ok(Command::Version),
        Some(Value(name)) => name.string()?,
        Some(other) => return Err(other.unexpected()),
        None => return Err("missing a command".into()),
    };
    match command.as_str() {
        "gate" => {
            let mut options = Options::parse(parser)?;
            let config = gate(&mut options)?;
            options.finish("gate")?;
            Ok(Command::Gate(config))
        }
        "gate-check" => {
            Options::parse(parser)?.finish("gate-check")?;
            Ok(Command::GateCheck)
        }
        "standby" => {
            let mut options = Options::parse(parser)?;
            let config = standby(&mut options, arguments, rest)?;
            options.finish("standby")?;
            Ok(Command::Standby(config))
        }
        "recover" => {
            let mut options = Options::parse(parser)?;
            let config = recover(&mut options)?;
            options.finish("recover")?;
            Ok(Command::Recover(config))
        }
        "restore" => {
            let mut options = Options::parse(parser)?;
            let config = restore(&mut options)?;
            options.finish("restore")?;
            Ok(Command::Restore(config))
        }
        "task" => {
            *in_task = true;
            let name = match parser.next()? {
                Some(Value(name)) => name.string()?,
                Some(other) => return Err(other.unexpected()),
                None => return Err("missing the name of a task".into()),
            };
            let mut options = Options::parse(parser)?;
            let task = task(&name, &mut options, rest)?;
            options.finish(&name)?;
            Ok(Command::Task(task))
        }
        other => Err(format!("unknown command {other:?}").into()),
    }
}

fn gate(options: &mut Options) -> Result<Config, lexopt::Error> {
    let node = SocketAddr::new(options.required("node-ip")?, options.or("port", API_PORT)?);
    let service_port = options.or("service-port", SERVICE_PORT)?;
    let service = options.optional::<IpAddr>("service-ip")?.map(|ip| SocketAddr::new(ip, service_port));
    let bridge_port = options.or("bridge-port", BRIDGE_PORT)?;
    let divert = Divert::new(node, service, bridge_port).map_err(|error| error.to_string())?;
    let client = match (options.path("client-cert"), options.path("client-key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err("--client-cert and --client-key belong together".into());
        }
    };
    let credentials =
        Credentials { ca: options.required_path("ca")?, server_name: server_name(options)?, client };
    let only_while = options.path("only-while");
    // A divert that waits for somebody's lock is a standby's: it lives in the Pod beside the copy.
    let divert = if only_while.is_some() { divert.of_standby() } else { divert };
    Ok(Config { divert, credentials, only_while })
}

fn server_name(options: &mut Options) -> Result<ServerName<'static>, lexopt::Error> {
    let name = options.optional::<String>("server-name")?.unwrap_or_else(|| "kubernetes".to_owned());
    ServerName::try_from(name).map_err(|error| format!("--server-name: {error}").into())
}

/// `arguments` are all that came after `standby`, of which `command` is what came after `--`.
fn standby(
    options: &mut Options,
    arguments: &[OsString],
    command: Vec<OsString>,
) -> Result<standby::Config, lexopt::Error> {
    if command.is_empty() {
        return Err("missing -- and a command".into());
    }
    let generation = options.required("generation")?;
    let bytes = arguments.iter().map(|argument| argument.as_encoded_bytes());
    let credentials = match options.path("ca") {
        Some(ca) => Some(Credentials { ca, server_name: server_name(options)?, client: None }),
        None => None,
    };
    Ok(standby::Config {
        component: options.required("component")?,
        port: options.required("port")?,
        standby_port: options.required("standby-port")?,
        run: options.required_path("run")?,
        generation,
        digest: options.required("digest")?,
        found: standby::digest(generation, standby::covered(bytes)),
        credentials,
        minor: options.required("minor")?,
        peers: list("peers", &options.optional::<String>("peers")?.unwrap_or_default())?,
        command,
    })
}

/// The defaults are kubeadm's directories, and the plugin's own.
fn directories(options: &mut Options) -> Directories {
    Directories {
        manifests: options.path_or("manifests", "/etc/kubernetes/manifests"),
        state: options.path_or("state", "/var/lib/selfhost"),
        pki: options.path_or("pki", "/etc/kubernetes/pki"),
    }
}

/// Where etcd listens for the API server of its own node.
fn endpoint(options: &mut Options) -> Result<etcd::Endpoint, lexopt::Error> {
    let etcd = options.optional::<String>("etcd")?.unwrap_or_else(|| "https://127.0.0.1:2379".to_owned());
    Ok(etcd.parse().map_err(|error: etcd::NoEndpoint| format!("--etcd {etcd}: {error}"))?)
}

fn recover(options: &mut Options) -> Result<recover::Config, lexopt::Error> {
    let Directories { manifests, state, pki } = directories(options);
    Ok(recover::Config {
        manifests,
        state,
        pki,
        etcd: endpoint(options)?,
        encryption: options.path("encryption-provider-config"),
        source: options.or("from", recover::Source::Auto)?,
        node_ip: options.optional("node-ip")?,
        ports: [options.or("port", API_PORT)?, options.or("bridge-port", BRIDGE_PORT)?],
        timeout: options.seconds(RECOVER_SECONDS)?,
        dry_run: options.take("dry-run").is_some(),
    })
}

/// Where everything is, the backup says.
fn restore(options: &mut Options) -> Result<restore::Config, lexopt::Error> {
    let absolute = |path: PathBuf| std::path::absolute(path).map_err(|error| error.to_string());
    Ok(restore::Config {
        from: absolute(options.required_path("from")?)?,
        snapshot: options.path("snapshot").map(absolute).transpose()?,
        etcd: endpoint(options)?,
        ports: [options.or("port", API_PORT)?, options.or("bridge-port", BRIDGE_PORT)?],
        timeout: options.seconds(RECOVER_SECONDS)?,
        dry_run: options.take("dry-run").is_some(),
    })
}

/// `rest` is what came after `--`.
fn task(name: &str, options: &mut Options, rest: Vec<OsString>) -> Result<Task, lexopt::Error> {
    Ok(match name {
        "inspect" => Task::Inspect(Inspect {
            manifests: options.required_path("manifests")?,
            kept: options.required_path("kept")?,
            ports: list("ports", &options.optional::<String>("ports")?.unwrap_or_default())?,
        }),
        "retire-manifest" => Task::Retire(Retire {
            file: options.required_path("file")?,
            kept: options.required_path("kept")?,
            planned: options.required("sha256")?,
            port: options.required("port")?,
            timeout: options.seconds(WAIT_SECONDS)?,
        }),
        "restore-manifest" => Task::Restore(Restore {
            file: options.required_path("file")?,
            kept: options.required_path("kept")?,
            image: other_image(options)?,
        }),
        "prove-path" => Task::ProvePath(ProvePath {
            from: options.required("from")?,
            target: SocketAddr::new(options.required("node-ip")?, options.or("port", API_PORT)?),
            bridge_port: options.or("bridge-port", BRIDGE_PORT)?,
            token: options.required("token")?,
            timeout: options.seconds(PROVE_SECONDS)?,
        }),
        "checkpoint" => Task::Checkpoint(Checkpoint {
            manifests: options.required_path("manifests")?,
            state: options.required_path("state")?,
            content: options.required("content")?,
            both: options.take("both").is_some(),
        }),
        "remove-standby" => Task::RemoveStandby(RemoveStandby {
            manifests: options.required_path("manifests")?,
            state: options.required_path("state")?,
        }),
        "clean" => Task::Clean(Clean {
            manifests: options.required_path("manifests")?,
            state: options.required_path("state")?,
            run: options.required_path("run")?,
        }),
        "place-files" => Task::PlaceFiles(PlaceFiles {
            from: options.required_path("from")?,
            to: options.required_path("to")?,
        }),
        "remove-files" => Task::RemoveFiles(RemoveFiles { directory: options.required_path("directory")? }),
        "upgrade-etcd" if rest.is_empty() => return Err("missing -- and a command".into()),
        "upgrade-etcd" => Task::UpgradeEtcd(UpgradeEtcd {
            file: options.required_path("file")?,
            kept: options.required_path("kept")?,
            from: options.required("from")?,
            image: options.required("image")?,
            version: options.required("version")?,
            check: options.take("check").is_some(),
            logs: options.required_path("logs")?,
            scratch: options.required_path("scratch")?,
            settle: Duration::from_secs(options.or("settle", SETTLE_SECONDS)?),
            timeout: options.seconds(ETCD_SECONDS)?,
            command: rest,
        }),
        "lend-program" => Task::LendProgram { to: options.required_path("to")? },
        "save-backup" => Task::SaveBackup(Box::new(save_backup(options)?)),
        "try-backup" => Task::TryBackup(TryBackup {
            at: options.required_path("at")?,
            scratch: options.required_path("scratch")?,
        }),
        "backup" => Task::FinishBackup(FinishBackup {
            at: options.required_path("at")?,
            scratch: options.required_path("scratch")?,
        }),
        "restore-data" => Task::RestoreData(RestoreData {
            snapshot: options.required_path("snapshot")?,
            data: options.required_path("data")?,
            membership: options.required("membership")?,
            result: options.required_path("result")?,
        }),
        "wait-port-free" => {
            Task::WaitPortFree { port: options.required("port")?, timeout: options.seconds(WAIT_SECONDS)? }
        }
        other => return Err(format!("unknown task {other:?}").into()),
    })
}

/// The credentials are by default those that kubeadm gives the API server.
fn save_backup(options: &mut Options) -> Result<SaveBackup, lexopt::Error> {
    let directories = directories(options);
    let pki = |name: &str| directories.pki.join(name);
    let etcd = endpoint(options)?;
    let mut file = |option, default: &str| options.path(option).unwrap_or_else(|| pki(default));
    let credentials = Credentials {
        ca: file("etcd-cafile", "etcd/ca.crt"),
        server_name: etcd.server_name(),
        client: Some((
            file("etcd-certfile", "apiserver-etcd-client.crt"),
            file("etcd-keyfile", "apiserver-etcd-client.key"),
        )),
    };
    Ok(SaveBackup {
        at: options.required_path("at")?,
        scratch: options.required_path("scratch")?,
        node: options.required("node")?,
        kubernetes: options.required("kubernetes")?,
        etcd_image: options.required("etcd-image")?,
        etcd,
        credentials,
        data_dir: options.path_or("data-dir", "/var/lib/etcd"),
        directories,
        others: list("files", &options.optional::<String>("files")?.unwrap_or_default())?,
        timeout: options.seconds(SNAPSHOT_SECONDS)?,
    })
}

fn other_image(options: &mut Options) -> Result<Option<OtherImage>, lexopt::Error> {
    match (options.optional("kept-image")?, options.optional("image")?) {
        (Some(kept), Some(runs)) => Ok(Some(OtherImage { kept, runs })),
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => Err("--kept-image and --image belong together".into()),
    }
}

/// Values that are separated by commas.
fn list<T: FromStr<Err: Display>>(name: &str, values: &str) -> Result<Vec<T>, lexopt::Error> {
    values
        .split(',')
        .filter(|value| !value.is_empty())
        .map(|value| value.parse().map_err(|error| format!("--{name} {value}: {error}").into()))
        .collect()
}

/// Options that have no value.
const SWITCHES: [&str; 3] = ["both", "check", "dry-run"];

/// The options that were given and not yet asked for.
struct Options(Vec<(String, OsString)>);

impl Options {
    fn parse(parser: &mut Parser) -> Result<Self, lexopt::Error> {
        let mut options = Vec::new();
        while let Some(argument) = parser.next()? {
            let Long(name) = argument else {
                return Err(argument.unexpected());
            };
            let name = name.to_owned();
            if options.iter().any(|(given, _)| *given == name) {
                return Err(format!("--{name} is given twice").into());
            }
            let value = if SWITCHES.contains(&name.as_str()) { OsString::new() } else { parser.value()? };
            options.push((name, value));
        }
        Ok(Self(options))
    }

    fn path(&mut self, name: &str) -> Option<PathBuf> {
        self.take(name).map(PathBuf::from)
    }

    fn path_or(&mut self, name: &str, default: &str) -> PathBuf {
        self.path(name).unwrap_or_else(|| PathBuf::from(default))
    }

    fn required_path(&mut self, name: &str) -> Result<PathBuf, lexopt::Error> {
        self.path(name).ok_or_else(|| missing(name))
    }

    fn optional<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>, lexopt::Error> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let value = value.string()?;
        value.parse().map(Some).map_err(|error| format!("--{name} {value}: {error}").into())
    }

    fn required<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<T, lexopt::Error> {
        self.optional(name)?.ok_or_else(|| missing(name))
    }

    fn or<T: FromStr<Err: Display>>(&mut self, name: &str, default: T) -> Result<T, lexopt::Error> {
        Ok(self.optional(name)?.unwrap_or(default))
    }

    fn seconds(&mut self, default: u64) -> Result<Duration, lexopt::Error> {
        self.or("timeout", default).map(Duration::from_secs)
    }

    fn finish(self, command: &str) -> Result<(), lexopt::Error> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(format!("{command} has no option --{name}").into()),
        }
    }

    fn take(&mut self, name: &str) -> Option<OsString> {
        let index = self.0.iter().position(|(given, _)| given == name)?;
        Some(self.0.remove(index).1)
    }
}

fn missing(name: &str) -> lexopt::Error {
    format!("missing --{name}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Command, Error> {
        parse(["selfhost-node"].into_iter().chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn the_gate_has_the_defaults_of_kubeadm() {
        let line = "gate --node-ip 10.0.0.1 --service-ip 10.96.0.1 --ca /ca.crt";
        let Ok(Command::Gate(config)) = parse_line(line) else { panic!("{line}") };
        assert_eq!(config.divert.bridge(), "10.0.0.1:6444".parse().unwrap());
        let targets = ["10.0.0.1:6443".parse().unwrap(), "10.96.0.1:443".parse().unwrap()];
        assert_eq!(config.divert.targets(), targets);
        assert_eq!(config.credentials.server_name, ServerName::try_from("kubernetes").unwrap());
    }

    #[test]
    fn every_task_parses() {
        let hash = "0".repeat(64);
        for line in [
            "inspect --manifests /m --kept /k --ports 6444,10267,10269",
            &format!("retire-manifest --file /m/a.yaml --kept /k --sha256 {hash} --port 6443 --timeout=60"),
            "restore-manifest --file /m/a.yaml --kept /k",
            "restore-manifest --file /m/a.yaml --kept /k --kept-image a:v1 --image a:v2",
            "prove-path --from 10.9.8.7:5 --node-ip 10.0.0.1 --port 6443 --bridge-port 6444 --token ab --timeout 15",
            "prove-path --from [fd00::7]:5 --node-ip fd00::1 --token ab",
            "wait-port-free --port 6443 --timeout 3",
            "checkpoint --manifests /m --state /s --content {}",
            "checkpoint --manifests /m --state /s --content {} --both",
            "place-files --from /f --to /t",
            "remove-files --directory /d",
            "remove-standby --manifests /m --state /s",
            "clean --manifests /m --state /s --run /r",
            "upgrade-etcd --file /m/etcd.yaml --kept /k --from etcd:3.6.8-0 --image etcd:3.6.16-0 --version 3.6.16 \
             --logs /l/etcd-cp1_ --scratch /s --check -- etcd --name=cp1",
            "lend-program --to /s/selfhost-node",
            "save-backup --at /b/x --scratch /s --node cp1 --kubernetes v1.37.2 --etcd-image etcd:3.6.8-0",
            "save-backup --at /b/x --scratch /s --node cp1 --kubernetes v1.37.2 --etcd-image e --etcd https://10.0.0.1:1 \
             --etcd-cafile /a --etcd-certfile /c --etcd-keyfile /k --data-dir /d --files /x,/y --timeout 5",
            "try-backup --at /b/x --scratch /s",
            "backup --at /b/x --scratch /s",
            "restore-data --snapshot /s --data /d --membership {\"name\":\"a\",\"members\":[],\"token\":\"t\"} --result /r",
        ] {
            assert!(matches!(parse_line(&format!("task {line}")), Ok(Command::Task(_))), "{line}");
        }
    }

    #[test]
    fn a_standby_knows_when_its_arguments_changed() {
        let line = "standby --component kube-scheduler --port 10259 --standby-port 10269 --run /run/selfhost --minor 37 \
                    --generation=7 --digest=DIGEST -- kube-scheduler --secure-port=10269 --v 2";
        let parse = |line: &str| match parse_line(line) {
            Ok(Command::Standby(config)) => config,
            other => panic!("{line}: {other:?}"),
        };
        let digest = |line: &str| parse(&line.replace("DIGEST", &"0".repeat(64))).found;
        let good = line.replace("DIGEST", &digest(line).to_string());
        let config = parse(&good);
        assert_eq!(config.found, config.digest);
        assert_eq!(config.command, ["kube-scheduler", "--secure-port=10269", "--v", "2"]);
        for (from, to) in [("--v 2", "--v 3"), ("10259", "10257"), ("generation=7", "generation=8")] {
            let config = parse(&good.replace(from, to));
            assert_ne!(config.found, config.digest, "{from} -> {to}");
        }
    }

    #[test]
    fn recovering_has_the_defaults_of_kubeadm() {
        let parse = |line: &str| match parse_line(line) {
            Ok(Command::Recover(config)) => config,
            other => panic!("{line}: {other:?}"),
        };
        let config = parse("recover");
        assert_eq!(config.manifests, PathBuf::from("/etc/kubernetes/manifests"));
        assert_eq!(config.etcd.to_string(), "127.0.0.1:2379");
        assert_eq!(
            (config.ports, config.source, config.dry_run),
            ([6443, 6444], recover::Source::Auto, false)
        );
        let config = parse("recover --dry-run --from kept --node-ip 10.0.0.1 --timeout=5");
        assert_eq!((config.source, config.dry_run), (recover::Source::Kept, true));
    }

    #[test]
    fn nonsense_is_named() {
        for (line, message) in [
            ("", "missing a command"),
            ("gat", "unknown command \"gat\""),
            ("task upgrade-etcd --file /m/etcd.yaml", "missing -- and a command"),
            ("gate --ca /x", "missing --node-ip"),
            ("gate --node-ip 10.0.0.1", "missing --ca"),
            ("gate --node-ip cp1 --ca /x", "--node-ip cp1: invalid IP address syntax"),
            ("gate --node-ip 10.0.0.1 --ca /x --ca /y", "--ca is given twice"),
            ("gate --node-ip 10.0.0.1 --ca /x --tls no", "gate has no option --tls"),
            (
                "gate --node-ip 10.0.0.1 --ca /x --client-key /k",
                "--client-cert and --client-key belong together",
            ),
            (
                "gate --node-ip 10.0.0.1 --ca /x --port 6444",
                "the bridge port 6444 is the diverted port itself",
            ),
            (
                "standby --component x --port 1 --standby-port 2 --run /r --minor 1 --generation 1",
                "missing -- and a command",
            ),
            ("gate-check now", "unexpected argument \"now\""),
            ("recover --from backup", "--from backup: not auto, checkpoint, etcd or kept"),
            ("recover --etcd http://e:1", "--etcd http://e:1: not https://IP:PORT"),
            ("recover --dry-run=client", "unexpected argument for option '--dry-run': \"client\""),
            ("restore", "missing --from"),
            ("restore --from /b --to /", "restore has no option --to"),
            ("task", "missing the name of a task"),
            ("task reboot", "unknown task \"reboot\""),
            (
                "task inspect --manifests /m --kept /k --ports 6444,x",
                "--ports x: invalid digit found in string",
            ),
            ("task wait-port-free --port 70000", "--port 70000: number too large to fit in target type"),
        ] {
            let error = parse_line(line).unwrap_err();
            assert_eq!(error.to_string(), message, "{line}");
            assert_eq!(error.in_task, line.starts_with("task"), "{line}");
        }
        let error = parse_line("task retire-manifest --file /f --kept /k --sha256 12 --port 1").unwrap_err();
        assert_eq!(error.to_string(), "--sha256 12: not a sha-256 sum of 64 hexadecimal digits: \"12\"");
    }
}
