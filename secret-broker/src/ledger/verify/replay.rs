//! Runs the contract again. The blocks' transactions are decided some at a time and by two threads, ahead of their turn; in their turn
//! they are held against what is recorded and change the state, those whose state has changed meanwhile decided once more.

use super::ahead::{Ahead, Helper, Shared, Verdict, read};
use super::answers::Recorded;
use super::replayed::Replayed;
use super::walk::{Bodies, transactions};
use crate::ledger::block::{Asked, BodyOf};
use crate::ledger::chain::corrupt;
use crate::ledger::verify::Corruption;
use hashbrown::{HashMap, HashSet};
use leasehold_chaincode::Contract;
use std::sync::{Arc, PoisonError, RwLockReadGuard};

/// Transactions that are decided ahead: few enough that what comes of them is at hand when it is their turn, so many that two threads
/// seldom wait for each other. Where there are fewer than the least, one thread decides them.
const MOST: usize = 256;
const LEAST: usize = if cfg!(test) { 2 } else { 16 };
/// So many are decided in their turn where more than a quarter of those before had to be decided twice.
const IN_TURN: usize = if cfg!(test) { 4 } else { 2_048 };

/// Where each transaction is: in which block, and where in that.
pub(super) type Places = HashMap<String, (u64, usize)>;

/// The contract, run again.
#[derive(Default)]
pub(super) struct Replay {
    contract: Option<Contract>,
    state: Shared,
    pub(super) places: Places,
    ahead: Foreseen,
}

/// What was decided ahead.
#[derive(Default)]
struct Foreseen {
    first: Ahead,
    /// Those after the first, which the other thread decided.
    second: Ahead,
    /// One that had to be decided again.
    again: Ahead,
    /// How many had their turn, and how many of them twice.
    taken: usize,
    twice: usize,
    /// Keys that changed since, by what they are found by.
    changed: HashSet<u64>,
    /// So many more are decided in their turn.
    in_turn: usize,
}

impl Replay {
    /// The state as it is now.
    pub(super) fn state(&self) -> RwLockReadGuard<'_, Replayed> {
        read(&self.state)
    }

    /// The state, to be read by another thread.
    pub(super) fn shared(&self) -> Shared {
        Arc::clone(&self.state)
    }

    /// What all of it led to; nothing while another thread reads the state.
    pub(super) fn into_parts(self) -> Option<(Replayed, Places)> {
        let state = Arc::into_inner(self.state)?;
        Some((
            state.into_inner().unwrap_or_else(PoisonError::into_inner),
            self.places,
        ))
    }

    /// Decides what was asked in some blocks' bodies, and holds the answers against their texts.
    pub(super) fn take(&mut self, bodies: &Bodies, helper: &Helper) -> Result<(), Corruption> {
        let all = transactions(bodies).count();
        let mut at = 0_usize;
        for block in bodies.iter() {
            match &block.body {
                BodyOf::Genesis(genesis) => {
                    self.contract = Some(Contract {
                        end_margin_ms: genesis.end_margin_ms,
                    });
                }
                BodyOf::Key(_) => {}
                BodyOf::Transactions(transactions) => {
                    let mut recorded = Recorded::new(&block.text);
                    for (position, transaction) in transactions.iter().enumerate() {
                        let place = (block.height, position);
                        let contract = self
                            .contract
                            .ok_or_else(|| wrong(place, transaction, "there was no genesis"))?;
                        if self.ahead.is_taken() {
                            let rest = all.saturating_sub(at);
                            self.ahead
                                .look((contract, &self.state), bodies, (at, rest), helper);
                        }
                        self.turn(contract, place, transaction, &mut recorded)?;
                        at = at.saturating_add(1);
                    }
                    if !recorded.ends() {
                        return Err(corrupt(block.height, "body", "it goes on after its transactions"));
                    }
                }
            }
        }
        Ok(())
    }

    fn turn(
        &mut self,
        contract: Contract,
        place: (u64, usize),
        transaction: &Asked,
        recorded: &mut Recorded<'_>,
    ) -> Result<(), Corruption> {
        let Foreseen {
            first,
            second,
            again,
            taken,
            twice,
            changed,
            ..
        } = &mut self.ahead;
        let ahead = first.verdict(*taken).or_else(|| {
            let after = taken.checked_sub(first.len())?;
            second.verdict(after)
        });
        *taken = taken.saturating_add(1);
        let stands = |verdict: &Verdict<'_>| !verdict.reads.iter().any(|read| changed.contains(read));
        let verdict = match ahead.filter(stands) {
            Some(verdict) => verdict,
            None => {
                *twice = twice.saturating_add(1);
                again.clear();
                again.decide(contract, &read(&self.state), transaction);
                let verdict = again.verdict(0);
                verdict.ok_or_else(|| wrong(place, transaction, "it was not decided"))?
            }
        };
        if let Some(failure) = verdict.failure {
            let reason = format!("the contract does not accept it: {failure}");
            return Err(wrong(place, transaction, &reason));
        }
        if !recorded.goes_on(verdict.answer) {
            let reason = "the contract answers otherwise than is recorded";
            return Err(wrong(place, transaction, reason));
        }
        let tx_id = transaction.tx_id.as_str().to_owned();
        if self.places.insert(tx_id, place).is_some() {
            return Err(wrong(place, transaction, "it is on the ledger twice"));
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        verdict.apply(&mut state, |key| {
            changed.insert(key);
        });
        Ok(())
    }
}

impl Foreseen {
    /// Whether all of them had their turn.
    fn is_taken(&self) -> bool {
        self.taken >= self.first.len().saturating_add(self.second.len())
    }

    /// Decides the next ones, of so many in some bodies from one on.
    fn look(
        &mut self,
        (contract, state): (Contract, &Shared),
        bodies: &Bodies,
        (from, rest): (usize, usize),
        helper: &Helper,
    ) {
        if self.twice > self.taken / 4 && self.taken > 1 {
            self.in_turn = IN_TURN;
        }
        (self.taken, self.twice) = (0, 0);
        self.changed.clear();
        self.first.clear();
        self.second.clear();
        let count = rest.min(MOST);
        let in_turn = self.in_turn > 0 || count < LEAST;
        let (own, others) = match in_turn {
            true => (1, 0),
            false => (count / 2, count.saturating_sub(count / 2)),
        };
        self.in_turn = self.in_turn.saturating_sub(own);
        if others > 0 {
            let place = (from.saturating_add(own), others);
            let buffers = std::mem::take(&mut self.second);
            helper.begin((contract, state), bodies, place, buffers);
        }
        {
            let state = read(state);
            for asked in transactions(bodies).skip(from).take(own) {
                self.first.decide(contract, &state, asked);
            }
        }
        if others > 0 {
            self.second = helper.end();
        }
    }
}

fn wrong((height, _): (u64, usize), transaction: &Asked, reason: &str) -> Corruption {
    corrupt(
        height,
        "body",
        format!("transaction {}: {reason}", transaction.tx_id),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::block::{Genesis, NewBody, NewTransaction};
    use crate::ledger::verify::walk::Checked;
    use leasehold_chaincode::{
        CONTRACT_VERSION, Ciphertext, Command, MemoryState, Metadata, Mode, Msp, Policy, Role, TxContext,
        TxId,
    };
    use std::collections::BTreeMap;

    fn register(name: &str) -> Command {
        let mut policy = Policy::exclusive(3_600);
        policy.most_shared = 64;
        Command::RegisterDataset {
            name: name.to_owned(),
            metadata: Metadata {
                title: "Texts".to_owned(),
                ..Metadata::default()
            },
            policy,
            volume_ciphertext: Ciphertext("AAAA".to_owned()),
            key_version: 1,
        }
    }

    fn lease(dataset: &str, person: usize) -> Command {
        Command::Lease {
            dataset: dataset.to_owned(),
            subject: format!("{person:064x}"),
            mode: Some(Mode::Shared),
            ttl_seconds: None,
            groups: Vec::new(),
            wait: false,
            cluster: None,
        }
    }

    /// Every other lease is on the same dataset, so that it is decided by what those before it left.
    fn commands() -> Vec<Command> {
        let join = Command::JoinConsortium {
            broker: "https://broker.example.org".to_owned(),
            keys: Vec::new(),
        };
        let cluster = Command::RegisterCluster {
            name: "main".to_owned(),
            keys: Vec::new(),
        };
        let mut commands = vec![join, cluster, register("all")];
        for number in 0..40 {
            let own = format!("d{number}");
            commands.extend([register(&own), lease("all", number), lease(&own, number)]);
        }
        commands
    }

    /// A block of some commands, which have changed a state one by one.
    fn block(height: u64, commands: &[Command], state: &mut MemoryState) -> Checked {
        let caller = Msp::new("UiSMSP").unwrap();
        let decided: Vec<_> = (0..)
            .zip(commands)
            .map(|(at, command)| {
                let context = TxContext {
                    tx_id: TxId::new(format!("tx-{height}-{at}")).unwrap(),
                    timestamp_ms: 1_000,
                    caller: caller.clone(),
                    role: Role::Administrator,
                };
                let outcome = Contract::EMBEDDED.execute(&*state, &context, command).unwrap();
                state.apply(&outcome.writes);
                (context.tx_id, command, outcome)
            })
            .collect();
        let transactions: Vec<_> = decided
            .iter()
            .map(|(tx_id, command, outcome)| NewTransaction {
                tx_id,
                caller: &caller,
                role: Role::Administrator,
                timestamp_ms: 1_000,
                contract: CONTRACT_VERSION,
                command,
                events: &outcome.events,
                result: &outcome.result,
            })
            .collect();
        let text = serde_json::to_string(&NewBody::Transactions(&transactions)).unwrap();
        let body = serde_json::from_str(&text).unwrap();
        Checked { height, text, body }
    }

    fn genesis() -> Bodies {
        let genesis = Genesis {
            schema: 2,
            organisation: Msp::new("UiSMSP").unwrap(),
            end_margin_ms: 0,
            created_at_ms: 0,
            key_id: None,
        };
        Arc::new(vec![Checked {
            height: 0,
            text: String::new(),
            body: BodyOf::Genesis(genesis),
        }])
    }

    /// Of blocks of so many transactions.
    fn replayed(each: usize, change: impl Fn(&mut Checked)) -> (Result<Replay, Corruption>, MemoryState) {
        let mut state = MemoryState::default();
        let mut blocks: Vec<_> = (1..)
            .zip(commands().chunks(each))
            .map(|(height, commands)| block(height, commands, &mut state))
            .collect();
        blocks.iter_mut().for_each(change);
        let (helper, work) = Helper::new();
        let worker = std::thread::spawn(work);
        let mut replay = Replay::default();
        let taken = replay
            .take(&genesis(), &helper)
            .and_then(|()| replay.take(&Arc::new(blocks), &helper));
        drop(helper);
        worker.join().unwrap();
        (taken.map(|()| replay), state)
    }

    #[test]
    fn what_is_decided_ahead_leads_to_what_it_leads_to_one_by_one() {
        for each in [1, 3, 200] {
            let (replay, expected) = replayed(each, |_| {});
            let replay = replay.unwrap();
            assert_eq!(replay.places.len(), commands().len());
            let (state, _) = replay.into_parts().unwrap();
            let found: BTreeMap<_, _> = state.iter().collect();
            let expected: BTreeMap<_, _> = expected
                .iter()
                .map(|(key, value)| (key.as_bytes(), value))
                .collect();
            assert_eq!(found, expected, "in blocks of {each}");
        }
    }

    #[test]
    fn the_first_transaction_that_is_answered_otherwise_is_named() {
        let (replay, _) = replayed(10, |block| {
            if block.height >= 5 {
                block.text = block.text.replace("\"lease_granted\"", "\"lease_waiting\"");
            }
        });
        let found = replay.err().unwrap();
        assert_eq!((found.block, found.field), (5, "body"));
        assert!(found.reason.contains("transaction tx-5-"), "{}", found.reason);
        assert!(found.reason.contains("answers otherwise"), "{}", found.reason);
    }
}
