//! Runs the contract again, and holds what that leads to against the tables.

use super::VerifyError;
use crate::ledger::block::{Body, Transaction};
use crate::ledger::chain::corrupt;
use crate::ledger::storage::{self, Session, derived};
use crate::ledger::verify::Corruption;
use leasehold_chaincode::{Contract, MemoryState, TxContext};
use std::collections::BTreeMap;

/// Rows read at once.
const ROWS: usize = 2_048;

/// The contract, run again.
#[derive(Default)]
pub(super) struct Replay {
    contract: Option<Contract>,
    pub(super) state: MemoryState,
    pub(super) places: BTreeMap<String, (u64, usize)>,
}

impl Replay {
    pub(super) fn take(&mut self, height: u64, body: Body) -> Result<(), Corruption> {
        match body {
            Body::Genesis(genesis) => {
                self.contract = Some(Contract {
                    end_margin_ms: genesis.end_margin_ms,
                });
            }
            Body::Key(_) => {}
            Body::Transactions(transactions) => {
                for (position, transaction) in transactions.into_iter().enumerate() {
                    self.replay(height, position, &transaction)?;
                }
            }
        }
        Ok(())
    }

    fn replay(&mut self, height: u64, position: usize, transaction: &Transaction) -> Result<(), Corruption> {
        let bad = |reason: String| {
            corrupt(
                height,
                "body",
                format!("transaction {}: {reason}", transaction.tx_id),
            )
        };
        let contract = self
            .contract
            .ok_or_else(|| bad("there was no genesis".to_owned()))?;
        let context = TxContext {
            tx_id: transaction.tx_id.clone(),
            timestamp_ms: transaction.timestamp_ms,
            caller: transaction.caller.clone(),
            role: transaction.role,
        };
        let outcome = contract
            .replay(transaction.contract, &self.state, &context, &transaction.command)
            .map_err(|failure| bad(format!("the contract does not accept it: {failure}")))?;
        if outcome.result != transaction.result || outcome.events != transaction.events {
            return Err(bad("the contract answers otherwise than is recorded".to_owned()));
        }
        if self
            .places
            .insert(transaction.tx_id.to_string(), (height, position))
            .is_some()
        {
            return Err(bad("it is on the ledger twice".to_owned()));
        }
        self.state.take(outcome.writes);
        Ok(())
    }

    pub(super) async fn compare_state(
        &self,
        session: &mut Session<'_>,
        height: u64,
    ) -> Result<(), VerifyError> {
        let wrong =
            |reason: String| corrupt(height, "state", format!("{reason}; rebuild the ledger's state"));
        let mut expected = self.state.iter();
        let mut last: Option<String> = None;
        loop {
            let pairs = match derived::pairs_after(session, last.as_deref(), ROWS).await {
                Err(error) if storage::is_damage(&error) => {
                    return Err(wrong(format!("it cannot be read: {error}")).into());
                }
                pairs => pairs?,
            };
            if pairs.is_empty() {
                break;
            }
            for (key, value) in &pairs {
                if expected.next() != Some((key.as_str(), value.as_slice())) {
                    return Err(wrong(format!("{key} is not what the blocks lead to")).into());
                }
            }
            last = pairs.into_iter().next_back().map(|(key, _)| key);
        }
        match expected.next() {
            Some((key, _)) => Err(wrong(format!("{key} is missing")).into()),
            None => Ok(()),
        }
    }

    pub(super) async fn compare_places(
        &self,
        session: &mut Session<'_>,
        height: u64,
    ) -> Result<(), VerifyError> {
        let wrong = |reason: String| {
            corrupt(
                height,
                "transactions",
                format!("{reason}; rebuild the ledger's state"),
            )
        };
        let mut expected = self.places.iter();
        let mut last: Option<String> = None;
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
            for (tx_id, height, position) in &places {
                if expected.next() != Some((tx_id, &(*height, *position))) {
                    return Err(wrong(format!("{tx_id} is not where the blocks have it")).into());
                }
            }
            last = places.into_iter().next_back().map(|(tx_id, _, _)| tx_id);
        }
        match expected.next() {
            Some((tx_id, _)) => Err(wrong(format!("{tx_id} is missing")).into()),
            None => Ok(()),
        }
    }
}
