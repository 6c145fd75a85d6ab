//! What a simulated peer answers to the requests of a chaincode.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fabric_wire::protos::{self, chaincode_message::Type, write_record};
use prost::Message;
use sha2::{Digest as _, Sha256};

use crate::ledger::{Space, Version};
use crate::simulation::{RangeId, Simulation};

/// Rows in one message, as Fabric's `QueryResponseGenerator` cuts them.
const ROWS_A_REPLY: usize = 100;

/// Private collections of a chaincode: name, and the members that may use it.
pub(crate) type Collections = HashMap<String, HashSet<String>>;

/// A transaction on one chaincode's stream.
pub(crate) struct Context {
    pub(crate) simulation: Arc<Mutex<Simulation>>,
    pub(crate) namespace: String,
    pub(crate) collections: Arc<Collections>,
    /// Member of the client.
    pub(crate) msp_id: String,
    pub(crate) is_init: bool,
    iterators: HashMap<String, Rows>,
    opened: u64,
}

/// An iterator: encoded rows, and for a range where to note that they were read.
struct Rows {
    rows: VecDeque<(Bytes, Option<(String, Version)>)>,
    range: Option<RangeId>,
}

impl Context {
    pub(crate) fn new(
        simulation: Arc<Mutex<Simulation>>,
        namespace: String,
        collections: Arc<Collections>,
        msp_id: String,
        is_init: bool,
    ) -> Self {
        Self {
            simulation,
            namespace,
            collections,
            msp_id,
            is_init,
            iterators: HashMap::new(),
            opened: 0,
        }
    }

    /// The payload of RESPONSE, or of ERROR.
    pub(crate) fn answer(&mut self, kind: Type, payload: Bytes) -> Result<Bytes, String> {
        match kind {
            Type::GetState => {
                let protos::GetState { key, collection } = decode(payload)?;
                let space = self.space(&collection)?;
                Ok(self.simulation().get(&space, &key))
            }
            Type::GetStateMultiple => {
                let protos::GetStateMultiple { keys, collection } = decode(payload)?;
                let space = self.space(&collection)?;
                let mut simulation = self.simulation();
                let values = keys.iter().map(|key| simulation.get(&space, key)).collect();
                Ok(encode(&protos::GetStateMultipleResult { values }))
            }
            Type::GetPrivateDataHash => {
                let protos::GetState { key, collection } = decode(payload)?;
                // Every peer has the hashes, whoever asks.
                let space = Space {
                    namespace: self.namespace.clone(),
                    collection,
                };
                let value = self.simulation().get(&space, &key);
                Ok(if value.is_empty() {
                    Bytes::new()
                } else {
                    Bytes::copy_from_slice(&Sha256::digest(&value))
                })
            }
            Type::GetStateMetadata => {
                let protos::GetStateMetadata { key, collection } = decode(payload)?;
                let space = self.space(&collection)?;
                let entries = self.simulation().get_metadata(&space, &key).into_iter();
                let entries = entries
                    .map(|(metakey, value)| protos::StateMetadata { metakey, value })
                    .collect();
                Ok(encode(&protos::StateMetadataResult { entries }))
            }
            Type::PutState => {
                let protos::PutState {
                    key,
                    value,
                    collection,
                } = decode(payload)?;
                self.write(write_record::Type::PutState, &collection, &key, value, None)
            }
            Type::DelState => {
                let protos::DelState { key, collection } = decode(payload)?;
                self.write(
                    write_record::Type::DelState,
                    &collection,
                    &key,
                    Bytes::new(),
                    None,
                )
            }
            Type::PurgePrivateData => {
                let protos::DelState { key, collection } = decode(payload)?;
                self.write(
                    write_record::Type::PurgePrivateData,
                    &collection,
                    &key,
                    Bytes::new(),
                    None,
                )
            }
            Type::PutStateMetadata => {
                let protos::PutStateMetadata {
                    key,
                    collection,
                    metadata,
                } = decode(payload)?;
                self.write(
                    write_record::Type::PutStateMetadata,
                    &collection,
                    &key,
                    Bytes::new(),
                    metadata,
                )
            }
            Type::WriteBatchState => {
                for record in decode::<protos::WriteBatchState>(payload)?.rec {
                    let kind = record.r#type();
                    self.write(
                        kind,
                        &record.collection,
                        &record.key,
                        record.value,
                        record.metadata,
                    )?;
                }
                Ok(Bytes::new())
            }
            Type::GetStateByRange => self.range(&decode(payload)?),
            Type::GetHistoryForKey => {
                let protos::GetHistoryForKey { key } = decode(payload)?;
                let rows = self.simulation().world().history(&self.namespace, &key);
                let rows = rows.iter().map(|row| (encode(row), None)).collect();
                Ok(encode(&self.open(Rows { rows, range: None })))
            }
            Type::QueryStateNext => {
                let protos::QueryStateNext { id } = decode(payload)?;
                let rows = self.iterators.remove(&id).ok_or("there is no such iterator")?;
                Ok(encode(&self.cut(id, rows)))
            }
            Type::QueryStateClose => {
                let protos::QueryStateClose { id } = decode(payload)?;
                self.iterators.remove(&id);
                Ok(encode(&protos::QueryResponse {
                    id,
                    ..protos::QueryResponse::default()
                }))
            }
            Type::GetQueryResult => {
                Err("the simulated peer has no CouchDB: rich queries are not simulated".to_owned())
            }
            other => Err(format!(
                "the simulated peer does not answer {}",
                other.as_str_name()
            )),
        }
    }

    fn simulation(&self) -> std::sync::MutexGuard<'_, Simulation> {
        self.simulation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn space(&self, collection: &str) -> Result<Space, String> {
        if !collection.is_empty() {
            if self.is_init {
                return Err("private data may not be used in an initialisation".to_owned());
            }
            let members = self
                .collections
                .get(collection)
                .ok_or_else(|| format!("collection {collection} is not defined"))?;
            if !members.contains(&self.msp_id) {
                return Err(format!(
                    "a client of {} may not use collection {collection}",
                    self.msp_id
                ));
            }
        }
        Ok(Space {
            namespace: self.namespace.clone(),
            collection: collection.to_owned(),
        })
    }

    fn write(
        &self,
        kind: write_record::Type,
        collection: &str,
        key: &str,
        value: Bytes,
        metadata: Option<protos::StateMetadata>,
    ) -> Result<Bytes, String> {
        let space = self.space(collection)?;
        let mut simulation = self.simulation();
        match kind {
            write_record::Type::PurgePrivateData if collection.is_empty() => {
                Err("only private data is purged".to_owned())
            }
            write_record::Type::PutState => simulation.put(&space, key, value),
            write_record::Type::DelState | write_record::Type::PurgePrivateData => {
                simulation.put(&space, key, Bytes::new())
            }
            write_record::Type::PutStateMetadata => {
                let protos::StateMetadata { metakey, value } = metadata.unwrap_or_default();
                simulation.put_metadata(&space, key, &metakey, value)
            }
            write_record::Type::Undefined => Err("a write of no type".to_owned()),
        }?;
        Ok(Bytes::new())
    }

    fn range(&mut self, request: &protos::GetStateByRange) -> Result<Bytes, String> {
        let space = self.space(&request.collection)?;
        let paging: protos::QueryMetadata = decode(request.metadata.clone())?;
        let paged = paging.page_size > 0 && request.collection.is_empty();
        let start = if paged && !paging.bookmark.is_empty() {
            &paging.bookmark
        } else {
            &request.start_key
        };
        let world = Arc::clone(self.simulation().world());
        let rows = world.range(&space, start, &request.end_key).map(|(key, entry)| {
            let row = protos::Kv {
                namespace: space.namespace.clone(),
                key: key.clone(),
                value: entry.value.clone(),
            };
            (encode(&row), Some((key.clone(), entry.version)))
        });
        if paged {
            self.simulation().note_page()?;
            let size = usize::try_from(paging.page_size).unwrap_or(usize::MAX);
            let mut rows: Vec<_> = rows.take(size.saturating_add(1)).collect();
            let next = rows.split_off(size.min(rows.len()));
            let bookmark = next
                .into_iter()
                .next()
                .and_then(|(_, row)| row)
                .map(|(key, _)| key)
                .unwrap_or_default();
            let fetched_records_count = i32::try_from(rows.len()).unwrap_or(i32::MAX);
            let metadata = encode(&protos::QueryResponseMetadata {
                fetched_records_count,
                bookmark,
            });
            let results = rows
                .into_iter()
                .map(|(result_bytes, _)| protos::QueryResultBytes { result_bytes })
                .collect();
            let id = self.next_id();
            return Ok(encode(&protos::QueryResponse {
                results,
                has_more: false,
                id,
                metadata,
            }));
        }
        let rows = rows.collect();
        let range = self.simulation().open_range(&space, start, &request.end_key)?;
        Ok(encode(&self.open(Rows {
            rows,
            range: Some(range),
        })))
    }

    fn next_id(&mut self) -> String {
        self.opened += 1;
        format!("simulated-{}", self.opened)
    }

    fn open(&mut self, rows: Rows) -> protos::QueryResponse {
        let id = self.next_id();
        self.cut(id, rows)
    }

    /// The next reply of an iterator, which is kept while it has more.
    fn cut(&mut self, id: String, mut rows: Rows) -> protos::QueryResponse {
        let reply: Vec<_> = rows.rows.drain(..rows.rows.len().min(ROWS_A_REPLY)).collect();
        let has_more = !rows.rows.is_empty();
        if let Some(range) = rows.range {
            let noted: Vec<_> = reply.iter().filter_map(|(_, row)| row.clone()).collect();
            self.simulation().note_rows(range, &noted, !has_more);
        }
        if has_more {
            self.iterators.insert(id.clone(), rows);
        }
        let results = reply
            .into_iter()
            .map(|(result_bytes, _)| protos::QueryResultBytes { result_bytes })
            .collect();
        protos::QueryResponse {
            results,
            has_more,
            id,
            metadata: Bytes::new(),
        }
    }
}

fn decode<M: Message + Default>(payload: Bytes) -> Result<M, String> {
    M::decode(payload).map_err(|error| format!("the request cannot be decoded: {error}"))
}

fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}
