//! Ids for new transactions. They begin with the time, so that the list of all of them, by which one that is submitted twice is found,
//! grows at its end; what is after the time is random, and nobody guesses it.

use leasehold_chaincode::{InvalidId, TxId};
use std::time::{SystemTime, UNIX_EPOCH};

/// A new id: a UUID of version 7 (RFC 9562).
///
/// # Errors
/// [`InvalidId`] never: it is of its form.
pub fn transaction_id() -> Result<TxId, InvalidId> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
    // What a random UUID has fixed is fixed at the same bits in both versions.
    let [_, _, _, _, _, _, random @ ..] = uuid::Uuid::new_v4().into_bytes();
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random);
    TxId::new(id.into_uuid().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_id_begins_with_its_time_and_is_given_once() {
        let ids: Vec<_> = (0..1_000).map(|_| transaction_id().unwrap()).collect();
        let of = |id: &TxId| uuid::Uuid::parse_str(id.as_str()).unwrap();
        assert!(ids.iter().all(|id| of(id).get_version_num() == 7));
        let times: Vec<_> = ids.iter().map(|id| id.as_str()[..13].to_owned()).collect();
        assert!(times.is_sorted(), "{times:?}");
        let different: BTreeSet<_> = ids.iter().map(TxId::as_str).collect();
        assert_eq!(different.len(), ids.len());
    }
}
