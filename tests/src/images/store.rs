//! A containerd store that already holds images, to be cloned onto nodes.
//!
//! Importing the images of two versions takes ten seconds and a gigabyte for each node; a clone takes neither, because
//! what containerd never changes (content blobs, files of unpacked layers) is hard-linked.
//!
//! Invariant: files that containerd writes in place (its databases) are copied, everything else may be shared.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;

use super::Image;
use crate::progress::Progress;
use crate::{command, lock};

/// containerd's namespace that the kubelet sees.
pub(crate) const NAMESPACE: &str = "k8s.io";

/// How long containerd may take to serve.
const START: Duration = Duration::from_secs(20);

/// A store of certain images.
pub(crate) struct Store {
    root: PathBuf,
    _lock: lock::Lock,
}

impl Store {
    /// The store of exactly `images` in the cache; made if it is missing or holds others. `name` tells it from the
    /// stores of other sets, so that sets in use do not replace each other.
    pub(crate) fn ensure(cache: &Path, name: &str, images: &[Image], progress: &Progress) -> Result<Self> {
        let directory = cache.join("stores").join(name);
        let lock = lock::directory(&directory, || {
            progress.line("another process prepares images; waiting");
        })?;
        let root = directory.join("root");
        let stamp = directory.join("stamp");
        let key = key(images)?;
        if fs::read_to_string(&stamp).is_ok_and(|known| known == key) {
            return Ok(Self { root, _lock: lock });
        }
        progress.step(&format!("image store {name}"), || {
            for old in [&stamp, &directory.join("log")] {
                let _ = fs::remove_file(old);
            }
            if root.exists() {
                fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
            }
            fill(&directory, &root, images)?;
            fs::write(&stamp, &key).with_context(|| format!("write {}", stamp.display()))
        })?;
        Ok(Self { root, _lock: lock })
    }

    /// Makes `target` (which must not exist) a store of its own with the same images.
    pub(crate) fn clone_to(&self, target: &Path) -> Result<()> {
        clone(&self.root, target)
            .with_context(|| format!("clone {} to {}", self.root.display(), target.display()))
    }
}

/// Images by name and digest, and the containerd that unpacked them.
fn key(images: &[Image]) -> Result<String> {
    let mut lines: Vec<String> = images.iter().map(Image::pinned).collect();
    lines.sort();
    lines.push(command::output(Command::new("containerd").arg("--version"))?);
    Ok(lines.join("\n"))
}

/// Runs a containerd without its Kubernetes part on `root` and imports `images`.
fn fill(directory: &Path, root: &Path, images: &[Image]) -> Result<()> {
    let state = directory.join("state");
    let socket = directory.join("containerd.sock");
    let config = directory.join("config.toml");
    fs::write(
        &config,
        format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = \"{}\"\n",
            root.display(),
            state.display(),
            socket.display(),
        ),
    )?;
    let log = File::create(directory.join("log"))?;
    // Its mounts of half unpacked layers stay in a namespace of its own, and it ends with this thread.
    let containerd = Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "containerd",
            "--config",
        ])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("run containerd")?;
    let mut containerd = Running(containerd);
    let ctr = |arguments: &[&str]| {
        let mut ctr = Command::new("ctr");
        command::output(ctr.arg("--address").arg(&socket).args(["--namespace", NAMESPACE]).args(arguments))
    };
    let deadline = Instant::now() + START;
    while let Err(error) = ctr(&["images", "list", "--quiet"]) {
        if let Some(status) = containerd.0.try_wait()? {
            bail!("containerd ended with {status}: {}", command::tail_of(&directory.join("log")));
        }
        if Instant::now() > deadline {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    for image in images {
        let archive = image.archive.to_str().context("the path of the cache is not UTF-8")?;
        ctr(&["images", "import", archive])?;
        ctr(&["images", "tag", "--force", &image.reference, &image.by_digest()])?;
    }
    containerd.stop()?;
    let _ = fs::remove_dir_all(&state);
    Ok(())
}

/// A process that is killed when it is forgotten.
struct Running(Child);

impl Running {
    /// Asks it to end, so that its databases are whole, and waits.
    fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(
            pid.context("a child has a process id")?,
            rustix::process::Signal::TERM,
        )?;
        self.0.wait().map(drop).context("wait for containerd")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already: that is what was wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn clone(from: &Path, to: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            clone(&entry.path(), &to.join(entry.file_name()))?;
        }
        rustix::fs::chown(to, Some(owner(metadata.uid())), Some(group(metadata.gid())))?;
        fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode()))?;
    } else if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else if kind.is_file() {
        let is_database = from.extension().is_some_and(|extension| extension == "db");
        if is_database || !hard_link(from, to)? {
            fs::copy(from, to)?;
        }
    }
    Ok(())
}

/// Whether `to` could be made a link; not between file systems.
fn hard_link(from: &Path, to: &Path) -> Result<bool> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(true),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::XDEV) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn owner(uid: u32) -> rustix::fs::Uid {
    rustix::fs::Uid::from_raw(uid)
}

fn group(gid: u32) -> rustix::fs::Gid {
    rustix::fs::Gid::from_raw(gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_copied_and_the_rest_is_shared() {
        let directory = tempfile::tempdir().unwrap();
        let from = directory.path().join("from");
        fs::create_dir_all(from.join("a")).unwrap();
        fs::set_permissions(from.join("a"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(from.join("a/meta.db"), "database").unwrap();
        fs::write(from.join("a/blob"), "blob").unwrap();
        symlink("blob", from.join("a/link")).unwrap();
        let to = directory.path().join("to");
        clone(&from, &to).unwrap();
        let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
        assert_ne!(inode(from.join("a/meta.db")), inode(to.join("a/meta.db")));
        assert_eq!(fs::read_to_string(to.join("a/meta.db")).unwrap(), "database");
        assert_eq!(inode(from.join("a/blob")), inode(to.join("a/blob")));
        assert_eq!(fs::read_link(to.join("a/link")).unwrap(), Path::new("blob"));
        assert_eq!(fs::metadata(to.join("a")).unwrap().mode() & 0o777, 0o700);
    }
}
