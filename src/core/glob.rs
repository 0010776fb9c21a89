//! Globs over names: anchored, case-sensitive, `*` any run of characters within a segment, `?` one such
//! character. Nothing else is special, so a glob that a name could never match is a mistake and refused.

use super::{
    invalid::InvalidField,
    name::{NamespaceName, SecretKey, SecretName, SourceName},
};

/// A checked glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: Box<str>,
    literal: bool,
}

/// What a glob is about: it says which characters can occur at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Names of namespaces.
    Namespaces,
    /// Names of sources; `/` separates segments.
    Sources,
    /// Keys of a Secret.
    Keys,
    /// Names of Secrets.
    SecretNames,
}

impl Over {
    fn allows(self, c: u8) -> bool {
        match self {
            Self::Namespaces => c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-',
            Self::SecretNames => c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.'),
            Self::Keys => c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_'),
            Self::Sources => c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b'/'),
        }
    }

    /// Whether any name fits the glob at all: one that has the least, or a letter, in place of each wildcard.
    pub fn can_match(self, glob: &str) -> bool {
        ["", "a"].iter().any(|run| self.is_name(&glob.replace('*', run).replace('?', "a")))
    }

    fn is_name(self, text: &str) -> bool {
        match self {
            Self::Namespaces => NamespaceName::parse(text).is_ok(),
            Self::Sources => SourceName::parse(text).is_ok(),
            Self::Keys => SecretKey::parse(text).is_ok(),
            Self::SecretNames => SecretName::parse(text).is_ok(),
        }
    }

    /// What it is about, in a message.
    pub fn what(self) -> &'static str {
        match self {
            Self::Namespaces => "name of a namespace",
            Self::Sources => "name of a source",
            Self::Keys => "key of a Secret",
            Self::SecretNames => "name of a Secret",
        }
    }

    fn alphabet(self) -> &'static str {
        match self {
            Self::Namespaces => "a-z 0-9 -",
            Self::SecretNames => "a-z 0-9 - .",
            Self::Keys => "A-Z a-z 0-9 - . _",
            Self::Sources => "A-Z a-z 0-9 - . _ and '/' between segments",
        }
    }
}

impl Glob {
    /// Checks a glob; `field` is where it stands, for the error.
    pub fn parse(text: &str, over: Over, field: &str) -> Result<Self, InvalidField> {
        let legal = |c: u8| over.allows(c) || matches!(c, b'*' | b'?');
        if text.is_empty() || text.len() > 255 || !text.bytes().all(legal) {
            let problem = format!("not a glob: 1 to 255 of {}, with '*' and '?' as wildcards", over.alphabet());
            return Err(InvalidField::new(field, problem));
        }
        let begins = |segment: &str| segment.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '*' | '?'));
        if over == Over::Sources && (!text.split('/').all(begins) || text.split('/').count() > 4) {
            let problem =
                "not a glob over sources: 1 to 4 segments joined by '/', each begins with a letter, digit or wildcard";
            return Err(InvalidField::new(field, problem));
        }
        Ok(Self { text: text.into(), literal: !text.contains(['*', '?']) })
    }

    /// Whether the whole name matches.
    pub fn matches(&self, name: &str) -> bool {
        if self.literal {
            return *self.text == *name;
        }
        let mut globs = self.text.split('/');
        let mut segments = name.split('/');
        loop {
            match (globs.next(), segments.next()) {
                (None, None) => return true,
                (Some(glob), Some(segment)) if segment_matches(glob.as_bytes(), segment.as_bytes()) => {}
                _ => return false,
            }
        }
    }

    /// Whether every name that fits the other fits this one, too. Yes is certain: a wildcard of the other is taken for a
    /// character that only a wildcard of this one fits.
    pub fn covers(&self, other: &Self) -> bool {
        let mut globs = self.text.split('/');
        let mut others = other.text.split('/');
        loop {
            match (globs.next(), others.next()) {
                (None, None) => return true,
                (Some(glob), Some(other)) if segment_covers(glob.as_bytes(), other.as_bytes()) => {}
                _ => return false,
            }
        }
    }

    /// Whether the glob has no wildcard: it names exactly one thing.
    pub fn is_literal(&self) -> bool {
        self.literal
    }

    /// The glob as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// By the length of both: whether each beginning of one covers each beginning of the other.
fn segment_covers(glob: &[u8], other: &[u8]) -> bool {
    let mut row = vec![false; other.len() + 1];
    row[0] = true;
    for &g in glob {
        let above = row.clone();
        row[0] = g == b'*' && above[0];
        for (n, &o) in other.iter().enumerate() {
            row[n + 1] = match g {
                b'*' => above[n + 1] || row[n],
                b'?' => above[n] && o != b'*',
                _ => above[n] && o == g,
            };
        }
    }
    row[other.len()]
}

/// Linear in practice and never exponential: on a mismatch only the last `*` takes one character more.
fn segment_matches(glob: &[u8], name: &[u8]) -> bool {
    let (mut g, mut n) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while n < name.len() {
        match glob.get(g) {
            Some(b'*') => {
                last_star = Some((g + 1, n));
                g += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => {
                g += 1;
                n += 1;
            }
            _ => match last_star {
                Some((after, taken)) => {
                    last_star = Some((after, taken + 1));
                    (g, n) = (after, taken + 1);
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source(text: &str) -> Glob {
        Glob::parse(text, Over::Sources, "f").unwrap()
    }

    #[test]
    fn a_glob_is_anchored_case_sensitive_and_stays_within_a_segment() {
        for (glob, name, expected) in [
            ("Wildcard*", "WildcardCertificate", true),
            ("Wildcard*", "wildcardCertificate", false),
            ("Wildcard*", "xWildcardCertificate", false),
            ("team-a*", "team-ab", true),
            ("team-a", "team-ab", false),
            ("kv/*", "kv/a", true),
            ("kv/*", "kv/a/b", false),
            ("*", "kv/a", false),
            ("*/*", "kv/a", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a?c", "a/c", false),
            ("**", "abc", true),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXbd", false),
            ("*a", "aaab", false),
        ] {
            assert_eq!(source(glob).matches(name), expected, "{glob} on {name}");
        }
    }

    #[test]
    fn what_no_name_could_match_is_refused() {
        for (bad, over) in [
            ("", Over::Keys),
            ("[ab]", Over::Sources),
            ("a b", Over::Sources),
            ("ä", Over::Sources),
            ("/abs", Over::Sources),
            ("a//b", Over::Sources),
            ("..data/x", Over::Sources),
            ("a/../b", Over::Sources),
            ("Team", Over::Namespaces),
            ("a.b", Over::Namespaces),
            ("a/b", Over::Keys),
            ("Bad", Over::SecretNames),
        ] {
            assert!(Glob::parse(bad, over, "f").is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_glob_is_at_most_as_long_and_as_deep_as_a_name_and_its_refusal_says_what_there_can_be() {
        for (good, bad) in [("a".repeat(255), "a".repeat(256)), ("*/*/*/*".into(), "*/*/*/*/*".into())] {
            assert!(Glob::parse(&good, Over::Sources, "f").is_ok(), "{good} was refused");
            assert!(Glob::parse(&bad, Over::Sources, "f").is_err(), "{bad} was accepted");
        }
        for (over, what, alphabet) in [
            (Over::Namespaces, "name of a namespace", "a-z 0-9 -"),
            (Over::Sources, "name of a source", "A-Z a-z 0-9 - . _ and '/' between segments"),
            (Over::Keys, "key of a Secret", "A-Z a-z 0-9 - . _"),
            (Over::SecretNames, "name of a Secret", "a-z 0-9 - ."),
        ] {
            let refused = Glob::parse("[", over, "f").unwrap_err().problem;
            assert_eq!(refused, format!("not a glob: 1 to 255 of {alphabet}, with '*' and '?' as wildcards"));
            assert_eq!(over.what(), what);
        }
    }

    /// The obvious, exponential definition, as an oracle.
    fn reference(glob: &[u8], name: &[u8]) -> bool {
        match (glob.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) if reference(rest, name) => true,
            (Some((b'*', _)), Some((c, tail))) => *c != b'/' && reference(glob, tail),
            (Some((b'?', rest)), Some((c, tail))) => *c != b'/' && reference(rest, tail),
            (Some((g, rest)), Some((c, tail))) => g == c && reference(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn what_covers_a_glob_matches_whatever_it_matches(
            glob in "[ab*?]{1,4}(/[ab*?]{1,3}){0,1}", other in "[ab*?]{1,4}(/[ab*?]{1,3}){0,1}", name in "[ab]{1,5}(/[ab]{1,5}){0,1}"
        ) {
            let covers = source(&glob).covers(&source(&other));
            prop_assert!(!covers || !source(&other).matches(&name) || source(&glob).matches(&name));
            prop_assert!(source(&glob).covers(&source(&glob)));
            prop_assert_eq!(source(&glob).covers(&source(&name)), source(&glob).matches(&name));
        }

        #[test]
        fn matching_follows_the_definition(glob in "[ab*?]{1,4}(/[ab*?]{1,4}){0,2}", name in "[ab]{1,5}(/[ab]{1,5}){0,2}") {
            prop_assert_eq!(source(&glob).matches(&name), reference(glob.as_bytes(), name.as_bytes()));
        }
    }
}
