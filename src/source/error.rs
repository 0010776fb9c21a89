//! What can be wrong with the folder and with a source in it. No text holds content.

use rustix::io::Errno;

use super::MAX_BYTES;

/// Why one source cannot be used. Its text does not name the source: whoever asked knows the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// There is no such source, in a mount that is otherwise well.
    #[error("is not in the mounted folder: add it at the provider, or correct the name")]
    Missing,
    /// The folder it should be in holds no source at all: nothing is mounted there now.
    #[error("is in a folder that holds no source at all: check that the provider has mounted it")]
    NotMounted,
    /// It is there but cannot or must not be read.
    #[error("cannot be read: {0}")]
    Unreadable(Refusal),
    /// It has no content.
    #[error("is empty: give it content at the provider")]
    Empty,
    /// It alone is too large.
    #[error("has {bytes} bytes: at most {MAX_BYTES} can be distributed")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// It is too large together with the sources read before it.
    #[error("makes the sources together larger than the {MAX_BYTES} bytes a Secret can hold: use several Secrets")]
    TooLargeTogether,
}

/// Why the whole folder cannot be used now. What was distributed from it stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// The folder does not exist.
    #[error("the mounted folder does not exist: check the volume and --secrets-path")]
    Missing,
    /// There is no source anywhere in the folder.
    #[error("the mounted folder holds no source at all: check that the provider has mounted it")]
    Empty,
    /// It is there but cannot or must not be read.
    #[error("the mounted folder cannot be read: {0}")]
    Unreadable(Refusal),
    /// It did not hold still long enough for one consistent read.
    #[error("the mounted folder keeps changing: no consistent read was possible yet")]
    Unstable,
    /// A read of it does not come to an end.
    #[error("the mounted folder does not answer: see whether what mounts it still runs")]
    Silent,
    /// The kernel or its seccomp filter does not offer what keeps a read beneath the folder.
    #[error(
        "openat2 is not available: it needs Linux 5.6 and a seccomp profile that allows it; nothing is read without it"
    )]
    Unsupported,
}

/// Why something that is there is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The permissions do not allow it.
    #[error("permission denied: the operator's user needs read permission on files and search permission on folders")]
    Permission,
    /// A symlink leads up or out.
    #[error("a symlink leaves the folder it is in, which is never followed")]
    LinkLeaves,
    /// Symlinks lead to each other.
    #[error("symlinks lead in a circle")]
    LinkLoop,
    /// A symlink inside a generation of a mount.
    #[error("it is a symlink inside ..data, where only regular files are read")]
    Link,
    /// A directory where a file should be.
    #[error("it is a directory, not a file")]
    Directory,
    /// A file where a directory should be.
    #[error("it is not a directory")]
    NotADirectory,
    /// A FIFO.
    #[error("it is a FIFO, not a regular file")]
    Fifo,
    /// A socket.
    #[error("it is a socket, not a regular file")]
    Socket,
    /// A block or character device.
    #[error("it is a device, not a regular file")]
    Device,
    /// A mount whose current generation is not there.
    #[error("its ..data leads nowhere")]
    NoGeneration,
    /// More in the folder than anybody mounts on purpose.
    #[error("it holds too many entries")]
    TooManyEntries,
    /// The file system failed.
    #[error("the file system failed: {0}")]
    Io(Errno),
}
