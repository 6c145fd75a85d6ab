//! A ledger as a stream of JSON lines, and a ledger from such a stream.
//!
//! First comes `{"ledger": …}`, then one `{"block": …}` each, as stored, bodies to the byte; last the `{"receipt": …}` of the head,
//! without which a stream is not whole. What is derived is not in it. Import believes nothing: it checks every hash and signature,
//! runs the contract again, and leaves a ledger only if all of it holds.

use super::block::{Seal, StoredBlock};
use super::bytes::{Bytes, KeyId};
use super::chain::{Care, Chain};
use super::file::LedgerFile;
use super::receipt::{Receipt, ReceiptError};
use super::storage::{self, Connection, Session, StorageError, blocks, schema};
use super::verify::{self, Corruption, Depth, Verified, VerifyError};
use super::{LedgerAddress, OpenError, ReadError};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Version of the stream's form.
const SCHEMA: u32 = 1;
/// Blocks read at once.
const BATCH: usize = 64;
/// Longest line that is read, bytes: more than a block of the largest commands.
const LINE: u64 = 256 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Ledger(Start),
    Block(Exported),
    Receipt(Receipt),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    schema: u32,
    ledger_id: Bytes<32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exported {
    height: u64,
    previous_hash: Bytes<32>,
    timestamp_ms: i64,
    body: String,
    body_hash: Bytes<32>,
    hash: Bytes<32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signer: Option<KeyId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<Bytes<64>>,
}

impl From<StoredBlock> for Exported {
    fn from(block: StoredBlock) -> Self {
        Self {
            height: block.height,
            previous_hash: Bytes(block.previous_hash),
            timestamp_ms: block.timestamp_ms,
            body: block.body,
            body_hash: Bytes(block.body_hash),
            hash: Bytes(block.hash),
            signer: block.seal.map(|seal| seal.signer),
            signature: block.seal.map(|seal| seal.signature),
        }
    }
}

impl From<Exported> for StoredBlock {
    fn from(block: Exported) -> Self {
        let seal = block.signer.zip(block.signature);
        Self {
            height: block.height,
            previous_hash: block.previous_hash.0,
            timestamp_ms: block.timestamp_ms,
            body: block.body,
            body_hash: block.body_hash.0,
            hash: block.hash.0,
            seal: seal.map(|(signer, signature)| Seal { signer, signature }),
        }
    }
}

/// Why a ledger is not exported. What was written until then is not whole, and import refuses it.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It is not as it was written.
    #[error("the ledger is not exported: {0}")]
    Verify(#[from] VerifyError),
    /// It has no signed head.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The stream cannot be written.
    #[error("cannot write the export: {0}; what is there of it is not whole")]
    Write(#[from] io::Error),
}

impl From<StorageError> for ExportError {
    fn from(error: StorageError) -> Self {
        VerifyError::from(error).into()
    }
}

impl From<serde_json::Error> for ExportError {
    fn from(error: serde_json::Error) -> Self {
        Self::Write(error.into())
    }
}

/// Why a stream does not become a ledger. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There is something already.
    #[error("{0} exists; import makes a new ledger and never writes into one")]
    Exists(LedgerAddress),
    /// The file cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The stream or the file failed.
    #[error("the import failed at {path}: {source}; nothing was imported")]
    File {
        /// Where the ledger was to be.
        path: LedgerAddress,
        /// What the operating system said.
        source: io::Error,
    },
    /// A line is not what is due there.
    #[error("line {line} of the export is not what is due there: {reason}; nothing was imported")]
    Line {
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// A block is not as it was written.
    #[error("line {line} of the export: {found}; nothing was imported")]
    Block {
        /// Counted from 1.
        line: u64,
        /// What was changed.
        found: Corruption,
    },
    /// The stream ends too early.
    #[error(
        "the export ends after line {0} without the receipt of its head, so it is not whole; nothing was imported"
    )]
    Unfinished(u64),
    /// The contract decides otherwise, or the ledger is not the one of a receipt.
    #[error("the export does not verify: {0}; nothing was imported")]
    Verify(#[from] VerifyError),
}

impl From<StorageError> for ImportError {
    fn from(error: StorageError) -> Self {
        VerifyError::from(error).into()
    }
}

impl LedgerFile {
    /// Writes all of it, checking the chain on the way. Yields the receipt of its head.
    ///
    /// # Errors
    /// [`ExportError`]; the stream is then not whole.
    pub async fn export(&self, out: &mut (impl AsyncWrite + Unpin)) -> Result<Receipt, ExportError> {
        let mut connection = self.connect().await?;
        let mut snapshot = connection.read().await?;
        let mut chain = Chain::new(Care::Hashes);
        let (mut from, mut text) = (0, Vec::new());
        loop {
            let blocks = blocks::from(&mut snapshot, from, BATCH).await?;
            let Some(last) = blocks.last() else { break };
            from = last.height.saturating_add(1);
            for block in blocks {
                if let Err(found) = chain.take(&block) {
                    // Names the first field, which this quick look need not.
                    self.verify(Depth::Chain, &[]).await?;
                    return Err(VerifyError::from(found).into());
                }
                if block.height == 0 {
                    let start = Start {
                        schema: SCHEMA,
                        ledger_id: Bytes(chain.ledger),
                    };
                    write_line(&mut text, &Line::Ledger(start))?;
                }
                write_line(&mut text, &Line::Block(block.into()))?;
            }
            out.write_all(&text).await?;
            text.clear();
        }
        let head = match chain.finish() {
            Ok(head) => head,
            Err(found) => {
                self.verify(Depth::Chain, &[]).await?;
                return Err(VerifyError::from(found).into());
            }
        };
        let unsigned = || ReadError::Storage("the last block is not signed; verify the ledger".to_owned());
        let receipt = Receipt::of(&chain.ledger, &head).ok_or_else(unsigned)?;
        write_line(&mut text, &Line::Receipt(receipt.clone()))?;
        out.write_all(&text).await?;
        out.flush().await?;
        Ok(receipt)
    }
}

fn write_line(text: &mut Vec<u8>, line: &Line) -> Result<(), serde_json::Error> {
    serde_json::to_writer(&mut *text, line)?;
    text.push(b'\n');
    Ok(())
}

/// What an operator knows of the ledger beside the stream.
#[derive(Clone, Copy)]
struct Vouching<'a> {
    receipts: &'a [Receipt],
    trusted: &'a [KeyId],
}

/// Makes a new ledger from a stream, if all of it verifies, every receipt holds, and each key that signed is vouched for
/// ([`Verified::vouched_for`]).
///
/// # Errors
/// [`ImportError`]; there is no ledger then.
pub async fn import(
    from: &mut (impl AsyncBufRead + Unpin),
    address: &LedgerAddress,
    receipts: &[Receipt],
    trusted: &[KeyId],
) -> Result<Verified, ImportError> {
    let vouching = Vouching { receipts, trusted };
    let failed = |source| ImportError::File {
        path: address.clone(),
        source,
    };
    match address {
        LedgerAddress::Sqlite(path) => import_file(from, path, vouching, &failed).await,
        LedgerAddress::Postgres(_) | LedgerAddress::Fabric(_) => {
            let mut connection = Connection::open(address).await?;
            let imported = fill(from, &mut connection, address, vouching, &failed).await;
            connection.close().await?;
            imported
        }
    }
}

async fn import_file(
    from: &mut (impl AsyncBufRead + Unpin),
    path: &Path,
    vouching: Vouching<'_>,
    failed: &impl Fn(io::Error) -> ImportError,
) -> Result<Verified, ImportError> {
    if path.exists() {
        return Err(ImportError::Exists(path.into()));
    }
    // Under another name until it is whole.
    let partial = beside(path, ".importing");
    let leftovers = || ["", "-wal", "-shm", "-journal"].map(|end| beside(&partial, end));
    let clear = || {
        leftovers()
            .iter()
            .try_for_each(|file| match std::fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            })
    };
    let lock = storage::sqlite::lock(&partial)?;
    clear().map_err(failed)?;
    let outcome = fill_file(from, &partial, vouching, failed).await;
    let outcome = outcome.and_then(|verified| {
        std::fs::hard_link(&partial, path).map_err(failed)?;
        let directory = path.parent().filter(|parent| *parent != Path::new(""));
        let directory = std::fs::File::open(directory.unwrap_or(Path::new(".")));
        directory
            .and_then(|directory| directory.sync_all())
            .map_err(failed)?;
        Ok(verified)
    });
    clear().map_err(failed)?;
    std::fs::remove_file(storage::sqlite::lock_path(&partial)).map_err(failed)?;
    drop(lock);
    outcome
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

async fn fill_file(
    from: &mut (impl AsyncBufRead + Unpin),
    path: &Path,
    vouching: Vouching<'_>,
    failed: &impl Fn(io::Error) -> ImportError,
) -> Result<Verified, ImportError> {
    crate::private_file::create(path, b"").map_err(failed)?;
    let address = LedgerAddress::from(path);
    let mut connection = Connection::open(&address).await?;
    let verified = fill(from, &mut connection, &address, vouching, failed).await?;
    // Brings everything from the log into the file.
    connection.close().await?;
    std::fs::File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(failed)?;
    Ok(verified)
}

/// All of it in one transaction.
async fn fill(
    from: &mut (impl AsyncBufRead + Unpin),
    connection: &mut Connection,
    address: &LedgerAddress,
    vouching: Vouching<'_>,
    failed: &impl Fn(io::Error) -> ImportError,
) -> Result<Verified, ImportError> {
    schema::migrate(connection).await?;
    let mut session = connection.write().await?;
    if blocks::last(&mut session).await?.is_some() {
        return Err(ImportError::Exists(address.clone()));
    }
    take_blocks(from, &mut session, failed).await?;
    verify::rebuild_in(&mut session).await?;
    let verified = verify::verify(&mut session, Depth::Whole, vouching.receipts).await?;
    let verified = verified.vouched_for(vouching.trusted, vouching.receipts)?;
    session.commit().await?;
    Ok(verified)
}

async fn take_blocks(
    from: &mut (impl AsyncBufRead + Unpin),
    session: &mut Session<'_>,
    failed: &impl Fn(io::Error) -> ImportError,
) -> Result<(), ImportError> {
    let mut chain = Chain::new(Care::EveryField);
    let (mut line, mut text) = (0, Vec::new());
    let (mut start, mut end) = (None, None);
    loop {
        text.clear();
        if (&mut *from)
            .take(LINE)
            .read_until(b'\n', &mut text)
            .await
            .map_err(failed)?
            == 0
        {
            break;
        }
        line += 1;
        let wrong = |reason: &str| ImportError::Line {
            line,
            reason: reason.to_owned(),
        };
        if text.last() != Some(&b'\n') {
            return Err(wrong("it is cut off"));
        }
        match serde_json::from_slice(&text).map_err(|error| wrong(&error.to_string()))? {
            Line::Ledger(found) if start.is_none() => {
                if found.schema != SCHEMA {
                    return Err(wrong(
                        "this version does not know its form; import with a newer one",
                    ));
                }
                start = Some(found.ledger_id);
            }
            Line::Block(block) if start.is_some() && end.is_none() => {
                if block.signer.is_some() != block.signature.is_some() {
                    return Err(wrong("a signer and its signature come together or not at all"));
                }
                let block = StoredBlock::from(block);
                chain
                    .take(&block)
                    .map_err(|found| ImportError::Block { line, found })?;
                if start != Some(Bytes(chain.ledger)) {
                    return Err(wrong("block 0 is that of another ledger"));
                }
                blocks::append(session, &block).await?;
            }
            Line::Receipt(receipt) if end.is_none() && chain.head.is_some() => {
                receipt
                    .check()
                    .map_err(|error: ReceiptError| wrong(&error.to_string()))?;
                let head = chain.head.and_then(|head| Receipt::of(&chain.ledger, &head));
                if head.as_ref() != Some(&receipt) {
                    return Err(wrong(
                        "it is not the receipt of the block before; blocks are missing",
                    ));
                }
                end = Some(receipt);
            }
            _ => return Err(wrong("another kind of line is due")),
        }
    }
    if end.is_none() {
        return Err(ImportError::Unfinished(line));
    }
    Ok(())
}
