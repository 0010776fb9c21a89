//! What is in the way of a write that is granted.

use std::sync::Arc;

use serde_json::json;

use super::{aim, namespace, policy, request};
use crate::core::{
    index::{self, Delegation, Stored},
    policy::Namespace,
    request::Request,
};

#[test]
fn either_the_request_or_its_namespace_going_stops_every_write() {
    for (deleting, terminating) in [(true, false), (false, true)] {
        let here = Namespace { terminating, ..Namespace::unknown(&namespace("team-a")) };
        let mut world = index::complete(namespace("operator"), [policy(json!({}))], [here], []);
        world.set_delegation(&namespace("team-a"), Delegation::Granted);
        let going = Request { deleting, ..request(json!({})) };
        world.apply_request(going.key.clone(), Stored::Valid(Arc::new(going)));
        assert_eq!(aim(&world), "Wait(RequestDeleting)", "{deleting} {terminating}");
    }
}
