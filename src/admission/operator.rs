//! Around the operator: what [`crate::core::settle`] decides, as far as one Secret shows it.
//!
//! A change that changes nothing is a look: how an operator that may not read Secrets sees whose one is. It shows the
//! content as well, and so is refused on foreign Secrets.

use super::{Fenced, Named, Policy, Rule, annotation, label, list};
use crate::api::names::{self, GROUP};

const OWNERS: &str = "oldObject.metadata.?ownerReferences.orValue([])";

pub(super) fn operator(fenced: Fenced<'_>) -> Policy {
    let account = format!("system:serviceaccount:{}:{}", fenced.namespace, fenced.service_account);
    Policy {
        name: "secrets-distributor-operator",
        about: "What the operator may not do with Secrets, also where a namespace has delegated them.",
        resource: ("", "secrets"),
        operations: &["CREATE", "UPDATE", "DELETE"],
        conditions: vec![("by-the-operator", format!("request.userInfo.username == '{account}'"))],
        variables: variables(fenced),
        rules: rules(fenced),
    }
}

/// That the Secret says it was written by the operator, there where it is.
fn marked(object: &str) -> String {
    let (owner, target) = (label(object, names::OWNER_UID), annotation(object, names::TARGET));
    format!("{owner} != '' &&\n{target} == variables.place")
}

fn variables(fenced: Fenced<'_>) -> Vec<Named> {
    let place = "request.namespace + '/' +\n(request.operation == 'DELETE' ? oldObject : object).metadata.name";
    let passive = "request.operation == 'DELETE' || request.operation == 'UPDATE' && object == oldObject";
    let ours = format!(
        "request.operation == 'CREATE' ||\n{} ||\n{OWNERS}.exists(owner,\n  \
         owner.kind == 'SecretsDistribution' && owner.apiVersion.startsWith('{GROUP}/'))",
        marked("oldObject")
    );
    let offered = format!(
        "request.operation == 'UPDATE' && size({OWNERS}) == 0 &&\n({} == '{}' ||\n {} == '' &&\n {} == '{}')",
        annotation("oldObject", names::ADOPTION),
        names::ALLOWED,
        label("oldObject", names::OWNER_UID),
        annotation("oldObject", names::MANAGED_BY_ANNOTATION),
        fenced.managed_by,
    );
    vec![("place", place.into()), ("passive", passive.into()), ("ours", ours), ("offered", offered)]
}

fn rules(fenced: Fenced<'_>) -> Vec<Rule> {
    let of_a_secret = |holds: &str, told: &str| Rule {
        holds: holds.into(),
        told: format!("'Secret ' + variables.place + ' {told}'"),
    };
    // Of what a delete or a look would leave there is nothing to judge.
    let of_content = |holds: &str, told: &str| of_a_secret(&format!("variables.passive ||\n{holds}"), told);
    let managed_by = label("object", names::MANAGED_BY_LABEL);
    let marks = format!("{} &&\n{managed_by} == '{}'", marked("object"), names::FIELD_MANAGER);
    let unreserved = format!("!(object.type in {})", list(&names::RESERVED_TYPES));
    let unheld = "object.metadata.?finalizers.orValue([]).all(held,\n  \
                  request.operation == 'UPDATE' && held in oldObject.metadata.?finalizers.orValue([]))";
    vec![
        of_a_secret("variables.ours || variables.offered", "was not written by the operator, nor is it offered to it"),
        of_content(&marks, "would not carry the marks of the operator"),
        of_content(&unreserved, "would be of a type that a component of the cluster makes a credential of"),
        of_content(unheld, "would get a finalizer, which the operator never sets"),
        open_namespace(fenced),
    ]
}

/// A policy may name an excluded namespace literally, which no rule here can see: the namespace says it as well.
fn open_namespace(fenced: Fenced<'_>) -> Rule {
    let excluded: Vec<_> = names::SYSTEM_NAMESPACES.into_iter().chain([fenced.namespace]).collect();
    let (key, value) = (names::DISTRIBUTION, names::ALLOWED);
    Rule {
        holds: format!(
            "request.operation == 'DELETE' ||\n!(request.namespace in {}) ||\n{} == '{value}'",
            list(&excluded),
            label("namespaceObject", key),
        ),
        told: format!(
            "'namespace ' + request.namespace + \
             ' receives no Secret from the operator unless it has the label {key}={value}'"
        ),
    }
}
