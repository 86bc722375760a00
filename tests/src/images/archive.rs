//! OCI image layouts as tar files: one layer, one manifest.
//!
//! Invariant: the same entries give the same bytes. Files are read twice (digest, then copy), never held in memory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Image, hex, split_tag};
use crate::lock;
use crate::progress::Progress;

/// The annotation that containerd names an imported image by.
const NAME_ANNOTATION: &str = "io.containerd.image.name";

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// An executable file of an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// Path in the image, without the leading slash.
    path: String,
    /// The file on this machine.
    source: PathBuf,
}

impl Entry {
    /// `source` as an executable at `path` (no leading slash).
    pub(super) fn program(source: PathBuf, path: String) -> Self {
        Self { path, source }
    }
}

/// An image to be made.
#[derive(Debug)]
pub(super) struct Archive {
    reference: String,
    entries: Vec<Entry>,
    entrypoint: Option<&'static str>,
    env: Option<&'static str>,
}

impl Archive {
    /// An image called `reference` (name and tag) of `entries`.
    pub(super) fn new(reference: String, mut entries: Vec<Entry>) -> Self {
        entries.sort();
        Self { reference, entries, entrypoint: None, env: None }
    }

    /// What the image runs when a Pod gives no command.
    pub(super) fn entrypoint(self, program: &'static str) -> Self {
        Self { entrypoint: Some(program), ..self }
    }

    /// A `NAME=value` that its programs find in their environment.
    pub(super) fn env(self, variable: &'static str) -> Self {
        Self { env: Some(variable), ..self }
    }

    /// The image in `directory`, made if it is missing or made from other files.
    pub(super) fn ensure(&self, directory: &Path, progress: &Progress) -> Result<Image> {
        let plain = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' };
        let directory = directory.join(self.reference.chars().map(plain).collect::<String>());
        let _lock = lock::directory(&directory, || {
            progress.line(format_args!("another process makes image {}; waiting", self.reference));
        })?;
        let record = directory.join("record.json");
        let made_from = self.made_from()?;
        if let Ok(text) = fs::read_to_string(&record)
            && let Ok(known) = serde_json::from_str::<Value>(&text)
            && known["madeFrom"] == made_from
            && let Some(image) = known["digest"].as_str().map(|digest| self.image(&directory, digest))
            && image.archive.exists()
        {
            return Ok(image);
        }
        for old in fs::read_dir(&directory)?.flatten() {
            fs::remove_file(old.path()).with_context(|| format!("remove {}", old.path().display()))?;
        }
        let fresh = directory.join("new");
        let digest = self.write(&fresh).with_context(|| format!("make image {}", self.reference))?;
        let image = self.image(&directory, &digest);
        fs::rename(&fresh, &image.archive)?;
        fs::write(&record, json!({"digest": digest, "madeFrom": made_from}).to_string())?;
        Ok(image)
    }

    /// An archive is named by its digest: whoever was given one never finds another image in it.
    fn image(&self, directory: &Path, digest: &str) -> Image {
        let archive = directory.join(format!("{}.tar", digest.trim_start_matches("sha256:")));
        Image { reference: self.reference.clone(), digest: digest.to_owned(), archive }
    }

    /// What tells whether an archive is current without reading its files: their sizes and times of change.
    fn made_from(&self) -> Result<Value> {
        let files: Result<Vec<Value>> = self
            .entries
            .iter()
            .map(|entry| {
                let metadata = fs::metadata(&entry.source).with_context(|| {
                    format!("find {} for image {}", entry.source.display(), self.reference)
                })?;
                let changed = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                Ok(json!([entry.path, entry.source, metadata.len(), changed.as_nanos().to_string()]))
            })
            .collect();
        let mut made_from = json!({"format": 1, "entrypoint": self.entrypoint, "files": files?});
        if let Some(env) = self.env {
            made_from["env"] = env.into();
        }
        Ok(made_from)
    }

    /// Writes the archive and returns the manifest's digest.
    fn write(&self, path: &Path) -> Result<String> {
        let mut layer = Counter { digest: Sha256::new(), size: 0 };
        self.write_layer(&mut layer)?;
        let Counter { digest, size: layer_size } = layer;
        let layer_digest = sha256(digest);

        let (_, tag) = split_tag(&self.reference);
        let search = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let env: Vec<&str> = [search].into_iter().chain(self.env).collect();
        let config = Blob::new(&json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Env": env,
                "Entrypoint": self.entrypoint.map(|program| [program]),
            },
            "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
            "history": [{"created_by": "bed"}],
        }));
        let manifest = Blob::new(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": config.digest, "size": config.bytes.len()},
            "layers": [{"mediaType": LAYER_TYPE, "digest": layer_digest, "size": layer_size}],
        }));
        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": [{
                "mediaType": MANIFEST_TYPE,
                "digest": manifest.digest,
                "size": manifest.bytes.len(),
                "platform": {"architecture": architecture(), "os": "linux"},
                "annotations": {NAME_ANNOTATION: self.reference, "org.opencontainers.image.ref.name": tag},
            }],
        });

        let mut out = tar::Builder::new(BufWriter::with_capacity(1 << 20, File::create(path)?));
        append(&mut out, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        append(&mut out, "index.json", index.to_string().as_bytes())?;
        append(&mut out, &blob_path(&config.digest), &config.bytes)?;
        append(&mut out, &blob_path(&manifest.digest), &manifest.bytes)?;
        // The layer is not held in memory: its header first, then it writes itself into the outer archive.
        let mut header = header(tar::EntryType::Regular, 0o644, layer_size);
        header.set_path(blob_path(&layer_digest))?;
        header.set_cksum();
        out.get_mut().write_all(header.as_bytes())?;
        self.write_layer(out.get_mut())?;
        let padding = usize::try_from(layer_size.next_multiple_of(512) - layer_size)?;
        out.get_mut().write_all(&[0; 512][..padding])?;
        out.into_inner()?.flush()?;
        Ok(manifest.digest)
    }

    fn write_layer(&self, out: impl Write) -> Result<()> {
        let mut layer = tar::Builder::new(out);
        let mut made = BTreeSet::new();
        for (directory, mode) in [("tmp", 0o1777), ("etc", 0o755)] {
            made.insert(PathBuf::from(directory));
            layer.append_data(&mut header(tar::EntryType::Directory, mode, 0), directory, io::empty())?;
        }
        for entry in &self.entries {
            let parents: Vec<_> = Path::new(&entry.path).ancestors().skip(1).collect();
            for parent in parents.into_iter().rev().filter(|parent| !parent.as_os_str().is_empty()) {
                if made.insert(parent.to_owned()) {
                    let mut header = header(tar::EntryType::Directory, 0o755, 0);
                    layer.append_data(&mut header, parent, io::empty())?;
                }
            }
            let file =
                File::open(&entry.source).with_context(|| format!("open {}", entry.source.display()))?;
            let size = file.metadata()?.len();
            let mut header = header(tar::EntryType::Regular, 0o755, size);
            layer.append_data(&mut header, &entry.path, file.take(size))?;
        }
        layer.into_inner()?.flush()?;
        Ok(())
    }
}

/// Name and digest of an archive in the form [`Archive`] writes; others work as long as their index names one image.
pub(super) fn read(file: File, path: &Path) -> Result<Image> {
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path()?.as_os_str() != "index.json" {
            continue;
        }
        let mut text = String::new();
        entry.read_to_string(&mut text)?;
        let index: Value = serde_json::from_str(&text).context("parse index.json")?;
        let manifest = &index["manifests"][0];
        let name = manifest["annotations"][NAME_ANNOTATION].as_str();
        return Ok(Image {
            reference: name
                .with_context(|| format!("no annotation {NAME_ANNOTATION} in index.json"))?
                .to_owned(),
            digest: manifest["digest"].as_str().context("no digest in index.json")?.to_owned(),
            archive: path.to_owned(),
        });
    }
    anyhow::bail!("no index.json: not an OCI image layout")
}

/// A small JSON document of an image.
struct Blob {
    bytes: Vec<u8>,
    digest: String,
}

impl Blob {
    fn new(value: &Value) -> Self {
        let bytes = value.to_string().into_bytes();
        let digest = sha256(Sha256::new_with_prefix(&bytes));
        Self { bytes, digest }
    }
}

fn sha256(digest: Sha256) -> String {
    format!("sha256:{}", hex(&digest.finalize()))
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

fn append(out: &mut tar::Builder<impl Write>, path: &str, bytes: &[u8]) -> Result<()> {
    let mut header = header(tar::EntryType::Regular, 0o644, u64::try_from(bytes.len())?);
    Ok(out.append_data(&mut header, path, bytes)?)
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// This machine's architecture in Go's words, which images use.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Digests and counts what is written to it.
struct Counter {
    digest: Sha256,
    size: u64,
}

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.digest.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(directory: &Path) -> Archive {
        let source = directory.join("program");
        fs::write(&source, vec![7; 100_001]).unwrap();
        Archive::new(
            "example.org/a/b:v1".into(),
            vec![Entry::program(source, "usr/local/bin/program".into())],
        )
    }

    fn ensure(archive: &Archive, directory: &Path) -> Result<Image> {
        archive.ensure(directory, &Progress::new(io::sink()))
    }

    #[test]
    fn an_archive_reads_back_and_is_stable() {
        let directory = tempfile::tempdir().unwrap();
        let archive = archive(directory.path());
        let image = ensure(&archive, directory.path()).unwrap();
        let first = fs::read(&image.archive).unwrap();
        assert_eq!(super::super::read(&image.archive).unwrap(), image);
        fs::remove_file(&image.archive).unwrap();
        assert_eq!(ensure(&archive, directory.path()).unwrap(), image);
        assert_eq!(fs::read(&image.archive).unwrap(), first);
    }

    #[test]
    fn every_blob_has_the_digest_it_is_named_by_and_the_size_its_descriptor_says() {
        let directory = tempfile::tempdir().unwrap();
        let image = ensure(&archive(directory.path()), directory.path()).unwrap();
        let mut seen = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(File::open(&image.archive).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            if let Some(digest) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(hex(&Sha256::digest(&bytes)), digest);
            }
            seen.insert(path, bytes);
        }
        let manifest: Value = serde_json::from_slice(&seen[&blob_path(&image.digest)]).unwrap();
        let layer = &manifest["layers"][0];
        let bytes = &seen[&blob_path(layer["digest"].as_str().unwrap())];
        assert_eq!(layer["size"].as_u64().unwrap(), bytes.len() as u64);
        let paths: Vec<String> = tar::Archive::new(&bytes[..])
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(
            paths.iter().map(|path| path.trim_end_matches('/')).collect::<Vec<_>>(),
            ["tmp", "etc", "usr", "usr/local", "usr/local/bin", "usr/local/bin/program"]
        );
    }

    #[test]
    fn a_changed_file_makes_another_image() {
        let directory = tempfile::tempdir().unwrap();
        let archive = archive(directory.path());
        let before = ensure(&archive, directory.path()).unwrap();
        fs::write(directory.path().join("program"), "another").unwrap();
        assert_ne!(ensure(&archive, directory.path()).unwrap().digest, before.digest);
    }
}
