//! Before requests for other namespaces: only the API server knows who makes one, the operator never does.

use super::{MOST_NAMESPACES, Policy, Rule};
use crate::{api::names::GROUP, rbac::REQUESTS};

/// The right that the author of a request must have in a namespace.
struct Right {
    group: &'static str,
    resource: &'static str,
}

impl Right {
    fn everywhere(&self) -> String {
        format!("authorizer.group('{}').resource('{}').check('create').allowed()", self.group, self.resource)
    }

    fn in_namespace(&self, namespace: &str) -> String {
        let Self { group, resource } = self;
        format!(
            "authorizer.group('{group}').resource('{resource}')\n  .namespace({namespace}).check('create').allowed()"
        )
    }

    /// One question for each namespace in `variables.asked`, and none if the author has the right everywhere.
    fn rules(&self) -> Vec<Rule> {
        let resource = self.resource;
        let tell = |what: &str| format!("request.userInfo.username + ' may not create {resource} in ' + {what}");
        let reaching = |holds: &str, told: String| Rule { holds: format!("{holds} || variables.everywhere"), told };
        let advice =
            "'every namespace, which spec.namespaceSelector can reach; name the namespaces in spec.namespaces'";
        let too_many =
            format!("'every namespace, as a request for more than {MOST_NAMESPACES} other namespaces needs'");
        let mut rules = vec![
            reaching("!has(object.spec.namespaceSelector)", tell(advice)),
            reaching(&format!("size(variables.asked) <= {MOST_NAMESPACES}"), tell(&too_many)),
        ];
        rules.extend((0..MOST_NAMESPACES).map(|index| {
            let namespace = format!("variables.asked[{index}]");
            Rule {
                holds: format!(
                    "size(variables.asked) <= {index} || variables.everywhere ||\n{}",
                    self.in_namespace(&namespace)
                ),
                told: tell(&format!("'namespace ' + {namespace} + ', which the request is for'")),
            }
        }));
        rules
    }
}

/// Whoever changes what is asked for is its author as well; labels, annotations and finalizers are everybody's.
const NEW_OR_CHANGED: (&str, &str) =
    ("is-new-or-changed", "request.operation == 'CREATE' || object.spec != oldObject.spec");

fn of_requests(
    name: &'static str,
    about: &'static str,
    right: &Right,
    asked: &str,
    conditions: &[(&'static str, &str)],
) -> Policy {
    let owned = |pairs: &[(&'static str, &str)]| pairs.iter().map(|(name, text)| (*name, text.to_string())).collect();
    Policy {
        name,
        about,
        resource: (GROUP, REQUESTS),
        operations: &["CREATE", "UPDATE"],
        conditions: owned(conditions),
        variables: owned(&[("asked", asked), ("everywhere", &right.everywhere())]),
        rules: right.rules(),
    }
}

pub(super) fn author() -> Policy {
    of_requests(
        "secrets-distributor-author",
        "A request for another namespace is admitted if its author may create requests there: nobody sends a Secret \
         where they have no say.",
        &Right { group: GROUP, resource: REQUESTS },
        "object.spec.?namespaces.orValue([]).filter(name, name != request.namespace)",
        &[
            ("reaches-other-namespaces", "has(object.spec.namespaces) || has(object.spec.namespaceSelector)"),
            NEW_OR_CHANGED,
        ],
    )
}

pub(super) fn secret_author() -> Policy {
    of_requests(
        "secrets-distributor-secret-author",
        "A request is admitted if its author may create Secrets in each of its destinations: nobody makes the operator \
         write what they could not write themselves.",
        &Right { group: "", resource: "secrets" },
        // An empty list is as none: it means the request's own namespace.
        "size(object.spec.?namespaces.orValue([])) > 0 ? object.spec.namespaces :\n  has(object.spec.namespaceSelector) ? [] : [request.namespace]",
        &[NEW_OR_CHANGED],
    )
}
