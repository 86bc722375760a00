//! Files that survive a power cut.
//!
//! Invariant: under its own name a file is either absent or whole; a name that a directory listing shows after a
//! crash was put there with its content on disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

use crate::digest::{Digest, Hashing};

/// The permission bits of a file's mode.
const PERMISSIONS: u32 = 0o7777;

/// An operation on a file failed.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}", path.display())]
pub(crate) struct Error {
    what: &'static str,
    path: PathBuf,
    pub(crate) source: io::Error,
}

/// The content of a regular file.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
    /// Permission bits.
    mode: u32,
}

impl Content {
    /// Bytes to be written with these permission bits.
    pub(crate) fn new(bytes: Vec<u8>, mode: u32) -> Self {
        Self { digest: Digest::of(&bytes), bytes, mode }
    }

    /// Other bytes with the same permission bits.
    pub(crate) fn with(&self, bytes: Vec<u8>) -> Self {
        Self::new(bytes, self.mode)
    }
}

/// Reads the regular file `path`, if there is one.
pub(crate) fn read(path: &Path) -> Result<Option<Content>, Error> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(error("look at", path, source)),
    };
    if !metadata.is_file() {
        // Removing a link, or the link's target, are different things; neither is ours to choose.
        return Err(error("read", path, io::Error::other("not a regular file")));
    }
    let bytes = fs::read(path).map_err(|source| error("read", path, source))?;
    let mode = metadata.permissions().mode() & PERMISSIONS;
    Ok(Some(Content { digest: Digest::of(&bytes), bytes, mode }))
}

/// A copy that was made, as it is on disk.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) size: u64,
    pub(crate) digest: Digest,
    /// Permission bits.
    pub(crate) mode: u32,
}

/// Copies a file, of whatever size, to a place where nothing is, with its permission bits; directories above it are made.
/// The copy is on disk; its name is when its directory was synced.
pub(crate) fn copy_new(from: &Path, to: &Path) -> Result<Copied, Error> {
    let mut source = File::open(from).map_err(|source| error("read", from, source))?;
    let metadata = source.metadata().map_err(|source| error("look at", from, source))?;
    let mode = metadata.permissions().mode() & PERMISSIONS;
    if let Some(parent) = to.parent() {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        created.map_err(|source| error("create directory", parent, source))?;
    }
    let mut file = create_new(to)?;
    let mut hashing = Hashing::default();
    let size = io::copy(&mut source, &mut Both(&mut file, &mut hashing))
        .map_err(|source| error("copy", from, source))?;
    let failed = |source| error("write", to, source);
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok(Copied { size, digest: hashing.finish(), mode })
}

/// Creates a file that only its owner can read, where nothing is.
pub(crate) fn create_new(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).map_err(|source| error("create", path, source))
}

/// Whatever is written goes to both.
struct Both<'a>(&'a mut File, &'a mut Hashing);

impl Write for Both<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1.write(&bytes[..written])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Puts every name in `directory`, and below it, on disk.
pub(crate) fn sync_tree(directory: &Path) -> Result<(), Error> {
    let failed = |source| error("read", directory, source);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    sync(directory)
}

/// Gives a directory another name on the same file system. One that is there already, and not empty, is an error.
pub(crate) fn rename_dir(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|source| error("rename", from, source))?;
    sync_parent(from)?;
    sync_parent(to)
}

/// Creates a directory, with those above it, that only its owner can look into.
pub(crate) fn create_private_dir(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| error("create directory", path, source))?;
    sync_parent(path)
}

/// Writes `content` as `path`, replacing a file of that name.
pub(crate) fn write(path: &Path, content: &Content) -> Result<(), Error> {
    write_as(path, content, None)
}

/// Writes `content` as `path`, for a user and a group.
pub(crate) fn write_as(path: &Path, content: &Content, owner: Option<(u32, u32)>) -> Result<(), Error> {
    let temporary = write_temporary(path, content)?;
    if let Some((user, group)) = owner {
        chown(&temporary, Some(user), Some(group)).map_err(|source| error("give away", path, source))?;
    }
    fs::rename(&temporary, path).map_err(|source| error("write", path, source))?;
    sync_parent(path)
}

/// Writes `content` as `path`, unless a file of that name appears.
pub(crate) fn write_new(path: &Path, content: &Content) -> Result<(), Error> {
    let temporary = write_temporary(path, content)?;
    rustix::fs::renameat_with(CWD, &temporary, CWD, path, RenameFlags::NOREPLACE)
        .map_err(|errno| error("write", path, errno.into()))?;
    sync_parent(path)
}

/// Gives the file `path` a second name in the same directory.
pub(crate) fn link(path: &Path, second: &Path) -> Result<(), Error> {
    fs::hard_link(path, second).map_err(|source| error("link", second, source))?;
    sync_parent(second)
}

/// Removes `path`, for good, if it is there.
pub(crate) fn remove_if_there(path: &Path) -> Result<bool, Error> {
    match remove(path) {
        Ok(()) => Ok(true),
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes `path`, for good.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).map_err(|source| error("remove", path, source))?;
    sync_parent(path)
}

/// Removes the directory `path` with everything in it, for good, if it is there.
pub(crate) fn remove_dir_if_there(path: &Path) -> Result<bool, Error> {
    match fs::remove_dir_all(path) {
        Ok(()) => sync_parent(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(error("remove", path, source)),
    }
}

/// Writes next to `path` under a name with a leading dot, which the kubelet ignores among static manifests.
fn write_temporary(path: &Path, content: &Content) -> Result<PathBuf, Error> {
    let name = path.file_name().unwrap_or_default();
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".tmp");
    let temporary = path.with_file_name(hidden);
    let failed = |source| error("write", &temporary, source);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(&content.bytes).map_err(failed)?;
    file.set_permissions(fs::Permissions::from_mode(content.mode)).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok(temporary)
}

pub(crate) fn sync_parent(path: &Path) -> Result<(), Error> {
    sync(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

fn sync(directory: &Path) -> Result<(), Error> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| error("sync directory", directory, source))
}

pub(crate) fn error(what: &'static str, path: &Path, source: io::Error) -> Error {
    Error { what, path: path.to_owned(), source }
}
