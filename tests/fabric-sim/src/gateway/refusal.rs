//! How a gateway says what went wrong: the codes, texts and details of Fabric's own, `internal/pkg/gateway`.

use fabric_wire::gateway::{Any, ErrorDetail, Status as RpcStatus};
use prost::Message as _;
use tonic::{Code, Status};

use crate::endorse::EndorseError;

pub(crate) const MISMATCH: &str = "ProposalResponsePayloads do not match";

/// A status with a detail for each of those behind it: member and message.
pub(crate) fn status(code: Code, message: &str, details: &[(&str, String)]) -> Status {
    let detail = |(msp_id, message): &(&str, String)| Any {
        type_url: "type.googleapis.com/gateway.ErrorDetail".to_owned(),
        value: ErrorDetail {
            address: format!("peer0.{}:7051", msp_id.to_lowercase()),
            msp_id: (*msp_id).to_owned(),
            message: message.clone(),
        }
        .encode_to_vec()
        .into(),
    };
    let encoded = RpcStatus {
        code: code.into(),
        message: message.to_owned(),
        details: details.iter().map(detail).collect(),
    };
    Status::with_details(code, message, encoded.encode_to_vec().into())
}

/// What a peer says of a run that failed, and whether that is the chaincode's own no.
pub(crate) fn message(error: &EndorseError) -> (String, bool) {
    match error {
        EndorseError::Refused { status, message } => {
            (format!("chaincode response {status}, {message}"), true)
        }
        EndorseError::Disagreement(..) => (MISMATCH.to_owned(), false),
        other => (
            format!("error in simulation: failed to execute transaction: {other}"),
            false,
        ),
    }
}
