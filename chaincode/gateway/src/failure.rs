//! What a gRPC status of a gateway means: a pure reading of it.
//!
//! As Fabric's gateway sends them (`internal/pkg/gateway`, observed on 3.1): a refusal of the chaincode is UNKNOWN on Evaluate and
//! ABORTED on Endorse, where its text is only in the details; endorsers that could not be reached are ABORTED on Endorse too; an orderer
//! that says no is ABORTED on Submit, and one that cannot be reached UNAVAILABLE. A status that this process made itself, because a
//! connection broke, may have any of these codes: it has a source, and one from a server has none.
//!
//! A gateway endorses with its own member's peers first, one after the other, and only when one did asks the others': whoever failed has a
//! detail with its member, and whoever endorsed has none (`endorse.go`). So one peer of one member can be all that stands in the way of a
//! transaction, and its no is the chaincode's only where the asker's own member, or everybody who had to endorse, says it too
//! ([`Asker`]). Details are the gateway's word; it is trusted to name whom it asked.

use std::error::Error as _;

use fabric_wire::gateway::{ErrorDetail, Status as RpcStatus};
use prost::Message as _;
use tonic::{Code, ConnectError, Status};

use crate::error::{Detail, Refusal, Report};

/// Who proposes, and whose peers are to run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker<'a> {
    pub(crate) msp_id: &'a str,
    /// Empty where the gateway chooses.
    pub(crate) organisations: &'a [String],
}

/// Which call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation<'a> {
    Evaluate(Asker<'a>),
    Endorse(Asker<'a>),
    /// Of one peer itself.
    Query,
    Submit,
    CommitStatus,
    Events,
}

/// What the failure means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    Refused(Refusal),
    /// Somebody refused whose word alone does not count.
    Disputed {
        refusal: Refusal,
        report: Report,
    },
    Mismatch(Report),
    Failed(Report),
    /// Another gateway may see it otherwise: its view of the peers is its own.
    Rejected(Report),
    /// This peer, or what it depends on, cannot do it now.
    Unavailable {
        reason: String,
        /// Whether the request may have been received.
        sent: bool,
    },
    Late,
}

const DETAIL_TYPE: &str = "gateway.ErrorDetail";
/// How a gateway begins a detail about a response of the chaincode's own, before status and message.
const RESPONSE: &str = "chaincode response ";
/// How a peer begins that does not let a client in: unknown member, expired certificate, wrong signature, no permission.
const TURNED_AWAY: &str = "error validating proposal";
const MISMATCH: &str = "ProposalResponsePayloads do not match";
/// How gRPC in Go begins the text of an error of a call to another peer.
const UNREACHABLE: [&str; 2] = [
    "rpc error: code = Unavailable",
    "rpc error: code = DeadlineExceeded",
];

/// What `status` means as the answer to `operation`.
pub(crate) fn read(operation: Operation, status: &Status) -> Failure {
    if status.source().is_some() {
        return Failure::Unavailable {
            reason: chain(status),
            sent: !never_sent(status),
        };
    }
    let report = Report {
        message: status.message().to_owned(),
        details: details(status.details()),
    };
    let unavailable = |report: &Report| Failure::Unavailable {
        reason: report.to_string(),
        sent: true,
    };
    match (status.code(), operation) {
        (Code::DeadlineExceeded, _) => Failure::Late,
        // Cancelled is a peer that is being stopped. Exhausted is a gateway at its limit of calls.
        (Code::Unavailable | Code::Cancelled | Code::ResourceExhausted, _) => unavailable(&report),
        (Code::Unknown | Code::Aborted, Operation::Evaluate(asker)) => {
            endorsers(report, |by| asker.may_ask(by))
        }
        (Code::Unknown | Code::Aborted, Operation::Endorse(asker)) => {
            endorsers(report, |by| asker.is_refused_by(by))
        }
        // A stream of blocks that ended, or a commit that nobody waits for any more: the peer is being stopped.
        (Code::Aborted | Code::Unknown, Operation::CommitStatus | Operation::Events) => unavailable(&report),
        _ => Failure::Rejected(report),
    }
}

/// The members of the peers that refused, and whether all failed that had a detail, alike.
struct By<'r> {
    members: Vec<&'r str>,
    is_all: bool,
}

impl Asker<'_> {
    /// Whether a refusal of one peer is an answer to a question: by whomever where nobody was named.
    fn may_ask(&self, by: &By<'_>) -> bool {
        let named = |member: &&str| self.organisations.iter().any(|name| name == member);
        self.organisations.is_empty() || by.members.iter().any(named)
    }

    /// Whether a refusal to endorse is the chaincode's: by a peer of the asker's own member, or by one of each of those that were named.
    fn is_refused_by(&self, by: &By<'_>) -> bool {
        let has_refused = |name: &str| by.members.contains(&name);
        let names = self.organisations;
        has_refused(self.msp_id)
            || (by.is_all && !names.is_empty() && names.iter().all(|name| has_refused(name)))
    }
}

/// What peers said that were to run a proposal. `counts` tells whether those that refused are enough.
fn endorsers(report: Report, counts: impl Fn(&By<'_>) -> bool) -> Failure {
    let said = |what: &dyn Fn(&str) -> bool| report.details.iter().any(|detail| what(&detail.message));
    if said(&|message| message == MISMATCH) {
        return Failure::Mismatch(report);
    }
    let messages = report.details.iter().map(|detail| detail.message.as_str());
    let refusals: Vec<_> = report
        .details
        .iter()
        .filter_map(|detail| Some((detail.msp_id.as_str(), refusal(&detail.message)?)))
        .collect();
    if let Some((_, first)) = refusals.first() {
        let by = By {
            members: refusals.iter().map(|(member, _)| *member).collect(),
            is_all: refusals.len() == report.details.len()
                && refusals.iter().all(|(_, refusal)| refusal == first),
        };
        if !counts(&by) {
            let refusal = first.clone();
            return Failure::Disputed { refusal, report };
        }
        // Of several that do not say the same, the one that counts alone.
        let counting = refusals.iter().find(|(member, _)| {
            counts(&By {
                members: vec![*member],
                is_all: false,
            })
        });
        return Failure::Refused(counting.map_or_else(|| first.clone(), |(_, refusal)| refusal.clone()));
    }
    // Of one peer that was asked a question, without a word who it was.
    if let Some(refusal) = refusal(&report.message) {
        return Failure::Refused(refusal);
    }
    if said(&|message| message.contains(TURNED_AWAY)) {
        return Failure::Rejected(report);
    }
    let unreachable = |message: &str| UNREACHABLE.iter().any(|text| message.starts_with(text));
    if !report.details.is_empty() && messages.clone().all(unreachable) {
        return Failure::Unavailable {
            reason: report.to_string(),
            sent: true,
        };
    }
    Failure::Failed(report)
}

fn refusal(message: &str) -> Option<Refusal> {
    let (_, response) = message.split_once(RESPONSE)?;
    let (status, message) = response.split_once(", ")?;
    Some(Refusal {
        status: status.parse().ok()?,
        message: message.to_owned(),
    })
}

/// What `grpc-status-details-bin` holds.
fn details(encoded: &[u8]) -> Vec<Detail> {
    let details = RpcStatus::decode(encoded)
        .map(|status| status.details)
        .unwrap_or_default();
    details
        .into_iter()
        .filter(|any| any.type_url.rsplit('/').next() == Some(DETAIL_TYPE))
        .filter_map(|any| ErrorDetail::decode(any.value).ok())
        .map(|detail| Detail {
            address: detail.address,
            msp_id: detail.msp_id,
            message: detail.message,
        })
        .collect()
}

/// Whether there was no connection to send anything on.
fn never_sent(status: &Status) -> bool {
    sources(status).any(|error| error.is::<ConnectError>())
}

fn sources(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(status.source(), |&error| error.source())
}

fn chain(status: &Status) -> String {
    // tonic and hyper repeat what their sources say.
    let mut said = vec![status.message().to_owned()];
    for source in sources(status).map(ToString::to_string) {
        if !said.iter().any(|earlier| earlier.contains(&source)) {
            said.push(source);
        }
    }
    said.join(": ")
}

#[cfg(test)]
mod tests {
    use fabric_wire::gateway::Any;

    use super::*;

    const ASKER: Asker<'_> = Asker {
        msp_id: "Org1MSP",
        organisations: &[],
    };
    const EVALUATE: Operation<'_> = Operation::Evaluate(ASKER);
    const ENDORSE: Operation<'_> = Operation::Endorse(ASKER);

    fn status(code: Code, message: &str, details: &[&str]) -> Status {
        let own: Vec<_> = details.iter().map(|message| ("Org1MSP", *message)).collect();
        status_of(code, message, &own)
    }

    fn status_of(code: Code, message: &str, details: &[(&str, &str)]) -> Status {
        let any = |(msp_id, message): &(&str, &str)| Any {
            type_url: "type.googleapis.com/gateway.ErrorDetail".to_owned(),
            value: ErrorDetail {
                address: "peer0:7051".to_owned(),
                msp_id: (*msp_id).to_owned(),
                message: (*message).to_owned(),
            }
            .encode_to_vec()
            .into(),
        };
        let encoded = RpcStatus {
            code: code.into(),
            message: message.to_owned(),
            details: details.iter().map(any).collect(),
        };
        Status::with_details(code, message, encoded.encode_to_vec().into())
    }

    fn refused(status: i32, message: &str) -> Failure {
        Failure::Refused(Refusal {
            status,
            message: message.to_owned(),
        })
    }

    #[test]
    fn a_refusal_has_the_chaincodes_own_words_on_evaluate_and_on_endorse() {
        let text = "chaincode response 409, taken, until noon";
        let evaluated = status(
            Code::Unknown,
            &format!("evaluate call to endorser returned error: {text}"),
            &[text],
        );
        assert_eq!(read(EVALUATE, &evaluated), refused(409, "taken, until noon"));
        let endorsed = status(
            Code::Aborted,
            "failed to endorse transaction, see attached details",
            &[text],
        );
        assert_eq!(read(ENDORSE, &endorsed), refused(409, "taken, until noon"));
        let bare = status(
            Code::Unknown,
            &format!("evaluate call to endorser returned error: {text}"),
            &[],
        );
        assert_eq!(read(EVALUATE, &bare), refused(409, "taken, until noon"));
    }

    /// Details, the members that were named, and what it means.
    type Case = (
        &'static [(&'static str, &'static str)],
        &'static [&'static str],
        &'static str,
    );

    #[test]
    fn a_refusal_counts_where_the_own_member_says_it_or_all_that_were_to_endorse() {
        const NO: &str = "chaincode response 409, taken";
        const OTHER: &str = "chaincode response 403, never";
        const GONE: &str = "rpc error: code = Unavailable desc = connection error";
        let named = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let cases: [Case; 11] = [
            (&[("Org1MSP", NO)], &[], "Refused"),
            (&[("Org2MSP", NO)], &[], "Disputed"),
            (&[("Org2MSP", NO), ("Org3MSP", NO)], &[], "Disputed"),
            (&[("Org2MSP", NO), ("Org3MSP", GONE)], &[], "Disputed"),
            (&[("Org1MSP", GONE), ("Org2MSP", NO)], &[], "Disputed"),
            (&[("Org2MSP", OTHER), ("Org1MSP", NO)], &[], "Refused"),
            (
                &[("Org2MSP", NO), ("Org3MSP", NO)],
                &["Org2MSP", "Org3MSP"],
                "Refused",
            ),
            (
                &[("Org2MSP", NO), ("Org3MSP", OTHER)],
                &["Org2MSP", "Org3MSP"],
                "Disputed",
            ),
            // One of the two endorsed: it has no detail.
            (&[("Org2MSP", NO)], &["Org2MSP", "Org3MSP"], "Disputed"),
            (
                &[("Org2MSP", NO), ("Org3MSP", GONE)],
                &["Org2MSP", "Org3MSP"],
                "Disputed",
            ),
            (&[("", NO)], &[], "Disputed"),
        ];
        for (details, names, expected) in cases {
            let names = named(names);
            let operation = Operation::Endorse(Asker {
                organisations: &names,
                ..ASKER
            });
            let text =
                "failed to collect enough transaction endorsements, see attached details for more info";
            let failure = read(operation, &status_of(Code::Aborted, text, details));
            let shown = format!("{failure:?}");
            assert!(shown.starts_with(expected), "{details:?} {names:?}: {shown}");
            if let Failure::Refused(refusal) = failure {
                assert_eq!(refusal.message, "taken", "the word that counts");
            }
        }
    }

    #[test]
    fn a_question_is_answered_by_those_only_who_were_asked() {
        let names = ["Org1MSP".to_owned()];
        let operation = Operation::Evaluate(Asker {
            organisations: &names,
            ..ASKER
        });
        let no = "chaincode response 404, none";
        for (member, expected) in [("Org1MSP", "Refused"), ("Org2MSP", "Disputed")] {
            let failure = read(operation, &status_of(Code::Unknown, no, &[(member, no)]));
            assert!(
                format!("{failure:?}").starts_with(expected),
                "{member}: {failure:?}"
            );
        }
    }

    #[test]
    fn an_unknown_error_that_is_no_refusal_is_not_taken_for_one() {
        let failed = status(Code::Unknown, "panic in handler", &[]);
        assert!(matches!(read(EVALUATE, &failed), Failure::Failed(_)));
    }

    #[test]
    fn results_that_differ_are_a_mismatch_also_where_somebody_else_failed() {
        let status = status(
            Code::Aborted,
            "failed to collect",
            &["error in simulation", MISMATCH],
        );
        assert!(matches!(read(ENDORSE, &status), Failure::Mismatch(_)));
    }

    #[test]
    fn endorsers_out_of_reach_are_no_failure_of_the_chaincode() {
        let gone = "rpc error: code = Unavailable desc = connection error";
        let unreachable = status(Code::Aborted, "failed to endorse", &[gone, gone]);
        assert!(matches!(
            read(ENDORSE, &unreachable),
            Failure::Unavailable { sent: true, .. }
        ));
        let partly = status(Code::Aborted, "failed to endorse", &[gone, "error in simulation"]);
        assert!(matches!(read(ENDORSE, &partly), Failure::Failed(_)));
    }

    #[test]
    fn a_client_that_peers_do_not_let_in_is_no_failure_of_the_chaincode() {
        let text = "error validating proposal: access denied: channel [channel] creator org unknown, creator is malformed";
        let status = status(
            Code::Aborted,
            "failed to endorse transaction, see attached details",
            &[text],
        );
        assert!(matches!(read(ENDORSE, &status), Failure::Rejected(_)));
    }

    #[test]
    fn each_code_is_read_by_the_call_that_it_answers() {
        let cases = [
            (Operation::Submit, Code::Aborted, "Rejected"),
            (Operation::Submit, Code::Unavailable, "Unavailable"),
            (ENDORSE, Code::FailedPrecondition, "Rejected"),
            (ENDORSE, Code::ResourceExhausted, "Unavailable"),
            (EVALUATE, Code::PermissionDenied, "Rejected"),
            (EVALUATE, Code::DeadlineExceeded, "Late"),
            (Operation::CommitStatus, Code::PermissionDenied, "Rejected"),
            (Operation::CommitStatus, Code::Aborted, "Unavailable"),
            (Operation::Events, Code::Aborted, "Unavailable"),
            (Operation::Events, Code::NotFound, "Rejected"),
        ];
        for (operation, code, expected) in cases {
            let failure = format!("{:?}", read(operation, &status(code, "why", &[])));
            assert!(failure.starts_with(expected), "{operation:?} {code:?}: {failure}");
        }
    }

    #[test]
    fn a_connection_that_broke_is_never_a_word_of_the_server() {
        let broken = || std::io::Error::other("connection reset");
        let sent = Status::from_error(Box::new(broken()));
        assert!(matches!(
            read(EVALUATE, &sent),
            Failure::Unavailable { sent: true, .. }
        ));
        let refused = Status::from_error(Box::new(ConnectError(Box::new(broken()))));
        assert!(matches!(
            read(Operation::Submit, &refused),
            Failure::Unavailable { sent: false, .. }
        ));
    }

    #[test]
    fn details_of_another_kind_or_shape_are_passed_over() {
        assert!(details(b"\xff\xff").is_empty());
        let other = RpcStatus {
            details: vec![Any {
                type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
                value: bytes::Bytes::new(),
            }],
            ..RpcStatus::default()
        };
        assert!(details(&other.encode_to_vec()).is_empty());
    }
}
