//! What is decided about data and keys: recorded on disk before it takes effect, in a chain in which changes show.
//!
//! One record for each decision: who, what, on what, how it was decided and why, from which address. Never a secret, a token or a
//! name: people are pseudonyms. [`Audit::keep`] is for what is allowed, and fails where nothing can be recorded, so that its caller
//! refuses; [`Audit::tell`] is for what was refused or has happened already. Each goes to the log as well, target `audit`.
//!
//! One task writes, everything that waits in one transaction. Each broker has its own file; several brokers have several chains.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::store::now_ms;

mod book;
pub mod ocsf;
mod record;
mod repeats;
mod verify;

pub use book::{AuditError, Book, Filter, Page, Row};
pub use record::{Decision, Event, Head, Origin, Record, SealKey};
pub use verify::{Broken, Verified, verify};

use repeats::Repeats;

/// Events that may wait to be written; who comes later waits for a place.
const WAITING: usize = 1_024;
/// Events that one transaction takes.
const MOST_AT_ONCE: usize = 256;
/// How often ended windows of repeated refusals are looked for, and whether a disk that failed is back.
const TICK: Duration = Duration::from_secs(1);
/// How often what is too old is taken out.
const TIDY: Duration = Duration::from_secs(3_600);

struct Waiting {
    event: Event,
    /// Told once it is on disk; nobody waits for what was refused.
    done: Option<oneshot::Sender<bool>>,
}

/// Takes what is to be recorded.
#[derive(Debug)]
pub struct Audit {
    book: Book,
    /// Gone once the audit is closed.
    sender: Mutex<Option<mpsc::Sender<Waiting>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    is_well: Arc<AtomicBool>,
    seal: Arc<SealKey>,
}

impl Audit {
    /// Opens the file and starts its writer. What is older than `keep_days` is taken out.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn open(path: &Path, seal: SealKey, keep_days: u32) -> Result<Self, AuditError> {
        let book = Book::open(path).await?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let is_well = Arc::new(AtomicBool::new(true));
        let seal = Arc::new(seal);
        let writer = Writer {
            book: book.clone(),
            seal: Arc::clone(&seal),
            last: None,
            lost: 0,
            repeats: Repeats::default(),
            is_well: Arc::clone(&is_well),
            keep_ms: i64::from(keep_days).saturating_mul(24 * 3_600 * 1_000),
        };
        Ok(Self {
            book,
            sender: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(tokio::spawn(writer.run(receiver)))),
            is_well,
            seal,
        })
    }

    /// Records what is allowed. It is on disk when this returns.
    ///
    /// # Errors
    /// [`AuditError::Closed`] when it is not; then it must not be done.
    pub async fn keep(&self, event: Event) -> Result<(), AuditError> {
        let (done, written) = oneshot::channel();
        self.send(event, Some(done)).await;
        match written.await {
            Ok(true) => Ok(()),
            _ => Err(AuditError::Closed),
        }
    }

    /// Records what was refused, or what has happened already. What cannot be recorded is in the log only.
    pub async fn tell(&self, event: Event) {
        self.send(event, None).await;
    }

    async fn send(&self, event: Event, done: Option<oneshot::Sender<bool>>) {
        log(&event);
        let sender = locked(&self.sender).clone();
        let sent = match sender {
            Some(sender) => sender.send(Waiting { event, done }).await.is_ok(),
            None => false,
        };
        if !sent {
            tracing::error!("an audit event came after the audit was closed");
        }
    }

    /// Whether what came last could be written.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.is_well.load(Ordering::Relaxed)
    }

    /// The records, for reading.
    #[must_use]
    pub const fn book(&self) -> &Book {
        &self.book
    }

    /// A page of records that are as they were written.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn records(
        &self,
        filter: &Filter,
        limit: u32,
    ) -> Result<(Vec<Record>, Option<u64>), AuditError> {
        let Page { rows, next } = self.book.page(filter, limit).await?;
        let records = rows.iter().map(|row| row.whole(&self.seal));
        Ok((records.collect::<Result<_, _>>()?, next))
    }

    /// Writes what waits, and closes the file.
    pub async fn close(&self) {
        drop(locked(&self.sender).take());
        let writer = locked(&self.writer).take();
        if let Some(writer) = writer
            && let Err(error) = writer.await
        {
            tracing::error!(%error, "the audit's writer failed");
        }
        self.book.close().await;
    }
}

/// No holder leaves it half changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn log(event: &Event) {
    let decision = event.decision.name();
    let Event {
        who,
        verb,
        object,
        reason,
        ..
    } = event;
    tracing::info!(target: "audit", who, verb, object, decision, reason);
}

struct Writer {
    book: Book,
    seal: Arc<SealKey>,
    /// The last record that it wrote.
    last: Option<Head>,
    /// Events that could not be recorded since the last that could.
    lost: usize,
    repeats: Repeats,
    is_well: Arc<AtomicBool>,
    keep_ms: i64,
}

/// However it ends: nothing is decided that nobody writes down.
impl Drop for Writer {
    fn drop(&mut self) {
        self.is_well.store(false, Ordering::Relaxed);
    }
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Waiting>) {
        let mut tick = tokio::time::interval(TICK);
        let mut tidy = tokio::time::interval(TIDY);
        let mut batch = Vec::with_capacity(MOST_AT_ONCE);
        loop {
            tokio::select! {
                received = receiver.recv_many(&mut batch, MOST_AT_ONCE) => {
                    if received == 0 {
                        break;
                    }
                    self.write(&mut batch).await;
                }
                _ = tick.tick() => {
                    self.write_ended(false).await;
                    self.try_again().await;
                }
                _ = tidy.tick() => self.tidy().await,
            }
        }
        self.write_ended(true).await;
    }

    async fn write(&mut self, batch: &mut Vec<Waiting>) {
        let now = now_ms();
        let mut waiting = Vec::with_capacity(batch.len());
        let mut events = Vec::with_capacity(batch.len());
        for Waiting { event, done } in batch.drain(..) {
            events.extend(self.repeats.take(event, now).map(|event| (event, None)));
            waiting.extend(done);
        }
        let written = self.append(&events, now).await;
        for done in waiting {
            // Whoever asked may have gone away.
            let _gone = done.send(written);
        }
    }

    async fn write_ended(&mut self, all: bool) {
        let now = now_ms();
        let ended = self.repeats.ended(now, all);
        let events: Vec<_> = ended
            .into_iter()
            .map(|(event, times)| (event, Some(times)))
            .collect();
        self.append(&events, now).await;
    }

    /// A broker that is not ready is asked nothing, and would never find out that its disk is well again.
    async fn try_again(&mut self) {
        if !self.is_well.load(Ordering::Relaxed) {
            let event = Event::own("record", format!("{} lost", self.lost), "audit_is_back");
            self.append(&[(event, None)], now_ms()).await;
        }
    }

    async fn append(&mut self, events: &[(Event, Option<u64>)], now_ms: i64) -> bool {
        if events.is_empty() {
            return true;
        }
        let appended = self
            .book
            .append(&self.seal, events, now_ms, self.last.as_ref())
            .await;
        match appended {
            Ok(head) => {
                // In a log that is kept elsewhere it shows later whether records were cut off.
                tracing::info!(target: "audit", %head, "audit head");
                self.last = Some(head);
                self.lost = 0;
                self.is_well.store(true, Ordering::Relaxed);
            }
            Err(error) => {
                self.lost = self.lost.saturating_add(events.len());
                self.is_well.store(false, Ordering::Relaxed);
                tracing::error!(%error, count = events.len(), "audit events could not be recorded; what they would allow is refused");
                return false;
            }
        }
        true
    }

    async fn tidy(&mut self) {
        let now = now_ms();
        match self
            .book
            .prune(&self.seal, now.saturating_sub(self.keep_ms))
            .await
        {
            Ok(None) => {}
            Ok(Some((base, gone))) => {
                tracing::info!(target: "audit", gone, %base, "audit records went by age");
                let event = Event::own("prune_audit", base.to_string(), "retention_over");
                self.append(&[(event, None)], now).await;
            }
            Err(error) => tracing::warn!(%error, "old audit records could not be taken out"),
        }
    }
}

#[cfg(test)]
mod tests;
