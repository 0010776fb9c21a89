//! Where in a text of YAML a field stands, for messages that lead there.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

/// The lines of a text's fields.
#[derive(Debug, Default)]
pub struct Lines(Vec<Place>);

/// A value and where it begins; that of a field begins with its name.
#[derive(Debug)]
struct Place {
    line: u64,
    node: Node,
}

/// What is known of a value: what is in it.
#[derive(Debug)]
enum Node {
    Map(BTreeMap<String, Place>),
    List(Vec<Place>),
    Leaf,
}

impl Lines {
    /// The lines of a text; none, if it is no YAML: whoever parses it says why.
    pub fn of(yaml: &str) -> Self {
        let documents: Vec<Spanned<Node>> = serde_saphyr::from_multiple(yaml).unwrap_or_default();
        Self(documents.into_iter().map(Place::of).collect())
    }

    /// The line of a field in one of the documents, counted from 1; of the innermost part of its path that is there.
    /// A path is written as `spec.rules[0].sources`, or as `spec.rules.0.sources`.
    pub fn line(&self, document: usize, field: &str) -> Option<usize> {
        let mut at = self.0.get(document)?;
        for part in field.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
            let within = match &at.node {
                Node::Map(fields) => fields.get(part),
                Node::List(items) => part.parse().ok().and_then(|index: usize| items.get(index)),
                Node::Leaf => None,
            };
            let Some(found) = within else { break };
            at = found;
        }
        usize::try_from(at.line).ok().filter(|line| *line > 0)
    }
}

impl Place {
    fn of(spanned: Spanned<Node>) -> Self {
        Self { line: spanned.referenced.line(), node: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyNode)
    }
}

struct AnyNode;

/// Every scalar is a leaf, whatever it says.
macro_rules! leaves {
    ($( $visit:ident($type:ty) )+) => { $(
        fn $visit<E>(self, _: $type) -> Result<Node, E> {
            Ok(Node::Leaf)
        }
    )+ };
}

impl<'de> Visitor<'de> for AnyNode {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    leaves! { visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_i128(i128) visit_u128(u128) visit_f64(f64) visit_str(&str) }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Node>>()? {
            items.push(Place::of(item));
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let line = key.referenced.line();
            fields.insert(key.value, Place { line, node: map.next_value()? });
        }
        Ok(Node::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
a: 1
b:
- c: [x, y]
  d: &anchor {e: null}
- f:
    g: 1.5
---
h: {i: true,
    j: z}
";

    #[test]
    fn a_field_is_found_by_its_path() {
        let lines = Lines::of(TEXT);
        for (document, field, line) in [
            (0, "", 1),
            (0, "a", 1),
            (0, "b", 2),
            (0, "b[0].c[1]", 3),
            (0, "b.0.d.e", 4),
            (0, "b[1].f", 5),
            (0, "b[1].f.g", 6),
            (1, "h.j", 9),
        ] {
            assert_eq!(lines.line(document, field), Some(line), "{field}");
        }
    }

    #[test]
    fn what_is_not_there_is_where_it_would_be() {
        let lines = Lines::of(TEXT);
        assert_eq!(lines.line(0, "b[1].f.missing[3]"), Some(5));
        assert_eq!(lines.line(0, "b[7].f"), Some(2));
        assert_eq!(lines.line(2, "a"), None);
        assert_eq!(Lines::of("a: [").line(0, "a"), None);
    }
}
