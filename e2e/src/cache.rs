//! The folder of the user's cache in which programs are kept that were built or fetched once.

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Where it is; it may have to be made.
pub(crate) fn folder() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let cache = cache.context("neither XDG_CACHE_HOME nor HOME is set: no place for the programs that are built")?;
    Ok(cache.join("secrets-distributor"))
}

/// Tells apart in the name of a folder what was made of other texts.
pub(crate) fn digest(texts: &[&str]) -> String {
    let hash = texts.iter().fold(Sha256::new(), |hash, text| hash.chain_update(text)).finalize();
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Waits until no other process has the lock.
pub(crate) async fn locked(lock: &File) -> Result<()> {
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(200)).await,
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
}
