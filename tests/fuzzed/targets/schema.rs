//! What the schema of the two kinds says of a text: how long it may be, and the pattern of its CEL rule.

use kube::CustomResourceExt;
use regex::{Regex, RegexBuilder};
use serde_json::Value;

/// What the API server takes in a field.
pub struct Form {
    pub longest: usize,
    pattern: Regex,
}

impl Form {
    /// The form of a field of the spec, by its path in the schema.
    pub fn of<K: CustomResourceExt>(path: &str) -> Self {
        let schema = serde_json::to_value(&K::crd().spec.versions[0].schema).unwrap();
        let field = schema.pointer(&format!("/openAPIV3Schema/properties/spec/properties/{path}"));
        let field = field.unwrap_or_else(|| panic!("the schema has no {path}"));
        let longest = field["maxLength"].as_u64().map_or(usize::MAX, |length| length as usize);
        let rules = field["x-kubernetes-validations"].as_array().into_iter().flatten();
        let pattern = rules.filter_map(|rule| pattern(&rule["rule"])).next();
        Self { longest, pattern: pattern.unwrap_or_else(|| panic!("no rule of {path} has a pattern")) }
    }

    /// Whether the API server takes the text, other rules aside.
    pub fn admits(&self, text: &str) -> bool {
        text.chars().count() <= self.longest && self.pattern.is_match(text)
    }
}

/// The first pattern of a rule that demands one. As in RE2, classes are of ASCII.
fn pattern(rule: &Value) -> Option<Regex> {
    let demands = rule.as_str()?.split_once("matches(").filter(|(before, _)| !before.contains('!'))?.1;
    let text = demands.trim_start_matches('r').split('\'').nth(1)?.replace(r"\w", "0-9A-Za-z_");
    Some(RegexBuilder::new(&text).build().unwrap())
}
