//! The tables, one file for each part of the contract.

mod approval;
mod bounds;
mod code;
mod dataset;
mod end;
mod handover;
mod history;
mod lease;
mod line;
mod list;
mod mount;
mod organisation;
mod renewal;
mod role;
mod terms;
mod trace;

use crate::case::{A, Case};
use crate::command::{register, register_with};
use serde_json::Value;

/// Every case, in the order of its table.
#[must_use]
pub fn cases() -> Vec<Case> {
    [
        dataset::cases(),
        handover::cases(),
        bounds::cases(),
        lease::cases(),
        terms::cases(),
        line::cases(),
        approval::cases(),
        renewal::cases(),
        end::cases(),
        mount::cases(),
        code::cases(),
        role::cases(),
        history::cases(),
        list::cases(),
        organisation::cases(),
        trace::cases(),
    ]
    .concat()
}

/// A case that begins with a dataset of the first organisation's, leased to one at a time.
fn with_texts(id: &'static str, promise: &'static str) -> Case {
    Case::new(id, promise).then(A.does(register("texts")))
}

/// The same on other terms.
fn on_terms(id: &'static str, promise: &'static str, policy: Value) -> Case {
    Case::new(id, promise).then(A.does(register_with("texts", policy)))
}
