//! Reading and writing the state, public and private, and the policy of a key.
//!
//! The public state and a private collection know the same requests, told apart by the collection's name; [`Stub`] has the calls of the
//! public state, [`PrivateData`] those of a collection.

use std::collections::BTreeMap;

use bytes::Bytes;
use fabric_wire::protos::{self, chaincode_message::Type};

use crate::error::CallError;
use crate::key;
use crate::lane::Lane;
use crate::stub::Stub;

/// The metadata under which a key's own endorsement policy lies, as [`crate::EndorsementPolicy::encode`] gives it; without, the
/// policy of the chaincode holds.
pub const VALIDATION_PARAMETER: &str = "VALIDATION_PARAMETER";

/// The name of the public state among the collections.
pub(crate) const PUBLIC: &str = "";

/// The public state. Every call reads or asks the peer to write; the writes reach the ledger where the transaction is committed
/// and valid.
impl Stub {
    /// The value of a key; none where there is none. Fabric does not tell an empty value from an absent one.
    ///
    /// # Errors
    /// Where the key is empty, the peer refuses, or the stream is gone.
    pub async fn get_state(&self, key: &str) -> Result<Option<Bytes>, CallError> {
        get(&self.lane, PUBLIC, key).await
    }

    /// The values of many keys, in their order: in batches where the peer offers them (Fabric 3.1), else one by one.
    ///
    /// # Errors
    /// As [`Stub::get_state`].
    pub async fn get_states(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>, CallError> {
        get_many(&self.lane, PUBLIC, keys).await
    }

    /// Writes a key. The last write of a transaction counts.
    ///
    /// # Errors
    /// As [`Stub::get_state`]; and where the value is greater than a message may be.
    pub async fn put_state(&self, key: &str, value: impl Into<Bytes>) -> Result<(), CallError> {
        put(&self.lane, PUBLIC, key, value.into()).await
    }

    /// Removes a key. No error where there is none.
    ///
    /// # Errors
    /// As [`Stub::get_state`].
    pub async fn delete_state(&self, key: &str) -> Result<(), CallError> {
        delete(&self.lane, Type::DelState, PUBLIC, key).await
    }

    /// The metadata of a key, by name.
    ///
    /// # Errors
    /// As [`Stub::get_state`].
    pub async fn get_state_metadata(&self, key: &str) -> Result<BTreeMap<String, Bytes>, CallError> {
        get_metadata(&self.lane, PUBLIC, key).await
    }

    /// Writes one entry of a key's metadata; with [`VALIDATION_PARAMETER`], the policy that endorses this key from now on.
    /// The peer keeps just this entry.
    ///
    /// # Errors
    /// As [`Stub::get_state`].
    pub async fn put_state_metadata(
        &self,
        key: &str,
        name: &str,
        value: impl Into<Bytes>,
    ) -> Result<(), CallError> {
        put_metadata(&self.lane, PUBLIC, key, name, value.into()).await
    }

    /// A private collection of this chaincode.
    ///
    /// # Errors
    /// Where the name is empty.
    pub fn private_data(&self, collection: &str) -> Result<PrivateData<'_>, CallError> {
        if collection.is_empty() {
            return Err(CallError::UnnamedCollection {
                request: "private data",
            });
        }
        Ok(PrivateData {
            stub: self,
            collection: collection.to_owned(),
        })
    }
}

/// A private collection: its values reach the peers of its members, and the ledger has their hashes.
#[derive(Debug)]
pub struct PrivateData<'stub> {
    pub(crate) stub: &'stub Stub,
    pub(crate) collection: String,
}

impl PrivateData<'_> {
    /// As [`Stub::get_state`].
    ///
    /// # Errors
    /// As there; and where this peer, or the client, is no member.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, CallError> {
        get(&self.stub.lane, &self.collection, key).await
    }

    /// As [`Stub::get_states`].
    ///
    /// # Errors
    /// As [`PrivateData::get`].
    pub async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>, CallError> {
        get_many(&self.stub.lane, &self.collection, keys).await
    }

    /// SHA-256 of a value, 32 bytes, which every peer has.
    ///
    /// # Errors
    /// As [`Stub::get_state`].
    pub async fn hash(&self, key: &str) -> Result<Option<Bytes>, CallError> {
        key::check(key)?;
        let request = protos::GetState {
            key: key.to_owned(),
            collection: self.collection.clone(),
        };
        self.stub
            .lane
            .call(Type::GetPrivateDataHash, &request)
            .await
            .map(present)
    }

    /// As [`Stub::put_state`]. Pass the value in as transient data: arguments are on the ledger.
    ///
    /// # Errors
    /// As [`PrivateData::get`].
    pub async fn put(&self, key: &str, value: impl Into<Bytes>) -> Result<(), CallError> {
        put(&self.stub.lane, &self.collection, key, value.into()).await
    }

    /// As [`Stub::delete_state`].
    ///
    /// # Errors
    /// As [`PrivateData::get`].
    pub async fn delete(&self, key: &str) -> Result<(), CallError> {
        delete(&self.stub.lane, Type::DelState, &self.collection, key).await
    }

    /// Deletes, and lets every member forget the former values too. Fabric 2.5.
    ///
    /// # Errors
    /// As [`PrivateData::get`].
    pub async fn purge(&self, key: &str) -> Result<(), CallError> {
        delete(&self.stub.lane, Type::PurgePrivateData, &self.collection, key).await
    }

    /// As [`Stub::get_state_metadata`].
    ///
    /// # Errors
    /// As [`PrivateData::get`].
    pub async fn get_metadata(&self, key: &str) -> Result<BTreeMap<String, Bytes>, CallError> {
        get_metadata(&self.stub.lane, &self.collection, key).await
    }

    /// As [`Stub::put_state_metadata`].
    ///
    /// # Errors
    /// As [`PrivateData::get`].
    pub async fn put_metadata(
        &self,
        key: &str,
        name: &str,
        value: impl Into<Bytes>,
    ) -> Result<(), CallError> {
        put_metadata(&self.stub.lane, &self.collection, key, name, value.into()).await
    }
}

fn present(value: Bytes) -> Option<Bytes> {
    (!value.is_empty()).then_some(value)
}

async fn get(lane: &Lane, collection: &str, key: &str) -> Result<Option<Bytes>, CallError> {
    key::check(key)?;
    let request = protos::GetState {
        key: key.to_owned(),
        collection: collection.to_owned(),
    };
    lane.call(Type::GetState, &request).await.map(present)
}

async fn get_many(lane: &Lane, collection: &str, keys: &[&str]) -> Result<Vec<Option<Bytes>>, CallError> {
    let mut values = Vec::with_capacity(keys.len());
    if lane.batching.reads == 0 {
        for key in keys {
            values.push(get(lane, collection, key).await?);
        }
        return Ok(values);
    }
    keys.iter().try_for_each(|key| key::check(key))?;
    for batch in keys.chunks(lane.batching.reads) {
        let request = protos::GetStateMultiple {
            keys: batch.iter().map(|key| (*key).to_owned()).collect(),
            collection: collection.to_owned(),
        };
        let answer: protos::GetStateMultipleResult = lane.ask(Type::GetStateMultiple, &request).await?;
        if answer.values.len() != batch.len() {
            let reason = format!("it has {} values for {} keys", answer.values.len(), batch.len());
            return Err(CallError::unintelligible(Type::GetStateMultiple, reason));
        }
        values.extend(answer.values.into_iter().map(present));
    }
    Ok(values)
}

pub(crate) async fn put(lane: &Lane, collection: &str, key: &str, value: Bytes) -> Result<(), CallError> {
    key::check(key)?;
    let request = protos::PutState {
        key: key.to_owned(),
        value,
        collection: collection.to_owned(),
    };
    lane.call(Type::PutState, &request).await.map(drop)
}

/// DEL_STATE and PURGE_PRIVATE_DATA, which carry the same.
pub(crate) async fn delete(lane: &Lane, kind: Type, collection: &str, key: &str) -> Result<(), CallError> {
    key::check(key)?;
    let request = protos::DelState {
        key: key.to_owned(),
        collection: collection.to_owned(),
    };
    lane.call(kind, &request).await.map(drop)
}

async fn get_metadata(
    lane: &Lane,
    collection: &str,
    key: &str,
) -> Result<BTreeMap<String, Bytes>, CallError> {
    key::check(key)?;
    let request = protos::GetStateMetadata {
        key: key.to_owned(),
        collection: collection.to_owned(),
    };
    let answer: protos::StateMetadataResult = lane.ask(Type::GetStateMetadata, &request).await?;
    Ok(answer
        .entries
        .into_iter()
        .map(|entry| (entry.metakey, entry.value))
        .collect())
}

pub(crate) async fn put_metadata(
    lane: &Lane,
    collection: &str,
    key: &str,
    name: &str,
    value: Bytes,
) -> Result<(), CallError> {
    key::check(key)?;
    let request = protos::PutStateMetadata {
        key: key.to_owned(),
        collection: collection.to_owned(),
        metadata: Some(protos::StateMetadata {
            metakey: name.to_owned(),
            value,
        }),
    };
    lane.call(Type::PutStateMetadata, &request).await.map(drop)
}
