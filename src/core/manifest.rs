//! Objects as people write them: YAML or JSON, one or more documents, also lists as `kubectl get -o yaml` prints
//! them. Every field must be known: a misspelled one would silently mean its default.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace as KubeNamespace;
use kube::{Resource, ResourceExt};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    invalid::InvalidField,
    name::NamespaceName,
    policy::{Namespace, Policy},
};
use crate::api::{DistributionPolicy, SecretsDistribution, names};

/// The policies of a text, as they are written; each can be compiled.
pub fn policies(yaml: &str) -> Result<Vec<DistributionPolicy>, InvalidField> {
    let policies = documents(yaml, "policy")?.into_iter().map(|document| object::<DistributionPolicy>(document.value));
    policies.map(|policy| policy.and_then(|policy| Policy::parse(&policy).map(|_| policy))).collect()
}

/// The requests of a text, as they are written.
pub fn requests(yaml: &str) -> Result<Vec<SecretsDistribution>, InvalidField> {
    documents(yaml, "request")?.into_iter().map(|document| object::<SecretsDistribution>(document.value)).collect()
}

/// An object as it is written, and where.
#[derive(Clone, Debug)]
pub struct Document {
    /// Which document of the text it is in.
    pub index: usize,
    /// Path in that document: `items[2]` in a list, else empty.
    pub within: String,
    /// The object.
    pub value: Value,
}

/// An object of either kind.
#[derive(Clone, Debug)]
pub enum Object {
    /// A policy.
    Policy(Box<DistributionPolicy>),
    /// A request.
    Request(Box<SecretsDistribution>),
}

/// The objects of a text, of whatever kind.
pub fn objects(yaml: &str) -> Result<Vec<Document>, InvalidField> {
    documents(yaml, "file")
}

/// The policy or the request that is written there. That it can be compiled is not checked.
pub fn object_of(value: Value) -> Result<Object, InvalidField> {
    let is = |kind: &str| value.get("kind").and_then(Value::as_str) == Some(kind);
    match is(&SecretsDistribution::kind(&())) {
        true => object(value).map(|request| Object::Request(Box::new(request))),
        false => object(value).map(|policy| Object::Policy(Box::new(policy))),
    }
}

/// The namespaces of a text: Namespace objects, or rows of a name and labels as in a table of decisions.
pub fn namespaces(yaml: &str) -> Result<Vec<Namespace>, InvalidField> {
    let mut rows = Vec::new();
    for document in documents(yaml, "namespaces")? {
        match document.value {
            Value::Array(items) => rows.extend(items),
            Value::Object(mut fields) if fields.len() == 1 && fields.contains_key("namespaces") => {
                rows.extend(fields.remove("namespaces").into_iter().flat_map(elements));
            }
            other => rows.push(other),
        }
    }
    rows.into_iter().enumerate().map(|(row, value)| namespace(value, &format!("namespaces[{row}]"))).collect()
}

/// A namespace in a table of decisions.
#[derive(Deserialize)]
pub(super) struct NamespaceRow {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl NamespaceRow {
    pub(super) fn read(self, field: &str) -> Result<Namespace, InvalidField> {
        let name = NamespaceName::parse(&self.name);
        let name = name.map_err(|error| InvalidField::new(format!("{field}.name"), error))?;
        let mut labels = self.labels;
        labels.insert(names::NAME_LABEL.into(), self.name); // As the API server does.
        Ok(Namespace { name, labels, terminating: false })
    }
}

fn namespace(value: Value, field: &str) -> Result<Namespace, InvalidField> {
    if value.get("metadata").is_none() {
        return strictly::<NamespaceRow>(value, field)?.read(field);
    }
    let within = |error: InvalidField| InvalidField { field: format!("{field}.{}", error.field), ..error };
    let object = object::<KubeNamespace>(value).map_err(within)?;
    let row = NamespaceRow { name: object.name_any(), labels: object.labels().clone() };
    let terminating = object.metadata.deletion_timestamp.is_some();
    row.read(field).map(|namespace| Namespace { terminating, ..namespace })
}

/// The documents of a text; of a list its items.
fn documents(yaml: &str, what: &str) -> Result<Vec<Document>, InvalidField> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).map_err(|error| InvalidField::new(what, error))?;
    let items = |(index, document): (usize, Value)| match document {
        Value::Object(mut fields) if is_list(fields.get("kind")) => {
            let items = fields.remove("items").map(elements).unwrap_or_default().into_iter().enumerate();
            items.map(|(i, value)| Document { index, within: format!("items[{i}]"), value }).collect()
        }
        Value::Null => Vec::new(),
        value => vec![Document { index, within: String::new(), value }],
    };
    Ok(documents.into_iter().enumerate().flat_map(items).collect())
}

fn is_list(kind: Option<&Value>) -> bool {
    kind.and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"))
}

fn elements(value: Value) -> Vec<Value> {
    if let Value::Array(items) = value { items } else { vec![value] }
}

/// An object of that kind, with a name.
fn object<K>(mut document: Value) -> Result<K, InvalidField>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let found = ["apiVersion", "kind"].map(|field| document.get(field).cloned().unwrap_or_default());
    let wanted = [K::api_version(&()), K::kind(&())];
    if found != wanted.each_ref().map(AsRef::as_ref) {
        let problem = format!("must be a {} of {}", wanted[1], wanted[0]);
        return Err(InvalidField::new("apiVersion, kind", problem));
    }
    if let Some(fields) = document.as_object_mut() {
        // No fields of these structs, and so they would count as unknown.
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    let object = strictly::<K>(document, "object")?;
    if object.meta().name.as_deref().unwrap_or_default().is_empty() {
        return Err(InvalidField::new("metadata.name", "is missing"));
    }
    Ok(object)
}

/// Reads a value of which every field must be known.
pub(super) fn strictly<T: DeserializeOwned>(value: Value, what: &str) -> Result<T, InvalidField> {
    let (mut unknown, mut track) = (None, serde_path_to_error::Track::new());
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let read = serde_ignored::deserialize(tracked, |path| {
        unknown.get_or_insert(path.to_string());
    });
    match (read, unknown) {
        (Err(error), _) => match track.path().to_string() {
            path if path == "." => Err(InvalidField::new(what, error)),
            path => Err(InvalidField::new(path, error)),
        },
        (Ok(_), Some(field)) => Err(InvalidField::new(field, "there is no such field; see the README and the CRD")),
        (Ok(value), None) => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(yaml: &str) -> Vec<(String, usize)> {
        let namespaces = namespaces(yaml).unwrap_or_else(|error| panic!("{error}"));
        namespaces.into_iter().map(|namespace| (namespace.name.to_string(), namespace.labels.len())).collect()
    }

    #[test]
    fn namespaces_are_rows_or_objects_or_what_kubectl_prints() {
        let expected = [("a".to_string(), 2), ("b".to_string(), 1)];
        let rows = "- {name: a, labels: {tier: gold}}\n- {name: b}\n";
        let listed: String = rows.lines().map(|line| format!("  {line}\n")).collect();
        let object =
            |name, labels| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {labels}}}\n");
        let (a, b) = (object("a", "{tier: gold}"), object("b", "{}"));
        let item = |text: &str| format!("- {}", text.trim_end().replace('\n', "\n  "));
        let list = format!("apiVersion: v1\nkind: List\nmetadata: {{}}\nitems:\n{}\n{}\n", item(&a), item(&b));
        for yaml in [rows.to_string(), format!("namespaces:\n{listed}"), format!("---\n{a}---\n{b}"), list] {
            assert_eq!(names(&yaml), expected, "{yaml}");
        }
        assert_eq!(names(""), []);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let told = |yaml: &str| namespaces(yaml).unwrap_err().to_string();
        assert!(told("- {name: Bad_Name}").starts_with("namespaces[0].name: must be a namespace name"));
        assert!(told("- {name: a}\n- {name: b, lables: {}}").contains("lables"));
        let policy = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
        let told = |yaml: &str| policies(yaml).unwrap_err().to_string();
        assert!(told(policy).contains("must be a DistributionPolicy of xlscsde.nhs.uk/v1"));
        let nameless = "apiVersion: xlscsde.nhs.uk/v1\nkind: DistributionPolicy\nmetadata: {}\nspec: {namespaces: {names: [a]}, rules: [{effect: Allow, sources: [A]}]}\n";
        assert_eq!(told(nameless), "metadata.name: is missing");
        assert!(told("a: [").starts_with("policy: "));
    }
}
