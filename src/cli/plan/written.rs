//! The Secrets that were written: what would be revoked is among them.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{
    api::names,
    cli::{secrets::Found, view::View},
    core::{
        decide::Decision,
        index::Delegation,
        name::{NamespaceName, Target},
        observed::Observed,
        policy::{Namespace, Revocation},
        request::Request,
    },
};

/// Takes in the Secrets as they were listed.
pub fn take_in(view: &mut View, found: Vec<Found>) {
    found.into_iter().for_each(|Found { target, observed, .. }| put(view, &target, observed));
}

/// Takes in the Secrets as they must be: those that the statuses tell, and where there is no status everything that is
/// granted. That may be more than there is, so that no revocation is left out.
pub fn assume(view: &mut View) {
    let mut assumed = Vec::new();
    for request in view.world.requests.valid() {
        for (namespace, _) in view.world.requests.destinations(&request.key) {
            let target = request.target(namespace);
            let revocation = match view.world.decide(request, namespace, view.at) {
                Decision::Permitted(permit) => Some(permit.revocation()),
                _ => None,
            };
            if is_written(view, request, namespace, &target, revocation.is_some()) {
                // Of what is not granted any more nothing is known but that it is being revoked.
                let revocation = revocation.unwrap_or(Revocation::Delete(SignedDuration::ZERO));
                assumed.push((target.clone(), Observed::parse(metadata(request, &target, revocation))));
            }
        }
    }
    assumed.into_iter().for_each(|(target, observed)| put(view, &target, observed));
}

/// A Secret counts where its namespace is there and has delegated, or will have: then it is revoked. Of one that was not
/// listed the name is known.
fn put(view: &mut View, target: &Target, observed: Observed) {
    if view.world.policies.namespace(&target.namespace).is_none() {
        view.world.apply_namespace(Namespace::unknown(&target.namespace));
    }
    view.world.secrets.set_delegation(&target.namespace, Delegation::Granted);
    view.world.secrets.apply(target, observed);
}

fn is_written(view: &View, request: &Request, namespace: &NamespaceName, target: &Target, granted: bool) -> bool {
    let status = view.status(&request.key).filter(|status| status.told.observed_generation.is_some());
    let told = status.and_then(|status| status.told.targets.iter().find(|told| told.namespace == namespace.as_str()));
    match told {
        Some(told) => told.last_written.is_some() && told.name == target.name.as_str(),
        // No status yet, or a destination past the bound of what a status tells.
        None => granted && view.world.senior(request, target, view.at).is_none(),
    }
}

/// What the operator writes to a Secret.
fn metadata(request: &Request, target: &Target, revocation: Revocation) -> ObjectMeta {
    let annotations = [
        (names::REQUEST, request.key.to_string()),
        (names::TARGET, target.to_string()),
        (names::REVOCATION, revocation.to_string()),
    ];
    ObjectMeta {
        labels: Some([(names::OWNER_UID.to_string(), request.uid.to_string())].into()),
        annotations: Some(annotations.map(|(name, value)| (name.to_string(), value)).into()),
        ..ObjectMeta::default()
    }
}
