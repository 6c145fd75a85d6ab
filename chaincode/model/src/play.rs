//! Plays a history on a state in memory, beside the model.

use crate::agree::{Told, agree, agree_on_organisations, nobody_shares_an_exclusive_lease};
use crate::attempt::{Attempt, MSPS, Play, Step};
use crate::command::{BROKERS, CLUSTERS, command};
use crate::fetching;
use crate::model::Model;
use crate::tally::Tally;
use leasehold_chaincode::{
    CONTRACT_VERSION, Command, Contract, Failure, MemoryState, Outcome, Refusal, Role, TxContext, TxId,
};
use std::collections::HashMap;

/// When a history begins, milliseconds since the Unix epoch.
const START_MS: i64 = 1_760_000_000_000;

/// On what kind of ledger a history is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ledger {
    /// The bare contract: times are what submitters' clocks say, and any transaction id may come again.
    None,
    /// One that lets no time go back and commits each id once: who submits it again is told what came of it, and another command is
    /// refused under it.
    Embedded,
}

/// A command and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// With the time that it had on the ledger.
    pub context: TxContext,
    /// What was asked.
    pub command: Command,
    /// What was answered.
    pub verdict: Verdict,
}

/// What a ledger answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is committed.
    Accepted(Outcome),
    /// Nothing was written.
    Refused(Refusal),
    /// As the turn of this index was, under the same id.
    Again(usize),
}

/// A history that was played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// By which rules.
    pub contract: Contract,
    /// In their order, with those that let three organisations join.
    pub turns: Vec<Turn>,
    /// What they led to.
    pub state: MemoryState,
}

struct Game {
    contract: Contract,
    ledger: Ledger,
    model: Model,
    state: MemoryState,
    turns: Vec<Turn>,
    /// Time of the last block.
    last_ms: i64,
    told: Told,
    /// Of each transaction that was accepted, its turn.
    by_id: HashMap<TxId, usize>,
}

/// Plays a history. The same one leads to the same bytes.
///
/// # Panics
/// Where the contract does otherwise than the model, two have what one has alone, a fencing token does not grow, or a transition is
/// missing in a history.
#[must_use]
pub fn play(play: &Play, ledger: Ledger, tally: &mut Tally) -> History {
    let contract = if play.with_margin {
        Contract::FABRIC
    } else {
        Contract::EMBEDDED
    };
    let mut game = Game {
        contract,
        ledger,
        model: Model {
            margin_ms: contract.end_margin_ms,
            right_ms: START_MS,
            ..Model::default()
        },
        state: MemoryState::default(),
        turns: Vec::new(),
        last_ms: START_MS,
        told: Told::default(),
        by_id: HashMap::new(),
    };
    game.begin();
    for step in &play.steps {
        game.step(step, &play.clocks_ms, tally);
        nobody_shares_an_exclusive_lease(&game.state, &game.model);
    }
    agree(&game.state, &game.model, &game.told);
    agree_on_organisations(&game.state, &game.model, &game.told);
    tally.count_history();
    History {
        contract,
        turns: game.turns,
        state: game.state,
    }
}

/// As a ledger does that verifies itself: only what was accepted, from nothing.
///
/// # Panics
/// Where the contract answers otherwise than before.
#[must_use]
pub fn replay(history: &History) -> MemoryState {
    let mut state = MemoryState::default();
    for turn in &history.turns {
        if let Verdict::Accepted(expected) = &turn.verdict {
            let again = history
                .contract
                .replay(CONTRACT_VERSION, &state, &turn.context, &turn.command);
            assert_eq!(again.as_ref(), Ok(expected));
            state.apply(&expected.writes);
        }
    }
    state
}

impl Game {
    /// Three of the organisations join, each with a cluster.
    fn begin(&mut self) {
        for (at, msp) in MSPS.iter().enumerate().take(3) {
            let join = Command::JoinConsortium {
                broker: BROKERS[1].to_owned(),
                keys: Vec::new(),
            };
            let cluster = Command::RegisterCluster {
                name: CLUSTERS[0].to_owned(),
                keys: Vec::new(),
            };
            let amend = Command::AmendOrganisation {
                broker: Some(BROKERS[0].to_owned()),
                keys: None,
            };
            for command in [join, cluster, amend] {
                let context = self.context(self.next_id(msp), msp, START_MS);
                let verdict = self.decide(context, command);
                assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
            }
            let organisation = &mut self.model.organisations[at];
            organisation.joined = true;
            organisation.clusters.insert(0, false);
            organisation.in_service.insert(0);
            organisation.transitions = 3;
        }
    }

    /// Whose it is can be seen from it.
    fn next_id(&self, msp: &str) -> TxId {
        TxId::new(format!("{msp}:{}", self.turns.len())).unwrap()
    }

    fn context(&self, tx_id: TxId, msp: &str, timestamp_ms: i64) -> TxContext {
        TxContext {
            tx_id,
            timestamp_ms,
            caller: msp.parse().unwrap(),
            role: Role::Administrator,
        }
    }

    fn step(&mut self, step: &Step, clocks_ms: &[i64; MSPS.len()], tally: &mut Tally) {
        self.model.right_ms += step.seconds * 1_000;
        let (mut msp, attempt) = step.tried(&self.model);
        let mut command = command(&self.model, &attempt);
        let again = match &attempt {
            Attempt::Lease(ask) => ask.again.and_then(|back| self.model.recent(back)),
            _ => None,
        };
        let again = again.map(|at| TxId::new(self.model.leases[at].tx_id.clone()).unwrap());
        let first = again.as_ref().map(|tx_id| self.by_id[tx_id]);
        if let Some(first) = first
            && self.ledger == Ledger::Embedded
        {
            // By whoever had it first, who may not have heard the answer.
            let first = &self.turns[first];
            msp = MSPS
                .iter()
                .position(|msp| *msp == first.context.caller.as_str())
                .unwrap();
            if step.by_right {
                command = first.command.clone();
            }
        }
        let clock_ms = self.model.right_ms + clocks_ms[msp];
        let now_ms = match self.ledger {
            Ledger::None => clock_ms,
            Ledger::Embedded => clock_ms.max(self.last_ms),
        };
        let tx_id = again.unwrap_or_else(|| self.next_id(MSPS[msp]));
        let context = self.context(tx_id.clone(), MSPS[msp], now_ms);
        if let Some(first) = first
            && self.ledger == Ledger::Embedded
        {
            let verdict = if self.turns[first].command == command {
                Verdict::Again(first)
            } else {
                let tx_id = tx_id.to_string();
                Verdict::Refused(Refusal::TransactionReused { tx_id })
            };
            tally.count(&command, matches!(verdict, Verdict::Again(_)));
            self.turns.push(Turn {
                context,
                command,
                verdict,
            });
            return;
        }
        let expected = self.model.step(msp, now_ms, &attempt);
        let before = self.state.clone();
        let verdict = self.decide(context, command.clone());
        tally.count(&command, matches!(verdict, Verdict::Accepted(_)));
        match &verdict {
            Verdict::Accepted(outcome) => {
                assert_eq!(expected, Ok(()), "accepted: {step:?}");
                self.name_new(outcome, &tx_id);
            }
            Verdict::Refused(refusal) => {
                assert_eq!(expected, Err(refusal.code()), "refused: {step:?}");
                assert_eq!(self.state, before, "a refused command writes nothing");
            }
            Verdict::Again(_) => {}
        }
    }

    /// The model's newest things have no ids yet.
    fn name_new(&mut self, outcome: &Outcome, tx_id: &TxId) {
        let first = outcome.events.first().unwrap();
        for dataset in self
            .model
            .datasets
            .iter_mut()
            .filter(|dataset| dataset.id.is_empty())
        {
            dataset.id = first.dataset.clone().unwrap().into();
        }
        for lease in self.model.leases.iter_mut().filter(|lease| lease.id.is_empty()) {
            lease.id = first.lease.as_ref().unwrap().id.to_string();
            lease.tx_id = tx_id.to_string();
        }
    }

    fn decide(&mut self, context: TxContext, command: Command) -> Verdict {
        let outcome = self.contract.execute(&self.state, &context, &command);
        assert_eq!(
            fetching::execute(self.contract, &self.state, &context, &command),
            outcome,
            "the same input gives the same output, also where the state is fetched"
        );
        let verdict = match outcome {
            Ok(outcome) => {
                self.state.apply(&outcome.writes);
                self.last_ms = context.timestamp_ms;
                self.told.hear(&context.tx_id, &outcome.events);
                self.by_id.insert(context.tx_id.clone(), self.turns.len());
                Verdict::Accepted(outcome)
            }
            Err(Failure::Refused(refusal)) => Verdict::Refused(refusal),
            Err(Failure::State(error)) => panic!("{command:?} failed on its state: {error}"),
        };
        self.turns.push(Turn {
            context,
            command,
            verdict: verdict.clone(),
        });
        verdict
    }
}
