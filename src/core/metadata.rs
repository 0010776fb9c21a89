//! Labels and annotations that a request puts on its Secret: what Kubernetes accepts, and nothing that the operator
//! or a controller of the cluster acts on. The schema says the same.

use std::collections::BTreeMap;

use super::invalid::InvalidField;
use crate::api::{SecretMetadata, names};

/// The most labels, and the most annotations.
const MAX_ENTRIES: usize = 32;

/// The longest value of an annotation, in characters.
const MAX_ANNOTATION: usize = 4096;

/// The labels, checked.
pub fn labels(metadata: &SecretMetadata) -> Result<BTreeMap<String, String>, InvalidField> {
    let field = "spec.metadata.labels";
    let labels = metadata.labels.iter().map(|(key, value)| (key.clone(), value.0.clone())).collect();
    check_keys(&labels, field)?;
    if labels.keys().any(|key| is_reserved(key) && !is_recommended(key)) {
        return Err(InvalidField::new(
            field,
            "keys under xlscsde.nhs.uk/, kubernetes.io/ and k8s.io/ are reserved, and app.kubernetes.io/managed-by is the operator's own: choose another key",
        ));
    }
    match labels.iter().find(|(_, value)| !is_label_value(value)) {
        Some((key, _)) => Err(InvalidField::new(
            format!("{field}[{key}]"),
            "must be a label value: at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit",
        )),
        None => Ok(labels),
    }
}

/// The annotations, checked.
pub fn annotations(metadata: &SecretMetadata) -> Result<BTreeMap<String, String>, InvalidField> {
    let field = "spec.metadata.annotations";
    let annotations = metadata.annotations.iter().map(|(key, value)| (key.clone(), value.0.clone())).collect();
    check_keys(&annotations, field)?;
    if annotations.keys().any(|key| is_reserved(key)) {
        return Err(InvalidField::new(
            field,
            "keys under xlscsde.nhs.uk/, kubernetes.io/ and k8s.io/ are reserved: choose another key",
        ));
    }
    match annotations.iter().find(|(_, value)| value.chars().count() > MAX_ANNOTATION) {
        Some((key, _)) => {
            Err(InvalidField::new(format!("{field}[{key}]"), format!("must have at most {MAX_ANNOTATION} characters")))
        }
        None => Ok(annotations),
    }
}

fn check_keys(entries: &BTreeMap<String, String>, field: &str) -> Result<(), InvalidField> {
    if entries.len() > MAX_ENTRIES {
        return Err(InvalidField::new(
            field,
            format!("must have at most {MAX_ENTRIES} entries, has {}", entries.len()),
        ));
    }
    if !entries.keys().all(|key| is_qualified_name(key)) {
        return Err(InvalidField::new(
            field,
            "each key must be a name of at most 63 letters, digits, '-', '_' and '.', with or without a DNS prefix, such as example.com/name",
        ));
    }
    Ok(())
}

fn is_qualified_name(key: &str) -> bool {
    let lower = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    match key.split_once('/') {
        Some((prefix, name)) => prefix.len() <= 253 && is_framed(prefix, lower, b".-") && is_name(name),
        None => is_name(key),
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= 63 && is_framed(text, |c| c.is_ascii_alphanumeric(), b"._-")
}

fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_name(text)
}

/// At least one character: `ends` at both ends, and between them also `inner`.
fn is_framed(text: &str, ends: impl Fn(u8) -> bool, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let framed = bytes.first().is_some_and(|c| ends(*c)) && bytes.last().is_some_and(|c| ends(*c));
    framed && bytes.iter().all(|c| ends(*c) || inner.contains(c))
}

/// Whether the operator, or a component of the cluster, acts on such keys.
fn is_reserved(key: &str) -> bool {
    let within = |prefix: &str, domain: &str| {
        prefix.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    prefix == names::GROUP || within(prefix, "kubernetes.io") || within(prefix, "k8s.io")
}

/// The labels that Kubernetes recommends to everybody, but for the one that is the operator's own.
fn is_recommended(key: &str) -> bool {
    key.starts_with("app.kubernetes.io/") && key != names::MANAGED_BY_LABEL
}
