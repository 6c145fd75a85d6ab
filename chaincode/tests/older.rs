//! Histories as earlier versions of the contract decided them, recorded by those (`examples/recorded.rs`): this one decides them again
//! to the byte, reads what they left, and goes on.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/bench.rs"]
mod bench;

use leasehold_chaincode::{
    CONTRACT_VERSION, Command, Contract, Creator, DatasetRef, Failure, MemoryState, Metadata, Refusal,
    ResourceType, Role, StateReader, TxContext, Write, query,
};
use serde::Deserialize;
use std::collections::BTreeSet;

const RECORDED: [(u32, &str); 3] = [
    (2, include_str!("data/contract-2.jsonl")),
    (3, include_str!("data/contract-3.jsonl")),
    (4, include_str!("data/contract-4.jsonl")),
];

/// A transaction and what came of it, as it was written then.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    contract: u32,
    tx_id: String,
    timestamp_ms: i64,
    caller: String,
    role: Role,
    command: Command,
    events: String,
    result: String,
    writes: Vec<(String, Option<String>)>,
}

impl Recorded {
    fn all(text: &str) -> Vec<Self> {
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn context(&self) -> TxContext {
        TxContext {
            tx_id: self.tx_id.parse().unwrap(),
            timestamp_ms: self.timestamp_ms,
            caller: self.caller.parse().unwrap(),
            role: self.role,
        }
    }

    fn writes(&self) -> Vec<Write> {
        let writes = self.writes.iter().cloned().map(|(key, value)| match value {
            Some(value) => Write::Put {
                key,
                value: value.into_bytes(),
            },
            None => Write::Delete { key },
        });
        writes.collect()
    }
}

/// What the writes of an earlier version lead to.
fn left_by(text: &str) -> MemoryState {
    let mut state = MemoryState::default();
    for recorded in Recorded::all(text) {
        state.apply(&recorded.writes());
    }
    state
}

#[test]
fn what_an_earlier_version_decided_is_decided_again_to_the_byte() {
    for (version, text) in RECORDED {
        let (mut state, mut commands) = (MemoryState::default(), BTreeSet::new());
        for recorded in Recorded::all(text) {
            assert_eq!(recorded.contract, version);
            let context = recorded.context();
            let again = Contract::EMBEDDED.replay(version, &state, &context, &recorded.command);
            let again = again.unwrap_or_else(|failure| panic!("{version}, {}: {failure}", recorded.tx_id));
            assert_eq!(again.writes, recorded.writes(), "{version}, {}", recorded.tx_id);
            assert_eq!(serde_json::to_string(&again.events).unwrap(), recorded.events);
            assert_eq!(serde_json::to_string(&again.result).unwrap(), recorded.result);
            state.apply(&again.writes);
            commands.insert(recorded.command.name());
        }
        assert_eq!(commands.len(), 26, "every command is in it: {commands:?}");
        assert_eq!(state, left_by(text));
    }
    let newest = RECORDED.map(|(version, _)| version).into_iter().max();
    assert_eq!(
        newest,
        Some(CONTRACT_VERSION),
        "record a history with this version"
    );
}

#[test]
fn this_version_reads_what_an_earlier_one_left_and_goes_on() {
    for (version, text) in RECORDED {
        let mut bench = bench::Bench::empty(0);
        bench.state = left_by(text);
        bench.now_ms = 1_770_000_000_000;
        let reference: DatasetRef = "scans".parse().map(DatasetRef::Name).unwrap();
        let entry = query::dataset(&bench.state, &reference).unwrap().unwrap();
        assert_eq!(entry.dataset.metadata.title, "Scans", "{version}");
        let place = leasehold_chaincode::key::dataset(&entry.dataset.id);
        let schema = |state: &MemoryState| {
            let bytes = state.get(&place).unwrap().unwrap();
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            value["schema"].as_u64()
        };
        assert_eq!(schema(&bench.state), Some(if version < 4 { 1 } else { 2 }));
        let metadata = created();
        let amend = Command::AmendDataset {
            dataset: "scans".to_owned(),
            metadata: Some(metadata.clone()),
            policy: None,
        };
        bench.accepted("UiOMSP", &amend);
        assert_eq!(schema(&bench.state), Some(2));
        let entry = query::dataset(&bench.state, &reference).unwrap().unwrap();
        assert_eq!(entry.dataset.metadata, metadata);
        // Somebody has the scans alone.
        assert_eq!(query::holders(&bench.state, &entry.dataset.id).unwrap().len(), 1);
        bench.registered("UiOMSP", "more");
        bench.leased("UiOMSP", "more", &bench::bob(), 60);
    }
}

fn created() -> Metadata {
    Metadata {
        creators: vec![Creator {
            name: "Institute of Oceanography".to_owned(),
            identifier: Some("https://ror.org/04q12yn84".to_owned()),
            affiliation: None,
        }],
        resource_type: Some(ResourceType::Dataset),
        ..bench::metadata()
    }
}

#[test]
fn rules_before_version_4_take_no_creators() {
    let state = left_by(RECORDED[1].1);
    let context = TxContext {
        tx_id: "later".parse().unwrap(),
        timestamp_ms: 1_770_000_000_000,
        caller: "UiSMSP".parse().unwrap(),
        role: Role::Steward,
    };
    let mut command = bench::register("another");
    if let Command::RegisterDataset { metadata, .. } = &mut command {
        *metadata = created();
    }
    for (version, accepted) in [(2, false), (3, false), (4, true)] {
        let outcome = Contract::EMBEDDED.replay(version, &state, &context, &command);
        match outcome {
            Err(Failure::Refused(Refusal::InvalidField { field, .. })) => {
                assert!(!accepted && field == "metadata", "{version}: {field}");
            }
            other => assert!(accepted && other.is_ok(), "{version}: {other:?}"),
        }
    }
}
