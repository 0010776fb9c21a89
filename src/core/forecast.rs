//! What other policies would change: which Secrets they would grant, refuse and revoke, and when.
//!
//! It compares what [`World::plan`] says now with what it would say. Only destinations are decided anew that an edited
//! policy speaks about, before the edit or after it; quotas and conflicts reach no further than a namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    decide::Decision,
    index::{Compiled, Stored, World},
    name::{NamespaceName, PolicyName, RequestKey, Target},
    policy::{Policy, Rate},
    request::Request,
    settle::Revoking,
};
use crate::api::conditions::Reason;

/// What shall become of one policy.
#[derive(Clone, Debug)]
pub struct Edit {
    /// Its name.
    pub name: PolicyName,
    /// As it shall be; nothing: it is deleted.
    pub policy: Option<Arc<Policy>>,
}

/// What edits of policies would change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forecast {
    /// The policies that become others.
    pub policies: BTreeMap<PolicyName, Edited>,
    /// The Secrets whose grant comes or goes, by request and Secret.
    pub grants: BTreeMap<(RequestKey, Target), Change>,
    /// The namespaces that get other limits.
    pub limits: BTreeMap<NamespaceName, (Limits, Limits)>,
}

/// What becomes of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edited {
    /// There was none of that name.
    Created,
    /// It says something else.
    Changed,
    /// It goes.
    Deleted,
}

/// What becomes of the grant of one Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// From when on: at once, or when a policy comes into force or leaves it.
    pub from: Timestamp,
    /// Until when, as far as the edited policies say so.
    pub until: Option<Timestamp>,
    /// How it stands from then on.
    pub standing: Standing,
}

/// How the grant of one Secret stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Policies grant it: these.
    Granted(BTreeSet<PolicyName>),
    /// None does, or one denies it.
    Refused {
        /// Why.
        reasons: BTreeSet<Reason>,
        /// What happens to the Secret that was written; nothing, if none was.
        revoking: Option<Revoking>,
    },
}

impl Standing {
    fn is_granted(&self) -> bool {
        matches!(self, Self::Granted(_))
    }
}

/// How much may be written into a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How fast.
    pub rate: Option<Rate>,
    /// How many distributions.
    pub quota: Option<u32>,
}

/// How the grants of a namespace stand, at several instants.
type Standings = BTreeMap<(RequestKey, Target), Vec<Standing>>;

impl World {
    /// What the edits would change. The world is taken: afterwards it is another one.
    pub fn forecast(mut self, edits: Vec<Edit>, now: Timestamp) -> Forecast {
        let edits: Vec<_> = edits.into_iter().filter_map(|edit| Pending::of(&self, edit)).collect();
        let recorded = self.recorded_by_namespace();
        let known = self.namespaces_known(&recorded);
        let touched: Vec<_> = known.into_iter().filter_map(|name| self.touched(name, &edits, now)).collect();
        let look = |world: &Self| -> Vec<_> {
            touched
                .iter()
                .map(|touched| (world.standings(touched, &recorded), world.limits(&touched.namespace, now)))
                .collect()
        };
        let before = look(&self);
        let mut forecast = Forecast::default();
        for edit in edits {
            forecast.policies.insert(edit.name.clone(), edit.edited());
            match edit.after {
                Some(policy) => self.policies.apply_policy(edit.name, Ok(policy)),
                None => self.policies.delete_policy(&edit.name),
            }
        }
        let after = look(&self);
        for (touched, (before, after)) in touched.into_iter().zip(before.into_iter().zip(after)) {
            forecast.compare(touched, before, after);
        }
        forecast
    }

    /// The namespace, if an edited policy speaks about it. At an instant at which any policy comes or goes, also one
    /// that is not edited, an edit may begin to matter that did not before.
    fn touched(&self, namespace: NamespaceName, edits: &[Pending], now: Timestamp) -> Option<Touched> {
        let about = self.policies.namespace_or_unknown(&namespace);
        let edited = edits.iter().flat_map(Pending::versions).filter(|policy| policy.namespaces.contains(&about));
        let edited: Vec<_> = edited.collect();
        let all = edited.iter().copied().chain(self.policies.speaking_about(&about));
        let times = all.flat_map(|policy| [policy.not_before, policy.not_after]).flatten().filter(|at| *at > now);
        let instants: BTreeSet<_> = times.chain([now]).collect();
        (!edited.is_empty()).then(|| Touched { namespace, instants: instants.into_iter().collect() })
    }

    /// How the grants stand of what is wanted in a namespace, and of what a request has left there and keeps.
    fn standings(&self, touched: &Touched, recorded: &Recorded) -> Standings {
        let namespace = &touched.namespace;
        let wanted = self.requests.claims_in(namespace).map(|request| (request, request.target(namespace)));
        let left = recorded.get(namespace).into_iter().flatten().filter_map(|(key, target)| {
            let Some(Stored::Valid(request)) = self.requests.get(key) else { return None };
            (request.keeps_what_it_left() && self.is_left_by(request, target)).then(|| (request, target.clone()))
        });
        let stands = |(request, target): (&Arc<Request>, Target)| {
            let standings = touched.instants.iter().map(|at| self.standing(request, &target, *at)).collect();
            ((request.key.clone(), target), standings)
        };
        wanted.chain(left).map(stands).collect()
    }

    fn standing(&self, request: &Arc<Request>, target: &Target, at: Timestamp) -> Standing {
        let decision = match self.wants(request, target) {
            true => self.decide(request, &target.namespace, at),
            false => self.decide_about_left(request, &target.namespace, at),
        };
        match decision {
            Decision::Permitted(permit) => Standing::Granted(permit.granted().iter().flatten().cloned().collect()),
            Decision::Denied(denial) => Standing::Refused {
                reasons: denial.reasons.into_iter().flatten().collect(),
                revoking: self.revocation(request, target, at).map(|(_, revoking)| revoking),
            },
            Decision::Unready => {
                Standing::Refused { reasons: BTreeSet::from([Reason::PoliciesNotReady]), revoking: None }
            }
        }
    }

    fn limits(&self, namespace: &NamespaceName, now: Timestamp) -> Limits {
        let about = self.policies.namespace_or_unknown(namespace);
        let policies = self.applicable(&about, now);
        Limits { rate: policies.rate(), quota: policies.quota() }
    }

    fn recorded_by_namespace(&self) -> Recorded {
        let mut recorded = Recorded::new();
        for key in self.secrets.recorded_keys() {
            for (target, _) in self.secrets.recorded_for(key) {
                recorded.entry(target.namespace.clone()).or_default().push((key.clone(), target.clone()));
            }
        }
        recorded
    }

    /// Those that exist, those that a request names, and those that Secrets were written into.
    fn namespaces_known(&self, recorded: &Recorded) -> BTreeSet<NamespaceName> {
        let existing = self.policies.namespaces().map(|namespace| &namespace.name);
        existing.chain(self.requests.claimed_namespaces()).chain(recorded.keys()).cloned().collect()
    }
}

/// What Secrets were written for, by their namespace.
type Recorded = BTreeMap<NamespaceName, Vec<(RequestKey, Target)>>;

/// A namespace that an edited policy speaks about, and the instants at which that matters.
struct Touched {
    namespace: NamespaceName,
    instants: Vec<Timestamp>,
}

/// An edit that says something else than what there is.
struct Pending {
    name: PolicyName,
    before: Option<Compiled>,
    after: Option<Arc<Policy>>,
}

impl Pending {
    fn of(world: &World, edit: Edit) -> Option<Self> {
        let before = world.policies.policy(&edit.name).cloned();
        let same = match (&before, &edit.policy) {
            (None, None) => true,
            (Some(Ok(before)), Some(after)) => before.says_the_same(after),
            _ => false,
        };
        (!same).then_some(Self { name: edit.name, before, after: edit.policy })
    }

    fn versions(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.before.iter().flatten().chain(&self.after)
    }

    fn edited(&self) -> Edited {
        match (&self.before, &self.after) {
            (_, None) => Edited::Deleted,
            (None, Some(_)) => Edited::Created,
            (Some(_), Some(_)) => Edited::Changed,
        }
    }
}

impl Forecast {
    fn compare(&mut self, touched: Touched, before: (Standings, Limits), after: (Standings, Limits)) {
        let Touched { namespace, instants } = touched;
        if before.1 != after.1 {
            self.limits.insert(namespace, (before.1, after.1));
        }
        for ((ask, before), (_, after)) in before.0.into_iter().zip(after.0) {
            let differs = |i: &usize| before[*i].is_granted() != after[*i].is_granted();
            let Some(first) = (0..instants.len()).find(differs) else { continue };
            let last = (first..instants.len()).find(|i| after[*i].is_granted() != after[first].is_granted());
            let standing = after[first].clone();
            let change = Change { from: instants[first], until: last.map(|i| instants[i]), standing };
            self.grants.insert(ask, change);
        }
    }

    /// The Secrets that would be revoked: what was written, and would be granted no more.
    pub fn revoked(&self) -> impl Iterator<Item = (&(RequestKey, Target), &Change, Revoking)> {
        self.grants.iter().filter_map(|(ask, change)| match &change.standing {
            Standing::Refused { revoking: Some(revoking), .. } => Some((ask, change, *revoking)),
            _ => None,
        })
    }

    /// What would be refused of which nothing was written.
    pub fn refused(&self) -> impl Iterator<Item = (&(RequestKey, Target), &Change)> {
        let unwritten = |change: &Change| matches!(change.standing, Standing::Refused { revoking: None, .. });
        self.grants.iter().filter(move |(_, change)| unwritten(change))
    }

    /// What would be granted, and is not now.
    pub fn granted(&self) -> impl Iterator<Item = (&(RequestKey, Target), &Change)> {
        self.grants.iter().filter(|(_, change)| change.standing.is_granted())
    }

    /// Whether nothing would be another.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty() && self.limits.is_empty()
    }
}
