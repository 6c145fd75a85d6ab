//! The keys over their life: rotated while leases go on, destroyed with a receipt and without a trace, backed up, restored, lost.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use leasehold_broker_wire::machines as wire;
use leasehold_secret_broker::crypto::Key;
use leasehold_secret_broker::keys::{DataKeyOf, KeyRing};
use leasehold_secret_broker::store::Store;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::fixture::{Fixture, eventually, files};

pub async fn open(fixture: &Fixture, lease: &str) -> Result<Vec<u8>, tonic::Status> {
    let mut provisioner = fixture.machine("leasehold-provisioner").await;
    let lease_id = lease.to_owned();
    let opened = provisioner
        .open_volume(wire::OpenVolumeRequest { lease_id })
        .await?;
    Ok(opened.into_inner().volume)
}

/// Gives the lease back and takes its dataset away.
pub async fn remove(fixture: &Fixture, dataset: &str) {
    let steward = fixture.person("steward");
    let path = format!("/v1/datasets/{dataset}");
    let removed = fixture.call("DELETE", &path, &steward, None).await;
    assert_eq!(fixture.decided(&removed, &steward).await["status"], "succeeded");
}

pub async fn wrapped(fixture: &Fixture, dataset: &str, version: u32) -> Option<Vec<u8>> {
    let store = Store::open(&fixture.data_dir().join("broker.db")).await.unwrap();
    let wrapped = store.data_key(dataset, version).await.unwrap();
    store.close().await;
    wrapped
}

/// Whether some file of the key store has these bytes, or any long part of them.
fn is_in_the_files(fixture: &Fixture, bytes: &[u8]) -> bool {
    // The first bytes are the same in every envelope.
    let part = &bytes[5..37];
    let of_the_store = |path: &Path| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("broker.db")
    };
    let mut searched = 0;
    let found = files(&fixture.data_dir())
        .iter()
        .filter(|path| of_the_store(path))
        .any(|path| {
            searched += 1;
            let content = std::fs::read(path).unwrap();
            content.windows(part.len()).any(|window| window == part)
        });
    assert!(found || searched >= 1);
    found
}

pub async fn receipts(fixture: &Fixture, query: &str) -> Vec<Value> {
    let steward = fixture.person("steward");
    let path = format!("/v1/key-receipts{query}");
    let answer = fixture.call("GET", &path, &steward, None).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn key_encryption_keys_are_rotated_while_leases_go_on_and_a_used_one_is_not_retired() {
    let fixture = Fixture::start().await;
    let dataset = fixture.register("texts").await;
    let first = wrapped(&fixture, &dataset, 1).await.unwrap();
    let lease = fixture.lease("texts", &fixture.person("alice")).await;
    let before = open(&fixture, &lease).await.unwrap();
    assert_eq!(fixture.wrapped_by(), [(1, 1)]);
    let refused = fixture.keys_refused(&["retire", "1", "--without-backup"]);
    assert!(refused.contains("keys rotate"), "{refused}");

    fixture.kill();
    assert_eq!(fixture.keys_done(&["rotate"]), [json!({"current": 2})]);
    let refused = fixture.keys_refused(&["retire", "1", "--without-backup"]);
    assert!(refused.contains("wraps 1 data keys"), "{refused}");
    fixture.run().await;
    eventually("the data key to be wrapped anew", async || {
        (fixture.wrapped_by() == [(1, 0), (2, 1)]).then_some(())
    })
    .await;

    // A running broker takes over the next one.
    assert_eq!(fixture.keys_done(&["rotate"]), [json!({"current": 3})]);
    eventually("the running broker to wrap the data key anew", async || {
        assert_eq!(open(&fixture, &lease).await.unwrap(), before);
        (fixture.wrapped_by() == [(1, 0), (2, 0), (3, 1)]).then_some(())
    })
    .await;
    eventually("the first wrapping to be in no file", async || {
        (!is_in_the_files(&fixture, &first)).then_some(())
    })
    .await;
    for version in ["1", "2", "2"] {
        fixture.keys_done(&["retire", version, "--without-backup"]);
    }
    assert_eq!(fixture.wrapped_by(), [(3, 1)]);
    let ring = std::fs::read_to_string(fixture.data_dir().join("keys")).unwrap();
    assert_eq!(ring.matches("kek:").count(), 1, "two lines are gone");
    assert_eq!(open(&fixture, &lease).await.unwrap(), before);
    fixture.register("scans").await;
    fixture.kill();
    fixture.run().await;
    assert_eq!(open(&fixture, &lease).await.unwrap(), before);
    assert_eq!(fixture.wrapped_by(), [(3, 2)]);
}

/// Nothing is lost or left wrapped by the old key, whenever it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn wrapping_anew_that_is_killed_again_and_again_goes_on_where_it_was() {
    const KEYS: usize = 150;
    let fixture = Fixture::start().await;
    fixture.kill();
    let ring_file = fixture.data_dir().join("keys");
    let of = |dataset: &'static str, version| DataKeyOf {
        organisation: "UiSMSP",
        dataset,
        version,
    };
    let ring = KeyRing::load(&ring_file, None).await.unwrap();
    let store = Store::open(&fixture.data_dir().join("broker.db")).await.unwrap();
    let mut keys = Vec::new();
    for version in 1..=u32::try_from(KEYS).unwrap() {
        let key = Key::generate().unwrap();
        let (kek_version, wrapped) = ring.wrap(of("many", version), &key).await.unwrap();
        let mut operation = crate::restart::operation(&format!("{version:0>8}"), "many");
        let data_key = operation.data_key.as_mut().unwrap();
        data_key.dataset_id = "many".to_owned();
        (data_key.version, data_key.kek_version, data_key.wrapped) = (version, kek_version, wrapped);
        operation.submitter = format!("submitter-{version}");
        store.accept(&operation).await.unwrap();
        keys.push(key);
    }
    store.close().await;
    fixture.keys_done(&["rotate"]);
    let left = || usize::try_from(fixture.wrapped_by()[0].1).unwrap();
    let mut seen = vec![left()];
    let mut patience = Duration::from_millis(60);
    while left() > 0 && seen.len() < 100 {
        let mut child = fixture
            .keys(&["rewrap", "--organisation", "UiSMSP"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Killed at some moment; later each time, so that it comes to an end on a slow machine too.
        tokio::time::timeout(patience, async {
            while child.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap_or_default();
        child.kill().unwrap();
        child.wait().unwrap();
        patience += Duration::from_millis(20);
        seen.push(left());
    }
    assert!(seen.is_sorted_by(|before, after| before >= after), "{seen:?}");
    let halfway = seen.iter().filter(|left| (1..KEYS).contains(*left)).count();
    assert!(halfway > 0, "it was never killed on its way: {seen:?}");
    assert_eq!(fixture.wrapped_by(), [(1, 0), (2, KEYS as u64)]);
    fixture.keys_done(&["retire", "1", "--without-backup"]);
    let ring = KeyRing::load(&ring_file, None).await.unwrap();
    for (version, key) in (1..).zip(&keys) {
        let wrapped = wrapped(&fixture, "many", version).await.unwrap();
        let unwrapped = ring.unwrap(of("many", version), &wrapped).await.unwrap();
        assert_eq!(unwrapped.expose(), key.expose());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_key_is_replaced_on_the_ledger_and_the_old_one_leaves_a_receipt() {
    let fixture = Fixture::start().await;
    let (steward, alice) = (fixture.person("steward"), fixture.person("alice"));
    let dataset = fixture.register("texts").await;
    let lease = fixture.lease("texts", &alice).await;
    let before = open(&fixture, &lease).await.unwrap();
    let old = wrapped(&fixture, &dataset, 1).await.unwrap();

    let path = "/v1/datasets/texts/rotation";
    assert_eq!(fixture.call("POST", path, &alice, None).await.status, 403);
    let rotated = fixture.call("POST", path, &steward, None).await;
    let operation = fixture.decided(&rotated, &steward).await;
    assert_eq!(
        (&operation["status"], &operation["kind"]),
        (&json!("succeeded"), &json!("replace_volume"))
    );
    assert_eq!(open(&fixture, &lease).await.unwrap(), before);
    assert_eq!(wrapped(&fixture, &dataset, 1).await, None);
    assert!(wrapped(&fixture, &dataset, 2).await.is_some());
    eventually("the old data key to be in no file", async || {
        (!is_in_the_files(&fixture, &old)).then_some(())
    })
    .await;
    let of_dataset = receipts(&fixture, &format!("?dataset={dataset}")).await;
    let [receipt] = of_dataset.as_slice() else {
        panic!("{of_dataset:?}");
    };
    assert_eq!(
        (
            &receipt["reason"],
            &receipt["version"],
            &receipt["key_encryption_key"]
        ),
        (&json!("superseded"), &json!(1), &json!(1))
    );
    assert_eq!(receipt["wrapped_sha256"], hex::encode(Sha256::digest(&old)));
    assert!(receipt["ledger_height"].as_u64().unwrap() > 1, "{receipt}");
    assert_eq!(receipt["transaction"], operation["id"]);
    assert_eq!(
        fixture.call("GET", "/v1/key-receipts", &alice, None).await.status,
        403
    );
    assert_eq!(
        fixture
            .call("GET", "/v1/key-receipts?x=1", &steward, None)
            .await
            .status,
        400
    );

    fixture.kill();
    fixture.run().await;
    assert_eq!(open(&fixture, &lease).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_retired_dataset_leaves_a_receipt_and_no_byte_in_the_files() {
    let fixture = Fixture::start().await;
    let dataset = fixture.register("texts").await;
    let key = wrapped(&fixture, &dataset, 1).await.unwrap();
    assert!(is_in_the_files(&fixture, &key), "it can be found where it is");
    fixture.keys_done(&[
        "backup",
        "--to",
        fixture.directory.path().join("copy").to_str().unwrap(),
    ]);
    remove(&fixture, "texts").await;
    eventually("the data key to be in no file", async || {
        (!is_in_the_files(&fixture, &key)).then_some(())
    })
    .await;
    let [receipt] = receipts(&fixture, "").await.try_into().unwrap();
    assert_eq!(
        (&receipt["reason"], &receipt["dataset"]),
        (&json!("retired"), &json!(dataset))
    );
    assert_eq!(receipt["wrapped_sha256"], hex::encode(Sha256::digest(&key)));
    assert!(
        receipt["ledger_height"].as_u64().unwrap() > 1 && receipt["transaction"].is_string(),
        "{receipt}"
    );
    assert_eq!(fixture.keys_done(&["receipts"]), [receipt]);
    fixture.kill();
    assert!(!is_in_the_files(&fixture, &key));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_store_from_before_is_held_against_the_ledger() {
    let fixture = Fixture::start().await;
    let alice = fixture.person("alice");
    let gone = fixture.register("gone").await;
    fixture.register("kept").await;
    let gone_key = wrapped(&fixture, &gone, 1).await.unwrap();
    let copy = fixture.directory.path().join("copy");
    let copied = copy.to_str().unwrap();
    fixture.keys_done(&["backup", "--to", copied]);
    let refused = fixture.keys_refused(&["backup", "--to", copied]);
    assert!(refused.contains("does not exist yet"), "{refused}");
    let newer = fixture.register("newer").await;
    remove(&fixture, "gone").await;
    let lease = fixture.lease("newer", &alice).await;
    assert!(open(&fixture, &lease).await.is_ok());

    fixture.terminate();
    let refused = fixture.keys_refused(&["restore", "--from", copied, "--organisation", "UiSMSP"]);
    assert!(refused.contains("does not exist yet"), "{refused}");
    for tail in ["", "-wal", "-shm"] {
        let _none = std::fs::remove_file(fixture.data_dir().join(format!("broker.db{tail}")));
    }
    std::fs::write(fixture.directory.path().join("broken"), "no database").unwrap();
    let broken = fixture.directory.path().join("broken");
    fixture.keys_refused(&[
        "restore",
        "--from",
        broken.to_str().unwrap(),
        "--organisation",
        "UiSMSP",
    ]);
    let restored = fixture.keys_done(&["restore", "--from", copied, "--organisation", "UiSMSP"]);
    assert_eq!(restored[0]["data_keys"], 2);
    assert!(is_in_the_files(&fixture, &gone_key), "it is back");

    fixture.run().await;
    // Destroyed again, before anybody is served.
    assert!(wrapped(&fixture, &gone, 1).await.is_none());
    let [receipt] = receipts(&fixture, "").await.try_into().unwrap();
    assert_eq!(
        (&receipt["reason"], &receipt["dataset"]),
        (&json!("retired"), &json!(gone))
    );
    eventually("the data key to be in no file", async || {
        (!is_in_the_files(&fixture, &gone_key)).then_some(())
    })
    .await;
    // Named, and all others go on.
    eventually("the missing key to be told", async || {
        fixture
            .readiness()
            .await
            .1
            .contains("1 datasets lack their data key")
            .then_some(())
    })
    .await;
    let log = fixture.log();
    assert!(
        log.lines()
            .any(|line| line.contains("lacks the data key") && line.contains(&newer))
    );
    assert!(
        log.lines()
            .any(|line| line.contains("destroyed data keys") && line.contains(&gone))
    );
    let status = open(&fixture, &lease).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DataLoss, "{status}");
    let other = fixture.lease("kept", &alice).await;
    assert!(open(&fixture, &other).await.is_ok());
}

/// The copy has the first data key, and not the one that took over: the ledger has let the first go all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_key_that_comes_back_alone_from_before_a_rotation_is_destroyed_again() {
    let fixture = Fixture::start().await;
    let steward = fixture.person("steward");
    let dataset = fixture.register("texts").await;
    let first = wrapped(&fixture, &dataset, 1).await.unwrap();
    let copy = fixture.directory.path().join("copy");
    fixture.keys_done(&["backup", "--to", copy.to_str().unwrap()]);
    let rotated = fixture
        .call("POST", "/v1/datasets/texts/rotation", &steward, None)
        .await;
    assert_eq!(fixture.decided(&rotated, &steward).await["status"], "succeeded");
    fixture.terminate();
    for tail in ["", "-wal", "-shm"] {
        let _none = std::fs::remove_file(fixture.data_dir().join(format!("broker.db{tail}")));
    }
    fixture.keys_done(&[
        "restore",
        "--from",
        copy.to_str().unwrap(),
        "--organisation",
        "UiSMSP",
    ]);
    fixture.run().await;
    assert!(wrapped(&fixture, &dataset, 1).await.is_none());
    let [receipt] = receipts(&fixture, "").await.try_into().unwrap();
    assert_eq!(
        (&receipt["reason"], &receipt["version"]),
        (&json!("superseded"), &json!(1))
    );
    assert_eq!(receipt["wrapped_sha256"], hex::encode(Sha256::digest(&first)));
    eventually("the missing key to be told", async || {
        let (_, text) = fixture.readiness().await;
        text.contains("1 datasets lack their data key").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_ring_is_not_replaced_by_one_that_opens_nothing() {
    let fixture = Fixture::start().await;
    fixture.register("texts").await;
    fixture.kill();
    let ring = fixture.data_dir().join("keys");
    let kept = fixture.directory.path().join("kept");
    std::fs::rename(&ring, &kept).unwrap();
    let log = fixture.refused();
    assert!(log.contains("1 data keys") && log.contains("restore it"), "{log}");
    assert!(!ring.exists());
    std::fs::rename(&kept, &ring).unwrap();
    fixture.run().await;
    assert!(
        fixture
            .call("GET", "/v1/datasets/texts", &fixture.person("alice"), None)
            .await
            .status
            == 200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_directory_is_lost_makes_no_other_ring_for_the_datasets_on_the_ledger() {
    let fixture = Fixture::start().await;
    fixture.register("texts").await;
    fixture.terminate();
    for file in files(&fixture.data_dir()) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("ledger.") {
            std::fs::remove_file(file).unwrap();
        }
    }
    let log = fixture.refused();
    assert!(log.contains("UiSMSP has datasets on the ledger"), "{log}");
    let ring = fixture.data_dir().join("keys");
    assert!(!ring.exists());
    // An operator's own word.
    fixture.keys_done(&["init"]);
    fixture.run().await;
}
