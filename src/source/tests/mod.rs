//! Tests with real folders.

mod beneath;
mod generation;
mod reading;
mod watching;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{Contents, Folder, MountError, SourceError};
use crate::core::{bytes::SecretBytes, name::SourceName};

pub(super) fn name(text: &str) -> SourceName {
    SourceName::parse(text).unwrap()
}

pub(super) fn names<'a>(texts: impl IntoIterator<Item = &'a str>) -> BTreeSet<SourceName> {
    texts.into_iter().map(name).collect()
}

fn read<const N: usize>(root: &Path, wanted: [&str; N]) -> Result<Contents, MountError> {
    Folder::new(root.to_owned()).read(&names(wanted))
}

/// The one source, of a folder that must be usable.
fn read_one(root: &Path, wanted: &str) -> Result<SecretBytes, SourceError> {
    read(root, [wanted]).unwrap().remove(wanted).unwrap()
}

fn bytes(content: impl AsRef<[u8]>) -> SecretBytes {
    SecretBytes::new(content.as_ref().to_vec())
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Replaces the content of a mount in the order in which the kubelet and the CSI driver do it: new
/// directory, symlinks for people, `..data` by rename, stale symlinks, old directory.
pub(super) fn swap_in<C: AsRef<[u8]>>(mount: &Path, files: &[(&str, C)]) {
    static GENERATIONS: AtomicU64 = AtomicU64::new(0);
    let generation = format!("..2026_07_31_12_00_00.{}", GENERATIONS.fetch_add(1, Ordering::Relaxed));
    let old = fs::read_link(mount.join("..data")).ok();
    fs::create_dir_all(mount.join(&generation)).unwrap();
    for (file, content) in files {
        write(&mount.join(&generation).join(file), content);
    }
    let tops: BTreeSet<&str> = files.iter().map(|(file, _)| file.split('/').next().unwrap()).collect();
    for top in &tops {
        // It is there already if the generation before had it.
        let _ = symlink(Path::new("..data").join(top), mount.join(top));
    }
    symlink(&generation, mount.join("..data_tmp")).unwrap();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    for entry in fs::read_dir(mount).unwrap().map(Result::unwrap) {
        let top = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_symlink() && !top.starts_with("..") && !tops.contains(top.as_str()) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    if let Some(old) = old {
        fs::remove_dir_all(mount.join(old)).unwrap();
    }
}
