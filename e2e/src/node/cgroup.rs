//! The cgroup of the pods: the one thing of a node that its namespaces do not take with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Result;

const ROOT: &str = "/sys/fs/cgroup";
const PREFIX: &str = "secrets-distributor-e2e-";
const ATTEMPTS: usize = 50;

/// Its name in each hierarchy. Dropped: removed.
#[derive(Debug)]
pub(super) struct Cgroup(String);

impl Cgroup {
    /// A name that is not in use; what a process left that was killed is removed.
    pub(super) fn new() -> Result<Self> {
        for path in hierarchies().flat_map(|hierarchy| fs::read_dir(hierarchy).into_iter().flatten().flatten()) {
            let name = path.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix(PREFIX).filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()));
            if owner.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
                remove(&path.path());
            }
        }
        Ok(Self(format!("{PREFIX}{}", std::process::id())))
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel takes a moment to end the last processes in it.
        for _ in 0..ATTEMPTS {
            let left: Vec<_> =
                hierarchies().map(|hierarchy| hierarchy.join(&self.0)).filter(|at| at.exists()).collect();
            if left.is_empty() {
                return;
            }
            left.iter().for_each(|path| remove(path));
            thread::sleep(Duration::from_millis(100));
        }
        eprintln!("{ROOT}: {} is left, with processes in it", self.0);
    }
}

/// Of cgroup v2 the root alone; of v1 each below it.
fn hierarchies() -> impl Iterator<Item = PathBuf> {
    let below = fs::read_dir(ROOT).into_iter().flatten().flatten().map(|entry| entry.path());
    std::iter::once(PathBuf::from(ROOT)).chain(below).filter(|path| path.join("cgroup.procs").exists())
}

/// The kernel refuses to remove one with a process in it.
fn remove(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}
