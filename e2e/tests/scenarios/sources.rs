//! One source goes wrong in a mount that is well: the status says how, the last Secret stays, and it heals.

use anyhow::Result;
use e2e::site::{Site, Tenant, version};
use serde_json::json;

fn one(source: &str, key: &str) -> serde_json::Value {
    json!({ "secrets": [{ "from": source, "to": key }] })
}

/// A certificate and its key, as PEM.
fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["a.example".into()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Waits for the reason; the Secret is still the one of that version, and its grant is not in question.
async fn until_held(tenant: &Tenant<'_>, request: &str, reason: &str, unchanged: &str) -> Result<String> {
    let message = tenant.until_condition(request, "Synced", "False", reason).await?;
    tenant.until_condition(request, "Permitted", "True", "Granted").await?;
    tenant.until_condition(request, "Ready", "False", reason).await?;
    assert_eq!(version(&tenant.secret(request).await?.unwrap())?, unchanged, "{reason}: the last Secret stays");
    Ok(message)
}

#[tokio::test]
async fn a_source_may_come_later_go_and_come_again() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("missing").await?;
    tenant.grant(&["MissingSource"]).await?;
    tenant.request("r", one("MissingSource", "k")).await?;
    let message = tenant.until_condition("r", "Synced", "False", "SourceMissing").await?;
    assert!(message.contains("source MissingSource is not in the mounted folder"), "{message}");
    assert!(tenant.secret("r").await?.is_none());

    site.sources.set(&[("MissingSource", b"here")])?;
    let secret = tenant.until_content("r", "k", b"here").await?;
    tenant.until_ready("r").await?;

    site.sources.remove("MissingSource")?;
    until_held(&tenant, "r", "SourceMissing", &version(&secret)?).await?;
    site.sources.set(&[("MissingSource", b"again")])?;
    tenant.until_content("r", "k", b"again").await?;
    tenant.until_ready("r").await?;
    Ok(())
}

#[tokio::test]
async fn a_source_that_is_empty_or_too_large_is_not_distributed() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("size").await?;
    let half = vec![b'x'; 1 << 19];
    site.sources.set(&[
        ("SizeSource", b"good"),
        ("HalfSource", &half),
        ("OtherHalfSource", &half),
        ("DotSource", b"."),
    ])?;
    tenant.grant(&["*Source"]).await?;
    tenant.request("r", one("SizeSource", "k")).await?;
    let secret = version(&tenant.until_content("r", "k", b"good").await?)?;

    site.sources.set(&[("SizeSource", b"")])?;
    let message = until_held(&tenant, "r", "SourceUnreadable", &secret).await?;
    assert!(message.contains("source SizeSource is empty"), "{message}");
    site.sources.set(&[("SizeSource", &vec![b'x'; 2 << 20])])?;
    let message = until_held(&tenant, "r", "SourceTooLarge", &secret).await?;
    assert!(message.contains("has 2097152 bytes: at most 1048576"), "{message}");
    site.sources.set(&[("SizeSource", b"good again")])?;
    tenant.until_content("r", "k", b"good again").await?;

    let both = |more: &[&str]| {
        let sources = ["HalfSource", "OtherHalfSource"].iter().chain(more);
        json!({ "secrets": sources.map(|source| json!({ "from": source, "to": source })).collect::<Vec<_>>() })
    };
    tenant.request("just", both(&[])).await?;
    tenant.until_ready("just").await?;
    tenant.request("sum", both(&["DotSource"])).await?;
    let message = tenant.until_condition("sum", "Synced", "False", "SourceTooLarge").await?;
    assert!(message.contains("sources together larger than the 1048576 bytes a Secret can hold"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_certificate_without_its_own_key_never_replaces_a_good_pair() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("tls").await?;
    let ((certificate, key), (_, foreign_key)) = (pair(), pair());
    site.sources.set(&[("TlsCert", certificate.as_bytes()), ("TlsKey", key.as_bytes())])?;
    tenant.grant(&["TlsCert", "TlsKey"]).await?;
    let mappings = |keys: &[(&str, &str)]| keys.iter().map(|(from, to)| json!({ "from": from, "to": to })).collect();
    let spec = |secrets: serde_json::Value| json!({ "type": "kubernetes.io/tls", "secrets": secrets });
    let halved = mappings(&[("TlsCert", "tls.crt")]);
    tenant.request("r", spec(halved)).await?;
    let message = tenant.until_condition("r", "Synced", "False", "InvalidForType").await?;
    assert!(message.contains("type kubernetes.io/tls needs the key tls.key"), "{message}");
    assert!(tenant.secret("r").await?.is_none());

    let whole = mappings(&[("TlsCert", "tls.crt"), ("TlsKey", "tls.key")]);
    tenant.change("r", json!({ "secrets": serde_json::Value::clone(&whole) })).await?;
    let secret = tenant.until_content("r", "tls.key", key.as_bytes()).await?;
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
    tenant.until_ready("r").await?;

    site.sources.set(&[("TlsKey", foreign_key.as_bytes())])?;
    let message = until_held(&tenant, "r", "InvalidForType", &version(&secret)?).await?;
    assert!(message.contains("tls.key is not the private key of the certificate in tls.crt"), "{message}");

    let (certificate, key) = pair();
    site.sources.set(&[("TlsCert", certificate.as_bytes()), ("TlsKey", key.as_bytes())])?;
    tenant.until_content("r", "tls.key", key.as_bytes()).await?;
    tenant.until_content("r", "tls.crt", certificate.as_bytes()).await?;
    tenant.until_ready("r").await?;
    Ok(())
}

#[tokio::test]
async fn the_other_types_are_checked_and_no_byte_of_the_content_is_told() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("types").await?;
    site.sources.set(&[("DockerSource", b"QZX-not-json"), ("WordSource", b"word")])?;
    tenant.grant(&["DockerSource", "WordSource"]).await?;
    let docker = ("docker", "kubernetes.io/dockerconfigjson", ".dockerconfigjson", "must be a JSON object");
    for (name, kind, key, told) in [
        docker,
        ("cfg", "kubernetes.io/dockercfg", "config", "needs the key .dockercfg"),
        ("ssh", "kubernetes.io/ssh-auth", "key", "needs the key ssh-privatekey"),
        ("basic", "kubernetes.io/basic-auth", "token", "needs the key username or password"),
    ] {
        let secrets = json!([{ "from": "DockerSource", "to": key }]);
        tenant.request(name, json!({ "type": kind, "secrets": secrets })).await?;
        let message = tenant.until_condition(name, "Synced", "False", "InvalidForType").await?;
        assert!(message.contains(told), "{message}");
        assert!(!message.contains('Q') && !message.contains('Z') && !message.contains('X'), "{message}");
        assert!(tenant.secret(name).await?.is_none(), "{name}");
    }
    site.sources.set(&[("DockerSource", b"{\"auths\":{}}")])?;
    tenant.until_content("docker", ".dockerconfigjson", b"{\"auths\":{}}").await?;
    tenant.change("basic", one("WordSource", "password")).await?;
    tenant.until_content("basic", "password", b"word").await?;
    Ok(())
}

#[tokio::test]
async fn one_broken_source_does_not_stop_another_of_the_same_namespace() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("beside").await?;
    site.sources.set(&[("WellSource", b"1"), ("deep/er/Source", b"1")])?;
    tenant.grant(&["WellSource", "AbsentSource", "deep/*/Source"]).await?;
    tenant.request("broken", one("AbsentSource", "k")).await?;
    tenant.until_condition("broken", "Synced", "False", "SourceMissing").await?;
    let half = json!({ "secrets": [{ "from": "WellSource", "to": "a" }, { "from": "AbsentSource", "to": "b" }] });
    tenant.request("half", half).await?;
    tenant.until_condition("half", "Synced", "False", "SourceMissing").await?;
    assert!(tenant.secret("half").await?.is_none(), "all or nothing");
    tenant.request("well", one("WellSource", "k")).await?;
    tenant.request("deep", one("deep/er/Source", "k")).await?;
    for round in ["1", "2"] {
        site.sources.set(&[("WellSource", round.as_bytes()), ("deep/er/Source", round.as_bytes())])?;
        tenant.until_content("well", "k", round.as_bytes()).await?;
        tenant.until_content("deep", "k", round.as_bytes()).await?;
    }
    Ok(())
}
