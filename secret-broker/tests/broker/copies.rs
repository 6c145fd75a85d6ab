//! Copies of the key store: what they are asked for before a key-encryption key goes, and what is tried before one takes the key store's
//! place.

use std::path::Path;

use leasehold_secret_broker::store::Store;
use serde_json::{Value, json};

use crate::fixture::{Fixture, eventually};
use crate::keys::wrapped;
use crate::restart;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Stops the broker and takes its key store away.
fn without_store(fixture: &Fixture) {
    fixture.terminate();
    for tail in ["", "-wal", "-shm"] {
        let _none = std::fs::remove_file(fixture.data_dir().join(format!("broker.db{tail}")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_encryption_key_goes_only_after_a_copy_that_does_without_it_or_by_an_operators_word() {
    let fixture = Fixture::start().await;
    fixture.register("texts").await;
    let at = |name: &str| fixture.directory.path().join(name);
    fixture.keys_done(&["backup", "--to", text(&at("before"))]);
    fixture.keys_done(&["rotate"]);
    eventually("the data key to be wrapped anew", async || {
        (fixture.wrapped_by() == [(1, 0), (2, 1)]).then_some(())
    })
    .await;
    let neither = fixture.keys(&["retire", "1"]).output().unwrap();
    assert_eq!(neither.status.code(), Some(2), "{neither:?}");
    let retire = |version: &str, receipt: &str| {
        fixture.keys_refused(&["retire", version, "--backup-receipt", text(&at(receipt))])
    };
    let refused = retire("1", "before.receipt");
    assert!(refused.contains("is of no use without it"), "{refused}");
    let refused = retire("1", "nowhere");
    assert!(refused.contains("could not read the receipt"), "{refused}");
    let mut forged: Value = serde_json::from_slice(&std::fs::read(at("before.receipt")).unwrap()).unwrap();
    forged["wrapped_by"] = json!([[2, 1]]);
    std::fs::write(at("forged"), forged.to_string()).unwrap();
    let refused = retire("1", "forged");
    assert!(
        refused.contains("not a receipt that this key ring sealed"),
        "{refused}"
    );
    // A copy and its receipt of before a registration.
    let [copied] = fixture
        .keys_done(&["backup", "--to", text(&at("older"))])
        .try_into()
        .unwrap();
    let copied: Value = copied;
    assert_eq!(copied["receipt"], text(&at("older.receipt")));
    fixture.register("scans").await;
    let refused = retire("1", "older.receipt");
    assert!(refused.contains("some were made or destroyed since"), "{refused}");
    assert_eq!(fixture.wrapped_by(), [(1, 0), (2, 2)]);
    // Another broker's key store, of the same ring.
    let elsewhere = at("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let other_store = Store::open(&elsewhere.join("broker.db")).await.unwrap();
    other_store.close().await;
    let copied = std::process::Command::new(env!("CARGO_BIN_EXE_leasehold-secret-broker"))
        .env_clear()
        .args(["keys", "backup", "--without-audit", "--to", text(&at("of-other"))])
        .args(["--data-dir", text(&elsewhere)])
        .arg("--kek-file")
        .arg(fixture.data_dir().join("keys"))
        .output()
        .unwrap();
    assert!(copied.status.success(), "{copied:?}");
    let refused = retire("1", "of-other.receipt");
    assert!(
        refused.contains("other data keys than this key store"),
        "{refused}"
    );
    // The second in which a data key was made has to be over.
    let mut tries = 0_u32..;
    let mut receipt = at("none");
    let start = std::time::Instant::now();
    loop {
        let copy = at(&format!("copy-{}", tries.next().unwrap()));
        fixture.keys_done(&["backup", "--to", text(&copy)]);
        receipt.set_file_name(format!("{}.receipt", copy.file_name().unwrap().to_str().unwrap()));
        let arguments = ["retire", "1", "--backup-receipt", text(&receipt)];
        let retired = fixture.keys(&arguments).output().unwrap();
        if retired.status.success() {
            break;
        }
        let why = String::from_utf8(retired.stderr).unwrap();
        assert!(why.contains("data keys were made since"), "{why}");
        assert!(start.elapsed().as_secs() < 60, "{why}");
    }
    assert_eq!(fixture.wrapped_by(), [(2, 2)]);
    // What it does not know it does not say that it destroyed.
    let again = fixture.keys_done(&["retire", "1", "--without-backup"]);
    assert_eq!(again, [json!({"retired": 1, "before": true})]);
    let refused = fixture.keys_refused(&["retire", "0", "--without-backup"]);
    assert!(refused.contains("nothing was destroyed"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_the_ring_does_not_open_takes_no_key_stores_place() {
    let fixture = Fixture::start().await;
    let dataset = fixture.register("texts").await;
    let copy = fixture.directory.path().join("copy");
    fixture.keys_done(&["backup", "--to", text(&copy)]);
    without_store(&fixture);
    let other = fixture.directory.path().join("other-ring");
    let kept = fixture.directory.path().join("ring");
    fixture.keys_done(&["init", "--kek-file", text(&other)]);
    let ring = fixture.data_dir().join("keys");
    std::fs::copy(&ring, &kept).unwrap();
    let restore = ["restore", "--from", text(&copy), "--organisation", "UiSMSP"];
    let with = |more: &[&'static str]| [restore.as_slice(), more].concat();
    // The audit is sealed by the ring that the broker had.
    let of_other = [
        restore.as_slice(),
        &["--kek-file", text(&other), "--without-audit"],
    ]
    .concat();
    let refused = fixture.keys_refused(&of_other);
    assert!(refused.contains("does not open 1 data keys"), "{refused}");
    let of_nobody = ["restore", "--from", text(&copy), "--organisation", "UiOMSP"];
    let refused = fixture.keys_refused(&of_nobody);
    assert!(refused.contains("does not open 1 data keys"), "{refused}");
    let left: Vec<_> = std::fs::read_dir(fixture.data_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("broker.db"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let restored = fixture.keys_done(&with(&["--accept-unopened"]));
    assert_eq!(
        (&restored[0]["data_keys"], &restored[0]["lost"]),
        (&json!(1), &json!([]))
    );
    fixture.run().await;
    assert!(wrapped(&fixture, &dataset, 1).await.is_some());

    // What no key opens is left out and named, and a broker goes on from the rest.
    without_store(&fixture);
    let half_made = fixture.data_dir().join("broker.db.restoring");
    std::fs::write(&half_made, "cut off").unwrap();
    let accepted = [of_other.as_slice(), &["--accept-unopened"]].concat();
    let restored = fixture.keys_done(&accepted);
    assert_eq!(
        (&restored[0]["data_keys"], &restored[0]["lost"]),
        (&json!(0), &json!([{"dataset": dataset, "version": 1}]))
    );
    assert!(!half_made.exists());
    std::fs::write(&half_made, "cut off").unwrap();
    fixture.run().await;
    assert!(!half_made.exists());
    assert!(wrapped(&fixture, &dataset, 1).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_decided_in_a_copy_is_not_submitted_again() {
    let fixture = Fixture::start().await;
    fixture.register("texts").await;
    fixture.terminate();
    let store = Store::open(&fixture.data_dir().join("broker.db")).await.unwrap();
    let mut operation = restart::operation("00000001", "late");
    // Its data key would have to be one that the ring wrapped.
    operation.data_key = None;
    store.accept(&operation).await.unwrap();
    store.close().await;
    let copy = fixture.directory.path().join("copy");
    fixture.keys_done(&["backup", "--to", text(&copy)]);
    for tail in ["", "-wal", "-shm"] {
        let _none = std::fs::remove_file(fixture.data_dir().join(format!("broker.db{tail}")));
    }
    let restored = fixture.keys_done(&["restore", "--from", text(&copy), "--organisation", "UiSMSP"]);
    assert_eq!(restored[0]["operations_dropped"], json!([operation.id]));
    fixture.run().await;
    let store = Store::open(&fixture.data_dir().join("broker.db")).await.unwrap();
    let row = store
        .operation(&operation.id, &operation.submitter)
        .await
        .unwrap()
        .unwrap();
    store.close().await;
    assert_eq!(row.status, "failed");
    let problem = row.problem.unwrap();
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("restored from a copy"),
        "{problem}"
    );
    let found = fixture
        .call("GET", "/v1/datasets/late", &fixture.person("alice"), None)
        .await;
    assert_eq!(found.status, 404, "{}", found.body);
}
