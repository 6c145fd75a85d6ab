//! Holds what the contract answers, when it decides again, against what is recorded: a body is written anew with these answers, as it
//! was when it was committed, and has to be the text that is there. So what is recorded of answers is never read.
//!
//! It finds every body that is not in canonical form too, and cannot tell the two apart: that is for a walk with
//! [`Care::EveryField`](crate::ledger::chain::Care::EveryField), where bodies are read before.

use crate::ledger::block::{Asked, NewTransaction, TRANSACTIONS};
use crate::ledger::chain::Same;
use leasehold_chaincode::Outcome;
use std::io::Write as _;

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

    /// Whether it goes on with this transaction and its outcome.
    pub(super) fn goes_on(&mut self, asked: &Asked, outcome: &Outcome) -> bool {
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
        let before = match std::mem::replace(&mut self.begun, true) {
            true => self.rest.write_all(b","),
            false => self
                .rest
                .write_all(TRANSACTIONS.as_bytes())
                .and_then(|()| self.rest.write_all(b"[")),
        };
        before.is_ok() && serde_json::to_writer(&mut self.rest, &transaction).is_ok()
    }

    /// Whether nothing comes after these.
    pub(super) fn ends(mut self) -> bool {
        self.rest.write_all(b"]}").is_ok() && self.rest.is_over()
    }
}
