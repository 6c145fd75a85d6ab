//! Writes that are sent together: one message for as many as the peer takes (1000 in Fabric 3.1), or one each where it takes none.
//!
//! Nothing of it reaches the peer before [`Writer::flush`]; a writer that is dropped unflushed has written nothing. The order of the writes
//! is kept.

use bytes::Bytes;
use fabric_wire::protos::{self, WriteRecord, chaincode_message::Type, write_record};
use prost::Message as _;

use crate::error::CallError;
use crate::key;
use crate::state::{self, PUBLIC};
use crate::stub::Stub;

/// What a message holds beside its records: ids, type and lengths.
const ENVELOPE_BYTES: usize = 1024;
/// Tag and length of a record within its batch, at most.
const RECORD_FRAME_BYTES: usize = 11;

/// Collects writes, of the public state unless a collection is named.
#[derive(Debug)]
#[must_use = "nothing is written before `flush`"]
pub struct Writer<'stub> {
    stub: &'stub Stub,
    collection: String,
    records: Vec<WriteRecord>,
}

impl Stub {
    /// A writer for this transaction. Writes that are made past it are not ordered with it before it is flushed.
    pub fn writer(&self) -> Writer<'_> {
        Writer {
            stub: self,
            collection: PUBLIC.to_owned(),
            records: Vec::new(),
        }
    }
}

impl Writer<'_> {
    /// Directs the writes that follow to a private collection, or, with the empty name, to the public state.
    pub fn collection(&mut self, name: &str) -> &mut Self {
        name.clone_into(&mut self.collection);
        self
    }

    /// As [`Stub::put_state`].
    ///
    /// # Errors
    /// Where the key is empty.
    pub fn put(&mut self, key: &str, value: impl Into<Bytes>) -> Result<&mut Self, CallError> {
        self.record(WriteRecord {
            value: value.into(),
            ..blank(key, write_record::Type::PutState)
        })
    }

    /// As [`Stub::delete_state`].
    ///
    /// # Errors
    /// Where the key is empty.
    pub fn delete(&mut self, key: &str) -> Result<&mut Self, CallError> {
        self.record(blank(key, write_record::Type::DelState))
    }

    /// As [`crate::PrivateData::purge`]. The peer refuses it in the public state.
    ///
    /// # Errors
    /// Where the key is empty.
    pub fn purge(&mut self, key: &str) -> Result<&mut Self, CallError> {
        self.record(blank(key, write_record::Type::PurgePrivateData))
    }

    /// As [`Stub::put_state_metadata`].
    ///
    /// # Errors
    /// Where the key is empty.
    pub fn put_metadata(
        &mut self,
        key: &str,
        name: &str,
        value: impl Into<Bytes>,
    ) -> Result<&mut Self, CallError> {
        let metadata = Some(protos::StateMetadata {
            metakey: name.to_owned(),
            value: value.into(),
        });
        self.record(WriteRecord {
            metadata,
            ..blank(key, write_record::Type::PutStateMetadata)
        })
    }

    /// Sends what was collected.
    ///
    /// # Errors
    /// As [`Stub::put_state`]. Writes before the failed one may have reached the peer; a transaction that then succeeds has them.
    pub async fn flush(self) -> Result<(), CallError> {
        let lane = &self.stub.lane;
        if lane.batching.writes == 0 {
            for record in self.records {
                send_alone(self.stub, record).await?;
            }
            return Ok(());
        }
        for rec in batches(
            self.records,
            lane.batching.writes,
            lane.message_bytes.saturating_sub(ENVELOPE_BYTES),
        ) {
            lane.call(Type::WriteBatchState, &protos::WriteBatchState { rec })
                .await?;
        }
        Ok(())
    }

    fn record(&mut self, record: WriteRecord) -> Result<&mut Self, CallError> {
        key::check(&record.key)?;
        self.records.push(WriteRecord {
            collection: self.collection.clone(),
            ..record
        });
        Ok(self)
    }
}

fn blank(key: &str, kind: write_record::Type) -> WriteRecord {
    WriteRecord {
        key: key.to_owned(),
        r#type: kind.into(),
        ..WriteRecord::default()
    }
}

async fn send_alone(stub: &Stub, record: WriteRecord) -> Result<(), CallError> {
    let kind = record.r#type();
    let WriteRecord {
        key,
        value,
        collection,
        metadata,
        ..
    } = record;
    let lane = &stub.lane;
    match kind {
        write_record::Type::PutState => state::put(lane, &collection, &key, value).await,
        write_record::Type::DelState => state::delete(lane, Type::DelState, &collection, &key).await,
        write_record::Type::PurgePrivateData => {
            state::delete(lane, Type::PurgePrivateData, &collection, &key).await
        }
        write_record::Type::PutStateMetadata => {
            let protos::StateMetadata { metakey, value } = metadata.unwrap_or_default();
            state::put_metadata(lane, &collection, &key, &metakey, value).await
        }
        write_record::Type::Undefined => Ok(()),
    }
}

/// Parts the records, in order, into messages of so many and so large at most. A record that is too large alone is alone.
fn batches(records: Vec<WriteRecord>, most: usize, most_bytes: usize) -> Vec<Vec<WriteRecord>> {
    let mut batches: Vec<Vec<WriteRecord>> = Vec::new();
    let mut bytes = 0;
    for record in records {
        let size = record.encoded_len() + RECORD_FRAME_BYTES;
        match batches.last_mut() {
            Some(batch) if batch.len() < most && bytes + size <= most_bytes => {
                bytes += size;
                batch.push(record);
            }
            _ => {
                bytes = size;
                batches.push(vec![record]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_parted_by_number_and_by_size_and_keep_their_order() {
        let record = |name: &str, bytes| WriteRecord {
            value: vec![0; bytes].into(),
            ..blank(name, write_record::Type::PutState)
        };
        let names = |parts: Vec<Vec<WriteRecord>>| -> Vec<String> {
            parts
                .iter()
                .map(|part| part.iter().map(|record| record.key.as_str()).collect())
                .collect()
        };
        let five = || ["a", "b", "c", "d", "e"].map(|name| record(name, 100)).to_vec();
        assert_eq!(names(batches(five(), 2, 10_000)), ["ab", "cd", "e"]);
        assert_eq!(names(batches(five(), 1000, 400)), ["abc", "de"]);
        assert_eq!(names(batches(five(), 1000, 10)), ["a", "b", "c", "d", "e"]);
        assert!(batches(Vec::new(), 2, 10).is_empty());
    }
}
