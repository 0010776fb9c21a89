//! The mounted folder: what it holds, read as one generation, and watched.
//!
//! # Layouts
//! A folder that holds `..data` (kubelet, Secrets Store CSI driver) is a *mount with generations*:
//! its sources are looked up in the directory that `..data` leads to, never through the symlinks
//! beside it. Any other folder is *plain*. The root may be either, and so may every folder beneath
//! it that a source name can reach, also one mounted inside a mount with generations.
//!
//! # Invariants
//! - Beneath only: a name is opened segment by segment with `openat2(RESOLVE_BENEATH)`. In a
//!   generation no symlink is followed at all; in a plain folder a symlink may lead further down
//!   from the folder it lies in, never up or out. Without `openat2` nothing is opened.
//! - One generation: what one [`Folder::read`] returns was all there at one instant. Every folder
//!   on the way is opened once and pinned, and everything is looked up a second time afterwards; if
//!   anything differs, the whole read starts again. A missing source is missing in both passes.
//! - Never blocked, never flooded: only regular files are opened, at most [`MAX_BYTES`] are read.
//! - Content is kept byte for byte, in memory that is wiped; no error and no fingerprint holds any.
//! - A mount without a single source is an error, so that it can never mean "every source is gone".

mod beneath;
mod error;
mod inotify;
mod read;
mod reader;
mod snapshot;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use error::{MountError, Refusal, SourceError};
pub use reader::Reader;
pub use snapshot::Snapshot;
pub use watch::{Change, Extent, Noticed, watch};

use crate::core::{bytes::SecretBytes, name::SourceName};

/// The most bytes one source, and all sources of one read together, may have. A Secret cannot hold more.
pub const MAX_BYTES: u64 = 1 << 20;

/// How long the mount may take to answer: much longer than one that does not keep still is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What one read found: content or the reason why not, for every name asked for.
pub type Contents = BTreeMap<SourceName, Result<SecretBytes, SourceError>>;

/// The mounted folder. It need not exist yet.
#[derive(Clone, Debug)]
pub struct Folder(Arc<Path>);

impl Folder {
    /// The folder at `root`.
    pub fn new(root: PathBuf) -> Self {
        Self(root.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Reads all the named sources from one generation. Blocks, for up to about 1.5 seconds while
    /// the folder keeps changing.
    pub fn read(&self, names: &BTreeSet<SourceName>) -> Result<Contents, MountError> {
        read::read(&self.0, names)
    }

    /// What is there now. Blocks.
    pub fn snapshot(&self) -> Result<Snapshot, MountError> {
        snapshot::scan(&self.0)?.if_mounted()
    }
}
