//! Plays random walks, many at a time; the first that fails is made as small as it still fails.

use std::ops::RangeInclusive;

use anyhow::{Error, Result};
use e2e::proxy::{Proxy, Rule};
use e2e::site::Site;
use futures::stream::{self, StreamExt};
use serde_json::json;
use tokio::task::JoinSet;

use crate::run::{AT_A_TIME, Sweep, lift_in_time, tell};
use crate::scene::Scene;
use crate::walk::{Step, Walk, Wish, end};

/// How often a walk that fails is played again, each time smaller: that it fails is known after half a minute.
const TRIES: usize = 16;

/// Random walk number 7 is called walk/7.
const PREFIX: &str = "walk/";

/// The numbers of the walks that are called so: `walk/7`, or the first seven by `walk/1-7`.
pub fn numbers(id: &str) -> Option<RangeInclusive<u64>> {
    let numbers = id.strip_prefix(PREFIX)?;
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// Whether somebody deletes Secrets in what is called so: then a status that is on its way says what was true when it set
/// out.
pub fn removes_secrets(id: &str) -> bool {
    let steps = numbers(id).and_then(|numbers| Walk::draw(*numbers.start()).ok()).map(|walk| walk.steps());
    steps.into_iter().flatten().any(|step| matches!(step, Step::Remove(_)))
}

impl Sweep {
    /// Plays the walks of these numbers.
    pub async fn walks(&self, site: &Site, proxy: &Proxy, numbers: RangeInclusive<u64>) -> Result<()> {
        let walks: Vec<_> = numbers.map(|number| Ok((number, Walk::draw(number)?))).collect::<Result<_>>()?;
        self.expect(walks.len());
        let mut failed = Vec::new();
        let played = stream::iter(walks)
            .map(|(number, walk)| async move {
                let played = self.walk(site, proxy, number, &walk.steps()).await;
                self.count();
                (number, walk, played)
            })
            .buffer_unordered(AT_A_TIME)
            .for_each(|(number, walk, played)| {
                failed.extend(played.err().map(|error| (number, walk, error)));
                std::future::ready(())
            });
        self.narrated(played).await;
        // The others may fail for the same reason, and can be played alone.
        for (at, (number, walk, error)) in failed.into_iter().enumerate() {
            let (steps, error) = match at {
                0 => self.least(site, proxy, number, walk, error).await,
                _ => (walk.to_string(), error),
            };
            self.violated(&format!("{PREFIX}{number}"), &format!("{error:#}; after\n{steps}"));
        }
        Ok(())
    }

    /// The least of a walk that still fails, and how.
    async fn least(&self, site: &Site, proxy: &Proxy, number: u64, mut walk: Walk, error: Error) -> (String, Error) {
        let (mut least, mut why, mut failed) = (walk.to_string(), error, true);
        for _ in 0..TRIES {
            if !walk.narrow(failed) {
                break;
            }
            tell(&format!("{PREFIX}{number} fails; {} steps of it:", walk.steps().len()));
            let played = self.walk(site, proxy, number, &walk.steps()).await;
            failed = played.is_err();
            if let Err(error) = played {
                (least, why) = (walk.to_string(), error);
            }
        }
        (least, why)
    }

    async fn walk(&self, site: &Site, proxy: &Proxy, number: u64, steps: &[Step]) -> Result<()> {
        let scene = self.scene(site, proxy, &format!("{PREFIX}{number}")).await?;
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
            tokio::time::sleep(std::time::Duration::from_millis(*milliseconds)).await;
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
