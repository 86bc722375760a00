//! `recover` as a person runs it: the built binary, what it says, and what it leaves. Needs no root.
#![cfg(target_os = "linux")]

mod server;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::Pki;

const BINARY: &str = env!("CARGO_BIN_EXE_selfhost-node");

/// Where API servers have the DaemonSet.
const KEY: &str = "/registry/daemonsets/kube-system/self-hosted-kube-apiserver";

/// The DaemonSet of v1.37.2 as an API server stores it.
const STORED: &[u8] = include_bytes!("../fixtures/daemonset.pb");

/// Values that were encrypted by Kubernetes' own code, with their keys.
const ENCRYPTED: &str = include_str!("../fixtures/encrypted.txt");

/// Instants of a run at which it is killed.
const KILLS: u32 = 40;

/// A control-plane node in a temporary directory, on which nothing runs.
struct Node {
    directory: TempDir,
    pki: Pki,
    ports: [u16; 2],
    etcd: String,
}

/// How a run ended.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    /// Its lines on standard output.
    said: Vec<String>,
    stderr: String,
}

impl Node {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        fs::create_dir(directory.path().join("manifests"))?;
        let pki = Pki::new(&directory.path().join("pki"))?;
        let [a, b, c] = [free_port()?, free_port()?, free_port()?];
        Ok(Self { directory, pki, ports: [a, b], etcd: format!("https://127.0.0.1:{c}") })
    }

    /// The same, with an etcd that has this value for the DaemonSet.
    fn with_etcd(value: &[u8]) -> Result<Self> {
        let mut node = Self::new()?;
        node.etcd = node.pki.etcd(KEY, value)?;
        Ok(node)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn manifest(&self) -> PathBuf {
        self.path("manifests/kube-apiserver.yaml")
    }

    /// Both manifests of a checkpoint, each with its copy.
    fn checkpoint(&self, versions: [&str; 2]) -> Result<()> {
        for version in versions {
            let mut task = Command::new(BINARY);
            task.args(["task", "checkpoint", "--content", &standby(version)])
                .arg("--manifests")
                .arg(self.path("manifests"))
                .arg("--state")
                .arg(self.path("state"))
                .env("SELFHOST_TERMINATION_LOG", self.path("termination-log"));
            ensure!(task.output()?.status.success());
        }
        Ok(())
    }

    fn keep(&self, image: &str) -> Result<String> {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - command:\n    - kube-apiserver\n    - \
             --advertise-address=10.0.0.11\n    image: {image}\n    name: kube-apiserver\n{}",
            "# padding\n".repeat(4000)
        );
        fs::create_dir_all(self.path("state/manifests"))?;
        fs::write(self.path("state/manifests/kube-apiserver.yaml"), &text)?;
        Ok(text)
    }

    fn command(&self, more: &[&str]) -> Command {
        let [own, other] = self.ports.map(|port| port.to_string());
        let mut command = Command::new(BINARY);
        command.args(["recover", "--port", &own, "--bridge-port", &other, "--etcd", &self.etcd]);
        for directory in ["manifests", "state", "pki"] {
            command.arg(format!("--{directory}")).arg(self.path(directory));
        }
        command.args(more).stdin(Stdio::null());
        command
    }

    fn recover(&self, more: &[&str]) -> Result<Outcome> {
        let output = self.command(more).output()?;
        let stdout = String::from_utf8(output.stdout)?;
        Ok(Outcome {
            code: output.status.code(),
            said: stdout.lines().map(str::to_owned).collect(),
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// Every file below the node's directories, with its content.
    fn files(&self) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let mut files = Vec::new();
        for directory in ["manifests", "state"] {
            collect(&self.path(directory), &mut files)?;
        }
        files.sort();
        Ok(files)
    }
}

impl Outcome {
    fn says(&self, text: &str) -> bool {
        self.said.iter().any(|line| line.contains(text))
    }

    fn last(&self) -> &str {
        self.said.last().map_or("", String::as_str)
    }
}

fn collect(directory: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) -> Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push((path.clone(), fs::read(path)?));
        }
    }
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A standby's Pod as the plugin renders it.
fn standby(version: &str) -> String {
    let args = ["standby", "--component=kube-apiserver", "--", "kube-apiserver"];
    let image = format!("registry.k8s.io/kube-apiserver:{version}");
    let container = json!({"name": "kube-apiserver", "image": image, "args": args});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "control-plane-standby", "namespace": "kube-system"},
        "spec": {"containers": [container]},
    })
    .to_string()
}

#[test]
fn where_an_api_server_is_ready_there_is_nothing_to_recover() -> Result<()> {
    let node = Node::new()?;
    node.pki.api_server(node.ports[1])?;
    let outcome = node.recover(&[])?;
    ensure!(outcome.code == Some(0), "{outcome:?}");
    ensure!(outcome.says("nothing to recover"), "{outcome:?}");
    ensure!(outcome.last() == "Next: kubectl selfhost status", "{outcome:?}");
    Ok(())
}

#[test]
fn an_api_server_of_somebody_else_does_not_count() -> Result<()> {
    let node = Node::new()?;
    Pki::new(&node.path("elsewhere"))?.api_server(node.ports[0])?;
    let outcome = node.recover(&["--timeout", "0"])?;
    ensure!(outcome.code == Some(1) && !outcome.says("ready on"), "{outcome:?}");
    Ok(())
}

#[test]
fn a_checkpoint_in_place_is_waited_for() -> Result<()> {
    let node = Node::new()?;
    node.checkpoint(["v1.36.3", "v1.37.2"])?;
    let before = node.files()?;
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(1500));
            node.pki.api_server(node.ports[1])
        });
        node.recover(&["--timeout", "20"])
    })?;
    ensure!(outcome.code == Some(0), "{outcome:?}");
    ensure!(outcome.says("control-plane-standby-b.yaml is good: generation 2."), "{outcome:?}");
    ensure!(outcome.says("cannot be known: ask etcd at"), "etcd does not run: {outcome:?}");
    ensure!(outcome.says(&format!("ready on 127.0.0.1:{}, after", node.ports[1])), "{outcome:?}");
    ensure!(outcome.last() == "Next: kubectl selfhost status", "{outcome:?}");
    ensure!(node.files()? == before, "nothing was changed");
    Ok(())
}

#[test]
fn what_is_not_there_or_damaged_is_put_back() -> Result<()> {
    let node = Node::new()?;
    node.checkpoint(["v1.36.3", "v1.37.2"])?;
    let whole = node.files()?;
    fs::remove_file(node.path("manifests/control-plane-standby-a.yaml"))?;
    fs::write(node.path("manifests/control-plane-standby-b.yaml"), "{")?;
    let damaged = node.files()?;

    let dry = node.recover(&["--dry-run"])?;
    ensure!(dry.code == Some(0) && node.files()? == damaged, "{dry:?}");
    ensure!(dry.says("control-plane-standby-a.yaml is not there."), "{dry:?}");
    ensure!(dry.says("control-plane-standby-b.yaml is damaged: it is no JSON"), "{dry:?}");
    let line = format!("Would write {}:", node.path("manifests/control-plane-standby-b.yaml").display());
    ensure!(dry.said.contains(&line), "{dry:?}");
    ensure!(dry.says("registry.k8s.io/kube-apiserver:v1.37.2"), "the whole manifest: {dry:?}");
    ensure!(dry.last() == "Next: the same command without --dry-run", "{dry:?}");

    let outcome = node.recover(&["--timeout", "0"])?;
    ensure!(outcome.code == Some(1) && node.files()? == whole, "{outcome:?}");
    let expected = "error: no API server is ready after 0 s: ";
    ensure!(outcome.stderr.starts_with(expected) && outcome.stderr.contains("\nhint: "), "{outcome:?}");
    Ok(())
}

#[test]
fn a_checkpoint_that_is_too_old_gives_way_to_etcd() -> Result<()> {
    let node = Node::with_etcd(STORED)?;
    node.checkpoint(["v1.34.1", "v1.35.0"])?;
    let refused = node.recover(&["--from", "checkpoint"])?;
    ensure!(refused.code == Some(1), "{refused:?}");
    let expected = "error: checkpoint 2 is of registry.k8s.io/kube-apiserver:v1.35.0, and the cluster of \
                    registry.k8s.io/kube-apiserver:v1.37.2: more than one minor version apart\n";
    ensure!(refused.stderr.starts_with(expected), "{refused:?}");
    ensure!(!node.manifest().exists());

    let outcome = node.recover(&["--timeout", "0", "--node-ip", "10.0.0.11"])?;
    ensure!(outcome.says("No checkpoint is used: checkpoint 2 is of"), "{outcome:?}");
    ensure!(node.manifest().exists(), "{outcome:?}");
    Ok(())
}

#[test]
fn one_minor_version_is_not_too_old() -> Result<()> {
    let node = Node::with_etcd(STORED)?;
    node.checkpoint(["v1.35.0", "v1.36.3"])?;
    let outcome = node.recover(&["--dry-run"])?;
    ensure!(outcome.code == Some(0) && !outcome.says("cannot be known"), "{outcome:?}");
    Ok(())
}

#[test]
fn without_a_checkpoint_etcd_says_what_to_run() -> Result<()> {
    let node = Node::with_etcd(STORED)?;
    let dry = node.recover(&["--dry-run", "--node-ip", "10.0.0.11"])?;
    ensure!(dry.code == Some(0) && node.files()?.is_empty(), "{dry:?}");
    ensure!(dry.says("No checkpoint is used: neither "), "{dry:?}");
    ensure!(dry.says("The DaemonSet in etcd names registry.k8s.io/kube-apiserver:v1.37.2."), "{dry:?}");
    ensure!(dry.says("cannot have it: nodeSelector, automountServiceAccountToken."), "{dry:?}");

    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            while !node.manifest().exists() {
                thread::sleep(Duration::from_millis(10));
            }
            node.pki.api_server(node.ports[0])
        });
        node.recover(&["--timeout", "20", "--node-ip", "10.0.0.11"])
    })?;
    ensure!(outcome.code == Some(0), "{outcome:?}");
    ensure!(outcome.last() == "Next: kubectl selfhost pivot", "{outcome:?}");
    let text = fs::read_to_string(node.manifest())?;
    let shown = dry.said.iter().skip_while(|line| !line.starts_with("Would write ")).skip(1);
    let shown: Vec<&str> =
        shown.map(String::as_str).take_while(|line| !line.starts_with("Would wait")).collect();
    ensure!(shown.join("\n") == text.trim_end(), "the dry run showed it to the letter");

    let pod: Value = serde_json::from_str(&text)?;
    ensure!(pod["metadata"]["name"] == "kube-apiserver" && pod["metadata"]["namespace"] == "kube-system");
    let container = &pod["spec"]["containers"][0];
    ensure!(container["command"][1] == "--advertise-address=$(HOST_IP)", "{text}");
    ensure!(container["env"] == json!([{"name": "HOST_IP", "value": "10.0.0.11"}]), "{text}");
    ensure!(pod["metadata"]["annotations"]["kubectl-selfhost.dev/recovered"] == "true", "{text}");
    for absent in ["nodeSelector", "automountServiceAccountToken", "valueFrom", "template-hash", "k8s-app"] {
        ensure!(!text.contains(absent), "{absent}: {text}");
    }
    Ok(())
}

#[test]
fn a_second_run_finds_what_the_first_one_wrote() -> Result<()> {
    let node = Node::with_etcd(STORED)?;
    // The address is the one that the static manifest advertised.
    node.keep("registry.k8s.io/kube-apiserver:v1.36.3")?;
    let args = ["--from", "etcd", "--timeout", "0"];
    ensure!(node.recover(&args)?.says("Wrote "));
    let text = fs::read_to_string(node.manifest())?;
    ensure!(text.contains(r#""value": "10.0.0.11""#), "{text}");
    ensure!(node.recover(&args)?.says("is in place already."));
    ensure!(fs::read_to_string(node.manifest())? == text);
    Ok(())
}

#[test]
fn a_manifest_of_somebody_else_stays() -> Result<()> {
    let node = Node::with_etcd(STORED)?;
    node.keep("registry.k8s.io/kube-apiserver:v1.36.3")?;
    fs::write(node.manifest(), "of somebody else")?;
    for source in ["auto", "etcd", "kept"] {
        let outcome = node.recover(&["--from", source, "--timeout", "0"])?;
        ensure!(outcome.code == Some(1), "{outcome:?}");
        ensure!(outcome.stderr.starts_with("error: a different manifest "), "{outcome:?}");
        ensure!(fs::read_to_string(node.manifest())? == "of somebody else");
    }
    Ok(())
}

#[test]
fn a_port_that_is_taken_gets_no_second_api_server() -> Result<()> {
    let node = Node::with_etcd(STORED)?;
    let _listener = TcpListener::bind(("127.0.0.1", node.ports[0]))?;
    let outcome = node.recover(&["--from", "etcd", "--timeout", "0", "--node-ip", "10.0.0.11"])?;
    let expected = format!("error: somebody listens on port {} and is not ready\n", node.ports[0]);
    ensure!(outcome.code == Some(1) && outcome.stderr.starts_with(&expected), "{outcome:?}");
    ensure!(!node.manifest().exists());
    Ok(())
}

#[test]
fn a_cluster_that_is_not_self_hosted_is_told_so() -> Result<()> {
    let mut node = Node::new()?;
    node.etcd = node.pki.etcd("/registry/something/else", b"{}")?;
    let outcome = node.recover(&[])?;
    ensure!(outcome.code == Some(1), "{outcome:?}");
    ensure!(
        outcome.stderr.starts_with("error: etcd has no DaemonSet self-hosted-kube-apiserver\n"),
        "{outcome:?}"
    );
    ensure!(outcome.stderr.contains("--from kept"), "{outcome:?}");
    Ok(())
}

#[test]
fn without_etcd_nothing_can_be_read_from_it() -> Result<()> {
    let node = Node::new()?;
    let outcome = node.recover(&["--from", "etcd"])?;
    ensure!(
        outcome.code == Some(1) && outcome.stderr.starts_with("error: ask etcd at 127.0.0.1:"),
        "{outcome:?}"
    );
    Ok(())
}

#[test]
fn an_encrypted_daemonset_is_read_with_the_key_of_its_file() -> Result<()> {
    let config = |secret: &str| {
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: \
             ['*.*']\n  providers:\n  - any:\n      keys:\n      - name: key1\n        secret: {secret}\n  - identity: {{}}\n"
        )
    };
    for line in ENCRYPTED.lines() {
        let mut words = line.split(' ');
        let (Some(provider), Some(secret), Some(value)) = (words.next(), words.next(), words.next()) else {
            anyhow::bail!("{line}");
        };
        let value = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, value)?;
        let node = Node::with_etcd(&value)?;
        let closed = node.recover(&["--from", "etcd"])?;
        let expected = format!("encrypted ({provider}, key key1), and no file with its key is known");
        ensure!(closed.code == Some(1) && closed.stderr.contains(&expected), "{closed:?}");
        let file = node.path("encryption.yaml");
        fs::write(&file, config(secret))?;
        let file = file.to_str().context("a temporary path")?;
        let opened = node.recover(&["--from", "etcd", "--encryption-provider-config", file])?;
        // What was encrypted is the least that is a DaemonSet.
        ensure!(opened.stderr.contains("the template has no container kube-apiserver"), "{opened:?}");
    }
    Ok(())
}

#[test]
fn the_kept_manifest_comes_back_only_when_it_is_asked_for() -> Result<()> {
    let node = Node::new()?;
    let kept = node.keep("registry.k8s.io/kube-apiserver:v1.36.3")?;
    ensure!(node.recover(&["--timeout", "0"])?.code == Some(1) && !node.manifest().exists());
    let outcome = node.recover(&["--from", "kept", "--timeout", "0"])?;
    ensure!(outcome.says("names registry.k8s.io/kube-apiserver:v1.36.3."), "{outcome:?}");
    ensure!(fs::read_to_string(node.manifest())? == kept);
    Ok(())
}

#[test]
fn a_kept_manifest_that_is_too_old_stays_where_it_is() -> Result<()> {
    let node = Node::with_etcd(STORED)?;
    node.keep("registry.k8s.io/kube-apiserver:v1.35.0")?;
    let outcome = node.recover(&["--from", "kept", "--timeout", "0"])?;
    ensure!(outcome.stderr.starts_with("error: the kept manifest is of "), "{outcome:?}");
    ensure!(!node.manifest().exists());
    Ok(())
}

#[test]
fn elsewhere_than_on_a_control_plane_node_it_says_so() -> Result<()> {
    let node = Node::new()?;
    fs::remove_dir(node.path("manifests"))?;
    let outcome = node.recover(&[])?;
    ensure!(outcome.code == Some(1) && outcome.said.is_empty(), "{outcome:?}");
    ensure!(outcome.stderr.starts_with("error: look into "), "{outcome:?}");
    ensure!(outcome.stderr.contains("hint: run it on a control-plane node"), "{outcome:?}");
    Ok(())
}

/// Kills runs at many instants; what each leaves is nothing or whole, and the next run ends as if nothing had happened.
fn killed_at_any_time(source: &str, written: &[(&str, &str)]) -> Result<()> {
    let first = Node::new()?;
    first.checkpoint(["v1.36.3", "v1.37.2"])?;
    let args = ["--from", source, "--timeout", "0"];
    // A node on which nothing is in its place.
    let prepare = || -> Result<Node> {
        let node = Node::new()?;
        node.keep("registry.k8s.io/kube-apiserver:v1.36.3")?;
        fs::create_dir_all(node.path("state/checkpoints"))?;
        for slot in ["a", "b"] {
            let copy = format!("state/checkpoints/control-plane-standby-{slot}.yaml");
            fs::copy(first.path(&copy), node.path(&copy))?;
        }
        Ok(node)
    };
    let node = prepare()?;
    let start = Instant::now();
    node.recover(&args)?;
    let life = start.elapsed();
    for instant in 0..KILLS {
        let delay = life * instant / KILLS;
        let node = prepare()?;
        let mut child = node.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        thread::sleep(delay);
        // Fails when it has ended already.
        let _ = child.kill();
        child.wait()?;
        for (file, from) in written {
            let (file, from) = (node.path(file), node.path(from));
            ensure!(!file.exists() || fs::read(file)? == fs::read(from)?, "damaged after {delay:?}");
        }
        node.recover(&args)?;
        for (file, from) in written {
            ensure!(fs::read(node.path(file))? == fs::read(node.path(from))?, "not there after {delay:?}");
        }
    }
    Ok(())
}

#[test]
fn putting_the_kept_manifest_back_survives_being_killed() -> Result<()> {
    killed_at_any_time("kept", &[("manifests/kube-apiserver.yaml", "state/manifests/kube-apiserver.yaml")])
}

#[test]
fn putting_the_checkpoint_back_survives_being_killed() -> Result<()> {
    let [a, b] = ["a", "b"].map(|slot| format!("manifests/control-plane-standby-{slot}.yaml"));
    let [from_a, from_b] =
        ["a", "b"].map(|slot| format!("state/checkpoints/control-plane-standby-{slot}.yaml"));
    killed_at_any_time("checkpoint", &[(&a, &from_a), (&b, &from_b)])
}
