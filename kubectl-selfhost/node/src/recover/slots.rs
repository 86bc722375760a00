//! The checkpoint's manifests on this node, and the copies that can take their place.
//!
//! Invariant: a good manifest is never overwritten.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::manifest;
use crate::checkpoint::{self, SLOTS, Slot};
use crate::files;

/// A manifest, and its copy.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) copy: PathBuf,
    there: Slot,
    copied: Slot,
}

/// A generation of the checkpoint that can be used.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Good {
    pub(super) generation: u64,
    /// The file that holds it now.
    pub(super) file: PathBuf,
}

/// Both manifests.
pub(super) fn look(manifests: &Path, state: &Path) -> Result<Vec<Place>, files::Error> {
    let copies = checkpoint::copies(state);
    let place = |slot| {
        let (path, copy) = (checkpoint::path(manifests, slot), checkpoint::path(&copies, slot));
        Ok(Place { there: checkpoint::look(&path)?, copied: checkpoint::look(&copy)?, path, copy })
    };
    SLOTS.into_iter().map(place).collect()
}

/// The image of the API server in a good manifest.
pub(super) fn image(file: &Path) -> Result<Option<String>, files::Error> {
    let content = files::read(file)?.map(|file| file.bytes).unwrap_or_default();
    let pod: Value = serde_json::from_slice(&content).unwrap_or_default();
    Ok(manifest::image(&pod).map(str::to_owned))
}

impl Place {
    /// What is good here: the manifest, or the copy in its place.
    pub(super) fn good(&self) -> Option<Good> {
        let good = |slot: &Slot, file: &PathBuf| match slot {
            Slot::Good { generation, .. } => Some(Good { generation: *generation, file: file.clone() }),
            Slot::Empty | Slot::Damaged(_) => None,
        };
        good(&self.there, &self.path).or_else(|| good(&self.copied, &self.copy))
    }

    /// The content of the copy, if it is to be put back.
    pub(super) fn missing(&self) -> Result<Option<files::Content>, files::Error> {
        match (&self.there, &self.copied) {
            (Slot::Empty | Slot::Damaged(_), Slot::Good { .. }) => files::read(&self.copy),
            _ => Ok(None),
        }
    }

    /// Puts the copy back; false when it reads back as something else.
    pub(super) fn write(&self, copy: &files::Content) -> Result<bool, files::Error> {
        match self.there {
            // Somebody may have written a good one in the meantime.
            Slot::Empty => files::write_new(&self.path, copy)?,
            Slot::Damaged(_) => files::write(&self.path, copy)?,
            Slot::Good { .. } => return Ok(true),
        }
        Ok(checkpoint::look(&self.path)? == self.copied)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.there {
            Slot::Good { generation, .. } => write!(f, "{path} is good: generation {generation}."),
            Slot::Damaged(why) => write!(f, "{path} is damaged: {why}."),
            Slot::Empty => write!(f, "{path} is not there."),
        }
    }
}
