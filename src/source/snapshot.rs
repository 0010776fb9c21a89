//! What is in the folder at a moment, told by metadata alone, and how two moments differ.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    path::Path,
    time::SystemTime,
};

use super::{
    beneath::{Dir, Fault, Kind, Stamp, until_still},
    error::{MountError, Refusal},
    watch::Extent,
};
use crate::core::name::SourceName;

/// Attempts at a scan of generations that are being replaced.
const ROUNDS: u32 = 20;

/// The most entries looked at: far more than anybody mounts on purpose.
const MAX_ENTRIES: usize = 1 << 16;

/// The most segments of a source name: nothing deeper can be named.
const MAX_DEPTH: usize = 4;

/// What was there at a moment: metadata, never content.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    sources: BTreeMap<SourceName, Result<Stamp, Refusal>>,
    /// The folders beneath the root.
    pub(super) folders: BTreeSet<SourceName>,
    /// Nothing was changed so recently that a further change could look the same.
    pub(super) settled: bool,
}

impl Snapshot {
    /// The sources that are there, readable or not.
    pub fn sources(&self) -> impl Iterator<Item = &SourceName> {
        self.sources.keys()
    }

    /// The sources that differ between the two: changed, added or removed.
    pub fn changed_since(&self, before: &Self) -> BTreeSet<SourceName> {
        let names = self.sources.keys().chain(before.sources.keys());
        names.filter(|name| self.sources.get(*name) != before.sources.get(*name)).cloned().collect()
    }

    /// What is there, in numbers.
    pub fn extent(&self) -> Extent {
        let newest = self.sources.values().filter_map(|found| found.as_ref().ok()?.changed()).max();
        Extent { sources: self.sources.len(), newest }
    }

    /// Itself, if there is a source in it at all.
    pub(super) fn if_mounted(self) -> Result<Self, MountError> {
        if self.sources.values().any(is_file) { Ok(self) } else { Err(MountError::Empty) }
    }
}

fn is_file(found: &Result<Stamp, Refusal>) -> bool {
    found.is_ok_and(|stamp| stamp.kind == Kind::File)
}

/// Everything in the folder. A folder in it that cannot be read is left out, so that one broken
/// mount does not stop the others; its sources then count as removed, which wakes whoever uses them.
pub(super) fn scan(root: &Path) -> Result<Snapshot, MountError> {
    Ok(until_still(ROUNDS, || {
        let now = SystemTime::now();
        let mut snapshot = Snapshot { settled: true, ..Snapshot::default() };
        let mut visit = |folder: &Dir, name, entry| {
            match entry {
                Entry::Folder => drop(snapshot.folders.insert(name)),
                Entry::Source(found) => {
                    snapshot.settled &= found.as_ref().map_or(true, |stamp| folder.is_settled(stamp, now));
                    snapshot.sources.insert(name, found);
                }
            }
            ControlFlow::Continue(())
        };
        let _ = walk(&Dir::root(root)?, None, &mut MAX_ENTRIES.clone(), &mut visit)?;
        Ok(snapshot)
    })?)
}

/// Whether there is a regular file in the folder that a source name can reach.
pub(super) fn holds_a_source(folder: &Dir) -> Result<bool, Fault> {
    let mut visit = |_: &Dir, _, entry| match entry {
        Entry::Source(found) if is_file(&found) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    Ok(walk(folder, None, &mut MAX_ENTRIES.clone(), &mut visit)?.is_break())
}

enum Entry {
    Folder,
    Source(Result<Stamp, Refusal>),
}

type Visit<'a> = dyn FnMut(&Dir, SourceName, Entry) -> ControlFlow<()> + 'a;

/// Visits what lies in `folder`, at `path`, until told to stop. A generation that was replaced
/// meanwhile makes the whole walk void.
fn walk(
    folder: &Dir,
    path: Option<&SourceName>,
    budget: &mut usize,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>, Fault> {
    let segments = folder.entries(*budget)?;
    *budget = budget.saturating_sub(segments.len());
    for segment in segments {
        let Some(name) = child(path, &segment) else { continue };
        let flow = match folder.stat(&segment) {
            Ok(stamp) if stamp.kind == Kind::Folder => walk_into(folder, &segment, name, budget, visit)?,
            Ok(stamp) => visit(folder, name, Entry::Source(Ok(stamp))),
            Err(Fault::Refused(refusal)) => visit(folder, name, Entry::Source(Err(refusal))),
            Err(Fault::Absent) => ControlFlow::Continue(()),
            Err(fault) => return Err(fault),
        };
        if flow.is_break() {
            return Ok(flow);
        }
    }
    if folder.is_current() { Ok(ControlFlow::Continue(())) } else { Err(Fault::Moved) }
}

fn walk_into(
    folder: &Dir,
    segment: &str,
    name: SourceName,
    budget: &mut usize,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>, Fault> {
    if name.as_str().split('/').count() >= MAX_DEPTH {
        return Ok(ControlFlow::Continue(()));
    }
    let visited = folder.enter(segment).and_then(|inner| {
        let _ = visit(&inner, name.clone(), Entry::Folder);
        walk(&inner, Some(&name), budget, visit)
    });
    match visited {
        Err(Fault::Refused(Refusal::TooManyEntries)) => visited,
        Err(Fault::Absent | Fault::Refused(_)) => Ok(ControlFlow::Continue(())),
        _ => visited,
    }
}

/// The name of an entry, if it can have one: hidden files and the machinery of generations cannot.
fn child(path: Option<&SourceName>, segment: &str) -> Option<SourceName> {
    match path {
        Some(path) => SourceName::parse(&format!("{path}/{segment}")).ok(),
        None => SourceName::parse(segment).ok(),
    }
}

#[cfg(test)]
impl Snapshot {
    /// Both together.
    pub(super) fn with(mut self, more: Self) -> Self {
        self.sources.extend(more.sources);
        self
    }
}
