//! `DistributionPolicy`: what the platform team grants.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Grants (or denies) namespaces the sources of the operator's mount.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "xlscsde.nhs.uk",
    version = "v1",
    kind = "DistributionPolicy",
    plural = "distributionpolicies",
    singular = "distributionpolicy",
    shortname = "dp",
    category = "secrets-distributor",
    status = "DistributionPolicyStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "What the platform team grants: which namespaces may receive which sources, as which keys, types and Secrets. Nothing is granted without one; a Deny wins over every Allow.",
    printcolumn(name = "Enforcement", type_ = "string", json_path = ".spec.enforcement"),
    printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type==\"Accepted\")].status"),
    printcolumn(
        name = "Namespaces",
        type_ = "integer",
        json_path = ".status.matchedNamespaces",
        description = "Namespaces that the policy speaks about"
    ),
    printcolumn(
        name = "Granted",
        type_ = "integer",
        json_path = ".status.granted",
        description = "Secrets that it grants now"
    ),
    printcolumn(
        name = "Denied",
        type_ = "integer",
        json_path = ".status.denied",
        description = "Secrets that it refuses now"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Description", type_ = "string", json_path = ".spec.description", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.notBefore) || !has(self.notAfter) || timestamp(self.notBefore) < timestamp(self.notAfter)")
    .message("notBefore must be earlier than notAfter"))]
pub struct DistributionPolicySpec {
    /// For people: what this grants and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,

    /// Enforce, or Audit: decided and reported in this policy's status, but it grants and denies nothing.
    #[serde(default)]
    pub enforcement: Enforcement,

    /// The destination namespaces this policy speaks about.
    pub namespaces: NamespaceMatch,

    /// The rules; at least one.
    #[schemars(length(min = 1, max = 64))]
    pub rules: Vec<PolicyRule>,

    /// How fast Secrets are written into each destination namespace. Of several policies the strictest wins; none:
    /// the operator's own setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,

    /// Quotas per destination namespace. Of several policies the smallest wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,

    /// What happens to a Secret when its grant goes. It is stamped on the Secret when it is written.
    #[serde(default)]
    pub revocation: Revocation,

    /// The policy grants and denies nothing before this instant (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,

    /// The policy grants and denies nothing from this instant on (RFC 3339); what it granted is revoked then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
}

/// Whether a policy decides or only reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Enforcement {
    /// The rules grant and deny.
    #[default]
    Enforce,
    /// The rules are evaluated and counted, and change nothing.
    Audit,
}

/// Namespaces, by name, by label, or both: names and selector both given means both must match.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.names) && self.names.size() > 0) || has(self.selector)")
    .message("give names or a selector: a policy without either would speak about no namespace"))]
pub struct NamespaceMatch {
    /// Globs over namespace names: '*' is any run of characters, '?' one character.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::namespace_globs")]
    pub names: Vec<String>,

    /// Labels of the namespace. Tenants can often set labels: kubernetes.io/metadata.name is the only
    /// one that the API server itself guarantees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::selector")]
    pub selector: Option<LabelSelector>,
}

/// One rule. An Allow rule must match all of source, key, type, name and requester.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRule {
    /// Allow, or Deny: any matching Deny wins, whatever allows.
    pub effect: Effect,

    /// Globs over source names: '*' is any run of characters within a segment (it does not cross '/'), '?' one.
    #[schemars(schema_with = "schema::source_globs")]
    pub sources: Vec<String>,

    /// Globs over the keys of the Secret. Omitted: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::key_globs")]
    pub keys: Vec<String>,

    /// Types of the Secret, literally. Omitted in an Allow: Opaque, kubernetes.io/tls, dockerconfigjson,
    /// dockercfg, basic-auth and ssh-auth. Omitted in a Deny: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::secret_types")]
    pub types: Vec<String>,

    /// Globs over the Secret's name. Omitted: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::secret_name_globs")]
    pub secret_names: Vec<String>,

    /// Namespaces whose requests this rule is about. Omitted in an Allow: the destination itself only, so that
    /// cross-namespace requests are refused. Omitted in a Deny: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_from: Option<NamespaceMatch>,

    /// Whether a request may take over a Secret that exists already and belongs to nobody.
    #[serde(default)]
    pub adopt: bool,
}

/// What a matching rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Effect {
    /// Grants what it matches.
    #[default]
    Allow,
    /// Refuses what it matches.
    Deny,
}

/// How fast Secrets are written into a namespace: a bucket of `burst` writes that fills with `writes` in each `per`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Writes of Secrets in each `per`, in the long run.
    #[schemars(with = "i32", range(min = 1, max = 100_000))]
    pub writes: u32,

    /// The time that `writes` is about, such as 1s, 1m or 1h; at most 24h. Default: 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::rate_period")]
    pub per: Option<String>,

    /// Writes that may come at once after a quiet time. Default: as many as `writes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1, max = 100_000))]
    pub burst: Option<u32>,
}

/// Quotas of a destination namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Number of distributions that may write to the namespace; the youngest beyond it are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 0, max = 100_000))]
    pub distributions: Option<u32>,
}

/// What happens to a Secret when its grant goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// Delete, or Retain. Several policies grant the same Secret: Retain only if all of them say so.
    #[serde(default)]
    pub action: RevocationAction,

    /// How long the Secret stays after the grant went, such as 30s, 5m or 1h; at most 720h. Default: 0s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::grace_period")]
    pub grace_period: Option<String>,
}

/// What happens to a Secret whose grant is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RevocationAction {
    /// The Secret is deleted after the grace period.
    #[default]
    Delete,
    /// The Secret stays, and is not written any more.
    Retain,
}

/// What the operator found about a policy. Written by the operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DistributionPolicyStatus {
    /// The generation of the policy that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Accepted: whether the policy could be compiled. A policy that could not grants nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Number of namespaces that the policy speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched_namespaces: Option<i32>,

    /// Number of Secrets (request and destination) that it grants; in Audit: that it would grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<i32>,

    /// Number of Secrets that a Deny rule of it refuses; in Audit: that it would refuse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<i32>,
}
