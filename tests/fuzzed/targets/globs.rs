//! Globs: one matches what the definition says, covers another only if it matches all that the other does, and is told
//! to match nothing only if nothing matches it.

use std::sync::LazyLock;

use secrets_distributor::{
    api::DistributionPolicy,
    core::{
        glob::{Glob, Over},
        name::{NamespaceName, SecretKey, SecretName, SourceName},
    },
};

use super::{reference, schema::Form};

/// What a glob is over, and what the API server takes for one. It takes none that is longer than the longest name.
static KINDS: LazyLock<[(Over, Form); 4]> = LazyLock::new(|| {
    let of_rules = |field: &str| Form::of::<DistributionPolicy>(&format!("rules/items/properties/{field}/items"));
    [
        (Over::Namespaces, Form::of::<DistributionPolicy>("namespaces/properties/names/items")),
        (Over::Sources, of_rules("sources")),
        (Over::Keys, of_rules("keys")),
        (Over::SecretNames, of_rules("secretNames")),
    ]
});

/// What it is over, by the first byte; then a glob, another one and a name, each on a line.
pub fn check(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let (over, form) = &KINDS[usize::from(*kind) % KINDS.len()];
    let text = String::from_utf8_lossy(rest);
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (text, other, name) = (line(), line(), line());
    let parsed = Glob::parse(text, *over, "f");
    if text.len() <= form.longest {
        assert_eq!(parsed.is_ok(), form.admits(text) && !text.ends_with('/'), "{over:?} {text:?}");
    }
    let Ok(glob) = parsed else { return };
    assert_eq!(glob.as_str(), text);
    assert_eq!(glob.is_literal(), !text.contains(['*', '?']));
    assert!(glob.covers(&glob), "{text:?}");
    if is_name(*over, name) {
        matches(&glob, *over, name);
        covers(&glob, other, *over, name);
        let can_match = text.len() > form.longest || over.can_match(text);
        assert!(can_match || !glob.matches(name), "{text:?} matches {name:?}");
    }
}

fn is_name(over: Over, text: &str) -> bool {
    match over {
        Over::Namespaces => NamespaceName::parse(text).is_ok(),
        Over::Sources => SourceName::parse(text).is_ok(),
        Over::Keys => SecretKey::parse(text).is_ok(),
        Over::SecretNames => SecretName::parse(text).is_ok(),
    }
}

fn matches(glob: &Glob, over: Over, name: &str) {
    let text = glob.as_str();
    assert_eq!(glob.matches(name), reference::glob(text, name), "{text:?} on {name:?}");
    // A name is a glob that nothing else matches.
    let literal = Glob::parse(name, over, "f").unwrap();
    assert_eq!(glob.covers(&literal), glob.matches(name), "{text:?} on {name:?}");
    assert_eq!(literal.covers(glob), text == name, "{text:?} on {name:?}");
}

fn covers(glob: &Glob, other: &str, over: Over, name: &str) {
    let Ok(other) = Glob::parse(other, over, "f") else { return };
    if glob.covers(&other) && other.matches(name) {
        assert!(glob.matches(name), "{:?} covers {:?}, and does not match {name:?}", glob.as_str(), other.as_str());
    }
}
