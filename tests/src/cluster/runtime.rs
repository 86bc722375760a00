//! The container runtime of a node, and the images in it.
//!
//! Invariant: nothing is pulled. Every image a Pod may name, by tag or by digest, was imported.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::machine::Machine;
use super::network::pod_subnet;
use crate::images::store::NAMESPACE;
use crate::images::{self, Image, PAUSE_TAG};
use crate::progress::Progress;

/// Where containerd keeps images on a node.
pub(super) const STORE: &str = "/var/lib/containerd";

/// Puts containerd and the Pod network on the node's disk.
pub(super) fn install(machine: &Machine) -> Result<()> {
    machine.write("/etc/containerd/config.toml", &containerd_config())?;
    let network = json!({
        "cniVersion": "0.4.0",
        "name": "bed",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": pod_subnet(machine.node().host)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    machine.write("/etc/cni/net.d/10-bed.conflist", &network.to_string())?;
    machine.service("containerd", "exec containerd --config /etc/containerd/config.toml")
}

/// Imports `image` and makes its digest known by name, as a pull would.
pub(super) fn load(machine: &Machine, image: &Image) -> Result<()> {
    import(machine, &image.archive)?;
    machine
        .run(
            "ctr",
            &["--namespace", NAMESPACE, "images", "tag", "--force", &image.reference, &image.by_digest()],
        )
        .map(drop)
}

/// Imports any image archive; one in OCI layout becomes known by its digest, too.
pub(super) fn load_file(machine: &Machine, archive: &Path, progress: &Progress) -> Result<()> {
    match images::read(archive) {
        Ok(image) => load(machine, &image),
        Err(error) => {
            progress.line(format_args!("{}: known by tag only ({error:#})", archive.display()));
            import(machine, archive)
        }
    }
}

fn import(machine: &Machine, archive: &Path) -> Result<()> {
    let file = File::open(archive).with_context(|| format!("open {}", archive.display()))?;
    let mut import = machine.command("ctr")?;
    let out = import
        .args(["--namespace", NAMESPACE, "images", "import", "-"])
        .stdin(file)
        .output()
        .context("run ctr images import")?;
    if !out.status.success() {
        let text = String::from_utf8_lossy(&out.stderr);
        bail!("import {} on node {}: {}", archive.display(), machine.node().name, text.trim_end());
    }
    Ok(())
}

fn containerd_config() -> String {
    format!(
        r#"version = 2
root = "{STORE}"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  # Where CAP_SYS_RESOURCE is missing nothing may be made less likely to be killed than containerd itself.
  restrict_oom_score_adj = true
  sandbox_image = "registry.k8s.io/pause:{PAUSE_TAG}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"#
    )
}
