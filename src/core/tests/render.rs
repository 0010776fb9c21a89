//! The Secret as it shall be: what its digest says, and what must never be printed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{CANARY, object, permit, permit_under, policy, rendered, rendered_of, request, seal};
use crate::{
    api::names,
    core::{
        bytes::SecretBytes,
        content::Misfit,
        name::SourceName,
        render::{Rendered, Seal, render},
        request::Request,
    },
};

fn digest(rendered: &Rendered) -> String {
    rendered.annotations()[names::DIGEST].clone()
}

/// The digest of a request's Secret with these contents.
fn digest_of(request: &Request, contents: &[(&str, &str)], seal: &Seal) -> String {
    let bytes = |text: &str| SecretBytes::new(text.as_bytes().to_vec());
    let contents: BTreeMap<_, _> =
        contents.iter().map(|(source, text)| (SourceName::parse(source).unwrap(), bytes(text))).collect();
    digest(&render(permit(request, "team-a"), &contents, seal).unwrap())
}

fn two(first: (&str, &str), second: (&str, &str)) -> Value {
    let mapping = |(from, to): (&str, &str)| json!({ "from": from, "to": to });
    json!({ "secrets": [mapping(first), mapping(second)] })
}

#[test]
fn the_digest_changes_with_content_type_owner_and_key_and_with_nothing_else() {
    let asked = request(two(("a", "user"), ("b", "pass")));
    let contents = [("a", "one"), ("b", "two")];
    let digest = digest_of(&asked, &contents, &seal());
    assert_eq!(digest.len(), 64);
    assert_eq!(digest, digest_of(&request(two(("b", "pass"), ("a", "user"))), &contents, &seal()), "order");
    let labelled = with_labels(two(("a", "user"), ("b", "pass")));
    assert_eq!(digest, digest_of(&request(labelled), &contents, &seal()), "labels are compared by themselves");

    let mut again = object(two(("a", "user"), ("b", "pass")));
    again.metadata.uid = Some("another".into());
    let typed = super::with(two(("a", "user"), ("b", "pass")), json!({ "type": "kubernetes.io/ssh-auth" }));
    let ssh = super::with(typed, two(("a", "user"), ("b", "ssh-privatekey")));
    let others = [
        digest_of(&asked, &[("a", "one"), ("b", "two ")], &seal()),
        digest_of(&asked, &[("a", "two"), ("b", "one")], &seal()),
        digest_of(&asked, &[("a", "onet"), ("b", "wo")], &seal()),
        digest_of(&request(two(("a", "user"), ("b", "passt"))), &[("a", "one"), ("b", "wo")], &seal()),
        digest_of(&Request::parse(&again).unwrap(), &contents, &seal()),
        digest_of(&request(two(("a", "user"), ("b", "ssh-privatekey"))), &contents, &seal()),
        digest_of(&request(ssh), &contents, &seal()),
        digest_of(&asked, &contents, &Seal { key: SecretBytes::new(vec![7; 32]), ..seal() }),
    ];
    let distinct: std::collections::BTreeSet<_> = others.iter().chain([&digest]).collect();
    assert_eq!(distinct.len(), others.len() + 1, "no two of them are equal");
}

fn with_labels(spec: Value) -> Value {
    super::with(spec, json!({ "metadata": { "labels": { "team": "a" } } }))
}

#[test]
fn no_content_and_no_key_is_ever_printed() {
    let rendered = rendered(&request(json!({})), "team-a");
    let bytes = format!("{:?}", CANARY.as_bytes());
    for printed in [
        format!("{rendered:?} {rendered:#?}"),
        format!("{:?}", rendered.permit()),
        format!("{:?} {:#?}", seal(), seal()),
        format!("{:?} {:?}", rendered.labels(), rendered.annotations()),
    ] {
        assert!(!printed.contains(CANARY) && !printed.contains(&bytes), "{printed}");
    }
    assert_eq!(rendered.data().values().next().unwrap().expose(), CANARY.as_bytes(), "it was there to be printed");
}

#[test]
fn its_record_says_whose_and_where_it_is_and_what_becomes_of_it() {
    let asked =
        request(json!({ "namespaces": ["team-b"], "name": "creds", "metadata": { "annotations": { "note": "n" } } }));
    let rendered = rendered(&asked, "team-b");
    let annotation = |name: &str| rendered.annotations()[name].as_str();
    assert_eq!(annotation(names::REQUEST), "team-a/db");
    assert_eq!(annotation(names::TARGET), "team-b/creds");
    assert_eq!(annotation(names::POLICIES), "all");
    assert_eq!(annotation(names::REVOCATION), "Delete after 0s");
    assert_eq!(annotation(names::DELETION_POLICY), "Delete");
    assert_eq!(annotation(names::MANAGED_BY_ANNOTATION), "first-operator");
    assert_eq!(annotation("note"), "n");
    assert_eq!(rendered.labels()[names::OWNER_UID], "uid-db");
}

#[test]
fn it_goes_with_its_request_where_kubernetes_can_see_to_that() {
    let owner = |more: Value, destination: &str| rendered(&request(more), destination).owner().cloned();
    let reference = owner(json!({}), "team-a").unwrap();
    assert_eq!((reference.uid.as_str(), reference.name.as_str()), ("uid-db", "db"));
    assert_eq!(reference.block_owner_deletion, None, "nothing may block the deletion of a namespace");
    assert_eq!(owner(json!({ "namespaces": ["team-b"] }), "team-b"), None, "owners are of the same namespace");
    assert_eq!(owner(json!({ "deletionPolicy": "Retain" }), "team-a"), None);
}

#[test]
fn content_that_does_not_fit_makes_no_secret() {
    let tls = json!({ "type": "kubernetes.io/tls", "secrets": [{ "from": "cert", "to": "tls.crt" }] });
    let permit = permit(&request(tls), "team-a");
    assert!(matches!(render(permit, &BTreeMap::new(), &seal()), Err(Misfit::KeyAbsent { .. })));
}

#[test]
fn the_content_is_kept_byte_for_byte() {
    let crlf = "line\r\n\u{feff}end \n";
    let rendered = rendered_of(permit(&request(json!({})), "team-a"), crlf);
    assert_eq!(rendered.data().values().next().unwrap().expose(), crlf.as_bytes());
}

#[test]
fn its_type_is_that_of_the_request_and_a_certificate_says_when_it_ends() {
    let plain = rendered(&request(json!({})), "team-a");
    assert_eq!((plain.secret_type(), plain.not_after()), ("Opaque", None));

    let mut params = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2030, 2, 3);
    let key = rcgen::KeyPair::generate().unwrap();
    let pair = [("cert", params.self_signed(&key).unwrap().pem()), ("key", key.serialize_pem())];
    let contents = pair.map(|(name, pem)| (SourceName::parse(name).unwrap(), SecretBytes::new(pem.into_bytes())));
    let mappings = json!([{ "from": "cert", "to": "tls.crt" }, { "from": "key", "to": "tls.key" }]);
    let tls = request(json!({ "type": "kubernetes.io/tls", "secrets": mappings }));
    let granted = permit_under([policy(json!({ "types": ["kubernetes.io/tls"] }))], &tls, "team-a");
    let rendered = render(granted, &contents.into(), &seal()).unwrap();
    assert_eq!(rendered.secret_type(), "kubernetes.io/tls");
    assert_eq!(rendered.not_after(), Some("2030-02-03T00:00:00Z".parse().unwrap()));
}
