//! Random walks: what people do in whatever order, with faults in between, and what it comes to.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::case::{Fate, Fault};
use crate::scene::BYSTANDER;

/// The requests that a walk is about, all in namespace A.
const REQUESTS: [&str; 2] = ["r", "s"];

/// What the only policy can grant.
const GRANTS: [&[&str]; 3] = [&["one"], &["two"], &["one", "two"]];

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A request is created, or becomes this.
    Ask(&'static str, Wish),
    /// A request is deleted, if it is there.
    Delete(&'static str),
    /// The policy grants these sources.
    Grant(&'static [&'static str]),
    /// There is no policy.
    Withdraw,
    /// Both sources change.
    Rotate,
    /// Somebody edits what a request has written, if there is something.
    Edit(&'static str),
    /// Somebody deletes it.
    Remove(&'static str),
    /// One of the operator's next calls meets a fault: the first, or a later one.
    Fault(usize, Fault),
    /// Time passes, in milliseconds.
    Pause(u64),
}

/// What a request asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Which source, under which key.
    pub mappings: &'static [(&'static str, &'static str)],
    /// Where to: a name of its own, one that somebody else has taken, or that of the request.
    pub name: Name,
    /// In namespace B, and not in A.
    pub abroad: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    OfRequest,
    Other,
    Taken,
}

/// A walk that was drawn, and can be made smaller.
pub struct Walk {
    tree: Box<dyn ValueTree<Value = Vec<Step>>>,
}

impl Walk {
    /// The walk of that number is always the same.
    pub fn draw(number: u64) -> Result<Self> {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let tree = vec(step(), 4..16).boxed().new_tree(&mut runner);
        let tree = tree.map_err(|error| anyhow::anyhow!("{error}")).context("no walk can be drawn")?;
        Ok(Self { tree })
    }

    pub fn steps(&self) -> Vec<Step> {
        self.tree.current()
    }

    /// Makes it smaller after it has failed, or larger after it has not. False: there is no other to try.
    pub fn narrow(&mut self, failed: bool) -> bool {
        if failed { self.tree.simplify() } else { self.tree.complicate() }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let request = || select(&REQUESTS[..]);
    prop_oneof![
        5 => (request(), wish()).prop_map(|(request, wish)| Step::Ask(request, wish)),
        2 => request().prop_map(Step::Delete),
        3 => select(&GRANTS[..]).prop_map(Step::Grant),
        1 => Just(Step::Withdraw),
        2 => Just(Step::Rotate),
        1 => request().prop_map(Step::Edit),
        1 => request().prop_map(Step::Remove),
        4 => (0..4_usize, fault()).prop_map(|(number, fault)| Step::Fault(number, fault)),
        3 => (0..800_u64).prop_map(Step::Pause),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    const MAPPINGS: [&[(&str, &str)]; 4] =
        [&[("one", "k")], &[("two", "k")], &[("one", "k"), ("two", "l")], &[("one", "other")]];
    let name = prop_oneof![4 => Just(Name::OfRequest), 2 => Just(Name::Other), 1 => Just(Name::Taken)];
    let wish = (select(&MAPPINGS[..]), name, option::weighted(0.25, Just(())));
    wish.prop_map(|(mappings, name, abroad)| match (name, abroad) {
        // Only in A there is somebody else's Secret.
        (Name::Taken, Some(())) => Wish { mappings, name: Name::OfRequest, abroad: true },
        _ => Wish { mappings, name, abroad: abroad.is_some() },
    })
}

/// One in which the operator lives: the others are of all walks at once.
fn fault() -> impl Strategy<Value = Fault> {
    any::<Index>().prop_map(|index| {
        let faults: Vec<_> = Fault::all().into_iter().filter(|fault| fault.fate == Fate::Lives).collect();
        index.get(&faults).clone()
    })
}

impl Wish {
    /// The name of the Secret, for a request of that name.
    pub fn secret(&self, request: &str) -> String {
        match self.name {
            Name::OfRequest => request.to_owned(),
            Name::Other => format!("{request}-other"),
            Name::Taken => BYSTANDER.to_owned(),
        }
    }

    fn place(&self) -> &'static str {
        if self.abroad { "B" } else { "A" }
    }
}

/// What there is after all steps, when all has come to rest: a function of what was asked for, and not of the faults.
/// In the words of [`e2e::state`], what is in A first.
pub fn end(steps: &[Step]) -> Vec<String> {
    let (mut requests, mut granted, mut generation) = (BTreeMap::new(), None, 1);
    for step in steps {
        match step {
            Step::Ask(request, wish) => drop(requests.insert(*request, wish)),
            Step::Delete(request) => drop(requests.remove(request)),
            Step::Grant(sources) => granted = Some(*sources),
            Step::Withdraw => granted = None,
            Step::Rotate => generation += 1,
            Step::Edit(_) | Step::Remove(_) | Step::Fault(..) | Step::Pause(_) => {}
        }
    }
    let mut lines = Vec::new();
    for (request, wish) in requests {
        let is_granted = |sources: &[&str]| wish.mappings.iter().all(|(source, _)| sources.contains(source));
        let (place, secret) = (wish.place(), wish.secret(request));
        let reason = match granted {
            None => Err("NoPolicyForNamespace"),
            Some(sources) if !is_granted(sources) => Err("SourceNotPermitted"),
            Some(_) if wish.name == Name::Taken => Err("TargetConflict"),
            Some(_) => Ok(()),
        };
        if let Err(reason) = reason {
            lines.push(format!("request A/{request} False {reason} []"));
            continue;
        }
        let content = wish.mappings.iter().map(|(source, key)| format!("{key}=gen-{generation}:{source}"));
        let content = content.collect::<Vec<_>>().join(" ");
        let owned = if wish.abroad { "" } else { " (owned)" };
        lines.push(format!("request A/{request} True Ready [{place}/{secret}]"));
        lines.push(format!("secret {place}/{secret} Opaque {{{content}}} of A/{request}{owned}"));
    }
    lines.sort_by_key(|line| (line.starts_with("secret B/"), line.clone()));
    lines
}

impl fmt::Display for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps().iter().try_for_each(|step| writeln!(f, "  {step:?}"))
    }
}

#[test]
fn the_end_is_that_of_the_last_steps() {
    let wish = |name, abroad| Wish { mappings: &[("one", "k")], name, abroad };
    let mut steps = vec![
        Step::Ask("s", wish(Name::OfRequest, true)),
        Step::Ask("r", wish(Name::OfRequest, false)),
        Step::Grant(&["one"]),
        Step::Rotate,
        Step::Ask("r", wish(Name::Other, false)),
    ];
    assert_eq!(
        end(&steps),
        [
            "request A/r True Ready [A/r-other]",
            "request A/s True Ready [B/s]",
            "secret A/r-other Opaque {k=gen-2:one} of A/r (owned)",
            "secret B/s Opaque {k=gen-2:one} of A/s",
        ]
    );
    steps.extend([Step::Delete("s"), Step::Grant(&["two"])]);
    assert_eq!(end(&steps), ["request A/r False SourceNotPermitted []"]);
    steps.extend([Step::Withdraw, Step::Grant(&["one"]), Step::Ask("r", wish(Name::Taken, false))]);
    assert_eq!(end(&steps), ["request A/r False TargetConflict []"]);
}

#[test]
fn a_walk_is_the_same_each_time_and_becomes_smaller() {
    let told = |walk: &Walk| format!("{:?}", walk.steps());
    let mut walk = Walk::draw(7).unwrap();
    assert_eq!(told(&walk), told(&Walk::draw(7).unwrap()));
    assert_ne!(told(&walk), told(&Walk::draw(8).unwrap()));
    while walk.narrow(true) {}
    assert_eq!(walk.steps().len(), 4, "the least number of steps");
}
