//! The tests, and the node on which they play.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use selfhost_node::report::{EtcdOutcome, Failure, UpgradeEtcd};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::play::{Image, KUBELET_TAKES, Kubelet, write_pki};

const OLD: Image = Image { tag: "3.6.8-0", version: "3.6.8", instead: "" };
const NEW: Image = Image { tag: "3.6.16-0", version: "3.6.16", instead: "" };

/// Instants of a run at which it is killed.
const KILLS: u32 = 4;

type Test = (&'static str, fn() -> Result<()>);

const TESTS: [Test; 6] = [
    ("a_member_comes_to_the_new_image", a_member_comes_to_the_new_image),
    ("what_does_not_start_is_taken_back", what_does_not_start_is_taken_back),
    ("what_the_cluster_agreed_on_is_not_taken_back", what_the_cluster_agreed_on_is_not_taken_back),
    ("nothing_is_touched_while_a_member_is_not_healthy", nothing_is_touched_while_a_member_is_not_healthy),
    ("a_leader_gives_its_leadership_away", a_leader_gives_its_leadership_away),
    ("it_survives_being_killed", it_survives_being_killed),
];

/// Runs those whose names contain the words that were given, all at the same time: they wait most of it.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let words: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let asked = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let mut out = std::io::stdout();
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, _) in TESTS {
            let _ = writeln!(out, "{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let chosen = TESTS.into_iter().filter(|(name, _)| asked(name));
    let running: Vec<_> = chosen.map(|(name, test)| (name, thread::spawn(test))).collect();
    let mut failed = false;
    for (name, test) in running {
        let result = test.join().unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked")));
        failed |= result.is_err();
        let _ = match result {
            Ok(()) => writeln!(out, "test {name} ... ok"),
            Err(error) => writeln!(out, "test {name} ... FAILED\n{error:?}"),
        };
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A control-plane node in a temporary directory, with an etcd that serves.
struct Node {
    directory: TempDir,
    to: Image,
    command: Vec<String>,
    _kubelet: Kubelet,
}

impl Node {
    /// One whose etcd is to come to an image.
    fn new(to: Image) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name);
        for name in ["manifests", "data", "logs", "scratch", "pki"] {
            fs::create_dir(path(name))?;
        }
        write_pki(&path("pki"))?;
        symlink(std::env::current_exe()?, path("etcd"))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let file = |flag: &str, name: &str| format!("--{flag}={}", path(name).display());
        let command = vec![
            path("etcd").display().to_string(),
            file("data-dir", "data"),
            format!("--listen-client-urls=https://127.0.0.1:{port}"),
            file("trusted-ca-file", "pki/ca.crt"),
            file("cert-file", "pki/server.crt"),
            file("key-file", "pki/server.key"),
        ];
        fs::write(path("manifests/etcd.yaml"), manifest(OLD))?;
        let kubelet =
            Kubelet::start(path("manifests/etcd.yaml"), path("logs"), vec![OLD, to], command.clone());
        let node = Self { directory, to, command, _kubelet: kubelet };
        let begin = Instant::now();
        while node.task(&["--check"]).output()?.status.code() != Some(0)
            || node.outcome(&["--check"])?.outcome != EtcdOutcome::Ready
        {
            ensure!(begin.elapsed() < Duration::from_secs(20), "the played etcd does not serve");
            thread::sleep(Duration::from_millis(50));
        }
        Ok(node)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn say(&self, file: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.path("data").join(file), text)?)
    }

    fn manifest(&self) -> Result<String> {
        Ok(fs::read_to_string(self.path("manifests/etcd.yaml"))?)
    }

    /// The versions of the etcds that were started, in order.
    fn starts(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(self.path("data/starts"))?;
        Ok(text.lines().map(ToOwned::to_owned).collect())
    }

    fn task(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_selfhost-node"));
        command.args(["task", "upgrade-etcd"]).args(more);
        for (option, name) in [("file", "manifests/etcd.yaml"), ("kept", "kept"), ("scratch", "scratch")] {
            command.arg(format!("--{option}={}", self.path(name).display()));
        }
        command
            .arg(format!("--logs={}", self.path("logs/kube-system_etcd-cp1_").display()))
            .arg(format!("--from=registry.example.org/etcd:{}", OLD.tag))
            .arg(format!("--image=registry.example.org/etcd:{}", self.to.tag))
            .args(["--version", self.to.version, "--settle=1", "--timeout=20", "--"])
            .args(&self.command)
            .env("SELFHOST_TERMINATION_LOG", self.path("termination-log"))
            .stdin(Stdio::null());
        self.to.environment(&mut command);
        command
    }

    fn outcome(&self, more: &[&str]) -> Result<UpgradeEtcd> {
        end(self.task(more), 0)
    }
}

/// Runs a task to its end, and reads what it says.
fn end<T: DeserializeOwned>(mut command: Command, code: i32) -> Result<T> {
    let output = command.output()?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(code), "{}: {said}", output.status);
    serde_json::from_str(&said).context(said)
}

fn manifest(image: Image) -> String {
    format!(
        "# by hand\nspec:\n  containers:\n  - name: etcd\n    image: registry.example.org/etcd:{}\n",
        image.tag
    )
}

fn a_member_comes_to_the_new_image() -> Result<()> {
    let node = Node::new(NEW)?;
    let report = node.outcome(&[])?;
    ensure!(report.outcome == EtcdOutcome::Upgraded && report.version == NEW.version, "{report:?}");
    ensure!(node.manifest()? == manifest(NEW), "only the image differs");
    ensure!(fs::read_to_string(node.path("kept/etcd.yaml"))? == manifest(OLD));
    // The stand-in was there before the kubelet's, and not as long away as that takes.
    ensure!(node.starts()? == [OLD.version, NEW.version, NEW.version], "{:?}", node.starts()?);
    ensure!(Duration::from_millis(report.away_ms) < KUBELET_TAKES, "{report:?}");
    let again = node.outcome(&[])?;
    ensure!(again.outcome == EtcdOutcome::Unchanged && again.away_ms == 0, "{again:?}");
    Ok(())
}

fn what_does_not_start_is_taken_back() -> Result<()> {
    let node = Node::new(Image { instead: "ends", ..NEW })?;
    let report = node.outcome(&[])?;
    ensure!(report.outcome == EtcdOutcome::TakenBack && report.version == OLD.version, "{report:?}");
    ensure!(report.words.as_deref() == Some("this etcd does not start"), "{report:?}");
    ensure!(node.manifest()? == manifest(OLD));
    Ok(())
}

fn what_the_cluster_agreed_on_is_not_taken_back() -> Result<()> {
    let node = Node::new(Image { tag: "3.7.0-0", version: "3.7.0", instead: "agrees-and-ends" })?;
    let failure: Failure = end(node.task(&[]), 1)?;
    ensure!(failure.error.contains("has agreed on version 3.7.0 already"), "{failure:?}");
    ensure!(node.manifest()? == manifest(node.to));
    Ok(())
}

fn nothing_is_touched_while_a_member_is_not_healthy() -> Result<()> {
    let node = Node::new(NEW)?;
    let url = node.command[2].trim_start_matches("--listen-client-urls=").to_owned();
    let other = |more: &str| {
        let own = r#"{"ID":"1","name":"cp1","clientURLs":["x"]}"#;
        format!(r#"{{"members":[{own},{{"ID":"2",{more}}}]}}"#)
    };
    let gone = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    for (members, expected) in [
        (other(r#""name":"cp2","isLearner":true,"clientURLs":["x"]"#), "member cp2 is a learner"),
        (other(r#""peerURLs":["https://10.0.0.2:2380"]"#), "member 2 has not started"),
        (other(&format!(r#""name":"cp2","clientURLs":["https://{gone}"]"#)), "Connection refused"),
        (other(r#""name":"cp2","clientURLs":["https://cp2:2379"]"#), "no address that can be asked"),
    ] {
        node.say("members", &members)?;
        let report = node.outcome(&[])?;
        ensure!(report.outcome == EtcdOutcome::Refused, "{report:?}");
        ensure!(report.reason.as_deref().is_some_and(|reason| reason.contains(expected)), "{report:?}");
    }
    node.say("members", &other(&format!(r#""name":"cp2","clientURLs":["{url}"]"#)))?;
    node.say("health", r#"{"health":"false","reason":"NOSPACE"}"#)?;
    let report = node.outcome(&[])?;
    ensure!(report.outcome == EtcdOutcome::Refused, "{report:?}");
    ensure!(report.reason.as_deref().is_some_and(|reason| reason.contains("NOSPACE")), "{report:?}");
    ensure!(node.manifest()? == manifest(OLD) && !node.path("kept").exists());
    ensure!(node.starts()? == [OLD.version]);
    Ok(())
}

fn a_leader_gives_its_leadership_away() -> Result<()> {
    let node = Node::new(NEW)?;
    let url = node.command[2].trim_start_matches("--listen-client-urls=").to_owned();
    node.say(
        "members",
        &format!(
            r#"{{"members":[{{"ID":"1","name":"cp1","clientURLs":["x"]}},{{"ID":"2","name":"cp2","clientURLs":["{url}"]}}]}}"#
        ),
    )?;
    let report = node.outcome(&[])?;
    ensure!(report.outcome == EtcdOutcome::Upgraded, "{report:?}");
    ensure!(fs::read_to_string(node.path("data/leader"))? == "2");
    Ok(())
}

fn it_survives_being_killed() -> Result<()> {
    let whole = [manifest(OLD), manifest(NEW)];
    let kills: Vec<_> = (1..=KILLS)
        .map(|instant| {
            let whole = whole.clone();
            thread::spawn(move || -> Result<()> {
                let node = Node::new(NEW)?;
                // With what it started: a container's processes end together.
                let mut child = node.task(&[]).stdout(Stdio::null()).process_group(0).spawn()?;
                thread::sleep(Duration::from_millis(700) * instant);
                let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                kill_process_group(group.context("a process has a number")?, Signal::KILL)?;
                child.wait()?;
                let left = node.manifest()?;
                ensure!(whole.contains(&left), "damaged: {left}");
                let report = node.outcome(&[])?;
                let done = matches!(report.outcome, EtcdOutcome::Upgraded | EtcdOutcome::Unchanged);
                ensure!(done && node.manifest()? == whole[1], "{report:?}");
                Ok(())
            })
        })
        .collect();
    for kill in kills {
        kill.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
    }
    Ok(())
}
