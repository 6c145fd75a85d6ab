//! What a chaincode answers, to a client or to another chaincode.

use bytes::Bytes;
use fabric_wire::protos;

/// The transaction may be endorsed.
pub const STATUS_OK: i32 = 200;
/// From here on the peer refuses to endorse; the client sees the message.
pub const ERROR_THRESHOLD: i32 = 400;
/// The status of an answer that is an error and says nothing more.
pub const STATUS_ERROR: i32 = 500;

/// Status, message and payload, as in HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Below [`ERROR_THRESHOLD`] the transaction is endorsed.
    pub status: i32,
    /// For people.
    pub message: String,
    /// For programs.
    pub payload: Bytes,
}

impl Response {
    /// Status 200 with a payload.
    pub fn success(payload: impl Into<Bytes>) -> Self {
        Self {
            status: STATUS_OK,
            message: String::new(),
            payload: payload.into(),
        }
    }

    /// Status 500 with a message.
    pub fn error(message: impl Into<String>) -> Self {
        Self::refusal(STATUS_ERROR, message)
    }

    /// A status of [`ERROR_THRESHOLD`] or more with a message. A lower one would be an endorsement and becomes 500.
    pub fn refusal(status: i32, message: impl Into<String>) -> Self {
        let status = if status < ERROR_THRESHOLD {
            STATUS_ERROR
        } else {
            status
        };
        Self {
            status,
            message: message.into(),
            payload: Bytes::new(),
        }
    }

    /// Whether a peer endorses this.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status < ERROR_THRESHOLD
    }
}

/// A payload becomes a success and an error its message, sources included, so that handlers may be written with `?`.
impl<T: Into<Bytes>, E: std::error::Error> From<Result<T, E>> for Response {
    fn from(result: Result<T, E>) -> Self {
        match result {
            Ok(payload) => Self::success(payload),
            Err(error) => {
                let mut message = error.to_string();
                let mut source = error.source();
                while let Some(cause) = source {
                    message = format!("{message}: {cause}");
                    source = cause.source();
                }
                Self::error(message)
            }
        }
    }
}

impl From<protos::Response> for Response {
    fn from(response: protos::Response) -> Self {
        Self {
            status: response.status,
            message: response.message,
            payload: response.payload,
        }
    }
}

impl From<Response> for protos::Response {
    fn from(response: Response) -> Self {
        Self {
            status: response.status,
            message: response.message,
            payload: response.payload,
        }
    }
}
