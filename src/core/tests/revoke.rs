//! What becomes of a Secret whose grant is gone: the stamp of its last write says so, also after the policy is gone.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::now;
use crate::{
    api::names,
    core::{
        observed::Observed,
        policy::Revocation,
        settle::{Revoking, revoke},
    },
};

fn after(seconds: i64) -> Timestamp {
    now().checked_add(SignedDuration::from_secs(seconds)).unwrap()
}

/// What happens now to a Secret with this stamp, and with this mark of when the grant went.
fn revoking(stamp: Option<&str>, mark: Option<&str>) -> Revoking {
    let annotations = [(names::REVOCATION, stamp), (names::REVOKED_AT, mark)];
    let annotations: serde_json::Map<_, _> =
        annotations.into_iter().filter_map(|(key, value)| Some((key.to_string(), json!(value?)))).collect();
    let meta = serde_json::from_value(json!({ "annotations": annotations })).unwrap();
    revoke(&Observed::parse(meta), now())
}

#[test]
fn a_retained_secret_stays() {
    assert_eq!(revoking(Some("Retain"), None), Revoking::Retain);
    assert_eq!(revoking(Some("Retain"), Some(&after(-60).to_string())), Revoking::Retain);
}

#[test]
fn a_grace_period_begins_runs_and_ends() {
    let stamp = Some("Delete after 60s");
    assert_eq!(revoking(stamp, None), Revoking::Mark { until: after(60) });
    assert_eq!(revoking(stamp, Some(&after(-59).to_string())), Revoking::Wait { until: after(1) });
    assert_eq!(revoking(stamp, Some(&after(-60).to_string())), Revoking::Delete);
    assert_eq!(revoking(stamp, Some(&now().to_string())), Revoking::Wait { until: after(60) });
    assert_eq!(revoking(Some("Delete after 0s"), Some(&now().to_string())), Revoking::Delete);
}

#[test]
fn a_stamp_that_cannot_be_read_is_the_strict_one() {
    for stamp in [
        None,
        Some(""),
        Some("Keep"),
        Some("retain"),
        Some("Delete after"),
        Some("Delete after 1h"),
        Some("Delete after -60s"),
        Some("Delete after 99999999999999999999s"),
    ] {
        assert_eq!(revoking(stamp, None), Revoking::Delete, "{stamp:?}");
    }
}

#[test]
fn a_mark_that_is_not_ours_does_not_prolong_the_grace() {
    for mark in [after(1).to_string(), "9999-01-01T00:00:00Z".into(), "tomorrow".into(), String::new()] {
        assert_eq!(revoking(Some("Delete after 60s"), Some(&mark)), Revoking::Mark { until: after(60) }, "{mark}");
    }
}

/// The API server keeps whole seconds: the end of a grace period must be one, or each look would find another.
#[test]
fn the_end_is_a_whole_second_and_never_too_early() {
    let begun = Timestamp::new(now().as_second() - 10, 500_000_000).unwrap();
    assert_eq!(revoking(Some("Delete after 60s"), Some(&begun.to_string())), Revoking::Wait { until: after(51) });
    let almost_over = Timestamp::new(now().as_second() - 60, 500_000_000).unwrap();
    assert_eq!(revoking(Some("Delete after 60s"), Some(&almost_over.to_string())), Revoking::Wait { until: after(1) });
}

#[test]
fn the_stamp_that_is_written_is_the_stamp_that_is_read() {
    let hour = SignedDuration::from_secs(3_600);
    assert_eq!(revoking(Some(&Revocation::Retain.to_string()), None), Revoking::Retain);
    assert_eq!(revoking(Some(&Revocation::Delete(SignedDuration::ZERO).to_string()), None), Revoking::Delete);
    assert_eq!(revoking(Some(&Revocation::Delete(hour).to_string()), None), Revoking::Mark { until: after(3_600) });
}

#[test]
fn of_two_grants_the_stricter_revocation_holds() {
    let delete = |seconds| Revocation::Delete(SignedDuration::from_secs(seconds));
    assert_eq!(delete(5).stricter(delete(9)), delete(5));
    assert_eq!(Revocation::Retain.stricter(delete(9)), delete(9));
    assert_eq!(delete(9).stricter(Revocation::Retain), delete(9));
    assert_eq!(Revocation::Retain.stricter(Revocation::Retain), Revocation::Retain);
}
