//! Writes the standby's checkpoint: a static Pod that needs nothing but this node.
//!
//! Invariants: the latest good generation is never overwritten; each good manifest has a copy that `recover` can put
//! back, and no copy is overwritten with anything but a good manifest.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::checkpoint::{self, NAME, SLOTS, Slot};
use crate::files::{self, Content};
use crate::report;

/// The node part's program, below the state directory: the standby's containers mount it.
const PROGRAM: &str = "bin/selfhost-node";

/// Writes a checkpoint.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// The directory of static manifests.
    pub(crate) manifests: PathBuf,
    /// The node part's own directory.
    pub(crate) state: PathBuf,
    /// The Pod, as JSON.
    pub(crate) content: String,
    /// Whether the generation before is to be the same: what it needs is about to go.
    pub(crate) both: bool,
}

/// Removes every checkpoint with its copy, and the program.
#[derive(Debug)]
pub(crate) struct RemoveStandby {
    /// The directory of static manifests.
    pub(crate) manifests: PathBuf,
    /// The node part's own directory.
    pub(crate) state: PathBuf,
}

/// The checkpoint is not written; the latest good one is still there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the content is no JSON")]
    Content(#[source] serde_json::Error),
    #[error("the content is no Pod of the name {NAME}")]
    NoPod,
    #[error("read the node part's own program")]
    Program(#[source] std::io::Error),
    #[error("checkpoint {} reads back damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error(transparent)]
    File(#[from] files::Error),
}

impl Error {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Content(_) | Self::NoPod => {
                "use the node image that belongs to this version of kubectl selfhost"
            }
            Self::Program(_) => "the container needs /proc",
            Self::Damaged { .. } => "check the node's disk; the earlier checkpoint is still in place",
            Self::File(_) => "check that the Pod mounts the directories writable and that the disk has room",
        }
    }
}

impl Checkpoint {
    pub(crate) fn run(&self) -> Result<report::Checkpoint, Error> {
        let pod: Value = serde_json::from_str(&self.content).map_err(Error::Content)?;
        if pod["kind"] != "Pod" || pod["metadata"]["name"] != NAME {
            return Err(Error::NoPod);
        }
        self.install_program()?;
        let mut report = self.write(pod.clone(), false)?;
        if self.both {
            let again = self.write(pod, true)?;
            report = report::Checkpoint { changed: report.changed || again.changed, ..again };
        }
        self.keep_copies()?;
        Ok(report)
    }

    /// Writes the next generation, unless the latest is the same Pod; with `every`, unless each is.
    fn write(&self, pod: Value, every: bool) -> Result<report::Checkpoint, Error> {
        let content = checkpoint::digest(&pod);
        let slots = SLOTS.map(|slot| (checkpoint::path(&self.manifests, slot), slot));
        let mut found = Vec::new();
        for (path, slot) in &slots {
            found.push((path, *slot, checkpoint::look(path)?));
        }
        let damaged: Vec<String> = found
            .iter()
            .filter_map(|(path, _, slot)| match slot {
                Slot::Damaged(why) => Some(format!("{}: {why}", path.display())),
                Slot::Empty | Slot::Good { .. } => None,
            })
            .collect();
        let latest = found.iter().filter_map(|(path, _, slot)| match slot {
            Slot::Good { generation, content } => Some((*generation, *path, content.clone())),
            Slot::Empty | Slot::Damaged(_) => None,
        });
        let latest = latest.max();
        let good = found.iter().filter(|(.., slot)| matches!(slot, Slot::Good { .. })).count() as u64;
        // Whatever is written is later than every copy: one that is put back must not come before it.
        let copied = self.latest_copy()?;
        if let Some((generation, file, there)) = &latest
            && *there == content
            // Of an earlier generation that is damaged, or gone, the next one takes the place.
            && good == 2.min(*generation)
            && *generation >= copied
            && (!every || found.iter().all(|(.., slot)| is_of(slot, &content)))
        {
            let generation = *generation;
            return Ok(report::Checkpoint { file: (*file).clone(), generation, changed: false, damaged });
        }
        let generation = 1 + latest.as_ref().map_or(0, |(generation, ..)| *generation).max(copied);
        // The one that is missed least: damaged, or not there, or the older of two.
        let kept = latest.map(|(_, path, _)| path);
        let (file, slot) = found
            .iter()
            .filter(|(path, ..)| Some(*path) != kept)
            .map(|(path, slot, _)| ((*path).clone(), *slot))
            .next()
            .expect("there are two slots, and at most one of them is kept");
        let pod = checkpoint::fill(pod, slot, generation, &content);
        let text = serde_json::to_vec_pretty(&pod).map_err(Error::Content)?;
        files::write(&file, &Content::new(text, 0o600))?;
        match checkpoint::look(&file)? {
            Slot::Good { generation: back, content: whole } if back == generation && whole == content => {
                Ok(report::Checkpoint { file, generation, changed: true, damaged })
            }
            other => Err(Error::Damaged { path: file, why: format!("{other:?}") }),
        }
    }

    /// The latest generation that a copy has; 0 for none.
    fn latest_copy(&self) -> Result<u64, Error> {
        let copies = checkpoint::copies(&self.state);
        let mut latest = 0;
        for slot in SLOTS {
            if let Slot::Good { generation, .. } = checkpoint::look(&checkpoint::path(&copies, slot))? {
                latest = latest.max(generation);
            }
        }
        Ok(latest)
    }

    /// Copies each good manifest, also one that an earlier run wrote before it was killed.
    fn keep_copies(&self) -> Result<(), Error> {
        let copies = checkpoint::copies(&self.state);
        files::create_private_dir(&copies)?;
        for slot in SLOTS {
            let file = checkpoint::path(&self.manifests, slot);
            let good @ Slot::Good { .. } = checkpoint::look(&file)? else { continue };
            let copy = checkpoint::path(&copies, slot);
            if checkpoint::look(&copy)? == good {
                continue;
            }
            if let Some(manifest) = files::read(&file)? {
                files::write(&copy, &manifest)?;
            }
            let back = checkpoint::look(&copy)?;
            if back != good {
                return Err(Error::Damaged { path: copy, why: format!("{back:?}") });
            }
        }
        Ok(())
    }

    /// Puts this program where the standby's containers find it: their images have only the component.
    fn install_program(&self) -> Result<(), Error> {
        let own = std::fs::read("/proc/self/exe").map_err(Error::Program)?;
        let path = self.state.join(PROGRAM);
        let own = Content::new(own, 0o755);
        files::create_private_dir(path.parent().unwrap_or(&self.state))?;
        if files::read(&path)?.is_none_or(|there| there.digest != own.digest) {
            files::write(&path, &own)?;
        }
        Ok(())
    }
}

/// Whether a slot has the Pod of this digest.
fn is_of(slot: &Slot, wanted: &str) -> bool {
    matches!(slot, Slot::Good { content, .. } if content == wanted)
}

impl RemoveStandby {
    pub(crate) fn run(&self) -> Result<report::RemoveStandby, Error> {
        let copies = checkpoint::copies(&self.state);
        let of = |directory: &Path| SLOTS.map(|slot| checkpoint::path(directory, slot));
        let files = of(&self.manifests).into_iter().chain(of(&copies));
        let mut removed = Vec::new();
        for file in files.chain([self.state.join(PROGRAM)]) {
            if files::remove_if_there(&file)? {
                removed.push(file);
            }
        }
        // Only if nothing else is in them.
        let _ = std::fs::remove_dir(copies);
        let _ = std::fs::remove_dir(self.state.join("bin"));
        Ok(report::RemoveStandby { removed })
    }
}

#[cfg(test)]
mod tests;
