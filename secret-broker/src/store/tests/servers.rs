//! What brokers that share a server may rely on.

use super::*;
use crate::store::claims::HELD_MS;

/// Servers alone.
async fn on_servers(test: &str, promise: impl AsyncFn(Bench)) {
    for bench in benches(test).await {
        if bench.kind != "SQLite" {
            promise(bench).await;
        }
    }
}

#[tokio::test]
async fn an_operation_is_one_brokers_until_it_lets_go_or_falls_silent() {
    on_servers("operations held", async |bench| {
        let (one, other) = (bench.open().await, bench.open().await);
        assert!(one.is_shared());
        for id in ["a", "b"] {
            one.accept(&operation(id, id)).await.unwrap();
        }
        let start = now_ms();
        assert_eq!(claimed(&one, start).await.len(), 2);
        assert!(claimed(&other, start + 1).await.is_empty());
        // What it lets go somebody else may take.
        one.defer("a", start).await.unwrap();
        assert_eq!(claimed(&other, start + 2).await, ["a"]);
        assert!(!one.finish("a", &succeeded()).await.unwrap());
        // What it goes on with stays its own.
        one.hold_on(start + HELD_MS).await.unwrap();
        assert!(other.finish("a", &succeeded()).await.unwrap());
        assert!(claimed(&other, start + HELD_MS + 1).await.is_empty());
        // It falls silent, and what it says later changes nothing.
        let claims = other
            .claim(&room(), start + 2 * HELD_MS + 1, 60_000)
            .await
            .unwrap();
        let [taken] = claims.operations.as_slice() else {
            panic!("{}: {claims:?}", bench.kind);
        };
        assert_eq!((taken.id.as_str(), taken.again), ("b", true));
        assert!(!one.finish("b", &succeeded()).await.unwrap());
        one.hold_on(start + 9 * HELD_MS).await.unwrap();
        assert!(other.finish("b", &succeeded()).await.unwrap());
        one.close().await;
        other.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_dies_in_its_turn_to_write_holds_nobody_up() {
    on_servers("a turn given back", async |bench| {
        let (one, other) = (bench.open().await, bench.open().await);
        let turn = one.write().await.unwrap();
        let waiting = tokio::spawn({
            let other = other.clone();
            async move { other.accept(&operation("a", "a")).await }
        });
        drop(turn);
        let accepted = waiting.await.unwrap().unwrap();
        assert!(matches!(accepted, Accepted::Operation(_)), "{}", bench.kind);
        one.close().await;
        other.close().await;
    })
    .await;
}

#[tokio::test]
async fn whoever_waits_too_long_for_a_turn_to_write_is_told_so() {
    on_servers("a turn that does not come", async |bench| {
        let (one, other) = (bench.open().await, bench.open().await);
        let _turn = one.write().await.unwrap();
        let began = std::time::Instant::now();
        let refused = other.accept(&operation("a", "a")).await.unwrap_err();
        assert!(
            matches!(refused, StoreError::Database(_)),
            "{}: {refused}",
            bench.kind
        );
        assert!(
            began.elapsed() < std::time::Duration::from_secs(30),
            "{}",
            bench.kind
        );
        // Whoever only reads does not wait.
        assert_eq!(other.operation("a", "a").await.unwrap(), None);
    })
    .await;
}
