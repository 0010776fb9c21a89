//! Randomness that can be replayed.

/// A generator whose seed is printed, or is the one that `E2E_SEED` names.
pub fn seeded(what: &str) -> fastrand::Rng {
    let given = std::env::var("E2E_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("{what}: replay with E2E_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
