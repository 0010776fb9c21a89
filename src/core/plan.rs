//! What a request needs done, as the world is now.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    decide::{Decision, Denial, Permit},
    index::{Delegation, LastSeen, Origin, SecretState, Stored, World},
    invalid::InvalidField,
    name::{NamespaceName, RequestKey, Target, Uid},
    observed::Observed,
    request::Request,
    settle::{Revoking, is_retained, revoke},
};
use crate::api::names;

/// What there is to do for one key.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the key stands for.
    pub subject: Subject,
    /// The destinations of the request. One that is only selected and was never granted is left out.
    pub targets: Vec<TargetPlan>,
    /// Secrets that were written for this key and are not wanted any more.
    pub leftovers: Vec<Leftover>,
    /// When to look again although nothing has changed: a policy comes or goes by its time, a grace period ends.
    pub wake_at: Option<Timestamp>,
}

/// What a key stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// There is no such request (any more).
    Gone,
    /// There is one that cannot be understood.
    Invalid {
        /// Its UID.
        uid: Uid,
        /// Its generation.
        generation: i64,
        /// What is wrong.
        problem: InvalidField,
    },
    /// There is one.
    Live(Arc<Request>),
}

/// One destination.
#[derive(Clone, Debug)]
pub struct TargetPlan {
    /// The Secret.
    pub target: Target,
    /// How the request came to it.
    pub origin: Origin,
    /// What to do.
    pub aim: Aim,
}

/// What to do at a destination.
#[derive(Clone, Debug)]
pub enum Aim {
    /// Granted, and nothing is in the way: see that the Secret is as it shall be.
    Write(Permit, SecretState),
    /// Granted, and something is in the way.
    Wait(Obstacle),
    /// Not granted. What was written while it was is revoked.
    Withdraw(Denial, Option<(Box<Observed>, Revoking)>),
    /// Not granted, and what was written while it was stays, or may: nothing can be done about it now.
    Stay(Denial, Stay),
}

/// What is in the way of a granted write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The namespace does not exist.
    NamespaceNotFound,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// The Secrets of the namespace have not been listed yet: known in a moment, not worth a word.
    NotListed,
    /// The namespace has not delegated its Secrets.
    NotDelegated,
    /// An older request writes this Secret.
    Senior(RequestKey),
    /// The request is suspended.
    Suspended,
    /// The request is being deleted and something holds it, or its namespace is and takes it along.
    RequestDeleting,
}

/// A Secret that is not wanted any more.
#[derive(Clone, Debug)]
pub struct Leftover {
    /// Where it is.
    pub target: Target,
    /// What stands there.
    pub observed: Box<Observed>,
    /// What to do about it.
    pub fate: Fate,
}

/// What happens to a leftover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its request has another name for it now, or does not want it there: deleted.
    Prune,
    /// Its request is gone: deleted, as its stamp says.
    Orphan,
    /// Its grant is gone.
    Revoke(Revoking),
}

/// Why what is not granted any more stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Its namespace has taken the delegation back: it may be there, and nobody can look.
    NotDelegated,
    /// The same, and it shall stay, as the policy said that it was written under.
    Retained,
    /// It is being deleted, and a finalizer holds it.
    Finalizer,
}

impl World {
    /// Plans. `None` while not everything has been read that a decision needs.
    pub fn plan(&self, key: &RequestKey, now: Timestamp) -> Option<Plan> {
        if !self.is_ready() {
            return None;
        }
        let subject = match self.requests.get(key) {
            None => Subject::Gone,
            Some(Stored::Invalid { uid, generation, problem }) => {
                Subject::Invalid { uid: uid.clone(), generation: *generation, problem: problem.clone() }
            }
            Some(Stored::Valid(request)) => Subject::Live(request.clone()),
        };
        let (targets, changes) = match &subject {
            Subject::Live(request) => self.plan_targets(request, now),
            _ => (Vec::new(), None),
        };
        let leftovers = self.plan_leftovers(key, &subject, now);
        let changes = changes.into_iter().chain(self.leftover_changes(key, &subject, now));
        let revocations =
            targets.iter().filter_map(TargetPlan::revoking).chain(leftovers.iter().filter_map(|l| l.revoking()));
        let wake_at = revocations.filter_map(Revoking::until).chain(changes).min();
        Some(Plan { subject, targets, leftovers, wake_at })
    }

    fn plan_targets(&self, request: &Arc<Request>, now: Timestamp) -> (Vec<TargetPlan>, Option<Timestamp>) {
        let mut targets = Vec::new();
        let mut changes = Vec::new();
        for (namespace, origin) in self.requests.destinations(&request.key) {
            let target = request.target(namespace);
            let aim = match self.decide(request, namespace, now) {
                Decision::Permitted(permit) => self.aim(permit, &target, now),
                Decision::Denied(_) if self.is_unlisted(namespace) => Aim::Wait(Obstacle::NotListed),
                Decision::Denied(denial) => match self.stay(request, &target) {
                    Some(stay) => Aim::Stay(denial, stay),
                    None => Aim::Withdraw(denial, self.revocation(request, &target, now)),
                },
                Decision::Unready => continue,
            };
            changes.extend(self.next_change(namespace, now));
            let unheard_of = origin == Origin::Selected && matches!(aim, Aim::Withdraw(_, None) | Aim::Stay(..));
            if !unheard_of {
                targets.push(TargetPlan { target, origin, aim });
            }
        }
        (targets, changes.into_iter().min())
    }

    /// Whether the Secrets of a namespace that exists are not known yet: whether one is to be revoked is open.
    fn is_unlisted(&self, namespace: &NamespaceName) -> bool {
        self.policies.namespace(namespace).is_some() && self.secrets.delegation(namespace) == Delegation::Unknown
    }

    /// Whether what was written for the request stays where it is not granted. What goes with its namespace does not.
    fn stay(&self, request: &Request, target: &Target) -> Option<Stay> {
        if self.is_terminating(&target.namespace) {
            return None;
        }
        if self.secrets.delegation(&target.namespace) == Delegation::Refused {
            let seen = self.last_seen(request, target)?;
            return Some(if seen.is_retained { Stay::Retained } else { Stay::NotDelegated });
        }
        let is_held = |observed: &Observed| observed.deleting && !is_retained(observed);
        self.own_secret(request, target).filter(|observed| is_held(observed)).map(|_| Stay::Finalizer)
    }

    fn last_seen(&self, request: &Request, target: &Target) -> Option<&LastSeen> {
        self.secrets.last_seen(target).filter(|seen| seen.is_of(request))
    }

    fn aim(&self, permit: Permit, target: &Target, now: Timestamp) -> Aim {
        match self.obstacle(permit.request(), target, now) {
            Some(obstacle) => Aim::Wait(obstacle),
            None => Aim::Write(permit, self.secrets.state(target)),
        }
    }

    fn obstacle(&self, request: &Request, target: &Target, now: Timestamp) -> Option<Obstacle> {
        if request.deleting || self.is_terminating(&request.key.namespace) {
            return Some(Obstacle::RequestDeleting);
        }
        if request.suspend {
            return Some(Obstacle::Suspended);
        }
        if self.policies.namespace(&target.namespace).is_none() {
            return Some(Obstacle::NamespaceNotFound);
        }
        if self.is_terminating(&target.namespace) {
            return Some(Obstacle::NamespaceTerminating);
        }
        if let Some(senior) = self.senior(request, target, now) {
            return Some(Obstacle::Senior(senior));
        }
        match self.secrets.delegation(&target.namespace) {
            Delegation::Unknown => Some(Obstacle::NotListed),
            Delegation::Refused => Some(Obstacle::NotDelegated),
            Delegation::Granted => None,
        }
    }

    fn is_terminating(&self, namespace: &NamespaceName) -> bool {
        self.policies.namespace(namespace).is_some_and(|namespace| namespace.terminating)
    }

    pub(super) fn revocation(
        &self,
        request: &Request,
        target: &Target,
        now: Timestamp,
    ) -> Option<(Box<Observed>, Revoking)> {
        let observed = self.own_secret(request, target).filter(|observed| !observed.deleting)?;
        let revoking = revoke(&observed, now);
        Some((observed, revoking))
    }

    /// Whether the Secret was written for the request, which does not want it there any more.
    pub(super) fn is_left_by(&self, request: &Request, target: &Target) -> bool {
        let alive = self.policies.namespace(&target.namespace).is_some_and(|namespace| !namespace.terminating);
        alive && !self.wants(request, target) && self.own_secret(request, target).is_some()
    }

    /// When the operator last wrote the Secret of a request, if it is there, or may be where nobody can look.
    pub fn last_written(&self, request: &Request, target: &Target) -> Option<Timestamp> {
        match self.own_secret(request, target) {
            Some(observed) => observed.written,
            None => self.last_seen(request, target)?.written,
        }
    }

    fn own_secret(&self, request: &Request, target: &Target) -> Option<Box<Observed>> {
        let SecretState::Present(observed) = self.secrets.state(target) else { return None };
        observed.belongs_to(&request.uid, &request.key, target).then_some(observed)
    }

    fn plan_leftovers(&self, key: &RequestKey, subject: &Subject, now: Timestamp) -> Vec<Leftover> {
        let alive = |target: &Target| self.policies.namespace(&target.namespace).is_some_and(|n| !n.terminating);
        let candidates =
            self.secrets.recorded_for(key).filter(|(target, observed)| alive(target) && !observed.deleting);
        candidates
            .filter_map(|(target, observed)| {
                let fate = self.fate(key, subject, target, observed, now)?;
                Some(Leftover { target: target.clone(), observed: Box::new(observed.clone()), fate })
            })
            .collect()
    }

    /// When the grants may change of what a request has left behind and keeps: as long as it is granted.
    fn leftover_changes(&self, key: &RequestKey, subject: &Subject, now: Timestamp) -> Option<Timestamp> {
        let keeps = matches!(subject, Subject::Live(request) if request.keeps_what_it_left());
        let targets = self.secrets.recorded_for(key).filter(|_| keeps).map(|(target, _)| target);
        targets.filter_map(|target| self.next_change(&target.namespace, now)).min()
    }

    fn fate(
        &self,
        key: &RequestKey,
        subject: &Subject,
        target: &Target,
        observed: &Observed,
        now: Timestamp,
    ) -> Option<Fate> {
        let owner = observed.owner()?;
        match subject {
            Subject::Invalid { .. } => None,
            Subject::Live(request) if request.uid == owner => self.fate_of_living(request, target, observed, now),
            Subject::Live(request) if self.inherits(request, target, now) => None,
            Subject::Live(_) | Subject::Gone => is_orphan(observed, key, target).then_some(Fate::Orphan),
        }
    }

    /// Whether a request may write the Secret of an earlier one of its name: then it goes on with that.
    fn inherits(&self, request: &Arc<Request>, target: &Target, now: Timestamp) -> bool {
        self.wants(request, target) && matches!(self.decide(request, &target.namespace, now), Decision::Permitted(_))
    }

    pub(super) fn wants(&self, request: &Request, target: &Target) -> bool {
        self.requests.destinations(&request.key).any(|(namespace, _)| request.target(namespace) == *target)
    }

    /// The fate of a Secret whose request lives, but (perhaps) does not want it there.
    fn fate_of_living(
        &self,
        request: &Arc<Request>,
        target: &Target,
        observed: &Observed,
        now: Timestamp,
    ) -> Option<Fate> {
        if self.wants(request, target) {
            return None;
        }
        if !request.keeps_what_it_left() {
            return Some(Fate::Prune);
        }
        match self.decide_about_left(request, &target.namespace, now) {
            Decision::Denied(_) => Some(Fate::Revoke(revoke(observed, now))),
            _ => None,
        }
    }
}

/// Whether it goes with its request, and nobody else sees to it. In the request's own namespace the garbage
/// collector does, by the owner reference; where that was taken off, as `--cascade=orphan` does, it shall stay.
fn is_orphan(observed: &Observed, key: &RequestKey, target: &Target) -> bool {
    let retained = observed.annotations.get(names::DELETION_POLICY) == Some("Retain");
    target.namespace != key.namespace && !retained
}

impl Plan {
    /// Whether a grant is gone of something that was written.
    pub fn revokes(&self) -> bool {
        self.targets.iter().filter_map(TargetPlan::revoking).next().is_some()
            || self.leftovers.iter().any(|leftover| matches!(leftover.fate, Fate::Revoke(_)))
    }

    /// Whether every destination has been looked at, so that a status can be written.
    pub fn is_complete(&self) -> bool {
        let unknown =
            |plan: &TargetPlan| matches!(plan.aim, Aim::Wait(Obstacle::NotListed | Obstacle::RequestDeleting));
        !self.targets.iter().any(unknown)
    }
}

impl TargetPlan {
    /// The permit, if the Secret is to be written.
    pub fn permit(&self) -> Option<&Permit> {
        match &self.aim {
            Aim::Write(permit, _) => Some(permit),
            Aim::Wait(_) | Aim::Withdraw(..) | Aim::Stay(..) => None,
        }
    }

    fn revoking(&self) -> Option<Revoking> {
        match &self.aim {
            Aim::Withdraw(_, Some((_, revoking))) => Some(*revoking),
            _ => None,
        }
    }
}

impl Leftover {
    fn revoking(&self) -> Option<Revoking> {
        match self.fate {
            Fate::Revoke(revoking) => Some(revoking),
            Fate::Prune | Fate::Orphan => None,
        }
    }
}

impl Revoking {
    /// When a grace period ends.
    pub fn until(self) -> Option<Timestamp> {
        match self {
            Self::Mark { until } | Self::Wait { until } => Some(until),
            Self::Delete | Self::Retain => None,
        }
    }
}
