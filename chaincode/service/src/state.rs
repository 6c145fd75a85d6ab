//! Fetches from the peer what the contract, or a question, found missing, and sends the peer what was decided.

use crate::answer::Problem;
use crate::endorsement;
use fabric_shim::{Bytes, CallError, Stub, VALIDATION_PARAMETER};
use leasehold_chaincode::{Endorsement, Loaded, StateError, Write, key};

/// Runs a function of the state again and again until nothing is missing. It has no effects.
pub(crate) async fn with_state<T, E>(
    stub: &Stub,
    function: impl Fn(&Loaded) -> Result<T, E>,
    missing: impl Fn(&E) -> bool,
) -> Result<Result<T, E>, CallError> {
    let mut loaded = Loaded::default();
    loop {
        match function(&loaded) {
            Err(error) if missing(&error) && loaded.lacks() => fetch(stub, &mut loaded).await?,
            outcome => return Ok(outcome),
        }
    }
}

/// Answers a question from the state.
pub(crate) async fn answered<T>(
    stub: &Stub,
    question: impl Fn(&Loaded) -> Result<T, StateError>,
) -> Result<T, Problem> {
    let answer = with_state(stub, question, |error| *error == StateError::NotLoaded).await?;
    Ok(answer?)
}

async fn fetch(stub: &Stub, loaded: &mut Loaded) -> Result<(), CallError> {
    let wanted = loaded.wanted();
    let keys: Vec<_> = wanted.keys.iter().map(String::as_str).collect();
    let values = stub.get_states(&keys).await?;
    for (key, value) in wanted.keys.into_iter().zip(values) {
        loaded.learn(key, value.map(Vec::from));
    }
    for range in wanted.ranges {
        let mut pairs = Vec::new();
        // An empty range is no request to the peer: an empty bound would be none at all.
        if range.start < range.end {
            let mut rows = stub.range(&range.start, &range.end).await?;
            while pairs.len() < range.limit
                && let Some(row) = rows.next().await?
            {
                pairs.push((row.key, row.value.into()));
            }
            rows.close().await?;
        }
        loaded.learn_range(range, pairs);
    }
    Ok(())
}

/// Sends the writes and the policies of their keys, together where the peer takes that.
pub(crate) async fn write(
    stub: &Stub,
    writes: Vec<Write>,
    endorsement: Option<&Endorsement>,
) -> Result<(), CallError> {
    let mut newly_endorsed = Vec::new();
    if let Some(policy) = endorsement.map(endorsement::policy) {
        for key in writes.iter().filter_map(endorsed_key) {
            // A policy that is written again counts as changed: whatever else of the block touches the key fails its endorsement then,
            // instead of its reads, and nobody can tell that from a forgery.
            let metadata = stub.get_state_metadata(key).await?;
            if metadata.get(VALIDATION_PARAMETER).unwrap_or(&Bytes::new()) != &policy {
                newly_endorsed.push((key.to_owned(), policy.clone()));
            }
        }
    }
    let mut writer = stub.writer();
    for write in writes {
        match write {
            Write::Put { key, value } => writer.put(&key, value)?,
            Write::Delete { key } => writer.delete(&key)?,
        };
    }
    for (key, policy) in newly_endorsed {
        writer.put_metadata(&key, VALIDATION_PARAMETER, policy)?;
    }
    writer.flush().await
}

fn endorsed_key(write: &Write) -> Option<&str> {
    match write {
        Write::Put { key, .. } if key::is_endorsed(key) => Some(key),
        Write::Put { .. } | Write::Delete { .. } => None,
    }
}
