//! `status` with the rights that the documentation hands out, with fewer, and with none, on a real API server.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use selfhost_tests::cluster::UPGRADE_VERSION;
use selfhost_tests::{ApiServer, Progress, docs, drive};
use serde_json::Value;

fn status(server: &ApiServer, group: &str, format: &str) -> Result<Output> {
    Command::new(drive::plugin()?)
        .args(["status", "-o", format, "--as", "ann", "--as-group", group])
        .env("KUBECONFIG", server.kubeconfig())
        .output()
        .context("run the plugin")
}

/// The subjects of the findings that say that something could not be read.
fn unreadable(server: &ApiServer, group: &str) -> Result<Vec<String>> {
    let output = status(server, group, "json")?;
    let report: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
    let findings = report["findings"].as_array().context("findings")?.clone();
    let unreadable = findings.iter().filter(|finding| finding["code"] == "SH0001");
    Ok(unreadable.map(|finding| format!("{} {}", finding["subject"], finding["message"])).collect())
}

#[test]
fn status_needs_exactly_the_rights_that_the_documentation_lists() -> Result<()> {
    let server = ApiServer::start(&UPGRADE_VERSION.parse()?, &Progress::stderr())?;
    server.kubectl(&["create", "namespace", "other"])?;

    let nothing = unreadable(&server, "strangers")?;
    ensure!(nothing.len() >= 6, "each part that could not be read is told: {nothing:?}");
    for format in ["table", "wide", "json", "yaml"] {
        let output = status(&server, "strangers", format)?;
        ensure!(output.status.code() == Some(0), "missing rights are warnings in {format}: {output:?}");
    }

    docs::apply_roles(server.kubectl_command())?;
    let begin = Instant::now();
    loop {
        // The API server's authorizer hears of new rules through a watch.
        let left = unreadable(&server, "control-plane-viewers")?;
        if left.is_empty() {
            break;
        }
        ensure!(begin.elapsed() < Duration::from_secs(20), "still unreadable: {left:?}");
    }

    server.kubectl(&["delete", "rolebinding", "selfhost-status", "-n", "default"])?;
    let begin = Instant::now();
    loop {
        let left = unreadable(&server, "control-plane-viewers")?;
        if left.len() == 1 && left[0].contains("service") {
            return Ok(());
        }
        ensure!(begin.elapsed() < Duration::from_secs(20), "one right less is one finding more: {left:?}");
    }
}
