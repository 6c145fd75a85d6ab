//! What a key store promises, on each database. Promises of one aggregate are beside it.

mod bench;
mod servers;

pub use bench::{Bench, benches, on_each};

use std::collections::HashSet;

use leasehold_chaincode::Command;

use super::claims::Room;
use super::data_keys::{DataKey, Destroy, Versions};
use super::operations::{Accepted, Ending, MOST_UNDECIDED, NewOperation};
use super::people::{Account, Binding, Bound, Home, Person};
use super::receipts::{Grounds, Reason};
use super::*;
use crate::identity::{Standing, Subject};
use crate::keys::endorsement::KnownKek;

pub fn operation(id: &str, submitter: &str) -> NewOperation {
    NewOperation {
        id: id.to_owned(),
        transaction_id: id.to_owned(),
        submitter: submitter.to_owned(),
        command: Command::Release {
            lease: "a".repeat(32),
            subject: "a1".repeat(32),
        },
        data_key: None,
        idempotency: None,
        expected_revision: None,
    }
}

pub fn data_key(dataset: &str, version: u32) -> DataKey {
    DataKey {
        dataset_id: dataset.to_owned(),
        version,
        kek_version: 1,
        wrapped: vec![0, 0xff, 0x27, u8::try_from(version).unwrap()],
    }
}

pub fn person(name: &str) -> Person {
    Person {
        pseudonym: format!("pseudonym of {name}"),
        subject: Subject {
            issuer: "https://login.example.org".to_owned(),
            sub: name.to_owned(),
        },
        username: Some(name.to_owned()),
    }
}

fn binding(of: &Person, namespace: &str, uid: &str) -> Binding {
    let account = |kind: &str| Account {
        name: format!("{kind}-of-somebody"),
        uid: format!("{uid}-{kind}"),
    };
    Binding {
        pseudonym: of.pseudonym.clone(),
        namespace: namespace.to_owned(),
        notebook: account("notebook"),
        executor: account("executor"),
        home: Home {
            claim: "claim".to_owned(),
            sub_path: String::new(),
            mount_path: "/home/jovyan".to_owned(),
        },
    }
}

fn room() -> Room {
    Room {
        most: 8,
        most_tried: 8,
        in_order: false,
        held: HashSet::new(),
    }
}

async fn claimed(store: &Store, now_ms: i64) -> Vec<String> {
    let claims = store.claim(&room(), now_ms, 60_000).await.unwrap();
    claims.operations.into_iter().map(|claimed| claimed.id).collect()
}

fn succeeded() -> Ending {
    Ending::Succeeded {
        result: serde_json::json!({"lease": "l", "å": "\u{1f511}"}),
        destroy: None,
        waits: false,
    }
}

#[tokio::test]
async fn a_key_store_is_found_again_with_all_that_was_written() {
    on_each("what is found again", async |bench| {
        assert!(!Store::exists(&bench.address).await.unwrap());
        let store = bench.open().await;
        let alice = person("alice å \u{1f511}");
        store.remember(&alice).await.unwrap();
        let unnamed = Person {
            username: None,
            ..alice.clone()
        };
        store.remember(&unnamed).await.unwrap();
        store
            .put_skeleton("d", &["a".to_owned(), "a/b".to_owned()])
            .await
            .unwrap();
        store.put_skeleton("d", &["c".to_owned()]).await.unwrap();
        let standing = Standing {
            groups: ["g".to_owned()].into(),
            ..Standing::default()
        };
        store
            .put_standing(&alice.pseudonym, &Standing::default())
            .await
            .unwrap();
        store.put_standing(&alice.pseudonym, &standing).await.unwrap();
        let known = |check: u8| KnownKek {
            version: 1,
            check: vec![check, 0],
            seal: vec![0, 9],
            is_retired: false,
        };
        store.know_keks(&[known(1)]).await.unwrap();
        store.know_keks(&[known(2)]).await.unwrap();
        let with_key = NewOperation {
            data_key: Some(data_key("d", 1)),
            expected_revision: Some(7),
            ..operation("one", &alice.pseudonym)
        };
        store.accept(&with_key).await.unwrap();
        store.close().await;

        assert!(Store::exists(&bench.address).await.unwrap());
        let store = bench.open().await;
        store.ping().await.unwrap();
        assert_eq!(store.person(&alice.pseudonym).await.unwrap(), Some(alice.clone()));
        assert_eq!(store.skeleton("d").await.unwrap(), ["c"]);
        assert!(store.skeleton("e").await.unwrap().is_empty());
        assert_eq!(store.standing(&alice.pseudonym).await.unwrap(), standing);
        assert_eq!(store.known_keks().await.unwrap(), [known(2)]);
        let key = store.data_key("d", 1).await.unwrap();
        assert_eq!(key, Some(data_key("d", 1).wrapped));
        assert_eq!(store.data_key("d", 2).await.unwrap(), None);
        let claims = store.claim(&room(), now_ms(), 60_000).await.unwrap();
        assert_eq!(claims.operations[0].expected_revision, Some(7));
        assert_eq!(claims.operations[0].command, Ok(with_key.command));
        assert!(store.finish("one", &succeeded()).await.unwrap());
        let [row] = store
            .latest_operations(&alice.pseudonym, 9)
            .await
            .unwrap()
            .try_into()
            .unwrap();
        assert_eq!(row.result.unwrap()["å"], "\u{1f511}");
        assert_eq!(store.operation("one", "another").await.unwrap(), None);
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_same_request_at_two_brokers_is_accepted_once() {
    on_each("one request at two brokers", async |bench| {
        let (one, other) = (bench.open().await, bench.open().await);
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..16 {
            let store = if number % 2 == 0 { &one } else { &other }.clone();
            tasks.spawn(async move {
                let request = NewOperation {
                    idempotency: Some(("key".to_owned(), [7; 32])),
                    ..operation(&format!("try-{number}"), "alice")
                };
                store.accept(&request).await.unwrap()
            });
        }
        let answers = tasks.join_all().await;
        let ids: HashSet<_> = answers
            .iter()
            .map(|answer| match answer {
                Accepted::Operation(row) => row.id.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(ids.len(), 1, "{}: {ids:?}", bench.kind);
        let again = other.replay("alice", "key", &[7; 32]).await.unwrap();
        assert!(matches!(again, Some(Accepted::Operation(row)) if ids.contains(&row.id)));
        let reused = one.replay("alice", "key", &[8; 32]).await.unwrap();
        assert_eq!(reused, Some(Accepted::KeyReused));
        assert_eq!(one.replay("bob", "key", &[7; 32]).await.unwrap(), None);
        one.close().await;
        other.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_person_has_so_many_undecided_operations_at_most_however_many_brokers_are_asked() {
    on_each("undecided operations at two brokers", async |bench| {
        let (one, other) = (bench.open().await, bench.open().await);
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..MOST_UNDECIDED + 8 {
            let store = if number % 2 == 0 { &one } else { &other }.clone();
            tasks.spawn(async move {
                store
                    .accept(&operation(&format!("o{number}"), "alice"))
                    .await
                    .unwrap()
            });
        }
        let answers = tasks.join_all().await;
        let refused = answers
            .iter()
            .filter(|answer| **answer == Accepted::TooMany)
            .count();
        assert_eq!(refused, 8, "{}", bench.kind);
        assert!(matches!(
            one.accept(&operation("bobs", "bob")).await.unwrap(),
            Accepted::Operation(_)
        ));
        one.close().await;
        other.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_operation_that_was_ended_stays_as_it_ended() {
    on_each("an end", async |bench| {
        let store = bench.open().await;
        let with_key = NewOperation {
            data_key: Some(data_key("d", 1)),
            ..operation("one", "alice")
        };
        store.accept(&with_key).await.unwrap();
        assert_eq!(claimed(&store, now_ms()).await, ["one"]);
        assert!(store.finish("one", &succeeded()).await.unwrap());
        let destroy = Destroy {
            dataset_id: "d".to_owned(),
            versions: Versions::All,
            grounds: Grounds {
                reason: Reason::Unused,
                height: None,
                transaction: None,
            },
        };
        let late = Ending::Failed {
            problem: serde_json::Value::Null,
            destroy: Some(destroy),
        };
        assert!(!store.finish("one", &late).await.unwrap());
        store.defer("one", 0).await.unwrap();
        assert!(claimed(&store, now_ms()).await.is_empty());
        let row = store.operation("one", "alice").await.unwrap().unwrap();
        assert_eq!(row.status, "succeeded");
        assert!(store.data_key("d", 1).await.unwrap().is_some(), "{}", bench.kind);
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_account_acts_for_one_person_and_a_new_one_takes_the_place_of_the_last() {
    on_each("bindings", async |bench| {
        let store = bench.open().await;
        let (alice, bob) = (person("alice"), person("bob"));
        let done = |replaced: &[&str]| Bound::Done {
            replaced: replaced.iter().map(|uid| (*uid).to_owned()).collect(),
        };
        for (who, binding, expected) in [
            (&alice, binding(&alice, "hub", "1"), done(&[])),
            (&alice, binding(&alice, "hub", "1"), done(&[])),
            (&bob, binding(&bob, "hub", "1"), Bound::TakenByAnother),
            (&alice, binding(&alice, "other", "1"), Bound::TakenByAnother),
            (&alice, binding(&alice, "hub", "2"), done(&["1-notebook"])),
            (&bob, binding(&bob, "hub", "1"), done(&[])),
        ] {
            assert_eq!(
                store.bind(who, &binding).await.unwrap(),
                expected,
                "{}: {binding:?}",
                bench.kind
            );
        }
        let uids: Vec<_> = store
            .bindings()
            .await
            .unwrap()
            .into_iter()
            .map(|binding| binding.notebook.uid)
            .collect();
        assert_eq!(uids, ["1-notebook", "2-notebook"]);
        let whose = store.person_of_notebook("2-notebook").await.unwrap();
        assert_eq!(whose, Some(alice));
        assert_eq!(store.person_of_notebook("2-executor").await.unwrap(), None);
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn data_keys_are_wrapped_anew_page_by_page_and_a_retired_version_wraps_none() {
    on_each("wrapping anew", async |bench| {
        let store = bench.open().await;
        for (dataset, version) in [("a", 1), ("a", 2), ("b", 1), ("c", 1)] {
            let with_key = NewOperation {
                data_key: Some(data_key(dataset, version)),
                ..operation(&format!("{dataset}{version}"), "alice")
            };
            store.accept(&with_key).await.unwrap();
        }
        assert_eq!(store.newest_version("a").await.unwrap(), Some(2));
        assert_eq!(store.newest_version("z").await.unwrap(), None);
        assert_eq!(store.held_of("a").await.unwrap().unwrap().oldest, 1);
        assert_eq!(store.held_keys().await.unwrap().len(), 3);
        assert_eq!(store.some_of_each_version().await.unwrap().len(), 3);
        assert_eq!(store.retire_kek(1).await.unwrap(), 4);
        let (mut after, mut pages) = ((String::new(), 0), Vec::new());
        loop {
            let page = store.not_wrapped_by(2, &after, 3).await.unwrap();
            let Some(last) = page.last() else { break };
            after = (last.dataset_id.clone(), last.version);
            pages.push(page.len());
            for before in page {
                let anew = DataKey {
                    kek_version: 2,
                    wrapped: vec![2, 0xff],
                    ..before.clone()
                };
                assert!(store.rewrapped(&before, &anew).await.unwrap());
                assert!(
                    !store.rewrapped(&before, &anew).await.unwrap(),
                    "it is another by now"
                );
            }
        }
        assert_eq!(pages, [3, 1], "{}", bench.kind);
        assert_eq!(store.wrapped_by().await.unwrap(), [(2, 4)]);
        assert_eq!(store.retire_kek(1).await.unwrap(), 0);
        assert_eq!(store.retire_kek(1).await.unwrap(), 0);
        assert!(store.is_retired_kek(1).await.unwrap());
        let late = NewOperation {
            data_key: Some(data_key("d", 1)),
            ..operation("late", "alice")
        };
        let refused = store.accept(&late).await.unwrap_err();
        assert!(matches!(refused, StoreError::KekRetired(1)), "{refused}");
        assert_eq!(store.operation("late", "alice").await.unwrap(), None);
        assert!(store.newest_data_key_at().await.unwrap().is_some());
        store.close().await;
    })
    .await;
}
