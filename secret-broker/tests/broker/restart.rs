//! What was accepted happens exactly once, whenever the broker is killed.

use base64::Engine as _;
use leasehold_broker_wire::machines::WatchLeasesRequest;
use leasehold_chaincode::{Ciphertext, Command, DatasetId, Metadata, Msp, Policy, TxId};
use leasehold_secret_broker::ledger::{Ledger, LedgerFile, LedgerOptions, Receipt, Submission};
use leasehold_secret_broker::store::Store;
use leasehold_secret_broker::store::claims::Room;
use leasehold_secret_broker::store::data_keys::DataKey;
use leasehold_secret_broker::store::operations::NewOperation;
use serde_json::{Value, json};

use crate::fixture::{Answer, Fixture, registration};

pub fn operation(id: &str, name: &str) -> NewOperation {
    let dataset = DatasetId::derive(&TxId::new(id).unwrap());
    NewOperation {
        id: id.to_owned(),
        transaction_id: id.to_owned(),
        submitter: "a-submitter".to_owned(),
        command: Command::RegisterDataset {
            name: name.to_owned(),
            metadata: Metadata {
                title: "t".to_owned(),
                ..Metadata::default()
            },
            policy: Policy::exclusive(60),
            volume_ciphertext: Ciphertext(base64::engine::general_purpose::STANDARD.encode([1; 64])),
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

/// The broker was killed after the ledger had committed and before it noted that.
#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_the_ledger_took_before_the_kill_succeeds_once() {
    let fixture = Fixture::start().await;
    fixture.kill();
    let id = uuid::Uuid::new_v4().to_string();
    let lost = uuid::Uuid::new_v4().to_string();
    {
        let store = Store::open(&fixture.data_dir().join("broker.db")).await.unwrap();
        let accepted = operation(&id, "texts");
        store.accept(&accepted).await.unwrap();
        store.accept(&operation(&lost, "texts")).await.unwrap();
        let room = Room {
            most: 1,
            ..Room::default()
        };
        let now_ms = chrono::Utc::now().timestamp_millis();
        let claims = store.claim(&room, now_ms, 60_000).await.unwrap();
        assert_eq!(claims.operations[0].id, id);
        let options = LedgerOptions::new(fixture.data_dir().join("ledger.db"), Msp::new("UiSMSP").unwrap());
        let ledger = Ledger::open(options).await.unwrap();
        ledger
            .submit(Submission {
                tx_id: TxId::new(id.clone()).unwrap(),
                command: accepted.command,
            })
            .await
            .unwrap();
        ledger.close().await;
        store.close().await;
    }
    fixture.run().await;
    let steward = fixture.person("steward");
    crate::fixture::eventually("both operations to be decided", async || {
        let metrics = fixture.metrics().await;
        (metrics.contains("ending=\"succeeded\"} 1") && metrics.contains("ending=\"failed\"} 1"))
            .then_some(())
    })
    .await;
    let catalogue = fixture.call("GET", "/v1/datasets", &steward, None).await.body;
    assert_eq!(catalogue["items"].as_array().unwrap().len(), 1);
    fixture.kill();
    let store = Store::open(&fixture.data_dir().join("broker.db")).await.unwrap();
    let (kept, gone) = (
        DatasetId::derive(&TxId::new(id.clone()).unwrap()),
        DatasetId::derive(&TxId::new(lost).unwrap()),
    );
    assert!(store.data_key(kept.as_str(), 1).await.unwrap().is_some());
    assert!(
        store.data_key(gone.as_str(), 1).await.unwrap().is_none(),
        "a refused registration leaves no key"
    );
    assert_eq!(
        store.operation(&id, "a-submitter").await.unwrap().unwrap().status,
        "succeeded"
    );
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_work_survives_kills_at_any_moment() {
    let fixture = Fixture::start().await;
    let steward = fixture.person("steward");
    let mut accepted: Vec<(String, Answer)> = Vec::new();
    for round in 0..4 {
        for i in 0..3 {
            let name = format!("texts-{round}-{i}");
            let answer = fixture
                .call("POST", "/v1/datasets", &steward, Some(registration(&name)))
                .await;
            assert_eq!(answer.status, 202, "{}", answer.body);
            accepted.push((name, answer));
        }
        fixture.kill();
        fixture.run().await;
    }
    for (name, answer) in &accepted {
        let operation = fixture.decided(answer, &steward).await;
        assert_eq!(operation["status"], "succeeded", "{name}: {operation}");
    }
    let catalogue = fixture.call("GET", "/v1/datasets", &steward, None).await.body;
    let names: Vec<&Value> = catalogue["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| &d["name"])
        .collect();
    let mut expected: Vec<_> = accepted.iter().map(|(name, _)| name.as_str()).collect();
    expected.sort_unstable();
    assert_eq!(json!(names), json!(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_and_ends_the_broker() {
    let fixture = Fixture::start().await;
    fixture.register("texts").await;
    // An open stream must not hold the broker back.
    let mut webhook = fixture.machine("leasehold-webhook").await;
    let stream = webhook.watch_leases(WatchLeasesRequest {}).await.unwrap();
    let status = fixture.terminate();
    drop(stream);
    assert!(status.success(), "{status}");
    assert!(fixture.log().contains("the secret broker has stopped"));
    assert!(
        !fixture.log().contains("did not finish in time"),
        "it waited for the stream until its patience was over"
    );
    fixture.run().await;
    assert_eq!(
        fixture
            .call("GET", "/v1/datasets/texts", &fixture.person("alice"), None)
            .await
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_joins_its_organisation_once_and_leaves_a_retired_cluster_alone() {
    let fixture = Fixture::start().await;
    fixture.kill();
    fixture.run().await;
    fixture.kill();
    let organisation = Msp::new("UiSMSP").unwrap();
    let options = LedgerOptions::new(fixture.data_dir().join("ledger.db"), organisation.clone());
    let ledger = Ledger::open(options.clone()).await.unwrap();
    let all = leasehold_chaincode::PageRequest::default();
    let history = ledger.organisation_history(&organisation, &all).await.unwrap();
    assert_eq!(history.items.len(), 2, "joined, and one cluster: {history:?}");
    let joined = ledger.organisation(&organisation).await.unwrap().unwrap();
    assert_eq!(
        joined.broker,
        "https://leasehold-secret-broker.leasehold-system.svc:8443"
    );
    let retire = Submission {
        tx_id: TxId::new("retire").unwrap(),
        command: Command::RetireCluster {
            name: "main".to_owned(),
        },
    };
    ledger.submit(retire).await.unwrap();
    ledger.close().await;
    fixture.run().await;
    fixture.register("texts").await;
    let token = fixture.person("alice");
    let accepted = fixture
        .call("POST", "/v1/leases", &token, Some(json!({"dataset": "texts"})))
        .await;
    let operation = fixture.decided(&accepted, &token).await;
    assert_eq!(
        operation["problem"]["type"], "urn:leasehold:problem:cluster_not_found",
        "{operation}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_has_seen_of_its_ledger_is_noted_beside_its_data() {
    let fixture = Fixture::start().await;
    assert!(fixture.terminate().success());
    let file = LedgerFile::open(fixture.data_dir().join("ledger.db"))
        .await
        .unwrap();
    let receipt = file.receipt(&[], &[]).await.unwrap();
    // The broker wants it for itself.
    drop(file);
    let note = std::fs::read(fixture.data_dir().join("ledger.seen")).unwrap();
    assert_eq!(serde_json::from_slice::<Receipt>(&note).unwrap(), receipt);
    let id = format!("\"id\":\"{}\"", receipt.ledger_id);
    assert!(fixture.log().contains(&id), "the log says what can be pinned");
    fixture.run().await;
}
