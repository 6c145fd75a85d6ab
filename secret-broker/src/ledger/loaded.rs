//! Fetches from the database what the contract, or a question, found missing in its [`Loaded`] state.

use super::ReadError;
use super::storage::derived;
use leasehold_chaincode::{Loaded, StateError};
use sqlx::SqliteConnection;

/// Fetches what was asked for.
pub(super) async fn fetch(loaded: &mut Loaded, connection: &mut SqliteConnection) -> Result<(), ReadError> {
    let wanted = loaded.wanted();
    if !wanted.keys.is_empty() {
        let keys: Vec<_> = wanted.keys.into_iter().collect();
        let mut found = derived::values(connection, &keys).await?;
        for key in keys {
            let value = found.remove(&key);
            loaded.learn(key, value);
        }
    }
    for range in wanted.ranges {
        let pairs = derived::range(connection, &range.start, &range.end, range.limit).await?;
        loaded.learn_range(range, pairs);
    }
    Ok(())
}

/// Answers a question from a database.
pub(super) async fn answer<T>(
    connection: &mut SqliteConnection,
    question: impl Fn(&Loaded) -> Result<T, StateError>,
) -> Result<T, ReadError> {
    let mut loaded = Loaded::default();
    loop {
        match question(&loaded) {
            Err(StateError::NotLoaded) if loaded.lacks() => fetch(&mut loaded, connection).await?,
            outcome => return Ok(outcome?),
        }
    }
}
