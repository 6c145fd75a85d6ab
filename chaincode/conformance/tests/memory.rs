//! The suite on the contract in memory, as an embedded ledger and as Fabric set it up.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use async_trait::async_trait;
use leasehold_chaincode::{
    Contract, Event, Failure, MemoryState, Msp, Question, Role, TxContext, TxId, Write,
};
use leasehold_conformance::{Abilities, Accepted, Bench, BenchError, Submission, run};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Mutex;

struct Memory {
    contract: Contract,
    defect: Option<Defect>,
    ledger: Mutex<Ledger>,
}

/// What a ledger could do wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Defect {
    ForgetsDeletions,
    MissesEvents,
    EverybodyIsAdministrator,
    EverybodyIsTheFirst,
    ClockStands,
    WritesWhatItRefuses,
}

#[derive(Default)]
struct Ledger {
    state: MemoryState,
    events: HashMap<TxId, Vec<Event>>,
    transactions: usize,
}

impl Memory {
    fn new(contract: Contract) -> Self {
        Self {
            contract,
            defect: None,
            ledger: Mutex::default(),
        }
    }
}

#[async_trait]
impl Bench for Memory {
    fn abilities(&self) -> Abilities {
        Abilities {
            name: "the contract in memory",
            tag: String::new(),
            organisations: ["UiSMSP", "UiOMSP", "NTNUMSP"]
                .map(|msp| Msp::new(msp).unwrap())
                .to_vec(),
            roles: vec![Role::Member, Role::Steward, Role::Administrator],
            span_ms: Some(i64::MAX),
            end_margin_ms: self.contract.end_margin_ms,
            chooses_ids: true,
            at_once: 1,
        }
    }

    fn now_ms(&self) -> i64 {
        1_760_000_000_000
    }

    async fn submit(&self, submission: Submission) -> Result<Accepted, BenchError> {
        let ledger = &mut *self.ledger.lock().unwrap();
        ledger.transactions += 1;
        let tx_id = submission
            .tx_id
            .unwrap_or_else(|| TxId::new(format!("tx-{}", ledger.transactions)).unwrap());
        let mut context = TxContext {
            tx_id: tx_id.clone(),
            timestamp_ms: submission.at_ms,
            caller: submission.organisation,
            role: submission.role,
        };
        match self.defect {
            Some(Defect::EverybodyIsAdministrator) => context.role = Role::Administrator,
            Some(Defect::EverybodyIsTheFirst) => context.caller = Msp::new("UiSMSP").unwrap(),
            Some(Defect::ClockStands) => context.timestamp_ms = self.now_ms(),
            _ => {}
        }
        let outcome = match self
            .contract
            .execute(&ledger.state, &context, &submission.command)
        {
            Ok(outcome) => outcome,
            Err(Failure::Refused(refusal)) if self.defect == Some(Defect::WritesWhatItRefuses) => {
                let value = br#"{"schema":1,"record":null}"#.to_vec();
                let key = format!("dataset-name/{}", refusal.code().replace('_', "-"));
                ledger.state.apply(&[Write::Put { key, value }]);
                return Err(BenchError::Refused(refusal));
            }
            Err(Failure::Refused(refusal)) => return Err(BenchError::Refused(refusal)),
            Err(Failure::State(error)) => return Err(BenchError::Broken(error.to_string())),
        };
        let mut writes = outcome.writes;
        if self.defect == Some(Defect::ForgetsDeletions) {
            writes.retain(|write| matches!(write, Write::Put { .. }));
        }
        ledger.state.apply(&writes);
        if self.defect != Some(Defect::MissesEvents) {
            ledger.events.insert(tx_id.clone(), outcome.events);
        }
        Ok(Accepted {
            tx_id,
            result: outcome.result,
        })
    }

    async fn events(&self, tx_id: &TxId) -> Result<Vec<Event>, BenchError> {
        let ledger = self.ledger.lock().unwrap();
        Ok(ledger.events.get(tx_id).cloned().unwrap_or_default())
    }

    async fn ask(&self, question: &Question) -> Result<Value, BenchError> {
        let answer = question
            .answer(&self.ledger.lock().unwrap().state)
            .map_err(|error| BenchError::Broken(error.to_string()))?;
        Ok(serde_json::to_value(answer).unwrap())
    }
}

#[tokio::test]
async fn every_promise_holds_in_memory_with_and_without_a_margin() {
    for contract in [Contract::EMBEDDED, Contract::FABRIC] {
        let report = run(&Memory::new(contract)).await;
        println!("{report}");
        assert!(report.failed.is_empty() && report.skipped.is_empty(), "{report}");
        assert!(report.passed.len() >= 120, "{report}");
    }
}

#[tokio::test]
async fn a_ledger_with_a_defect_does_not_pass() {
    for defect in [
        Defect::ForgetsDeletions,
        Defect::MissesEvents,
        Defect::EverybodyIsAdministrator,
        Defect::EverybodyIsTheFirst,
        Defect::ClockStands,
        Defect::WritesWhatItRefuses,
    ] {
        let mut memory = Memory::new(Contract::EMBEDDED);
        memory.defect = Some(defect);
        let report = run(&memory).await;
        assert!(!report.failed.is_empty(), "{defect:?}");
        // Where not even the organisations can join, no case is run.
        let ran = report.failed.iter().all(|(id, ..)| *id != "prelude");
        let all = leasehold_conformance::cases().len();
        assert!(!ran || report.cases() == all, "{defect:?}: {report}");
    }
}
