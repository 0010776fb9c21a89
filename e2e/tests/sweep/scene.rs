//! Where a scenario is played: two namespaces, policies and sources that no other scene has.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use e2e::proxy::{Action, Proxy, Rule, Which};
use e2e::site::{Site, Tenant, condition};
use e2e::state::state;
use e2e::{Mark, Operator, eventually, is_ready};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use secrets_distributor::api::SecretsDistributionStatus;
use serde_json::{Value, json};

use crate::case::{At, about, numbered};
use crate::permits::Permits;

/// How long each step may take, and the end after the fault, which is the last death if there are several.
const WITHIN: Duration = Duration::from_secs(30);

/// How long nothing may be written before a scenario counts as over, and how long nothing may be written then.
const SETTLED: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_millis(1500);

/// Between two looks: many scenes look at one API server.
const LOOKS: Duration = Duration::from_millis(250);

/// So many writes, in that time, and so many at once: far fewer than the scenario has, or it would show nothing.
const PACE: (u32, Duration, u32) = (4, Duration::from_secs(1), 1);

pub const BYSTANDER: &str = "bystander";

const SOURCES: [&str; 2] = ["one", "two"];

/// Two namespaces, both delegated, called A and B.
pub struct Scene<'a> {
    pub site: &'a Site,
    proxy: &'a Proxy,
    pub a: Tenant<'a>,
    pub b: Tenant<'a>,
    /// The policies that are there.
    policies: RefCell<BTreeSet<String>>,
    /// What they have granted so far.
    pub permits: Rc<RefCell<Permits>>,
    /// Where the record begins of the writes that have to keep to [`PACE`], if there are such.
    paced: Cell<Option<Mark>>,
    /// How often the operator was killed, for this scene or for another that is played beside it.
    pub deaths: Rc<Cell<usize>>,
    /// The place in the proxy's record where it began.
    start: usize,
}

impl<'a> Scene<'a> {
    /// The namespaces alone, so that a rule can be there before the operator calls about them.
    pub async fn new(site: &'a Site, proxy: &'a Proxy) -> Result<Self> {
        let start = proxy.mark();
        // What is in a namespace that has vanished is found by the next one of its name: five letters that the API server
        // draws are too few for thousands of scenes.
        let prefix = |letter| format!("sweep-{letter}-{start}");
        let (a, b) = (prefix('a'), prefix('b'));
        let (a, b) = tokio::try_join!(site.undelegated_tenant(&a), site.undelegated_tenant(&b))?;
        Ok(Self {
            site,
            proxy,
            a,
            b,
            policies: RefCell::default(),
            permits: Rc::default(),
            paced: Cell::default(),
            deaths: Rc::default(),
            start,
        })
    }

    /// What there is before a scenario begins: the sources, the delegations, and somebody else's Secret.
    pub async fn furnish(&self) -> Result<()> {
        self.rotate(1)?;
        tokio::try_join!(self.a.delegate(), self.b.delegate())?;
        self.a.foreign_secret(BYSTANDER, &[("k", b"somebody's")]).await?;
        Ok(())
    }

    /// The source's own name in this scene.
    pub fn source(&self, source: &str) -> String {
        format!("{}-{source}", self.a.namespace)
    }

    /// Both sources at once, each with content that tells the generation and the source.
    pub fn rotate(&self, generation: u32) -> Result<()> {
        let contents = SOURCES.map(|source| (self.source(source), format!("gen-{generation}:{source}")));
        let contents: Vec<_> = contents.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
        self.site.sources.set(&contents)
    }

    /// The part of a request's spec that asks for sources: each with the key.
    pub fn asks(&self, mappings: &[(&str, &str)]) -> Value {
        mappings.iter().map(|(source, to)| json!({ "from": self.source(source), "to": to })).collect()
    }

    /// A policy that grants sources in both namespaces to requests in A; more fields of it.
    pub async fn grant(&self, policy: &str, sources: &[&str], more: Value) -> Result<()> {
        let names: Vec<_> = sources.iter().map(|source| self.source(source)).collect();
        let mut spec = json!({
            "namespaces": { "names": [self.a.namespace, self.b.namespace] },
            "rules": [{
                "effect": "Allow", "sources": names, "adopt": true,
                "requestedFrom": { "names": [self.a.namespace] },
            }],
        });
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        let (name, from) = (self.source(policy), SystemTime::now());
        self.site.policy(&name, spec).await?;
        self.permits.borrow_mut().grant(policy, sources, from);
        self.policies.borrow_mut().insert(name);
        Ok(())
    }

    pub async fn withdraw(&self, policy: &str) -> Result<()> {
        let name = self.source(policy);
        self.site.delete_policy(&name).await?;
        self.ends(policy, SystemTime::now());
        self.policies.borrow_mut().remove(&name);
        Ok(())
    }

    /// What the policy has granted ends then, though it is still there.
    pub fn ends(&self, policy: &str, at: SystemTime) {
        self.permits.borrow_mut().end(policy, at);
    }

    /// From here on the writes of Secrets in A must keep to [`PACE`], as the policy says.
    pub async fn pace(&self, policy: &str) -> Result<()> {
        let audit = self.site.cluster.audit().context("writes are counted in the API server's audit log")?;
        self.paced.set(Some(audit.mark().await?));
        let (writes, per, burst) = PACE;
        let limit = json!({ "rateLimit": { "writes": writes, "per": format!("{}s", per.as_secs()), "burst": burst } });
        self.grant(policy, &["one"], limit).await
    }

    /// Whether they did.
    pub async fn kept_its_pace(&self) -> Result<()> {
        let (Some(mark), Some(audit)) = (self.paced.get(), self.site.cluster.audit()) else { return Ok(()) };
        let (writes, per, burst) = PACE;
        let writes_of_secrets = audit.since(mark).await?.user(Operator::USER).writes().resource("secrets");
        writes_of_secrets.namespace(&self.a.namespace).keep_to(burst, per / writes).map(drop).context("S7")
    }

    /// Waits until the operator is refused there: to delete a RoleBinding is one thing, that it is in force no more
    /// another, and a little later.
    pub async fn until_refused(&self, tenant: &Tenant<'_>) -> Result<()> {
        let reviews = Api::<SubjectAccessReview>::all(self.site.cluster.client().await?);
        let patches = json!({ "namespace": tenant.namespace, "verb": "patch", "resource": "secrets" });
        let asked = json!({ "metadata": {}, "spec": { "user": Operator::USER, "resourceAttributes": patches } });
        let asked = serde_json::from_value(asked)?;
        eventually(WITHIN, "the operator is refused", async || {
            let answer = reviews.create(&PostParams::default(), &asked).await.map_err(|error| error.to_string())?;
            match answer.status {
                Some(status) if !status.allowed => Ok(()),
                status => Err(format!("{status:?}")),
            }
        })
        .await
    }

    /// Waits until the status of the request's current generation says this of Ready.
    pub async fn until_says(&self, request: &str, reason: &str) -> Result<()> {
        self.until(request, reason, |status| condition(status, "Ready").is_some_and(|ready| ready.reason == reason))
            .await
    }

    pub async fn until_ready(&self, request: &str) -> Result<()> {
        self.until(request, "Ready", is_ready).await
    }

    /// Waits until there is a status of the request's current generation, whatever it says.
    pub async fn until_noticed(&self, request: &str) -> Result<()> {
        self.until(request, "noticed", |_| true).await
    }

    async fn until(
        &self,
        request: &str,
        what: &str,
        satisfied: impl Fn(&SecretsDistributionStatus) -> bool,
    ) -> Result<()> {
        self.eventually(&format!("request {request}: {what}"), async || {
            tokio::time::sleep(LOOKS).await;
            let found = self.a.requests().get(request).await.map_err(|error| error.to_string())?;
            let status = found.status.unwrap_or_default();
            let current = status.observed_generation == found.metadata.generation;
            if current && satisfied(&status) { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await
    }

    /// Waits anew after each death: what the operator had begun begins anew, too.
    async fn eventually(&self, what: &str, mut probe: impl AsyncFnMut() -> Result<(), String>) -> Result<()> {
        loop {
            let deaths = self.deaths.get();
            let seen = eventually(WITHIN, what, &mut probe).await;
            if seen.is_ok() || self.deaths.get() == deaths {
                return seen;
            }
        }
    }

    pub async fn until_ended(&self, end: &[impl AsRef<str>]) -> Result<()> {
        let called = [(self.a.namespace.as_str(), "A"), (self.b.namespace.as_str(), "B")];
        self.eventually("the end state", async || {
            tokio::time::sleep(LOOKS).await;
            let mut lines = state(&self.a, &called).await.map_err(|error| format!("{error:#}"))?;
            lines.extend(state(&self.b, &called).await.map_err(|error| format!("{error:#}"))?);
            let is_end = lines.iter().map(String::as_str).eq(end.iter().map(AsRef::as_ref));
            if is_end { Ok(()) } else { Err(format!("{lines:#?}")) }
        })
        .await
    }

    /// That the end is the end: nothing is written any more, and it is as it shall be.
    pub async fn stays(&self, end: &[impl AsRef<str>]) -> Result<()> {
        // A name that somebody else holds is tried again whenever the mount changes, and other scenes change it. One that
        // is not answered yet may be such; what it makes is seen in the end.
        let is_taken = |call: &e2e::proxy::Call| {
            call.verb == "create" && call.name == BYSTANDER && call.forwarded.is_none_or(|status| status == 409)
        };
        let writes = Which::writes().when(self.is_ours()).when(move |call| !is_taken(call));
        let since = |mark| self.proxy.calls_since(mark, &writes);
        let settled = eventually(WITHIN, "no more writes", async || {
            let mark = self.proxy.mark();
            tokio::time::sleep(SETTLED).await;
            if since(mark).is_empty() { Ok(mark) } else { Err(format!("{:?}", since(mark))) }
        });
        let mark = settled.await?;
        tokio::time::sleep(QUIET).await;
        ensure!(since(mark).is_empty(), "written after the end: {:#?}", since(mark));
        self.until_ended(end).await
    }

    fn is_ours(&self) -> impl Fn(&e2e::proxy::Call) -> bool + Send + Sync + use<> {
        let namespaces = [self.a.namespace.clone(), self.b.namespace.clone()];
        let about = ["secrets", "secretsdistributions"];
        move |call| namespaces.contains(&call.namespace) && about.contains(&call.resource.as_str())
    }

    /// The operator's call of this scene that a case is about.
    pub fn call(&self, at: &At) -> Which {
        let (ours, a, wanted) = (self.is_ours(), self.a.namespace.clone(), at.about.clone());
        let is_meant = move |call: &e2e::proxy::Call| ours(call) && about(call, letter(&a, &call.namespace)) == wanted;
        Which::calls().when(is_meant).nth(at.number)
    }

    /// One of the operator's next calls of this scene meets a fault. Its watches do not: they have begun already.
    pub fn rule_for_next(&self, number: usize, action: Action) -> Rule {
        let ours = self.is_ours();
        self.proxy.rule(Which::calls().when(move |call| ours(call) && call.verb != "watch").nth(number), action)
    }

    /// The operator's calls about Secrets and requests of this scene so far. Lists are left out: a namespace is listed as
    /// often as its delegation takes to be in force, which is another number each time. The suite `gates` is about those.
    pub fn calls(&self) -> Vec<At> {
        let ours = self.is_ours();
        let which = Which::calls().when(move |call| ours(call) && call.verb != "list");
        let calls = self.proxy.calls_since(self.start, &which);
        let abouts = calls.iter().map(|call| about(call, letter(&self.a.namespace, &call.namespace)));
        numbered(&abouts.collect::<Vec<_>>())
    }

    /// Takes away what would cost the scenes after it: the operator has to let its requests go. Thousands of namespaces
    /// would make each start of the operator a long one.
    pub async fn clear(&self) -> Result<()> {
        let requests = self.a.requests();
        for request in requests.list(&Default::default()).await?.items {
            requests.delete(&request.name_any(), &DeleteParams::default()).await?;
        }
        eventually(WITHIN, "the requests are gone", async || {
            tokio::time::sleep(LOOKS).await;
            let left = requests.list(&Default::default()).await.map_err(|error| error.to_string())?.items;
            if left.is_empty() { Ok(()) } else { Err(format!("{left:#?}")) }
        })
        .await?;
        for policy in self.policies.take() {
            self.site.delete_policy(&policy).await?;
        }
        tokio::try_join!(self.a.undelegate(), self.b.undelegate())?;
        tokio::try_join!(self.a.vanish(), self.b.vanish())?;
        SOURCES.iter().try_for_each(|source| self.site.sources.remove(&self.source(source)))
    }
}

fn letter(a: &str, namespace: &str) -> &'static str {
    if namespace == a { "A" } else { "B" }
}
