//! Many rows: ranges, partial composite keys, rich queries and histories, whole or in pages.
//!
//! The peer sends up to 100 rows a message and keeps an iterator for the rest; it reads at most `ledger.state.totalQueryLimit` rows
//! (100,000) and then says nothing of those it left out. A range is checked again when the transaction is committed, so that a row that
//! came or went meanwhile makes it invalid. Rich queries and histories are not, and after a page the peer refuses writes: these three are
//! for evaluations.

use std::marker::PhantomData;

use bytes::Bytes;
use fabric_wire::protos::{self, chaincode_message::Type};
use prost::Message as _;

use crate::error::CallError;
use crate::key;
use crate::lane::Lane;
use crate::proposal::Timestamp;
use crate::state::{PUBLIC, PrivateData};
use crate::stub::Stub;

/// A row of a range or a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// Its value; for a rich query, the document.
    pub value: Bytes,
}

/// A row of a history: what one committed and valid transaction made of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyModification {
    /// The transaction.
    pub tx_id: String,
    /// What it wrote; empty where it deleted.
    pub value: Bytes,
    /// When its client says that it was proposed.
    pub timestamp: Option<Timestamp>,
    /// Whether it deleted the key.
    pub is_delete: bool,
}

/// Which page: how many rows at most, and the bookmark that the page before it gave; empty for the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paging<'a> {
    /// Rows, at least 1.
    pub rows: usize,
    /// From [`Page::bookmark`].
    pub bookmark: &'a str,
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its rows, in order.
    pub rows: Vec<KeyValue>,
    /// Where the next page begins; empty after the last of a range. A rich query's bookmark is CouchDB's own.
    pub bookmark: String,
}

/// Rows that arrive as they are asked for.
///
/// Dropped before its end, it is closed with the transaction's next request, or with the transaction.
#[derive(Debug)]
pub struct Rows<'stub, R> {
    lane: &'stub Lane,
    iterator: String,
    rows: std::vec::IntoIter<protos::QueryResultBytes>,
    has_more: bool,
    row: PhantomData<fn() -> R>,
}

/// What a row is on the wire.
pub(crate) trait Row: Sized {
    fn decode(bytes: Bytes) -> Result<Self, prost::DecodeError>;
}

impl Row for KeyValue {
    fn decode(bytes: Bytes) -> Result<Self, prost::DecodeError> {
        let protos::Kv { key, value, .. } = protos::Kv::decode(bytes)?;
        Ok(Self { key, value })
    }
}

impl Row for KeyModification {
    fn decode(bytes: Bytes) -> Result<Self, prost::DecodeError> {
        let protos::KeyModification {
            tx_id,
            value,
            timestamp,
            is_delete,
        } = protos::KeyModification::decode(bytes)?;
        Ok(Self {
            tx_id,
            value,
            timestamp: timestamp.as_ref().map(Timestamp::from_wire),
            is_delete,
        })
    }
}

#[allow(private_bounds)] // rows are those of this file
impl<R: Row> Rows<'_, R> {
    /// The next row, or none after the last.
    ///
    /// # Errors
    /// As [`Stub::get_state`].
    pub async fn next(&mut self) -> Result<Option<R>, CallError> {
        loop {
            if let Some(row) = self.rows.next() {
                return decode_row(row).map(Some);
            }
            if !self.has_more {
                return Ok(None);
            }
            let request = protos::QueryStateNext {
                id: self.iterator.clone(),
            };
            let more: protos::QueryResponse = self.lane.ask(Type::QueryStateNext, &request).await?;
            self.has_more = more.has_more;
            self.rows = more.results.into_iter();
        }
    }

    /// All rows that are left.
    ///
    /// # Errors
    /// As [`Rows::next`].
    pub async fn collect(mut self) -> Result<Vec<R>, CallError> {
        let mut rows = Vec::new();
        while let Some(row) = self.next().await? {
            rows.push(row);
        }
        Ok(rows)
    }

    /// Ends the rows now. Without it, they end as said at [`Rows`].
    ///
    /// # Errors
    /// As [`Rows::next`].
    pub async fn close(mut self) -> Result<(), CallError> {
        if std::mem::take(&mut self.has_more) {
            let request = protos::QueryStateClose {
                id: self.iterator.clone(),
            };
            self.lane.call(Type::QueryStateClose, &request).await?;
        }
        Ok(())
    }
}

impl<R> Drop for Rows<'_, R> {
    fn drop(&mut self) {
        if self.has_more {
            self.lane.abandon(std::mem::take(&mut self.iterator));
        }
    }
}

impl Stub {
    /// Simple keys from `start`, included, to `end`, excluded, in the order of their bytes; an empty bound is none. Composite keys are not in it.
    ///
    /// # Errors
    /// Where a bound is a composite key; else as [`Stub::get_state`].
    pub async fn range(&self, start: &str, end: &str) -> Result<Rows<'_, KeyValue>, CallError> {
        let (start, end) = key::simple_range(start, end)?;
        range(&self.lane, PUBLIC, start, end).await
    }

    /// A page of a range. The transaction may not write: the peer refuses writes after a page.
    ///
    /// # Errors
    /// As [`Stub::range`].
    pub async fn range_page(&self, start: &str, end: &str, paging: &Paging<'_>) -> Result<Page, CallError> {
        let (start, end) = key::simple_range(start, end)?;
        page(
            &self.lane,
            Type::GetStateByRange,
            |metadata| range_request(PUBLIC, start, end, metadata),
            paging,
        )
        .await
    }

    /// All composite keys of a type that begin with these attributes.
    ///
    /// # Errors
    /// Where they make no composite key; else as [`Stub::get_state`].
    pub async fn composite_range(
        &self,
        object_type: &str,
        attributes: &[&str],
    ) -> Result<Rows<'_, KeyValue>, CallError> {
        let (start, end) = key::composite_range(object_type, attributes)?;
        range(&self.lane, PUBLIC, start, end).await
    }

    /// A page of them. The transaction may not write.
    ///
    /// # Errors
    /// As [`Stub::composite_range`].
    pub async fn composite_range_page(
        &self,
        object_type: &str,
        attributes: &[&str],
        paging: &Paging<'_>,
    ) -> Result<Page, CallError> {
        let (start, end) = key::composite_range(object_type, attributes)?;
        page(
            &self.lane,
            Type::GetStateByRange,
            |metadata| range_request(PUBLIC, start, end, metadata),
            paging,
        )
        .await
    }

    /// What a CouchDB selector finds, in its order. Passed through as it is: **this has not been run against a peer with CouchDB**; a peer
    /// with LevelDB refuses it.
    ///
    /// # Errors
    /// As [`Stub::get_state`].
    pub async fn rich_query(&self, selector: &str) -> Result<Rows<'_, KeyValue>, CallError> {
        let request = query_request(PUBLIC, selector, Bytes::new());
        open(&self.lane, Type::GetQueryResult, &request).await
    }

    /// A page of it; not run against CouchDB either.
    ///
    /// # Errors
    /// As [`Stub::get_state`].
    pub async fn rich_query_page(&self, selector: &str, paging: &Paging<'_>) -> Result<Page, CallError> {
        page(
            &self.lane,
            Type::GetQueryResult,
            |metadata| query_request(PUBLIC, selector, metadata),
            paging,
        )
        .await
    }

    /// What transactions made of a key, the newest first. The peer's history database must be on, as it is by default.
    ///
    /// # Errors
    /// As [`Stub::get_state`].
    pub async fn history(&self, key: &str) -> Result<Rows<'_, KeyModification>, CallError> {
        key::check(key)?;
        open(
            &self.lane,
            Type::GetHistoryForKey,
            &protos::GetHistoryForKey { key: key.to_owned() },
        )
        .await
    }
}

/// Ranges and queries of a collection. The peer has no pages of them, and refuses them in a transaction that writes to a collection.
impl PrivateData<'_> {
    /// As [`Stub::range`].
    ///
    /// # Errors
    /// As there.
    pub async fn range(&self, start: &str, end: &str) -> Result<Rows<'_, KeyValue>, CallError> {
        let (start, end) = key::simple_range(start, end)?;
        range(&self.stub.lane, &self.collection, start, end).await
    }

    /// As [`Stub::composite_range`].
    ///
    /// # Errors
    /// As there.
    pub async fn composite_range(
        &self,
        object_type: &str,
        attributes: &[&str],
    ) -> Result<Rows<'_, KeyValue>, CallError> {
        let (start, end) = key::composite_range(object_type, attributes)?;
        range(&self.stub.lane, &self.collection, start, end).await
    }

    /// As [`Stub::rich_query`], and as little tried.
    ///
    /// # Errors
    /// As there.
    pub async fn rich_query(&self, selector: &str) -> Result<Rows<'_, KeyValue>, CallError> {
        let request = query_request(&self.collection, selector, Bytes::new());
        open(&self.stub.lane, Type::GetQueryResult, &request).await
    }
}

fn range_request(
    collection: &str,
    start_key: String,
    end_key: String,
    metadata: Bytes,
) -> protos::GetStateByRange {
    protos::GetStateByRange {
        start_key,
        end_key,
        collection: collection.to_owned(),
        metadata,
    }
}

fn query_request(collection: &str, query: &str, metadata: Bytes) -> protos::GetQueryResult {
    protos::GetQueryResult {
        query: query.to_owned(),
        collection: collection.to_owned(),
        metadata,
    }
}

async fn range<'l>(
    lane: &'l Lane,
    collection: &str,
    start: String,
    end: String,
) -> Result<Rows<'l, KeyValue>, CallError> {
    open(
        lane,
        Type::GetStateByRange,
        &range_request(collection, start, end, Bytes::new()),
    )
    .await
}

async fn open<'l, R: Row>(
    lane: &'l Lane,
    kind: Type,
    request: &impl prost::Message,
) -> Result<Rows<'l, R>, CallError> {
    let first: protos::QueryResponse = lane.ask(kind, request).await?;
    Ok(Rows {
        lane,
        iterator: first.id,
        rows: first.results.into_iter(),
        has_more: first.has_more,
        row: PhantomData,
    })
}

async fn page<M: prost::Message>(
    lane: &Lane,
    kind: Type,
    request: impl FnOnce(Bytes) -> M,
    paging: &Paging<'_>,
) -> Result<Page, CallError> {
    let page_size = i32::try_from(paging.rows)
        .ok()
        .filter(|rows| *rows > 0)
        .ok_or(CallError::PageSize(paging.rows))?;
    let metadata = protos::QueryMetadata {
        page_size,
        bookmark: paging.bookmark.to_owned(),
    };
    let answer: protos::QueryResponse = lane.ask(kind, &request(metadata.encode_to_vec().into())).await?;
    let metadata = protos::QueryResponseMetadata::decode(answer.metadata)
        .map_err(|error| CallError::unintelligible(kind, error))?;
    let rows = answer
        .results
        .into_iter()
        .map(decode_row)
        .collect::<Result<_, _>>()?;
    Ok(Page {
        rows,
        bookmark: metadata.bookmark,
    })
}

fn decode_row<R: Row>(row: protos::QueryResultBytes) -> Result<R, CallError> {
    R::decode(row.result_bytes).map_err(|error| CallError::unintelligible(Type::QueryStateNext, error))
}
