//! Every label, annotation and fixed name the operator reads or writes.
//!
//! Invariant: no other file spells one of these strings.

/// API group of both kinds. In use since the first version of the operator: it must not change.
pub const GROUP: &str = "xlscsde.nhs.uk";

/// Field manager of every write of a Secret; ownership of fields is judged by this name.
pub const FIELD_MANAGER: &str = "secrets-distributor";

/// Lease in the operator's own namespace: whose replica writes.
pub const LEASE: &str = "secrets-distributor";

/// A label or an annotation, for the reference.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// Label or Annotation.
    pub kind: &'static str,
    /// Its key.
    pub key: &'static str,
    /// Where it stands and what it says.
    pub description: &'static str,
}

macro_rules! marks {
    ($( $(#[doc = $doc:literal])+ $kind:ident $name:ident = $key:literal; )+) => {
        $( $(#[doc = $doc])+ pub const $name: &str = $key; )+

        /// Every label and annotation of the operator.
        pub const MARKS: &[Mark] = &[
            $( Mark { kind: stringify!($kind), key: $key, description: concat!($($doc),+).trim_ascii() } ),+
        ];
    };
}

marks! {
    /// On a Secret: the UID of the `SecretsDistribution` it was written for.
    Label OWNER_UID = "xlscsde.nhs.uk/owner-uid";

    /// On a Secret: `secrets-distributor`, for selectors and for people.
    Label MANAGED_BY_LABEL = "app.kubernetes.io/managed-by";

    /// On a Secret: the value of `--managed-by`. The first (Python) operator marked its Secrets so: such a Secret is
    /// adopted on migration. Ours carry it too, so that going back stays possible.
    Annotation MANAGED_BY_ANNOTATION = "xlscsde.nhs.uk/managedBy";

    /// On a Secret: `namespace/name` of the request it was written for.
    Annotation REQUEST = "xlscsde.nhs.uk/request";

    /// On a Secret: `namespace/name` it was written as. A copy made by somebody says another one.
    Annotation TARGET = "xlscsde.nhs.uk/target";

    /// On a Secret: keyed digest (HMAC) of its type and content, so that "is it as it should be?" needs no read of
    /// the Secret.
    Annotation DIGEST = "xlscsde.nhs.uk/digest";

    /// On a Secret: the policies that granted it, comma separated.
    Annotation POLICIES = "xlscsde.nhs.uk/policies";

    /// On a Secret: what happens when the grant goes, `Retain` or `Delete after` the grace period in seconds. Stamped
    /// at the write, so that it holds after the policy itself is gone.
    Annotation REVOCATION = "xlscsde.nhs.uk/revocation";

    /// On a Secret: since when (RFC 3339) the grant is gone and the grace period runs.
    Annotation REVOKED_AT = "xlscsde.nhs.uk/revoked-at";

    /// On a Secret: what happens to it when its request is deleted, `Delete` or `Retain`.
    Annotation DELETION_POLICY = "xlscsde.nhs.uk/deletion-policy";

    /// On a request, for people: what the Secret is for. Shown as the wide column Usage.
    Annotation SECRET_USAGE = "xlscsde.nhs.uk/secretUsage";

    /// On a request: the trace of the pipeline that applied it, in W3C form (`00-trace-span-01`). The operator's traces
    /// of the request are linked to it; what has another form is ignored.
    Annotation TRACEPARENT = "xlscsde.nhs.uk/traceparent";

    /// On an event: the trace of the attempt that it tells of.
    Annotation TRACE_ID = "xlscsde.nhs.uk/trace-id";
}

/// Label of a namespace: its name. The only one that the API server itself guarantees.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// ClusterRole that a namespace binds to delegate its Secrets to the operator.
pub const TENANT_CLUSTER_ROLE: &str = "secrets-distributor-tenant";

/// The same for an operator that may write Secrets and not read them.
pub const WRITE_ONLY_TENANT_CLUSTER_ROLE: &str = "secrets-distributor-tenant-write-only";

/// RoleBinding by which a namespace delegates.
pub const DELEGATION: &str = "secrets-distributor";

/// The same for an operator that may write Secrets and not read them.
pub const WRITE_ONLY_DELEGATION: &str = "secrets-distributor-write-only";

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
