//! One transaction, from its arguments to its answer.

use crate::answer::{EVENT_NAME, Problem, Told};
use crate::caller;
use crate::request::Request;
use crate::state::{answered, with_state, write};
use fabric_shim::{Chaincode, Response, Stub, Timestamp};
use leasehold_chaincode::{
    CONTRACT_VERSION, Command, Contract, DatasetRef, Failure, Refusal, StateError, TxContext, TxId, query,
};
use serde_json::json;

/// The contract as a chaincode.
#[derive(Debug, Clone, Copy)]
pub struct LeaseholdChaincode {
    contract: Contract,
}

impl LeaseholdChaincode {
    /// With parameters that all peers share: on Fabric [`Contract::FABRIC`].
    #[must_use]
    pub fn new(contract: Contract) -> Self {
        Self { contract }
    }

    async fn answer(&self, stub: &Stub) -> Result<Vec<u8>, Problem> {
        match Request::parse(stub.function(), stub.parameters())? {
            Request::Submit(command) => self.submit(stub, &command).await,
            Request::Ask(question) => {
                let answer = answered(stub, |state| question.answer(state)).await?;
                Ok(serde_json::to_vec(&answer)?)
            }
            Request::Read(dataset) => {
                let entry = answered(stub, |state| query::dataset(state, &dataset)).await?;
                Ok(serde_json::to_vec(&entry.ok_or(Refusal::DatasetNotFound {})?)?)
            }
            Request::Exists(dataset) => exists(stub, &dataset).await,
            Request::Describe => Ok(serde_json::to_vec(&json!({
                "contract": CONTRACT_VERSION,
                "end_margin_ms": self.contract.end_margin_ms,
            }))?),
        }
    }

    async fn submit(&self, stub: &Stub, command: &Command) -> Result<Vec<u8>, Problem> {
        let (caller, role) = caller::identify(&stub.creator().map_err(caller::CallerError::from)?)?;
        let context = TxContext {
            tx_id: TxId::new(stub.tx_id()).map_err(|error| Refusal::InvalidField {
                field: "tx_id".to_owned(),
                reason: format!("expected {}", error.expected),
            })?,
            timestamp_ms: milliseconds(stub.timestamp()?),
            caller,
            role,
        };
        let outcome = with_state(
            stub,
            |state| self.contract.execute(state, &context, command),
            |failure| *failure == Failure::State(StateError::NotLoaded),
        );
        let mut outcome = match outcome.await? {
            Ok(outcome) => outcome,
            Err(Failure::Refused(refusal)) => return Err(refusal.into()),
            Err(Failure::State(error)) => return Err(error.into()),
        };
        write(
            stub,
            std::mem::take(&mut outcome.writes),
            outcome.endorsement.as_ref(),
        )
        .await?;
        let told = serde_json::to_vec(&Told::of(&context, outcome))?;
        stub.set_event(EVENT_NAME, told.clone())?;
        Ok(told)
    }
}

#[fabric_shim::async_trait]
impl Chaincode for LeaseholdChaincode {
    async fn invoke(&self, stub: &Stub) -> Response {
        match self.answer(stub).await {
            Ok(payload) => Response::success(payload),
            Err(problem) => {
                tracing::info!(
                    tx_id = stub.tx_id(),
                    code = problem.code(),
                    status = problem.status(),
                    "a transaction is refused"
                );
                problem.into()
            }
        }
    }
}

async fn exists(stub: &Stub, dataset: &DatasetRef) -> Result<Vec<u8>, Problem> {
    let entry = answered(stub, |state| query::dataset(state, dataset)).await?;
    let exists = entry.is_some_and(|entry| entry.dataset.retired_at_ms.is_none());
    Ok(serde_json::to_vec(&exists)?)
}

/// Times that do not fit are the contract's to refuse.
fn milliseconds(time: Timestamp) -> i64 {
    time.seconds
        .saturating_mul(1_000)
        .saturating_add(i64::from(time.nanoseconds / 1_000_000))
}
