//! One cluster from its beginning to its end.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use selfhost_tests::{Cluster, MoreImages, Progress, Spec, paths};

use crate::traces::{Marks, machine};

/// The command under test.
const BED: &str = env!("CARGO_BIN_EXE_bed");

/// A limit of the whole machine that several kubelets exceed.
const LIMIT: &str = "/proc/sys/fs/inotify/max_user_instances";

#[test]
fn a_cluster_works_survives_a_power_cut_and_leaves_nothing_behind() -> Result<()> {
    let before = machine();
    let alone = Cluster::list()?.is_empty();
    let limit = std::fs::read_to_string(LIMIT)?;
    let directory = tempfile::tempdir()?;
    let documents = directory.path().join("kubeadm.yaml");
    std::fs::write(&documents, "kind: ClusterConfiguration\nclusterName: another-name\n")?;
    let mut spec = Spec::new("e2e-bed-one".parse()?);
    spec.kubeadm_config = Some(documents);
    let cluster = Cluster::up(&spec, &Progress::stderr())?;
    let marks = Marks::of(&cluster)?;
    let kinds = marks.kinds();
    ensure!(
        kinds.iter().copied().eq(["cgroup", "file", "link", "namespace", "process"]),
        "the search finds all there is of a running cluster, but it found {kinds:?}"
    );

    kubeadm_documents_are_merged(&cluster)?;
    the_client_reaches_the_service(&cluster)?;
    an_image_is_known_by_its_digest(&cluster)?;
    exit_codes_are_passed_on()?;
    a_second_one_of_that_name_is_refused()?;
    a_power_cut_takes_all_but_the_disk(&cluster)?;

    drop(cluster);
    assert_eq!(marks.found(), []);
    assert_eq!(machine(), before);
    // Raised for all clusters, and lowered again with the last.
    if alone && Cluster::list()?.is_empty() {
        assert_eq!(std::fs::read_to_string(LIMIT)?, limit);
        ensure!(!Path::new(paths::STATE).exists(), "the directory of all clusters was left");
    }
    let again = Command::new(BED).args(["down", "--name", "e2e-bed-one"]).output()?;
    ensure!(again.status.success() && again.stderr.is_empty(), "{again:?}");
    Ok(())
}

fn kubeadm_documents_are_merged(cluster: &Cluster) -> Result<()> {
    let get = ["-n", "kube-system", "get", "configmap", "kubeadm-config", "-o", "yaml"];
    let config = cluster.kubectl(&get)?;
    ensure!(config.contains("clusterName: another-name"), "{config}");
    ensure!(config.contains("kubernetesVersion: v1.36.3"), "{config}");
    Ok(())
}

fn the_client_reaches_the_service(cluster: &Cluster) -> Result<()> {
    // kube-proxy writes its rules in its own time.
    await_some("the Service to answer inside", || {
        let ask = ["curl", "-sk", "--max-time", "5", "https://10.96.0.1/readyz"];
        Ok(cluster.exec("client", &ask).ok().filter(|answer| answer == "ok"))
    })?;
    let mut curl = cluster.network_command("client", "curl")?;
    let output = curl.args(["-sk", "--max-time", "5", "https://10.96.0.1/readyz"]).output()?;
    ensure!(output.stdout == b"ok", "from this machine's files: {output:?}");
    Ok(())
}

fn an_image_is_known_by_its_digest(cluster: &Cluster) -> Result<()> {
    let image = cluster.node_image()?;
    ensure!(image.contains("@sha256:"), "{image}");
    let spec = serde_json::json!({"spec": {
        "nodeName": "cp1",
        "containers": [{"name": "nft", "image": image, "imagePullPolicy": "IfNotPresent",
                        "command": ["/usr/sbin/nft", "--version"]}],
    }});
    // A default ServiceAccount is made a moment after the cluster.
    await_some("a Pod of the node image", || {
        let overrides = spec.to_string();
        let run = ["run", "nft", "--restart=Never", "--image", image, "--overrides", &overrides];
        Ok(cluster.kubectl(&run).ok())
    })?;
    let phase = ["get", "pod", "nft", "-o", "jsonpath={.status.phase}"];
    await_some("the end of the Pod", || {
        Ok(cluster.kubectl(&phase).ok().filter(|phase| phase == "Succeeded"))
    })?;
    let said = cluster.kubectl(&["logs", "nft"])?;
    ensure!(said.starts_with("nftables v"), "{said}");
    Ok(())
}

fn exit_codes_are_passed_on() -> Result<()> {
    let exec = |script: &str| {
        let words = ["exec", "--name", "e2e-bed-one", "--node", "cp1", "--", "sh", "-c", script];
        Command::new(BED).args(words).output()
    };
    let output = exec("hostname; echo why >&2; exit 42")?;
    assert_eq!(output.status.code(), Some(42));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"cp1\n"[..], &b"why\n"[..]));
    assert_eq!(exec("exit 0")?.status.code(), Some(0));
    Ok(())
}

fn a_second_one_of_that_name_is_refused() -> Result<()> {
    let output = Command::new(BED).args(["up", "--name", "e2e-bed-one"]).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    ensure!(
        text.starts_with("error: cluster e2e-bed-one exists\nhint: cargo bed down --name e2e-bed-one"),
        "{text}"
    );
    Ok(())
}

fn a_power_cut_takes_all_but_the_disk(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["create", "configmap", "kept"])?;
    let restarts = |node: &str| {
        let pod = format!("kube-apiserver-{node}");
        let path =
            "-o=jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}";
        cluster.kubectl(&["-n", "kube-system", "get", "pod", &pod, path, "--request-timeout=2s"])
    };
    let before = await_some("the API server to be ready", || {
        Ok(restarts("cp1").ok().and_then(|text| text.strip_suffix(" true")?.parse::<u32>().ok()))
    })?;
    let card = || cluster.exec("cp1", &["cat", "/sys/class/net/eth0/address"]);
    let card_before = card()?;
    let begin = Instant::now();
    cluster.power_cut("cp1")?;
    ensure!(begin.elapsed() < Duration::from_secs(5), "it took {:?}", begin.elapsed());
    assert_eq!(cluster.switched_off(), ["cp1"]);
    ensure!(
        cluster.kubectl(&["get", "nodes", "--request-timeout=2s"]).is_err(),
        "the API server still answers"
    );
    let error = cluster.exec("cp1", &["true"]).err().context("a node without power runs commands")?;
    ensure!(error.to_string().contains("switched off"), "{error:#}");
    ensure!(cluster.node_dir("cp1", "/etc/kubernetes/admin.conf")?.exists(), "the disk is gone");

    cluster.boot("cp1")?;
    assert_eq!(cluster.switched_off(), Vec::<&str>::new());
    ensure!(cluster.boot("cp1").is_err(), "a running node was booted");
    assert_eq!(card()?, card_before, "neighbours go on sending to the card that they know");
    let after = await_some("the API server to come back", || {
        Ok(restarts("cp1")
            .ok()
            .and_then(|text| text.strip_suffix(" true")?.parse::<u32>().ok())
            .filter(|n| *n > before))
    })?;
    assert_eq!(after, before + 1);
    cluster.kubectl(&["get", "configmap", "kept"])?;
    Ok(())
}

#[test]
fn what_a_killed_up_left_is_replaced_by_the_next_and_removed_by_down() -> Result<()> {
    let name = "e2e-bed-killed";
    for step in ["nodes started", "kubeadm init"] {
        killed_up(name, step)?;
        let spec = Spec { more: MoreImages::NONE, ..Spec::new(name.parse()?) };
        let cluster = Cluster::up(&spec, &Progress::stderr())?;
        let marks = Marks::of(&cluster)?;
        cluster.kubectl(&["get", "--raw", "/readyz"])?;
        drop(cluster);
        assert_eq!(marks.found(), []);

        killed_up(name, step)?;
        ensure!(!marks.found().is_empty(), "the killed run left nothing to remove");
        Cluster::down(&name.parse()?, &Progress::stderr())?;
        assert_eq!(marks.found(), []);
    }
    Ok(())
}

/// Runs `up` and kills it (and nothing else) after the line about `step`.
fn killed_up(name: &str, step: &str) -> Result<()> {
    let mut up = Command::new(BED)
        .args(["up", "--name", name, "--no-upgrade-images", "--no-own-images"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(up.stderr.take().context("its standard error")?).lines();
    let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains(step)));
    up.kill()?;
    up.wait()?;
    line.with_context(|| format!("up never said {step:?}"))?.map(drop).context("read its standard error")
}

/// Asks until there is an answer, a minute and a half at most.
pub(crate) fn await_some<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        ensure!(begin.elapsed() < Duration::from_secs(90), "waited 90 s in vain for {what}");
        std::thread::sleep(Duration::from_millis(500));
    }
}
