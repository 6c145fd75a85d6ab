//! A ledger in memory for the contract's tests: a state, a clock that stands still, and transaction ids that count.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "fetching.rs"]
mod fetching;

use leasehold_chaincode::{
    Action, Ciphertext, Command, Contract, DatasetId, EventKind, Failure, Finding, KeyAlgorithm, Lease,
    MemoryState, Metadata, Mode, Msp, Outcome, Policy, PublicKey, Refusal, Role, TxContext, TxId, query,
};

pub struct Bench {
    pub state: MemoryState,
    pub contract: Contract,
    pub now_ms: i64,
    pub role: Role,
    transactions: u64,
}

impl Bench {
    pub fn new() -> Self {
        Self::with_margin(0)
    }

    /// Four organisations have joined, each with one cluster.
    pub fn with_margin(end_margin_ms: i64) -> Self {
        let mut bench = Self::empty(end_margin_ms);
        bench.role = Role::Administrator;
        for msp in ["UiSMSP", "UiOMSP", "NTNUMSP", "AnyMSP"] {
            bench.accepted(msp, &join());
            bench.accepted(msp, &register_cluster("main"));
        }
        bench.role = Role::Steward;
        bench
    }

    /// Nobody has joined.
    pub fn empty(end_margin_ms: i64) -> Self {
        let contract = Contract { end_margin_ms };
        Self {
            state: MemoryState::default(),
            contract,
            now_ms: 1_760_000_000_000,
            role: Role::Steward,
            transactions: 0,
        }
    }

    /// As an administrator, for one command.
    pub fn administered(&mut self, msp: &str, command: &Command) -> Result<Outcome, Refusal> {
        let role = std::mem::replace(&mut self.role, Role::Administrator);
        let outcome = self.execute(msp, command);
        self.role = role;
        outcome
    }

    pub fn next_tx_id(&self) -> TxId {
        TxId::new(format!("tx-{}", self.transactions)).unwrap()
    }

    /// Runs a command under the next transaction id; a refused one leaves the state as it was.
    pub fn execute(&mut self, msp: &str, command: &Command) -> Result<Outcome, Refusal> {
        let tx_id = self.next_tx_id();
        self.transactions += 1;
        self.execute_as(&tx_id, msp, command)
    }

    /// Under this transaction id, or the next.
    pub fn execute_under(
        &mut self,
        tx_id: Option<&TxId>,
        msp: &str,
        command: &Command,
    ) -> Result<Outcome, Refusal> {
        match tx_id {
            Some(tx_id) => self.execute_as(tx_id, msp, command),
            None => self.execute(msp, command),
        }
    }

    pub fn context(&self, tx_id: &TxId, msp: &str) -> TxContext {
        TxContext {
            tx_id: tx_id.clone(),
            timestamp_ms: self.now_ms,
            caller: msp.parse().unwrap(),
            role: self.role,
        }
    }

    pub fn execute_as(&mut self, tx_id: &TxId, msp: &str, command: &Command) -> Result<Outcome, Refusal> {
        let context = self.context(tx_id, msp);
        let outcome = self.contract.execute(&self.state, &context, command);
        assert_eq!(
            fetching::execute(self.contract, &self.state, &context, command),
            outcome,
            "the same input gives the same output, also where the state is fetched"
        );
        match outcome {
            Ok(outcome) => {
                self.state.apply(&outcome.writes);
                Ok(outcome)
            }
            Err(Failure::Refused(refusal)) => Err(refusal),
            Err(Failure::State(error)) => panic!("{command:?} failed on its state: {error}"),
        }
    }

    pub fn accepted(&mut self, msp: &str, command: &Command) -> Outcome {
        self.execute(msp, command)
            .unwrap_or_else(|refusal| panic!("{command:?} was refused: {refusal}"))
    }

    pub fn refused(&mut self, msp: &str, command: &Command) -> Refusal {
        match self.execute(msp, command) {
            Ok(outcome) => panic!("{command:?} was accepted: {outcome:?}"),
            Err(refusal) => refusal,
        }
    }

    pub fn registered(&mut self, msp: &str, name: &str) -> DatasetId {
        dataset_of(&self.accepted(msp, &register(name)))
    }

    pub fn registered_with(&mut self, msp: &str, name: &str, policy: Policy) -> DatasetId {
        dataset_of(&self.accepted(msp, &register_with(name, policy)))
    }

    pub fn leased(&mut self, msp: &str, dataset: &str, subject: &str, ttl_seconds: u64) -> String {
        lease_of(&self.accepted(msp, &take(dataset, subject, ttl_seconds)))
    }

    pub fn asked(&mut self, msp: &str, dataset: &str, subject: &str, mode: Mode) -> String {
        lease_of(&self.accepted(msp, &wait_for(dataset, subject, mode)))
    }

    pub fn ended(&mut self, msp: &str, lease: &str, subject: &str) {
        let (lease, subject) = (lease.to_owned(), subject.to_owned());
        self.accepted(
            msp,
            &Command::Release {
                lease: lease.clone(),
                subject,
            },
        );
        self.accepted(msp, &Command::ConfirmEnd { lease });
    }

    pub fn lease(&self, id: &str) -> Lease {
        query::lease(&self.state, &id.parse().unwrap()).unwrap().unwrap()
    }
}

pub fn dataset_of(outcome: &Outcome) -> DatasetId {
    outcome.events.first().unwrap().dataset.clone().unwrap()
}

pub fn lease_of(outcome: &Outcome) -> String {
    outcome
        .events
        .first()
        .unwrap()
        .lease
        .as_ref()
        .unwrap()
        .id
        .to_string()
}

pub fn metadata() -> Metadata {
    Metadata {
        title: "Texts".to_owned(),
        description: "Three files of lorem ipsum".to_owned(),
        ..Metadata::default()
    }
}

pub fn register(name: &str) -> Command {
    register_with(name, Policy::exclusive(3_600))
}

pub fn register_with(name: &str, policy: Policy) -> Command {
    Command::RegisterDataset {
        name: name.to_owned(),
        metadata: metadata(),
        policy,
        volume_ciphertext: Ciphertext("bm90aGluZyB0byByZWFk".to_owned()),
        key_version: 1,
    }
}

pub fn join() -> Command {
    Command::JoinConsortium {
        broker: "https://broker.example.org:8443".to_owned(),
        keys: Vec::new(),
    }
}

pub fn register_cluster(name: &str) -> Command {
    Command::RegisterCluster {
        name: name.to_owned(),
        keys: Vec::new(),
    }
}

pub fn remove(dataset: &str) -> Command {
    Command::RemoveDataset {
        dataset: dataset.to_owned(),
        force: false,
    }
}

pub fn alice() -> String {
    "a1".repeat(32)
}

pub fn bob() -> String {
    "b0".repeat(32)
}

pub fn finding(code: &str) -> Finding {
    Finding {
        code: code.to_owned(),
        message: "the dataset's directory is not on its node".to_owned(),
    }
}

pub fn take(dataset: &str, subject: &str, ttl_seconds: u64) -> Command {
    Command::Lease {
        dataset: dataset.to_owned(),
        subject: subject.to_owned(),
        mode: None,
        ttl_seconds: Some(ttl_seconds),
        groups: Vec::new(),
        wait: false,
        cluster: None,
    }
}

pub fn wait_for(dataset: &str, subject: &str, mode: Mode) -> Command {
    Command::Lease {
        dataset: dataset.to_owned(),
        subject: subject.to_owned(),
        mode: Some(mode),
        ttl_seconds: Some(60),
        groups: Vec::new(),
        wait: true,
        cluster: None,
    }
}

pub fn release(lease: &str, subject: &str) -> Command {
    Command::Release {
        lease: lease.to_owned(),
        subject: subject.to_owned(),
    }
}

pub const P256: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";

pub fn a_key(id: &str, algorithm: KeyAlgorithm, spki: &str) -> PublicKey {
    PublicKey {
        id: id.to_owned(),
        algorithm,
        spki: spki.to_owned(),
    }
}

/// Accepted from an administrator.
pub fn administered(bench: &mut Bench, msp: &str, command: &Command) -> Outcome {
    bench
        .administered(msp, command)
        .unwrap_or_else(|refusal| panic!("{command:?} was refused: {refusal}"))
}

/// Why an administrator is refused.
pub fn refusal_code(bench: &mut Bench, msp: &str, command: &Command) -> &'static str {
    match bench.administered(msp, command) {
        Ok(outcome) => panic!("{command:?} was accepted: {outcome:?}"),
        Err(refusal) => refusal.code(),
    }
}

pub fn msp(text: &str) -> Msp {
    text.parse().unwrap()
}

pub fn record_trace(key: &str, subject: &str, action: Action) -> Command {
    Command::RecordTrace {
        key: key.to_owned(),
        subject: subject.to_owned(),
        action,
    }
}

pub fn shared(most_shared: u32, most_waiting: u32) -> Policy {
    Policy {
        most_shared,
        most_waiting,
        place_seconds: 600,
        ..Policy::exclusive(3_600)
    }
}

pub fn person(number: u8) -> String {
    format!("{number:02x}").repeat(32)
}

pub fn kinds(outcome: &Outcome) -> Vec<(String, EventKind)> {
    let of = |lease: Option<&Lease>| lease.map_or_else(String::new, |lease| lease.id.to_string());
    let events = outcome.events.iter();
    events
        .map(|event| (of(event.lease.as_deref()), event.kind.clone()))
        .collect()
}

pub fn revoke(lease: &str) -> Command {
    Command::Revoke {
        lease: lease.to_owned(),
        reason: "the study has ended".to_owned(),
    }
}

pub fn confirm(lease: &str) -> Command {
    Command::ConfirmEnd {
        lease: lease.to_owned(),
    }
}

pub fn renew(lease: &str, subject: &str, seconds: u64) -> Command {
    Command::Renew {
        lease: lease.to_owned(),
        subject: subject.to_owned(),
        ttl_seconds: Some(seconds),
    }
}
