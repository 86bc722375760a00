//! Brings the etcd of this node, a static Pod, to another image; and back by itself if that does not serve.
//!
//! It runs in the new image, whose etcd it can start itself. While it works there may be no API at all: everything is
//! judged by etcd's own word, and everything that is needed is here from the start.
//!
//! Invariants: the manifest is the old one or the new one at every instant, and only the one line with the image differs;
//! nothing is touched while a member of the cluster is not healthy; what the cluster has agreed to be is not taken back,
//! because no older etcd could read it.

mod flags;
mod member;
mod process;
mod watch;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use self::flags::Flags;
use self::member::{Member, Serves};
use self::process::{Program, Signs, StandIn, hold, with_data};
use self::watch::{Aim, Watch};
use super::manifest::{self, OtherImage, keep, kept_path};
use crate::files::{self, Content};
use crate::report::{self, EtcdOutcome};
use crate::stop::{Stop, Stopped};
use crate::{processes, sockets, tls};

/// Brings etcd to another image.
#[derive(Debug)]
pub(crate) struct UpgradeEtcd {
    /// The static manifest.
    pub(crate) file: PathBuf,
    /// The directory of kept manifests.
    pub(crate) kept: PathBuf,
    /// The image that the manifest names now.
    pub(crate) from: String,
    /// The image that it is to name: the one in which this runs.
    pub(crate) image: String,
    /// The version that the image's tag promises.
    pub(crate) version: String,
    /// Whether everything is only looked at.
    pub(crate) check: bool,
    /// What the directories of the logs of etcd's Pods begin with.
    pub(crate) logs: PathBuf,
    /// A directory for what is needed only now.
    pub(crate) scratch: PathBuf,
    /// How long the new etcd must serve.
    pub(crate) settle: Duration,
    /// How long it may take until it does.
    pub(crate) timeout: Duration,
    /// etcd's command line.
    pub(crate) command: Vec<OsString>,
}

/// It is not known what serves, or nothing was tried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Flags(#[from] flags::Error),
    #[error("ask this image's etcd for its version")]
    Version(#[source] io::Error),
    #[error("this image's etcd does not tell its version: {0:?}")]
    NoVersion(String),
    #[error("image {image} has etcd {found}, and its tag says {expected}")]
    OtherVersion { image: String, found: String, expected: String },
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("there is no manifest {}", .0.display())]
    Gone(PathBuf),
    #[error(transparent)]
    Credentials(#[from] tls::Error),
    #[error(transparent)]
    Sockets(#[from] sockets::Error),
    #[error(transparent)]
    Processes(#[from] processes::Error),
    #[error("start etcd")]
    Start(#[source] io::Error),
    #[error(
        "etcd does not serve after its upgrade ({why}), and the cluster has agreed on version {cluster} already"
    )]
    TooLate { why: String, cluster: String },
    #[error("etcd did not serve after its upgrade ({why}), and does not after that was taken back ({then})")]
    NotBack { why: String, then: String },
    #[error("upgrade etcd")]
    Stopped(#[from] Stopped),
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Flags(_) | Self::Gone(_) => "etcd's static Pod must be laid out as kubeadm lays it out",
            Self::Version(_) | Self::NoVersion(_) => "is this an image of etcd?",
            Self::OtherVersion { .. } => "name an image whose tag tells its version",
            Self::Manifest(error) => error.hint(),
            Self::File(_) => "check that the Pod mounts the directory writable and that the disk has room",
            Self::Credentials(_) => "etcd's certificates must be where its flags say",
            Self::Sockets(_) | Self::Processes(_) => "the task needs host network, host PIDs and root",
            Self::Start(_) => "is this an image of etcd for this machine?",
            Self::TooLate { .. } => {
                "crictl ps -a --name etcd, then crictl logs ID; an older etcd cannot read this data any more, but \
                 the snapshot that was taken before can be restored"
            }
            Self::NotBack { .. } => {
                "crictl ps -a --name etcd, then crictl logs ID; the snapshot that was taken before can be restored"
            }
            Self::Stopped(_) => "the task can be run again",
        }
    }
}

impl UpgradeEtcd {
    pub(crate) fn run(&self, stop: &Stop) -> Result<report::UpgradeEtcd, Error> {
        let flags = Flags::read(&self.command)?;
        let member = Member::new(flags.listens, flags.ca, flags.certificate, flags.key)?;
        let program = PathBuf::from(&self.command[0]);
        let version = version_of(&program)?;
        if version != self.version {
            let (image, expected) = (self.image.clone(), self.version.clone());
            return Err(Error::OtherVersion { image, found: version, expected });
        }
        let kept = kept_path(&self.kept, &self.file)?;
        let manifest = files::read(&self.file)?.ok_or_else(|| Error::Gone(self.file.clone()))?;
        let mut watch = Watch {
            member: &member,
            command: &self.command,
            data_dir: flags.data_dir,
            old: Vec::new(),
            stand_in: StandIn::new(self.scratch.join("etcd.log")),
            signs: Signs::new(self.logs.clone()),
            away: Duration::ZERO,
            last: None,
            settle: self.settle,
            limit: self.timeout,
        };
        let mut before = Aim { version: None, program: None, proves: false };
        // A run that was killed may have come this far.
        let replaces = self.replacing(&self.image, &self.image, &manifest).is_err();
        if self.check && !replaces {
            // Whatever is wrong with it then, going on is what mends it.
            return Ok(report(EtcdOutcome::Ready, version, None, &watch));
        }
        if self.check {
            self.replacing(&self.from, &self.image, &manifest)?;
            let why = member.cluster().err();
            let outcome = if why.is_some() { EtcdOutcome::Refused } else { EtcdOutcome::Ready };
            return Ok(report(outcome, version, why, &watch));
        }
        if replaces {
            let new = self.replacing(&self.from, &self.image, &manifest)?;
            let serves = match ready(&member, stop)? {
                Ok(serves) => serves,
                Err(why) => return Ok(report(EtcdOutcome::Refused, version, Some(why), &watch)),
            };
            keep(&manifest, &kept)?;
            watch.old = hold(&with_data(&watch.data_dir, None)?);
            before.program = self.program_before(&watch);
            before.version = Some(serves.version.clone());
            watch.last = Some(serves);
            // All of this took time, in which somebody may have edited the manifest.
            let now = files::read(&self.file)?.ok_or_else(|| Error::Gone(self.file.clone()))?;
            if now.digest != manifest.digest {
                let (path, planned) = (self.file.clone(), manifest.digest);
                return Err(manifest::Error::Changed { path, found: now.digest, planned }.into());
            }
            files::write(&self.file, &new)?;
        }
        let agreed = watch.last.as_ref().map(|serves| minor(&serves.cluster));
        let aim = Aim {
            version: Some(version.clone()),
            program: Some(Program { path: program, environment: None }),
            proves: true,
        };
        let Err(why) = watch.until_serves(&aim, stop)? else {
            let outcome = if replaces { EtcdOutcome::Upgraded } else { EtcdOutcome::Unchanged };
            return Ok(report(outcome, version, None, &watch));
        };
        let words = watch.stand_in.words();
        if let Some(last) = &watch.last
            && agreed != Some(minor(&last.cluster))
        {
            return Err(Error::TooLate { why, cluster: last.cluster.clone() });
        }
        self.put_back(&kept, &mut watch)?;
        match watch.until_serves(&before, stop)? {
            Ok(serves) => {
                let taken_back = report(EtcdOutcome::TakenBack, serves.version, Some(why), &watch);
                Ok(report::UpgradeEtcd { words, ..taken_back })
            }
            Err(then) => Err(Error::NotBack { why, then }),
        }
    }

    /// The manifest with another image.
    fn replacing(&self, from: &str, to: &str, manifest: &Content) -> Result<Content, manifest::Error> {
        OtherImage { kept: from.to_owned(), runs: to.to_owned() }.put_into(manifest, &self.file)
    }

    /// Copies the program that serves now: should the new one not serve, the old one stands in until the kubelet has
    /// started it again. Without it that takes longer, and that is all.
    fn program_before(&self, watch: &Watch<'_>) -> Option<Program> {
        let copy = self.scratch.join("etcd-before");
        let [process] = &watch.old[..] else { return None };
        process.copy_program(&copy).ok()
    }

    /// Puts the kept manifest back in the place of the new one.
    fn put_back(&self, kept: &Path, watch: &mut Watch<'_>) -> Result<(), Error> {
        let copy =
            files::read(kept)?.ok_or_else(|| Error::from(manifest::Error::NotKept(kept.to_owned())))?;
        let there = files::read(&self.file)?.ok_or_else(|| Error::Gone(self.file.clone()))?;
        // What differs in more than the image is of another time.
        if !differ_in_image(&there.bytes, &copy.bytes) {
            let path = self.file.clone();
            return Err(manifest::Error::Different { path, found: there.digest, kept: copy.digest }.into());
        }
        if watch.old.is_empty() {
            let own = watch.stand_in.pid();
            watch.old = hold(&with_data(&watch.data_dir, own)?);
        } else {
            // The kubelet has not even looked: the one that was to end is the one that is to serve.
            watch.old.clear();
        }
        files::write(&self.file, &copy)?;
        watch.stand_in.end();
        Ok(())
    }
}

/// Makes sure that a restart of this member is safe: every member is healthy, and another one leads if there is another.
fn ready(member: &Member, stop: &Stop) -> Result<Result<Serves, String>, Error> {
    let cluster = match member.cluster() {
        Ok(cluster) => cluster,
        Err(why) => return Ok(Err(why)),
    };
    if let Err(why) = member.give_leadership_away(&cluster, stop)? {
        return Ok(Err(why));
    }
    Ok(member.serves())
}

/// What the program says of itself: `etcd Version: 3.6.16`.
fn version_of(program: &Path) -> Result<String, Error> {
    let output = Command::new(program).arg("--version").output().map_err(Error::Version)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().find_map(|line| line.strip_prefix("etcd Version: "));
    version.map(|version| version.trim().to_owned()).ok_or_else(|| Error::NoVersion(text.into_owned()))
}

/// Whether two manifests are the same but for one line, which names an image.
fn differ_in_image(a: &[u8], b: &[u8]) -> bool {
    let lines = |text| String::from_utf8_lossy(text).lines().map(ToOwned::to_owned).collect::<Vec<_>>();
    let (a, b) = (lines(a), lines(b));
    let mut differ = a.iter().zip(&b).filter(|(a, b)| a != b);
    let names_image = |line: &str| line.trim_start().trim_start_matches("- ").starts_with("image:");
    a.len() == b.len()
        && differ.next().is_some_and(|(a, b)| names_image(a) && names_image(b))
        && differ.next().is_none()
}

/// Major and minor, on which a cluster agrees: `3.6` of `3.6.0`.
fn minor(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn report(
    outcome: EtcdOutcome,
    version: String,
    reason: Option<String>,
    watch: &Watch<'_>,
) -> report::UpgradeEtcd {
    report::UpgradeEtcd { outcome, version, away_ms: super::millis(watch.away), reason, words: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_in_its_image_is_put_back() {
        let manifest = "a: 1\nspec:\n  - image: etcd:3.6.16-0\n    name: etcd\n";
        for (from, to, expected) in [
            ("3.6.16-0", "3.6.8-0", true),
            ("", "", false),
            ("a: 1", "a: 2", false),
            ("etcd:3.6.16-0\n    name: etcd", "etcd:3.6.8-0\n    name: x", false),
            ("etcd:3.6.16-0\n", "etcd:3.6.8-0\n    tty: true\n", false),
        ] {
            let other = manifest.replace(from, to);
            assert_eq!(differ_in_image(manifest.as_bytes(), other.as_bytes()), expected, "{other}");
        }
    }
}
