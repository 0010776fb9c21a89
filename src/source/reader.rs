//! Reads that may hang: what mounts the folder need not answer, as a server of NFS that is away.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::{Contents, Folder, MountError, PATIENCE};
use crate::core::name::SourceName;

/// Reads the folder, and gives up what does not come.
pub struct Reader {
    folder: Folder,
    threads: Arc<Semaphore>,
}

impl Reader {
    /// At most `threads` reads run at a time; more are not waited for.
    pub fn new(folder: Folder, threads: usize) -> Self {
        Self { folder, threads: Arc::new(Semaphore::new(threads)) }
    }

    /// The folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Reads all the named sources from one generation.
    pub async fn read(&self, names: BTreeSet<SourceName>) -> Result<Contents, MountError> {
        let folder = self.folder.clone();
        self.within(PATIENCE, move || folder.read(&names)).await
    }

    /// A read that hangs keeps its thread until it ends: when none is left, nobody waits for what will not come.
    async fn within<T: Send + 'static>(
        &self,
        patience: Duration,
        read: impl FnOnce() -> Result<T, MountError> + Send + 'static,
    ) -> Result<T, MountError> {
        let Ok(thread) = self.threads.clone().try_acquire_owned() else { return Err(MountError::Silent) };
        let reading = spawn_blocking(move || {
            let _thread = thread;
            read()
        });
        match timeout(patience, reading).await {
            Ok(read) => read.unwrap_or(Err(MountError::Unstable)),
            Err(_) => Err(MountError::Silent),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, sync::mpsc};

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_read_that_hangs_is_given_up_and_when_all_do_nobody_waits() {
        let reader = Reader::new(Folder::new(PathBuf::new()), 1);
        let (answer, hang) = mpsc::channel::<()>();
        let hung = reader.within(SHORT, move || hang.recv().map_err(|_| MountError::Missing)).await;
        assert_eq!(hung, Err(MountError::Silent));
        assert_eq!(reader.within(LONG, || Ok(7)).await, Err(MountError::Silent), "its thread still hangs");
        answer.send(()).unwrap();
        while reader.within(LONG, || Ok(7)).await != Ok(7) {
            tokio::task::yield_now().await;
        }
        let panics = reader.within(LONG, || -> Result<(), _> { panic!("hunter2") }).await;
        assert_eq!(panics, Err(MountError::Unstable), "and its thread is free again");
        assert_eq!(reader.within(LONG, || Ok(7)).await, Ok(7));
    }
}
