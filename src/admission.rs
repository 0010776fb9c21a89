//! What the API server itself refuses, whatever RBAC gives: one source for `deploy/admission/` and for the chart.
//!
//! Two fences. One is around the operator: with its token, stolen or not, nobody writes a Secret that is neither its
//! own nor offered to it. The other is before requests for other namespaces: only the API server knows who makes one,
//! the operator never does.
//!
//! Invariant: the operator's own work passes as it is in [`crate::core::settle`]; every end-to-end test runs with the
//! fences in place.

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec, Validation,
    Variable,
};

use crate::{
    api::names::{self, GROUP},
    rbac::{Document, Manifest, OPERATOR, Object, REQUESTS, named},
};

/// The operator that is fenced in.
#[derive(Clone, Copy, Debug)]
pub struct Fenced<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its ServiceAccount.
    pub service_account: &'a str,
    /// Its `--managed-by`: Secrets of the first operator carry it.
    pub managed_by: &'a str,
}

impl Default for Fenced<'_> {
    fn default() -> Self {
        Self { namespace: OPERATOR, service_account: OPERATOR, managed_by: OPERATOR }
    }
}

/// Other namespaces of a request whose author is checked for each by itself. The API server bounds what one policy may
/// ask its authorizer: at most 28 questions.
pub const MOST_NAMESPACES: usize = 24;

/// Every manifest. What is not on by default is in a folder of its own.
pub fn manifests(fenced: Fenced<'_>) -> Vec<Manifest> {
    let manifest = |file, about, policy: Policy| Manifest { file, about, documents: policy.documents() };
    vec![
        manifest(
            "operator.yaml",
            "A fence around the operator: with its token only its own Secrets can be written. For the platform team: \
             kubectl apply -f deploy/admission/operator.yaml",
            operator(fenced),
        ),
        manifest(
            "author.yaml",
            "Who asks for a Secret in another namespace must be allowed to ask there. For the platform team: kubectl \
             apply -f deploy/admission/author.yaml",
            author(),
        ),
        manifest(
            "require-secret-create/author.yaml",
            "Who asks for a Secret must be allowed to create Secrets where it shall be. Optional. For the platform \
             team: kubectl apply -f deploy/admission/require-secret-create/",
            secret_author(),
        ),
    ]
}

/// A CEL expression that must hold, and a second one that makes the text which is told if it does not.
struct Rule {
    holds: String,
    told: String,
}

/// A policy and its binding, before they are objects.
struct Policy {
    name: &'static str,
    about: &'static str,
    resource: (&'static str, &'static str),
    operations: &'static [&'static str],
    /// Name and CEL expression: the policy speaks only of what satisfies all of them.
    conditions: Vec<(&'static str, String)>,
    /// Name and CEL expression; evaluated where they are used.
    variables: Vec<(&'static str, String)>,
    rules: Vec<Rule>,
}

/// What [`crate::core::settle`] decides, as far as one Secret shows it. A change that changes nothing is a look: how an
/// operator that may not read Secrets sees whose one is. It shows the content, and so is refused on foreign ones, too.
fn operator(fenced: Fenced<'_>) -> Policy {
    let account = format!("system:serviceaccount:{}:{}", fenced.namespace, fenced.service_account);
    let marked = |object: &str| {
        format!(
            "{} != '' &&\n{} == variables.place",
            label(object, names::OWNER_UID),
            annotation(object, names::TARGET)
        )
    };
    let owners = "oldObject.metadata.?ownerReferences.orValue([])";
    let ours = format!(
        "request.operation == 'CREATE' ||\n{} ||\n{owners}.exists(owner,\n  \
         owner.kind == 'SecretsDistribution' && owner.apiVersion.startsWith('{GROUP}/'))",
        marked("oldObject")
    );
    let offered = format!(
        "request.operation == 'UPDATE' && size({owners}) == 0 &&\n({} == '{}' ||\n {} == '' && {} == '{}')",
        annotation("oldObject", names::ADOPTION),
        names::ALLOWED,
        label("oldObject", names::OWNER_UID),
        annotation("oldObject", names::MANAGED_BY_ANNOTATION),
        fenced.managed_by,
    );
    let marks = format!(
        "variables.passive ||\n{} &&\n{} == '{}'",
        marked("object"),
        label("object", names::MANAGED_BY_LABEL),
        names::FIELD_MANAGER,
    );
    let reserved = format!("variables.passive || !(object.type in {})", list(&names::RESERVED_TYPES));
    let mut excluded = names::SYSTEM_NAMESPACES.to_vec();
    excluded.push(fenced.namespace);
    let open = format!(
        "request.operation == 'DELETE' ||\n!(request.namespace in {}) ||\n{} == '{}'",
        list(&excluded),
        label("namespaceObject", names::DISTRIBUTION),
        names::ALLOWED,
    );
    let about_it = |text: &str| format!("'Secret ' + variables.place + ' {text}'");
    Policy {
        name: "secrets-distributor-operator",
        about: "What the operator may not do with Secrets, also where a namespace has delegated them.",
        resource: ("", "secrets"),
        operations: &["CREATE", "UPDATE", "DELETE"],
        conditions: vec![("by-the-operator", format!("request.userInfo.username == '{account}'"))],
        variables: vec![
            ("place", "request.namespace + '/' +\n(request.operation == 'DELETE' ? oldObject : object).metadata.name".into()),
            ("passive", "request.operation == 'DELETE' || request.operation == 'UPDATE' && object == oldObject".into()),
            ("ours", ours),
            ("offered", offered),
        ],
        rules: vec![
            Rule {
                holds: "variables.ours || variables.offered".into(),
                told: about_it("was not written by the operator, nor is it offered to it"),
            },
            Rule { holds: marks, told: about_it("would not carry the marks of the operator") },
            Rule { holds: reserved, told: about_it("would be of a type that a component of the cluster makes a credential of") },
            Rule {
                holds: "variables.passive ||\nobject.metadata.?finalizers.orValue([]).all(held,\n  request.operation == 'UPDATE' && \
                        held in oldObject.metadata.?finalizers.orValue([]))".into(),
                told: about_it("would get a finalizer, which the operator never sets"),
            },
            Rule {
                holds: open,
                told: format!(
                    "'namespace ' + request.namespace + ' receives no Secret from the operator unless it has the label {}={}'",
                    names::DISTRIBUTION,
                    names::ALLOWED
                ),
            },
        ],
    }
}

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

fn author() -> Policy {
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

fn secret_author() -> Policy {
    of_requests(
        "secrets-distributor-secret-author",
        "A request is admitted if its author may create Secrets in each of its destinations: nobody makes the operator \
         write what they could not write themselves.",
        &Right { group: "", resource: "secrets" },
        "object.spec.?namespaces.orValue(\n  has(object.spec.namespaceSelector) ? [] : [request.namespace])",
        &[NEW_OR_CHANGED],
    )
}

impl Policy {
    fn documents(self) -> Vec<Document> {
        let binding = ValidatingAdmissionPolicyBinding {
            metadata: named(self.name),
            spec: ValidatingAdmissionPolicyBindingSpec {
                policy_name: self.name.into(),
                validation_actions: vec!["Deny".into()],
                ..Default::default()
            },
        };
        let document = |about, object| Document { about, whys: Vec::new(), object };
        vec![
            document(self.about, Object::ValidatingAdmissionPolicy(self.object())),
            document("Puts it in force, in every namespace.", Object::ValidatingAdmissionPolicyBinding(binding)),
        ]
    }

    fn object(&self) -> ValidatingAdmissionPolicy {
        let owned = |texts: &[&str]| Some(texts.iter().map(ToString::to_string).collect::<Vec<_>>());
        let (group, resource) = self.resource;
        let matched = NamedRuleWithOperations {
            api_groups: owned(&[group]),
            api_versions: owned(&["v1"]),
            operations: owned(self.operations),
            resources: owned(&[resource]),
            ..Default::default()
        };
        let condition = |(name, expression): &(&str, String)| MatchCondition {
            name: (*name).into(),
            expression: expression.clone(),
        };
        let variable =
            |(name, expression): &(&str, String)| Variable { name: (*name).into(), expression: expression.clone() };
        let validation = |rule: &Rule| Validation {
            expression: rule.holds.clone(),
            message_expression: Some(rule.told.clone()),
            reason: Some("Forbidden".into()),
            ..Default::default()
        };
        let spec = ValidatingAdmissionPolicySpec {
            failure_policy: Some("Fail".into()),
            match_constraints: Some(MatchResources { resource_rules: Some(vec![matched]), ..Default::default() }),
            match_conditions: Some(self.conditions.iter().map(condition).collect()),
            variables: Some(self.variables.iter().map(variable).collect()),
            validations: Some(self.rules.iter().map(validation).collect()),
            ..Default::default()
        };
        ValidatingAdmissionPolicy { metadata: named(self.name), spec: Some(spec), status: None }
    }
}

fn label(object: &str, key: &str) -> String {
    format!("{object}.metadata.?labels[?'{key}'].orValue('')")
}

fn annotation(object: &str, key: &str) -> String {
    format!("{object}.metadata.?annotations[?'{key}'].orValue('')")
}

fn list(names: &[&str]) -> String {
    format!("['{}']", names.join("', '"))
}
