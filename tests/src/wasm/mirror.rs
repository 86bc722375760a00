//! A copy of a directory that is kept up to date.
//!
//! Invariant: a file that is the same keeps its time of modification, by which cargo knows that there is nothing to do.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Makes `to` hold what `from` holds, and nothing else, without these paths of `from`.
pub(super) fn mirror(from: &Path, to: &Path, without: &[PathBuf]) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        if without.contains(&source) {
            continue;
        }
        names.insert(entry.file_name());
        if entry.file_type()?.is_dir() {
            mirror(&source, &copy, without)?;
            continue;
        }
        let content = fs::read(&source).with_context(|| format!("read {}", source.display()))?;
        if fs::read(&copy).ok().as_ref() != Some(&content) {
            fs::write(&copy, content).with_context(|| format!("write {}", copy.display()))?;
        }
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if !names.contains(&entry.file_name()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_copy_follows_and_what_is_the_same_stays_untouched() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        let put = |path: &str, text: &str| {
            let path = from.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("a", "1");
        put("sub/b", "1");
        put("target/c", "1");
        let without = [from.join("target")];
        mirror(&from, &to, &without).unwrap();
        assert_eq!(fs::read_to_string(to.join("sub/b")).unwrap(), "1");
        assert!(!to.join("target").exists());
        let early = SystemTime::now() - Duration::from_hours(1);
        fs::File::options().write(true).open(to.join("a")).unwrap().set_modified(early).unwrap();
        put("sub/b", "2");
        fs::write(to.join("stray"), "").unwrap();
        mirror(&from, &to, &without).unwrap();
        assert_eq!(fs::metadata(to.join("a")).unwrap().modified().unwrap(), early);
        assert_eq!(fs::read_to_string(to.join("sub/b")).unwrap(), "2");
        assert!(!to.join("stray").exists());
        fs::remove_dir_all(from.join("sub")).unwrap();
        mirror(&from, &to, &without).unwrap();
        assert!(!to.join("sub").exists());
    }
}
