//! In which order things are written.

use super::*;

fn named(name: &str) -> RequestKey {
    RequestKey { name: SecretName::parse(name).unwrap(), ..key() }
}

fn bench(requests: [&str; 3]) -> Bench {
    let bench = Bench::new().grants(serde_json::from_str(GENEROUS).unwrap());
    let bench = requests.into_iter().fold(bench, |bench, name| bench.asks_as(name, json!({})));
    bench.context.queue.add(requests.map(named), Priority::Rotation, &Cause::new(CauseKind::Rotation));
    bench
}

#[tokio::test]
async fn secrets_come_first_and_then_what_is_said_about_them() {
    let bench = bench(["a", "b", "c"]);
    for _ in 0..5 {
        let turn = bench.context.next().await;
        bench.context.take(turn).await;
    }
    let writes = ["POST secrets", "POST secrets", "POST secrets", "PATC status", "PATC status", "PATC status"];
    assert_eq!(bench.api.writes(), writes, "the third says so at once: nothing is left to be written");
    let load = bench.context.queue.load();
    assert_eq!((load.due.values().sum::<usize>(), load.running, load.later), (0, 0, 0));
}

#[tokio::test]
async fn what_is_put_off_is_told_before_the_end() {
    let bench = bench(["a", "b", "c"]);
    let turn = bench.context.next().await;
    bench.context.take(turn).await;
    assert_eq!(bench.api.writes(), ["POST secrets"]);
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    work(bench.context.clone(), shutdown).await;
    assert_eq!(bench.api.writes(), ["POST secrets", "PATC status"]);
}

#[tokio::test]
async fn what_another_term_has_done_is_not_told() {
    let bench = bench(["a", "b", "c"]);
    let turn = bench.context.next().await;
    bench.context.take(turn).await;
    bench.context.leadership.begin_another_term();
    let Some(end) = bench.context.queue.next_end() else { panic!("nothing is put off") };
    bench.context.take(end).await;
    assert_eq!(bench.api.writes(), ["POST secrets"]);
}
