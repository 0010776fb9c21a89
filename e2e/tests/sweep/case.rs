//! Cases: which scenario, at which of the operator's calls, which fault.

use std::fmt;

use anyhow::{Context, Result};
use e2e::proxy::{Action, Call};

use crate::scenarios::{SCENARIOS, Scenario};

/// One case of the sweep.
#[derive(Clone, Debug)]
pub struct Case {
    pub scenario: &'static Scenario,
    pub at: At,
    pub fault: Fault,
}

/// A call of the operator, by what it is about and its number among those about the same. Unlike a place in the
/// sequence of all calls that is the same in every run, however the tasks of the operator take turns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// As [`about`] tells it.
    pub about: String,
    /// From 1.
    pub number: usize,
}

/// What happens at the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    name: &'static str,
    /// What the proxy does.
    pub action: Action,
    pub fate: Fate,
}

/// What becomes of the operator while the proxy holds the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lives,
    /// It is killed, and started again.
    Dies,
    /// It is killed, and a replica on standby takes over.
    IsSucceeded,
}

impl Fault {
    /// All of them, the deaths first.
    pub fn all() -> Vec<Self> {
        let deaths = [
            ("kill-before", Action::Hold, Fate::Dies),
            ("kill-after", Action::HoldReply, Fate::Dies),
            ("failover-before", Action::Hold, Fate::IsSucceeded),
            ("failover-after", Action::HoldReply, Fate::IsSucceeded),
        ];
        let faults = Action::faults().into_iter().map(|(name, action)| (name, action, Fate::Lives));
        deaths.into_iter().chain(faults).map(|(name, action, fate)| Self { name, action, fate }).collect()
    }

    /// A watch has no whole body that could be damaged: it would be held for minutes.
    fn fits(&self, at: &At) -> bool {
        let needs_whole = matches!(self.action, Action::Truncate(_) | Action::Garble);
        !(needs_whole && at.about.starts_with("watch."))
    }

    /// It lasts until the rule is lifted.
    pub fn lasts(&self) -> bool {
        matches!(self.action, Action::Hold | Action::HoldReply)
    }
}

impl Case {
    /// Every fault at each of the calls.
    pub fn all(scenario: &'static Scenario, calls: &[At]) -> Vec<Self> {
        let mut cases = Vec::new();
        for at in calls {
            let fitting = Fault::all().into_iter().filter(|fault| fault.fits(at));
            cases.extend(fitting.map(|fault| Self { scenario, at: at.clone(), fault }));
        }
        cases
    }

    /// The one that is called so.
    pub fn named(id: &str) -> Result<Self> {
        let unknown = || format!("no case of the sweep: {id}");
        let [scenario, at, fault]: [&str; 3] =
            id.split('/').collect::<Vec<_>>().try_into().ok().with_context(unknown)?;
        let scenario = SCENARIOS.iter().find(|known| known.name == scenario).with_context(unknown)?;
        let fault = Fault::all().into_iter().find(|known| known.name == fault).with_context(unknown)?;
        let (about, number) = at.rsplit_once('.').with_context(unknown)?;
        let at = At { about: about.to_owned(), number: number.parse().with_context(unknown)? };
        Ok(Self { scenario, at, fault })
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.about, self.number)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.scenario.name, self.at, self.fault.name)
    }
}

/// What a call is about: for instance `patch.status.A.r`, and of a whole namespace `list.secrets.A`.
pub fn about(call: &Call, namespace: &str) -> String {
    let what = if call.subresource.is_empty() { &call.resource } else { &call.subresource };
    let parts = [call.verb.as_str(), what, namespace, &call.name];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
}

/// The calls of a run, as cases name them, in an order that is the same for every run that has the same calls.
pub fn numbered(abouts: &[String]) -> Vec<At> {
    let number = |at: usize| abouts[..at].iter().filter(|earlier| **earlier == abouts[at]).count() + 1;
    let mut calls: Vec<_> = (0..abouts.len()).map(|i| At { about: abouts[i].clone(), number: number(i) }).collect();
    calls.sort();
    calls
}

#[test]
fn a_case_is_found_by_its_name() {
    let calls = numbered(&["list.secrets.A", "patch.status.A.r", "patch.status.A.r"].map(str::to_owned));
    let cases = Case::all(&SCENARIOS[0], &calls);
    assert_eq!(cases.len(), calls.len() * Fault::all().len());
    for case in &cases {
        assert_eq!(Case::named(&case.to_string()).unwrap().to_string(), case.to_string());
    }
    assert_eq!(cases.last().unwrap().to_string(), "create/patch.status.A.r.2/delay");
    for other in ["", "create", "create/x/delay", "create/x.1/flood", "nothing/x.1/delay", "create/x.1/delay/"] {
        assert!(Case::named(other).is_err(), "{other}");
    }
}

#[test]
fn the_readme_tells_how_many_there_are_and_how_to_play_one() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let told = readme.split_whitespace().collect::<Vec<_>>().join(" ");
    let ([walks, all], [killed, all_killed]) = (crate::WALKS, crate::KILLED_WALKS);
    let (scenarios, faults) = (SCENARIOS.len(), Fault::all().len());
    let counts = [
        format!("{scenarios} scenarios"),
        format!("{faults} faults and deaths"),
        format!("{walks} random walks, or {all}:"),
        format!("{killed} walks, or {all_killed}, during which the operator is killed"),
    ];
    assert!(counts.iter().all(|count| told.contains(count)), "{counts:?}");
    let (_, replay) = told.split_once("`SWEEP=").unwrap();
    Case::named(replay.split_once(" make suite-sweep`").unwrap().0).unwrap();
}
