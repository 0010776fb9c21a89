//! 200 distributions over ten namespaces: everything that a policy can say and a request can ask for, and granted.

use serde_json::{Value, json};

/// Requests in all namespaces: those of `requests.yaml` in each.
pub const DISTRIBUTIONS: usize = 200;

/// The Secrets of these: one each, a second one for `both`, and for `selected` one in each of the five namespaces of tier
/// gold, beside the one in its own.
pub const SECRETS: usize = 255;

/// The source that is rotated, of this request.
pub const ROTATED: &str = "limited";

const NAMESPACES: usize = 10;

/// The policies, in YAML.
pub const POLICIES: &str = include_str!("policies.yaml");

pub fn namespace(number: usize) -> String {
    format!("team-{}", number % NAMESPACES)
}

pub fn namespaces() -> Vec<String> {
    (0..NAMESPACES).map(namespace).collect()
}

/// All requests, in YAML.
pub fn requests() -> String {
    let of = |number| {
        let text = include_str!("requests.yaml").replace("HERE", &namespace(number));
        text.replace("NEXT", &namespace(number + 1))
    };
    (0..NAMESPACES).map(of).collect::<Vec<_>>().join("---\n")
}

/// The labels by which policies and requests select namespaces, and Secrets that are there already: one that is offered,
/// and one that is nobody's business.
pub fn inhabitants() -> Vec<Value> {
    let of = |number| {
        let (name, tier) = (namespace(number), if number % 2 == 0 { "gold" } else { "silver" });
        let offered =
            json!({ "namespace": name, "name": "adopted", "annotations": { "xlscsde.nhs.uk/adoption": "allowed" } });
        [
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": { "kind": "team", "tier": tier } } }),
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": offered, "stringData": { "k": "before" } }),
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "namespace": name, "name": "foreign" }, "stringData": { "k": "v" } }),
        ]
    };
    (0..NAMESPACES).flat_map(of).collect()
}

/// What the provider holds.
pub struct Provider {
    certificate: String,
    key: String,
}

impl Provider {
    pub fn new() -> Self {
        let pair = rcgen::generate_simple_self_signed(["*.example.org".to_owned()]).unwrap();
        Self { certificate: pair.cert.pem(), key: pair.signing_key.serialize_pem() }
    }

    /// All sources, with this content of the one that is rotated.
    pub fn sources<'a>(&'a self, rotated: &'a str) -> Vec<(&'a str, &'a str)> {
        let special =
            [("certificate", &*self.certificate), ("certificate-key", &*self.key), ("registry", r#"{"auths":{}}"#)];
        let plain = "plain folder/nested pair-a pair-b keyed user password ssh custom across both selected labelled adopted \
                     retained timed";
        special
            .into_iter()
            .chain(plain.split_whitespace().map(|name| (name, name)))
            .chain([(ROTATED, rotated)])
            .collect()
    }
}
