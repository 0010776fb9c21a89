//! Temporary folders that are never left behind for good.
//!
//! The owner of a folder holds a lock on it. The kernel drops the lock when the owner dies, however
//! it dies, so that whoever creates the next folder can tell the abandoned ones and removes them.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

const PREFIX: &str = "secrets-distributor-e2e-";

/// A folder of ours below the system's temporary folder. Dropped: removed.
#[derive(Debug)]
pub(crate) struct Workdir {
    // Order matters: the folder is removed while the lock is still held.
    folder: TempDir,
    _lock: File,
}

impl Workdir {
    /// Creates one, and removes those whose owner died.
    pub(crate) fn create() -> Result<Self> {
        let parent = std::env::temp_dir();
        sweep(&parent).with_context(|| format!("cannot read {}", parent.display()))?;
        loop {
            let folder = tempfile::Builder::new().prefix(PREFIX).tempdir();
            let folder = folder.with_context(|| format!("cannot create a folder in {}", parent.display()))?;
            if let Some(lock) = claim(folder.path())? {
                return Ok(Self { folder, _lock: lock });
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Locks the folder; `None` if another process is sweeping it, or has removed it already.
fn claim(folder: &Path) -> io::Result<Option<File>> {
    let lock = match File::open(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let ours = lock.try_lock().is_ok() && lock.metadata()?.nlink() > 0;
    Ok(ours.then_some(lock))
}

/// Removes the folders whose owner died. Those of other users cannot be opened and stay.
fn sweep(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)?.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if ours && let Ok(Some(_lock)) = claim(&entry.path()) {
            // Two that sweep at once disturb each other at most.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_abandoned_folders_are_swept() {
        let parent = tempfile::tempdir().unwrap();
        let abandoned = parent.path().join(format!("{PREFIX}abandoned"));
        let owned = parent.path().join(format!("{PREFIX}owned"));
        let foreign = parent.path().join("foreign");
        for folder in [&abandoned, &owned, &foreign] {
            fs::create_dir_all(folder.join("content")).unwrap();
        }
        let lock = claim(&owned).unwrap().unwrap();
        sweep(parent.path()).unwrap();
        assert!(!abandoned.exists() && owned.exists() && foreign.exists());
        drop(lock);
        sweep(parent.path()).unwrap();
        assert!(!owned.exists());
    }

    #[test]
    fn a_dropped_folder_is_gone() {
        let workdir = Workdir::create().unwrap();
        let path = workdir.path().to_owned();
        fs::write(path.join("file"), "content").unwrap();
        drop(workdir);
        assert!(!path.exists());
    }
}
