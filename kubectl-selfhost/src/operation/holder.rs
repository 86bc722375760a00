//! Who holds the lock: a name that people read, and a proof of life that the same machine can check at once.
//!
//! Invariant: a holder is called dead only on proof. The proof is a file of its own that the holder keeps locked: the
//! kernel lets go of it when the process ends, however it ends. Elsewhere only the Lease's time tells.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::template::short_hash;

/// This process, as a holder.
#[derive(Debug)]
pub struct Holder {
    name: String,
    /// Locked as long as this process lives; `None` where no file can be written.
    proof: Option<(PathBuf, File)>,
}

impl Holder {
    /// A holder that nobody else is: `ann@desk-0123456789abcdef`.
    pub fn new() -> Self {
        let user = ["USER", "USERNAME", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unique = short_hash(format!("{} {since_epoch:?}", std::process::id()).as_bytes());
        let name = format!("{}@{}-{unique}", user.as_deref().unwrap_or("somebody"), host());
        let path = proof_path(&std::env::temp_dir(), &name);
        let proof = path.and_then(|path| {
            let file = OpenOptions::new().write(true).create_new(true).open(&path).ok()?;
            file.try_lock().ok()?;
            Some((path, file))
        });
        Self { name, proof }
    }

    /// The identity that the Lease carries.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Default for Holder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Some((path, _file)) = &self.proof {
            // What is left in the directory for temporary files is found dead by the next one.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Whether the holder of this name ran on this machine and has provably ended.
pub fn is_dead(name: &str) -> bool {
    is_dead_in(&std::env::temp_dir(), name)
}

fn is_dead_in(directory: &Path, name: &str) -> bool {
    let Some(path) = proof_path(directory, name) else { return false };
    let Ok(file) = File::open(&path) else { return false };
    let dead = file.try_lock().is_ok();
    if dead {
        let _ = std::fs::remove_file(&path);
    }
    dead
}

/// Where the holder of this name keeps its proof; `None` for a name that is not of our making.
fn proof_path(directory: &Path, name: &str) -> Option<PathBuf> {
    let unique = name.rsplit('-').next().filter(|unique| unique.len() == 16)?;
    let hexadecimal = unique.bytes().all(|byte| byte.is_ascii_hexdigit());
    hexadecimal.then(|| directory.join(format!("kubectl-selfhost-{unique}.lock")))
}

/// The machine's name, as the environment or the system tells it.
fn host() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    variable("HOSTNAME")
        .or_else(|| variable("COMPUTERNAME"))
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map_or_else(|| "somewhere".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_only_on_proof() {
        let holder = Holder::new();
        let name = holder.name().to_owned();
        assert!(!is_dead(&name), "it lives");
        assert!(!is_dead("ann@desk-0123456789abcdef"), "nothing is known of it");
        assert!(!is_dead("ann@desk"), "a name that is not of our making");
        let directory = std::env::temp_dir();
        let path = proof_path(&directory, "x-00000000000000ff").unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(is_dead("x-00000000000000ff"), "nobody keeps its proof locked");
        assert!(!path.exists());
        drop(holder);
        assert!(!is_dead(&name), "it ended in order, and took its proof away");
    }
}
