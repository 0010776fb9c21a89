//! Labels or annotations of a Secret, and which of them the operator holds.

use std::collections::{BTreeMap, BTreeSet};

/// Labels, or annotations. They are kept of each Secret that is known: a map of so few would be mostly room for more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(Box<[Mark]>);

/// One of them. Their keys are unique, and in order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    key: Box<str>,
    value: Box<str>,
    is_held: bool,
}

impl Marks {
    /// All that a Secret has; `held` are the keys that the operator has written and nobody has changed since.
    pub fn new(all: BTreeMap<String, String>, held: &BTreeSet<&str>) -> Self {
        let mark = |(key, value): (String, String)| Mark {
            is_held: held.contains(key.as_str()),
            key: key.into(),
            value: value.into(),
        };
        Self(all.into_iter().map(mark).collect())
    }

    /// The value of one.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|mark| mark.key.as_ref().cmp(key)).ok()?;
        self.0.get(at).map(|mark| mark.value.as_ref())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of these are there, with these values.
    pub fn include(&self, some: &BTreeMap<String, String>) -> bool {
        some.iter().all(|(key, value)| self.get(key) == Some(value.as_str()))
    }

    /// Every key.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|mark| mark.key.as_ref())
    }

    /// The keys of those that the operator holds.
    pub fn held(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|mark| mark.is_held).map(|mark| mark.key.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_by_its_key_and_nothing_else_is() {
        let all: BTreeMap<_, _> = ["c", "a", "e"].map(|key| (key.to_owned(), format!("of {key}"))).into();
        let marks = Marks::new(all.clone(), &BTreeSet::from(["e", "z"]));
        assert_eq!(
            ["a", "b", "c", "d", "e", ""].map(|key| marks.get(key)),
            [Some("of a"), None, Some("of c"), None, Some("of e"), None]
        );
        assert_eq!(marks.held().collect::<Vec<_>>(), ["e"], "what is not there is not held");
        assert!(marks.include(&all) && !marks.is_empty());
        assert!(!marks.include(&[("a".to_owned(), "other".to_owned())].into()));
        assert!(Marks::default().is_empty() && Marks::default().include(&BTreeMap::new()));
    }
}
