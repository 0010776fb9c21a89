//! Every label, annotation and fixed name the operator reads or writes.
//!
//! Invariant: no other file spells one of these strings.

/// API group of both kinds. In use since the first version of the operator: it must not change.
pub const GROUP: &str = "xlscsde.nhs.uk";

/// Field manager of every write of a Secret; ownership of fields is judged by this name.
pub const FIELD_MANAGER: &str = "secrets-distributor";

/// Lease in the operator's own namespace: whose replica writes.
pub const LEASE: &str = "secrets-distributor";

/// Label on a distributed Secret: the UID of the `SecretsDistribution` it was written for.
pub const OWNER_UID: &str = "xlscsde.nhs.uk/owner-uid";

/// Label on a distributed Secret that names the operator, for selectors and for people.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// Annotation by which the first (Python) operator marked its Secrets. Such a Secret is adopted on
/// migration, and ours carry it too, so that going back stays possible.
pub const MANAGED_BY_ANNOTATION: &str = "xlscsde.nhs.uk/managedBy";

/// Annotation: `namespace/name` of the request a Secret was written for.
pub const REQUEST: &str = "xlscsde.nhs.uk/request";

/// Annotation: `namespace/name` the Secret was written as. A copy made by somebody says another one.
pub const TARGET: &str = "xlscsde.nhs.uk/target";

/// Annotation: keyed digest of everything that was written, so that "is it as it should be?" needs
/// no read of the Secret.
pub const DIGEST: &str = "xlscsde.nhs.uk/digest";

/// Annotation: the policies that granted the Secret, comma separated.
pub const POLICIES: &str = "xlscsde.nhs.uk/policies";

/// Annotation: what happens when the grant goes (`Delete` or `Retain`, and the grace period in
/// seconds). Stamped at the write, so that it holds after the policy itself is gone.
pub const REVOCATION: &str = "xlscsde.nhs.uk/revocation";

/// Annotation: since when (RFC 3339) the grant is gone and the grace period runs.
pub const REVOKED_AT: &str = "xlscsde.nhs.uk/revoked-at";

/// Annotation: what happens to the Secret when its request is deleted (`Delete` or `Retain`).
pub const DELETION_POLICY: &str = "xlscsde.nhs.uk/deletion-policy";

/// Annotation on a request, for people: what the Secret is for. Shown as the wide column *Usage*.
pub const SECRET_USAGE: &str = "xlscsde.nhs.uk/secretUsage";

/// Label of a namespace: its name. The only one that the API server itself guarantees.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// ClusterRole that a namespace binds to delegate its Secrets to the operator.
pub const TENANT_CLUSTER_ROLE: &str = "secrets-distributor-tenant";

/// Namespaces that receive nothing unless a policy names them literally (no glob, no selector).
/// The operator's own namespace is added to these at start.
pub const SYSTEM_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Types that are never written, whatever a policy says: a controller mints a live token for the
/// first, the second joins a node to the cluster, the third is Helm's release state.
pub const RESERVED_TYPES: [&str; 3] =
    ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"];

/// The type of a Secret whose request names none.
pub const OPAQUE: &str = "Opaque";

/// The data types an Allow rule without `types` stands for.
pub const DATA_TYPES: [&str; 6] = [
    OPAQUE,
    "kubernetes.io/tls",
    "kubernetes.io/dockerconfigjson",
    "kubernetes.io/dockercfg",
    "kubernetes.io/basic-auth",
    "kubernetes.io/ssh-auth",
];
