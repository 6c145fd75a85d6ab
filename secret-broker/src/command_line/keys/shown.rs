//! What the commands print, one JSON object a line.

use std::io::{self, Write as _};

use serde_json::{Value, json};

use super::Failure;
use crate::keys::KeyRing;
use crate::store::data_keys::Versions;
use crate::store::doomed::Doomed;
use crate::store::receipts::Receipt;

pub(super) fn status(ring: &KeyRing, wrapped_by: &[(u32, i64)], doomed: &[Doomed]) -> Value {
    let wrapped = |version: u32| {
        let row = wrapped_by.iter().find(|(by, _)| *by == version);
        row.map_or(0, |(_, keys)| *keys)
    };
    let versions = ring.versions();
    let lost: Vec<_> = wrapped_by
        .iter()
        .filter(|(by, _)| versions.iter().all(|(version, _)| version != by))
        .map(|(version, keys)| json!({"version": version, "data_keys": keys}))
        .collect();
    let versions: Vec<_> = versions
        .iter()
        .map(|(version, place)| json!({"version": version, "place": place, "data_keys": wrapped(*version)}))
        .collect();
    let held_back = doomed.iter().filter(|one| state(one) == "held_back").count();
    json!({
        "current": ring.current(), "versions": versions, "wrapped_by_lost_versions": lost,
        "datasets_to_destroy": {"all": doomed.len(), "held_back": held_back},
    })
}

pub(super) fn receipt(receipt: &Receipt) -> Value {
    json!({
        "sequence": receipt.sequence,
        "dataset": receipt.dataset_id,
        "version": receipt.version,
        "key_encryption_key": receipt.kek_version,
        "wrapped_sha256": hex::encode(&receipt.wrapped_sha256),
        "reason": receipt.reason,
        "ledger_height": receipt.height,
        "transaction": receipt.transaction,
        "destroyed_at": receipt.destroyed_at,
    })
}

pub(super) fn doomed(doomed: &Doomed) -> Value {
    let before_version = match doomed.versions {
        Versions::Before(version) => Some(version),
        Versions::All | Versions::Only(_) => None,
    };
    json!({
        "dataset": doomed.dataset_id,
        "reason": doomed.reason.name(),
        "before_version": before_version,
        "state": state(doomed),
        "ledger_height": doomed.seen.height,
        "block_hash": doomed.seen.block_hash.map(|hash| hash.to_string()),
        "transaction": doomed.seen.transaction,
        "seen_at": doomed.seen_at,
    })
}

const fn state(doomed: &Doomed) -> &'static str {
    match (doomed.released_at, doomed.held_at) {
        (Some(_), _) => "released",
        (None, Some(_)) => "held_back",
        (None, None) => "waiting",
    }
}

pub(super) fn print(value: &Value) -> Result<(), Failure> {
    writeln!(io::stdout(), "{value}").map_err(|error| format!("could not write the answer: {error}").into())
}
