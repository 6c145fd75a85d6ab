//! Whose endorsements a gateway collects: those that the client names, or as few as suffice by the chaincode's policy and the keys'.

use std::sync::Arc;

use tonic::{Code, Status};

use super::refusal::{MISMATCH, message, status};
use super::service::Service;
use crate::endorse::{EndorseError, Endorsed};
use crate::peer::Peer;
use crate::proposal::Proposed;

const TOO_FEW: &str = "failed to collect enough transaction endorsements, see attached details for more info";

impl Service {
    /// The endorsements of as few peers as suffice, this gateway's own among them, which has given one; where another gives none, of
    /// others in its stead.
    pub(super) async fn collected<'p>(
        &'p self,
        own: Endorsed,
        proposed: &Proposed,
    ) -> Result<(Endorsed, Vec<&'p Arc<Peer>>), Status> {
        let mut details = Vec::new();
        let mut failed: Vec<&Arc<Peer>> = Vec::new();
        while let Some(wanted) = self.plan(&own, &failed) {
            let error = match self.network.endorse_on(&wanted, proposed).await {
                Ok(endorsed) => return Ok((endorsed, wanted)),
                Err(error) => error,
            };
            let blamed = self.blamed(&error, &wanted, proposed, &mut details).await;
            if blamed.is_empty() || blamed.iter().any(|peer| Arc::ptr_eq(peer, &self.peer)) {
                break;
            }
            failed.extend(blamed);
        }
        if details.is_empty() {
            details = self.gone();
        }
        Err(status(Code::Aborted, TOO_FEW, &details))
    }

    /// Of these members, all of them.
    pub(super) async fn endorsed_by<'p>(
        &'p self,
        organisations: &[String],
        proposed: &Proposed,
    ) -> Result<(Endorsed, Vec<&'p Arc<Peer>>), Status> {
        let named = |peer: &&Arc<Peer>| organisations.iter().any(|name| name == peer.msp_id());
        let all = self.network.peers().iter().filter(named);
        let wanted: Vec<_> = all.filter(|peer| peer.is_up()).collect();
        if wanted.len() != organisations.len() {
            return Err(status(Code::Aborted, TOO_FEW, &self.gone()));
        }
        let error = match self.network.endorse_on(&wanted, proposed).await {
            Ok(endorsed) => return Ok((endorsed, wanted)),
            Err(error) => error,
        };
        let mut details = Vec::new();
        self.blamed(&error, &wanted, proposed, &mut details).await;
        Err(status(Code::Aborted, TOO_FEW, &details))
    }

    /// The fewest peers that run, have not failed and suffice by every policy that the transaction meets; this gateway's own first.
    fn plan(&self, own: &Endorsed, failed: &[&Arc<Peer>]) -> Option<Vec<&Arc<Peer>>> {
        let others = self.network.peers().iter().filter(|peer| {
            let is_out = failed.iter().any(|failed| Arc::ptr_eq(failed, peer));
            peer.msp_id() != self.peer.msp_id() && peer.is_up() && !is_out
        });
        let others: Vec<_> = others.collect();
        let ledger = self.network.ledger();
        // Each set of peers is a number, of whose bits the first peer's is the greatest: of two of one size the one with those that come
        // first is the greater.
        let mut sets: Vec<u32> = (0..1 << others.len().min(16)).collect();
        sets.sort_by_key(|set| (set.count_ones(), std::cmp::Reverse(*set)));
        let members = |set: u32| {
            let last = others.len().saturating_sub(1);
            let chosen = others
                .iter()
                .enumerate()
                .filter(move |(place, _)| set >> last.saturating_sub(*place) & 1 == 1);
            std::iter::once(&self.peer).chain(chosen.map(|(_, peer)| *peer))
        };
        let suffices = |set: &u32| {
            let endorsers: Vec<_> = members(*set).map(|peer| peer.msp_id().to_owned()).collect();
            ledger.suffices(&own.transaction, &endorsers)
        };
        let set = sets.into_iter().find(suffices)?;
        Some(members(set).collect())
    }

    /// Whom a failure is due to, with what each said.
    async fn blamed<'p>(
        &self,
        error: &EndorseError,
        wanted: &[&'p Arc<Peer>],
        proposed: &Proposed,
        details: &mut Vec<(&'p str, String)>,
    ) -> Vec<&'p Arc<Peer>> {
        let mut blamed = Vec::new();
        for peer in wanted {
            if let Err(error) = self.network.endorse_on(&[peer], proposed).await {
                details.push((peer.msp_id(), message(&error).0));
                blamed.push(*peer);
            }
        }
        if let EndorseError::Disagreement(_, other) = error {
            for peer in wanted.iter().filter(|peer| peer.msp_id() == other) {
                details.push((peer.msp_id(), MISMATCH.to_owned()));
                blamed.push(peer);
            }
        }
        blamed
    }

    fn gone(&self) -> Vec<(&str, String)> {
        let gone = self.network.peers().iter().filter(|peer| !peer.is_up());
        let said = "rpc error: code = Unavailable desc = connection error";
        gone.map(|peer| (peer.msp_id(), said.to_owned())).collect()
    }
}
