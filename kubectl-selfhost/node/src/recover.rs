//! Brings an API server back on a node that has none, without an API: run by a person, as root, on the node.
//!
//! One API server is enough. As soon as it serves, the kubelet learns of its other Pods, and kube-controller-manager
//! and kube-scheduler are among them.
//!
//! Invariants: nothing is overwritten but a checkpoint's damaged manifest, by a good copy of it; etcd is read and never
//! written; whoever runs it again after a kill ends where the first run would have ended.

mod address;
mod decrypt;
mod manifest;
mod protobuf;
pub(crate) mod scan;
mod schema;
mod slots;
mod stored;
pub(crate) mod watch;

use std::fmt;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rustix::fs::{Access, access};
use rustix::io::Errno;
use serde_json::Value;

pub(crate) use self::manifest::is_recovered;
use self::watch::{Seen, Servers, Waited};
use crate::etcd::{self, Endpoint, Etcd};
use crate::files::{self, Content};
use crate::tls::{self, Credentials};
use crate::{checkpoint, sockets};

/// The DaemonSet of the API server: kubeadm's own name of it, below the prefix that every cluster of kubeadm has.
const DAEMON_SET: &str = "/registry/daemonsets/kube-system/self-hosted-kube-apiserver";

/// The static Pod's manifest, among the static ones and among the kept ones.
const MANIFEST: &str = "kube-apiserver.yaml";

/// The directory of kept manifests, below the state directory.
const KEPT: &str = "manifests";

/// How many minor versions an API server may be behind the one that wrote to etcd last
/// (<https://kubernetes.io/releases/version-skew-policy/#kube-apiserver>).
const SKEW: u32 = 1;

/// Where to look, and what may be done.
#[derive(Debug)]
pub(crate) struct Config {
    /// The directory of static manifests.
    pub(crate) manifests: PathBuf,
    /// The node part's own directory.
    pub(crate) state: PathBuf,
    /// The cluster's certificates and keys.
    pub(crate) pki: PathBuf,
    pub(crate) etcd: Endpoint,
    /// The file with the keys that etcd's values are encrypted with.
    pub(crate) encryption: Option<PathBuf>,
    pub(crate) source: Source,
    /// The address that the API server is to advertise.
    pub(crate) node_ip: Option<IpAddr>,
    /// The API server's own port, and the one of its standby.
    pub(crate) ports: [u16; 2],
    /// How long to wait for an API server.
    pub(crate) timeout: Duration,
    pub(crate) dry_run: bool,
}

/// What an API server is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The checkpoint, or else etcd.
    Auto,
    /// What served last, as this node keeps it.
    Checkpoint,
    /// The DaemonSet, as etcd has it.
    Etcd,
    /// The static manifest that the pivot took away.
    Kept,
}

/// Text that is no source.
#[derive(Debug, thiserror::Error)]
#[error("not auto, checkpoint, etcd or kept")]
pub(crate) struct NoSource;

/// No API server is back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("not allowed to write to {}", .0.display())]
    NotAllowed(PathBuf),
    #[error("look into {}", path.display())]
    Manifests { path: PathBuf, source: Errno },
    #[error(transparent)]
    Credentials(#[from] tls::Error),
    #[error(transparent)]
    File(#[from] files::Error),
    #[error(transparent)]
    Sockets(#[from] sockets::Error),
    #[error("neither {} nor {} holds a good checkpoint", manifests.display(), copies.display())]
    NoCheckpoint { manifests: PathBuf, copies: PathBuf },
    #[error("checkpoint {} reads back damaged", .0.display())]
    Damaged(PathBuf),
    #[error("{what} is of {image}, and the cluster of {cluster}: more than one minor version apart")]
    TooOld { what: String, image: String, cluster: String },
    #[error(transparent)]
    Etcd(#[from] etcd::Error),
    #[error("read {DAEMON_SET}")]
    Stored(#[from] stored::Error),
    #[error("etcd has no DaemonSet self-hosted-kube-apiserver")]
    NoDaemonSet,
    #[error("make a static Pod of the DaemonSet in etcd")]
    Template(#[from] manifest::Error),
    #[error("there is no kept manifest {}", .0.display())]
    NotKept(PathBuf),
    #[error("a different manifest {} is in place", .0.display())]
    InPlace(PathBuf),
    #[error("somebody listens on port {0} and is not ready")]
    Taken(u16),
    #[error("no API server is ready after {} s: {seen}", timeout.as_secs())]
    NotReady { timeout: Duration, seen: Seen },
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::NotAllowed(_) => "run it as root",
            Self::Manifests { .. } => {
                "run it on a control-plane node; name the kubelet's directory of static Pods: --manifests DIR"
            }
            Self::Credentials(_) => {
                "run it on a control-plane node; name the cluster's PKI directory: --pki DIR"
            }
            Self::File(_) | Self::Damaged(_) => "check the node's disk: whether it has room, and is writable",
            Self::Sockets(_) => "it needs /proc of a Linux node",
            Self::NoCheckpoint { .. } => "selfhost-node recover --from etcd",
            Self::TooOld { .. } => {
                "selfhost-node recover --from etcd starts the version that the cluster has"
            }
            Self::Etcd(error) => error.hint(),
            Self::Stored(error) => error.hint(),
            Self::NoDaemonSet => {
                "this control plane is not self-hosted, or the DaemonSet was deleted: selfhost-node recover --from kept \
                 starts the API server of before the pivot"
            }
            Self::Template(error) => error.hint(),
            Self::NotKept(_) => {
                "a pivot keeps it on each node: try another control-plane node, or name it: --state DIR"
            }
            Self::InPlace(_) => {
                "the kubelet runs that one: crictl ps -a --name kube-apiserver; or move it away and run this again"
            }
            Self::Taken(_) => {
                "wait for it, or see what holds the port: ss -ltnp; crictl ps -a --name kube-apiserver"
            }
            Self::NotReady { seen, .. } => seen.hint(),
        }
    }
}

/// Recovers, and says so line by line; the last line is what to do next.
pub(crate) fn run(config: &Config, out: &mut dyn Write) -> Result<(), Error> {
    // One clear answer for whoever is not root, or not on a control-plane node, before anything is said.
    access(&config.manifests, Access::WRITE_OK | Access::EXEC_OK).map_err(|errno| match errno {
        Errno::ACCESS => Error::NotAllowed(config.manifests.clone()),
        source => Error::Manifests { path: config.manifests.clone(), source },
    })?;
    let servers = Servers::load(&config.pki, &config.ports)?;
    Recovery { config, servers, out }.run()
}

struct Recovery<'a> {
    config: &'a Config,
    servers: Servers,
    out: &'a mut dyn Write,
}

impl Recovery<'_> {
    fn run(&mut self) -> Result<(), Error> {
        if let Some(port) = self.servers.ready() {
            self.say(format_args!("An API server is ready on 127.0.0.1:{port}: nothing to recover."));
            self.next("kubectl selfhost status");
            return Ok(());
        }
        match self.config.source {
            Source::Checkpoint => self.use_checkpoint(),
            Source::Etcd => self.use_etcd(),
            Source::Kept => self.use_kept(),
            Source::Auto => match self.use_checkpoint() {
                // Both before anything was changed.
                Err(error @ (Error::NoCheckpoint { .. } | Error::TooOld { .. })) => {
                    self.say(format_args!("No checkpoint is used: {error}."));
                    self.use_etcd()
                }
                outcome => outcome,
            },
        }
    }

    /// What served last: its manifests are in place, or put back, and the kubelet does the rest.
    fn use_checkpoint(&mut self) -> Result<(), Error> {
        let places = slots::look(&self.config.manifests, &self.config.state)?;
        for place in &places {
            self.say(format_args!("{place}"));
        }
        let Some(latest) = places.iter().filter_map(slots::Place::good).max() else {
            let copies = checkpoint::copies(&self.config.state);
            return Err(Error::NoCheckpoint { manifests: self.config.manifests.clone(), copies });
        };
        if let Some(image) = slots::image(&latest.file)? {
            self.check_age(&format!("checkpoint {}", latest.generation), &image)?;
        }
        for place in &places {
            let Some(copy) = place.missing()? else { continue };
            if self.config.dry_run {
                self.would_write(&place.path, &copy);
            } else {
                if !place.write(&copy)? {
                    return Err(Error::Damaged(place.path.clone()));
                }
                self.say(format_args!("Put back {} from {}.", place.path.display(), place.copy.display()));
            }
        }
        self.wait("kubectl selfhost status")
    }

    /// What the cluster wants to run.
    fn use_etcd(&mut self) -> Result<(), Error> {
        let template = self.template()?.ok_or(Error::NoDaemonSet)?;
        let manifest = manifest::from_template(&template, self.node_ip()?)?;
        let image = manifest::image(&template).unwrap_or_default();
        self.say(format_args!("The DaemonSet in etcd names {image}."));
        if !manifest.left_out.is_empty() {
            let left_out = manifest.left_out.join(", ");
            self.say(format_args!("Left out, because a static Pod cannot have it: {left_out}."));
        }
        self.put(&Content::new(manifest.text, 0o600))?;
        self.wait("kubectl selfhost pivot")
    }

    /// What ran before the pivot.
    fn use_kept(&mut self) -> Result<(), Error> {
        let path = self.kept_path();
        let kept = files::read(&path)?.ok_or_else(|| Error::NotKept(path.clone()))?;
        let text = String::from_utf8_lossy(&kept.bytes);
        let mut images = scan::values(&text, "image");
        let image = images.find(|image| image.contains(manifest::NAME)).unwrap_or("no image").to_owned();
        self.say(format_args!("The manifest {} names {image}.", path.display()));
        self.check_age("the kept manifest", &image)?;
        self.put(&kept)?;
        self.wait("kubectl selfhost pivot")
    }

    /// The template of the DaemonSet in etcd, if there is one.
    fn template(&self) -> Result<Option<Value>, Error> {
        let pki = |name: &str| self.config.pki.join(name);
        let credentials = Credentials {
            ca: pki("etcd/ca.crt"),
            server_name: self.config.etcd.server_name(),
            client: Some((pki("apiserver-etcd-client.crt"), pki("apiserver-etcd-client.key"))),
        };
        let etcd = Etcd::new(self.config.etcd, &credentials)?;
        let Some(stored) = etcd.get(DAEMON_SET)? else { return Ok(None) };
        let keys = match &self.config.encryption {
            Some(path) => Some(path.clone()),
            None => self.kept_flag("--encryption-provider-config")?.map(PathBuf::from),
        };
        Ok(Some(stored::template(stored, DAEMON_SET, keys.as_deref())?))
    }

    /// An API server that is too old for what newer ones have stored must not be started, as far as anybody can know.
    fn check_age(&mut self, what: &str, image: &str) -> Result<(), Error> {
        let cluster = match self.template() {
            Ok(template) => template.as_ref().and_then(manifest::image).map(str::to_owned),
            Err(error) => {
                let why = crate::chain(&error);
                self.say(format_args!("Whether {what} is older than the cluster cannot be known: {why}."));
                None
            }
        };
        let Some(cluster) = cluster else { return Ok(()) };
        match (minor(image), minor(&cluster)) {
            (Some(ours), Some(theirs)) if theirs > ours + SKEW => {
                Err(Error::TooOld { what: what.to_owned(), image: image.to_owned(), cluster })
            }
            _ => Ok(()),
        }
    }

    /// The address that the API server is to advertise, where it can be known.
    fn node_ip(&self) -> Result<Option<IpAddr>, Error> {
        if let Some(address) = self.config.node_ip {
            return Ok(Some(address));
        }
        let advertised = self.kept_flag("--advertise-address")?.and_then(|address| address.parse().ok());
        Ok(advertised.or_else(address::only))
    }

    /// A flag of the kept manifest.
    fn kept_flag(&self, name: &str) -> Result<Option<String>, Error> {
        let kept = files::read(&self.kept_path())?.map(|kept| kept.bytes).unwrap_or_default();
        Ok(scan::flag(&String::from_utf8_lossy(&kept), name).map(str::to_owned))
    }

    fn kept_path(&self) -> PathBuf {
        self.config.state.join(KEPT).join(MANIFEST)
    }

    /// Puts the API server's manifest in its place, if nothing is there.
    fn put(&mut self, content: &Content) -> Result<(), Error> {
        let path = self.config.manifests.join(MANIFEST);
        match files::read(&path)? {
            // An earlier run came this far.
            Some(there) if there.digest == content.digest => {
                self.say(format_args!("{} is in place already.", path.display()));
                return Ok(());
            }
            Some(_) => return Err(Error::InPlace(path)),
            None => {}
        }
        let [own, _] = self.config.ports;
        if sockets::listening()?.contains(&own) {
            return Err(Error::Taken(own));
        }
        if self.config.dry_run {
            self.would_write(&path, content);
            return Ok(());
        }
        files::write_new(&path, content)?;
        self.say(format_args!("Wrote {}.", path.display()));
        Ok(())
    }

    /// Waits for an API server to be ready.
    fn wait(&mut self, next: &str) -> Result<(), Error> {
        let Config { etcd, ports, timeout, .. } = self.config;
        let [own, other] = ports;
        let wait = if self.config.dry_run { "Would wait" } else { "Waiting" };
        self.say(format_args!(
            "{wait} up to {} s for an API server on port {own} or {other}.",
            timeout.as_secs()
        ));
        if self.config.dry_run {
            self.next("the same command without --dry-run");
            return Ok(());
        }
        let out = &mut self.out;
        let mut say = |line: fmt::Arguments<'_>| drop(writeln!(out, "{line}").and_then(|()| out.flush()));
        match watch::wait(&mut self.servers, etcd, ports, *timeout, &mut say)? {
            Waited::Not(seen) => Err(Error::NotReady { timeout: *timeout, seen }),
            Waited::Ready { port, after } => {
                let seconds = after.as_secs();
                self.say(format_args!("An API server is ready on 127.0.0.1:{port}, after {seconds} s."));
                self.next(next);
                Ok(())
            }
        }
    }

    fn would_write(&mut self, path: &Path, content: &Content) {
        let text = String::from_utf8_lossy(&content.bytes);
        self.say(format_args!("Would write {}:\n{}", path.display(), text.trim_end()));
    }

    fn next(&mut self, command: &str) {
        self.say(format_args!("Next: {command}"));
    }

    fn say(&mut self, line: fmt::Arguments<'_>) {
        // Nothing can be said about a closed output, and the API server matters more.
        let _ = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
    }
}

/// The minor version in an image's tag: `registry:5000/kube-apiserver:v1.36.3@sha256:...`.
fn minor(image: &str) -> Option<u32> {
    let image = image.split('@').next()?;
    let (_, tag) = image.rsplit('/').next()?.split_once(':')?;
    let (_, rest) = tag.strip_prefix('v')?.split_once('.')?;
    rest.split('.').next()?.parse().ok()
}

impl FromStr for Source {
    type Err = NoSource;

    fn from_str(text: &str) -> Result<Self, NoSource> {
        match text {
            "auto" => Ok(Self::Auto),
            "checkpoint" => Ok(Self::Checkpoint),
            "etcd" => Ok(Self::Etcd),
            "kept" => Ok(Self::Kept),
            _ => Err(NoSource),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minors_of_images() {
        for (image, expected) in [
            ("registry.k8s.io/kube-apiserver:v1.36.3", Some(36)),
            ("registry:5000/kube-apiserver:v1.37.0-rc.1", Some(37)),
            ("kube-apiserver:v1.36.3@sha256:0123", Some(36)),
            ("kube-apiserver:v1.36", Some(36)),
            ("registry:5000/kube-apiserver", None),
            ("kube-apiserver@sha256:0123", None),
            ("kube-apiserver:latest", None),
        ] {
            assert_eq!(minor(image), expected, "{image}");
        }
    }
}
