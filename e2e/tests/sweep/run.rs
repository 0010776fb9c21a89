//! Plays cases, and tells how it goes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::observer::{History, Seen};
use e2e::proxy::{Proxy, Rule};
use e2e::site::Site;
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::case::{At, Case};
use crate::permits::Permits;
use crate::replicas::Replicas;
use crate::scenarios::{SCENARIOS, Scenario};
use crate::scene::{BYSTANDER, Scene};
use crate::walks::removes_secrets;

/// How many are played at a time: most of the time each of them waits.
pub const AT_A_TIME: usize = 48;

/// How long a call is held that is held: longer than the operator waits for an answer.
pub const HELD: Duration = Duration::from_secs(3);

const TOLD_EVERY: Duration = Duration::from_secs(5);

/// The sweep so far.
pub struct Sweep {
    started: Instant,
    total: Cell<usize>,
    done: Cell<usize>,
    /// Cases whose call did not come.
    missed: RefCell<Vec<String>>,
    violations: RefCell<Vec<String>>,
    /// By namespace.
    places: RefCell<BTreeMap<String, Place>>,
}

/// A namespace: the case or the walk that was played there, whether Secrets are deleted in it, and what was granted.
struct Place {
    id: String,
    removes_secrets: bool,
    permits: Rc<RefCell<Permits>>,
}

impl Sweep {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            total: Cell::default(),
            done: Cell::default(),
            missed: RefCell::default(),
            violations: RefCell::default(),
            places: RefCell::default(),
        }
    }

    /// Plays each scenario twice without a fault. Answers which calls the operator has made both times: others come or
    /// not, for instance a list of Secrets before a delegation is in force.
    pub async fn learn(&self, site: &Site, proxy: &Proxy) -> Result<Vec<(&'static Scenario, Vec<At>)>> {
        let (mut learned, again) = (self.learn_once(site, proxy).await?, self.learn_once(site, proxy).await?);
        for ((_, calls), (_, others)) in learned.iter_mut().zip(&again) {
            calls.retain(|call| others.contains(call));
        }
        Ok(learned)
    }

    async fn learn_once(&self, site: &Site, proxy: &Proxy) -> Result<Vec<(&'static Scenario, Vec<At>)>> {
        let learned = stream::iter(SCENARIOS).map(|scenario| async move {
            let played = async {
                let scene = Scene::new(site, proxy).await?;
                play(&scene, scenario).await?;
                // Until its end: what comes later is no part of what leads to it.
                let calls = scene.calls();
                scene.stays(scenario.end).await?;
                scene.clear().await?;
                anyhow::Ok((scenario, calls))
            };
            played.await.with_context(|| format!("{} without a fault", scenario.name))
        });
        let learned: Vec<_> = learned.buffered(AT_A_TIME).collect().await;
        learned.into_iter().collect()
    }

    /// Plays cases in which the operator lives, many at a time.
    pub async fn faults(&self, site: &Site, proxy: &Proxy, cases: &[Case]) {
        self.expect(cases.len());
        let played = stream::iter(cases).for_each_concurrent(AT_A_TIME, |case| async move {
            let played = async {
                let scene = self.scene(site, proxy, &case.to_string()).await?;
                let rule = proxy.rule(scene.call(&case.at), case.fault.action.clone());
                let lifted = lift_in_time(rule.clone(), case.fault.lasts());
                let (played, ()) = tokio::join!(play_under(&rule, &scene, case), lifted);
                played?;
                self.see_end(&scene, &rule, case).await
            };
            self.ended(case, played.await);
        });
        self.narrated(played).await;
    }

    /// Plays cases in which the operator is killed, many at a time: one death is that of all that hold their call then.
    pub async fn deaths(&self, replicas: &Replicas<'_>, cases: &[Case]) -> Result<()> {
        self.expect(cases.len());
        let played = async {
            for cases in cases.chunks(AT_A_TIME) {
                self.death(replicas, cases).await?;
            }
            anyhow::Ok(())
        };
        self.narrated(played).await
    }

    async fn death(&self, replicas: &Replicas<'_>, cases: &[Case]) -> Result<()> {
        let Replicas { site, proxy, .. } = replicas;
        let scenes = join_all(cases.iter().map(|case| async move {
            let mut scene = self.scene(site, proxy, &case.to_string()).await?;
            scene.deaths = replicas.deaths.clone();
            let rule = proxy.rule(scene.call(&case.at), case.fault.action.clone());
            anyhow::Ok((case, scene, rule))
        }));
        let scenes: Vec<_> = scenes.await.into_iter().collect::<Result<_>>()?;
        let rules: Vec<_> = scenes.iter().map(|(_, _, rule)| rule).collect();
        let playing = join_all(scenes.iter().map(|(case, scene, rule)| play_under(rule, scene, case)));
        let (killed, played) = tokio::join!(kill_all(replicas, &rules), playing);
        killed?;
        // While it starts nothing is written, which says nothing about the end.
        replicas.until_led().await?;
        let ends = scenes.iter().zip(played).map(|((case, scene, rule), played)| async move {
            let ended = async {
                played?;
                self.see_end(scene, rule, case).await
            };
            self.ended(case, ended.await);
        });
        join_all(ends).await;
        Ok(())
    }

    /// A new one, for the case or the walk that is called so.
    pub async fn scene<'a>(&self, site: &'a Site, proxy: &'a Proxy, id: &str) -> Result<Scene<'a>> {
        let scene = Scene::new(site, proxy).await?;
        let removes_secrets = removes_secrets(id);
        let place = || Place { id: id.to_owned(), removes_secrets, permits: scene.permits.clone() };
        let places = [&scene.a, &scene.b].map(|tenant| (tenant.namespace.clone(), place()));
        self.places.borrow_mut().extend(places);
        Ok(scene)
    }

    async fn see_end(&self, scene: &Scene<'_>, rule: &Rule, case: &Case) -> Result<()> {
        if rule.hits().is_empty() {
            self.missed.borrow_mut().push(case.to_string());
        }
        scene.until_ended(case.scenario.end).await?;
        scene.stays(case.scenario.end).await?;
        scene.kept_its_pace().await?;
        scene.clear().await
    }

    /// So many more are to be played.
    pub fn expect(&self, count: usize) {
        self.total.set(self.total.get() + count);
    }

    /// One more has been.
    pub fn count(&self) {
        self.done.set(self.done.get() + 1);
    }

    fn ended(&self, case: &Case, played: Result<()>) {
        self.count();
        if let Err(error) = played {
            self.violated(&case.to_string(), &format!("{error:#}"));
        }
    }

    pub fn violated(&self, id: &str, what: &str) {
        let told = format!("{id}: {what}\nreplay: SWEEP={id} make suite-sweep");
        tell(&format!("VIOLATION {told}"));
        self.violations.borrow_mut().push(told);
    }

    /// What must have held at every moment.
    pub fn see_history(&self, history: &History) {
        let places = self.places.borrow();
        let place = |namespace: Option<String>| places.get(&namespace.unwrap_or_default());
        let removes = |namespace| place(namespace).is_some_and(|place| place.removes_secrets);
        let checks = [
            history
                .only_granted(|seen, secret| place(secret.namespace()).is_none_or(|place| place.allows(seen, secret))),
            history.bystanders_untouched(|secret| secret.name_any() == BYSTANDER).map(drop),
            history.no_torn_pair().map(drop),
            history.ready_means_written(|request| !removes(request.namespace())).map(drop),
        ];
        for error in checks.into_iter().filter_map(Result::err) {
            let error = error.to_string();
            let place = places.iter().find(|(namespace, _)| error.contains(namespace.as_str()));
            self.violated(place.map_or("", |(_, place)| place.id.as_str()), &error);
        }
    }

    pub async fn narrated<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! { done = work => done, () = self.tell_on() => unreachable!("it tells without end") }
    }

    async fn tell_on(&self) {
        loop {
            tokio::time::sleep(TOLD_EVERY).await;
            tell(&self.summary());
        }
    }

    pub fn summary(&self) -> String {
        format!(
            "{} of {} cases (scenario, call, fault) and random walks in {} s, violations: {}; without their call: {}",
            self.done.get(),
            self.total.get(),
            self.started.elapsed().as_secs(),
            self.violations.borrow().len(),
            self.missed.borrow().len(),
        )
    }

    /// That nothing was violated, and that most cases were what they are called.
    pub fn check(&self) {
        let (violations, missed) = (self.violations.borrow(), self.missed.borrow());
        assert!(violations.is_empty(), "{}", violations.join("\n"));
        assert!(missed.len() * 10 <= self.total.get(), "calls that did not come: {missed:#?}");
    }
}

impl Place {
    /// Whether each value that is a source's was granted. What somebody has edited is not.
    fn allows(&self, seen: &Seen, secret: &Secret) -> bool {
        let values = secret.data.iter().flatten().filter_map(|(_, value)| std::str::from_utf8(&value.0).ok());
        let mut sources = values.filter_map(|value| value.strip_prefix("gen-")?.split_once(':'));
        sources.all(|(_, source)| self.permits.borrow().allow(source, seen.at))
    }
}

/// Waits until the rule has met its call, or was lifted; what lasts is held for its time.
pub async fn lift_in_time(rule: Rule, lasts: bool) {
    if rule.hit_unless_lifted().await.is_some() && lasts {
        tokio::time::sleep(HELD).await;
    }
    rule.lift();
}

/// Kills the operator whenever each rule that is left holds its call or has had its time: what one holds can be what
/// another waits for.
async fn kill_all(replicas: &Replicas<'_>, rules: &[&Rule]) -> Result<()> {
    let mut left = rules.to_vec();
    while !left.is_empty() {
        let all = join_all(left.iter().map(|rule| rule.hit_unless_lifted()));
        // Whether it is all of them or some that hold one: the rules themselves tell.
        let _ = tokio::time::timeout(HELD, all).await;
        let (held, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|rule| !rule.hits().is_empty());
        if !held.is_empty() {
            replicas.kill(|| held.iter().for_each(|rule| rule.lift())).await?;
        }
        left = others.into_iter().filter(|rule| !rule.is_lifted()).collect();
    }
    Ok(())
}

async fn play(scene: &Scene<'_>, scenario: &Scenario) -> Result<()> {
    scene.furnish().await?;
    (scenario.play)(scene).await?;
    scene.until_ended(scenario.end).await
}

/// Plays it, and lifts the rule if its call has not come.
async fn play_under(rule: &Rule, scene: &Scene<'_>, case: &Case) -> Result<()> {
    let played = play(scene, case.scenario).await;
    if rule.hits().is_empty() {
        rule.lift();
    }
    played
}

/// At once: the output of a test is told at its end.
pub fn tell(line: &str) {
    // Who does not listen need not be told.
    let _ = writeln!(std::io::stderr(), "sweep: {line}");
}
