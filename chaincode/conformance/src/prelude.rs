//! What has to be on the ledger before any case: nothing yet.

use crate::bench::{Abilities, Bench};

/// Puts it there. Again on a ledger that has it, it changes nothing.
pub(crate) async fn prepare(_bench: &dyn Bench, _abilities: &Abilities) -> Result<(), String> {
    Ok(())
}
