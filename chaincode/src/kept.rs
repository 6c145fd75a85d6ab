//! Records that were decoded, kept with the bytes that they were decoded from: while those are what they were, nobody decodes them again.
//!
//! It promises that a record comes out as [`decode`] has it, whatever was kept before: a kept one is used for the same key, the same
//! type and the very same bytes only. And that it holds no more than [`MOST_BYTES`] of them, counted as they are encoded, one record
//! more at most. It is for records that seldom change; which those are is for whoever reads them to say.

use crate::record::Record;
use crate::state::{StateError, decode};
use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Together, keys and bytes; then all are let go.
const MOST_BYTES: usize = if cfg!(test) { 256 } else { 16 * 1_024 * 1_024 };

/// Records by key.
#[derive(Default)]
pub struct Kept(Mutex<Records>);

#[derive(Default)]
struct Records {
    by_key: HashMap<String, (Vec<u8>, Box<dyn Any + Send>)>,
    bytes: usize,
}

impl Kept {
    /// The record in some bytes, as [`decode`] has it.
    pub(crate) fn decode<T: Record>(&self, key: &str, bytes: Vec<u8>) -> Result<T, StateError> {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((same, record)) = records.by_key.get(key)
            && *same == bytes
            && let Some(record) = record.downcast_ref::<T>()
        {
            return Ok(record.clone());
        }
        let record: T = decode(key, &bytes)?;
        if records.bytes > MOST_BYTES {
            *records = Records::default();
        }
        let size = key.len().saturating_add(bytes.len());
        records.bytes = records.bytes.saturating_add(size);
        let kept: Box<dyn Any + Send> = Box::new(record.clone());
        records.by_key.insert(key.to_owned(), (bytes, kept));
        Ok(record)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Consortium, Lease, Organisation};
    use crate::state::encode;

    fn bytes(joined: u32) -> Vec<u8> {
        let record = Consortium {
            joined,
            ..Consortium::default()
        };
        encode("consortium", &record, 3).unwrap()
    }

    #[test]
    fn a_record_is_what_its_bytes_say_whatever_was_kept_before() {
        let kept = Kept::default();
        for joined in [1, 1, 2, 1, 12, 1] {
            let record: Consortium = kept.decode("consortium", bytes(joined)).unwrap();
            assert_eq!(record.joined, joined);
            let plain: Consortium = decode("consortium", &bytes(joined)).unwrap();
            assert_eq!(record, plain);
        }
        let other: Consortium = kept.decode("other", bytes(7)).unwrap();
        assert_eq!(other.joined, 7);
        let as_another = kept.decode::<Organisation>("consortium", bytes(1));
        assert_eq!(as_another, decode("consortium", &bytes(1)));
        for damaged in ["", "{}", r#"{"schema":9,"record":{}}"#] {
            let found = kept.decode::<Lease>("consortium", damaged.as_bytes().to_vec());
            assert_eq!(found, decode("consortium", damaged.as_bytes()), "{damaged}");
        }
        let again: Consortium = kept.decode("consortium", bytes(1)).unwrap();
        assert_eq!(again.joined, 1);
    }

    #[test]
    fn no_more_is_kept_than_so_many_bytes_and_one_record() {
        let kept = Kept::default();
        let largest = MOST_BYTES + "100".len() + bytes(100).len();
        for number in 0..100 {
            let key = number.to_string();
            kept.decode::<Consortium>(&key, bytes(number)).unwrap();
            let records = kept.0.lock().unwrap();
            let held: usize = records
                .by_key
                .iter()
                .map(|(key, (bytes, _))| key.len() + bytes.len())
                .sum();
            assert!(held <= records.bytes && held <= largest, "{held} bytes");
            assert!(records.by_key.contains_key(&key));
        }
    }
}
