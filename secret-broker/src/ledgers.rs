//! The ledger as the broker sees it: embedded, or a channel of Hyperledger Fabric, by configuration.
//!
//! Either way a submission takes effect once, a refusal has the same code, and a follower misses nothing. What differs is said where
//! it matters: [`Reading::is_settled`], [`BrokerLedger::is_current`], [`BrokerLedger::transaction_of`], [`BrokerLedger::end_margin_ms`].

mod questions;

use leasehold_chaincode::{ClusterName, Event, Msp, TxId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::fabric::{self, Channel, ChannelError, OwnPeer, Recorded};
use crate::ledger::{
    self, Bytes, Committed, Ledger, LedgerAddress, LedgerOptions, OpenError, ReadError, Snapshot, Submission,
    SubmitError,
};

/// Operations that are under way at once on a channel: each waits for a block there, and many fit into one.
const AT_ONCE_ON_A_CHANNEL: usize = 16;

/// A handle on the ledger. Clones share it.
#[derive(Clone)]
pub enum BrokerLedger {
    /// Blocks of this broker's own.
    Embedded(Ledger),
    /// A channel of Hyperledger Fabric.
    Fabric(Channel),
}

/// Why there is no ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The embedded one cannot be opened.
    #[error(transparent)]
    Embedded(#[from] OpenError),
    /// The channel cannot be used.
    #[error(transparent)]
    Fabric(#[from] ChannelError),
}

/// To whom several questions are put that belong together.
pub enum Reading {
    /// One state, held still.
    Embedded(Snapshot),
    /// The state of whichever own peer is asked, at the time of each question.
    Fabric(Channel),
    /// The state of one own peer, at the time of each question.
    OwnPeer(OwnPeer),
}

/// What committed transactions tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Their block.
    pub height: u64,
    /// In their order.
    pub events: Vec<Event>,
}

/// A reader of all changes after one height.
pub enum Follower {
    /// Of blocks.
    Embedded(ledger::Follower),
    /// Of a channel's events.
    Fabric(Box<fabric::Follower>),
}

impl BrokerLedger {
    /// Opens the ledger that the configuration names.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn open(config: &Config) -> Result<Self, LedgerError> {
        match &config.ledger {
            address @ (LedgerAddress::Sqlite(_) | LedgerAddress::Postgres(_)) => {
                let mut options = LedgerOptions::new(address, config.organisation.clone());
                options.key.clone_from(&config.ledger_key);
                options.adopt_unsigned = config.adopt_unsigned_ledger;
                options.trusted.clone_from(&config.trusted_ledger_keys);
                options.accept_lost_blocks = config.accept_lost_blocks;
                options.id = config.ledger_id;
                options.seen = Some(config.data_dir.join("ledger.seen"));
                Ok(Self::Embedded(Ledger::open(options).await?))
            }
            LedgerAddress::Fabric(profile) => {
                let channel = Channel::open(profile, &config.organisation).await?;
                Ok(Self::Fabric(channel))
            }
        }
    }

    /// Commits a command. What is submitted again under the same id takes effect once.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub async fn submit(&self, submission: Submission) -> Result<Committed, SubmitError> {
        match self {
            Self::Embedded(ledger) => ledger.submit(submission).await,
            Self::Fabric(channel) => channel.submit(&submission, None).await,
        }
    }

    /// Commits a command of which was written down, before it was first submitted, which transaction it is.
    ///
    /// # Errors
    /// [`SubmitError`]; only [`SubmitError::Refused`], [`SubmitError::Abandoned`] and [`SubmitError::Unknown`] end it.
    pub async fn submit_recorded(
        &self,
        submission: Submission,
        recorded: &Recorded,
    ) -> Result<Committed, SubmitError> {
        match self {
            Self::Embedded(ledger) => ledger.submit(submission).await,
            Self::Fabric(channel) => channel.submit(&submission, Some(recorded)).await,
        }
    }

    /// The transaction that a submission of this id will be: on the embedded ledger it has the same id. To be written down with the
    /// submission, since a channel makes it of the broker's certificate as well.
    ///
    /// # Errors
    /// [`SubmitError`] where there is none, which is a defect.
    pub fn transaction_of(&self, id: &TxId) -> Result<TxId, SubmitError> {
        match self {
            Self::Embedded(_) => Ok(id.clone()),
            Self::Fabric(channel) => channel.transaction_of(id),
        }
    }

    /// Whether a refusal says that no earlier try of the same submission was committed or will be. On a channel such a try may still be on
    /// its way to a block, longer than anybody waits for it.
    #[must_use]
    pub fn refuses_for_good(&self) -> bool {
        matches!(self, Self::Embedded(_))
    }

    /// How many recorded submissions are worth making at once. On the embedded ledger one after the other keeps their order.
    #[must_use]
    pub fn at_once(&self) -> usize {
        match self {
            Self::Embedded(_) => 1,
            Self::Fabric(_) => AT_ONCE_ON_A_CHANNEL,
        }
    }

    /// Begins to ask several questions that belong together.
    ///
    /// # Errors
    /// [`ReadError`] when the ledger cannot be read.
    pub async fn snapshot(&self) -> Result<Reading, ReadError> {
        Ok(match self {
            Self::Embedded(ledger) => Reading::Embedded(ledger.snapshot().await?),
            Self::Fabric(channel) => Reading::Fabric(channel.clone()),
        })
    }

    /// Begins to ask several questions that must be answered from one state, and yields that state's height: a follower goes on from
    /// there. On a channel they are answered by one own peer, and of one state where [`Reading::is_settled`] says so afterwards.
    ///
    /// # Errors
    /// [`ReadError`] when the ledger cannot be read.
    pub async fn one_state(&self) -> Result<(Reading, u64), ReadError> {
        Ok(match self {
            Self::Embedded(ledger) => {
                let snapshot = ledger.snapshot().await?;
                let height = snapshot.height();
                (Reading::Embedded(snapshot), height)
            }
            Self::Fabric(channel) => {
                let peer = channel.own_peer().await?;
                let block = peer.block();
                (Reading::OwnPeer(peer), block)
            }
        })
    }

    /// Every change after `height`, the past ones first, none left out.
    #[must_use]
    pub fn follow(&self, height: u64) -> Follower {
        match self {
            Self::Embedded(ledger) => Follower::Embedded(ledger.follow(height)),
            Self::Fabric(channel) => Follower::Fabric(Box::new(channel.follow(height))),
        }
    }

    /// Height of the last change, and a way to wait for the next. On a channel it is the last of which a follower was told.
    #[must_use]
    pub fn heights(&self) -> watch::Receiver<u64> {
        match self {
            Self::Embedded(ledger) => ledger.heights(),
            Self::Fabric(channel) => channel.heights(),
        }
    }

    /// Whether [`BrokerLedger::heights`] can miss nothing: always where the ledger is in this process, in a database while it can be
    /// reached, and on a channel while its peers answer. Where it is false, nothing is granted on the strength of what is remembered.
    #[must_use]
    pub fn is_current(&self) -> bool {
        match self {
            Self::Embedded(ledger) => ledger.is_current(),
            Self::Fabric(channel) => channel.is_current(),
        }
    }

    /// Whether the ledger answers now.
    ///
    /// # Errors
    /// [`ReadError`] with the reason why not.
    pub async fn ready(&self) -> Result<(), ReadError> {
        match self {
            Self::Embedded(ledger) => ledger.snapshot().await.map(drop),
            Self::Fabric(channel) => channel.ready().await,
        }
    }

    /// How long after its time a lease may be ended by anyone, milliseconds: as much as a transaction's time may be wrong.
    #[must_use]
    pub fn end_margin_ms(&self) -> i64 {
        match self {
            Self::Embedded(_) => leasehold_chaincode::Contract::EMBEDDED.end_margin_ms,
            Self::Fabric(channel) => channel.end_margin_ms(),
        }
    }

    /// Keeps fresh what the ledger is reached with, until shutdown.
    pub async fn keep_fresh(&self, shutdown: CancellationToken) {
        match self {
            Self::Embedded(_) => shutdown.cancelled().await,
            Self::Fabric(channel) => channel.keep_fresh(shutdown).await,
        }
    }

    /// Stops accepting and closes what is open.
    pub async fn close(&self) {
        match self {
            Self::Embedded(ledger) => ledger.close().await,
            Self::Fabric(channel) => channel.close(),
        }
    }
}

impl Reading {
    /// Whether the ledger is this broker's own to read, and nobody else's to answer for.
    #[must_use]
    pub const fn is_embedded(&self) -> bool {
        matches!(self, Self::Embedded(_))
    }

    /// The hash of a block; none where there is no such block, and on a channel.
    ///
    /// # Errors
    /// [`ReadError`] when the ledger cannot be read.
    pub async fn block_hash(&mut self, height: u64) -> Result<Option<Bytes<32>>, ReadError> {
        match self {
            Self::Embedded(snapshot) => snapshot.block_hash(height).await,
            Self::Fabric(_) | Self::OwnPeer(_) => Ok(None),
        }
    }

    /// Whether all answers so far are known to be of one state: always, but on a channel only those of one peer that took no block
    /// meanwhile.
    ///
    /// # Errors
    /// [`ReadError`] when the ledger cannot be read.
    pub async fn is_settled(&self) -> Result<bool, ReadError> {
        match self {
            Self::Embedded(_) => Ok(true),
            Self::Fabric(_) => Ok(false),
            Self::OwnPeer(peer) => peer.is_settled().await,
        }
    }
}

impl Follower {
    /// The next change; none once the ledger has closed. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ReadError`] when going on would miss something.
    pub async fn next(&mut self) -> Result<Option<Change>, ReadError> {
        Ok(match self {
            Self::Embedded(blocks) => blocks.next().await?.map(|block| Change {
                height: block.height,
                events: block
                    .transactions
                    .into_iter()
                    .flat_map(|transaction| transaction.events)
                    .collect(),
            }),
            Self::Fabric(follower) => {
                let next = follower.next().await?;
                next.map(|(height, events)| Change { height, events })
            }
        })
    }
}

/// Whether a lease is served by this cluster of this organisation. One from before there were clusters on the ledger names none and is
/// every cluster's of its organisation.
#[must_use]
pub fn is_served_by(lease: &leasehold_chaincode::Lease, organisation: &Msp, cluster: &ClusterName) -> bool {
    lease.cluster_msp == *organisation && lease.cluster.as_ref().is_none_or(|named| named == cluster)
}

/// Whether this broker ends a lease whose time is over: its organisation granted it or has it.
#[must_use]
pub fn concerns(lease: &leasehold_chaincode::Lease, organisation: &Msp) -> bool {
    lease.owner == *organisation || lease.cluster_msp == *organisation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_served_by_the_cluster_it_names_and_one_of_before_by_any_of_its_organisation() {
        let msp = |name: &str| Msp::new(name).unwrap();
        let cluster = |name: &str| ClusterName::new(name).unwrap();
        for (named, organisation, serves) in [
            (Some("east"), "UiOMSP", true),
            (Some("west"), "UiOMSP", false),
            (None, "UiOMSP", true),
            (Some("east"), "UiSMSP", false),
            (None, "UiSMSP", false),
        ] {
            let mut lease = crate::expiry::tests::lease();
            lease.cluster = named.map(cluster);
            assert_eq!(
                is_served_by(&lease, &msp(organisation), &cluster("east")),
                serves,
                "{named:?} {organisation}"
            );
        }
    }
}
