//! `SecretsDistribution`: what an app team asks for.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Asks the operator to write one Secret, of mounted sources, in this namespace or in others.
///
/// What may be written is decided by the cluster's `DistributionPolicy` objects; without a policy
/// that grants it, nothing is.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "xlscsde.nhs.uk",
    version = "v1",
    kind = "SecretsDistribution",
    plural = "secretsdistributions",
    singular = "secretsdistribution",
    shortname = "sd",
    category = "secrets-distributor",
    namespaced,
    status = "SecretsDistributionStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A request of an app team: one Secret, made of sources that are mounted into the operator, in this namespace or in others. Granted by DistributionPolicy objects only.",
    printcolumn(
        name = "Secret",
        type_ = "string",
        json_path = ".status.secretName",
        description = "Name of the Secret that is written"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(
        name = "Last Sync",
        type_ = "date",
        json_path = ".status.lastSyncTime",
        description = "When a Secret of this request was last written"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type", priority = 1),
    printcolumn(
        name = "Usage",
        type_ = "string",
        json_path = ".metadata.annotations.xlscsde\\.nhs\\.uk/secretUsage",
        priority = 1
    ),
    printcolumn(
        name = "Trace",
        type_ = "string",
        json_path = ".status.traceID",
        description = "Trace of the attempt that this status tells of",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct SecretsDistributionSpec {
    /// Name of the Secret to write. Defaults to the name of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_name")]
    pub name: Option<String>,

    /// Type of the Secret. Defaults to Opaque. A policy must allow it; types that a controller turns
    /// into a live credential are refused.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_type")]
    pub type_: Option<String>,

    /// The keys of the Secret and the source of each, 1 to 64.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["to".into()]))]
    pub secrets: Vec<Mapping>,

    /// Namespaces to write the Secret to. Defaults to the namespace of this object only; if others
    /// are listed and this one shall receive the Secret too, list it as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::namespaces")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub namespaces: Vec<String>,

    /// More destinations, by the labels of the namespace. Of the namespaces that match, those that a
    /// policy grants receive the Secret; the others are neither named nor counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::selector")]
    pub namespace_selector: Option<LabelSelector>,

    /// Labels and annotations to put on the Secret. Nothing is copied from this object implicitly.
    #[serde(default, skip_serializing_if = "SecretMetadata::is_empty")]
    pub metadata: SecretMetadata,

    /// What happens to the Secret when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// Take over a Secret of that name that exists already and belongs to nobody. The policy must
    /// allow it too, and the Secret be offered by its annotation xlscsde.nhs.uk/adoption: allowed.
    #[serde(default)]
    pub adopt: bool,

    /// While true nothing is written, and nothing is deleted but what is no longer granted; the Secret stays as it is.
    #[serde(default)]
    pub suspend: bool,
}

/// One key of the Secret and where its content comes from.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// Source: a file name below the operator's mount, 1 to 4 segments joined by '/', each starting
    /// with a letter or digit.
    #[schemars(schema_with = "schema::source_name")]
    pub from: String,

    /// Key in the Secret's data.
    #[schemars(schema_with = "schema::secret_key")]
    pub to: String,
}

/// Labels and annotations for the Secret.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretMetadata {
    /// Labels to put on the Secret. Keys under xlscsde.nhs.uk/, kubernetes.io/ and k8s.io/ are reserved,
    /// those under app.kubernetes.io/ are not, except app.kubernetes.io/managed-by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "x-kubernetes-validations" = schema::label_keys()))]
    pub labels: BTreeMap<String, LabelValue>,

    /// Annotations to put on the Secret. Keys under xlscsde.nhs.uk/, kubernetes.io/ and k8s.io/ are reserved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "x-kubernetes-validations" = schema::annotation_keys()))]
    pub annotations: BTreeMap<String, AnnotationValue>,
}

impl SecretMetadata {
    /// Neither a label nor an annotation.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }
}

/// Value of a label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct LabelValue(#[schemars(schema_with = "schema::label_value")] pub String);

/// Value of an annotation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct AnnotationValue(#[schemars(length(max = 4096))] pub String);

/// What happens to a Secret when its request is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The Secret is deleted.
    #[default]
    Delete,
    /// The Secret stays, and belongs to nobody from then on.
    Retain,
}

/// What the operator found and did. Written by the operator only, and never read by it as truth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretsDistributionStatus {
    /// The generation of the request that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Permitted, Synced and Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Name of the Secret that is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,

    /// The destinations, at most 50, those that need attention first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["namespace".into()]))]
    pub targets: Vec<TargetStatus>,

    /// Number of destinations, also those past the bound of `targets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets_total: Option<i32>,

    /// Number of destinations whose Secret is as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets_synced: Option<i32>,

    /// One entry for each mapping: granted or not, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["to".into()]))]
    pub decisions: Vec<DecisionStatus>,

    /// When a Secret of this request was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync_time: Option<Time>,

    /// When the operator acts again by itself: at the end of a grace period, or when it is the turn of a throttled write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,

    /// Trace of the last attempt that wrote a Secret of this request or changed what is said here; absent while the
    /// operator makes no traces.
    #[serde(default, rename = "traceID", skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

/// State of the Secret in one destination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Destination namespace.
    pub namespace: String,
    /// Name of the Secret.
    pub name: String,
    /// Synced, Pending, Denied, Failed or Retained.
    pub state: TargetState,
    /// A reason of the Permitted or Synced condition; absent when synced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is wrong and what to do, where the reason alone does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the operator last wrote this Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_written: Option<Time>,
}

/// State of one destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TargetState {
    /// No policy grants it.
    Denied,
    /// The operator tried and could not.
    Failed,
    /// The operator acts later by itself.
    #[default]
    Pending,
    /// The grant is gone, the Secret stays as the policy said when it was written.
    Retained,
    /// The Secret is as it should be.
    Synced,
}

/// The decision about one mapping.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionStatus {
    /// Source of the mapping.
    pub from: String,
    /// Key of the mapping.
    pub to: String,
    /// Granted or Refused.
    pub result: DecisionResult,
    /// A reason of the Permitted condition; absent when granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The policy that granted it; absent when refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// Outcome for one mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DecisionResult {
    /// A policy grants it, in every destination.
    Granted,
    /// Not granted in at least one destination.
    #[default]
    Refused,
}
