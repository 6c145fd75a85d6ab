//! Holds what the blocks lead to against the tables, row by row.

use super::VerifyError;
use super::ahead::read;
use super::replay::Replay;
use super::replayed::{Replayed, Row};
use crate::ledger::chain::corrupt;
use crate::ledger::storage::rows::{self, Order, Rest, Rows};
use crate::ledger::storage::{self, Session, StorageError, derived};
use crate::ledger::verify::Corruption;
use std::borrow::Cow;
use std::collections::HashSet;
use tokio::sync::{Mutex, mpsc};
use tokio::task::spawn_blocking;

/// Rows read at once.
const ROWS: usize = 2_048;
/// And sought in the state together, each step for all of them.
const TOGETHER: usize = 64;
/// Of those read so many times as many wait to be compared.
const AHEAD: usize = 2;

/// Another session beside the first, in its turn.
pub(super) type Beside<'m, 's, 'c> = Option<&'m Mutex<&'s mut Session<'c>>>;

/// That the tables have what the blocks up to the one at this height lead to, and nothing else. With another session that sees the
/// same tables two of them are read at the same time.
pub(super) async fn compare(
    replay: &Replay,
    session: &mut Session<'_>,
    beside: Beside<'_, '_, '_>,
    height: u64,
) -> Result<(), VerifyError> {
    let Some(beside) = beside else {
        compare_state(replay, session, height).await?;
        return compare_places(replay, session, height).await;
    };
    let places = async {
        let mut session = beside.lock().await;
        // They may have been written since the first session began, or not be readable.
        let same = derived::height(&mut session)
            .await
            .is_ok_and(|found| found == height);
        match same {
            true => Some(compare_places(replay, &mut session, height).await),
            false => None,
        }
    };
    let (state, places) = tokio::join!(compare_state(replay, session, height), places);
    state?;
    match places {
        Some(places) => places,
        None => compare_places(replay, session, height).await,
    }
}

/// That the table has the replayed state's rows and no others. While some are compared the next ones are read.
async fn compare_state(replay: &Replay, session: &mut Session<'_>, height: u64) -> Result<(), VerifyError> {
    let wrong = |reason: String| wrong_state(height, &reason);
    let read_error = |error: StorageError| -> VerifyError {
        match storage::is_damage(&error) {
            true => wrong(format!("it cannot be read: {error}")).into(),
            false => error.into(),
        }
    };
    let order = rows::order(session).await.map_err(read_error)?;
    let state = replay.shared();
    let (send, batches) = mpsc::channel(AHEAD);
    let comparing = spawn_blocking(move || compare_rows(&read(&state), order, height, batches));
    let reading = send_rows(session, order, send).await;
    let count = comparing.await??;
    reading.map_err(read_error)?;
    if count == replay.state().len() {
        return Ok(());
    }
    let missing = missing(replay, session, order).await.map_err(read_error)?;
    Err(wrong(format!("{missing} is missing")).into())
}

/// The first key that the table lacks.
async fn missing(replay: &Replay, session: &mut Session<'_>, order: Order) -> Result<String, StorageError> {
    let (mut found, mut last) = (HashSet::new(), None);
    loop {
        let rows = rows::after(session, order, last.as_deref(), ROWS).await?;
        let Some(end) = rows.last() else { break };
        last = Some(end.to_vec());
        let mut rows = rows.iter();
        while let Some((place, _)) = rows.next() {
            found.extend(order.key(place).map(Cow::into_owned));
        }
    }
    let state = replay.state();
    let keys = state.iter().map(|(key, _)| String::from_utf8_lossy(key));
    let missing = keys.filter(|key| !found.contains(key.as_ref())).min();
    Ok(missing.map_or_else(|| "a row".to_owned(), String::from))
}

/// That the table has the places of the replayed transactions and no others.
async fn compare_places(replay: &Replay, session: &mut Session<'_>, height: u64) -> Result<(), VerifyError> {
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
            let expected = replay.places.get(&tx_id);
            let in_order = last.as_ref().is_none_or(|last| *last < tx_id);
            if expected != Some(&(height, position)) || !in_order {
                return Err(wrong(format!("{tx_id} is not where the blocks have it")).into());
            }
            last = Some(tx_id);
        }
    }
    if count == replay.places.len() {
        return Ok(());
    }
    Err(wrong("a transaction is missing".to_owned()).into())
}

/// What is read of the tables.
enum Read {
    Rows(Rows),
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
        let Some(end) = rows.last() else { break };
        last = Some(end.to_vec());
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
fn compare_rows(
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
        let mut before = last.as_deref();
        let mut rest = rows.iter();
        loop {
            let sought = sought(state, order, &mut rest);
            if sought.is_empty() {
                break;
            }
            for row in sought {
                let Sought { found, key, .. } = &row;
                let wrong = |what: &str| {
                    let key = key.as_deref().map_or_else(|| hex::encode(found), str::to_owned);
                    wrong_state(height, &format!("{key} {what}"))
                };
                // Each once, so that their number tells whether one is missing.
                if before.is_some_and(|before| before >= *found) {
                    return Err(wrong("is not where it belongs"));
                }
                let has_line = key.as_ref().is_some_and(|key| order.has_line(key));
                match row.expected(state) {
                    Some(expected) if !has_line && !row.is_number && rest.has(expected) => {}
                    Some(expected) if has_line && row.is_number => match rest.number() {
                        Some(id) => lines.meant.push((id, expected)),
                        None => return Err(wrong("is not what the blocks lead to")),
                    },
                    _ => return Err(wrong("is not what the blocks lead to")),
                }
                before = Some(*found);
            }
        }
        if !rest.is_over() {
            return Err(wrong_state(height, "a row has more than the blocks lead to"));
        }
        last = before.map(<[u8]>::to_vec);
    }
    Ok(count)
}

/// A row, and where in the state its key is.
struct Sought<'r> {
    found: &'r [u8],
    is_number: bool,
    key: Option<Cow<'r, str>>,
    hash: u64,
    there: Option<Row>,
}

impl Sought<'_> {
    fn expected<'s>(&self, state: &'s Replayed) -> Option<&'s [u8]> {
        match self.there {
            Some(row) => Some(state.value_in(row)),
            // Another key may have the same hash.
            None => state.value_of(self.hash, self.key.as_deref()?),
        }
    }
}

/// The next rows, as many as are sought together.
fn sought<'r>(state: &Replayed, order: Order, rest: &mut Rest<'r>) -> Vec<Sought<'r>> {
    let next = std::iter::from_fn(|| rest.next()).take(TOGETHER);
    let mut sought: Vec<_> = next
        .map(|(found, is_number)| {
            let key = order.key(found);
            let hash = key.as_deref().map(|key| state.hash(key)).unwrap_or_default();
            Sought {
                found,
                is_number,
                key,
                hash,
                there: None,
            }
        })
        .collect();
    for row in &mut sought {
        row.there = state.row(row.hash);
    }
    for Sought { key, there, .. } in &mut sought {
        *there = there.filter(|there| key.as_deref().is_some_and(|key| state.is_of(*there, key)));
    }
    sought
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
