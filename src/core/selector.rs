//! Label selectors, compiled. An empty one is refused: to Kubernetes it means "everything".

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::api::names;

/// A label selector with at least one requirement; all must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Exists(String),
    DoesNotExist(String),
}

/// A selector that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSelector {
    /// No requirement at all.
    #[error("an empty selector would mean every namespace: give at least one matchLabels or matchExpressions entry")]
    Empty,
    /// Not one of the four operators.
    #[error("matchExpressions[{0}].operator: must be In, NotIn, Exists or DoesNotExist")]
    Operator(usize),
    /// Values where there may be none, or none where there must be some.
    #[error("matchExpressions[{0}].values: In and NotIn need values, Exists and DoesNotExist must have none")]
    Values(usize),
}

impl Selector {
    /// Compiles a selector.
    pub fn parse(selector: &LabelSelector) -> Result<Self, InvalidSelector> {
        let labels = selector.match_labels.iter().flatten();
        let mut requirements: Vec<_> =
            labels.map(|(key, value)| Requirement::In(key.clone(), BTreeSet::from([value.clone()]))).collect();
        for (i, expression) in selector.match_expressions.iter().flatten().enumerate() {
            let key = expression.key.clone();
            let values: BTreeSet<_> = expression.values.iter().flatten().cloned().collect();
            requirements.push(match (expression.operator.as_str(), values.is_empty()) {
                ("In", false) => Requirement::In(key, values),
                ("NotIn", false) => Requirement::NotIn(key, values),
                ("Exists", true) => Requirement::Exists(key),
                ("DoesNotExist", true) => Requirement::DoesNotExist(key),
                ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => return Err(InvalidSelector::Values(i)),
                _ => return Err(InvalidSelector::Operator(i)),
            });
        }
        if requirements.is_empty() {
            return Err(InvalidSelector::Empty);
        }
        Ok(Self(requirements))
    }

    /// Whether an object with these labels is selected. As in Kubernetes, `NotIn` holds where the label is absent.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Requirement::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::DoesNotExist(key) => !labels.contains_key(key),
        })
    }

    /// Whether no labels at all could match.
    pub fn is_contradictory(&self) -> bool {
        let clash = |a: &Requirement, b: &Requirement| match (a, b) {
            (Requirement::In(key, values), Requirement::In(other, others)) => {
                key == other && values.is_disjoint(others)
            }
            (Requirement::In(key, values), Requirement::NotIn(other, others)) => {
                key == other && values.is_subset(others)
            }
            (Requirement::In(key, _) | Requirement::Exists(key), Requirement::DoesNotExist(other)) => key == other,
            _ => false,
        };
        // Every namespace has this label.
        let unnamed = |a: &Requirement| matches!(a, Requirement::DoesNotExist(key) if key == names::NAME_LABEL);
        self.0.iter().any(|a| unnamed(a) || self.0.iter().any(|b| clash(a, b)))
    }

    /// The names of namespaces that it lists, if it does.
    pub fn names(&self) -> Option<impl Iterator<Item = &str>> {
        let lists = self.0.iter().filter_map(|requirement| match requirement {
            Requirement::In(key, values) if key == names::NAME_LABEL => Some(values),
            _ => None,
        });
        lists.min_by_key(|values| values.len()).map(|values| values.iter().map(String::as_str))
    }

    /// Whether whatever the other matches matches this, too. Yes is certain.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.iter().all(|requirement| other.0.contains(requirement))
    }

    /// Whether every requirement is on a label that the API server itself guarantees.
    pub fn is_on_guaranteed_labels(&self) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, _) | Requirement::NotIn(key, _) => key == names::NAME_LABEL,
            Requirement::Exists(key) | Requirement::DoesNotExist(key) => key == names::NAME_LABEL,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    fn expression(operator: &str, values: &[&str]) -> LabelSelector {
        let values = values.iter().map(|v| v.to_string()).collect();
        let requirement =
            LabelSelectorRequirement { key: "tier".into(), operator: operator.into(), values: Some(values) };
        LabelSelector { match_expressions: Some(vec![requirement]), match_labels: None }
    }

    #[test]
    fn each_operator_follows_kubernetes() {
        let labelled = BTreeMap::from([("tier".to_string(), "gold".to_string())]);
        let bare = BTreeMap::new();
        for (operator, values, on_labelled, on_bare) in [
            ("In", &["gold"][..], true, false),
            ("NotIn", &["gold"], false, true),
            ("NotIn", &["tin"], true, true),
            ("Exists", &[], true, false),
            ("DoesNotExist", &[], false, true),
        ] {
            let selector = Selector::parse(&expression(operator, values)).unwrap();
            assert_eq!(selector.matches(&labelled), on_labelled, "{operator} {values:?}");
            assert_eq!(selector.matches(&bare), on_bare, "{operator} {values:?}");
        }
    }

    #[test]
    fn what_would_select_by_accident_is_refused() {
        assert_eq!(Selector::parse(&LabelSelector::default()), Err(InvalidSelector::Empty));
        assert_eq!(Selector::parse(&expression("Is", &["x"])), Err(InvalidSelector::Operator(0)));
        assert_eq!(Selector::parse(&expression("In", &[])), Err(InvalidSelector::Values(0)));
        assert_eq!(Selector::parse(&expression("Exists", &["x"])), Err(InvalidSelector::Values(0)));
    }
}
