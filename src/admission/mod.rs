//! What the API server itself refuses, whatever RBAC gives: one source for `deploy/admission/` and for the chart.
//!
//! Two fences. One is around the operator: with its token, stolen or not, nobody writes a Secret that is neither its
//! own nor offered to it. The other is before requests for other namespaces: only the API server knows who makes one,
//! the operator never does.
//!
//! Invariant: the operator's own work passes as it is in [`crate::core::settle`]; every end-to-end test runs with the
//! fences in place.

mod author;
mod operator;

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec, Validation,
    Variable,
};

use crate::rbac::{Document, Manifest, OPERATOR, Object, named};

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
            operator::operator(fenced),
        ),
        manifest(
            "author.yaml",
            "Who asks for a Secret in another namespace must be allowed to ask there. For the platform team: kubectl \
             apply -f deploy/admission/author.yaml",
            author::author(),
        ),
        manifest(
            "require-secret-create/author.yaml",
            "Who asks for a Secret must be allowed to create Secrets where it shall be. Optional. For the platform \
             team: kubectl apply -f deploy/admission/require-secret-create/",
            author::secret_author(),
        ),
    ]
}

/// Name and CEL expression.
type Named = (&'static str, String);

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
    /// The policy speaks only of what satisfies all of them.
    conditions: Vec<Named>,
    /// Evaluated where they are used.
    variables: Vec<Named>,
    rules: Vec<Rule>,
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
