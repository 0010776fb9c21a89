//! Folders of secrets, written as a node writes them.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use crate::workdir::Workdir;

const DATA: &str = "..data";
const DATA_TMP: &str = "..data_tmp";

/// A volume as the kubelet and the Secrets Store CSI driver write it.
///
/// The files of one generation are in a folder `..YYYY_MM_DD_hh_mm_ss.N`; the symlink `..data`
/// points to it, and the names that users open are symlinks through `..data`. Replacing `..data` is
/// the only step that changes content, for all files at once.
#[derive(Debug)]
pub struct Mount {
    root: PathBuf,
    // Number of the next generation; held while one is written.
    generation: Mutex<u64>,
    _owned: Option<Workdir>,
}

impl Mount {
    /// An empty mount in a folder of its own, which goes when it is dropped.
    pub fn new() -> Result<Self> {
        let owned = Workdir::create()?;
        let root = owned.path().join("secrets");
        fs::create_dir(&root)?;
        Ok(Self { root, generation: Mutex::default(), _owned: Some(owned) })
    }

    /// An empty mount at a path, for instance in a sub-folder of another; it stays when dropped.
    pub fn at(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
        Ok(Self { root, generation: Mutex::default(), _owned: None })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Replaces its content by exactly these files, in the steps of the kubelet's atomic writer.
    ///
    /// Between the steps it looks as it does on a node: a new name dangles before the swap, a
    /// removed one after it, and the old generation vanishes under whoever still reads it.
    pub fn write<N: AsRef<str>, B: AsRef<[u8]>>(&self, files: &[(N, B)]) -> Result<()> {
        let mut generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.current()?;
        let new = self.write_generation(&mut generation, files)?;
        let visible: BTreeSet<_> = files.iter().filter_map(|(name, _)| first_segment(name.as_ref())).collect();
        self.link_visible(&visible)?;
        self.swap(&new)?;
        self.unlink_stale(&visible)?;
        match old {
            Some(old) => Ok(fs::remove_dir_all(self.root.join(old))?),
            None => Ok(()),
        }
    }

    /// Name of the folder that `..data` points to; `None` before the first write.
    pub fn current(&self) -> Result<Option<PathBuf>> {
        match fs::read_link(self.root.join(DATA)) {
            Ok(target) => Ok(Some(target)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn write_generation<N: AsRef<str>, B: AsRef<[u8]>>(&self, number: &mut u64, files: &[(N, B)]) -> Result<String> {
        let time = Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S");
        let name = format!("..{time}.{:09}", *number);
        *number += 1;
        let folder = self.root.join(&name);
        fs::create_dir(&folder)?;
        for (file, content) in files {
            let path = folder.join(file.as_ref());
            ensure!(is_plain(file.as_ref()), "{:?} is no name for a file of a volume", file.as_ref());
            fs::create_dir_all(path.parent().unwrap_or(&folder))?;
            fs::write(path, content)?;
        }
        Ok(name)
    }

    fn link_visible(&self, visible: &BTreeSet<&str>) -> Result<()> {
        for name in visible {
            let link = self.root.join(name);
            if link.symlink_metadata().is_err() {
                symlink(Path::new(DATA).join(name), link)?;
            }
        }
        Ok(())
    }

    fn swap(&self, generation: &str) -> Result<()> {
        let temporary = self.root.join(DATA_TMP);
        symlink(generation, &temporary)?;
        Ok(fs::rename(temporary, self.root.join(DATA))?)
    }

    fn unlink_stale(&self, visible: &BTreeSet<&str>) -> Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            let ours = entry.file_type()?.is_symlink() && !name.starts_with("..");
            if ours && !visible.contains(name) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

fn first_segment(name: &str) -> Option<&str> {
    name.split('/').next()
}

/// As the atomic writer demands: relative, downward, and not one of its own names.
fn is_plain(name: &str) -> bool {
    let downward = Path::new(name).components().all(|component| matches!(component, Component::Normal(_)));
    !name.is_empty() && downward && !name.starts_with("..")
}

/// A folder of plain files, as a provider without the atomic writer leaves it.
#[derive(Debug)]
pub struct PlainFolder {
    root: PathBuf,
    _owned: Workdir,
}

impl PlainFolder {
    /// An empty one, which goes when it is dropped.
    pub fn new() -> Result<Self> {
        let owned = Workdir::create()?;
        let root = owned.path().join("secrets");
        fs::create_dir(&root)?;
        Ok(Self { root, _owned: owned })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Writes a file in place, and the folders above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
        Ok(fs::write(path, content)?)
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(self.root.join(name))?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_write_leaves_exactly_its_files() {
        let mount = Mount::new().unwrap();
        mount.write(&[("a", "1"), ("sub/b", "2")]).unwrap();
        let first = mount.current().unwrap().unwrap();
        mount.write(&[("sub/b", "3"), ("c", "4")]).unwrap();
        let second = mount.current().unwrap().unwrap();
        assert_ne!(first, second);
        assert_eq!(names(mount.path()), [second.to_str().unwrap(), DATA, "c", "sub"]);
        assert_eq!(fs::read(mount.path().join("sub/b")).unwrap(), b"3");
        assert_eq!(fs::read_link(mount.path().join("c")).unwrap(), Path::new("..data/c"));
    }

    #[test]
    fn names_that_leave_the_volume_are_refused() {
        let mount = Mount::new().unwrap();
        for name in ["../a", "/a", "", "..data", "a/../../b"] {
            assert!(mount.write(&[(name, "")]).is_err(), "{name}");
        }
    }

    #[test]
    fn a_mount_may_be_part_of_another_folder() {
        let parent = PlainFolder::new().unwrap();
        let mount = Mount::at(parent.path().join("vault-a")).unwrap();
        mount.write(&[("a", "1")]).unwrap();
        assert_eq!(fs::read(parent.path().join("vault-a/a")).unwrap(), b"1");
    }

    /// All files of a generation, through a handle on the folder that `..data` points to; `None`
    /// if it vanished meanwhile.
    fn read_pinned(root: &Path) -> Option<Vec<Vec<u8>>> {
        let pinned = fs::File::open(root.join(DATA)).ok()?;
        let folder = PathBuf::from(format!("/proc/self/fd/{}", pinned.as_raw_fd()));
        ["a", "b", "c"].iter().map(|name| fs::read(folder.join(name)).ok()).collect()
    }

    #[test]
    fn a_reader_that_pins_a_generation_never_sees_two() {
        let mount = Mount::new().unwrap();
        mount.write(&[("a", "0"), ("b", "0"), ("c", "0")]).unwrap();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut last = Vec::new();
                let mut seen = 0;
                // Until generations were seen to follow each other often enough.
                while seen < 50 {
                    let Some(set) = read_pinned(mount.path()) else { continue };
                    assert!(set.iter().all(|content| *content == set[0]), "torn: {set:?}");
                    if last != set {
                        seen += 1;
                        last = set;
                    }
                }
            });
            for generation in 1.. {
                // Also when it has panicked.
                if reader.is_finished() {
                    break;
                }
                let content = format!("{generation}");
                mount.write(&[("a", &content), ("b", &content), ("c", &content)]).unwrap();
            }
        });
    }
}
