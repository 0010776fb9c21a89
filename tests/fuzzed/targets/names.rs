//! Names and durations: the operator takes what the API server takes by its schema, keeps it as it was written, and
//! what it takes for the name of a source is a path that leads nowhere but down.

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::{Component, Path},
    sync::LazyLock,
};

use jiff::SignedDuration;
use secrets_distributor::{
    api::{
        AnnotationValue, DistributionPolicy, DistributionPolicySpec, Effect, LabelValue, NamespaceMatch, PolicyRule,
        RateLimit, Revocation, SecretMetadata, SecretsDistribution,
    },
    core::{
        invalid::InvalidField,
        metadata,
        name::{InvalidName, NamespaceName, SecretKey, SecretName, SecretType, SourceName},
        policy::{self, Policy},
    },
};
use serde::Serialize;

use super::schema::Form;

struct Forms {
    namespace: Form,
    secret_name: Form,
    secret_type: Form,
    source: Form,
    key: Form,
    grace: Form,
    period: Form,
    label_value: Form,
    label_key: Form,
    annotation_key: Form,
}

static FORMS: LazyLock<Forms> = LazyLock::new(|| Forms {
    namespace: Form::of::<SecretsDistribution>("namespaces/items"),
    secret_name: Form::of::<SecretsDistribution>("name"),
    secret_type: Form::of::<SecretsDistribution>("type"),
    source: Form::of::<SecretsDistribution>("secrets/items/properties/from"),
    key: Form::of::<SecretsDistribution>("secrets/items/properties/to"),
    grace: Form::of::<DistributionPolicy>("revocation/properties/gracePeriod"),
    period: Form::of::<DistributionPolicy>("rateLimit/properties/per"),
    label_value: Form::of::<SecretsDistribution>("metadata/properties/labels/additionalProperties"),
    label_key: Form::of::<SecretsDistribution>("metadata/properties/labels"),
    annotation_key: Form::of::<SecretsDistribution>("metadata/properties/annotations"),
});

pub fn check(bytes: &[u8]) {
    let text = &*String::from_utf8_lossy(bytes);
    agree(text, NamespaceName::parse(text), FORMS.namespace.admits(text));
    agree(text, SecretName::parse(text), FORMS.secret_name.admits(text));
    agree(text, SecretType::parse(text), FORMS.secret_type.admits(text));
    let is_the_kubelets = text == "." || text.starts_with("..");
    agree(text, SecretKey::parse(text), FORMS.key.admits(text) && !is_the_kubelets);
    agree(text, SourceName::parse(text), FORMS.source.admits(text));
    if let Ok(source) = SourceName::parse(text) {
        leads_down(&source);
    }
    durations(text);
    metadata_of_secrets(text);
}

fn agree<T: Display + Serialize>(text: &str, parsed: Result<T, InvalidName>, admitted: bool) {
    assert_eq!(parsed.is_ok(), admitted, "{} {text:?}", std::any::type_name::<T>());
    if let Ok(name) = parsed {
        assert_eq!(name.to_string(), text);
        assert_eq!(serde_json::to_value(&name).unwrap(), text);
    }
}

fn leads_down(source: &SourceName) {
    let path = Path::new(source.as_str());
    let is_plain = |component| match component {
        Component::Normal(name) => !name.as_encoded_bytes().starts_with(b"."),
        _ => false,
    };
    assert!(path.components().all(is_plain), "{source:?}");
    assert_eq!(path.components().count(), source.as_str().split('/').count(), "{source:?}");
}

/// The sum of its parts, as the API server reads a duration.
fn sum(text: &str) -> SignedDuration {
    let part = |part: &str| {
        let (number, unit) = part.split_at(part.len() - 1);
        let seconds = BTreeMap::from([("s", 1), ("m", 60), ("h", 3600)])[unit];
        SignedDuration::from_secs(number.parse::<i64>().unwrap() * seconds)
    };
    text.split_inclusive(['s', 'm', 'h']).map(part).sum()
}

fn policy_with(more: DistributionPolicySpec) -> Result<Policy, InvalidField> {
    let namespaces = NamespaceMatch { names: vec!["a".into()], selector: None };
    let rule = PolicyRule { effect: Effect::Allow, sources: vec!["a".into()], ..Default::default() };
    Policy::parse(&DistributionPolicy::new("p", DistributionPolicySpec { namespaces, rules: vec![rule], ..more }))
}

fn durations(text: &str) {
    let revocation = Revocation { grace_period: Some(text.into()), ..Default::default() };
    let graceful = policy_with(DistributionPolicySpec { revocation, ..Default::default() });
    let limit = RateLimit { writes: 1, per: Some(text.into()), burst: None };
    let limited = policy_with(DistributionPolicySpec { rate_limit: Some(limit), ..Default::default() });
    let grace = FORMS.grace.admits(text).then(|| sum(text)).filter(|sum| *sum <= SignedDuration::from_hours(720));
    assert_eq!(graceful.ok().map(|p| p.revocation), grace.map(policy::Revocation::Delete), "{text:?}");
    let period = FORMS.period.admits(text).then(|| sum(text)).filter(|sum| *sum <= SignedDuration::from_hours(24));
    let period = period.filter(SignedDuration::is_positive).map(SignedDuration::unsigned_abs);
    assert_eq!(limited.ok().and_then(|p| p.rate).map(|rate| rate.interval), period, "{text:?}");
}

/// The group of the operator, and whatever ends in a domain of Kubernetes.
fn is_of_kubernetes(key: &str) -> bool {
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    prefix == "xlscsde.nhs.uk"
        || ["kubernetes.io", "k8s.io"].iter().any(|domain| format!(".{prefix}").ends_with(&format!(".{domain}")))
}

fn metadata_of_secrets(text: &str) {
    let label = |key: &str, value: &str| SecretMetadata {
        labels: BTreeMap::from([(key.into(), LabelValue(value.into()))]),
        ..Default::default()
    };
    assert_eq!(metadata::labels(&label("a", text)).is_ok(), FORMS.label_value.admits(text), "{text:?}");
    // DNS knows no longer one; the schema only bounds the whole key.
    let is_long = text.split_once('/').is_some_and(|(prefix, _)| prefix.len() > 253);
    let is_recommended = text.starts_with("app.kubernetes.io/") && text != "app.kubernetes.io/managed-by";
    let admitted = !is_long && FORMS.label_key.admits(text) && (!is_of_kubernetes(text) || is_recommended);
    assert_eq!(metadata::labels(&label(text, "")).is_ok(), admitted, "{text:?}");
    let annotations = BTreeMap::from([(text.into(), AnnotationValue(String::new()))]);
    let annotation = SecretMetadata { annotations, ..Default::default() };
    let admitted = !is_long && FORMS.annotation_key.admits(text) && !is_of_kubernetes(text);
    assert_eq!(metadata::annotations(&annotation).is_ok(), admitted, "{text:?}");
}
