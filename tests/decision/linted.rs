//! A rule of which is found that it does nothing does nothing: without it the same is granted.

use jiff::SignedDuration;
use kube::ResourceExt;
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use secrets_distributor::{
    api::{DistributionPolicy, findings::FindingCode},
    core::{
        lint::{self, File, Finding},
        policy::Policy,
    },
};

use super::{
    generate::{Quotas, world},
    model::{Change, Model, now, permitted},
};

/// What is found in the policies of a model, each in a file of its name.
fn found(model: &Model) -> Vec<Finding> {
    let compiled = model.policies.values().filter(|policy| Policy::parse(policy).is_ok());
    let texts: Vec<_> = compiled.map(|policy| (policy.name_any(), serde_json::to_string(policy).unwrap())).collect();
    let files: Vec<_> = texts.iter().map(|(name, text)| File { name, text }).collect();
    lint::check(&files, now()).0
}

/// The policy without the rule, if there is a rule left.
fn without(policy: &DistributionPolicy, field: &str) -> Option<Change> {
    let index = field.strip_prefix("spec.rules[").and_then(|rest| rest.split(']').next()?.parse().ok()).unwrap();
    let mut policy = policy.clone();
    policy.spec.rules.remove(index);
    (!policy.spec.rules.is_empty()).then_some(Change::Policy(policy))
}

const IDLE: [FindingCode; 2] = [FindingCode::DenyHidesAllow, FindingCode::Redundant];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_rule_that_does_nothing_can_go(changes in world(Quotas::None)) {
        let model = Model::of(changes);
        for finding in found(&model).into_iter().filter(|finding| IDLE.contains(&finding.code)) {
            let mut changed = model.clone();
            let rest = without(&model.policies[&finding.file], &finding.field);
            changed.take_in(rest.unwrap_or(Change::PolicyGone(finding.file.clone())));
            prop_assert_eq!(permitted(&model.world()), permitted(&changed.world()), "{:?}", finding);
        }
    }

    /// Except for what has no effect as long as the time is another one.
    #[test]
    fn a_policy_that_is_over_can_go(changes in world(Quotas::None)) {
        let model = Model::of(changes);
        for finding in found(&model).into_iter().filter(|finding| finding.code == FindingCode::Expired) {
            let mut changed = model.clone();
            changed.take_in(Change::PolicyGone(finding.file.clone()));
            let later = now() + SignedDuration::from_secs(3600);
            prop_assert!(Policy::parse(&model.policies[&finding.file]).unwrap().is_expired(later));
            prop_assert_eq!(permitted(&model.world()), permitted(&changed.world()));
        }
    }
}

#[test]
fn such_rules_occur() {
    let (mut runner, strategy) = (TestRunner::deterministic(), world(Quotas::None));
    let worlds = (0..400).map(|_| Model::of(strategy.new_tree(&mut runner).unwrap().current()));
    let codes: Vec<_> = worlds.flat_map(|model| found(&model)).map(|finding| finding.code).collect();
    for code in IDLE.iter().chain([&FindingCode::Expired]) {
        let count = codes.iter().filter(|found| *found == code).count();
        assert!(count >= 10, "{code:?}: {count}");
    }
}
