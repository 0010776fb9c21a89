//! The operator is killed at random moments of a continuous mix, and the end is what was asked for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use e2e::observer::Observer;
use e2e::proxy::Which;
use e2e::site::{Site, Tenant};
use e2e::state::state;
use e2e::{eventually, seeded};
use fastrand::Rng;
use kube::ResourceExt;
use serde_json::json;

const KILLS: usize = 50;
const REQUESTS: usize = 12;
const SOURCES: usize = 3;
const BYSTANDERS: usize = 50;

/// After the last kill: a grace period, a backoff, the controller manager's own work.
const CONVERGED_WITHIN: Duration = Duration::from_secs(60);

const QUIET: Duration = Duration::from_secs(3);

/// What people ask for at a moment; the end state is a function of it.
#[derive(Clone, Debug, Default)]
struct Wish {
    generation: u32,
    granted: [bool; SOURCES],
    requests: [Option<Asked>; REQUESTS],
}

/// A request: which of its two names its Secret has, and whether the other namespace gets it too.
#[derive(Clone, Copy, Debug)]
struct Asked {
    renamed: bool,
    both: bool,
}

impl Asked {
    fn secret(self, number: usize) -> String {
        format!("s{number}{}", if self.renamed { "-renamed" } else { "" })
    }
}

struct Mix<'a> {
    site: &'a Site,
    a: &'a Tenant<'a>,
    b: &'a Tenant<'a>,
    wish: Wish,
    random: Rng,
}

impl Mix<'_> {
    /// One random change.
    async fn step(&mut self) -> Result<()> {
        match self.random.u32(..10) {
            0..2 => self.rotate(),
            2..4 => self.toggle_grant().await,
            _ => self.change_request().await,
        }
    }

    fn rotate(&mut self) -> Result<()> {
        self.wish.generation += 1;
        let generation = self.wish.generation;
        let contents =
            (0..SOURCES * 2).map(|part| (format!("Mix{}.{}", part / 2, part % 2), format!("gen-{generation}:x")));
        let contents: Vec<_> = contents.collect();
        let contents: Vec<_> = contents.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
        self.site.sources.set(&contents)
    }

    async fn toggle_grant(&mut self) -> Result<()> {
        let number = self.random.usize(..SOURCES);
        let name = format!("mix{number}");
        self.wish.granted[number] ^= true;
        if !self.wish.granted[number] {
            return self.site.delete_policy(&name).await;
        }
        // One source has a grace period: a grant that returns within it finds everything as it was.
        let grace = if number == 0 { "1s" } else { "0s" };
        let spec = json!({
            "namespaces": { "names": [self.a.namespace, self.b.namespace] },
            "rules": [{
                "effect": "Allow", "sources": [format!("Mix{number}.*")],
                "requestedFrom": { "names": [self.a.namespace] },
            }],
            "revocation": { "action": "Delete", "gracePeriod": grace },
        });
        self.site.policy(&name, spec).await
    }

    async fn change_request(&mut self) -> Result<()> {
        let number = self.random.usize(..REQUESTS);
        let name = format!("r{number}");
        let known = self.wish.requests[number];
        let asked = Asked { renamed: self.random.bool(), both: self.random.bool() };
        let namespaces = if asked.both { vec![&self.a.namespace, &self.b.namespace] } else { vec![&self.a.namespace] };
        let source = number % SOURCES;
        let pair = [0, 1].map(|part| json!({ "from": format!("Mix{source}.{part}"), "to": format!("k{part}") }));
        let spec = json!({ "name": asked.secret(number), "namespaces": namespaces, "secrets": pair });
        self.wish.requests[number] = match known {
            None => self.a.request(&name, spec).await.map(|_| Some(asked))?,
            Some(_) if self.random.u32(..4) == 0 => self.a.delete_request(&name).await.map(|()| None)?,
            Some(_) => self.a.change(&name, spec).await.map(|_| Some(asked))?,
        };
        Ok(())
    }
}

/// What there is in the end.
fn expected(wish: &Wish) -> Vec<String> {
    let mut lines = Vec::new();
    for (number, asked) in wish.requests.iter().enumerate() {
        let Some(asked) = asked else { continue };
        let (secret, request) = (asked.secret(number), format!("request A/r{number}"));
        let places = if asked.both { vec!["A", "B"] } else { vec!["A"] };
        if !wish.granted[number % SOURCES] {
            lines.push(format!("{request} False"));
            continue;
        }
        let data = format!("{{k0=gen-{0}:x k1=gen-{0}:x}}", wish.generation);
        for place in &places {
            let owned = if *place == "A" { " (owned)" } else { "" };
            lines.push(format!("secret {place}/{secret} Opaque {data} of A/r{number}{owned}"));
        }
        let places: Vec<_> = places.iter().map(|place| format!("{place}/{secret}")).collect();
        lines.push(format!("{request} True Ready [{}]", places.join(" ")));
    }
    lines.sort();
    lines
}

/// Why something is not granted depends on the other policies: that it is not is what counts.
fn without_reasons(line: String) -> String {
    match line.split_once(" False ") {
        Some((request, _)) if line.starts_with("request ") => format!("{request} False"),
        _ => line,
    }
}

#[tokio::test]
async fn killed_fifty_times_it_comes_to_what_was_asked_for_and_writes_no_more() -> Result<()> {
    let mut random = seeded("kills");
    let (site, proxy) = Site::behind_proxy().await?;
    // A bucket that begins empty at each start would be most of what is seen.
    let site = site.configured(|config| config.argument("--rate-limit=100000/1s"));
    let (a, b) = tokio::try_join!(site.tenant("mix-a"), site.tenant("mix-b"))?;
    for number in 0..BYSTANDERS {
        a.foreign_secret(&format!("bystander-{number}"), &[("k", b"own")]).await?;
    }
    let mut observer = Observer::start(&site.cluster).await?;
    let mut mix = Mix { site: &site, a: &a, b: &b, wish: Wish::default(), random: random.fork() };
    mix.rotate()?;
    site.start_operator().await?;

    let over = AtomicBool::new(false);
    let changes = async {
        let mut steps = 0;
        while !over.load(Ordering::Relaxed) {
            mix.step().await?;
            steps += 1;
            tokio::time::sleep(Duration::from_millis(mix.random.u64(..120))).await;
        }
        anyhow::Ok(steps)
    };
    let kills = async {
        for _ in 0..KILLS {
            // From the first list to long after: each start takes a part of a second.
            tokio::time::sleep(Duration::from_millis(random.u64(50..1200))).await;
            site.kill_operator()?;
            site.launch_operator().await?;
        }
        over.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let (steps, ()) = tokio::try_join!(changes, kills)?;

    let called = [(a.namespace.as_str(), "A"), (b.namespace.as_str(), "B")];
    let end = expected(&mix.wish);
    eventually(CONVERGED_WITHIN, "the end state", async || {
        let mut found = state(&a, &called).await?;
        found.extend(state(&b, &called).await?);
        let mut found: Vec<_> = found.into_iter().map(without_reasons).collect();
        found.sort();
        anyhow::ensure!(found == end, "{}", difference(&found, &end));
        Ok(())
    })
    .await?;
    let writes = Which::writes().when(|call| ["secrets", "secretsdistributions"].contains(&call.resource.as_str()));
    // A status that came last may still be on its way.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mark = proxy.mark();
    tokio::time::sleep(QUIET).await;
    assert_eq!(proxy.calls_since(mark, &writes), [], "written after the end");

    let history = observer.history().await?;
    let pairs = history.no_torn_pair()?;
    let statuses = history.ready_means_written(|_| true)?;
    let untouched = history.bystanders_untouched(|secret| secret.name_any().starts_with("bystander-"))?;
    assert_eq!(untouched, BYSTANDERS);
    println!("{KILLS} kills in {steps} changes: {pairs} versions of pairs, {statuses} statuses, all in order");
    Ok(())
}

fn difference(found: &[String], end: &[String]) -> String {
    let missing: Vec<_> = end.iter().filter(|line| !found.contains(line)).collect();
    let unexpected: Vec<_> = found.iter().filter(|line| !end.contains(line)).collect();
    format!("missing {missing:#?}, unexpected {unexpected:#?}")
}
