//! Decides as a ledger does that has to fetch its state, and checks that it fetches little: what every test of the contract decides
//! is decided this way too.

use leasehold_chaincode::{
    Command, Contract, Failure, Loaded, MemoryState, Outcome, StateError, StateReader, TxContext,
};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// What is fetched, noting what is read.
struct Noting<'a>(&'a Loaded, RefCell<BTreeSet<String>>);

impl StateReader for Noting<'_> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        self.1.borrow_mut().insert(key.to_owned());
        self.0.get(key)
    }

    fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, StateError> {
        self.1.borrow_mut().extend(keys.iter().cloned());
        self.0.get_many(keys)
    }

    fn fetches(&self) -> bool {
        self.0.fetches()
    }

    fn will_read(&self, keys: &[String]) {
        self.0.will_read(keys);
    }

    fn range(&self, start: &str, end: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, StateError> {
        panic!("no command reads a range, {start} to {end}, {limit}")
    }
}

pub fn execute(
    contract: Contract,
    state: &MemoryState,
    context: &TxContext,
    command: &Command,
) -> Result<Outcome, Failure> {
    let mut loaded = Loaded::default();
    let mut fetched = BTreeSet::new();
    for fetches in 0.. {
        let reader = Noting(&loaded, RefCell::default());
        let outcome = contract.execute(&reader, context, command);
        let read = reader.1.into_inner();
        if outcome == Err(Failure::State(StateError::NotLoaded)) {
            assert!(loaded.lacks(), "{command:?} gave up on what it had");
            for key in loaded.wanted().keys {
                assert!(fetched.insert(key.clone()), "{key} is asked for twice");
                let value = state.get(&key)?;
                loaded.learn(key, value);
            }
            continue;
        }
        if outcome.is_ok() {
            let in_vain: Vec<_> = fetched.difference(&read).collect();
            assert!(in_vain.is_empty(), "{command:?} does not read {in_vain:?}");
            if let Command::Lease { .. } = command {
                assert!(fetches <= 2, "a lease took {fetches} fetches: {read:?}");
            }
        }
        return outcome;
    }
    unreachable!("it fetches what it lacks, and lacks less each time")
}
