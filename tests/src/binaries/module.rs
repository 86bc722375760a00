//! Go modules of our own that require what is built.
//!
//! Invariant: what is committed is used as committed; any other version gets its module from the same recipe, so that
//! `go.sum` pins it from the first build on.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use selfhost_core::version::KubeVersion;

use super::go::Go;
use crate::command;
use crate::refusal::Refusal;

/// Module path of the modules under `tests/go`.
const PATH: &str = "github.com/kubectl-selfhost/kubectl-selfhost/tests/go/kubernetes";

/// The `go` directive of a generated module.
const GO_DIRECTIVE: &str = "1.26.0";

/// Imports of everything that is built from the Kubernetes module.
const KUBERNETES_TOOLS: &str = include_str!("../../go/tools.go");

/// A module that builds a set of binaries.
pub(super) enum Module {
    /// Committed with its checksums.
    Committed { go_mod: &'static str, go_sum: &'static str, tools: &'static str },
    /// Made on first use, by asking the module proxy.
    Generated(KubeVersion),
}

impl Module {
    /// The module for a Kubernetes version.
    pub(super) fn kubernetes(version: &KubeVersion) -> Self {
        match version.to_string().as_str() {
            "v1.36.3" => Self::Committed {
                go_mod: include_str!("../../go/v1.36.3/go.mod"),
                go_sum: include_str!("../../go/v1.36.3/go.sum"),
                tools: KUBERNETES_TOOLS,
            },
            "v1.37.2" => Self::Committed {
                go_mod: include_str!("../../go/v1.37.2/go.mod"),
                go_sum: include_str!("../../go/v1.37.2/go.sum"),
                tools: KUBERNETES_TOOLS,
            },
            _ => Self::Generated(version.clone()),
        }
    }

    /// The module for etcd.
    pub(super) fn etcd() -> Self {
        Self::Committed {
            go_mod: include_str!("../../go/etcd/go.mod"),
            go_sum: include_str!("../../go/etcd/go.sum"),
            tools: include_str!("../../go/etcd/tools.go"),
        }
    }

    /// The module for the etcd that clusters are upgraded to.
    pub(super) fn etcd_upgrade() -> Self {
        Self::Committed {
            go_mod: include_str!("../../go/etcd-upgrade/go.mod"),
            go_sum: include_str!("../../go/etcd-upgrade/go.sum"),
            tools: include_str!("../../go/etcd/tools.go"),
        }
    }

    /// Puts go.mod, go.sum and tools.go into `directory`.
    pub(super) fn write(&self, directory: &Path, go: &Go) -> Result<()> {
        match self {
            Self::Committed { go_mod, go_sum, tools } => {
                for (name, text) in [("go.mod", go_mod), ("go.sum", go_sum), ("tools.go", tools)] {
                    write(&directory.join(name), text)?;
                }
                Ok(())
            }
            Self::Generated(version) => generate(version, directory, go),
        }
    }
}

/// Requires Kubernetes at `version` and replaces each of its staging modules by that module's published twin.
fn generate(version: &KubeVersion, directory: &Path, go: &Go) -> Result<()> {
    // Written last, so its presence says that the others are whole.
    let done = directory.join("generated");
    if done.exists() {
        return Ok(());
    }
    let _ = fs::remove_file(directory.join("go.mod"));
    let mut download = go.command(directory);
    let answer = download
        .args(["mod", "download", "-json", &format!("k8s.io/kubernetes@{version}")])
        .output()
        .context("run go mod download")?;
    // Also a failure is told in JSON.
    let answer: serde_json::Value =
        serde_json::from_slice(&answer.stdout).context("read the answer of go mod download")?;
    if let Some(error) = answer["Error"].as_str() {
        return Err(Refusal::new(
            format!("no k8s.io/kubernetes {version}: {}", error.lines().next().unwrap_or_default()),
            "give a released version such as v1.37.2; the Go module proxy has to be reachable",
        )
        .into());
    }
    let upstream = PathBuf::from(answer["Dir"].as_str().context("go mod download names no directory")?);
    let upstream =
        fs::read_to_string(upstream.join("go.mod")).context("read the go.mod of k8s.io/kubernetes")?;
    write(&directory.join("go.mod"), &go_mod(version, &upstream))?;
    write(&directory.join("tools.go"), KUBERNETES_TOOLS)?;
    command::output(go.command(directory).args(["mod", "tidy"]))?;
    write(&done, "")
}

/// The go.mod for `version`, given the one of k8s.io/kubernetes itself.
fn go_mod(version: &KubeVersion, upstream: &str) -> String {
    let twin = version.to_string().replacen("v1.", "v0.", 1);
    let mut text =
        format!("module {PATH}\n\ngo {GO_DIRECTIVE}\n\nrequire k8s.io/kubernetes {version}\n\nreplace (\n");
    for line in upstream.lines() {
        if let Some((module, _)) = line.trim().trim_start_matches("replace ").split_once(" => ./staging/") {
            let _ = writeln!(text, "\t{module} => {module} {twin}");
        }
    }
    text + ")\n"
}

/// Writes only what differs: Go caches by modification time.
fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_modules_are_replaced_by_their_twins() {
        let upstream = "module k8s.io/kubernetes\n\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\
                        \tk8s.io/other => example.com/fork v1.0.0\n)\n";
        let text = go_mod(&"v1.35.7".parse().unwrap(), upstream);
        assert!(text.contains("\tk8s.io/api => k8s.io/api v0.35.7\n"), "{text}");
        assert!(!text.contains("k8s.io/other"), "{text}");
        assert!(text.contains("require k8s.io/kubernetes v1.35.7\n"), "{text}");
    }

    #[test]
    fn committed_modules_require_the_version_they_are_for() {
        for version in ["v1.36.3", "v1.37.2"] {
            let Module::Committed { go_mod, go_sum, .. } = Module::kubernetes(&version.parse().unwrap())
            else {
                panic!("{version} is committed");
            };
            assert!(go_mod.contains(&format!("require k8s.io/kubernetes {version}\n")));
            assert!(go_sum.contains(&format!("k8s.io/kubernetes {version} h1:")));
        }
        let etcd = super::super::ETCD_VERSION;
        let upgrade = super::super::ETCD_UPGRADE_VERSION;
        for (version, module) in [(etcd, Module::etcd()), (upgrade, Module::etcd_upgrade())] {
            let Module::Committed { go_mod, go_sum, .. } = module else { panic!("{version} is committed") };
            assert!(go_mod.contains(&format!("go.etcd.io/etcd/server/v3 {version}\n")));
            assert!(go_sum.contains(&format!("go.etcd.io/etcd/server/v3 {version} h1:")));
        }
    }
}
