//! What has to be on the ledger before any case: the bench's organisations have joined, each with one cluster.

use crate::bench::{Abilities, Bench, BenchError, Submission};
use leasehold_chaincode::{Command, EventKind, Msp, Question, Refusal, Role};
use serde_json::Value;

/// The cluster of every organisation.
pub(crate) const CLUSTER: &str = "main";

/// Puts it there. Again on a ledger that has it, it changes nothing.
pub(crate) async fn prepare(bench: &dyn Bench, abilities: &Abilities) -> Result<(), String> {
    for msp in &abilities.organisations {
        let found = bench.ask(&Question::Organisation { msp: msp.clone() }).await;
        if found.map_err(|error| error.to_string())? == Value::Null {
            join(bench, msp).await?;
        }
        let name = CLUSTER.to_owned();
        let keys = Vec::new();
        match submit(bench, msp, Command::RegisterCluster { name, keys }).await {
            Ok(_) | Err(BenchError::Refused(Refusal::Unchanged {})) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

async fn join(bench: &dyn Bench, msp: &Msp) -> Result<(), String> {
    match submit(bench, msp, Command::ResumeOrganisation {}).await {
        Err(BenchError::Refused(Refusal::OrganisationNotJoined { .. })) => {}
        other => return Err(format!("{msp} has not joined and is answered {other:?}")),
    }
    let broker = "https://broker.example.org:8443".to_owned();
    let keys = Vec::new();
    let joined = submit(bench, msp, Command::JoinConsortium { broker, keys }).await;
    let joined = joined.map_err(|error| error.to_string())?;
    let told = bench
        .events(&joined.tx_id)
        .await
        .map_err(|error| error.to_string())?;
    if told
        .iter()
        .any(|event| event.kind == EventKind::OrganisationJoined {})
    {
        Ok(())
    } else {
        Err(format!("followers were not told that {msp} has joined: {told:?}"))
    }
}

async fn submit(
    bench: &dyn Bench,
    msp: &Msp,
    command: Command,
) -> Result<crate::bench::Accepted, BenchError> {
    let submission = Submission {
        organisation: msp.clone(),
        role: Role::Administrator,
        at_ms: bench.now_ms(),
        tx_id: None,
        command,
    };
    bench.submit(submission).await
}
