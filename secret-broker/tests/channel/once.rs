//! What was accepted happens once, whenever the broker is killed.

use std::time::Duration;

use fabric_sim::ValidationCode;
use leasehold_chaincode::{Command, DatasetId, Msp, TxId};
use leasehold_secret_broker::audit::{Book, Filter};
use leasehold_secret_broker::fabric::{Channel, Recorded};
use leasehold_secret_broker::ledger::Submission;
use leasehold_secret_broker::store::Store;
use leasehold_secret_broker::store::claims::{Claimed, Room};
use leasehold_secret_broker::store::data_keys::DataKey;
use leasehold_secret_broker::store::operations::NewOperation;
use serde_json::Value;

use crate::consortium::{Consortium, Terms, profile};
use crate::fixture::{Answer, Fixture, eventually, registration};

/// What the worker would take next.
async fn claimed(store: &Store) -> Vec<Claimed> {
    let room = Room {
        most: 1,
        most_tried: 1,
        ..Room::default()
    };
    let now_ms = chrono::Utc::now().timestamp_millis();
    store.claim(&room, now_ms, 60_000).await.unwrap().operations
}

/// An operation as the broker writes it down, of a channel's client.
fn operation(channel: &Channel, name: &str) -> NewOperation {
    let id = TxId::new(uuid::Uuid::new_v4().to_string()).unwrap();
    let transaction = channel.transaction_of(&id).unwrap();
    let dataset = DatasetId::derive(&transaction);
    NewOperation {
        id: id.into(),
        transaction_id: transaction.into(),
        submitter: "a-submitter".to_owned(),
        command: Command::RegisterDataset {
            name: name.to_owned(),
            metadata: leasehold_chaincode::Metadata {
                title: "t".to_owned(),
                ..leasehold_chaincode::Metadata::default()
            },
            policy: leasehold_chaincode::Policy::exclusive(60),
            volume_ciphertext: leasehold_chaincode::Ciphertext("AAAA".to_owned()),
            key_version: 1,
        },
        data_key: Some(DataKey {
            dataset_id: dataset.to_string(),
            version: 1,
            kek_version: 1,
            wrapped: vec![1],
        }),
        idempotency: None,
        expected_revision: None,
    }
}

async fn open(fixture: &Fixture) -> (Channel, Store) {
    let channel = Channel::open(&profile(fixture), &Msp::new("UiSMSP").unwrap())
        .await
        .unwrap();
    let store = Store::open(&fixture.data_dir().join("broker.db")).await.unwrap();
    (channel, store)
}

async fn ended(fixture: &Fixture, id: &str) -> leasehold_secret_broker::store::operations::OperationRow {
    fixture.kill();
    let store = Store::open(&fixture.data_dir().join("broker.db")).await.unwrap();
    let row = store.operation(id, "a-submitter").await.unwrap().unwrap();
    store.close().await;
    row
}

async fn decided(fixture: &Fixture, ending: &str) {
    eventually("the operation to be decided", async || {
        let metrics = fixture.metrics().await;
        metrics
            .contains(&format!("ending=\"{ending}\"}} 1"))
            .then_some(())
    })
    .await;
}

/// Killed after the channel had committed and before the broker noted that.
#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_the_channel_took_before_the_kill_succeeds_once() {
    let consortium = Consortium::start(Terms::default()).await;
    let fixture = consortium.broker("UiSMSP", &[0]).await;
    fixture.kill();
    let (channel, store) = open(&fixture).await;
    let accepted = operation(&channel, "texts");
    store.accept(&accepted).await.unwrap();
    assert!(!claimed(&store).await[0].again);
    let submission = Submission {
        tx_id: TxId::new(accepted.id.clone()).unwrap(),
        command: accepted.command.clone(),
    };
    let recorded = Recorded {
        transaction: TxId::new(accepted.transaction_id.clone()).unwrap(),
        again: false,
        conditional: false,
    };
    let committed = channel.submit(&submission, Some(&recorded)).await.unwrap();
    assert_eq!(committed.tx_id, recorded.transaction);
    // The same again, whether it is known that it was submitted or not.
    for again in [true, false] {
        let recorded = Recorded {
            again,
            ..recorded.clone()
        };
        let answer = channel.submit(&submission, Some(&recorded)).await.unwrap();
        assert_eq!(answer, committed);
    }
    store.close().await;
    fixture.run().await;
    decided(&fixture, "succeeded").await;
    assert_eq!(consortium.happened("dataset_registered"), 1);
    assert_eq!(ended(&fixture, &accepted.id).await.status, "succeeded");
}

/// The broker is killed at many moments between a request and its block.
#[tokio::test(flavor = "multi_thread")]
async fn of_accepted_work_none_is_lost_or_doubled_when_the_broker_is_killed() {
    let batch = Duration::from_millis(300);
    let consortium = Consortium::start(Terms {
        batch,
        ..Terms::default()
    })
    .await;
    let fixture = consortium.broker("UiSMSP", &[0, 1]).await;
    let steward = fixture.person("steward");
    let mut accepted: Vec<(String, Answer)> = Vec::new();
    for (round, wait_ms) in [0, 60, 150, 280, 330].into_iter().enumerate() {
        for i in 0..2 {
            let name = format!("texts-{round}-{i}");
            let answer = fixture
                .call("POST", "/v1/datasets", &steward, Some(registration(&name)))
                .await;
            assert_eq!(answer.status, 202, "{}", answer.body);
            accepted.push((name, answer));
        }
        // Where in its way the work is when the broker dies is what is tried here, not waited for.
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        fixture.kill();
        fixture.run().await;
    }
    for (name, answer) in &accepted {
        let operation = fixture.decided(answer, &steward).await;
        assert_eq!(operation["status"], "succeeded", "{name}: {operation}");
    }
    let catalogue = fixture.call("GET", "/v1/datasets", &steward, None).await.body;
    let mut names: Vec<&Value> = catalogue["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| &d["name"])
        .collect();
    names.sort_by_key(|name| name.to_string());
    assert_eq!(names.len(), accepted.len(), "{names:?}");
    assert_eq!(consortium.happened("dataset_registered"), accepted.len());
    println!(
        "{} transactions were ordered twice and counted once",
        consortium.told(ValidationCode::DuplicateTxid).len()
    );
}

/// Its id was made with a certificate that nobody has any more: it must not happen under another one, for which its volume is not sealed.
#[tokio::test(flavor = "multi_thread")]
async fn an_operation_of_a_certificate_that_is_gone_ends_without_happening() {
    let consortium = Consortium::start(Terms::default()).await;
    let fixture = consortium.broker("UiSMSP", &[0]).await;
    fixture.kill();
    let (channel, store) = open(&fixture).await;
    let accepted = operation(&channel, "texts");
    store.accept(&accepted).await.unwrap();
    store.close().await;
    consortium.issue("UiSMSP");
    fixture.run().await;
    decided(&fixture, "failed").await;
    assert_eq!(consortium.happened("dataset_registered"), 0);
    let row = ended(&fixture, &accepted.id).await;
    let problem = row.problem.unwrap();
    assert_eq!(problem["type"], "urn:leasehold:problem:not_committed");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("certificate was renewed"),
        "{problem}"
    );
    let store = Store::open(&fixture.data_dir().join("broker.db")).await.unwrap();
    let dataset = accepted.data_key.unwrap().dataset_id;
    assert!(
        store.data_key(&dataset, 1).await.unwrap().is_none(),
        "its key is gone"
    );
}

/// It was submitted before the certificate was renewed, and is in no block yet: the dataset may come to be, and needs its key then.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_registration_whose_outcome_is_unknown_is_kept() {
    let consortium = Consortium::start(Terms::default()).await;
    let fixture = consortium.broker("UiSMSP", &[0]).await;
    fixture.kill();
    let (channel, store) = open(&fixture).await;
    let accepted = operation(&channel, "texts");
    store.accept(&accepted).await.unwrap();
    assert_eq!(claimed(&store).await.len(), 1, "it is under way");
    store.close().await;
    consortium.issue("UiSMSP");
    fixture.run().await;
    decided(&fixture, "failed").await;
    let row = ended(&fixture, &accepted.id).await;
    let problem = row.problem.unwrap();
    assert_eq!(
        problem["type"], "urn:leasehold:problem:outcome_unknown",
        "{problem}"
    );
    assert_key(&fixture, &accepted).await;
    let book = Book::open(&fixture.data_dir().join("audit.db")).await.unwrap();
    let about = Filter {
        object: Some(accepted.id.clone()),
        ..Filter::default()
    };
    let rows = book.page(&about, 10).await.unwrap().rows;
    assert!(!rows.is_empty());
    for row in rows {
        let record: Value = serde_json::from_str(&row.record).unwrap();
        assert_eq!(
            record["decision"], "unknown",
            "neither done nor refused: {record}"
        );
    }
}

/// The contract refuses the second try, while the first may still be on its way to a block.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_registration_that_is_refused_at_a_second_try_is_kept() {
    let consortium = Consortium::start(Terms::default()).await;
    let fixture = consortium.broker("UiSMSP", &[0]).await;
    fixture.register("texts").await;
    fixture.kill();
    let (channel, store) = open(&fixture).await;
    let accepted = operation(&channel, "texts");
    store.accept(&accepted).await.unwrap();
    assert_eq!(claimed(&store).await.len(), 1, "it is under way");
    store.close().await;
    fixture.run().await;
    decided(&fixture, "failed").await;
    let problem = ended(&fixture, &accepted.id).await.problem.unwrap();
    assert_eq!(
        problem["type"], "urn:leasehold:problem:dataset_name_taken",
        "{problem}"
    );
    assert_key(&fixture, &accepted).await;
}

async fn assert_key(fixture: &Fixture, accepted: &NewOperation) {
    let store = Store::open(&fixture.data_dir().join("broker.db")).await.unwrap();
    let dataset = &accepted.data_key.as_ref().unwrap().dataset_id;
    let key = store.data_key(dataset, 1).await.unwrap();
    assert!(key.is_some(), "its key is there");
}

/// As many as are worked on at once, accepted before all others, and their chaincode never decides.
#[tokio::test(flavor = "multi_thread")]
async fn operations_that_cannot_be_decided_do_not_keep_others_from_it() {
    let consortium = Consortium::start(Terms::default()).await;
    let fixture = consortium.broker("UiSMSP", &[0]).await;
    let failed = r#"{"code":"peer_failed","message":"the peer gave no answer"}"#;
    consortium.peers()[0].refuse_what("stuck", Some((500, failed)));
    let steward = fixture.person("steward");
    let mut stuck = Vec::new();
    for i in 0..20 {
        let body = registration(&format!("stuck-{i}"));
        let answer = fixture.call("POST", "/v1/datasets", &steward, Some(body)).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        stuck.push(answer);
    }
    eventually(
        "all of them to have been tried, and half as many places as there are again",
        async || {
            let log = fixture.log();
            let tries = log
                .lines()
                .filter(|line| line.contains("could not decide an operation"));
            (tries.count() >= stuck.len() + 8).then_some(())
        },
    )
    .await;
    for i in 0..10 {
        fixture.register(&format!("texts-{i}")).await;
    }
    // When the next tries are due outlives the broker.
    fixture.kill();
    fixture.run().await;
    fixture.register("more-texts").await;
    assert_eq!(consortium.happened("dataset_registered"), 11);
    consortium.peers()[0].refuse(None);
    for answer in &stuck {
        assert_eq!(fixture.decided(answer, &steward).await["status"], "succeeded");
    }
    assert_eq!(consortium.happened("dataset_registered"), 11 + stuck.len());
}

/// Both are endorsed on the state that they are meant for, and one of them comes first in its block.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_changes_at_once_that_are_meant_for_one_revision_exactly_one_is_made() {
    let batch = Duration::from_millis(300);
    let consortium = Consortium::start(Terms {
        batch,
        ..Terms::default()
    })
    .await;
    let fixture = consortium.broker("UiSMSP", &[0]).await;
    fixture.register("texts").await;
    let steward = fixture.person("steward");
    let path = "/v1/datasets/texts";
    let read = fixture.call("GET", path, &steward, None).await;
    let tag = read.headers["etag"].to_str().unwrap();
    let change = async |title: &str| {
        let request = fixture
            .client()
            .patch(fixture.rest_url(path))
            .bearer_auth(&steward)
            .header("If-Match", tag)
            .json(&serde_json::json!({ "title": title }));
        fixture.send(request).await
    };
    let accepted = tokio::join!(change("One"), change("Two"));
    let mut made = Vec::new();
    for (title, accepted) in [("One", accepted.0), ("Two", accepted.1)] {
        assert_eq!(accepted.status, 202, "{}", accepted.body);
        let operation = fixture.decided(&accepted, &steward).await;
        match operation["status"].as_str() {
            Some("succeeded") => made.push(title),
            _ => {
                let kind = operation["problem"]["type"].as_str().unwrap();
                let is_told = ["precondition_failed", "not_committed"]
                    .iter()
                    .any(|code| kind.ends_with(code));
                assert!(is_told, "{operation}");
            }
        }
    }
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(consortium.happened("dataset_described"), 1);
    let read = fixture.call("GET", path, &steward, None).await;
    assert_eq!(read.body["title"], made[0]);
}
