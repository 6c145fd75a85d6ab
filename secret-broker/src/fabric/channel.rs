//! The channel: how it is opened, asked, and known to be in touch with its peers.
//!
//! Every question names this organisation, so that a gateway, also another organisation's, lets none but this organisation's peers
//! answer it. Answers are not signed: that a gateway does so, and hands on what it heard, is trusted of every peer in the profile.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fabric_gateway_client::{Call, Gateway, IdentityError, ProposalError};
use leasehold_chaincode::{CONTRACT_VERSION, Msp, Question};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::Described;
use super::identity::{Identities, Identity};
use super::profile::Profile;
use crate::ledger::ReadError;

/// Questions at once; a peer's gateway takes 500 of all its clients.
const QUESTIONS: usize = 64;
/// How long a look at a peer vouches for what followers were told.
pub(super) const VOUCHED: Duration = Duration::from_millis(1_500);

/// Why a channel cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The profile is not one.
    #[error("{}", .0.join("; "))]
    Profile(Vec<String>),
    /// The identity's files are not usable.
    #[error(
        "the broker's identity on the channel cannot be used: {0}; check `certificate` and `key` of the profile {1}"
    )]
    Identity(IdentityError, PathBuf),
    /// A peer's address, roots or name are not usable.
    #[error("the peers cannot be used as configured: {0}; check `peers` of the profile {1}")]
    Peers(String, PathBuf),
    /// Nobody answers.
    #[error(
        "the contract {chaincode} on channel {channel} does not answer: {reason}; check that a peer of the profile is up, that one of this organisation's has joined the channel, and that the chaincode is committed and runs there"
    )]
    Unreachable {
        /// The contract's name.
        chaincode: String,
        /// The channel.
        channel: String,
        /// What was tried.
        reason: String,
    },
    /// It is another version's contract.
    #[error(
        "the contract on the channel is of version {found}, and this broker speaks version {CONTRACT_VERSION}; let both be of one release"
    )]
    Version {
        /// The channel's.
        found: String,
    },
}

/// A channel. Clones share it.
#[derive(Clone)]
pub struct Channel {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) name: String,
    /// Whose peers answer questions.
    pub(super) organisation: String,
    pub(super) identities: Identities,
    pub(super) end_margin_ms: i64,
    questions: Semaphore,
    /// Number of the last block of which followers were told.
    pub(super) heights: watch::Sender<u64>,
    vouched_until: Mutex<Option<Instant>>,
    pub(super) stop: CancellationToken,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("name", &self.inner.name)
            .finish_non_exhaustive()
    }
}

impl Channel {
    /// Reads the profile and asks the contract which it is.
    ///
    /// # Errors
    /// [`ChannelError`]; nothing was submitted.
    pub async fn open(profile: &Path, organisation: &Msp) -> Result<Self, ChannelError> {
        let path = profile.to_owned();
        let profile = Profile::read(profile, organisation).map_err(ChannelError::Profile)?;
        let credentials = profile.credentials().read().await;
        let credentials = credentials.map_err(|error| ChannelError::Identity(error, path.clone()))?;
        let config = profile.config().map_err(|why| ChannelError::Profile(vec![why]))?;
        let gateway = Gateway::new(config, credentials.clone());
        let gateway = gateway.map_err(|error| ChannelError::Peers(error.to_string(), path.clone()))?;
        let (name, chaincode) = (profile.channel.clone(), profile.chaincode.clone());
        let organisation = profile.msp.clone();
        let identities = Identities::new(gateway, credentials, profile);
        let unreachable = |error: ProposalError| ChannelError::Unreachable {
            chaincode: chaincode.clone(),
            channel: name.clone(),
            reason: error.to_string(),
        };
        let identity = identities.present();
        let described = identity
            .contract
            .evaluate(&describe(&organisation))
            .await
            .map_err(unreachable)?;
        let version = |found: String| ChannelError::Version { found };
        let described: Described = serde_json::from_slice(&described)
            .map_err(|_| version("a release before this one".to_owned()))?;
        if described.contract != CONTRACT_VERSION {
            return Err(version(described.contract.to_string()));
        }
        let height = identity.gateway.height_of(&name, &organisation).await;
        let height = height.map_err(unreachable)?;
        Ok(Self {
            inner: Arc::new(Inner {
                identities,
                end_margin_ms: described.end_margin_ms,
                questions: Semaphore::new(QUESTIONS),
                heights: watch::Sender::new(height.saturating_sub(1)),
                vouched_until: Mutex::default(),
                stop: CancellationToken::new(),
                name,
                organisation,
            }),
        })
    }

    /// Answers a question, from the state of a peer of this organisation, whichever gateway is asked.
    ///
    /// # Errors
    /// [`ReadError`] when none answers, or not with what was asked for.
    pub async fn ask<T: DeserializeOwned>(&self, question: &Question) -> Result<T, ReadError> {
        let failed = |error: &dyn fmt::Display| ReadError::Storage(error.to_string());
        let call = query(question)?.organisations([&*self.inner.organisation]);
        let _place = self.place().await?;
        let answer = self.present().contract.evaluate(&call).await;
        let answer = answer.map_err(|error| failed(&error))?;
        serde_json::from_slice(&answer).map_err(|error| failed(&error))
    }

    /// Whether a peer of this organisation runs the contract now, and followers hear what happens.
    ///
    /// # Errors
    /// [`ReadError`] with the reason why not.
    pub async fn ready(&self) -> Result<(), ReadError> {
        let present = self.present();
        let contract = present.quick.contract(self.inner.name.as_str(), self.chaincode());
        let answer = contract.evaluate(&describe(&self.inner.organisation)).await;
        answer.map_err(|error| ReadError::Storage(error.to_string()))?;
        if self.is_current() {
            Ok(())
        } else {
            Err(ReadError::Storage(
                "no stream of events from a peer stands; wait until it does".to_owned(),
            ))
        }
    }

    /// Whether what followers were told was all there is, 1.5 seconds ago at most, as the peer has it that is followed. Without a
    /// follower it never is.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let until = *self
            .inner
            .vouched_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn vouch(&self, until: Option<Instant>) {
        *self
            .inner
            .vouched_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// How long after its expiry a lease may be ended by anyone, milliseconds: a parameter of the contract.
    #[must_use]
    pub fn end_margin_ms(&self) -> i64 {
        self.inner.end_margin_ms
    }

    /// Number of the last block of which a follower was told, and a way to wait for the next.
    #[must_use]
    pub fn heights(&self) -> watch::Receiver<u64> {
        self.inner.heights.subscribe()
    }

    /// Reads the identity's files again when they change, until shutdown.
    pub async fn keep_fresh(&self, shutdown: CancellationToken) {
        self.inner.identities.keep_fresh(shutdown).await;
    }

    /// Ends followers. What is submitted meanwhile ends by its deadline.
    pub fn close(&self) {
        self.inner.stop.cancel();
    }

    pub(super) fn present(&self) -> Arc<Identity> {
        self.inner.identities.present()
    }

    pub(super) fn chaincode(&self) -> &str {
        self.inner.identities.chaincode()
    }

    /// One of the questions at once.
    pub(super) async fn place(&self) -> Result<SemaphorePermit<'_>, ReadError> {
        let place = self.inner.questions.acquire().await;
        place.map_err(|error| ReadError::Storage(error.to_string()))
    }
}

pub(super) fn query(question: &Question) -> Result<Call, ReadError> {
    let question = serde_json::to_string(question);
    let question = question.map_err(|error| ReadError::Storage(error.to_string()))?;
    Ok(Call::new("query").argument(question))
}

fn describe(organisation: &str) -> Call {
    Call::new("InitLedger").organisations([organisation])
}
