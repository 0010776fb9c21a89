//! Decisions: in a world of which bytes tell what is in it, the policies that were compiled decide as the documentation
//! words it.

use std::sync::LazyLock;

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::{
    generate::{Quotas, a_namespace, policy, request},
    model::{Change, Model},
};

/// It reads the environment, each time it is made.
static CONFIG: LazyLock<Config> = LazyLock::new(Config::default);

/// The most objects of a world.
const OBJECTS: usize = 40;

/// Four bytes for each object: what it is, and what it is drawn from.
pub fn check(bytes: &[u8]) {
    let disagreements = Model::of(bytes.chunks_exact(4).take(OBJECTS).map(object)).disagreements();
    assert!(disagreements.is_empty(), "{disagreements:#?}");
}

fn object(bytes: &[u8]) -> Change {
    match bytes[0] % 3 {
        0 => Change::Policy(drawn(policy(Quotas::Some), &bytes[1..])),
        1 => Change::Namespace(drawn(a_namespace(), &bytes[1..])),
        _ => Change::Request(drawn(request(), &bytes[1..])),
    }
}

fn drawn<S: Strategy>(strategy: S, from: &[u8]) -> S::Value {
    let mut seed = [0; 32];
    seed[..from.len()].copy_from_slice(from);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    strategy.new_tree(&mut TestRunner::new_with_rng(CONFIG.clone(), rng)).unwrap().current()
}
