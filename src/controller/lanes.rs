//! One lane per namespace, taken from in turns.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{cause::Cause, queue::Priority};
use crate::core::name::{NamespaceName, RequestKey};

/// Due keys. Revocations of all namespaces go first, in turns; then each namespace in turn gives the most urgent
/// of its keys.
#[derive(Debug)]
pub struct Lanes {
    queued: HashMap<RequestKey, (Priority, Cause)>,
    revocations: Turns,
    rest: Turns,
    running: HashMap<NamespaceName, usize>,
    most: usize,
}

/// Namespaces in turns, and the keys of each by priority.
#[derive(Debug, Default)]
struct Turns {
    lanes: HashMap<NamespaceName, BTreeMap<Priority, VecDeque<RequestKey>>>,
    turn: VecDeque<NamespaceName>,
}

impl Lanes {
    /// No namespace has more than `most` keys (at least one) worked on at a time.
    pub fn new(most: usize) -> Self {
        let (queued, revocations, rest, running) = Default::default();
        Self { queued, revocations, rest, running, most: most.max(1) }
    }

    /// Adds a key; or one more cause to it, which may make it more urgent.
    pub fn add(&mut self, key: RequestKey, priority: Priority, mut cause: Cause) {
        if let Some((known, why)) = self.queued.get_mut(&key) {
            if *known <= priority {
                return why.merge(cause);
            }
            cause.merge(why.clone());
        }
        self.queued.insert(key.clone(), (priority, cause));
        let turns = if priority == Priority::Revocation { &mut self.revocations } else { &mut self.rest };
        turns.add(key, priority);
    }

    /// Drops the keys that are not to be kept.
    pub fn retain(&mut self, keep: impl Fn(&RequestKey) -> bool) {
        self.queued.retain(|key, _| keep(key));
        self.revocations.retain(&keep);
        self.rest.retain(&keep);
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.queued.len()
    }

    /// How many keys there are of each priority.
    pub fn depth(&self) -> BTreeMap<Priority, usize> {
        let mut depth = BTreeMap::from(Priority::ALL.map(|priority| (priority, 0)));
        self.queued.values().for_each(|(priority, _)| *depth.entry(*priority).or_default() += 1);
        depth
    }

    /// Takes the key whose turn it is.
    pub fn take(&mut self) -> Option<(RequestKey, Cause)> {
        let Self { queued, revocations, rest, running, most } = self;
        let free = |namespace: &NamespaceName| running.get(namespace).is_none_or(|count| count < most);
        let key = revocations.take(queued, &free).or_else(|| rest.take(queued, &free))?;
        let (_, cause) = queued.remove(&key)?;
        *running.entry(key.namespace.clone()).or_default() += 1;
        Some((key, cause))
    }

    /// The work for a key of the namespace is over.
    pub fn finished(&mut self, namespace: &NamespaceName) {
        if let Some(count) = self.running.get_mut(namespace) {
            *count -= 1;
            if *count == 0 {
                self.running.remove(namespace);
            }
        }
    }
}

impl Turns {
    fn add(&mut self, key: RequestKey, priority: Priority) {
        let lane = self.lanes.entry(key.namespace.clone()).or_insert_with(|| {
            self.turn.push_back(key.namespace.clone());
            BTreeMap::new()
        });
        lane.entry(priority).or_default().push_back(key);
    }

    fn retain(&mut self, keep: &impl Fn(&RequestKey) -> bool) {
        self.lanes.retain(|_, lane| {
            lane.retain(|_, keys| {
                keys.retain(keep);
                !keys.is_empty()
            });
            !lane.is_empty()
        });
        self.turn.retain(|namespace| self.lanes.contains_key(namespace));
    }

    /// The next key of the first namespace that is free and has one.
    fn take(
        &mut self,
        queued: &HashMap<RequestKey, (Priority, Cause)>,
        free: &impl Fn(&NamespaceName) -> bool,
    ) -> Option<RequestKey> {
        for _ in 0..self.turn.len() {
            let namespace = self.turn.pop_front()?;
            let taken = if free(&namespace) { self.take_from(&namespace, queued) } else { None };
            if self.lanes.contains_key(&namespace) {
                self.turn.push_back(namespace);
            }
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    /// A key that was made more urgent stands in two places: only the one that `queued` knows counts.
    fn take_from(
        &mut self,
        namespace: &NamespaceName,
        queued: &HashMap<RequestKey, (Priority, Cause)>,
    ) -> Option<RequestKey> {
        let lane = self.lanes.get_mut(namespace)?;
        let mut taken = None;
        while let (None, Some(mut entry)) = (&taken, lane.first_entry()) {
            let priority = *entry.key();
            let counts = |key: &RequestKey| queued.get(key).is_some_and(|(known, _)| *known == priority);
            taken = entry.get_mut().pop_front().filter(counts);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        if lane.is_empty() {
            self.lanes.remove(namespace);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::{super::cause::CauseKind, *};
    use crate::core::name::SecretName;

    fn key(namespace: &str, name: &str) -> RequestKey {
        RequestKey { namespace: NamespaceName::parse(namespace).unwrap(), name: SecretName::parse(name).unwrap() }
    }

    fn add(lanes: &mut Lanes, key: RequestKey, priority: Priority) {
        lanes.add(key, priority, Cause::new(CauseKind::Request));
    }

    fn drain(lanes: &mut Lanes) -> Vec<String> {
        let mut order = Vec::new();
        while let Some((key, _)) = lanes.take() {
            lanes.finished(&key.namespace);
            order.push(key.to_string());
        }
        order
    }

    #[test]
    fn a_quiet_namespace_is_next_however_much_another_has_to_do() {
        let mut lanes = Lanes::new(16);
        (0..10_000).for_each(|i| add(&mut lanes, key("noisy", &format!("r{i}")), Priority::Rotation));
        lanes.take();
        add(&mut lanes, key("quiet", "r"), Priority::Change);
        let next = [lanes.take(), lanes.take()].map(|taken| taken.unwrap().0.namespace.to_string());
        assert!(next.contains(&"quiet".to_string()), "{next:?}");
    }

    #[test]
    fn revocations_go_first_and_within_a_namespace_the_more_urgent() {
        let mut lanes = Lanes::new(16);
        add(&mut lanes, key("a", "retry"), Priority::Retry);
        add(&mut lanes, key("a", "change"), Priority::Change);
        add(&mut lanes, key("a", "rotation"), Priority::Rotation);
        add(&mut lanes, key("b", "change"), Priority::Change);
        add(&mut lanes, key("b", "revocation"), Priority::Revocation);
        assert_eq!(drain(&mut lanes), ["b/revocation", "a/rotation", "b/change", "a/change", "a/retry"]);
    }

    #[test]
    fn a_key_that_becomes_more_urgent_is_taken_once() {
        let mut lanes = Lanes::new(16);
        add(&mut lanes, key("a", "x"), Priority::Retry);
        add(&mut lanes, key("a", "y"), Priority::Change);
        add(&mut lanes, key("a", "x"), Priority::Revocation);
        add(&mut lanes, key("a", "x"), Priority::Rotation);
        assert_eq!(drain(&mut lanes), ["a/x", "a/y"]);
    }

    #[test]
    fn what_is_not_kept_is_not_taken_and_leaves_no_lane() {
        let mut lanes = Lanes::new(16);
        add(&mut lanes, key("a", "x"), Priority::Retry);
        add(&mut lanes, key("a", "x"), Priority::Revocation);
        add(&mut lanes, key("a", "y"), Priority::Change);
        add(&mut lanes, key("b", "y"), Priority::Revocation);
        lanes.retain(|key| key.name.as_str() == "y");
        assert_eq!((lanes.len(), lanes.revocations.turn.len(), lanes.rest.turn.len()), (2, 1, 1));
        assert_eq!(drain(&mut lanes), ["b/y", "a/y"]);
    }

    #[test]
    fn one_namespace_never_holds_every_worker() {
        let mut lanes = Lanes::new(2);
        (0..5).for_each(|i| add(&mut lanes, key("slow", &format!("r{i}")), Priority::Change));
        assert!(lanes.take().is_some() && lanes.take().is_some());
        assert_eq!(lanes.take(), None);
        add(&mut lanes, key("other", "r"), Priority::Retry);
        assert_eq!(lanes.take().unwrap().0, key("other", "r"));
        lanes.finished(&NamespaceName::parse("slow").unwrap());
        assert_eq!(lanes.take().unwrap().0.namespace.as_str(), "slow");
    }
}
