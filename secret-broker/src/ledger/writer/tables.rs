//! Writes what blocks lead to into the tables.

use crate::ledger::storage::pending::{Changed, View};
use crate::ledger::storage::{Session, StorageError, derived};

/// Brings a file's tables up to a view's block.
pub(in crate::ledger) async fn write_tables(
    session: &mut Session<'_>,
    view: &View,
) -> Result<(), StorageError> {
    derived::write_rows(session, &view.rows()).await?;
    let places = view.places();
    let places: Vec<_> = places
        .iter()
        .map(|(tx_id, height, at)| (&**tx_id, *height, *at))
        .collect();
    derived::write_places(session, &places).await?;
    derived::set_height(session, view.height).await
}

/// Writes what one block leads to, where tables never lag.
pub(super) async fn write_block(
    session: &mut Session<'_>,
    changes: &Changed,
    places: &[(&str, u64, usize)],
) -> Result<(), StorageError> {
    let (mut puts, mut deletes) = (Vec::new(), Vec::new());
    for (key, value) in changes {
        match value {
            Some(value) => puts.push((key.as_str(), value.as_str())),
            None => deletes.push(key.as_str()),
        }
    }
    derived::sort(session, &mut puts);
    derived::write(session, &puts, &deletes).await?;
    derived::write_places(session, places).await
}
