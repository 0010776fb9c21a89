//! One call of the API, as the proxy sees it.

use http::{Method, request::Parts};
use serde_json::Value;

/// A call that came to the proxy. What does not apply is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Its number, from 0: calls are numbered as they arrive.
    pub index: usize,
    /// get, list, watch, create, update, patch, delete, deletecollection.
    pub verb: String,
    /// Plural of the kind.
    pub resource: String,
    /// For instance `status`.
    pub subresource: String,
    /// Namespace.
    pub namespace: String,
    /// Name; of a create, the one in the body.
    pub name: String,
    /// Path and query.
    pub uri: String,
    /// What the API server answered; none if it was not asked or has not answered.
    pub forwarded: Option<u16>,
    /// What the client was answered; none if it was not, or not yet.
    pub answered: Option<u16>,
}

impl Call {
    pub(super) fn parse(parts: &Parts, body: &[u8]) -> Self {
        let uri = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        let mut call = Self { uri, ..Self::of_path(parts.uri.path()) };
        let watches = parts.uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
        call.verb = verb(&parts.method, call.name.is_empty(), watches).to_owned();
        if call.verb == "create" && call.name.is_empty() {
            let body: Value = serde_json::from_slice(body).unwrap_or_default();
            call.name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        }
        call
    }

    fn of_path(path: &str) -> Self {
        let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let rest = match segments.as_slice() {
            ["api", _version, rest @ ..] | ["apis", _, _version, rest @ ..] => rest,
            _ => &[],
        };
        let (namespace, rest) = match rest {
            // A namespace itself is no object within a namespace.
            ["namespaces", namespace, resource, rest @ ..] if !["status", "finalize"].contains(resource) => {
                (*namespace, [&[*resource], rest].concat())
            }
            _ => ("", rest.to_vec()),
        };
        let segment = |at: usize| rest.get(at).map(ToString::to_string).unwrap_or_default();
        Self {
            namespace: namespace.to_owned(),
            resource: segment(0),
            name: segment(1),
            subresource: segment(2),
            ..Self::default()
        }
    }

    /// It would change something.
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }
}

fn verb(method: &Method, of_collection: bool, watches: bool) -> &'static str {
    match (method.as_str(), of_collection) {
        ("GET", _) if watches => "watch",
        ("GET", true) => "list",
        ("GET", false) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "deletecollection",
        ("DELETE", false) => "delete",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(method: &str, uri: &str, body: &str) -> [String; 5] {
        let request = http::Request::builder().method(method).uri(uri).body(()).unwrap();
        let call = Call::parse(&request.into_parts().0, body.as_bytes());
        [call.verb, call.resource, call.subresource, call.namespace, call.name]
    }

    #[test]
    fn a_call_is_known_by_its_path_and_its_body() {
        let secrets = "/api/v1/namespaces/a/secrets";
        assert_eq!(parsed("GET", secrets, ""), ["list", "secrets", "", "a", ""]);
        assert_eq!(parsed("GET", &format!("{secrets}?watch=true&x=y"), "")[0], "watch");
        assert_eq!(parsed("DELETE", &format!("{secrets}/b"), "{}"), ["delete", "secrets", "", "a", "b"]);
        let body = r#"{"metadata":{"name":"b"}}"#;
        assert_eq!(parsed("POST", secrets, body), ["create", "secrets", "", "a", "b"]);
        assert_eq!(parsed("GET", "/api/v1/namespaces/a", ""), ["get", "namespaces", "", "", "a"]);
        let policy = "/apis/xlscsde.nhs.uk/v1/distributionpolicies/p/status?x=y";
        assert_eq!(parsed("PATCH", policy, ""), ["patch", "distributionpolicies", "status", "", "p"]);
        assert_eq!(parsed("GET", "/version", ""), ["list", "", "", "", ""]);
    }
}
