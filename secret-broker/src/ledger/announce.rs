//! Says how high the ledger is: after each block of this broker's own, and in PostgreSQL after each of others.
//!
//! The database announces a block to whoever listens; whatever gets lost on the way is found by looking twice a second. Only the
//! height is told: blocks are read from the database, so that none is missed. A height is told once its block counts ([`Witness`]).

use super::notes::Notes;
use super::storage::Readers;
use super::storage::postgres::Pool;
use super::witness::{Witness, WitnessError};
use sqlx::postgres::PgListener;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often to look whatever is announced.
const LOOK: Duration = Duration::from_millis(400);
/// For how long a database has to be right before it is believed again: each look is at another connection.
const SOUND: Duration = Duration::from_secs(2);
/// How old the last look may be for the height to be called current.
const CURRENT: Duration = Duration::from_secs(1);

/// Tells a height, unless a higher one was told.
pub(super) fn announce(heights: &watch::Sender<u64>, height: u64) {
    heights.send_if_modified(|told| {
        let higher = height > *told;
        if higher {
            *told = height;
        }
        higher
    });
}

/// When the height was last looked up; never asked where only this process writes.
#[derive(Clone)]
pub(super) struct Looked(Option<watch::Receiver<Instant>>);

impl Looked {
    /// Whether a block that others appended a second ago would be known.
    pub(super) fn is_current(&self) -> bool {
        let Some(looked) = &self.0 else { return true };
        looked.borrow().elapsed() < CURRENT
    }
}

/// Looks for what others append, and has noted how far the ledger was seen.
pub(super) struct Lookout {
    pool: Option<Pool>,
    reads: Readers,
    witness: Witness,
    notes: Option<Notes>,
    looked: watch::Sender<Instant>,
    /// Since when the database, which was not right, has been.
    sound: Option<Instant>,
}

impl Lookout {
    pub(super) fn new(reads: Readers, witness: Witness, notes: Option<Notes>) -> (Self, Looked) {
        let pool = match &reads {
            Readers::Sqlite(..) => None,
            Readers::Postgres(pool) => Some(pool.clone()),
        };
        let (looked, when) = watch::channel(Instant::now());
        let when = Looked(pool.is_some().then_some(when));
        let lookout = Self {
            pool,
            reads,
            notes,
            witness,
            looked,
            sound: None,
        };
        (lookout, when)
    }

    /// Runs until the future is dropped.
    pub(super) async fn run(&mut self) {
        let Some(pool) = self.pool.clone() else {
            while self.notes.is_some() {
                self.note().await;
                tokio::time::sleep(LOOK).await;
            }
            return std::future::pending().await;
        };
        let mut listener = None;
        let (mut reached, mut distrusted) = (true, false);
        loop {
            if listener.is_none() {
                // Without it there is still the look.
                listener = pool.listen().await.ok();
            }
            let look = self.look().await;
            if look.is_err() {
                // The address may lead to another server by now.
                pool.renew();
            }
            match look {
                Ok(()) => {
                    reached = true;
                    if std::mem::take(&mut distrusted) {
                        tracing::info!("the ledger is again what this broker has seen of it");
                    }
                }
                Err(WitnessError::Distrust(error)) => {
                    if !std::mem::replace(&mut distrusted, true) {
                        tracing::error!(%error, "the ledger is not what this broker has seen of it");
                    }
                }
                Err(WitnessError::Storage(error)) => {
                    if std::mem::take(&mut reached) {
                        tracing::warn!(%error, "cannot look for blocks of other brokers; trying again");
                    }
                }
            }
            self.note().await;
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                heard = hear(&mut listener) => if !heard { listener = None },
            }
        }
    }

    async fn look(&mut self) -> Result<(), WitnessError> {
        let began = Instant::now();
        let sound = self.sound.take();
        let mut session = self.reads.read().await?;
        self.witness.look(&mut session).await?;
        session.rollback().await?;
        if let Some(found) = self.witness.found() {
            let since = sound.unwrap_or(began);
            if began.duration_since(since) < SOUND {
                self.sound = Some(since);
                return Err(found.into());
            }
            self.witness.trust();
        }
        self.looked.send_replace(began);
        Ok(())
    }

    /// What was seen, whatever the storage has of it now.
    async fn note(&mut self) {
        if let Some(notes) = &mut self.notes {
            notes.note(&self.witness.last().head).await;
        }
    }

    /// What was seen to the end is noted.
    pub(super) async fn close(self) {
        if let Some(notes) = self.notes {
            notes.finish(&self.witness.last().head).await;
        }
    }
}

/// Whether there was an announcement; for ever where nobody listens.
async fn hear(listener: &mut Option<PgListener>) -> bool {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let heard = matches!(listener.try_recv().await, Ok(Some(_)));
    // One look is enough for all that were announced together.
    while listener.next_buffered().is_some() {}
    heard
}
