//! The rights: one source for `rbac/`, for the chart, and for the RoleBinding that a tenant is told to apply.
//!
//! Invariants: nothing here grants the operator a Secret in the whole cluster; a namespace does that for
//! itself, by binding [`SecretsAccess::cluster_role`]. Nobody but the operator is granted a `/status`. No role for
//! policies is aggregated: who may write one decides over every source.

mod people;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
        coordination::v1::Lease,
        core::v1::{Namespace, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::Serialize;

use crate::{
    access::SecretsAccess,
    api::names::{self, GROUP},
};

/// Name of the operator's namespace, ServiceAccount and role in it where nobody chooses another.
pub const OPERATOR: &str = env!("CARGO_PKG_NAME");

/// What gives the operator its rights again. `rbac/` says in which namespace the operator is: applied where Helm has
/// installed it into another, it would give them to whoever is called so in that one.
pub const RESTORE: &str = "helm upgrade its release again; kubectl apply -f rbac/ if Helm has not installed it";

/// Name of what the operator has in the whole cluster. Not [`OPERATOR`]: so the first operator calls its own, which it
/// keeps while both are there.
const CLUSTER_ROLE: &str = "secrets-distributor-operator";

pub(crate) const REQUESTS: &str = "secretsdistributions";
const POLICIES: &str = "distributionpolicies";
const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];

/// One rule, and why it is needed.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Why the holder needs it.
    pub why: &'static str,
    group: &'static str,
    resources: &'static [&'static str],
    /// Only the objects of these names; all, if there are none.
    names: &'static [&'static str],
    verbs: &'static [&'static str],
}

impl Rule {
    /// What it allows, each as `verb resource.group`.
    pub fn rights(&self) -> impl Iterator<Item = String> {
        let all = self.resources.iter().flat_map(|resource| self.verbs.iter().map(move |verb| (verb, resource)));
        all.map(|(verb, resource)| format!("{verb} {resource}.{}", self.group))
    }

    fn to_policy_rule(self) -> PolicyRule {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        PolicyRule {
            api_groups: Some(vec![self.group.into()]),
            resources: Some(owned(self.resources)),
            resource_names: (!self.names.is_empty()).then(|| owned(self.names)),
            verbs: owned(self.verbs),
            ..PolicyRule::default()
        }
    }
}

/// What the operator may do in the whole cluster. No rule on Secrets.
pub const OPERATOR_RULES: &[Rule] = &[
    Rule {
        why: "What is asked for and what is granted; their spec is never written.",
        group: GROUP,
        resources: &[REQUESTS, POLICIES],
        names: &[],
        verbs: &["list", "watch"],
    },
    Rule {
        why: "What was found and done: the operator is the one writer of status.",
        group: GROUP,
        resources: &["secretsdistributions/status", "distributionpolicies/status"],
        names: &[],
        verbs: &["patch"],
    },
    Rule {
        why: "Policies select destinations by the names and labels of namespaces; only metadata is read.",
        group: "",
        resources: &["namespaces"],
        names: &[],
        verbs: &["list", "watch"],
    },
    Rule {
        why: "Tells the app team in its own namespace; patch counts a repeated event up instead of adding one.",
        group: "events.k8s.io",
        resources: &["events"],
        names: &[],
        verbs: &["create", "patch"],
    },
];

/// What the operator may do in its own namespace.
pub const HOME_RULES: &[Rule] = &[
    Rule {
        why: "Of several replicas one writes: the one that holds the Lease.",
        group: "coordination.k8s.io",
        resources: &["leases"],
        names: &[names::LEASE],
        verbs: &["get", "update"],
    },
    Rule {
        why: "Makes the Lease again that somebody has deleted; a right to create cannot be bound to a name.",
        group: "coordination.k8s.io",
        resources: &["leases"],
        names: &[],
        verbs: &["create"],
    },
];

/// What the operator must be allowed to do with the Secrets of a namespace, in either mode.
pub const TENANT_WRITES: &[&str] = &["create", "patch", "delete"];

const WRITES_SECRETS: Rule = Rule {
    why: "Creates and updates the Secrets that requests describe, and deletes those whose grant or request is gone.",
    group: "",
    resources: &["secrets"],
    names: &[],
    verbs: TENANT_WRITES,
};

const SEES_SECRETS: Rule = Rule {
    why: "Sees by their metadata whose a Secret is, and that somebody changed or deleted it.",
    group: "",
    resources: &["secrets"],
    names: &[],
    verbs: READ,
};

/// What a namespace that delegates lets the operator do with its Secrets.
pub fn tenant_rules(access: SecretsAccess) -> &'static [Rule] {
    match access {
        SecretsAccess::Watch => &[WRITES_SECRETS, SEES_SECRETS],
        SecretsAccess::WriteOnly => &[WRITES_SECRETS],
    }
}

/// The verbs of these rules.
pub fn tenant_verbs(access: SecretsAccess) -> Vec<&'static str> {
    tenant_rules(access).iter().flat_map(|rule| rule.verbs).copied().collect()
}

/// An object of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "each is the kind of its name")]
pub enum Object {
    Namespace(Namespace),
    ServiceAccount(ServiceAccount),
    ClusterRole(ClusterRole),
    ClusterRoleBinding(ClusterRoleBinding),
    Role(Role),
    RoleBinding(RoleBinding),
    Lease(Lease),
    ValidatingAdmissionPolicy(ValidatingAdmissionPolicy),
    ValidatingAdmissionPolicyBinding(ValidatingAdmissionPolicyBinding),
}

/// An object and what to say about it, first as a whole, then to each rule of a role.
#[derive(Clone, Debug)]
pub struct Document {
    /// What the object is for.
    pub about: &'static str,
    /// Why each rule is needed, in order; empty for what has no rules.
    pub whys: Vec<&'static str>,
    /// The object itself.
    pub object: Object,
}

/// One file of `rbac/`.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Name of the file.
    pub file: &'static str,
    /// Who applies it, and how.
    pub about: &'static str,
    /// Its objects, in the order to apply them.
    pub documents: Vec<Document>,
}

/// The RoleBinding with which a namespace delegates its Secrets to the operator's ServiceAccount. Without
/// `namespace` it is for `kubectl --namespace NS apply`.
pub fn delegation(
    access: SecretsAccess,
    namespace: Option<&str>,
    operator_namespace: &str,
    service_account: &str,
) -> RoleBinding {
    RoleBinding {
        metadata: ObjectMeta { namespace: namespace.map(Into::into), ..named(access.role_binding()) },
        role_ref: role(access.cluster_role()),
        subjects: Some(vec![account(operator_namespace, service_account)]),
    }
}

/// The file that makes the role that a namespace binds, whoever the operator is.
pub fn tenant_file(access: SecretsAccess) -> String {
    format!("rbac/{}", tenant(access).file)
}

/// Every manifest.
pub fn manifests() -> Vec<Manifest> {
    let tenant = SecretsAccess::ALL.into_iter().flat_map(|access| [tenant(access), delegation_manifest(access)]);
    [operator(), people::aggregate(), people::policy_author()].into_iter().chain(tenant).collect()
}

fn operator() -> Manifest {
    let namespace = Namespace { metadata: named(OPERATOR), ..Namespace::default() };
    let service_account = ServiceAccount { metadata: at_home(OPERATOR), ..ServiceAccount::default() };
    let binding = ClusterRoleBinding {
        metadata: named(CLUSTER_ROLE),
        role_ref: role(CLUSTER_ROLE),
        subjects: Some(vec![account(OPERATOR, OPERATOR)]),
    };
    let home_role = Role { metadata: at_home(OPERATOR), rules: Some(policy_rules(HOME_RULES)) };
    let home_binding = RoleBinding {
        metadata: at_home(OPERATOR),
        role_ref: RoleRef { kind: "Role".into(), ..role(OPERATOR) },
        subjects: Some(vec![account(OPERATOR, OPERATOR)]),
    };
    Manifest {
        file: "operator.yaml",
        about: "The operator's own identity and rights. For the platform team: kubectl apply -f rbac/operator.yaml",
        documents: vec![
            document(
                "Where the operator lives; no policy's glob or selector reaches it.",
                Object::Namespace(namespace),
            ),
            document("Who the operator is.", Object::ServiceAccount(service_account)),
            cluster_role(
                "What the operator may do in the whole cluster: no rule on Secrets.",
                CLUSTER_ROLE,
                &[],
                OPERATOR_RULES,
            ),
            document("Gives it to the operator.", Object::ClusterRoleBinding(binding)),
            Document {
                about: "What the operator may do in its own namespace.",
                whys: HOME_RULES.iter().map(|rule| rule.why).collect(),
                object: Object::Role(home_role),
            },
            document("Gives it to the operator.", Object::RoleBinding(home_binding)),
            document(
                "Whose replica writes. It is here so that the first start finds it free: where there is none, another \
                 replica may write, and it waits.",
                Object::Lease(Lease { metadata: at_home(names::LEASE), spec: None }),
            ),
        ],
    }
}

/// In the operator's own namespace.
fn at_home(name: &str) -> ObjectMeta {
    ObjectMeta { namespace: Some(OPERATOR.into()), ..named(name) }
}

/// The role of the mode that is not the default is in a folder of its own: `kubectl apply -f rbac/` leaves it out.
fn tenant(access: SecretsAccess) -> Manifest {
    let (file, about) = match access {
        SecretsAccess::Watch => (
            "tenant.yaml",
            "What a namespace lets the operator do. For the platform team: kubectl apply -f rbac/tenant.yaml",
        ),
        SecretsAccess::WriteOnly => (
            "write-only/tenant.yaml",
            "What a namespace lets an operator do that runs with --secrets-access writeOnly: no get, list or watch. \
             For the platform team: kubectl apply -f rbac/write-only/",
        ),
    };
    let document = cluster_role(
        "Bound by a RoleBinding in each namespace that delegates, see delegation/; never by a ClusterRoleBinding.",
        access.cluster_role(),
        &[],
        tenant_rules(access),
    );
    Manifest { file, about, documents: vec![document] }
}

/// In a folder of its own: `kubectl apply -f rbac/` must not delegate whatever namespace happens to be current.
fn delegation_manifest(access: SecretsAccess) -> Manifest {
    let (file, about) = match access {
        SecretsAccess::Watch => (
            "delegation/rolebinding.yaml",
            "Delegates the Secrets of one namespace to the operator. For an admin of the namespace, who needs no \
             other right: kubectl --namespace NAMESPACE apply -f rbac/delegation/",
        ),
        SecretsAccess::WriteOnly => (
            "write-only/delegation/rolebinding.yaml",
            "The same for an operator that runs with --secrets-access writeOnly: kubectl --namespace NAMESPACE apply \
             -f rbac/write-only/delegation/",
        ),
    };
    let document = document(
        "To take the delegation back, delete it; what was written until then stays.",
        Object::RoleBinding(delegation(access, None, OPERATOR, OPERATOR)),
    );
    Manifest { file, about, documents: vec![document] }
}

fn document(about: &'static str, object: Object) -> Document {
    Document { about, whys: Vec::new(), object }
}

fn cluster_role(about: &'static str, name: &str, aggregate_to: &[&str], rules: &[Rule]) -> Document {
    let mut metadata = named(name);
    let labels = aggregate_to.iter().map(|to| (format!("rbac.authorization.k8s.io/aggregate-to-{to}"), "true".into()));
    metadata.labels.get_or_insert_default().extend(labels);
    let role = ClusterRole { metadata, rules: Some(policy_rules(rules)), ..ClusterRole::default() };
    Document { about, whys: rules.iter().map(|rule| rule.why).collect(), object: Object::ClusterRole(role) }
}

fn policy_rules(rules: &[Rule]) -> Vec<PolicyRule> {
    rules.iter().map(|rule| rule.to_policy_rule()).collect()
}

pub(crate) fn named(name: &str) -> ObjectMeta {
    let labels = BTreeMap::from([("app.kubernetes.io/name".to_string(), OPERATOR.to_string())]);
    ObjectMeta { name: Some(name.into()), labels: Some(labels), ..ObjectMeta::default() }
}

fn role(name: &str) -> RoleRef {
    RoleRef { api_group: Some("rbac.authorization.k8s.io".into()), kind: "ClusterRole".into(), name: name.into() }
}

fn account(namespace: &str, name: &str) -> Subject {
    Subject {
        kind: "ServiceAccount".into(),
        name: name.into(),
        namespace: Some(namespace.into()),
        ..Subject::default()
    }
}
