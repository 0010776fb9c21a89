//! Reading sources as one generation.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::Path,
    rc::Rc,
    time::SystemTime,
};

use zeroize::Zeroizing;

use super::{
    Contents, MAX_BYTES,
    beneath::{Dir, Fault, Kind, Stamp, until_still},
    error::{MountError, Refusal, SourceError},
    snapshot::holds_a_source,
};
use crate::core::{bytes::SecretBytes, name::SourceName};

/// Attempts before the folder counts as unstable.
const ROUNDS: u32 = 20;

/// Reads the named sources as they were at one instant.
pub(super) fn read(root: &Path, names: &BTreeSet<SourceName>) -> Result<Contents, MountError> {
    let pass = until_still(ROUNDS, || {
        let pass = Pass::take(root, names)?;
        if pass.is_confirmed()? { Ok(pass) } else { Err(Fault::Moved) }
    })?;
    if pass.mounted { Ok(pass.contents()) } else { Err(MountError::Empty) }
}

/// One look at all the named sources. It pins every folder it passed through.
///
/// What it found existed at one instant if a second look, begun after the first has ended, finds
/// every single thing unchanged: each was then the same from its first look to its second.
pub(super) struct Pass<'a> {
    view: View<'a>,
    looks: BTreeMap<&'a SourceName, Look>,
    mounted: bool,
}

/// What was found under one name.
struct Look {
    stamp: Result<Stamp, SourceError>,
    content: Result<SecretBytes, SourceError>,
}

impl<'a> Pass<'a> {
    pub fn take(root: &'a Path, names: &'a BTreeSet<SourceName>) -> Result<Self, Fault> {
        let mut view = View::open(root)?;
        let mut budget = MAX_BYTES;
        let mut looks = BTreeMap::new();
        let mut mounted = true;
        for name in names {
            let stamp = per_source(view.stamp(name.as_str()))?;
            let content = match stamp {
                Ok(stamp) => view.content(name.as_str(), &stamp, &mut budget)?,
                Err(SourceError::Missing) => Err(view.absence(name.as_str())?),
                Err(error) => Err(error),
            };
            if mounted && matches!(content, Err(SourceError::NotMounted)) {
                mounted = holds_a_source(&view.root)?;
            }
            looks.insert(name, Look { stamp, content });
        }
        Ok(Self { view, looks, mounted })
    }

    /// Looks at everything a second time.
    pub fn is_confirmed(&self) -> Result<bool, Fault> {
        let mut again = View::open(self.view.path)?;
        for (name, look) in &self.looks {
            if per_source(again.stamp(name.as_str()))? != look.stamp {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub fn contents(self) -> Contents {
        self.looks.into_iter().map(|(name, look)| (name.clone(), look.content)).collect()
    }
}

/// The folders passed through so far, each opened once.
struct View<'a> {
    path: &'a Path,
    root: Rc<Dir>,
    folders: BTreeMap<String, Result<Rc<Dir>, Fault>>,
}

impl<'a> View<'a> {
    fn open(path: &'a Path) -> Result<Self, Fault> {
        Ok(Self { path, root: Rc::new(Dir::root(path)?), folders: BTreeMap::new() })
    }

    /// The folder at `path`; none is the root.
    fn folder(&mut self, path: Option<&str>) -> Result<Rc<Dir>, Fault> {
        let Some(path) = path else { return Ok(self.root.clone()) };
        if let Some(known) = self.folders.get(path) {
            return known.clone();
        }
        let (parent, segment) = split(path);
        let folder = self.folder(parent).and_then(|parent| parent.enter(segment)).map(Rc::new);
        self.folders.insert(path.to_owned(), folder.clone());
        folder
    }

    fn stamp(&mut self, name: &str) -> Result<Stamp, Fault> {
        let (parent, segment) = split(name);
        self.folder(parent)?.stat(segment)
    }

    /// The content of what `stamp` was found of. Content read takes its size from the budget.
    fn content(
        &mut self,
        name: &str,
        stamp: &Stamp,
        budget: &mut u64,
    ) -> Result<Result<SecretBytes, SourceError>, Fault> {
        let (parent, segment) = split(name);
        let folder = self.folder(parent)?;
        match stamp.kind {
            Kind::Folder => return Ok(Err(SourceError::Unreadable(Refusal::Directory))),
            Kind::Other(refusal) => return Ok(Err(SourceError::Unreadable(refusal))),
            Kind::File if !folder.is_settled(stamp, SystemTime::now()) => return Err(Fault::Moved),
            Kind::File => {}
        }
        match stamp.size {
            0 => return Ok(Err(SourceError::Empty)),
            bytes if bytes > MAX_BYTES => return Ok(Err(SourceError::TooLarge { bytes })),
            bytes if bytes > *budget => return Ok(Err(SourceError::TooLargeTogether)),
            bytes => *budget -= bytes,
        }
        match folder.open(segment, stamp).and_then(|file| read_exactly(file, stamp.size)) {
            // It was there a moment ago.
            Err(Fault::Absent) => Err(Fault::Moved),
            content => per_source(content),
        }
    }

    /// Why there is nothing at `name`: the nearest folder on the way has other sources, or none.
    fn absence(&mut self, name: &str) -> Result<SourceError, Fault> {
        let (mut path, _) = split(name);
        while let Some(folder) = path
            && self.folder(path).is_err()
        {
            (path, _) = split(folder);
        }
        let nearest = self.folder(path)?;
        match holds_a_source(&nearest) {
            Ok(false) => Ok(SourceError::NotMounted),
            // A folder that may be searched but not listed is no reason to call it empty.
            Ok(true) | Err(Fault::Refused(_)) => Ok(SourceError::Missing),
            Err(fault) => Err(fault),
        }
    }
}

/// Parent and last segment.
fn split(path: &str) -> (Option<&str>, &str) {
    path.rsplit_once('/').map_or((None, path), |(parent, segment)| (Some(parent), segment))
}

/// Tells what is wrong with one source from what makes the whole pass void.
fn per_source<T>(result: Result<T, Fault>) -> Result<Result<T, SourceError>, Fault> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Fault::Absent) => Ok(Err(SourceError::Missing)),
        Err(Fault::Refused(refusal)) => Ok(Err(SourceError::Unreadable(refusal))),
        Err(fault) => Err(fault),
    }
}

/// Reads a file that must have `size` bytes. The buffer never grows, since growing leaves copies
/// behind; its one byte too many shows a file that has become longer.
fn read_exactly(mut file: File, size: u64) -> Result<SecretBytes, Fault> {
    let size = usize::try_from(size).map_err(|_| Fault::Moved)?;
    let mut buffer = Zeroizing::new(vec![0; size + 1]);
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    if filled != size {
        return Err(Fault::Moved);
    }
    buffer.truncate(size);
    Ok(SecretBytes::new(std::mem::take(&mut *buffer)))
}
