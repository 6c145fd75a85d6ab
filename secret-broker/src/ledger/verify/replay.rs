//! Runs the contract again, and holds what that leads to against the tables.

use super::VerifyError;
use super::answers::Recorded;
use super::replayed::Replayed;
use crate::ledger::block::{Asked, BodyOf};
use crate::ledger::chain::corrupt;
use crate::ledger::storage::rows::{self, Order, Stored};
use crate::ledger::storage::{self, Session, StorageError, derived};
use crate::ledger::verify::Corruption;
use hashbrown::HashMap;
use leasehold_chaincode::{Contract, TxContext};
use std::borrow::Cow;
use std::collections::HashSet;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

/// Rows read at once.
const ROWS: usize = 2_048;
/// Of which so many wait to be compared.
const AHEAD: usize = 2;

/// The contract, run again.
#[derive(Default)]
pub(super) struct Replay {
    contract: Option<Contract>,
    pub(super) state: Replayed,
    pub(super) places: HashMap<String, (u64, usize)>,
}

impl Replay {
    /// Decides what was asked in a block's body, and holds the answers against its text.
    pub(super) fn take(&mut self, height: u64, body: &BodyOf<Asked>, text: &str) -> Result<(), Corruption> {
        match body {
            BodyOf::Genesis(genesis) => {
                self.contract = Some(Contract {
                    end_margin_ms: genesis.end_margin_ms,
                });
            }
            BodyOf::Key(_) => {}
            BodyOf::Transactions(transactions) => {
                let mut recorded = Recorded::new(text);
                for (position, transaction) in transactions.iter().enumerate() {
                    self.replay(height, position, transaction, &mut recorded)?;
                }
                if !recorded.ends() {
                    return Err(corrupt(height, "body", "it goes on after its transactions"));
                }
            }
        }
        Ok(())
    }

    fn replay(
        &mut self,
        height: u64,
        position: usize,
        transaction: &Asked,
        recorded: &mut Recorded<'_>,
    ) -> Result<(), Corruption> {
        let bad = |reason: String| {
            corrupt(
                height,
                "body",
                format!("transaction {}: {reason}", transaction.tx_id),
            )
        };
        let contract = self
            .contract
            .ok_or_else(|| bad("there was no genesis".to_owned()))?;
        let context = TxContext {
            tx_id: transaction.tx_id.clone(),
            timestamp_ms: transaction.timestamp_ms,
            caller: transaction.caller.clone(),
            role: transaction.role,
        };
        let outcome = contract
            .replay(transaction.contract, &self.state, &context, &transaction.command)
            .map_err(|failure| bad(format!("the contract does not accept it: {failure}")))?;
        if !recorded.goes_on(transaction, &outcome) {
            return Err(bad("the contract answers otherwise than is recorded".to_owned()));
        }
        let tx_id = transaction.tx_id.as_str().to_owned();
        if self.places.insert(tx_id, (height, position)).is_some() {
            return Err(bad("it is on the ledger twice".to_owned()));
        }
        self.state.take(&outcome.writes);
        Ok(())
    }

    /// That the table has the replayed state's rows and no others. While some are compared the next ones are read.
    pub(super) async fn compare_state(
        &mut self,
        session: &mut Session<'_>,
        height: u64,
    ) -> Result<(), VerifyError> {
        let wrong = |reason: String| wrong_state(height, &reason);
        let read = |error: StorageError| -> VerifyError {
            match storage::is_damage(&error) {
                true => wrong(format!("it cannot be read: {error}")).into(),
                false => error.into(),
            }
        };
        let order = rows::order(session).await.map_err(read)?;
        let state = std::mem::take(&mut self.state);
        let (send, batches) = mpsc::channel(AHEAD);
        let comparing = spawn_blocking(move || {
            let compared = compare(&state, order, height, batches);
            (state, compared)
        });
        let reading = send_rows(session, order, send).await;
        let (state, compared) = comparing.await?;
        self.state = state;
        let count = compared?;
        reading.map_err(read)?;
        if count == self.state.len() {
            return Ok(());
        }
        let missing = self.missing(session, order).await.map_err(read)?;
        Err(wrong(format!("{missing} is missing")).into())
    }

    /// The first key that the table lacks.
    async fn missing(&self, session: &mut Session<'_>, order: Order) -> Result<String, StorageError> {
        let (mut found, mut last) = (HashSet::new(), None);
        loop {
            let rows = rows::after(session, order, last.as_deref(), ROWS).await?;
            let Some((end, _)) = rows.last() else { break };
            last = Some(end.clone());
            found.extend(
                rows.iter()
                    .filter_map(|(found, _)| order.key(found).map(Cow::into_owned)),
            );
        }
        let keys = self.state.iter().map(|(key, _)| String::from_utf8_lossy(key));
        let missing = keys.filter(|key| !found.contains(key.as_ref())).min();
        Ok(missing.map_or_else(|| "a row".to_owned(), String::from))
    }

    /// That the table has the places of the replayed transactions and no others.
    pub(super) async fn compare_places(
        &self,
        session: &mut Session<'_>,
        height: u64,
    ) -> Result<(), VerifyError> {
        let wrong = |reason: String| {
            corrupt(
                height,
                "transactions",
                format!("{reason}; rebuild the ledger's state"),
            )
        };
        let mut last: Option<String> = None;
        let mut count = 0_usize;
        loop {
            let places = match derived::places_after(session, last.as_deref(), ROWS).await {
                Err(error) if storage::is_damage(&error) => {
                    return Err(wrong(format!("they cannot be read: {error}")).into());
                }
                places => places?,
            };
            if places.is_empty() {
                break;
            }
            count = count.saturating_add(places.len());
            for (tx_id, height, position) in places {
                let expected = self.places.get(&tx_id);
                let in_order = last.as_ref().is_none_or(|last| *last < tx_id);
                if expected != Some(&(height, position)) || !in_order {
                    return Err(wrong(format!("{tx_id} is not where the blocks have it")).into());
                }
                last = Some(tx_id);
            }
        }
        if count == self.places.len() {
            return Ok(());
        }
        Err(wrong("a transaction is missing".to_owned()).into())
    }
}

/// What is read of the tables.
enum Read {
    Rows(Vec<(Vec<u8>, Stored)>),
    Lines(Vec<(i64, Vec<u8>)>),
}

/// All rows of the state, and all lines after them: one after the other as they lie, not from each row to its line.
async fn send_rows(
    session: &mut Session<'_>,
    order: Order,
    send: mpsc::Sender<Read>,
) -> Result<(), StorageError> {
    let mut last: Option<Vec<u8>> = None;
    loop {
        let rows = rows::after(session, order, last.as_deref(), ROWS).await?;
        let Some((end, _)) = rows.last() else { break };
        last = Some(end.clone());
        if send.send(Read::Rows(rows)).await.is_err() {
            // One of those before is wrong.
            return Ok(());
        }
    }
    let mut next = (order == Order::Place).then_some(i64::MIN);
    while let Some(first) = next {
        let lines = rows::lines(session, first, ROWS).await?;
        next = lines.last().and_then(|(id, _)| id.checked_add(1));
        if send.send(Read::Lines(lines)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// How many rows there are, all of which are the state's, and each line the one that its row means.
fn compare(
    state: &Replayed,
    order: Order,
    height: u64,
    mut batches: mpsc::Receiver<Read>,
) -> Result<usize, Corruption> {
    let mut last: Option<Vec<u8>> = None;
    let mut count = 0_usize;
    let mut lines = Lines::default();
    while let Some(batch) = batches.blocking_recv() {
        let rows = match batch {
            Read::Rows(rows) => rows,
            Read::Lines(read) => {
                let compared = lines.compare(&read);
                compared.map_err(|reason| wrong_state(height, &reason))?;
                continue;
            }
        };
        count = count.saturating_add(rows.len());
        for (found, stored) in rows {
            let key = order.key(&found);
            let wrong = |what: &str| {
                let key = key.as_deref().map_or_else(|| hex::encode(&found), str::to_owned);
                wrong_state(height, &format!("{key} {what}"))
            };
            // Each once, so that their number tells whether one is missing.
            if last.as_ref().is_some_and(|last| *last >= found) {
                return Err(wrong("is not where it belongs"));
            }
            let expected = key.as_ref().and_then(|key| state.value(key));
            let has_line = key.as_ref().is_some_and(|key| order.has_line(key));
            match (stored, expected) {
                (Stored::Value(value), Some(expected)) if !has_line && value == expected => {}
                (Stored::Line(id), Some(expected)) if has_line => lines.meant.push((id, expected)),
                _ => return Err(wrong("is not what the blocks lead to")),
            }
            last = Some(found);
        }
    }
    Ok(count)
}

/// The lines that the rows mean, and what is in each by the blocks.
#[derive(Default)]
struct Lines<'s> {
    meant: Vec<(i64, &'s [u8])>,
    /// So many were compared.
    compared: usize,
}

impl Lines<'_> {
    /// That these are the next of them, and the last ones where they are none.
    fn compare(&mut self, read: &[(i64, Vec<u8>)]) -> Result<(), String> {
        if self.compared == 0 {
            self.meant.sort_unstable_by_key(|(id, _)| *id);
        }
        for (id, value) in read {
            match self.meant.get(self.compared) {
                Some((meant, expected)) if meant == id && expected == value => {}
                Some((meant, _)) if meant < id => return Err(self.unmatched(*meant)),
                Some((meant, _)) if meant == id => {
                    return Err(format!("line {id} is not what the blocks lead to"));
                }
                _ => return Err(format!("line {id} is that of no row")),
            }
            self.compared = self.compared.saturating_add(1);
        }
        match self.meant.get(self.compared) {
            Some((meant, _)) if read.is_empty() => Err(self.unmatched(*meant)),
            _ => Ok(()),
        }
    }

    fn unmatched(&self, id: i64) -> String {
        let before = self.compared.checked_sub(1).and_then(|at| self.meant.get(at));
        match before.is_some_and(|(before, _)| *before == id) {
            true => format!("line {id} is that of two rows"),
            false => format!("line {id} is missing"),
        }
    }
}

fn wrong_state(height: u64, reason: &str) -> Corruption {
    corrupt(height, "state", format!("{reason}; rebuild the ledger's state"))
}
