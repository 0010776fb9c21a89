//! What a scene has granted, and from when until when.

use std::time::{Duration, SystemTime};

use crate::run::HELD;

/// How long after the end of a grant what it granted may still be written: a write that was on its way is held, and then goes
/// on.
const ON_ITS_WAY: Duration = HELD.saturating_mul(2);

/// The grants of one scene.
#[derive(Debug, Default)]
pub struct Permits(Vec<Permit>);

#[derive(Debug)]
struct Permit {
    policy: String,
    sources: Vec<String>,
    from: SystemTime,
    until: Option<SystemTime>,
}

impl Permits {
    /// The policy grants these sources and no others. `from` is before it was written, and now is after that.
    pub fn grant(&mut self, policy: &str, sources: &[&str], from: SystemTime) {
        self.end(policy, SystemTime::now());
        let sources = sources.iter().map(ToString::to_string).collect();
        self.0.push(Permit { policy: policy.to_owned(), sources, from, until: None });
    }

    /// The policy grants nothing from then on.
    pub fn end(&mut self, policy: &str, at: SystemTime) {
        let lasting = self.0.iter_mut().filter(|permit| permit.policy == policy && permit.until.is_none());
        lasting.for_each(|permit| permit.until = Some(at));
    }

    /// Whether what was written then may hold what the source held.
    pub fn allow(&self, source: &str, at: SystemTime) -> bool {
        let lasts = |permit: &Permit| permit.from <= at && permit.until.is_none_or(|until| at <= until + ON_ITS_WAY);
        self.0.iter().any(|permit| lasts(permit) && permit.sources.iter().any(|granted| granted == source))
    }
}

#[test]
fn a_grant_holds_from_its_beginning_until_what_was_on_its_way_has_arrived() {
    let start = SystemTime::now();
    let (second, later) = (Duration::from_secs(1), start + Duration::from_secs(3600));
    let mut permits = Permits::default();
    assert!(!permits.allow("one", start));
    permits.grant("main", &["one"], start);
    assert!(permits.allow("one", later) && !permits.allow("two", later) && !permits.allow("one", start - second));
    permits.grant("main", &["two"], start);
    assert!(permits.allow("two", later) && !permits.allow("one", later) && permits.allow("one", start + second));
    permits.grant("other", &["one"], start);
    permits.end("main", later);
    assert!(permits.allow("two", later + ON_ITS_WAY) && !permits.allow("two", later + ON_ITS_WAY + second));
    assert!(permits.allow("one", later + ON_ITS_WAY + second));
}
