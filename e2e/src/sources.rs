//! [`Sources`]: what is in the folder that the operator reads.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use crate::Mount;

/// The mounted folder: each source can be set by itself; every change is a new generation of all.
pub struct Sources {
    mount: Mount,
    files: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Sources {
    pub(crate) fn new(mount: Mount) -> Result<Self> {
        let sources = Self { mount, files: Mutex::default() };
        sources.set(&[("Always", b"there")])?;
        Ok(sources)
    }

    /// Sets some sources, in one new generation.
    pub fn set(&self, sources: &[(&str, &[u8])]) -> Result<()> {
        self.change(|files| files.extend(sources.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec()))))
    }

    /// Removes a source, in a new generation.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.change(|files| drop(files.remove(name)))
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> Result<()> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut files);
        self.mount.write(&files.iter().collect::<Vec<_>>())
    }

    /// The folder itself.
    pub fn mount(&self) -> &Mount {
        &self.mount
    }
}
