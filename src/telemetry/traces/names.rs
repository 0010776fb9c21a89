//! Every span, and every attribute of one: an API of its own. `docs/reference.md` has them as tables.
//!
//! Nothing else can be recorded: the names below are the only values of their types. Attributes without our prefix are
//! those of OpenTelemetry's semantic conventions.

/// Name and meaning of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its key.
    pub key: &'static str,
    /// The type of its value, as the conventions call it.
    pub kind: &'static str,
    /// What it says.
    pub description: &'static str,
}

macro_rules! attributes {
    ($( $(#[doc = $doc:literal])+ $name:ident: $kind:literal = $key:literal; )+) => {
        $( $(#[doc = $doc])+ pub const $name: Attribute =
            Attribute { key: $key, kind: $kind, description: concat!($($doc),+).trim_ascii() }; )+

        /// Every attribute.
        pub const ATTRIBUTES: &[Attribute] = &[$($name),+];
    };
}

attributes! {
    /// The request, as namespace/name.
    REQUEST: "string" = "secrets_distributor.request";
    /// Namespace of the request, or of the target, or the one that has changed.
    NAMESPACE: "string" = "k8s.namespace.name";
    /// The Secret, as namespace/name.
    TARGET: "string" = "secrets_distributor.target";
    /// What came of it; the values are below.
    RESULT: "string" = "secrets_distributor.result";
    /// Why: a reason of the conditions. Absent if the Secret is as it should be.
    REASON: "string" = "secrets_distributor.reason";
    /// The policies that grant the write and the rule of each that does, such as `wildcard-tls rules[0]`.
    GRANTED_BY: "string[]" = "secrets_distributor.granted_by";
    /// Why there was work to do; the values are below.
    CAUSE: "string" = "secrets_distributor.cause";
    /// Seconds from the cause to the start of this span: how long it waited.
    CAUSE_AGE: "double" = "secrets_distributor.cause.age";
    /// The trace of the cause, which is also a link. Searched for, it leads from a rotation or a policy change to all its
    /// attempts. Of several causes the first; the others are span events named `cause`, with this attribute.
    CAUSE_TRACE_ID: "string" = "secrets_distributor.cause.trace_id";
    /// The trace that the annotation `xlscsde.nhs.uk/traceparent` of the request names, which is also a link.
    PIPELINE_TRACE_ID: "string" = "secrets_distributor.pipeline.trace_id";
    /// Which attempt it is, from 1; more than 1 after failures and while waiting for a turn at the rate limit.
    ATTEMPT: "int" = "secrets_distributor.attempt";
    /// Number of destinations.
    TARGETS: "int" = "secrets_distributor.targets";
    /// Names of sources, at most 64.
    SOURCES: "string[]" = "secrets_distributor.sources";
    /// Size of what was read, or of the Secret's data.
    BYTES: "int" = "secrets_distributor.bytes";
    /// Number of keys of the Secret.
    KEYS: "int" = "secrets_distributor.keys";
    /// Seconds until it is this write's turn; 0 if it is now.
    THROTTLE_DELAY: "double" = "secrets_distributor.throttle.delay";
    /// The policy that has changed.
    POLICY: "string" = "secrets_distributor.policy";
    /// Its generation.
    GENERATION: "int" = "secrets_distributor.generation";
    /// What was done to it: `applied` or `deleted`.
    CHANGE: "string" = "secrets_distributor.change";
    /// Number of requests that were woken.
    REQUESTS: "int" = "secrets_distributor.requests";
    /// The kind of resource that is called, with the subresource: `secrets`, `secretsdistributions/status`.
    RESOURCE: "string" = "secrets_distributor.api.resource";
    /// Method of the call.
    METHOD: "string" = "http.request.method";
    /// Status code of the answer; absent without one.
    STATUS_CODE: "int" = "http.response.status_code";
    /// The path with names left out.
    URL_TEMPLATE: "string" = "url.template";
    /// The whole address.
    URL_FULL: "string" = "url.full";
    /// Host of the API server.
    SERVER_ADDRESS: "string" = "server.address";
    /// Port of the API server.
    SERVER_PORT: "int" = "server.port";
    /// The kind of the failure, if it is one; a refusal by policy is none.
    ERROR_TYPE: "string" = "error.type";
}

/// Name and meaning of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanName {
    /// Its name.
    pub name: &'static str,
    /// Its kind, as `otel.kind` wants it.
    pub kind: &'static str,
    /// Names of the spans that it can be within; none of a root.
    pub within: &'static [&'static str],
    /// What it covers.
    pub description: &'static str,
    /// What it can carry.
    pub attributes: &'static [Attribute],
}

macro_rules! spans {
    ($( $(#[doc = $doc:literal])+ $kind:ident $name:ident = $text:literal within [$($within:literal),*]: [$($attribute:ident),*]; )+) => {
        $( $(#[doc = $doc])+ pub const $name: SpanName = SpanName {
            name: $text,
            kind: stringify!($kind),
            within: &[$($within),*],
            description: concat!($($doc),+).trim_ascii(),
            attributes: &[$($attribute),*],
        }; )+

        /// Every span.
        pub const SPANS: &[SpanName] = &[$($name),+];
    };
}

spans! {
    /// One attempt at a request that decided, changed or failed at something; one that found nothing to do leaves no
    /// trace. Linked to its causes, and to the trace that the request names.
    internal DISTRIBUTE = "distribute" within []:
        [REQUEST, NAMESPACE, CAUSE, CAUSE_AGE, CAUSE_TRACE_ID, PIPELINE_TRACE_ID, ATTEMPT, RESULT, REASON, ERROR_TYPE];
    /// What there is to do: the policies are asked, nothing is read or called.
    internal DECIDE = "decide" within ["distribute"]: [TARGETS];
    /// One generation of the sources that are granted.
    internal READ = "read" within ["distribute"]: [SOURCES, BYTES];
    /// One destination, or one Secret that is not wanted any more.
    internal SEE_TO = "target" within ["distribute"]: [NAMESPACE, TARGET, GRANTED_BY, RESULT, REASON, ERROR_TYPE];
    /// The Secret is put together, and its content checked against its type.
    internal RENDER = "render" within ["target"]: [KEYS, BYTES];
    /// Before a write: are the policies it was decided by still those of the cluster? One read serves all writes of a
    /// few seconds, and is part of the trace of the first.
    internal CONFIRM = "confirm" within ["apply"]: [];
    /// Before a write: the token that it costs.
    internal LIMIT = "limit" within ["apply"]: [THROTTLE_DELAY];
    /// The Secret is compared, and created, changed or deleted if need be.
    internal APPLY = "apply" within ["target"]: [];
    /// The status, if it says anything new, and the events.
    internal STATUS = "status" within ["distribute"]: [];
    /// One call of the API server. Its name is the method and `url.template`.
    client CALL = "call" within ["confirm", "apply", "status"]:
        [METHOD, URL_TEMPLATE, URL_FULL, SERVER_ADDRESS, SERVER_PORT, RESOURCE, STATUS_CODE, ERROR_TYPE];
    /// Sources have changed in the mounted folder.
    internal ROTATION = "rotation" within []: [SOURCES, REQUESTS, CAUSE_AGE];
    /// A policy has changed, in a way that touches requests.
    internal POLICY_CHANGE = "policy change" within []: [POLICY, GENERATION, CHANGE, REQUESTS];
    /// A namespace has changed, in a way that touches requests.
    internal NAMESPACE_CHANGE = "namespace change" within []: [NAMESPACE, CHANGE, REQUESTS];
}

macro_rules! results {
    ($( $(#[doc = $doc:literal])+ $name:ident = $word:literal, )+) => {
        /// What came of an attempt, or of one of its targets. Of several the first of these is that of the attempt.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Ended {
            $( $(#[doc = $doc])+ $name, )+
        }

        impl Ended {
            /// Every result.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The result as it stands in traces and logs.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }

            /// What it means, for the reference.
            pub fn description(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii()),+ }
            }
        }
    };
}

results! {
    /// The API server, or the operator, failed: tried again with backoff. The span is an error.
    Failed = "failed",
    /// The object cannot be understood.
    Invalid = "invalid",
    /// No policy grants it.
    Denied = "denied",
    /// The grant is gone; the Secret is deleted when its grace period ends.
    Revoking = "revoking",
    /// The grant is gone; the Secret stays, as its policy said.
    Retained = "retained",
    /// Granted, but something is in the way; the reason says what.
    Held = "held",
    /// It is written when it is its turn at the rate limit.
    Throttled = "throttled",
    /// The Secret was created or changed.
    Written = "written",
    /// The Secret was deleted.
    Deleted = "deleted",
    /// Only of an attempt: every Secret is as it should be, and the status says so now.
    Reported = "reported",
    /// Only of a target: the Secret was as it should be.
    Unchanged = "unchanged",
}
