//! The manifests of a checkpoint: the standby's Pod, and whether a file still is what was written.
//!
//! Two generations are kept, each a manifest of its own. Both run: so a manifest that is damaged leaves the other at
//! work, and the kubelet keeps the images of both. Each has a copy below the state directory, where no kubelet looks.
//!
//! Invariant: a manifest is whole or absent, and says by digests what it was written as. Its text is JSON, so that a
//! part of it is never a manifest.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::digest::Digest;
use crate::files;
use crate::standby::{self, DIGEST, GENERATION};

/// The name of the Pod that the plugin renders, and the beginning of its manifests' names.
pub(crate) const NAME: &str = "control-plane-standby";

/// The two manifests of a node, by the ends of their names.
pub(crate) const SLOTS: [&str; 2] = ["a", "b"];

/// The directory of the copies, below the state directory.
const COPIES: &str = "checkpoints";

/// The annotation with the generation.
const GENERATION_KEY: &str = "kubectl-selfhost.dev/generation";

/// The annotation with the SHA-256 of the Pod as the plugin rendered it.
const CONTENT_KEY: &str = "kubectl-selfhost.dev/content";

/// What a slot holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Empty,
    Damaged(String),
    Good { generation: u64, content: String },
}

/// The manifest of a slot, in whatever directory.
pub(crate) fn path(directory: &Path, slot: &str) -> PathBuf {
    directory.join(format!("{NAME}-{slot}.yaml"))
}

/// The directory of the copies.
pub(crate) fn copies(state: &Path) -> PathBuf {
    state.join(COPIES)
}

/// What is in a slot. Whatever differs from what was written is damage.
pub(crate) fn look(path: &Path) -> Result<Slot, files::Error> {
    let Some(file) = files::read(path)? else { return Ok(Slot::Empty) };
    Ok(match check(&file.bytes) {
        Ok((generation, content)) => Slot::Good { generation, content },
        Err(why) => Slot::Damaged(why),
    })
}

/// The Pod of a slot: with its name, its generation, and a digest for each supervisor.
pub(crate) fn fill(mut pod: Value, slot: &str, generation: u64, content: &str) -> Value {
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

/// Of a Pod's JSON; the order of its keys does not matter.
pub(crate) fn digest(pod: &Value) -> String {
    // Of a Pod without annotations the map may be empty, or not be there.
    let mut pod = pod.clone();
    if pod["metadata"]["annotations"].as_object().is_none_or(serde_json::Map::is_empty)
        && let Some(metadata) = pod["metadata"].as_object_mut()
    {
        metadata.remove("annotations");
    }
    Digest::of(pod.to_string().as_bytes()).to_string()
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
