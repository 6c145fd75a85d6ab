//! Holds what the contract answers, when it decides again, against what is recorded: transactions are written anew with these answers,
//! as they were when they were committed, and have to be the text that is there. So what is recorded of answers is never read.
//!
//! It finds every body that is not in canonical form too, and cannot tell the two apart: that is for a walk with
//! [`Care::EveryField`](crate::ledger::chain::Care::EveryField), where bodies are read before.

use crate::ledger::block::{Asked, NewTransaction, TRANSACTIONS};
use crate::ledger::chain::Same;
use leasehold_chaincode::Outcome;
use std::io::Write as _;

/// Adds a transaction with its outcome to a text, as it stands in a body.
pub(super) fn write(text: &mut Vec<u8>, asked: &Asked, outcome: &Outcome) -> serde_json::Result<()> {
    let transaction = NewTransaction {
        tx_id: &asked.tx_id,
        caller: &asked.caller,
        role: asked.role,
        timestamp_ms: asked.timestamp_ms,
        contract: asked.contract,
        command: &asked.command,
        events: &outcome.events,
        result: &outcome.result,
    };
    serde_json::to_writer(text, &transaction)
}

/// A body of transactions, as far as it was not written anew.
pub(super) struct Recorded<'t> {
    rest: Same<'t>,
    begun: bool,
}

impl<'t> Recorded<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            rest: Same::as_in(text),
            begun: false,
        }
    }

    /// Whether it goes on with this text of a transaction.
    pub(super) fn goes_on(&mut self, written: &[u8]) -> bool {
        let before = match std::mem::replace(&mut self.begun, true) {
            true => self.rest.write_all(b","),
            false => self
                .rest
                .write_all(TRANSACTIONS.as_bytes())
                .and_then(|()| self.rest.write_all(b"[")),
        };
        before.is_ok() && self.rest.write_all(written).is_ok()
    }

    /// Whether nothing comes after these.
    pub(super) fn ends(mut self) -> bool {
        self.rest.write_all(b"]}").is_ok() && self.rest.is_over()
    }
}
