//! The work queue.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    super::{
        cause::{Cause, CauseKind},
        queue::{Load, Priority, Queue, Turn},
    },
    *,
};

/// What is put off is a word here.
fn queue() -> Queue<&'static str> {
    Queue::new(16)
}

fn key(name: &str) -> RequestKey {
    RequestKey { namespace: NamespaceName::parse("ns").unwrap(), name: SecretName::parse(name).unwrap() }
}

fn cause() -> Cause {
    Cause::new(CauseKind::Request)
}

async fn next_now(queue: &Queue<&str>) -> Option<RequestKey> {
    tokio::time::timeout(Duration::from_millis(1), next(queue)).await.ok()
}

async fn next(queue: &Queue<&str>) -> RequestKey {
    work(queue).await.0
}

async fn work(queue: &Queue<&str>) -> (RequestKey, Cause) {
    match queue.next().await {
        Turn::Work(key, cause) => (key, cause),
        Turn::End(key, end) => panic!("{key}: {end}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_is_queued_once_and_never_worked_on_twice_at_a_time() {
    let queue = queue();
    queue.add([key("a"), key("a"), key("b")], Priority::Change, &cause());
    assert_eq!(next_now(&queue).await, Some(key("a")));
    queue.add([key("a")], Priority::Change, &cause());
    assert_eq!(next_now(&queue).await, Some(key("b")));
    assert_eq!(next_now(&queue).await, None, "a is being worked on");
    queue.done(&key("a"));
    assert_eq!(next_now(&queue).await, Some(key("a")), "a came in again meanwhile");
    queue.done(&key("a"));
    assert_eq!(next_now(&queue).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_later_key_is_due_at_the_nearest_of_its_instants() {
    let queue = queue();
    let start = Instant::now();
    queue.add_after(key("a"), Duration::from_secs(60), Priority::Retry, cause());
    queue.add_after(key("a"), Duration::from_secs(5), Priority::Retry, cause());
    queue.add_after(key("a"), Duration::from_secs(90), Priority::Retry, cause());
    assert_eq!(next(&queue).await, key("a"));
    assert_eq!(start.elapsed().as_secs(), 5);
    queue.done(&key("a"));
    assert_eq!(next_now(&queue).await, None, "one instant, one turn");
}

#[tokio::test(start_paused = true)]
async fn the_load_is_what_is_due_what_will_be_and_what_is_worked_on() {
    let queue = queue();
    let load = |due: [usize; 5], oldest, later, running| Load {
        due: Priority::ALL.into_iter().zip(due).collect(),
        oldest,
        later,
        running,
    };
    assert_eq!(queue.load(), load([0; 5], None, 0, 0));
    queue.add([key("a"), key("b")], Priority::Change, &cause());
    tokio::time::advance(Duration::from_secs(3)).await;
    queue.add([key("c")], Priority::Revocation, &cause());
    queue.add([key("b")], Priority::Rotation, &cause());
    queue.add_after(key("d"), Duration::from_secs(60), Priority::Retry, cause());
    assert_eq!(queue.load(), load([1, 1, 1, 0, 0], Some(Duration::from_secs(3)), 1, 0));
    assert_eq!((next(&queue).await, next(&queue).await), (key("c"), key("b")));
    queue.add([key("b")], Priority::Change, &cause());
    assert_eq!(queue.load(), load([0, 0, 1, 0, 0], Some(Duration::from_secs(3)), 1, 2), "b comes back when it is done");
    next(&queue).await;
    queue.done(&key("b"));
    assert_eq!(queue.load(), load([0, 0, 1, 0, 0], Some(Duration::ZERO), 1, 2));
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_wait_longer_and_a_success_ends_the_row() {
    let queue = queue();
    let mut waits = Vec::new();
    for round in 0..6 {
        if round == 5 {
            queue.succeeded(&key("a"));
        }
        let start = Instant::now();
        queue.add_failed(key("a"), cause());
        next(&queue).await;
        queue.done(&key("a"));
        waits.push(start.elapsed());
    }
    assert!(waits[4] > waits[0] * 4, "{waits:?}");
    assert!(waits[5] < waits[4], "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn what_happens_to_a_key_that_waits_or_is_worked_on_is_one_cause() {
    let queue = queue();
    let rotation = Cause::new(CauseKind::Rotation);
    queue.add([key("a")], Priority::Rotation, &rotation);
    queue.add([key("a")], Priority::Change, &Cause::new(CauseKind::Policy));
    assert_eq!(work(&queue).await, (key("a"), rotation.clone()));

    queue.add([key("a")], Priority::Rotation, &rotation);
    queue.add([key("a")], Priority::Change, &Cause::new(CauseKind::Policy));
    queue.done(&key("a"));
    assert_eq!(work(&queue).await, (key("a"), rotation.clone()));
    queue.done(&key("a"));

    queue.add_failed(key("a"), rotation.clone());
    queue.add_after(key("a"), Duration::ZERO, Priority::Change, Cause::new(CauseKind::Policy));
    queue.add_after(key("a"), Duration::from_secs(3600), Priority::Change, Cause::new(CauseKind::Time));
    assert_eq!(work(&queue).await, (key("a"), rotation.again()), "the second attempt at the same");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_put_off_waits_behind_all_work_of_its_namespace() {
    let queue = queue();
    queue.add([key("a"), key("b")], Priority::Retry, &cause());
    assert_eq!(next(&queue).await, key("a"));
    assert!(queue.is_behind());
    queue.put_off(&key("a"), &cause(), "told");
    queue.add([key("c")], Priority::Retry, &cause());
    assert_eq!(queue.load().due[&Priority::Status], 1);
    assert_eq!((next(&queue).await, next(&queue).await), (key("b"), key("c")));
    assert!(!queue.is_behind(), "there is nothing but ends");
    assert_eq!(queue.load().running, 2, "nobody works on what is put off");
    assert_eq!(queue.next().await, Turn::End(key("a"), "told"));
    queue.done(&key("a"));
    assert_eq!(next_now(&queue).await, None, "nothing else is known of it");
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_for_a_key_makes_its_end_as_urgent_and_is_next() {
    for comes_early in [true, false] {
        let queue = queue();
        queue.add([key("a"), key("b")], Priority::Change, &cause());
        assert_eq!(next(&queue).await, key("a"));
        let revoke = || queue.add([key("a")], Priority::Revocation, &Cause::new(CauseKind::Policy));
        if comes_early {
            revoke();
        }
        queue.put_off(&key("a"), &cause(), "told");
        if !comes_early {
            revoke();
        }
        assert_eq!(queue.next().await, Turn::End(key("a"), "told"), "before b");
        queue.done(&key("a"));
        let (again, cause) = work(&queue).await;
        assert_eq!((again, cause.kind), (key("a"), CauseKind::Policy), "before b");
    }
}

#[tokio::test(start_paused = true)]
async fn ends_are_put_off_up_to_a_bound_and_can_be_had_without_waiting() {
    let queue = queue();
    let keys: Vec<_> = (0..3000).map(|i| key(&format!("k{i}"))).collect();
    queue.add(keys, Priority::Change, &cause());
    let mut put_off = 0;
    while queue.is_behind() {
        let key = next(&queue).await;
        queue.put_off(&key, &cause(), "told");
        put_off += 1;
    }
    assert_eq!(put_off, 1024);
    while let Some(Turn::End(key, _)) = queue.next_end() {
        queue.done(&key);
        put_off -= 1;
    }
    assert_eq!(put_off, 0);
}

#[tokio::test(start_paused = true)]
async fn of_what_nobody_takes_the_old_is_dropped_but_for_ends_that_are_put_off() {
    let queue = queue();
    let age = Duration::from_secs(60);
    queue.add([key("told")], Priority::Change, &cause());
    next(&queue).await;
    queue.put_off(&key("told"), &cause(), "told");
    queue.add([key("old")], Priority::Revocation, &cause());
    queue.add_after(key("later"), age * 2, Priority::Change, cause());
    tokio::time::advance(age).await;
    queue.add([key("new"), key("old")], Priority::Change, &cause());
    queue.forget_older_than(age);
    assert_eq!(queue.load().due.values().sum::<usize>(), 3, "no older than that");

    tokio::time::advance(Duration::from_secs(1)).await;
    queue.forget_older_than(age);
    assert_eq!((queue.load().due.values().sum::<usize>(), queue.load().later), (2, 0));
    assert_eq!(next_now(&queue).await, Some(key("new")));
    assert_eq!(queue.next().await, Turn::End(key("told"), "told"));
    queue.done(&key("told"));
    assert_eq!(next_now(&queue).await, None);
}
