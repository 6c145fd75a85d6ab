//! The simulated ledger: state with versions, history, and blocks that are validated in their order.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use fabric_wire::protos;

use crate::endorsement::{Changed, Policies};
use crate::simulation::Effects;

/// Block and place in it of the transaction that last wrote a key.
pub(crate) type Version = (u64, usize);

/// Whose keys: a chaincode and, for private data, a collection; the empty one is the public state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Space {
    pub(crate) namespace: String,
    pub(crate) collection: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    pub(crate) version: Version,
    pub(crate) metadata: BTreeMap<String, Bytes>,
}

/// The state after some block. Cloned when a block is committed while a simulation still reads the former one.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    spaces: BTreeMap<Space, BTreeMap<String, Entry>>,
    history: BTreeMap<(String, String), Vec<protos::KeyModification>>,
}

impl World {
    pub(crate) fn get(&self, space: &Space, key: &str) -> Option<&Entry> {
        self.spaces.get(space)?.get(key)
    }

    /// From `start`, included, to `end`, excluded; an empty `end` is none.
    pub(crate) fn range<'w>(
        &'w self,
        space: &Space,
        start: &str,
        end: &'w str,
    ) -> impl Iterator<Item = (&'w String, &'w Entry)> + use<'w> {
        let rows = self.spaces.get(space).map(|keys| keys.range(start.to_owned()..));
        rows.into_iter()
            .flatten()
            .take_while(move |(key, _)| end.is_empty() || key.as_str() < end)
    }

    /// Newest first.
    pub(crate) fn history(&self, namespace: &str, key: &str) -> Vec<protos::KeyModification> {
        let rows = self.history.get(&(namespace.to_owned(), key.to_owned()));
        rows.map(|rows| rows.iter().rev().cloned().collect())
            .unwrap_or_default()
    }

    fn apply(&mut self, transaction: &Transaction, version: Version) {
        for ((space, key), write) in &transaction.effects.writes {
            let keys = self.spaces.entry(space.clone()).or_default();
            if let Some(value) = &write.value {
                if value.is_empty() {
                    keys.remove(key);
                } else {
                    let metadata = keys.remove(key).map(|entry| entry.metadata).unwrap_or_default();
                    keys.insert(
                        key.clone(),
                        Entry {
                            value: value.clone(),
                            version,
                            metadata,
                        },
                    );
                }
                if space.collection.is_empty() {
                    let row = protos::KeyModification {
                        tx_id: transaction.txid.clone(),
                        value: value.clone(),
                        timestamp: Some(transaction.timestamp),
                        is_delete: value.is_empty(),
                    };
                    self.history
                        .entry((space.namespace.clone(), key.clone()))
                        .or_default()
                        .push(row);
                }
            }
            // As in Fabric, metadata of a key that is not there goes nowhere.
            if let (Some(metadata), Some(entry)) = (&write.metadata, keys.get_mut(key)) {
                entry.metadata.clone_from(metadata);
                entry.version = version;
            }
        }
    }
}

/// What became of a transaction, by the numbers of Fabric's `TxValidationCode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ValidationCode {
    /// It counts.
    Valid = 0,
    /// Its id was there before.
    DuplicateTxid = 9,
    /// Those who endorsed it do not meet the policy of a key that it writes, or of its chaincode.
    EndorsementPolicyFailure = 10,
    /// A key that it read has changed since.
    MvccReadConflict = 11,
    /// A range that it read has changed since.
    PhantomReadConflict = 12,
}

/// An endorsed transaction.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Its id.
    pub txid: String,
    /// The client's time.
    pub timestamp: protos::Timestamp,
    /// Its event, with the chaincode's name and the id filled in.
    pub event: Option<protos::ChaincodeEvent>,
    pub(crate) chaincode: String,
    /// Members whose peers endorsed it.
    pub(crate) endorsers: Vec<String>,
    pub(crate) effects: Effects,
}

/// A block: its transactions and what became of them.
#[derive(Debug, Clone)]
pub struct Block {
    /// From 1; block 0 would be the channel's configuration.
    pub number: u64,
    /// In their order.
    pub transactions: Vec<(Transaction, ValidationCode)>,
}

/// Where a transaction is and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Number of the block.
    pub block: u64,
    /// Whether it counts.
    pub code: ValidationCode,
}

/// State and blocks of the one channel.
#[derive(Debug)]
pub(crate) struct Ledger {
    world: Arc<World>,
    blocks: Vec<Block>,
    seen: HashSet<String>,
    policies: Policies,
}

impl Ledger {
    /// Of a channel with so many members.
    pub(crate) fn of(members: usize) -> Self {
        Self {
            world: Arc::default(),
            blocks: Vec::new(),
            seen: HashSet::new(),
            policies: Policies::of(members),
        }
    }

    pub(crate) fn require(&mut self, chaincode: &str, members: usize) {
        self.policies.require(chaincode, members);
    }

    /// Whether peers of these members suffice, by the state as it is now.
    pub(crate) fn suffices(&self, transaction: &Transaction, endorsers: &[String]) -> bool {
        let Transaction {
            chaincode, effects, ..
        } = transaction;
        self.policies
            .are_met(&self.world, &Changed::new(), chaincode, effects, endorsers)
    }

    pub(crate) fn snapshot(&self) -> Arc<World> {
        Arc::clone(&self.world)
    }

    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Number of the newest block; 0 where there is none but the configuration.
    pub(crate) fn height(&self) -> u64 {
        u64::try_from(self.blocks.len()).unwrap_or(u64::MAX)
    }

    pub(crate) fn block(&self, number: u64) -> Option<&Block> {
        let place = usize::try_from(number.checked_sub(1)?).ok()?;
        self.blocks.get(place)
    }

    /// The first transaction of this id: a later one is a duplicate.
    pub(crate) fn find(&self, txid: &str) -> Option<Committed> {
        self.blocks.iter().find_map(|block| {
            let mut transactions = block.transactions.iter();
            let (_, code) = transactions.find(|(transaction, _)| transaction.txid == txid)?;
            Some(Committed {
                block: block.number,
                code: *code,
            })
        })
    }

    /// Appends a block of these transactions, in this order. Ids and endorsements are judged first, by the state before the block; then
    /// what was read, by the state that those before have left.
    pub(crate) fn commit(&mut self, transactions: Vec<Transaction>) -> Vec<Committed> {
        let number = self.height().saturating_add(1);
        let mut block = Block {
            number,
            transactions: Vec::with_capacity(transactions.len()),
        };
        let mut changed = Changed::new();
        let judged: Vec<_> = transactions
            .into_iter()
            .map(|transaction| (self.judge(&mut changed, &transaction), transaction))
            .collect();
        let world = Arc::make_mut(&mut self.world);
        for (place, (verdict, transaction)) in judged.into_iter().enumerate() {
            let code = verdict.unwrap_or_else(|| transaction.effects.validate(world));
            if code == ValidationCode::Valid {
                world.apply(&transaction, (number, place));
            }
            block.transactions.push((transaction, code));
        }
        let committed = block
            .transactions
            .iter()
            .map(|(_, code)| Committed {
                block: number,
                code: *code,
            })
            .collect();
        self.blocks.push(block);
        committed
    }

    /// Why it does not count, whatever it read.
    fn judge(&mut self, changed: &mut Changed, transaction: &Transaction) -> Option<ValidationCode> {
        let Transaction {
            txid,
            chaincode,
            endorsers,
            effects,
            ..
        } = transaction;
        if !self.seen.insert(txid.clone()) {
            return Some(ValidationCode::DuplicateTxid);
        }
        if !self
            .policies
            .are_met(&self.world, changed, chaincode, effects, endorsers)
        {
            return Some(ValidationCode::EndorsementPolicyFailure);
        }
        Policies::note(changed, effects);
        None
    }
}
