//! The peers of one configuration, and who asks them.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use fabric_wire::GatewayClient;
use fabric_wire::{gateway as wire, protos};
use prost::Message as _;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::call::Call;
use crate::config::{Clock, Config, ConfigError, Deadlines};
use crate::contract::Contract;
use crate::error::{CommitStatusError, ProposalError, Report};
use crate::failover::{Deadline, GaveUp, Why, ask};
use crate::failure::{Failure, Operation};
use crate::identity::Credentials;
use crate::link::{Link, order};
use crate::peer::OnePeer;
use crate::proposal::{Target, TransactionId};
use crate::signer::SignError;
use crate::validation::CommitStatus;

/// A client of the gateways of some peers. Cheap to clone; clones share connections and credentials.
#[derive(Debug, Clone)]
pub struct Gateway {
    links: Arc<[Arc<Link>]>,
    deadlines: Deadlines,
    clock: Clock,
    credentials: Arc<ArcSwap<Credentials>>,
}

/// Fabric's chaincode about the chain itself.
pub(crate) const CHAIN: &str = "qscc";

/// What it says of the chain (`common.BlockchainInfo`); its hashes are left out.
#[derive(Clone, PartialEq, prost::Message)]
struct ChainInfo {
    #[prost(uint64, tag = "1")]
    height: u64,
}

/// How many blocks a channel has: asked of [`CHAIN`].
pub(crate) fn height_call(channel: &str) -> Call {
    Call::new("GetChainInfo").argument(channel.to_owned())
}

/// What [`CHAIN`] answers to that.
pub(crate) fn height_in(answer: Bytes) -> Result<u64, ProposalError> {
    let info = ChainInfo::decode(answer).map_err(|_| ProposalError::Unintelligible {
        peer: "that was asked".to_owned(),
        reason: "it is no account of the chain",
    })?;
    Ok(info.height)
}

impl Gateway {
    /// Reaches nobody yet: a peer that is down now may be up when it is needed. Needs a runtime of tokio.
    ///
    /// # Errors
    /// Where an address or a certificate cannot be used.
    pub fn new(config: Config, credentials: Credentials) -> Result<Self, ConfigError> {
        if config.peers.is_empty() {
            return Err(ConfigError::NoPeers);
        }
        let links: Vec<_> = config
            .peers
            .iter()
            .map(|peer| Link::new(peer, &config).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            links: links.into(),
            deadlines: config.deadlines,
            clock: config.clock,
            credentials: Arc::new(ArcSwap::from_pointee(credentials)),
        })
    }

    /// From now on signs with these, in all clones: a certificate was renewed. Transactions that are under way end with the former.
    pub fn renew(&self, credentials: Credentials) {
        self.credentials.store(Arc::new(credentials));
    }

    /// The same peers over the same connections, asked by somebody else.
    #[must_use]
    pub fn acting_as(&self, credentials: Credentials) -> Self {
        Self {
            credentials: Arc::new(ArcSwap::from_pointee(credentials)),
            ..self.clone()
        }
    }

    /// The same peers over the same connections, with other deadlines.
    #[must_use]
    pub fn with_deadlines(&self, deadlines: Deadlines) -> Self {
        Self {
            deadlines,
            ..self.clone()
        }
    }

    /// The same peers over the same connections, with another clock for what is proposed.
    #[must_use]
    pub fn with_clock(&self, clock: Clock) -> Self {
        Self {
            clock,
            ..self.clone()
        }
    }

    /// How many blocks the peer that answers has of a channel: the next one's number.
    ///
    /// # Errors
    /// Where no peer answers within [`Deadlines::evaluate`], or none lets this identity ask (`qscc/GetChainInfo`).
    pub async fn height(&self, channel: &str) -> Result<u64, ProposalError> {
        self.height_by(channel, &height_call(channel)).await
    }

    /// The same, as a peer of this member has it, whichever gateway is asked.
    ///
    /// # Errors
    /// As [`Gateway::height`], and where no peer of the member is up.
    pub async fn height_of(&self, channel: &str, organisation: &str) -> Result<u64, ProposalError> {
        let call = height_call(channel).organisations([organisation]);
        self.height_by(channel, &call).await
    }

    async fn height_by(&self, channel: &str, call: &Call) -> Result<u64, ProposalError> {
        height_in(self.contract(channel, CHAIN).evaluate(call).await?)
    }

    /// A chaincode on a channel.
    pub fn contract(&self, channel: impl Into<String>, chaincode: impl Into<String>) -> Contract {
        let target = Target {
            channel: channel.into(),
            chaincode: chaincode.into(),
        };
        Contract::new(self.clone(), target)
    }

    /// What became of a transaction; waits until it is in a block. For one whose outcome is unknown, also of an earlier run of this
    /// program.
    ///
    /// # Errors
    /// Where nobody tells within [`Deadlines::commit`].
    pub async fn commit_status(
        &self,
        channel: &str,
        transaction_id: &TransactionId,
    ) -> Result<CommitStatus, CommitStatusError> {
        let id = || transaction_id.clone();
        let credentials = self.credentials();
        let deadline = Deadline::new(self.deadlines.commit);
        let request = wire::CommitStatusRequest {
            transaction_id: transaction_id.to_string(),
            channel_id: channel.to_owned(),
            identity: credentials.creator().clone(),
        };
        let request: Bytes = request.encode_to_vec().into();
        let signature =
            signed(deadline, &credentials, &request)
                .await
                .map_err(|source| CommitStatusError::Sign {
                    transaction_id: id(),
                    source,
                })?;
        let request = wire::SignedCommitStatusRequest { request, signature };
        let answer = self.ask(Operation::CommitStatus, deadline, async |mut client, limit| {
            client.commit_status(within(limit, request.clone())).await
        });
        let GaveUp { why, attempts, .. } = match answer.await {
            Ok((status, _)) => {
                return Ok(CommitStatus {
                    block: status.block_number,
                    code: status.result.into(),
                });
            }
            Err(gave_up) => gave_up,
        };
        Err(match why {
            Why::Said(failure) => CommitStatusError::Rejected {
                transaction_id: id(),
                report: report_of(failure),
            },
            Why::Unavailable | Why::Late => CommitStatusError::Deadline {
                transaction_id: id(),
                after: deadline.after,
                attempts,
            },
        })
    }

    /// Each peer by itself, the preferred one first and those that failed lately last.
    #[must_use]
    pub fn peers(&self) -> Vec<OnePeer> {
        let now = Instant::now();
        let healths: Vec<_> = self.links.iter().map(|link| link.look(now)).collect();
        let links = order(now, &healths).into_iter();
        let links = links.filter_map(|place| self.links.get(place));
        links.map(|link| OnePeer::new(self, link)).collect()
    }

    /// The same with this peer only.
    pub(crate) fn only(&self, link: &Arc<Link>) -> Self {
        Self {
            links: Arc::from([Arc::clone(link)]),
            ..self.clone()
        }
    }

    pub(crate) fn credentials(&self) -> Arc<Credentials> {
        self.credentials.load_full()
    }

    /// The time of a proposal that is made now.
    pub(crate) fn now(&self) -> protos::Timestamp {
        let since = self.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        protos::Timestamp {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
        }
    }

    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    pub(crate) fn links(&self) -> &[Arc<Link>] {
        &self.links
    }

    /// The first peer's answer, and that peer's address.
    pub(crate) async fn ask<T, F: Future<Output = Result<Response<T>, Status>>>(
        &self,
        operation: Operation<'_>,
        deadline: Deadline,
        call: impl Fn(GatewayClient<Channel>, Duration) -> F,
    ) -> Result<(T, String), GaveUp> {
        let (answer, peer) = ask(&self.links, operation, deadline, self.deadlines.attempt, call).await?;
        Ok((answer.into_inner(), peer))
    }
}

/// Signs before the deadline.
pub(crate) async fn signed(
    deadline: Deadline,
    credentials: &Credentials,
    message: &[u8],
) -> Result<Bytes, SignError> {
    deadline
        .bound(credentials.sign(message))
        .await
        .unwrap_or(Err(SignError::Late))
}

/// A request that tells the peer how long its answer is waited for.
pub(crate) fn within<T>(limit: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// What was said, where it is of no further interest what kind of failure it is.
pub(crate) fn report_of(failure: Failure) -> Report {
    match failure {
        Failure::Mismatch(report)
        | Failure::Failed(report)
        | Failure::Rejected(report)
        | Failure::Disputed { report, .. } => report,
        Failure::Refused(refusal) => Report {
            message: refusal.to_string(),
            details: Vec::new(),
        },
        Failure::Unavailable { reason, .. } => Report {
            message: reason,
            details: Vec::new(),
        },
        Failure::Late => Report {
            message: "no answer in time".to_owned(),
            details: Vec::new(),
        },
    }
}
