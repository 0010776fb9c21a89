//! Elections in simulated time: requests and answers that are late or lost, processes that freeze, die and come
//! back, clocks that do not run alike, and people who edit the Lease.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use proptest::prelude::*;
use tokio::time::Instant;

use super::elector::{Elector, Identity, Move, Pace};

/// Milliseconds since the start.
type Time = u64;

const DURATION: Duration = Duration::from_secs(12);

/// Long enough for any failover after the last trouble.
const QUIET: Time = 60_000;

#[derive(Clone, Debug)]
enum Event {
    Think { call: u64 },
    Arrive { call: u64, sent: Time, request: Move },
    Answer { call: u64, sent: Time, answer: Answer },
    GiveUp { call: u64 },
    Trouble(Trouble),
}

#[derive(Clone, Debug)]
enum Answer {
    Seen(Option<Lease>),
    Held(Lease),
    Conflict,
}

#[derive(Clone, Debug)]
enum Trouble {
    Freeze(Time),
    Crash { restart_after: Time, same_name: bool },
    Stop { restart_after: Time },
    DeleteLease,
    InstallLease,
    TouchLease,
    ChangeHolder(Option<usize>),
    ChangeDuration(i32),
}

/// The API server, as far as a Lease goes.
#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
}

impl Server {
    fn handle(&mut self, request: Move) -> Answer {
        match request {
            Move::Create(lease) if self.lease.is_none() => Answer::Seen(Some(self.store(lease))),
            Move::Replace(lease) if self.is_current(&lease) => Answer::Held(self.store(lease)),
            Move::Create(_) | Move::Replace(_) => Answer::Conflict,
            Move::Look | Move::Rest(_) => Answer::Seen(self.lease.clone()),
        }
    }

    fn is_current(&self, lease: &Lease) -> bool {
        self.lease.as_ref().is_some_and(|stored| stored.metadata.resource_version == lease.metadata.resource_version)
    }

    fn store(&mut self, mut lease: Lease) -> Lease {
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease.insert(lease).clone()
    }

    fn edit(&mut self, edit: impl FnOnce(&mut Lease)) {
        if let Some(mut lease) = self.lease.take() {
            edit(&mut lease);
            self.store(lease);
        }
    }
}

struct Process {
    identity: Identity,
    elector: Elector,
    /// How fast its clock runs, in thousandths.
    rate: u64,
    /// What it waits for; the answers to others are none of its business any more.
    call: u64,
    frozen_until: Time,
}

struct World {
    start: Instant,
    now: Time,
    server: Server,
    processes: Vec<Process>,
    events: BTreeMap<(Time, u64), (usize, Event)>,
    count: u64,
    random: u64,
    /// After this nothing is late or lost.
    quiet_from: Time,
    /// Whether replicas have names of their own, which a process that is started again can rely on.
    named: bool,
}

impl World {
    fn new(replicas: usize, lease: Option<Lease>, seed: u64) -> Self {
        let start = Instant::now();
        let (server, random) = (Server { lease, version: 0 }, seed);
        let (processes, events) = (Vec::new(), BTreeMap::new());
        let mut world = Self { start, now: 0, server, processes, events, count: 0, random, quiet_from: 0, named: true };
        for i in 0..replicas {
            let rate = 950 + world.draw(100);
            let identity = world.identity(i, true);
            let elector = Elector::new(identity.clone(), DURATION.into(), start);
            world.processes.push(Process { identity, elector, rate, call: 0, frozen_until: 0 });
            let first = world.draw(100);
            world.at(first, i, Event::Think { call: 0 });
        }
        world
    }

    fn identity(&mut self, i: usize, named: bool) -> Identity {
        self.count += 1;
        let name = format!("replica-{i}");
        Identity::new((named && self.named).then_some(&*name), "host", &self.count.to_string())
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    /// How long a message travels; `None`: it is lost.
    fn travel(&mut self) -> Option<Time> {
        match self.draw(20) {
            _ if self.now >= self.quiet_from => Some(1 + self.draw(20)),
            0 => None,
            1 | 2 => Some(self.draw(20_000)),
            3..=6 => Some(self.draw(3_000)),
            _ => Some(self.draw(50)),
        }
    }

    fn at(&mut self, time: Time, i: usize, event: Event) {
        self.count += 1;
        self.events.insert((time, self.count), (i, event));
    }

    /// The time of a process, by its own clock.
    fn local(&self, i: usize, time: Time) -> Instant {
        self.start + Duration::from_micros(time * self.processes[i].rate)
    }

    fn leaders(&self) -> Vec<usize> {
        let leads = |i: &usize| {
            let process = &self.processes[*i];
            process.elector.leads_until().is_some_and(|until| self.local(*i, self.now) < until)
        };
        (0..self.processes.len()).filter(leads).collect()
    }

    /// Runs until `end`, or until the condition holds.
    fn run(&mut self, end: Time, mut done: impl FnMut(&Self) -> bool) {
        while let Some((&(time, _), _)) = self.events.first_key_value()
            && time <= end
            && !done(self)
        {
            let Some((_, (i, event))) = self.events.pop_first() else { return };
            self.now = time;
            self.step(i, event);
            let leaders = self.leaders();
            assert!(leaders.len() < 2, "{leaders:?} lead at {time} ms");
        }
    }

    fn step(&mut self, i: usize, event: Event) {
        let own = !matches!(event, Event::Arrive { .. } | Event::Trouble(_));
        if own && self.processes[i].frozen_until > self.now {
            return self.at(self.processes[i].frozen_until, i, event);
        }
        let now = self.local(i, self.now);
        let current = |call: u64| self.processes[i].call == call;
        match event {
            Event::Think { call } if current(call) => self.think(i),
            Event::Arrive { call, sent, request } => {
                let answer = self.server.handle(request);
                if let Some(travel) = self.travel() {
                    self.at(self.now + travel, i, Event::Answer { call, sent, answer });
                }
            }
            Event::Answer { call, sent, answer } if current(call) => {
                let sent = self.local(i, sent);
                let elector = &mut self.processes[i].elector;
                match answer {
                    Answer::Seen(lease) => elector.saw(lease, now),
                    Answer::Held(lease) => elector.wrote(lease, sent, now),
                    Answer::Conflict => elector.conflicted(now),
                }
                self.think(i);
            }
            Event::GiveUp { call } if current(call) => {
                self.processes[i].elector.failed(now);
                self.think(i);
            }
            Event::Trouble(trouble) => self.trouble(i, trouble),
            _ => {}
        }
    }

    fn think(&mut self, i: usize) {
        self.count += 1;
        let call = self.count;
        self.processes[i].call = call;
        let wall = Timestamp::UNIX_EPOCH + Duration::from_micros(self.now * 1000 + i as u64);
        let now = self.local(i, self.now);
        match self.processes[i].elector.next(now, wall) {
            Move::Rest(until) => {
                let wait = until.duration_since(now).as_micros() as u64 / self.processes[i].rate + 1;
                self.at(self.now + wait, i, Event::Think { call });
            }
            request => self.send(i, request),
        }
    }

    fn send(&mut self, i: usize, request: Move) {
        let (call, sent) = (self.processes[i].call, self.now);
        if let Some(travel) = self.travel() {
            self.at(self.now + travel, i, Event::Arrive { call, sent, request });
        }
        let patience = Pace::from(DURATION).patience.as_millis() as Time;
        self.at(self.now + patience, i, Event::GiveUp { call });
    }

    fn trouble(&mut self, i: usize, trouble: Trouble) {
        match trouble {
            Trouble::Freeze(span) => self.processes[i].frozen_until = self.now + span,
            Trouble::Crash { restart_after, same_name } => self.restart(i, restart_after, same_name),
            Trouble::Stop { restart_after } => {
                let released = self.processes[i].elector.release(Timestamp::UNIX_EPOCH);
                released.into_iter().for_each(|lease| self.send(i, Move::Replace(lease)));
                self.restart(i, restart_after, false);
            }
            Trouble::DeleteLease => self.server.lease = None,
            Trouble::InstallLease if self.server.lease.is_none() => drop(self.server.store(Lease::default())),
            Trouble::InstallLease => {}
            Trouble::TouchLease => self.server.edit(|_| {}),
            Trouble::ChangeHolder(holder) => {
                let holder = holder.map(|holder| self.processes[holder].identity.holder().to_string());
                self.server.edit(|lease| lease.spec.get_or_insert_default().holder_identity = holder);
            }
            Trouble::ChangeDuration(seconds) => {
                self.server.edit(|lease| lease.spec.get_or_insert_default().lease_duration_seconds = Some(seconds));
            }
        }
    }

    /// Another process in place of this one; it knows nothing.
    fn restart(&mut self, i: usize, after: Time, same_name: bool) {
        let restart = self.now + after;
        let identity = self.identity(i, same_name);
        let elector = Elector::new(identity.clone(), DURATION.into(), self.local(i, restart));
        let (rate, call) = (self.processes[i].rate, self.count);
        self.processes[i] = Process { identity, elector, rate, call, frozen_until: restart };
        self.at(restart, i, Event::Think { call });
    }
}

fn trouble() -> impl Strategy<Value = Trouble> {
    let restart = (0..20_000u64, any::<bool>());
    prop_oneof![
        4 => (0..40_000u64).prop_map(Trouble::Freeze),
        2 => restart.prop_map(|(restart_after, same_name)| Trouble::Crash { restart_after, same_name }),
        1 => (0..20_000u64).prop_map(|restart_after| Trouble::Stop { restart_after }),
        2 => Just(Trouble::DeleteLease),
        1 => Just(Trouble::TouchLease),
        2 => proptest::option::of(0..3usize).prop_map(Trouble::ChangeHolder),
        1 => prop_oneof![Just(2), Just(1_000_000)].prop_map(Trouble::ChangeDuration),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn two_never_lead_at_a_time_and_in_the_end_one_does(
        seed: u64,
        exists: bool,
        troubles in proptest::collection::vec((0..120_000u64, 0..3usize, trouble()), 0..20),
    ) {
        let mut world = World::new(3, exists.then(Lease::default), seed);
        world.quiet_from = 160_000;
        // Who enters a replica as the holder says of its process that it wrote: that is believed, if it crashes.
        world.named = !troubles.iter().any(|(.., trouble)| matches!(trouble, Trouble::ChangeHolder(Some(_))));
        for (time, i, trouble) in troubles {
            world.at(time, i, Event::Trouble(trouble));
        }
        world.run(160_000 + QUIET, |_| false);
        // A duration that somebody wrote is waited for, up to a bound.
        world.run(160_000 + QUIET + 300_000, |world| world.leaders().len() == 1);
        prop_assert_eq!(world.leaders().len(), 1);
    }
}

/// Runs until somebody leads; answers who, and how long it took.
fn until_led(world: &mut World) -> (usize, Time) {
    let start = world.now;
    world.run(start + QUIET, |world| !world.leaders().is_empty());
    (world.leaders()[0], world.now - start)
}

#[test]
fn the_first_start_leads_at_once_where_the_lease_was_installed_and_waits_where_there_is_none() {
    let (_, took) = until_led(&mut World::new(1, Some(Lease::default()), 1));
    assert!(took < 300, "{took} ms");
    let (_, took) = until_led(&mut World::new(1, None, 1));
    assert!((11_000..14_000).contains(&took), "another could have it that was deleted: {took} ms");
}

#[test]
fn a_failover_takes_less_than_15_s_and_a_hand_over_less_than_2_s() {
    for phase in (0..6_000).step_by(50) {
        let mut world = World::new(2, Some(Lease::default()), phase);
        let (first, _) = until_led(&mut world);
        world.run(20_000 + phase, |_| false);
        let away = Trouble::Crash { restart_after: 1_000_000, same_name: true };
        let at = world.now;
        world.step(first, Event::Trouble(away));
        let (second, took) = until_led(&mut world);
        assert!(second != first && took < 15_000, "a failover at {at} ms took {took} ms");

        world.step(first, Event::Trouble(Trouble::Crash { restart_after: 0, same_name: true }));
        world.run(world.now + 5_000, |_| false);
        world.step(second, Event::Trouble(Trouble::Stop { restart_after: 1_000_000 }));
        let (third, took) = until_led(&mut world);
        assert!(third == first && took < 1_500, "a hand-over took {took} ms");
    }
}

#[test]
fn a_process_of_the_same_name_takes_over_at_once() {
    for (same_name, soonest, latest) in [(true, 0, 500), (false, 10_000, 15_000)] {
        let mut world = World::new(1, Some(Lease::default()), 7);
        until_led(&mut world);
        world.run(20_000, |_| false);
        world.step(0, Event::Trouble(Trouble::Crash { restart_after: 100, same_name }));
        let (_, took) = until_led(&mut world);
        assert!((soonest..latest).contains(&took), "{took} ms");
    }
}

#[test]
fn a_leader_goes_on_when_somebody_touches_or_deletes_the_lease_and_stops_when_another_is_entered() {
    for goes_on in [true, false] {
        for phase in 0..100 {
            let mut world = World::new(2, Some(Lease::default()), phase);
            let (leader, _) = until_led(&mut world);
            world.run(20_000 + phase * 31, |_| false);
            let trouble = match (goes_on, phase % 3) {
                (true, 0) => Trouble::TouchLease,
                (true, 1) => Trouble::ChangeHolder(None),
                (true, _) => Trouble::DeleteLease,
                (false, _) => Trouble::ChangeHolder(Some(1 - leader)),
            };
            world.step(leader, Event::Trouble(trouble.clone()));
            let end = world.now + 5_000;
            world.run(end, |world| world.leaders().is_empty());
            assert_eq!(world.leaders() == [leader], goes_on, "{trouble:?}");
        }
    }
}

#[test]
fn a_lease_that_was_deleted_and_installed_anew_is_not_free_to_those_who_knew_the_one_before() {
    for phase in 0..100 {
        let mut world = World::new(3, Some(Lease::default()), phase);
        let (leader, _) = until_led(&mut world);
        world.run(20_000 + phase * 31, |_| false);
        world.step(leader, Event::Trouble(Trouble::Freeze(5_000)));
        world.step(leader, Event::Trouble(Trouble::DeleteLease));
        world.step(leader, Event::Trouble(Trouble::InstallLease));
        world.run(world.now + 30_000, |_| false);
        assert_eq!(world.leaders().len(), 1);
    }
}
