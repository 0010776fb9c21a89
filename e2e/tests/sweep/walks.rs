//! Plays random walks, many at a time; the first that fails is made as small as it still fails.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Error, Result};
use e2e::proxy::{Proxy, Rule};
use e2e::site::Site;
use futures::stream::{self, StreamExt};
use serde_json::json;
use tokio::task::JoinSet;

use crate::replicas::Replicas;
use crate::run::{AT_A_TIME, Sweep, lift_in_time, tell};
use crate::scene::Scene;
use crate::walk::{Step, Walk, Wish, end};

/// How often a walk that fails is played again, each time smaller: that it fails is known after half a minute.
const TRIES: usize = 16;

/// How long the operator lives during walks in which it is killed, in milliseconds: it gets somewhere, and never far.
const LIVES: RangeInclusive<u64> = 1500..=4000;

/// Random walks that are to be played. Number 7 is called `walk/7`, and `killed-walk/7` if the operator is killed meanwhile.
pub struct Walks {
    numbers: RangeInclusive<u64>,
    pub killed: bool,
}

impl Walks {
    pub fn undisturbed(numbers: RangeInclusive<u64>) -> Self {
        Self { numbers, killed: false }
    }

    pub fn killed(numbers: RangeInclusive<u64>) -> Self {
        Self { numbers, killed: true }
    }

    /// That one walk, or those from one to another: `walk/1-7`.
    pub fn named(id: &str) -> Option<Self> {
        let (kind, numbers) = id.split_once('/')?;
        let killed = ["walk", "killed-walk"].iter().position(|known| *known == kind)? == 1;
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        Some(Self { numbers: first.parse().ok()?..=last.parse().ok()?, killed })
    }

    fn id(&self, number: u64) -> String {
        format!("{}/{number}", if self.killed { "killed-walk" } else { "walk" })
    }
}

/// Whether somebody deletes Secrets in what is called so: then a status that is on its way says what was true when it set
/// out.
pub fn removes_secrets(id: &str) -> bool {
    let steps = Walks::named(id).and_then(|walks| Walk::draw(*walks.numbers.start()).ok()).map(|walk| walk.steps());
    steps.into_iter().flatten().any(|step| matches!(step, Step::Remove(_)))
}

/// A walk that did not end as it should: its number, what it was, and why.
type Failed = (u64, Walk, Error);

impl Sweep {
    pub async fn walks(&self, site: &Site, proxy: &Proxy, walks: Walks) -> Result<()> {
        let failed = self.narrated(self.played(site, proxy, &walks)).await?;
        // The others may fail for the same reason, and can be played alone.
        for (at, (number, walk, error)) in failed.into_iter().enumerate() {
            let (steps, error) = match at {
                0 => self.least(site, proxy, &walks.id(number), walk, error).await,
                _ => (walk.to_string(), error),
            };
            self.violated(&walks.id(number), &format!("{error:#}; after\n{steps}"));
        }
        Ok(())
    }

    /// The same while the operator is killed, and started again, all the time. When it dies is not drawn with the walk, so
    /// that one that fails is not made smaller.
    pub async fn killed_walks(&self, replicas: &Replicas<'_>, walks: Walks) -> Result<()> {
        let Replicas { site, proxy, .. } = replicas;
        let mut draw = fastrand::Rng::with_seed(*walks.numbers.start());
        let kills = async {
            loop {
                tokio::time::sleep(Duration::from_millis(draw.u64(LIVES))).await;
                if let Err(error) = replicas.kill(|| ()).await {
                    break error;
                }
            }
        };
        let failed = tokio::select! {
            failed = self.narrated(self.played(site, proxy, &walks)) => failed?,
            error = kills => return Err(error),
        };
        for (number, walk, error) in failed {
            self.violated(&walks.id(number), &format!("{error:#}; after\n{walk}"));
        }
        // The last kill was cut short, perhaps.
        site.restart_operator().await
    }

    /// Plays them, and answers which failed.
    async fn played(&self, site: &Site, proxy: &Proxy, walks: &Walks) -> Result<Vec<Failed>> {
        let drawn: Vec<_> = walks.numbers.clone().map(|n| Ok((n, Walk::draw(n)?))).collect::<Result<_>>()?;
        self.expect(drawn.len());
        let played = stream::iter(drawn).map(|(number, walk)| async move {
            let played = self.walk(site, proxy, &walks.id(number), &walk.steps()).await;
            self.count();
            played.err().map(|error| (number, walk, error))
        });
        Ok(played.buffer_unordered(AT_A_TIME).filter_map(std::future::ready).collect().await)
    }

    /// The least of a walk that still fails, and how.
    async fn least(&self, site: &Site, proxy: &Proxy, id: &str, mut walk: Walk, error: Error) -> (String, Error) {
        let (mut least, mut why, mut failed) = (walk.to_string(), error, true);
        for _ in 0..TRIES {
            if !walk.narrow(failed) {
                break;
            }
            tell(&format!("{id} fails; {} steps of it:", walk.steps().len()));
            let played = self.walk(site, proxy, id, &walk.steps()).await;
            failed = played.is_err();
            if let Err(error) = played {
                (least, why) = (walk.to_string(), error);
            }
        }
        (least, why)
    }

    async fn walk(&self, site: &Site, proxy: &Proxy, id: &str, steps: &[Step]) -> Result<()> {
        let scene = self.scene(site, proxy, id).await?;
        scene.furnish().await?;
        go(&scene, steps).await?;
        let end = end(steps);
        scene.until_ended(&end).await?;
        scene.stays(&end).await?;
        scene.clear().await
    }
}

/// Takes all the steps, and waits until the last fault is over.
async fn go(scene: &Scene<'_>, steps: &[Step]) -> Result<()> {
    let (mut rules, mut lifted, mut generation) = (Vec::new(), JoinSet::new(), 1);
    let mut walked = Ok(());
    for step in steps {
        if let Step::Fault(number, fault) = step {
            let rule = scene.rule_for_next(number + 1, fault.action.clone());
            lifted.spawn(lift_in_time(rule.clone(), fault.lasts()));
            rules.push(rule);
            continue;
        }
        walked = take(scene, step, &mut generation).await;
        if walked.is_err() {
            break;
        }
    }
    // Those whose call has not come are over, too.
    rules.iter().filter(|rule| rule.hits().is_empty()).for_each(Rule::lift);
    lifted.join_all().await;
    walked
}

async fn take(scene: &Scene<'_>, step: &Step, generation: &mut u32) -> Result<()> {
    match step {
        Step::Ask(request, wish) => ask(scene, request, wish).await,
        Step::Delete(request) => unless_gone(scene.a.delete_request(request).await),
        Step::Grant(sources) => scene.grant("main", sources, json!({})).await,
        Step::Withdraw => unless_gone(scene.withdraw("main").await),
        Step::Rotate => {
            *generation += 1;
            scene.rotate(*generation)
        }
        Step::Edit(request) => {
            let edit = json!({ "stringData": { "k": "edited", "more": "x" } });
            unless_gone(scene.a.patch_secret(request, edit).await.map(drop))
        }
        Step::Remove(request) => unless_gone(scene.a.delete_secret(request).await),
        Step::Pause(milliseconds) => {
            tokio::time::sleep(Duration::from_millis(*milliseconds)).await;
            Ok(())
        }
        Step::Fault(..) => Ok(()),
    }
}

/// A request that is there becomes the same as one that is created.
async fn ask(scene: &Scene<'_>, request: &str, wish: &Wish) -> Result<()> {
    let place = if wish.abroad { &scene.b } else { &scene.a };
    let spec = json!({
        "secrets": scene.asks(wish.mappings), "name": wish.secret(request), "namespaces": [place.namespace],
    });
    if scene.a.requests().get_opt(request).await?.is_some() {
        return scene.a.change(request, spec).await.map(drop);
    }
    scene.a.request(request, spec).await.map(drop)
}

/// It may be that it is not there.
fn unless_gone(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if is_not_found(&error) => Ok(()),
        done => done,
    }
}

fn is_not_found(error: &Error) -> bool {
    matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.code == 404)
}
