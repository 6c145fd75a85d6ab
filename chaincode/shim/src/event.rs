//! The one event a transaction may leave behind. Clients see it once the transaction is committed and valid.

/// Why an event was not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Clients subscribe by name.
    #[error("an event needs a name")]
    Unnamed,
}
