//! Takes a static manifest away for good care, and puts it back.
//!
//! Invariants: a manifest is removed only when its kept copy has been read back from disk with the planned hash; no
//! kept copy is ever lost; what the plan did not see is not touched; a manifest that `recover` made takes the place of no
//! other, because it is the other that is to be put back one day.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::digest::Digest;
use crate::files;
use crate::port;
use crate::recover::is_recovered;
use crate::report;
use crate::stop::Stop;

/// Moves a static manifest to the kept ones and waits until its server has gone.
#[derive(Debug)]
pub(crate) struct Retire {
    /// The static manifest.
    pub(crate) file: PathBuf,
    /// The directory of kept manifests.
    pub(crate) kept: PathBuf,
    /// The hash the plan saw.
    pub(crate) planned: Digest,
    /// The port its server listens on.
    pub(crate) port: u16,
    /// How long to wait for the server to leave the port.
    pub(crate) timeout: Duration,
}

/// Puts a kept manifest back among the static ones.
#[derive(Debug)]
pub(crate) struct Restore {
    /// The static manifest.
    pub(crate) file: PathBuf,
    /// The directory of kept manifests.
    pub(crate) kept: PathBuf,
    /// The image that it is put back with, where it is not the one that it was kept with.
    pub(crate) image: Option<OtherImage>,
}

/// The image that a kept manifest names, and the one that is to be in its place.
#[derive(Debug)]
pub(crate) struct OtherImage {
    pub(crate) kept: String,
    pub(crate) runs: String,
}

/// The manifest stays as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{} names no file", .0.display())]
    NoName(PathBuf),
    #[error("manifest {} has changed since it was planned: sha-256 is {found}, planned {planned}", path.display())]
    Changed { path: PathBuf, found: Digest, planned: Digest },
    #[error("manifest {} is gone, and {} is not its kept copy", path.display(), kept.display())]
    Gone { path: PathBuf, kept: PathBuf },
    #[error("kept copy {} reads back with sha-256 {found}, expected {expected}", path.display())]
    Damaged { path: PathBuf, found: Digest, expected: Digest },
    #[error("{} holds something else than its name says", .0.display())]
    Occupied(PathBuf),
    #[error("there is no kept copy {}", .0.display())]
    NotKept(PathBuf),
    #[error("a different manifest {} is in place: sha-256 is {found}, the kept copy's {kept}", path.display())]
    Different { path: PathBuf, found: Digest, kept: Digest },
    #[error("kept copy {} has {found} lines `image: {image}` instead of one", path.display())]
    Image { path: PathBuf, image: String, found: usize },
    #[error(transparent)]
    File(#[from] files::Error),
    #[error(transparent)]
    Port(#[from] port::Error),
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::NoName(_) => "give the path of a manifest",
            Self::Changed { .. } => "make a new plan; nothing was touched",
            Self::Gone { .. } => "somebody else removed it; look for it on the node before going on",
            Self::Damaged { .. } => "check the node's disk; the manifest is still in place",
            Self::Occupied(_) => "look at that file on the node; nothing was overwritten",
            Self::NotKept(_) => "is this the directory that pivot used?",
            Self::Different { .. } => "move one of the two away on the node; nothing was overwritten",
            Self::Image { .. } => "put the manifest back by hand, with the image that runs",
            Self::File(_) => "check that the Pod mounts the directory writable and that the disk has room",
            Self::Port(error) => error.hint(),
        }
    }
}

impl Retire {
    pub(crate) fn run(&self, stop: &Stop) -> Result<report::Retire, Error> {
        let own = kept_path(&self.kept, &self.file)?;
        let (kept, removed) = match files::read(&self.file)? {
            Some(manifest) => {
                let kept = self.keep(&manifest, &own)?;
                self.remove()?;
                (kept, true)
            }
            None => (self.find(&own)?, false),
        };
        let waited = port::wait_free(self.port, self.timeout, stop)?;
        let (sha256, aside) = (self.planned.to_string(), kept != own);
        Ok(report::Retire { kept, sha256, aside, removed, waited_ms: super::millis(waited) })
    }

    /// Makes sure that the kept copy is on disk, whole, and says where: under the manifest's own name, or beside another
    /// that has it.
    fn keep(&self, manifest: &files::Content, own: &Path) -> Result<PathBuf, Error> {
        self.check_planned(&manifest.digest)?;
        let aside = aside_path(own, &self.planned);
        let others = files::read(own)?.is_some_and(|copy| copy.digest != self.planned);
        let kept = if others && is_recovered(&manifest.bytes) { aside } else { own.to_owned() };
        keep(manifest, &kept)?;
        Ok(kept)
    }

    /// Where an earlier run has kept the manifest.
    fn find(&self, own: &Path) -> Result<PathBuf, Error> {
        for kept in [own.to_owned(), aside_path(own, &self.planned)] {
            if files::read(&kept)?.is_some_and(|copy| copy.digest == self.planned) {
                return Ok(kept);
            }
        }
        Err(Error::Gone { path: self.file.clone(), kept: own.to_owned() })
    }

    fn remove(&self) -> Result<(), Error> {
        // Copying took time, in which somebody may have edited the manifest.
        if let Some(manifest) = files::read(&self.file)? {
            self.check_planned(&manifest.digest)?;
            files::remove(&self.file)?;
        }
        Ok(())
    }

    fn check_planned(&self, found: &Digest) -> Result<(), Error> {
        if *found == self.planned {
            return Ok(());
        }
        Err(Error::Changed { path: self.file.clone(), found: found.clone(), planned: self.planned.clone() })
    }
}

impl Restore {
    pub(crate) fn run(&self) -> Result<report::Restore, Error> {
        let path = kept_path(&self.kept, &self.file)?;
        let Some(kept) = files::read(&path)? else {
            return Err(Error::NotKept(path));
        };
        let kept = match &self.image {
            Some(image) => image.put_into(&kept, &path)?,
            None => kept,
        };
        let restored = match files::read(&self.file)? {
            Some(present) if present.digest == kept.digest => false,
            Some(present) => {
                let (found, kept) = (present.digest, kept.digest);
                return Err(Error::Different { path: self.file.clone(), found, kept });
            }
            None => {
                files::write_new(&self.file, &kept)?;
                true
            }
        };
        Ok(report::Restore { file: self.file.clone(), sha256: kept.digest.to_string(), restored })
    }
}

impl OtherImage {
    /// The manifest with the other image. Every other byte stays: comments, order and all.
    pub(super) fn put_into(&self, manifest: &files::Content, path: &Path) -> Result<files::Content, Error> {
        // What is no text has no such line.
        let text = std::str::from_utf8(&manifest.bytes).unwrap_or_default();
        let names_it = |line: &str| {
            let entry = line.trim().trim_start_matches("- ").trim_start();
            let value = entry.strip_prefix("image:").map(str::trim);
            value.is_some_and(|value| value.trim_matches(['"', '\'']) == self.kept)
        };
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let found = lines.iter().filter(|line| names_it(line)).count();
        if found != 1 {
            return Err(Error::Image { path: path.to_owned(), image: self.kept.clone(), found });
        }
        let with = |line: &&str| {
            if names_it(line) { line.replacen(&self.kept, &self.runs, 1) } else { (*line).to_owned() }
        };
        Ok(manifest.with(lines.iter().map(with).collect::<String>().into_bytes()))
    }
}

/// Makes sure that a copy of the manifest is on disk as `kept`, whole. Another one of that name is set aside.
pub(super) fn keep(manifest: &files::Content, kept: &Path) -> Result<(), Error> {
    if let Some(directory) = kept.parent() {
        files::create_private_dir(directory)?;
    }
    match files::read(kept)? {
        Some(copy) if copy.digest == manifest.digest => return Ok(()),
        Some(other) => set_aside(kept, &other)?,
        None => {}
    }
    files::write(kept, manifest)?;
    let copy = files::read(kept)?.ok_or_else(|| Error::NotKept(kept.to_owned()))?;
    if copy.digest == manifest.digest {
        return Ok(());
    }
    Err(Error::Damaged { path: kept.to_owned(), found: copy.digest, expected: manifest.digest.clone() })
}

/// Keeps another generation of a kept manifest under a name with its hash.
fn set_aside(kept: &Path, other: &files::Content) -> Result<(), Error> {
    let aside = aside_path(kept, &other.digest);
    match files::read(&aside)? {
        // An earlier run came this far.
        Some(present) if present.digest == other.digest => Ok(()),
        Some(_) => Err(Error::Occupied(aside)),
        None => Ok(files::link(kept, &aside)?),
    }
}

/// The name of a kept manifest that is not the one to be put back.
fn aside_path(kept: &Path, digest: &Digest) -> PathBuf {
    let mut name = kept.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(digest.short());
    kept.with_file_name(name)
}

/// Where a manifest is kept.
pub(super) fn kept_path(directory: &Path, file: &Path) -> Result<PathBuf, Error> {
    let name: &OsStr = file.file_name().ok_or_else(|| Error::NoName(file.to_owned()))?;
    Ok(directory.join(name))
}

#[cfg(test)]
mod tests;
