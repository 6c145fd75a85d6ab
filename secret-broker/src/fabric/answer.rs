//! What the chaincode's answers say: what a transaction did, and why it was refused.

use fabric_gateway_client as gateway;
use leasehold_chaincode::{CommandResult, Event, Msp, Refusal};
use serde::Deserialize;
use serde_json::Value;

use crate::ledger::SubmitError;

/// What an accepted command did: a transaction's answer, and its event.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    pub(super) timestamp_ms: i64,
    #[serde(rename = "by")]
    _by: Msp,
    pub(super) result: CommandResult,
    pub(super) events: Vec<Event>,
}

impl Told {
    pub(super) fn parse(payload: &[u8]) -> Result<Self, String> {
        let read = serde_json::from_slice(payload);
        read.map_err(|error| {
            format!("the contract on the channel says what this version does not understand: {error}; let all run the same version")
        })
    }
}

/// Which contract answers.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Described {
    pub(super) contract: u32,
    pub(super) end_margin_ms: i64,
}

/// A refusal of the chaincode: the contract's own, or why the chaincode could not decide.
pub(super) fn refused(refusal: &gateway::Refusal) -> SubmitError {
    let document = serde_json::from_str::<Value>(&refusal.message).ok();
    let contracts = document.clone().and_then(|mut document| {
        document.as_object_mut()?.remove("message")?;
        serde_json::from_value::<Refusal>(document).ok()
    });
    if let Some(refusal) = contracts {
        return refusal.into();
    }
    let code = document
        .as_ref()
        .and_then(|document| document.get("code"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let said = document
        .as_ref()
        .and_then(|document| document.get("message"))
        .and_then(Value::as_str)
        .unwrap_or(&refusal.message);
    match code {
        // This broker and the chaincode are not of one version: it will not be understood later either.
        "unknown_function" | "malformed_arguments" | "malformed_proposal" => {
            SubmitError::Abandoned(said.to_owned())
        }
        _ => SubmitError::Storage(format!("the chaincode answered {}: {said}", refusal.status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: i32, message: &str) -> SubmitError {
        let message = message.to_owned();
        refused(&gateway::Refusal { status, message })
    }

    #[test]
    fn a_refusal_of_the_contract_keeps_its_code_and_fields_and_others_are_told_apart() {
        assert_eq!(
            answered(404, r#"{"code":"dataset_not_found","message":"there is none"}"#),
            SubmitError::Refused(Refusal::DatasetNotFound {})
        );
        let taken = r#"{"code":"dataset_name_taken","message":"it is taken","name":"texts"}"#;
        assert!(matches!(
            answered(409, taken),
            SubmitError::Refused(Refusal::DatasetNameTaken { .. })
        ));
        assert_eq!(
            answered(
                400,
                r#"{"code":"malformed_arguments","message":"parameter 1 is no command"}"#
            ),
            SubmitError::Abandoned("parameter 1 is no command".to_owned())
        );
        for transient in [
            r#"{"code":"peer_failed","message":"gone"}"#,
            r#"{"code":"unknown_caller","message":"who"}"#,
            "panic",
        ] {
            assert!(
                matches!(answered(500, transient), SubmitError::Storage(_)),
                "{transient}"
            );
        }
    }
}
