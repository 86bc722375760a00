//! Writes the standby's checkpoint: a static Pod that needs nothing but this node.
//!
//! Two generations are kept, each a manifest of its own. Both run: so a manifest that is damaged leaves the other at
//! work, and the kubelet keeps the images of both.
//!
//! Invariants: the latest good generation is never overwritten; a manifest is whole or absent, and says by digests
//! what it was written as. Its text is JSON, so that a part of it is never a manifest.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::digest::Digest;
use crate::files::{self, Content};
use crate::report;
use crate::standby::{self, DIGEST, GENERATION};

/// The name of the Pod that the plugin renders, and the beginning of its manifests' names.
const NAME: &str = "control-plane-standby";

/// The two manifests of a node, by the ends of their names.
const SLOTS: [&str; 2] = ["a", "b"];

/// The annotation with the generation.
const GENERATION_KEY: &str = "kubectl-selfhost.dev/generation";

/// The annotation with the SHA-256 of the Pod as the plugin rendered it.
const CONTENT_KEY: &str = "kubectl-selfhost.dev/content";

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
}

/// Removes every checkpoint, and the program.
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

/// What a slot holds.
#[derive(Debug, PartialEq, Eq)]
enum Slot {
    Empty,
    Damaged(String),
    Good { generation: u64, content: String },
}

impl Checkpoint {
    pub(crate) fn run(&self) -> Result<report::Checkpoint, Error> {
        let pod: Value = serde_json::from_str(&self.content).map_err(Error::Content)?;
        if pod["kind"] != "Pod" || pod["metadata"]["name"] != NAME {
            return Err(Error::NoPod);
        }
        let content = digest(&pod);
        self.install_program()?;
        let slots = SLOTS.map(|slot| (path(&self.manifests, slot), slot));
        let mut found = Vec::new();
        for (path, slot) in &slots {
            found.push((path, *slot, look(path)?));
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
        if let Some((generation, file, there)) = &latest
            && *there == content
            // Of an earlier generation that is damaged, or gone, the next one takes the place.
            && good == 2.min(*generation)
        {
            let generation = *generation;
            return Ok(report::Checkpoint { file: (*file).clone(), generation, changed: false, damaged });
        }
        let generation = latest.as_ref().map_or(1, |(generation, ..)| generation + 1);
        // The one that is missed least: damaged, or not there, or the older of two.
        let kept = latest.map(|(_, path, _)| path);
        let (file, slot) = found
            .iter()
            .filter(|(path, ..)| Some(*path) != kept)
            .map(|(path, slot, _)| ((*path).clone(), *slot))
            .next()
            .expect("there are two slots, and at most one of them is kept");
        let text =
            serde_json::to_vec_pretty(&fill(pod, slot, generation, &content)).map_err(Error::Content)?;
        files::write(&file, &Content::new(text, 0o600))?;
        match look(&file)? {
            Slot::Good { generation: back, content: whole } if back == generation && whole == content => {
                Ok(report::Checkpoint { file, generation, changed: true, damaged })
            }
            other => Err(Error::Damaged { path: file, why: format!("{other:?}") }),
        }
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

impl RemoveStandby {
    pub(crate) fn run(&self) -> Result<report::RemoveStandby, Error> {
        let files = SLOTS.map(|slot| path(&self.manifests, slot)).into_iter();
        let mut removed = Vec::new();
        for file in files.chain([self.state.join(PROGRAM)]) {
            if files::remove_if_there(&file)? {
                removed.push(file);
            }
        }
        // Only if nothing else is in it.
        let _ = std::fs::remove_dir(self.state.join("bin"));
        Ok(report::RemoveStandby { removed })
    }
}

fn path(manifests: &Path, slot: &str) -> PathBuf {
    manifests.join(format!("{NAME}-{slot}.yaml"))
}

/// The Pod of a slot: with its name, its generation, and a digest for each supervisor.
fn fill(mut pod: Value, slot: &str, generation: u64, content: &str) -> Value {
    pod["metadata"]["name"] = json!(format!("{NAME}-{slot}"));
    pod["metadata"]["annotations"][GENERATION_KEY] = json!(generation.to_string());
    pod["metadata"]["annotations"][CONTENT_KEY] = json!(content);
    for arguments in supervisors(&mut pod) {
        let digest = standby::digest(generation, arguments[1..].iter().map(|it| text(it).as_bytes()));
        let added = [format!("{GENERATION}{generation}"), format!("{DIGEST}{digest}")];
        arguments.splice(1..1, added.map(Value::String));
    }
    pod
}

/// The arguments of each container that runs a supervisor.
fn supervisors(pod: &mut Value) -> impl Iterator<Item = &mut Vec<Value>> {
    let containers = pod["spec"]["containers"].as_array_mut().into_iter().flatten();
    containers
        .filter_map(|container| container["args"].as_array_mut())
        .filter(|arguments| arguments.first().is_some_and(|first| first == "standby"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What is in a slot. Whatever differs from what was written is damage.
fn look(path: &Path) -> Result<Slot, Error> {
    let Some(file) = files::read(path)? else { return Ok(Slot::Empty) };
    Ok(match check(&file.bytes) {
        Ok((generation, content)) => Slot::Good { generation, content },
        Err(why) => Slot::Damaged(why),
    })
}

fn check(bytes: &[u8]) -> Result<(u64, String), String> {
    if bytes.is_empty() {
        return Err("it is empty".to_owned());
    }
    let written: Value = serde_json::from_slice(bytes).map_err(|error| format!("it is no JSON: {error}"))?;
    let annotation = |key: &str| written["metadata"]["annotations"][key].as_str();
    let generation =
        annotation(GENERATION_KEY).and_then(|it| it.parse::<u64>().ok()).ok_or("it has no generation")?;
    let content = annotation(CONTENT_KEY).ok_or("it has no digest")?.to_owned();
    let slot = text(&written["metadata"]["name"]).rsplit('-').next().unwrap_or_default().to_owned();
    // Undoing what filling in did must give the content, and filling it in again what is there.
    let mut pod = written.clone();
    pod["metadata"]["name"] = json!(NAME);
    if let Some(annotations) = pod["metadata"]["annotations"].as_object_mut() {
        annotations.retain(|key, _| key != GENERATION_KEY && key != CONTENT_KEY);
    }
    for arguments in supervisors(&mut pod) {
        arguments.retain(|it| !text(it).starts_with(GENERATION) && !text(it).starts_with(DIGEST));
    }
    let found = digest(&pod);
    if found != content {
        return Err(format!("its sha-256 is {found}, and it was written with {content}"));
    }
    if fill(pod, &slot, generation, &content) != written {
        return Err("its digests are not those that it was written with".to_owned());
    }
    Ok((generation, content))
}

/// Of a Pod's JSON; the order of its keys does not matter.
fn digest(pod: &Value) -> String {
    // Of a Pod without annotations the map may be empty, or not be there.
    let mut pod = pod.clone();
    if pod["metadata"]["annotations"].as_object().is_none_or(serde_json::Map::is_empty)
        && let Some(metadata) = pod["metadata"].as_object_mut()
    {
        metadata.remove("annotations");
    }
    Digest::of(pod.to_string().as_bytes()).to_string()
}

#[cfg(test)]
mod tests;
