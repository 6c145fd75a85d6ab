//! Why a call to the peer failed.

use fabric_wire::protos::chaincode_message::Type;

use crate::key::KeyError;

/// A failed call. All but [`CallError::StreamEnded`] leave the transaction usable.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The key cannot be one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A private call without a collection.
    #[error("{request}: a collection needs a name")]
    UnnamedCollection {
        /// What was asked for.
        request: &'static str,
    },
    /// A page of no rows, or of more than the protocol can say.
    #[error("a page of {0} rows cannot be asked for; use 1 to 2147483647")]
    PageSize(usize),
    /// The peer answered with an error: no such collection, no permission, no database for rich queries.
    #[error("the peer refused {request}: {message}")]
    Refused {
        /// What was asked for.
        request: &'static str,
        /// The peer's own words.
        message: String,
    },
    /// The request is greater than what the peer takes.
    #[error("{request} would be a message of {bytes} bytes; the limit is {limit}")]
    TooLarge {
        /// What was asked for.
        request: &'static str,
        /// Its size, encoded.
        bytes: usize,
        /// [`crate::Limits::message_bytes`].
        limit: usize,
    },
    /// The peer's answer is not what the request asks for.
    #[error("the peer's answer to {request} cannot be understood: {reason}")]
    Unintelligible {
        /// What was asked for.
        request: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The stream to the peer is gone, and the transaction with it: whatever is answered now reaches nobody.
    #[error("{request} got no answer: the stream to the peer ended")]
    StreamEnded {
        /// What was asked for.
        request: &'static str,
    },
}

impl CallError {
    pub(crate) fn unintelligible(request: Type, reason: impl ToString) -> Self {
        Self::Unintelligible {
            request: request.as_str_name(),
            reason: reason.to_string(),
        }
    }
}
