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

async fn take(bench: &Bench, turns: usize) {
    for _ in 0..turns {
        let turn = bench.context.next().await;
        bench.context.take(turn).await;
    }
}

#[tokio::test]
async fn secrets_come_first_and_then_what_is_said_about_them() {
    let bench = bench(["a", "b", "c"]);
    take(&bench, 5).await;
    let writes = ["POST secrets", "POST secrets", "POST secrets", "PATC status", "PATC status", "PATC status"];
    assert_eq!(bench.api.writes(), writes, "the third says so at once: nothing is left to be written");
    let load = bench.context.queue.load();
    assert_eq!((load.due.values().sum::<usize>(), load.running, load.later), (0, 0, 0));
}

#[tokio::test]
async fn what_is_revoked_goes_first_and_then_it_is_said() {
    let bench = bench(["a", "b", "c"]);
    take(&bench, 5).await;
    let before = bench.api.writes().len();
    let other = json!([{ "effect": "Allow", "sources": ["B"] }]);
    let bench = bench.grants(json!({ "namespaces": { "names": ["ns"] }, "rules": other }));
    bench.context.queue.add(["a", "b", "c"].map(named), Priority::Revocation, &Cause::new(CauseKind::Policy));
    take(&bench, 5).await;
    let writes = bench.api.writes();
    let (gone, said) = writes[before..].split_at(3);
    let names = ["a", "b", "c"].map(|name| format!("DELE {name}"));
    assert!(gone.iter().all(|call| names.contains(call)), "{writes:?}");
    assert_eq!(said.iter().filter(|call| *call == "PATC status").count(), 3, "{writes:?}");
    assert!(said.iter().any(|call| call == "POST events") && !said.iter().any(|call| call.starts_with("DELE")));
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
