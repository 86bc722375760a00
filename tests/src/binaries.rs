//! Kubernetes and etcd, built from module sources into the cache.
//!
//! Invariant: a binary in the cache was built whole (it is renamed into place) from what the stamp beside it names:
//! version, flags, Go and every module's checksum. Any other stamp throws the binaries away.

mod go;
mod module;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use selfhost_core::version::KubeVersion;
use sha2::{Digest, Sha256};

use crate::progress::Progress;
use crate::{command, host, lock, paths};
use go::Go;
use module::Module;

/// etcd of every cluster, whatever its Kubernetes version: one that all of them support.
pub const ETCD_VERSION: &str = "v3.6.8";

/// The tag kubeadm gives the image of [`ETCD_VERSION`].
pub const ETCD_TAG: &str = "3.6.8-0";

/// The etcd that clusters of [`ETCD_VERSION`] are upgraded to.
pub const ETCD_UPGRADE_VERSION: &str = "v3.6.16";

/// The tag of the image of [`ETCD_UPGRADE_VERSION`].
pub const ETCD_UPGRADE_TAG: &str = "3.6.16-0";

/// The tag of an image of [`ETCD_UPGRADE_VERSION`] that tells its version and does not start.
pub const ETCD_BAD_TAG: &str = "3.6.16-1";

/// Kubernetes binaries, each `k8s.io/kubernetes/cmd/<name>`. The slowest first: the rest shares its packages.
const KUBERNETES: [&str; 7] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubeadm",
    "kubelet",
    "kubectl",
    "kube-proxy",
];

/// etcd's binaries and their main packages.
const ETCD: [(&str, &str); 3] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("etcdctl", "go.etcd.io/etcd/etcdctl/v3"),
    ("etcdutl", "go.etcd.io/etcd/etcdutl/v3"),
];

/// Source of the program that does nothing: process 1 of Pod sandboxes and of nodes.
const PAUSE: &str = include_str!("binaries/pause.c");

/// The binaries of one Kubernetes version, and etcd.
#[derive(Debug, Clone)]
pub struct Binaries {
    cache: PathBuf,
    version: KubeVersion,
}

impl Binaries {
    /// Builds what the cache lacks of `version`, of etcd and of `pause`. Waits if another process builds.
    ///
    /// 15 minutes on two cores with nothing cached, well under a second when all is there.
    pub fn ensure(version: &KubeVersion, progress: &Progress) -> Result<Self> {
        let cache = paths::cache()?;
        let builder = Builder { cache: &cache, progress, go: Go::find(&cache, progress)? };
        pause(&cache.join("tools"), progress)?;
        builder.build(&kubernetes(version))?;
        builder.build(&etcd(ETCD_VERSION, Module::etcd()))?;
        Self::cached(version)
    }

    /// Builds etcd [`ETCD_UPGRADE_VERSION`] if the cache lacks it; the directory with its programs.
    pub(crate) fn ensure_etcd_upgrade(progress: &Progress) -> Result<PathBuf> {
        let cache = paths::cache()?;
        let builder = Builder { cache: &cache, progress, go: Go::find(&cache, progress)? };
        let set = etcd(ETCD_UPGRADE_VERSION, Module::etcd_upgrade());
        builder.build(&set)?;
        Ok(cache.join(set.name))
    }

    /// Those of a version that was built before.
    pub(crate) fn cached(version: &KubeVersion) -> Result<Self> {
        Ok(Self { cache: paths::cache()?, version: version.clone() })
    }

    /// The Kubernetes version these are.
    pub fn version(&self) -> &KubeVersion {
        &self.version
    }

    /// Path of a Kubernetes binary, of `etcd`, `etcdctl`, `etcdutl`, or of `pause`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.cache.join(directory_of(&self.version, name)).join(name)
    }

    /// Root of the cache, which nodes see as `/run/bed-binaries`.
    pub fn root(&self) -> &Path {
        &self.cache
    }
}

/// Directory of the binary `name`, relative to the cache.
fn directory_of(version: &KubeVersion, name: &str) -> String {
    if name == "pause" {
        "tools".to_owned()
    } else if ETCD.iter().any(|(binary, _)| *binary == name) {
        format!("etcd-{ETCD_VERSION}")
    } else {
        version.to_string()
    }
}

/// A set of binaries out of one Go module.
struct Set {
    /// Directory of the set, relative to the cache.
    name: String,
    /// Binary and main package.
    binaries: Vec<(&'static str, String)>,
    ldflags: String,
    module: Module,
}

fn kubernetes(version: &KubeVersion) -> Set {
    let minor = version.minor;
    Set {
        name: version.to_string(),
        binaries: KUBERNETES.map(|name| (name, format!("k8s.io/kubernetes/cmd/{name}"))).to_vec(),
        ldflags: format!(
            "-s -w -X k8s.io/component-base/version.gitVersion={version} \
             -X k8s.io/component-base/version.gitMajor={} -X k8s.io/component-base/version.gitMinor={minor} \
             -X k8s.io/client-go/pkg/version.gitVersion={version}",
            version.major
        ),
        module: Module::kubernetes(version),
    }
}

fn etcd(version: &str, module: Module) -> Set {
    Set {
        name: format!("etcd-{version}"),
        binaries: ETCD.map(|(name, package)| (name, package.to_owned())).to_vec(),
        ldflags: "-s -w".to_owned(),
        module,
    }
}

struct Builder<'a> {
    cache: &'a Path,
    progress: &'a Progress,
    go: Go,
}

impl Builder<'_> {
    /// Builds the binaries of `set` that are missing or that another recipe made.
    fn build(&self, set: &Set) -> Result<()> {
        let directory = self.cache.join(&set.name);
        let _lock = locked(&directory, self.progress)?;
        let source = directory.join("src");
        let stamp = directory.join("stamp");
        let known = fs::read_to_string(&stamp).ok();
        let go = &self.go;
        fs::create_dir_all(&source).with_context(|| format!("create {}", source.display()))?;
        if let Err(error) = set.module.write(&source, go) {
            // A version that does not exist leaves nothing.
            if known.is_none() {
                fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))?;
            }
            return Err(error.context(format!("prepare the module of {}", set.name)));
        }
        let key = key(set, &source, go.version())?;
        if known.as_deref() != Some(key.as_str()) {
            for (name, _) in &set.binaries {
                remove(&directory.join(name))?;
            }
            fs::write(&stamp, &key).with_context(|| format!("write {}", stamp.display()))?;
        }
        let missing: Vec<_> =
            set.binaries.iter().filter(|(name, _)| !directory.join(name).exists()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        host::check_build_room(self.cache)?;
        let count = missing.len();
        self.progress.line(format_args!("building {count} binaries of {} with {}", set.name, go.version()));
        for (index, (name, package)) in missing.into_iter().enumerate() {
            let what = format!("build {} {name} ({} of {count})", set.name, index + 1);
            let start = Instant::now();
            let fresh = directory.join(format!(".{name}.new"));
            let mut build = go.command(&source);
            build.args(["build", "-trimpath", "-ldflags", &set.ldflags, "-o"]).arg(&fresh).arg(package);
            command::logged(&mut build, &directory.join("build.log"), self.progress, &what)?;
            fs::rename(&fresh, directory.join(name)).with_context(|| format!("install {name}"))?;
            self.progress.line(format_args!("{what}: {} s", start.elapsed().as_secs()));
        }
        Ok(())
    }
}

/// A digest of all that a build depends on, after the Go version for those who read it.
fn key(set: &Set, source: &Path, go: &str) -> Result<String> {
    let mut digest = Sha256::new();
    for part in [set.name.as_bytes(), set.ldflags.as_bytes(), go.as_bytes()] {
        digest.update(part);
        digest.update([0]);
    }
    for file in ["go.mod", "go.sum"] {
        let path = source.join(file);
        digest.update(fs::read(&path).with_context(|| format!("read {}", path.display()))?);
        digest.update([0]);
    }
    Ok(format!("{go}\n{}\n", crate::images::hex(&digest.finalize())))
}

/// Builds `pause` when it is missing or its source changed.
fn pause(directory: &Path, progress: &Progress) -> Result<()> {
    let _lock = locked(directory, progress)?;
    let source = directory.join("pause.c");
    let binary = directory.join("pause");
    if binary.exists() && fs::read_to_string(&source).is_ok_and(|text| text == PAUSE) {
        return Ok(());
    }
    remove(&binary)?;
    fs::write(&source, PAUSE).with_context(|| format!("write {}", source.display()))?;
    let fresh = directory.join(".pause.new");
    command::output(Command::new("cc").args(["-O2", "-static", "-s", "-o"]).arg(&fresh).arg(&source))
        .context("build pause")?;
    fs::rename(&fresh, &binary).context("install pause")
}

/// One process at a time builds what lies in `directory`.
fn locked(directory: &Path, progress: &Progress) -> Result<lock::Lock> {
    lock::directory(directory, || {
        progress.line(format_args!("another process builds {}; waiting", directory.display()));
    })
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
