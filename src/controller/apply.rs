//! Carries out what was decided, at one destination.

use std::time::Duration;

use jiff::Timestamp;
use tracing::Instrument;

use super::{Context, events::Note};
use crate::{
    api::{conditions::Reason, names},
    core::{
        decide::Permit,
        index::{Delegation, SecretState},
        name::{RequestKey, Target},
        observed::Observed,
        plan::{Fate, Leftover},
        render::Rendered,
        settle::{Foreign, Ownership, Revoking, Step, settle, whole_second},
    },
    error::ApiFailure,
    lease::Term,
    limits::Urgency,
    telemetry::{
        metrics::Operation,
        traces::{
            Traced,
            names::{CONFIRM, LIMIT, THROTTLE_DELAY},
        },
    },
};

/// How often a write is tried again at once because the Secret changed under it.
const TRIES: usize = 4;

/// How a write ended.
pub enum Written {
    /// The Secret was as it should be.
    Unchanged,
    /// The Secret was created or changed; what there is to tell about it.
    Done(Option<Note>),
    /// What stands there is not ours to touch.
    Conflict(String),
    /// The rate limit of the namespace is used up: its turn comes after this time.
    Throttled(Duration),
    /// The API server refused, or did not answer.
    Failed(ApiFailure),
}

/// The term in which this write has taken its token: it is good for no other, whose budgets begin empty.
struct Paid(Option<Term>);

impl Context {
    /// Sees that the Secret is as it shall be.
    pub async fn write(&self, rendered: &Rendered, state: SecretState) -> Written {
        let target = rendered.permit().target();
        let mut observed = match state {
            SecretState::Present(observed) => Some(*observed),
            _ => None,
        };
        let mut paid = Paid(None);
        let mut is_fresh = self.secrets.are_watched();
        for _ in 0..TRIES {
            let attempt = match &observed {
                None => self.create(rendered, &mut paid).await,
                Some(observed) => self.bring_about(rendered, observed, &mut paid).await,
            };
            match attempt {
                // Somebody was faster, or it is a stranger's: look at what stands there, and judge that.
                Err(ApiFailure::AlreadyExists | ApiFailure::Conflict | ApiFailure::NotFound) => {}
                // What is in the way may have gone long since.
                Ok(Written::Conflict(_)) if !is_fresh => {}
                Err(failure) => return Written::Failed(failure),
                Ok(written) => return written,
            }
            match self.secrets.look(&target).await {
                Ok(found) => {
                    self.learn(&target, &found);
                    (observed, is_fresh) = (found, true);
                }
                // A look by a change that changes nothing: admission refuses it on what is foreign and not offered.
                Err(ApiFailure::Refused) => return conflict(rendered, Foreign::Unowned),
                Err(failure) => return Written::Failed(failure),
            }
        }
        Written::Failed(ApiFailure::Conflict)
    }

    async fn create(&self, rendered: &Rendered, paid: &mut Paid) -> Result<Written, ApiFailure> {
        self.secrets.enforce_creation(&rendered.permit().target()).await?;
        if let Err(wait) = self.may_write(rendered.permit(), Urgency::Create, paid).await? {
            return Ok(Written::Throttled(wait));
        }
        let created = self.secrets.create(rendered).await?;
        self.metrics.wrote(&rendered.permit().target().namespace, Operation::Create);
        self.remember(rendered, created);
        Ok(Written::Done(None))
    }

    /// Before every write: it must still be permitted, and it costs a token. One token is the price of one
    /// changed Secret: tries that met something else changed nothing.
    async fn may_write(
        &self,
        permit: &Permit,
        urgency: Urgency,
        paid: &mut Paid,
    ) -> Result<Result<(), Duration>, ApiFailure> {
        self.is_still_permitted(permit).instrument(CONFIRM.start()).await?;
        let term = self.leadership.check()?;
        if paid.0 == Some(term) {
            return Ok(Ok(()));
        }
        let span = LIMIT.start();
        let namespace = permit.target().namespace;
        let rate = self.world().rate(&namespace, Timestamp::now()).unwrap_or(self.default_rate);
        let taken = self.limits.take(term.number(), &namespace, &permit.request().key, urgency, rate);
        span.set(THROTTLE_DELAY, taken.err().unwrap_or_default().as_secs_f64());
        paid.0 = taken.is_ok().then_some(term);
        Ok(taken)
    }

    async fn bring_about(
        &self,
        rendered: &Rendered,
        observed: &Observed,
        paid: &mut Paid,
    ) -> Result<Written, ApiFailure> {
        let (request, target) = (rendered.permit().request(), rendered.permit().target());
        // What was planned may be outdated, and an older request have come meanwhile.
        if let Some(senior) = self.world().senior(request, &target, Timestamp::now()) {
            return Ok(Written::Conflict(outranked(&target, &senior)));
        }
        let step = settle(rendered, observed, &self.seal, |key, uid| {
            self.world().requests.get(key).is_some_and(|stored| stored.uid() == uid)
        });
        match step {
            Step::Keep => Ok(Written::Unchanged),
            Step::Refuse(why) => Ok(conflict(rendered, why)),
            Step::Change(ownership) => self.change(rendered, observed, ownership, paid).await,
        }
    }

    async fn change(
        &self,
        rendered: &Rendered,
        observed: &Observed,
        ownership: Ownership,
        paid: &mut Paid,
    ) -> Result<Written, ApiFailure> {
        let target = rendered.permit().target();
        let adopted = matches!(ownership, Ownership::Original | Ownership::Adopted);
        self.secrets.enforce(if adopted { "taken over" } else { "changed" })?;
        if let Err(wait) = self.may_write(rendered.permit(), Urgency::Change, paid).await? {
            return Ok(Written::Throttled(wait));
        }
        let mut changed = match self.secrets.change(rendered, observed).await {
            Err(ApiFailure::Invalid(field)) => return self.replace(rendered, observed, ownership, &field, paid).await,
            other => other?,
        };
        self.metrics.wrote(&target.namespace, Operation::Change);
        if !rendered.is_held(&changed) {
            changed = self.secrets.claim(rendered, &changed).await?;
        }
        self.remember(rendered, changed);
        Ok(Written::Done(adopted.then(|| Note::adopted(&target))))
    }

    /// A type cannot be changed: a Secret that is ours is deleted and made anew. One that is to be adopted is
    /// not, since its content would be lost.
    async fn replace(
        &self,
        rendered: &Rendered,
        observed: &Observed,
        ownership: Ownership,
        field: &str,
        paid: &mut Paid,
    ) -> Result<Written, ApiFailure> {
        let target = rendered.permit().target();
        let ours = matches!(ownership, Ownership::Ours | Ownership::Inherited);
        match (field, ours) {
            ("type", true) => {
                self.delete(&target, observed).await?;
                self.create(rendered, paid).await
            }
            ("type", false) => Ok(Written::Conflict(format!(
                "Secret {target} has another type, which cannot be changed; delete it, or set spec.type to its type"
            ))),
            _ => Ok(Written::Conflict(format!(
                "Secret {target} is immutable or the API server refuses its field {field:?}; delete the Secret to have it written anew"
            ))),
        }
    }

    /// Puts our own write into the index at once, so that nothing is done twice before the watch shows it.
    fn remember(&self, rendered: &Rendered, observed: Observed) {
        self.world_mut().secrets.remember(&rendered.permit().target(), observed);
    }

    /// Puts what a write has met into the index, where no watch does.
    fn learn(&self, target: &Target, found: &Option<Observed>) {
        if !self.secrets.are_watched() {
            // Whoever is touched by it is this very request, or one that has lost the name to it.
            self.world_mut().looked_at(target, found.clone());
        }
    }

    /// Revokes: deletes, or begins the grace period. Answers what there is to tell.
    pub async fn withdraw(
        &self,
        target: &Target,
        observed: &Observed,
        revoking: Revoking,
        now: Timestamp,
    ) -> Result<Option<Note>, ApiFailure> {
        match revoking {
            Revoking::Retain | Revoking::Wait { .. } => Ok(None),
            Revoking::Mark { until } => {
                let marked = self.secrets.mark_revoked(target, observed, whole_second(now)).await;
                let marked = self.look_after(target, marked).await?;
                self.metrics.wrote(&target.namespace, Operation::Mark);
                self.world_mut().secrets.remember(target, marked);
                Ok(Some(Note::revoking(target, &observed.uid, until)))
            }
            Revoking::Delete => {
                self.remove(target, observed).await?;
                self.metrics.revoked(&target.namespace);
                Ok(Some(Note::revoked(target, &observed.uid)))
            }
        }
    }

    /// Sees to a Secret that is not wanted any more.
    pub async fn clear(&self, leftover: &Leftover, now: Timestamp) -> Result<Option<Note>, ApiFailure> {
        let Leftover { target, observed, fate } = leftover;
        match fate {
            Fate::Revoke(revoking) => self.withdraw(target, observed, *revoking, now).await,
            Fate::Prune | Fate::Orphan => {
                self.remove(target, observed).await?;
                Ok(Some(Note::pruned(target)))
            }
        }
    }

    async fn remove(&self, target: &Target, observed: &Observed) -> Result<(), ApiFailure> {
        let deleted = self.delete(target, observed).await;
        self.look_after(target, deleted).await?;
        self.world_mut().secrets.delete(target);
        tracing::info!(secret = %target, "secret deleted");
        Ok(())
    }

    /// What a finalizer holds is not deleted, and known as it is now.
    async fn delete(&self, target: &Target, observed: &Observed) -> Result<(), ApiFailure> {
        if let Some(held) = self.secrets.delete(target, observed).await? {
            self.world_mut().secrets.remember(target, held);
            return Err(ApiFailure::Held);
        }
        self.metrics.wrote(&target.namespace, Operation::Delete);
        Ok(())
    }

    /// What it means for the status that a Secret could not be `written`, say; notes that a delegation is gone.
    pub fn judge_failure(&self, target: &Target, failure: &ApiFailure, done: &str) -> (Reason, String) {
        match failure {
            ApiFailure::NotAllowed => {
                self.world_mut().set_delegation(&target.namespace, Delegation::Refused);
                self.namespaces.recheck(&target.namespace);
                (Reason::NotDelegated, self.delegation_advice(target))
            }
            ApiFailure::NotEnforced(would) => (
                Reason::NotEnforced,
                format!("the operator runs with --enforcement Audit; Secret {target} would be {would}"),
            ),
            ApiFailure::Terminating => {
                (Reason::NamespaceTerminating, format!("namespace {} is being deleted", target.namespace))
            }
            ApiFailure::Refused if self.world().is_excluded(&target.namespace) => {
                let (label, value) = (names::DISTRIBUTION, names::ALLOWED);
                let told = format!(
                    "Secret {target} cannot be {done}: {failure}; such a namespace needs the label {label}={value}; retried"
                );
                (Reason::WriteRefused, told)
            }
            ApiFailure::QuotaExceeded | ApiFailure::Refused | ApiFailure::Invalid(_) => {
                (Reason::WriteRefused, format!("Secret {target} cannot be {done}: {failure}; retried"))
            }
            _ => (Reason::ApiError, format!("Secret {target} cannot be {done}: {failure}; retried")),
        }
    }

    /// The command that delegates a namespace.
    pub fn delegation_advice(&self, target: &Target) -> String {
        let namespace = &target.namespace;
        format!(
            "namespace {namespace} has not delegated its Secrets to the operator; an admin of it runs: \
             kubectl create rolebinding {} --namespace={namespace} --clusterrole={} --serviceaccount={}",
            self.access.role_binding(),
            self.access.cluster_role(),
            self.service_account
        )
    }
}

/// What a request is told whose Secret an older one writes.
pub fn outranked(target: &Target, senior: &RequestKey) -> String {
    format!(
        "Secret {target} is written by the older request {senior}; choose another spec.name or delete one of the two"
    )
}

fn conflict(rendered: &Rendered, why: Foreign) -> Written {
    Written::Conflict(format!("Secret {} {why}", rendered.permit().target()))
}
