//! The operator is killed at every one of its writes, and the end is the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::eventually;
use e2e::observer::Observer;
use e2e::proxy::{Action, Proxy, Rule, Which};
use e2e::site::{SOON, Site, Tenant};
use e2e::state::state;
use kube::ResourceExt;
use serde_json::{Value, json};

/// How long nothing may be written before the scenario counts as over.
const QUIET: Duration = Duration::from_millis(400);

/// What the scenario comes to, whatever happens on the way: a function of what was asked for.
const END: &[&str] = &[
    "request A/adopted True Ready [A/adopted]",
    "request A/graced False SourceNotPermitted []",
    "request A/named True Ready [A/renamed]",
    "request A/narrowed False SourceNotPermitted []",
    "request A/pair True Ready [A/pair]",
    "secret A/adopted Opaque {k=gen-2:main-1} of A/adopted (owned)",
    "secret A/pair kubernetes.io/basic-auth {password=gen-2:main-2 username=gen-2:main-1} of A/pair (owned)",
    "secret A/renamed Opaque {k=gen-2:main-1} of A/named (owned)",
];

/// Two namespaces of their own, and sources that nobody else uses.
struct Scene<'a> {
    site: &'a Site,
    proxy: &'a Proxy,
    a: Tenant<'a>,
    b: Tenant<'a>,
}

impl<'a> Scene<'a> {
    async fn set(site: &'a Site, proxy: &'a Proxy) -> Result<Self> {
        let (a, b) = tokio::try_join!(site.tenant("crash-a"), site.tenant("crash-b"))?;
        let scene = Self { site, proxy, a, b };
        scene.rotate(1)?;
        let [main, narrow, grace] = ["main", "narrow", "grace"].map(|name| scene.named(name));
        let both = [&scene.a.namespace, &scene.b.namespace];
        let rule = json!({
            "effect": "Allow", "sources": [format!("{main}-*")], "adopt": true,
            "requestedFrom": { "names": [scene.a.namespace] },
        });
        site.policy(&main, json!({ "namespaces": { "names": both }, "rules": [rule] })).await?;
        scene.grant_own(&narrow, json!({})).await?;
        scene.grant_own(&grace, json!({ "revocation": { "action": "Delete", "gracePeriod": "1s" } })).await?;
        scene.a.foreign_secret("bystander", &[("k", b"somebody's")]).await?;
        let offered = json!({ "annotations": { "xlscsde.nhs.uk/adoption": "allowed" } });
        let data = json!({ "k": "somebody's", "other": "x" });
        scene.a.create_secret("adopted", json!({ "metadata": offered, "stringData": data })).await?;
        Ok(scene)
    }

    /// A name of this scene, for what is not namespaced.
    fn named(&self, name: &str) -> String {
        format!("{}-{name}", self.a.namespace)
    }

    async fn grant_own(&self, source: &str, more: Value) -> Result<()> {
        let mut spec = json!({
            "namespaces": { "names": [self.a.namespace] },
            "rules": [{ "effect": "Allow", "sources": [source] }],
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.site.policy(source, spec).await
    }

    fn rotate(&self, generation: u32) -> Result<()> {
        let contents =
            ["main-1", "main-2", "narrow", "grace"].map(|s| (self.named(s), format!("gen-{generation}:{s}")));
        let contents: Vec<_> = contents.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
        self.site.sources.set(&contents)
    }

    fn mapping(&self, source: &str, to: &str) -> Value {
        json!({ "from": self.named(source), "to": to })
    }

    /// Creation and adoption; then all at once: rotation, revocation with and without grace, a rename, another
    /// type, a destination less, a deletion.
    async fn play(&self) -> Result<()> {
        let (a, b) = (&self.a, &self.b);
        let one = |source| json!([self.mapping(source, "k")]);
        let pair = json!([self.mapping("main-1", "username"), self.mapping("main-2", "password")]);
        a.request("pair", json!({ "secrets": pair, "namespaces": [a.namespace, b.namespace] })).await?;
        a.request("named", json!({ "secrets": one("main-1") })).await?;
        a.request("adopted", json!({ "secrets": one("main-1"), "adopt": true })).await?;
        a.request("narrowed", json!({ "secrets": one("narrow") })).await?;
        a.request("graced", json!({ "secrets": one("grace") })).await?;
        a.request("left", json!({ "secrets": one("main-1"), "namespaces": [b.namespace] })).await?;
        for name in ["pair", "named", "adopted", "narrowed", "graced", "left"] {
            a.until_ready(name).await?;
        }
        self.rotate(2)?;
        let change = json!({ "type": "kubernetes.io/basic-auth", "namespaces": [a.namespace] });
        let narrow = json!({ "rules": [{ "effect": "Allow", "sources": ["nothing"] }] });
        let (narrowed, graced) = (self.named("narrow"), self.named("grace"));
        tokio::try_join!(
            async { a.change("pair", change).await.map(drop) },
            async { a.change("named", json!({ "name": "renamed" })).await.map(drop) },
            self.grant_own(&narrowed, narrow),
            self.site.delete_policy(&graced),
            a.delete_request("left"),
        )?;
        self.until_ended().await
    }

    async fn until_ended(&self) -> Result<()> {
        let called = [(self.a.namespace.as_str(), "A"), (self.b.namespace.as_str(), "B")];
        eventually(SOON, "the end state", async || {
            let mut lines = state(&self.a, &called).await.map_err(|error| format!("{error:#}"))?;
            lines.extend(state(&self.b, &called).await.map_err(|error| format!("{error:#}"))?);
            if lines == END { Ok(()) } else { Err(format!("{lines:#?}")) }
        })
        .await
    }

    /// The writes of the operator that are about Secrets and requests of this scene.
    fn writes(&self) -> Which {
        let namespaces = [self.a.namespace.clone(), self.b.namespace.clone()];
        let about = ["secrets", "secretsdistributions"];
        Which::writes().when(move |c| namespaces.contains(&c.namespace) && about.contains(&c.resource.as_str()))
    }

    /// Waits until nothing has been written for a moment. Answers with the place in the proxy's record.
    async fn settle(&self) -> usize {
        loop {
            let mark = self.proxy.mark();
            tokio::time::sleep(QUIET).await;
            if self.proxy.calls_since(mark, &self.writes()).is_empty() {
                return mark;
            }
        }
    }

    fn assert_quiet_since(&self, mark: usize) {
        let later = self.proxy.calls_since(mark, &self.writes());
        assert!(later.is_empty(), "written after the end: {later:#?}");
    }
}

/// Kills the operator when the rule holds its write, and starts it again. Answers whether that came about.
async fn kill_at(rule: &Rule, scene: &Scene<'_>) -> Result<bool> {
    if rule.hit_unless_lifted().await.is_none() {
        return Ok(false);
    }
    scene.site.kill_operator()?;
    // What was held and not forwarded is gone with the one who sent it.
    scene.proxy.disconnect();
    rule.lift();
    scene.site.launch_operator().await?;
    Ok(true)
}

/// Plays the scenario once for every write, and kills the operator at that write.
async fn sweep(when: &str, action: Action) -> Result<()> {
    let (site, proxy) = Site::behind_proxy().await?;
    // A namespace's first writes need not wait: what is swept are the writes, and how many there are.
    let site = site.configured(|config| config.argument("--rate-limit=100000/1s"));
    site.start_operator().await?;
    let mut observer = Observer::start(&site.cluster).await?;
    let started = Instant::now();
    let mut ended = Vec::new();
    for n in 1.. {
        let scene = Scene::set(&site, &proxy).await?;
        let rule = proxy.rule(scene.writes().nth(n), action.clone());
        let play = async {
            let played = scene.play().await;
            if rule.hits().is_empty() {
                rule.lift();
            }
            played
        };
        let (played, killed) = tokio::join!(play, kill_at(&rule, &scene));
        let killed = killed?;
        let which = || format!("killed {when} write {n}: {:?}", rule.hits());
        played.with_context(which)?;
        scene.until_ended().await.with_context(which)?;
        ended.push((scene.settle().await, scene));
        if !killed {
            break;
        }
    }
    for (mark, scene) in &ended {
        scene.assert_quiet_since(*mark);
    }
    let history = observer.history().await?;
    history.no_torn_pair()?;
    history.ready_means_written(|_| true)?;
    history.bystanders_untouched(|secret| secret.name_any() == "bystander")?;
    let kills = ended.len() - 1;
    println!("killed {when} each of {kills} writes: the same end each time, in {} s", started.elapsed().as_secs());
    assert!(kills > 20, "a scenario of {kills} writes shows little");
    Ok(())
}

#[tokio::test]
async fn killed_before_each_write_it_comes_to_the_same_end_and_writes_no_more() -> Result<()> {
    sweep("before", Action::Hold).await
}

#[tokio::test]
async fn killed_after_each_write_it_comes_to_the_same_end_and_writes_no_more() -> Result<()> {
    sweep("after", Action::HoldReply).await
}
