//! The terms of a dataset as people write and read them. Those that this broker's cluster does not enforce yet (groups, approval of code,
//! where outputs go) are not offered; where the ledger has them, from before or by another client, they stay as they are.

use leasehold_broker_wire::rest;
use leasehold_chaincode::{Admission, Mode, Msp, Policy, limit};

use super::problem::ApiProblem;

/// Stands for all organisations.
const ALL: &str = "*";

/// How many may wait where nothing is said of it: while somebody does, nobody renews, so that nobody keeps a dataset for ever.
const USUAL_LINE: u32 = 10;

/// The terms of a new dataset: exclusive leases for everybody, unless something else is said.
///
/// # Errors
/// A problem that names the field.
pub fn new(said: rest::Policy, max_ttl_seconds: Option<u64>) -> Result<Policy, ApiProblem> {
    let usual = Policy {
        exclusive: said.most_shared.unwrap_or(0) == 0,
        most_waiting: USUAL_LINE,
        ..Policy::exclusive(limit::MAX_TTL_SECONDS)
    };
    changed(usual, said, max_ttl_seconds)
}

/// A policy with what a request says, and the rest as it was.
///
/// # Errors
/// A problem that names the field.
pub fn changed(
    before: Policy,
    said: rest::Policy,
    max_ttl_seconds: Option<u64>,
) -> Result<Policy, ApiProblem> {
    let rest::Policy {
        organisations,
        exclusive,
        most_shared,
        approve_leases,
        most_waiting,
        place_seconds,
    } = said;
    Ok(Policy {
        organisations: organisations.map_or(Ok(before.organisations), admission)?,
        exclusive: exclusive.unwrap_or(before.exclusive),
        most_shared: most_shared.unwrap_or(before.most_shared),
        max_ttl_seconds: max_ttl_seconds.unwrap_or(before.max_ttl_seconds),
        approve_leases: approve_leases.unwrap_or(before.approve_leases),
        most_waiting: most_waiting.unwrap_or(before.most_waiting),
        place_seconds: place_seconds.unwrap_or(before.place_seconds),
        groups: before.groups,
        approve_code: before.approve_code,
        outputs: before.outputs,
    })
}

fn admission(organisations: Vec<String>) -> Result<Admission, ApiProblem> {
    if organisations.iter().any(|name| name == ALL) {
        return match organisations.len() {
            1 => Ok(Admission::Any),
            _ => Err(ApiProblem::field(
                "policy.organisations",
                format!("expected \"{ALL}\" alone, for all, or the ids of some organisations"),
            )),
        };
    }
    let named = organisations.into_iter().map(|name| {
        Msp::new(name).map_err(|error| {
            ApiProblem::field("policy.organisations", format!("expected {}", error.expected))
        })
    });
    Ok(Admission::Only(named.collect::<Result<_, _>>()?))
}

/// A policy as the catalogue shows it.
#[must_use]
pub fn shown(policy: Policy) -> rest::Policy {
    let organisations = match policy.organisations {
        Admission::Any => vec![ALL.to_owned()],
        Admission::Only(organisations) => organisations.into_iter().map(String::from).collect(),
    };
    rest::Policy {
        organisations: Some(organisations),
        exclusive: Some(policy.exclusive),
        most_shared: Some(policy.most_shared),
        approve_leases: Some(policy.approve_leases),
        most_waiting: Some(policy.most_waiting),
        place_seconds: Some(policy.place_seconds),
    }
}

/// A mode in the words of the API.
#[must_use]
pub fn shown_mode(mode: Mode) -> rest::Mode {
    match mode {
        Mode::Exclusive => rest::Mode::Exclusive,
        Mode::Shared => rest::Mode::Shared,
    }
}

/// A mode in the words of the ledger.
#[must_use]
pub fn mode(mode: rest::Mode) -> Mode {
    match mode {
        rest::Mode::Exclusive => Mode::Exclusive,
        rest::Mode::Shared => Mode::Shared,
    }
}
