//! Whether the records are as they were written: none changed, taken out, put in or exchanged, and none cut off that somebody noted.

use super::book::{AuditError, Book, Filter};
use super::record::{Head, Record, SealKey, Sealed, hash};

const PAGE: u32 = 1_000;

/// What was found to be whole.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// The first record that is kept; those before went by age.
    pub first: u64,
    /// The last one, to note elsewhere.
    pub last: u64,
    /// Its hash.
    pub hash: String,
    /// Whether seals were checked, for which the key ring is needed.
    pub sealed: bool,
    /// Noted heads that went by age, so that nobody can say whether they were there.
    pub too_old: Vec<u64>,
}

/// Why the records are not whole.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The file could not be read.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A record is not as it was written.
    #[error(
        "audit record {number} is not as it was written: {what}; keep the file, and compare it with a backup or an export"
    )]
    Record {
        /// Which one, or where one is missing.
        number: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A noted head is not in the file.
    #[error("the audit has not the record {noted} that was noted: {what}; records were cut off or exchanged")]
    Noted {
        /// The head.
        noted: Head,
        /// What is there instead.
        what: String,
    },
}

/// Reads all records. Seals are checked where a key is given; `noted` heads must be in the chain.
///
/// # Errors
/// [`Broken`] with the first record that is wrong.
pub async fn verify(book: &Book, seal: Option<&SealKey>, noted: &[Head]) -> Result<Verified, Broken> {
    let mut head = match book.base().await? {
        None => Head::NONE,
        Some((base, found)) => {
            let number = base.number;
            if seal.is_some_and(|key| key.seal(Sealed::Base, &base) != found) {
                let what = "the end of what went by age was not sealed by this key ring".to_owned();
                return Err(Broken::Record { number, what });
            }
            base
        }
    };
    let first = head.number.saturating_add(1);
    if let Some(noted) = noted
        .iter()
        .find(|noted| noted.number == head.number && noted.hash != head.hash)
    {
        let what = format!("the last one that went by age has the hash {}", head.hash);
        return Err(Broken::Noted { noted: *noted, what });
    }
    let too_old = noted.iter().map(|noted| noted.number);
    let too_old = too_old.filter(|number| *number < head.number).collect();
    let mut wanted: Vec<Head> = noted
        .iter()
        .copied()
        .filter(|noted| noted.number >= first)
        .collect();
    wanted.sort_by_key(|noted| noted.number);
    let mut wanted = wanted.into_iter().peekable();
    loop {
        let filter = Filter {
            after: head.number,
            ..Filter::default()
        };
        let page = book.page(&filter, PAGE).await?;
        if page.rows.is_empty() {
            if page.next.is_some() {
                let number = head.number.saturating_add(1);
                let what = "it is not there".to_owned();
                return Err(Broken::Record { number, what });
            }
            break;
        }
        for row in page.rows {
            let number = head.number.saturating_add(1);
            let wrong = |what: &str| Broken::Record {
                number,
                what: what.to_owned(),
            };
            if row.number != number {
                return Err(wrong("it is not there"));
            }
            let record: Record = serde_json::from_str(&row.record)
                .map_err(|error| wrong(&format!("it is no record: {error}")))?;
            if serde_json::to_string(&record).ok().as_deref() != Some(row.record.as_str()) {
                return Err(wrong("its bytes are not those that were written"));
            }
            if record.number != number {
                return Err(wrong("it says another number"));
            }
            if record.at_ms() != Some(row.at_ms) {
                return Err(wrong("it is kept under another time than it says"));
            }
            if record.previous != head.hash {
                return Err(wrong("it does not follow the one before"));
            }
            head = Head {
                number,
                hash: hash(row.record.as_bytes()),
            };
            if head.hash != row.hash {
                return Err(wrong("its hash is another one"));
            }
            if seal.is_some_and(|key| key.seal(Sealed::Record, &head) != row.seal) {
                return Err(wrong("it was not sealed by this key ring"));
            }
            while let Some(noted) = wanted.next_if(|noted| noted.number == number) {
                if noted.hash != head.hash {
                    let what = format!("record {number} has the hash {}", head.hash);
                    return Err(Broken::Noted { noted, what });
                }
            }
        }
    }
    if let Some(noted) = wanted.next() {
        let what = format!("the last one is {}", head.number);
        return Err(Broken::Noted { noted, what });
    }
    Ok(Verified {
        first,
        last: head.number,
        hash: head.hash.to_string(),
        sealed: seal.is_some(),
        too_old,
    })
}
