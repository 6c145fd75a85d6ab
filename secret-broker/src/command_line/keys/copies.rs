//! Copies of the key store: made with a receipt, asked for before a version of the key-encryption key goes, and tried before they take the
//! key store's place.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Failure;
use super::places::Places;
use super::shown::print;
use crate::api::problem::ApiProblem;
use crate::config::Pkcs11Args;
use crate::keys::{self, KeyRing};
use crate::private_file;
use crate::store::Store;
use crate::store::backup::{self, Unopened};

/// That a copy was made and what wraps the data keys in it. Whoever has not the ring cannot make one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Receipt {
    /// Of the copy's bytes.
    sha256: String,
    /// Unix seconds.
    taken_at: i64,
    /// Version of the key-encryption key, and how many data keys it wraps in the copy.
    wrapped_by: Vec<(u32, i64)>,
    /// A hash of which data keys are in the copy: another key store of the same ring has others.
    which: String,
    seal: String,
}

impl Receipt {
    async fn seal(&self, places: &Places, pkcs11: &Pkcs11Args) -> Result<String, Failure> {
        let wrapped_by = serde_json::to_vec(&self.wrapped_by)?;
        let taken_at = self.taken_at.to_be_bytes();
        let parts: [&[u8]; 5] = [
            b"backup receipt of data keys",
            self.sha256.as_bytes(),
            &taken_at,
            &wrapped_by,
            self.which.as_bytes(),
        ];
        let seal = keys::sealed_by(&places.ring(), pkcs11.settings()?.as_ref(), &parts).await?;
        Ok(hex::encode(seal))
    }
}

/// Makes a copy, and its receipt beside it.
pub(super) async fn backup_to(places: &Places, pkcs11: &Pkcs11Args, to: &Path) -> Result<(), Failure> {
    let store = places.store().await?;
    // A data key that comes while the copy is made may not be in it.
    let taken_at = chrono::Utc::now().timestamp();
    let copied = store.backup(to).await;
    store.close().await;
    copied?;
    let content = backup::content(to).await?;
    let mut receipt = Receipt {
        sha256: hex::encode(Sha256::digest(fs::read(to)?)),
        taken_at,
        wrapped_by: content.wrapped_by,
        which: hex::encode(content.which),
        seal: String::new(),
    };
    receipt.seal = receipt.seal(places, pkcs11).await?;
    let mut beside = to.as_os_str().to_owned();
    beside.push(".receipt");
    let beside = PathBuf::from(beside);
    private_file::create(&beside, &serde_json::to_vec(&receipt)?)
        .map_err(|error| format!("could not write the copy's receipt {}: {error}", beside.display()))?;
    print(&json!({"copied": places.shown(), "to": to, "receipt": beside}))
}

/// Whether a copy of all data keys was made in which nothing is wrapped by a version that is about to go.
pub(super) async fn is_backed_up(
    places: &Places,
    pkcs11: &Pkcs11Args,
    store: &Store,
    version: u32,
    receipt: &Path,
) -> Result<(), Failure> {
    let path = receipt.display();
    let text = fs::read(receipt).map_err(|error| format!("could not read the receipt {path}: {error}"))?;
    let receipt: Receipt = serde_json::from_slice(&text)
        .map_err(|error| format!("{path} is no receipt of `keys backup`: {error}"))?;
    if receipt.seal(places, pkcs11).await? != receipt.seal {
        return Err(format!("{path} is not a receipt that this key ring sealed").into());
    }
    if receipt.wrapped_by.iter().any(|(by, _)| *by == version) {
        return Err(format!(
            "the copy of {path} has data keys that version {version} wraps, and is of no use without it: make a new one with `keys backup`"
        )
        .into());
    }
    if hex::encode(store.which_data_keys().await?) != receipt.which {
        return Err(format!(
            "the copy of {path} has other data keys than this key store: some were made or destroyed since, or it is of another one; make a new one with `keys backup`"
        )
        .into());
    }
    if store
        .newest_data_key_at()
        .await?
        .is_some_and(|made_at| made_at >= receipt.taken_at)
    {
        return Err(format!(
            "data keys were made since the copy of {path}: make a new one with `keys backup`"
        )
        .into());
    }
    Ok(())
}

/// Which copy, and what is done without.
pub(super) struct Restore<'a> {
    pub from: &'a Path,
    pub organisation: &'a str,
    pub accept_unopened: bool,
}

/// Makes the key store from a copy whose data keys the ring opens.
pub(super) async fn restore(places: &Places, pkcs11: &Pkcs11Args, what: Restore<'_>) -> Result<(), Failure> {
    let ring = KeyRing::load(&places.ring(), pkcs11.settings()?.as_ref()).await?;
    // What became of it in the meantime is the ledger's to say.
    let problem =
        ApiProblem::outcome_unknown("the key store was restored from a copy in which it was not decided yet");
    let problem = serde_json::to_value(problem.body_without_id())?;
    let unopened = if what.accept_unopened {
        Unopened::Accept
    } else {
        Unopened::Refuse
    };
    let tried_by = (&ring, what.organisation);
    let restored = backup::restore(
        what.from,
        (&places.database(), places.data_dir()),
        tried_by,
        unopened,
        &problem,
    )
    .await?;
    let lost: Vec<_> = restored
        .lost
        .iter()
        .map(|key| json!({"dataset": key.dataset_id, "version": key.version}))
        .collect();
    print(&json!({
        "restored": places.shown(), "data_keys": restored.keys, "lost": lost, "operations_dropped": restored.dropped,
    }))
}
