//! Data keys that the ledger lets go are not destroyed on one answer of it, nor many of them at once.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::fixture::{Fixture, Setting, eventually, files};
use crate::keys::{open, receipts, remove, wrapped};

const DELAY: &str = "LEASEHOLD_KEY_DESTRUCTION_DELAY_SECONDS";
const MOST: &str = "LEASEHOLD_KEY_DESTRUCTIONS_PER_HOUR";

async fn started(environment: &[(&str, &str)]) -> Fixture {
    let environment = environment.iter();
    Fixture::start_with(Setting {
        environment: environment
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..Setting::default()
    })
    .await
}

/// What waits, once the block that says so was looked at.
async fn doomed(fixture: &Fixture) -> Value {
    eventually("the removal to be seen on the ledger", async || {
        let [one] = fixture.keys_done(&["doomed"]).try_into().unwrap();
        let one: Value = one;
        one["block_hash"].is_string().then_some(one)
    })
    .await
}

fn ledger_files(directory: &Path) -> Vec<PathBuf> {
    let is_ledgers = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("ledger.")
    };
    files(directory).into_iter().filter(is_ledgers).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_removed_dataset_wait_for_the_delay_across_restarts() {
    let mut fixture = started(&[(DELAY, "86400")]).await;
    let dataset = fixture.register("texts").await;
    remove(&fixture, "texts").await;
    let waits = doomed(&fixture).await;
    assert_eq!(
        (&waits["dataset"], &waits["reason"], &waits["state"]),
        (&json!(dataset), &json!("retired"), &json!("waiting"))
    );
    fixture.kill();
    fixture.run().await;
    assert_eq!(doomed(&fixture).await, waits, "nothing is forgotten or hurried");
    assert!(wrapped(&fixture, &dataset, 1).await.is_some());
    assert!(receipts(&fixture, "").await.is_empty());
    eventually("it to be counted", async || {
        fixture
            .metrics()
            .await
            .contains("key_destructions{state=\"waiting\"} 1")
            .then_some(())
    })
    .await;
    let released = fixture.keys_done(&["release", &dataset]);
    assert_eq!(released, [json!({"released_datasets": 1})]);
    fixture.kill();
    fixture.run().await;
    assert!(
        wrapped(&fixture, &dataset, 1).await.is_some(),
        "a release does not lift the delay"
    );
    fixture.terminate();
    fixture.set(DELAY, "0");
    fixture.run().await;
    assert!(wrapped(&fixture, &dataset, 1).await.is_none());
    let [receipt] = receipts(&fixture, "").await.try_into().unwrap();
    assert_eq!(receipt["ledger_height"], waits["ledger_height"]);
    assert!(fixture.keys_done(&["doomed"]).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_lost_the_block_in_which_a_dataset_was_retired_destroys_no_key() {
    let mut fixture = started(&[(DELAY, "86400")]).await;
    let dataset = fixture.register("texts").await;
    fixture.terminate();
    let kept = fixture.directory.path().join("kept");
    std::fs::create_dir(&kept).unwrap();
    for file in ledger_files(&fixture.data_dir()) {
        std::fs::copy(&file, kept.join(file.file_name().unwrap())).unwrap();
    }
    fixture.run().await;
    remove(&fixture, "texts").await;
    let before = doomed(&fixture).await;
    fixture.terminate();
    // With the note of what was seen of it, as somebody would who has the volume.
    let retired = fixture.directory.path().join("retired");
    std::fs::create_dir(&retired).unwrap();
    exchange(&fixture, &kept, &retired);
    // Also where the delay is not over yet: the ledger has to say so for all of it.
    fixture.run().await;
    let log = fixture.log();
    let told = log
        .lines()
        .any(|line| line.contains("the ledger is not the one that let data keys go"));
    assert!(told, "it is told");
    fixture.terminate();
    fixture.set(DELAY, "0");
    fixture.run().await;
    let lease = fixture.lease("texts", &fixture.person("alice")).await;
    assert!(open(&fixture, &lease).await.is_ok());
    assert!(receipts(&fixture, "").await.is_empty());
    fixture.terminate();
    assert!(wrapped(&fixture, &dataset, 1).await.is_some());

    // It is looked for again, and the delay is a whole one.
    exchange(&fixture, &retired, &kept);
    fixture.set(DELAY, "86400");
    fixture.run().await;
    let after = doomed(&fixture).await;
    assert!(after["seen_at"].as_i64() >= before["seen_at"].as_i64());
    assert_ne!(after["block_hash"], json!(null));
    fixture.terminate();
    assert!(wrapped(&fixture, &dataset, 1).await.is_some());
    fixture.set(DELAY, "0");
    fixture.run().await;
    eventually("the key to be destroyed", async || {
        wrapped(&fixture, &dataset, 1).await.is_none().then_some(())
    })
    .await;
}

/// Puts another ledger in the place of the one that is there, which goes to `away`.
fn exchange(fixture: &Fixture, other: &Path, away: &Path) {
    let name = |file: &Path| file.file_name().unwrap().to_owned();
    for file in ledger_files(&fixture.data_dir()) {
        std::fs::rename(&file, away.join(name(&file))).unwrap();
    }
    for file in files(other) {
        std::fs::rename(&file, fixture.data_dir().join(name(&file))).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_more_datasets_than_may_go_in_an_hour_are_held_back_until_an_operator_lets_them_go() {
    let fixture = started(&[(MOST, "1")]).await;
    let mut datasets = Vec::new();
    for name in ["one", "two", "three"] {
        datasets.push(fixture.register(name).await);
    }
    for name in ["one", "two", "three"] {
        remove(&fixture, name).await;
    }
    let held_back = async |expected: usize| {
        eventually("the rest to be held back", async || {
            let waits = fixture.keys_done(&["doomed"]);
            let held = waits.iter().all(|one| one["state"] == "held_back");
            (waits.len() == expected && held).then_some(())
        })
        .await;
    };
    held_back(2).await;
    fixture.kill();
    fixture.run().await;
    held_back(2).await;
    assert_eq!(receipts(&fixture, "").await.len(), 1);
    assert!(
        fixture
            .log()
            .contains("look at `keys doomed`, and let them go with `keys release`")
    );
    assert!(
        fixture
            .metrics()
            .await
            .contains("key_destructions{state=\"held_back\"} 2")
    );
    let (status, text) = fixture.readiness().await;
    assert!(status == 200 && text.contains("2 datasets are due"), "{text}");
    let status = &fixture.keys_done(&["status"])[0];
    assert_eq!(status["datasets_to_destroy"], json!({"all": 2, "held_back": 2}));
    assert!(wrapped(&fixture, &datasets[2], 1).await.is_some());
    fixture.keys_done(&["release", &datasets[2]]);
    eventually("the released key to be destroyed", async || {
        wrapped(&fixture, &datasets[2], 1).await.is_none().then_some(())
    })
    .await;
    held_back(1).await;
    fixture.keys_done(&["release", "--all"]);
    held_back(0).await;
    let refused = fixture.keys_refused(&["release", "--all"]);
    assert!(refused.contains("keys doomed"), "{refused}");
    assert_eq!(receipts(&fixture, "").await.len(), 3);
    // Who let them go is in the audit, where the broker writes too.
    let records = fixture.audit_records();
    let releases: Vec<_> = records
        .iter()
        .filter(|record| record["verb"] == "release_data_keys" && record["decision"] == "allowed")
        .map(|record| {
            (
                record["who"].as_str().unwrap(),
                record["object"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        releases,
        [
            ("operator", datasets[2].as_str()),
            ("operator", "all"),
            ("operator", "all")
        ]
    );
}

/// What an operator's commands change is recorded, and where nothing can be recorded nothing is changed.
#[tokio::test(flavor = "multi_thread")]
async fn an_operators_work_on_keys_is_recorded_or_not_done() {
    let fixture = Fixture::start().await;
    fixture.register("texts").await;
    let copy = fixture.directory.path().join("copy");
    let copy = copy.to_str().unwrap();
    fixture.keys_done(&["rotate"]);
    fixture.keys_done(&["rewrap", "--organisation", "UiSMSP"]);
    fixture.keys_done(&["backup", "--to", copy]);
    fixture.keys_refused(&["backup", "--to", copy]);
    fixture.terminate();
    fixture.keys_refused(&["restore", "--from", copy, "--organisation", "UiSMSP"]);
    let of_operator: Vec<(String, String)> = fixture
        .audit_records()
        .iter()
        .filter(|record| record["who"] == "operator")
        .map(|record| {
            let text = |name: &str| record[name].as_str().unwrap().to_owned();
            (text("verb"), text("reason"))
        })
        .collect();
    let expected = [
        ("rotate_ring", "by_operator"),
        ("wrap_data_keys", "by_operator"),
        ("copy_key_store", "by_operator"),
        ("copy_key_store", "by_operator"),
        ("copy_key_store", "failed"),
        ("restore_key_store", "by_operator"),
        ("restore_key_store", "failed"),
    ]
    .map(|(verb, reason)| (verb.to_owned(), reason.to_owned()));
    assert_eq!(of_operator, expected);
    fixture.audit_is_whole();

    let ring = fixture.data_dir().join("keys");
    let before = std::fs::read(&ring).unwrap();
    let audit = fixture.data_dir().join("audit.db");
    let away = fixture.directory.path().join("audit");
    std::fs::rename(&audit, &away).unwrap();
    let refused = fixture.keys_refused(&["rotate"]);
    assert!(refused.contains("--without-audit"), "{refused}");
    std::fs::write(&audit, "no database").unwrap();
    let refused = fixture.keys_refused(&["rotate"]);
    assert!(refused.contains("audit"), "{refused}");
    assert_eq!(std::fs::read(&ring).unwrap(), before);
    // A copy of the ring elsewhere has no audit beside it.
    fixture.keys_done(&["rotate", "--without-audit"]);
    std::fs::rename(&away, &audit).unwrap();
    fixture.run().await;
    eventually("the broker to record that the ring is another", async || {
        let records = fixture.audit_records();
        records
            .iter()
            .any(|record| record["verb"] == "wrap_data_keys" && record["who"] == "broker")
            .then_some(())
    })
    .await;
    fixture.audit_is_whole();
}
