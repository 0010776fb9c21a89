//! What is played, and what it comes to: a function of what was asked for, whatever happens on the way.

use std::time::SystemTime;

use anyhow::Result;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::scene::Scene;

/// Something that people do, and its end.
#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub end: &'static [&'static str],
    pub play: for<'s> fn(&'s Scene<'s>) -> LocalBoxFuture<'s, Result<()>>,
}

const READY: &str = "request A/r True Ready [A/r]";
const WRITTEN: &str = "secret A/r Opaque {k=gen-1:one} of A/r (owned)";
const ROTATED: &str = "secret A/r Opaque {k=gen-2:one} of A/r (owned)";

pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "create", end: &[READY, WRITTEN], play: |s| create(s).boxed_local() },
    Scenario {
        name: "update",
        end: &[READY, "secret A/r Opaque {other=gen-1:two} of A/r (owned)"],
        play: |s| update(s).boxed_local(),
    },
    Scenario {
        name: "rename",
        end: &["request A/r True Ready [A/renamed]", "secret A/renamed Opaque {k=gen-1:one} of A/r (owned)"],
        play: |s| rename(s).boxed_local(),
    },
    Scenario {
        name: "retype",
        end: &[READY, "secret A/r kubernetes.io/basic-auth {password=gen-1:two username=gen-1:one} of A/r (owned)"],
        play: |s| retype(s).boxed_local(),
    },
    Scenario { name: "delete", end: &[], play: |s| delete(s).boxed_local() },
    Scenario {
        name: "rotate",
        end: &[READY, "secret A/r Opaque {k=gen-2:one l=gen-2:two} of A/r (owned)"],
        play: |s| rotate(s).boxed_local(),
    },
    Scenario { name: "repair", end: &[READY, WRITTEN], play: |s| repair(s).boxed_local() },
    Scenario { name: "narrow", end: &["request A/r False SourceNotPermitted []"], play: |s| narrow(s).boxed_local() },
    Scenario {
        name: "withdraw",
        end: &["request A/r False NoPolicyForNamespace []"],
        play: |s| withdraw(s).boxed_local(),
    },
    Scenario { name: "grace", end: &["request A/r False NoPolicyForNamespace []"], play: |s| grace(s).boxed_local() },
    Scenario { name: "expire", end: &["request A/r False GrantExpired []"], play: |s| expire(s).boxed_local() },
    Scenario {
        name: "relabel",
        end: &["request A/r False NoPolicyForNamespace []"],
        play: |s| relabel(s).boxed_local(),
    },
    Scenario { name: "delegate", end: &[READY, ROTATED], play: |s| delegate(s).boxed_local() },
    Scenario {
        name: "abroad",
        end: &["request A/r True Ready [B/r]", "secret B/r Opaque {k=gen-1:one} of A/r"],
        play: |s| abroad(s).boxed_local(),
    },
    Scenario { name: "delete-abroad", end: &[], play: |s| delete_abroad(s).boxed_local() },
    Scenario { name: "adopt", end: &[READY, WRITTEN], play: |s| adopt(s).boxed_local() },
    Scenario { name: "foreign", end: &[READY, WRITTEN], play: |s| foreign(s).boxed_local() },
    Scenario {
        name: "rivals",
        end: &["request A/younger True Ready [A/target]", "secret A/target Opaque {k=gen-1:two} of A/younger (owned)"],
        play: |s| rivals(s).boxed_local(),
    },
    Scenario {
        name: "throttle",
        end: &[
            "request A/r0 True Ready [A/r0]",
            "request A/r1 True Ready [A/r1]",
            "request A/r2 True Ready [A/r2]",
            "request A/r3 True Ready [A/r3]",
            "request A/r4 True Ready [A/r4]",
            "secret A/r0 Opaque {k=gen-1:one} of A/r0 (owned)",
            "secret A/r1 Opaque {k=gen-1:one} of A/r1 (owned)",
            "secret A/r2 Opaque {k=gen-1:one} of A/r2 (owned)",
            "secret A/r3 Opaque {k=gen-1:one} of A/r3 (owned)",
            "secret A/r4 Opaque {k=gen-1:one} of A/r4 (owned)",
        ],
        play: |s| throttle(s).boxed_local(),
    },
    Scenario {
        name: "together",
        end: &[
            "request A/adopted True Ready [A/adopted]",
            "request A/graced False SourceNotPermitted []",
            "request A/named True Ready [A/renamed]",
            "request A/pair True Ready [A/pair]",
            "secret A/adopted Opaque {k=gen-2:one} of A/adopted (owned)",
            "secret A/pair kubernetes.io/basic-auth {password=gen-2:one username=gen-2:one} of A/pair (owned)",
            "secret A/renamed Opaque {k=gen-2:one} of A/named (owned)",
        ],
        play: |s| together(s).boxed_local(),
    },
];

/// A request for the first source, granted both, and written.
async fn create(scene: &Scene<'_>) -> Result<()> {
    create_with(scene, &[("one", "k")]).await
}

async fn create_with(scene: &Scene<'_>, mappings: &[(&str, &str)]) -> Result<()> {
    scene.grant("main", &["one", "two"], json!({})).await?;
    scene.a.request("r", json!({ "secrets": scene.asks(mappings) })).await?;
    scene.until_ready("r").await
}

async fn update(scene: &Scene<'_>) -> Result<()> {
    create(scene).await?;
    scene.a.change("r", json!({ "secrets": scene.asks(&[("two", "other")]) })).await.map(drop)
}

async fn rename(scene: &Scene<'_>) -> Result<()> {
    create(scene).await?;
    scene.a.change("r", json!({ "name": "renamed" })).await.map(drop)
}

/// The type of a Secret cannot be changed: it is replaced.
async fn retype(scene: &Scene<'_>) -> Result<()> {
    create_with(scene, &[("one", "username"), ("two", "password")]).await?;
    scene.a.change("r", json!({ "type": "kubernetes.io/basic-auth" })).await.map(drop)
}

async fn delete(scene: &Scene<'_>) -> Result<()> {
    create(scene).await?;
    scene.a.delete_request("r").await
}

async fn rotate(scene: &Scene<'_>) -> Result<()> {
    create_with(scene, &[("one", "k"), ("two", "l")]).await?;
    scene.rotate(2)
}

/// Somebody edits the Secret.
async fn repair(scene: &Scene<'_>) -> Result<()> {
    create(scene).await?;
    scene.a.patch_secret("r", json!({ "stringData": { "k": "edited", "more": "x" } })).await.map(drop)
}

async fn narrow(scene: &Scene<'_>) -> Result<()> {
    create(scene).await?;
    scene.grant("main", &["two"], json!({})).await
}

async fn withdraw(scene: &Scene<'_>) -> Result<()> {
    create(scene).await?;
    scene.withdraw("main").await
}

async fn grace(scene: &Scene<'_>) -> Result<()> {
    scene.grant("main", &["one"], json!({ "revocation": { "action": "Delete", "gracePeriod": "1s" } })).await?;
    scene.a.request("r", json!({ "secrets": scene.asks(&[("one", "k")]) })).await?;
    scene.until_ready("r").await?;
    scene.withdraw("main").await
}

/// Whether the Secret is written before its time is over is a matter of the fault.
async fn expire(scene: &Scene<'_>) -> Result<()> {
    let end = Timestamp::now().checked_add(SignedDuration::from_secs(4))?;
    let end = Timestamp::from_second(end.as_second())?;
    scene.grant("main", &["one"], json!({ "notAfter": end })).await?;
    scene.ends("main", end.into());
    scene.a.request("r", json!({ "secrets": scene.asks(&[("one", "k")]) })).await?;
    scene.until_says("r", "GrantExpired").await
}

async fn relabel(scene: &Scene<'_>) -> Result<()> {
    let label = &scene.a.namespace;
    let selector = json!({ "selector": { "matchLabels": { "granted": label } } });
    scene.a.label(json!({ "granted": label })).await?;
    scene.grant("main", &["one"], json!({ "namespaces": selector })).await?;
    scene.a.request("r", json!({ "secrets": scene.asks(&[("one", "k")]) })).await?;
    scene.until_ready("r").await?;
    scene.a.label(json!({ "granted": null })).await?;
    scene.ends("main", SystemTime::now());
    Ok(())
}

async fn delegate(scene: &Scene<'_>) -> Result<()> {
    create(scene).await?;
    scene.a.undelegate().await?;
    scene.until_refused(&scene.a).await?;
    scene.rotate(2)?;
    scene.until_says("r", "NotDelegated").await?;
    scene.a.delegate().await
}

/// To both namespaces, then to the other alone.
async fn abroad(scene: &Scene<'_>) -> Result<()> {
    create_abroad(scene).await?;
    scene.a.change("r", json!({ "namespaces": [scene.b.namespace] })).await.map(drop)
}

async fn create_abroad(scene: &Scene<'_>) -> Result<()> {
    let both = json!([scene.a.namespace, scene.b.namespace]);
    scene.grant("main", &["one"], json!({})).await?;
    scene.a.request("r", json!({ "secrets": scene.asks(&[("one", "k")]), "namespaces": both })).await?;
    scene.until_ready("r").await
}

/// No garbage collector takes away what is in another namespace.
async fn delete_abroad(scene: &Scene<'_>) -> Result<()> {
    create_abroad(scene).await?;
    scene.a.delete_request("r").await
}

async fn offer(scene: &Scene<'_>, name: &str) -> Result<()> {
    let metadata = json!({ "annotations": { "xlscsde.nhs.uk/adoption": "allowed" } });
    let data = json!({ "k": "somebody's", "other": "x" });
    scene.a.create_secret(name, json!({ "metadata": metadata, "stringData": data })).await.map(drop)
}

async fn adopt(scene: &Scene<'_>) -> Result<()> {
    offer(scene, "r").await?;
    scene.grant("main", &["one"], json!({})).await?;
    scene.a.request("r", json!({ "secrets": scene.asks(&[("one", "k")]), "adopt": true })).await.map(drop)
}

/// Somebody else's Secret has the name, until it is deleted.
async fn foreign(scene: &Scene<'_>) -> Result<()> {
    scene.a.foreign_secret("r", &[("k", b"somebody's")]).await?;
    scene.grant("main", &["one"], json!({})).await?;
    scene.a.request("r", json!({ "secrets": scene.asks(&[("one", "k")]) })).await?;
    scene.until_says("r", "TargetConflict").await?;
    scene.a.delete_secret("r").await
}

/// Two requests for one name: in the end there is only one.
async fn rivals(scene: &Scene<'_>) -> Result<()> {
    scene.grant("main", &["one", "two"], json!({})).await?;
    let asked = |source| json!({ "secrets": scene.asks(&[(source, "k")]), "name": "target" });
    scene.a.request("older", asked("one")).await?;
    scene.until_ready("older").await?;
    scene.a.request("younger", asked("two")).await?;
    scene.until_noticed("younger").await?;
    scene.a.delete_request("older").await
}

/// More requests at a time than may be written at a time.
async fn throttle(scene: &Scene<'_>) -> Result<()> {
    scene.pace("main").await?;
    let requests = (0..5).map(|number| async move {
        let spec = json!({ "secrets": scene.asks(&[("one", "k")]) });
        scene.a.request(&format!("r{number}"), spec).await.map(drop)
    });
    futures::future::try_join_all(requests).await.map(drop)
}

/// Creation and adoption; then all at once: rotation, revocation after a grace period, a rename, another type, a
/// destination less, a deletion.
async fn together(scene: &Scene<'_>) -> Result<()> {
    let (a, b) = (&scene.a, &scene.b);
    let grace = json!({ "revocation": { "action": "Delete", "gracePeriod": "1s" } });
    scene.grant("main", &["one"], json!({})).await?;
    scene.grant("grace", &["two"], grace).await?;
    offer(scene, "adopted").await?;
    let one = scene.asks(&[("one", "k")]);
    let pair = scene.asks(&[("one", "username"), ("one", "password")]);
    a.request("pair", json!({ "secrets": pair, "namespaces": [a.namespace, b.namespace] })).await?;
    a.request("named", json!({ "secrets": one })).await?;
    a.request("adopted", json!({ "secrets": one, "adopt": true })).await?;
    a.request("graced", json!({ "secrets": scene.asks(&[("two", "k")]) })).await?;
    a.request("left", json!({ "secrets": one, "namespaces": [b.namespace] })).await?;
    for name in ["pair", "named", "adopted", "graced", "left"] {
        scene.until_ready(name).await?;
    }
    scene.rotate(2)?;
    let change = json!({ "type": "kubernetes.io/basic-auth", "namespaces": [a.namespace] });
    tokio::try_join!(
        async { a.change("pair", change).await.map(drop) },
        async { a.change("named", json!({ "name": "renamed" })).await.map(drop) },
        scene.withdraw("grace"),
        a.delete_request("left"),
    )?;
    Ok(())
}
