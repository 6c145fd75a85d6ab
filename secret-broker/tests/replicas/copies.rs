//! Copies of a key store on a server, and a key store from before.

use serde_json::json;

use crate::fixture::{Fixture, eventually};
use crate::place::{Kind, Place};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_store_in_postgresql_that_is_older_than_the_ledger_is_noticed() {
    older(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_store_in_mariadb_that_is_older_than_the_ledger_is_noticed() {
    older(Kind::MariaDb).await;
}

async fn older(kind: Kind) {
    let Some(place) = Place::of(kind, &format!("copies of {kind:?}")).await else {
        return;
    };
    let mut broker = Fixture::start_quiet(place.setting.clone()).await;
    let kept = broker.register("kept").await;
    let retired = broker.register("retired").await;
    let copy = broker.directory.path().join("copy.db");
    let copied = &broker.keys_done(&["backup", "--to", copy.to_str().unwrap()])[0];
    assert!(!copied.to_string().contains("password"), "{copied}");
    let receipt = copied["receipt"].as_str().unwrap().to_owned();
    // After the copy one dataset comes, and one goes.
    let late = broker.register("late").await;
    let steward = broker.person("steward");
    let path = format!("/v1/datasets/{retired}");
    let accepted = broker.call("DELETE", &path, &steward, None).await;
    assert_eq!(broker.decided(&accepted, &steward).await["status"], "succeeded");
    // A copy from before the last data key is no reason to let a version go.
    broker.keys_done(&["rotate"]);
    eventually("all data keys to be wrapped anew", async || {
        let by = broker.wrapped_by();
        by.iter()
            .all(|(version, keys)| *version == 2 || *keys == 0)
            .then_some(())
    })
    .await;
    let refused = broker.keys_refused(&["retire", "1", "--backup-receipt", &receipt]);
    assert!(refused.contains("version 1 wraps"), "{refused}");
    broker.kill();

    let from = copy.to_str().unwrap();
    let restore = ["restore", "--from", from, "--organisation", "UiSMSP"];
    let refused = broker.keys_refused(&restore);
    assert!(refused.contains("has a key store already"), "{refused}");
    broker.set("LEASEHOLD_STORE", place.elsewhere.as_deref().unwrap());
    let restored = &broker.keys_done(&restore)[0];
    assert_eq!(restored["data_keys"], 2, "{restored}");
    assert_eq!(restored["lost"], json!([]), "{restored}");
    broker.run().await;
    eventually(
        "the missing data key to be counted and the needless one to go",
        async || {
            let metrics = broker.metrics().await;
            let is_missed = metrics.contains("leasehold_broker_datasets_without_key 1");
            let keys: u64 = broker.wrapped_by().iter().map(|(_, keys)| keys).sum();
            (is_missed && keys == 1).then_some(())
        },
    )
    .await;
    let log = broker.log();
    let named = |dataset: &str| {
        let says = "lacks the data key of this dataset";
        log.lines()
            .any(|line| line.contains(says) && line.contains(dataset))
    };
    assert!(named(&late) && !named(&kept), "{kind:?}");
}
