//! From what happened at each destination to the status: the roll-up, its times, its bounds.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::json;

use super::{namespace, now, request};
use crate::{
    api::{DecisionResult, SecretsDistributionStatus, TargetState, conditions::Reason},
    core::{
        decide::Denial,
        name::PolicyName,
        outcome::{End, Outcome, broken, explain, invalid, status},
        request::Request,
    },
};

/// The longest message of a condition that the API server keeps.
const LONGEST_MESSAGE: usize = 32_768;

fn denial(reasons: &[Reason]) -> Denial {
    Denial { reasons: vec![reasons.iter().copied().collect()], quota: Some(2) }
}

fn outcome(request: &Request, place: &str, end: End) -> Outcome {
    let granted_by = match end {
        End::Denied(_) | End::Revoking(..) | End::Retained(_) | End::Stuck(..) => vec![],
        _ => vec![PolicyName::admitted("all"); request.mappings.len()],
    };
    let written = matches!(end, End::Synced).then(now);
    Outcome { target: request.target(&namespace(place)), granted_by, end, written }
}

fn later(seconds: i64) -> Timestamp {
    now().checked_add(SignedDuration::from_secs(seconds)).unwrap()
}

/// Status and reason of Permitted, Synced and Ready.
fn conditions(status: &SecretsDistributionStatus) -> [(&str, &str); 3] {
    let of = |kind: &str| {
        let condition = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        assert_eq!(condition.observed_generation, status.observed_generation);
        (condition.status.as_str(), condition.reason.as_str())
    };
    ["Permitted", "Synced", "Ready"].map(of)
}

fn of(ends: Vec<End>) -> SecretsDistributionStatus {
    let request = request(json!({}));
    let outcomes: Vec<_> =
        ends.into_iter().enumerate().map(|(i, end)| outcome(&request, &format!("ns-{i}"), end)).collect();
    status(&request, &outcomes, &Default::default(), now())
}

#[test]
fn a_revocation_that_is_blocked_is_a_refusal_and_says_what_is_in_the_way() {
    let stuck = |by| End::Stuck(denial(&[Reason::SourceNotPermitted]), by, "cannot be deleted".into());
    let status = of(vec![stuck(Reason::ApiError)]);
    let (refused, blocked) = (("False", "SourceNotPermitted"), ("False", "RevocationBlocked"));
    assert_eq!(conditions(&status), [refused, blocked, blocked]);
    let target = &status.targets[0];
    assert_eq!((target.state, target.reason.as_deref()), (TargetState::Failed, Some("RevocationBlocked")));
    assert_eq!(target.message.as_deref(), Some("cannot be deleted"));
    assert_eq!(status.decisions[0].result, DecisionResult::Refused);

    // In Audit it is meant, and another destination's trouble does not hide one that is blocked.
    let status = of(vec![stuck(Reason::NotEnforced)]);
    assert_eq!(conditions(&status), [refused, ("False", "NotEnforced"), refused]);
    assert_eq!(status.targets[0].state, TargetState::Pending);
    let status = of(vec![End::Held(Reason::NamespaceNotFound, "why".into()), stuck(Reason::NotDelegated)]);
    assert_eq!(conditions(&status), [refused, blocked, blocked]);
}

#[test]
fn what_is_blocked_is_listed_before_all_else() {
    let denied = || End::Denied(denial(&[Reason::DeniedByRule]));
    let stuck = End::Stuck(denial(&[Reason::DeniedByRule]), Reason::NotDelegated, "why".into());
    let ends: Vec<_> = (0..60).map(|_| denied()).chain([stuck]).collect();
    let status = of(ends);
    assert_eq!((status.targets.len(), status.targets_total), (50, Some(61)));
    assert_eq!(status.targets[0].reason.as_deref(), Some("RevocationBlocked"));
    assert_eq!(status.targets[1].state, TargetState::Denied);
}

#[test]
fn a_fault_of_the_operator_leaves_what_was_known() {
    let before = SecretsDistributionStatus { observed_generation: Some(2), ..of(vec![End::Synced]) };
    let after = broken(&request(json!({})), &before, later(60));
    let failed = ("False", "InternalError");
    assert_eq!(conditions(&after), [("True", "Granted"), failed, failed]);
    assert_eq!(after.conditions.len(), 3);
    assert_eq!((&after.targets, &after.decisions), (&before.targets, &before.decisions));
}

#[test]
fn the_messages_say_where_and_in_how_many_places() {
    let message = |ends, kind: &str| {
        let told = of(ends).conditions.into_iter().find(|condition| condition.type_ == kind);
        told.map(|condition| condition.message).unwrap()
    };
    let denied = || End::Denied(denial(&[Reason::DeniedByRule]));
    assert!(!message(vec![denied()], "Permitted").contains("more destinations"));
    assert!(message(vec![denied(), denied()], "Permitted").ends_with("(and 1 more destinations, see status.targets)"));
    assert_eq!(message(vec![End::Synced], "Synced"), "Secret ns-0/db is as it should be");
    assert_eq!(message(vec![End::Synced, End::Synced], "Synced"), "Secret db is as it should be in 2 namespaces");
    let throttled = message(vec![End::Throttled(later(9))], "Synced");
    assert!(throttled.starts_with("the rate limit of namespace ns-0 is used up: Secret ns-0/db"), "{throttled}");
}

#[test]
fn a_message_names_three_mappings_and_counts_the_others() {
    let explained = |mappings: usize| {
        let names = (0..mappings).map(|i| json!({ "from": format!("source-{i}"), "to": format!("k{i}") }));
        let request = request(json!({ "secrets": names.collect::<Vec<_>>() }));
        let reasons = vec![BTreeSet::from([Reason::SourceNotPermitted]); mappings];
        explain(&request, &request.target(&namespace("shop")), &Denial { reasons, quota: None })
    };
    assert!(explained(3).contains("source-2") && !explained(3).contains("more mappings"), "{}", explained(3));
    assert!(explained(4).contains("; 1 more mappings, see status.decisions;"), "{}", explained(4));
}

/// As it comes back from the API server: times are whole seconds there.
fn stored(status: &SecretsDistributionStatus) -> SecretsDistributionStatus {
    serde_json::from_value(serde_json::to_value(status).unwrap()).unwrap()
}

#[test]
fn the_conditions_roll_up() {
    let held = |reason| End::Held(reason, "why".into());
    let denied = || denial(&[Reason::KeyNotPermitted]);
    let granted = ("True", "Granted");
    for (ends, expected) in [
        (vec![End::Synced], [granted, ("True", "UpToDate"), ("True", "Ready")]),
        (vec![End::Synced, End::Synced], [granted, ("True", "UpToDate"), ("True", "Ready")]),
        (
            vec![End::Synced, held(Reason::NotDelegated)],
            [granted, ("False", "NotDelegated"), ("False", "NotDelegated")],
        ),
        (
            vec![held(Reason::ApiError), held(Reason::Suspended)],
            [granted, ("False", "Suspended"), ("False", "Suspended")],
        ),
        (
            vec![held(Reason::SourcesNotReady)],
            [granted, ("Unknown", "SourcesNotReady"), ("Unknown", "SourcesNotReady")],
        ),
        (vec![End::Throttled(later(9))], [granted, ("False", "Throttled"), ("False", "Throttled")]),
        (
            vec![End::Denied(denied())],
            [("False", "KeyNotPermitted"), ("False", "NotPermitted"), ("False", "KeyNotPermitted")],
        ),
        (
            vec![End::Synced, End::Denied(denied())],
            [("False", "KeyNotPermitted"), ("False", "NotPermitted"), ("False", "KeyNotPermitted")],
        ),
        (
            vec![End::Retained(denied())],
            [("False", "KeyNotPermitted"), ("False", "NotPermitted"), ("False", "KeyNotPermitted")],
        ),
        (
            vec![End::Revoking(denied(), later(9))],
            [("False", "KeyNotPermitted"), ("False", "RevocationPending"), ("False", "RevocationPending")],
        ),
        (
            vec![End::Denied(denied()), End::Denied(denial(&[Reason::DeniedByRule, Reason::NameNotPermitted]))],
            [("False", "DeniedByRule"), ("False", "NotPermitted"), ("False", "DeniedByRule")],
        ),
        (vec![], [("False", "NoPolicyForNamespace"), ("False", "NotPermitted"), ("False", "NoPolicyForNamespace")]),
    ] {
        assert_eq!(conditions(&of(ends.clone())), expected, "{ends:?}");
    }
}

#[test]
fn an_object_that_cannot_be_understood_says_which_field() {
    let status = invalid(7, "spec.name: must be a Secret name", &Default::default(), now());
    let expected = [("False", "InvalidRequest"), ("False", "NotPermitted"), ("False", "InvalidRequest")];
    assert_eq!(conditions(&status), expected);
    assert!(status.conditions.iter().all(|condition| condition.message.starts_with("spec.name: ")));
    assert_eq!(status.observed_generation, Some(7));
}

#[test]
fn the_time_of_transition_is_kept_until_the_status_changes() {
    let request = request(json!({}));
    let at = |status: &SecretsDistributionStatus| {
        status.conditions.iter().map(|condition| condition.last_transition_time.0.as_second()).collect::<Vec<_>>()
    };
    let held = |reason| [outcome(&request, "a", End::Held(reason, "why".into()))];
    let first = status(&request, &held(Reason::ApiError), &Default::default(), later(0));
    let other_reason = status(&request, &held(Reason::NotDelegated), &first, later(10));
    let synced = status(&request, &[outcome(&request, "a", End::Synced)], &other_reason, later(20));
    assert_eq!(at(&first), [1_000, 1_000, 1_000]);
    assert_eq!(at(&other_reason), [1_000, 1_000, 1_000], "still False");
    assert_eq!(at(&synced), [1_000, 1_020, 1_020]);
}

#[test]
fn it_says_when_the_operator_acts_again() {
    let denied = || denial(&[Reason::SourceNotPermitted]);
    let retry = |ends| of(ends).retry_at.map(|time| time.0);
    assert_eq!(retry(vec![End::Revoking(denied(), later(9)), End::Revoking(denied(), later(5))]), Some(later(5)));
    assert_eq!(retry(vec![End::Synced, End::Throttled(later(3))]), Some(later(3)));
    assert_eq!(retry(vec![End::Denied(denied())]), None);
}

/// That the turn of a throttled request moves is not worth a write.
#[test]
fn throttling_is_told_once() {
    let request = request(json!({}));
    let throttled = |seconds| [outcome(&request, "a", End::Throttled(later(seconds)))];
    let first = status(&request, &throttled(5), &Default::default(), now());
    assert_eq!(status(&request, &throttled(9), &stored(&first), later(4)), stored(&first));
    // Nor where something else is told before it.
    let beside = |end, turn| [outcome(&request, "a", end), outcome(&request, "b", End::Throttled(later(turn)))];
    let refused = || End::Held(Reason::NotDelegated, "why".into());
    let first = status(&request, &beside(refused(), 5), &Default::default(), now());
    assert_eq!(status(&request, &beside(refused(), 9), &stored(&first), later(4)), stored(&first));
    // The end of a grace period is told as it is, and does not stay when it is over.
    let pending = |until, turn| beside(End::Revoking(denial(&[Reason::SourceNotPermitted]), later(until)), turn);
    let pending = status(&request, &pending(6, 9), &stored(&first), later(4));
    assert_eq!(pending.retry_at, Some(Time(later(6))));
    assert_eq!(status(&request, &beside(End::Synced, 9), &stored(&pending), later(7)).retry_at, Some(Time(later(9))));
}

#[test]
fn a_mapping_is_granted_if_it_is_granted_everywhere() {
    let request = request(json!({ "secrets": [{ "from": "a", "to": "x" }, { "from": "b", "to": "y" }] }));
    let refused = Denial { reasons: vec![BTreeSet::new(), [Reason::KeyNotPermitted].into()], quota: None };
    let outcomes = [outcome(&request, "a", End::Synced), outcome(&request, "b", End::Denied(refused))];
    let decisions = status(&request, &outcomes, &Default::default(), now()).decisions;
    assert_eq!((decisions[0].result, decisions[0].policy.as_deref()), (DecisionResult::Granted, Some("all")));
    assert_eq!((decisions[1].result, decisions[1].policy.as_deref()), (DecisionResult::Refused, None));
    assert_eq!(decisions[1].reason.as_deref(), Some("KeyNotPermitted"));
}

#[test]
fn the_list_of_targets_is_bounded_and_begins_with_those_that_need_attention() {
    let request = request(json!({}));
    let mut outcomes: Vec<_> = (0..60).map(|i| outcome(&request, &format!("ns-{i:02}"), End::Synced)).collect();
    outcomes[59] = outcome(&request, "ns-59", End::Held(Reason::ApiError, "why".into()));
    let status = status(&request, &outcomes, &Default::default(), now());
    assert_eq!((status.targets.len(), status.targets_total, status.targets_synced), (50, Some(60), Some(59)));
    assert_eq!((status.targets[0].namespace.as_str(), status.targets[0].state), ("ns-59", TargetState::Failed));
    assert_eq!(status.targets[1].namespace, "ns-00", "else by name");
}

#[test]
fn a_message_is_bounded_whatever_the_names() {
    let long = |c: char, i: usize, length: usize| format!("{}{i:03}", c.to_string().repeat(length - 3));
    let mappings: Vec<_> = (0..64).map(|i| json!({ "from": long('s', i, 255), "to": long('k', i, 253) })).collect();
    let request = request(json!({ "secrets": mappings, "name": long('n', 0, 253), "type": long('t', 0, 253) }));
    let reasons: BTreeSet<_> = Reason::ALL.iter().copied().filter(|r| *r > Reason::NoPolicyForNamespace).collect();
    let reasons: BTreeSet<_> = reasons
        .into_iter()
        .filter(|r| *r < Reason::QuotaExceeded)
        .chain([Reason::DeniedByRule, Reason::GrantExpired])
        .collect();
    let refused = Denial { reasons: vec![reasons; 64], quota: None };
    let place = "p".repeat(63);
    let told = explain(&request, &request.target(&namespace(&place)), &refused);
    assert!(told.contains("61 more mappings, see status.decisions") && told.len() < LONGEST_MESSAGE / 4, "{told}");
    let outcomes: Vec<_> = (0..60)
        .map(|i| outcome(&request, &format!("{i:02}{}", "p".repeat(61)), End::Denied(refused.clone())))
        .collect();
    let status = status(&request, &outcomes, &Default::default(), now());
    assert!(status.conditions[0].message.contains("(and 59 more destinations"));
    assert!(status.conditions.iter().all(|condition| condition.message.len() < LONGEST_MESSAGE / 4));
    let whole = serde_json::to_string(&status).unwrap().len();
    assert!(whole < 200_000, "{whole} bytes: an object of the API server has 1.5 MB at most");
}

#[test]
fn a_refusal_speaks_of_the_request_alone() {
    let request = request(json!({ "type": "example.com/x" }));
    let told = |reasons: &[Reason]| explain(&request, &request.target(&namespace("shop")), &denial(reasons));
    let ask = "ask the platform team for a DistributionPolicy that grants it";
    for (reasons, expected, advice) in [
        (&[Reason::ReservedType][..], "type example.com/x is reserved", "choose another spec.type"),
        (&[Reason::NamespaceExcluded], "namespace shop is excluded", "xlscsde.nhs.uk/distribution=allowed"),
        (&[Reason::NoPolicyForNamespace], "no policy grants anything to namespace shop", ask),
        (&[Reason::QuotaExceeded], "namespace shop already has the 2 distributions", "raise limits.distributions"),
        (&[Reason::DeniedByRule], "source cert is denied to namespace shop", "a Deny wins over every grant"),
        (
            &[Reason::GrantExpired, Reason::SourceNotPermitted],
            "source cert was granted to namespace shop, and the grant has expired and is not granted",
            ask,
        ),
        (&[Reason::SourceNotPermitted], "source cert is not granted to namespace shop", ask),
        (&[Reason::KeyNotPermitted], "source cert is not granted for key password", ask),
        (&[Reason::TypeNotPermitted], "source cert is not granted for type example.com/x", ask),
        (&[Reason::NameNotPermitted], "source cert is not granted for a Secret named db", ask),
        (&[Reason::RequesterNotPermitted], "source cert is not granted in shop to requests from team-a", ask),
    ] {
        let told = told(reasons);
        assert!(told.starts_with(expected), "{told}");
        assert_eq!((told.contains(advice), told.contains(ask)), (true, advice == ask), "{told}");
    }
}

fn any_end() -> impl Strategy<Value = End> {
    let denials = select(vec![Reason::DeniedByRule, Reason::SourceNotPermitted, Reason::QuotaExceeded])
        .prop_map(|r| denial(&[r]));
    let held = select(vec![Reason::Suspended, Reason::NotDelegated, Reason::SourcesNotReady, Reason::ApiError]);
    // Ends of grace periods are whole seconds; the turn of a throttled request is not.
    let turn =
        (0i64..60, 0i32..1_000_000_000).prop_map(|(s, nanos)| Timestamp::new(now().as_second() + s, nanos).unwrap());
    prop_oneof![
        4 => Just(End::Synced),
        1 => held.prop_map(|reason| End::Held(reason, "why".into())),
        1 => denials.clone().prop_map(End::Denied),
        1 => (denials.clone(), 0i64..60).prop_map(|(denial, s)| End::Revoking(denial, later(s))),
        1 => denials.prop_map(End::Retained),
        1 => turn.prop_map(End::Throttled),
    ]
}

proptest! {
    #[test]
    fn ready_means_that_every_destination_is_synced(ends in vec(any_end(), 0..5)) {
        let status = of(ends.clone());
        let all = !ends.is_empty() && ends.iter().all(|end| *end == End::Synced);
        prop_assert_eq!(conditions(&status)[2].0 == "True", all, "{:?}", ends);
    }

    /// Whether it is compared with what was written, or with what the API server made of that.
    #[test]
    fn nothing_but_time_changed_is_the_same_status(ends in vec(any_end(), 0..5), passed in 0i64..1_000) {
        let request = request(json!({}));
        let outcomes: Vec<_> =
            ends.into_iter().enumerate().map(|(i, end)| outcome(&request, &format!("ns-{i}"), end)).collect();
        let first = status(&request, &outcomes, &Default::default(), Timestamp::new(999, 123_456_789).unwrap());
        prop_assert_eq!(&status(&request, &outcomes, &first, later(passed)), &first);
        prop_assert_eq!(&status(&request, &outcomes, &stored(&first), later(passed)), &stored(&first));
    }
}
