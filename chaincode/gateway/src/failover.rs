//! Asking one peer after the other until one answers, within a deadline.

use std::sync::Arc;
use std::time::Duration;

use fabric_wire::GatewayClient;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;
use tracing::debug;

use crate::error::Attempts;
use crate::failure::{Failure, Operation, read};
use crate::link::{Link, order};
use crate::retry::{chance, jittered};

/// Bound of the wait after the first round over all peers; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How often all peers are asked for what need not be tried until the end.
const ROUNDS: u32 = 3;

/// The end of a call's time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) after: Duration,
    end: Instant,
}

impl Deadline {
    pub(crate) fn new(after: Duration) -> Self {
        let now = Instant::now();
        Self {
            after,
            // Of a time beyond what the clock can say nobody sees the end.
            end: now.checked_add(after).unwrap_or(now),
        }
    }

    fn left(self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// What `work` gives, unless the time is over before.
    pub(crate) async fn bound<T>(self, work: impl Future<Output = T>) -> Option<T> {
        timeout(self.left(), work).await.ok()
    }
}

/// What was asked for in vain.
#[derive(Debug)]
pub(crate) struct GaveUp {
    pub(crate) why: Why,
    pub(crate) attempts: Attempts,
    /// Whether a request may have been received whose answer nobody knows.
    pub(crate) open: bool,
}

#[derive(Debug)]
pub(crate) enum Why {
    /// What a peer said, and no other knew better.
    Said(Failure),
    Unavailable,
    Late,
}

/// What a failure does to the search.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// It is the answer.
    Stop,
    /// It is the answer unless another peer has a better one.
    Remember,
    /// The peer could not; another may.
    Pass { blame: bool, open: bool },
}

fn step(operation: Operation<'_>, failure: &Failure) -> Step {
    match failure {
        Failure::Refused(_) | Failure::Mismatch(_) => Step::Stop,
        // Its gateway has asked every peer already.
        Failure::Failed(_) if matches!(operation, Operation::Evaluate(_)) => Step::Stop,
        // Another gateway has others endorse.
        Failure::Failed(_) | Failure::Rejected(_) | Failure::Disputed { .. } => Step::Remember,
        Failure::Unavailable { sent, .. } => Step::Pass {
            blame: true,
            open: *sent,
        },
        // Whoever does not know a commit yet may be well.
        Failure::Late => Step::Pass {
            blame: operation != Operation::CommitStatus,
            open: true,
        },
    }
}

/// Whether to ask again and again until the deadline: what is endorsed shall not be lost to a restart.
fn is_persistent(operation: Operation<'_>) -> bool {
    matches!(operation, Operation::Submit | Operation::CommitStatus)
}

/// The first answer, and the address of the peer that gave it. Every attempt is bounded by `attempt` and by the deadline.
pub(crate) async fn ask<T, F: Future<Output = Result<T, Status>>>(
    links: &[Arc<Link>],
    operation: Operation<'_>,
    deadline: Deadline,
    attempt: Duration,
    call: impl Fn(GatewayClient<Channel>, Duration) -> F,
) -> Result<(T, String), GaveUp> {
    let mut attempts = Attempts::default();
    let mut open = false;
    for round in 0_u32.. {
        let now = Instant::now();
        let healths: Vec<_> = links.iter().map(|link| link.look(now)).collect();
        let mut said = None;
        for link in order(now, &healths)
            .into_iter()
            .filter_map(|place| links.get(place))
        {
            let limit = deadline.left().min(attempt);
            if limit.is_zero() {
                return Err(GaveUp {
                    why: Why::Late,
                    attempts,
                    open,
                });
            }
            let begun = Instant::now();
            let before = link.connections.before();
            let outcome = timeout(limit, call(link.client(), limit)).await;
            let failure = match outcome {
                Ok(Ok(answer)) => {
                    link.did_well();
                    return Ok((answer, link.address.clone()));
                }
                Ok(Err(status)) => read(operation, &status),
                Err(_) => Failure::Late,
            };
            let failure = match failure {
                Failure::Late if !link.connections.stood_since(before) => Failure::Unavailable {
                    reason: format!("no connection within {limit:?}"),
                    sent: false,
                },
                failure => failure,
            };
            debug!(
                peer = link.address,
                ?operation,
                ?failure,
                "a gateway gave no answer"
            );
            attempts.note(&link.address, reason(&failure, limit));
            match step(operation, &failure) {
                Step::Stop => {
                    link.did_well();
                    return Err(GaveUp {
                        why: Why::Said(failure),
                        attempts,
                        open,
                    });
                }
                // The first is the caller's own peer, as a rule.
                Step::Remember => said = said.or(Some(failure)),
                Step::Pass { blame, open: sent } => {
                    open |= sent;
                    if blame {
                        link.failed(begun);
                    }
                }
            }
        }
        if let Some(failure) = said {
            return Err(GaveUp {
                why: Why::Said(failure),
                attempts,
                open,
            });
        }
        if !is_persistent(operation) && round + 1 >= ROUNDS {
            break;
        }
        sleep(jittered(FIRST_WAIT, LONGEST_WAIT, round, chance()).min(deadline.left())).await;
    }
    Err(GaveUp {
        why: Why::Unavailable,
        attempts,
        open,
    })
}

fn reason(failure: &Failure, limit: Duration) -> String {
    match failure {
        Failure::Refused(refusal) => refusal.to_string(),
        Failure::Mismatch(report)
        | Failure::Failed(report)
        | Failure::Rejected(report)
        | Failure::Disputed { report, .. } => report.to_string(),
        Failure::Unavailable { reason, .. } => reason.clone(),
        Failure::Late => format!("no answer within {limit:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Refusal, Report};
    use crate::failure::Asker;

    const ASKER: Asker<'_> = Asker {
        msp_id: "Org1MSP",
        organisations: &[],
    };

    #[test]
    fn a_chaincodes_answer_ends_the_search_and_a_peers_trouble_does_not() {
        let report = || Report {
            message: String::new(),
            details: Vec::new(),
        };
        let refusal = Refusal {
            status: 409,
            message: String::new(),
        };
        let gone = |sent| Failure::Unavailable {
            reason: String::new(),
            sent,
        };
        let disputed = Failure::Disputed {
            refusal: refusal.clone(),
            report: report(),
        };
        let cases = [
            (Operation::Endorse(ASKER), disputed, Step::Remember),
            (Operation::Endorse(ASKER), Failure::Refused(refusal), Step::Stop),
            (Operation::Endorse(ASKER), Failure::Mismatch(report()), Step::Stop),
            (Operation::Evaluate(ASKER), Failure::Failed(report()), Step::Stop),
            (
                Operation::Endorse(ASKER),
                Failure::Failed(report()),
                Step::Remember,
            ),
            (Operation::Submit, Failure::Rejected(report()), Step::Remember),
            (
                Operation::Submit,
                gone(true),
                Step::Pass {
                    blame: true,
                    open: true,
                },
            ),
            (
                Operation::Submit,
                gone(false),
                Step::Pass {
                    blame: true,
                    open: false,
                },
            ),
            (
                Operation::Submit,
                Failure::Late,
                Step::Pass {
                    blame: true,
                    open: true,
                },
            ),
            (
                Operation::CommitStatus,
                Failure::Late,
                Step::Pass {
                    blame: false,
                    open: true,
                },
            ),
        ];
        for (operation, failure, expected) in cases {
            assert_eq!(step(operation, &failure), expected, "{operation:?} {failure:?}");
        }
    }
}
