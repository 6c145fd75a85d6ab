//! One peer of this organisation's, to which several questions are put that belong together.
//!
//! All of them are answered by this very peer, from its own state, or by none: of a gateway's answers each may be of another peer, which
//! may be some blocks before or behind. A peer's height grows only, so that where it is the same before and after, all answers are of one
//! state ([`OwnPeer::is_settled`]).

use std::time::Duration;

use fabric_gateway_client::OnePeer;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use leasehold_chaincode::Question;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::channel::{Channel, query};
use crate::ledger::ReadError;

/// How long the others are waited for once one has answered.
const OTHERS: Duration = Duration::from_secs(1);

/// A peer of this organisation's, and how far it was when it was chosen.
#[derive(Debug, Clone)]
pub struct OwnPeer {
    channel: Channel,
    peer: OnePeer,
    blocks: u64,
}

impl Channel {
    /// The peer of this organisation's in the profile that has most blocks; of several that of which the profile speaks first. Those
    /// count that answer within a second after the first.
    ///
    /// # Errors
    /// [`ReadError`] when none answers itself.
    pub async fn own_peer(&self) -> Result<OwnPeer, ReadError> {
        let own = &self.inner.organisation;
        let name = &self.inner.name;
        let peers = self.present().gateway.peers().into_iter().enumerate();
        let mut asked: FuturesUnordered<_> = peers
            .map(|(place, peer)| async move { (place, peer.height(name).await, peer) })
            .collect();
        let mut best: Option<(Instant, usize, OwnPeer)> = None;
        let mut tried = Vec::new();
        loop {
            let next = match &best {
                None => asked.next().await,
                Some((until, ..)) => timeout_at(*until, asked.next()).await.unwrap_or_default(),
            };
            let Some((place, height, peer)) = next else {
                break;
            };
            let why = match height {
                Ok(height) if height.msp_id == *own => {
                    let until = best.as_ref().map(|(until, ..)| *until);
                    let is_better = best.as_ref().is_none_or(|(_, before, best)| {
                        height.blocks > best.blocks || (height.blocks == best.blocks && place < *before)
                    });
                    if is_better {
                        let found = OwnPeer {
                            channel: self.clone(),
                            blocks: height.blocks,
                            peer,
                        };
                        best = Some((until.unwrap_or_else(|| Instant::now() + OTHERS), place, found));
                    }
                    continue;
                }
                Ok(height) => format!("it is a peer of {}", height.msp_id),
                Err(error) => error.to_string(),
            };
            tried.push(format!("{}: {why}", peer.address()));
        }
        best.map(|(.., best)| best).ok_or_else(|| {
            ReadError::Storage(format!(
                "no peer of {own} in the profile answers itself; name one there and check that it is up: {}",
                tried.join("; ")
            ))
        })
    }
}

impl OwnPeer {
    /// Number of its newest block when it was chosen: what it answers has seen that one.
    #[must_use]
    pub fn block(&self) -> u64 {
        self.blocks.saturating_sub(1)
    }

    /// Answers a question, from the state of this peer.
    ///
    /// # Errors
    /// [`ReadError`] when it does not answer, or not with what was asked for.
    pub async fn ask<T: DeserializeOwned>(&self, question: &Question) -> Result<T, ReadError> {
        let failed = |error: &dyn std::fmt::Display| ReadError::Storage(error.to_string());
        let call = query(question)?;
        let _place = self.channel.place().await?;
        let (name, chaincode) = (&self.channel.inner.name, self.channel.chaincode());
        let answer = self.peer.query(name, chaincode, &call).await;
        serde_json::from_slice(&answer.map_err(|error| failed(&error))?).map_err(|error| failed(&error))
    }

    /// Whether it took no block since it was chosen, so that all answers are of one state.
    ///
    /// # Errors
    /// [`ReadError`] when it does not answer.
    pub async fn is_settled(&self) -> Result<bool, ReadError> {
        let height = self.peer.height(&self.channel.inner.name).await;
        let height = height.map_err(|error| ReadError::Storage(error.to_string()))?;
        Ok(height.blocks == self.blocks && height.msp_id == self.channel.inner.organisation)
    }
}
