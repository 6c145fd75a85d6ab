//! What one peer answers that is asked itself, beside its gateway.

use bytes::Bytes;
use fabric_wire::protos::{self, ProposalResponse, SignedProposal, endorser_server};
use tonic::{Request, Response, Status};

use super::refusal::message;
use super::service::{CHAIN, Service, decoded, validated};
use crate::endorse::EndorseError;
use crate::proposal::encode;

#[tonic::async_trait]
impl endorser_server::Endorser for Service {
    async fn process_proposal(
        &self,
        request: Request<SignedProposal>,
    ) -> Result<Response<ProposalResponse>, Status> {
        self.hang().await;
        let (proposed, parts) = decoded(Some(request.into_inner()))?;
        validated(&proposed, &parts).map_err(Status::unknown)?;
        let answer = if proposed.chaincode == CHAIN {
            Ok(self.chain(&self.peer))
        } else {
            self.network.evaluate_on(&self.peer, &proposed).await
        };
        let failed = |status, message| ProposalResponse {
            response: Some(protos::Response {
                status,
                message,
                payload: Bytes::new(),
            }),
            ..ProposalResponse::default()
        };
        Ok(Response::new(match answer {
            Ok(response) => self.endorsed(response),
            Err(EndorseError::Refused { status, message }) => failed(status, message),
            Err(error) => failed(500, message(&error).0),
        }))
    }
}

impl Service {
    fn endorsed(&self, response: protos::Response) -> ProposalResponse {
        let action = protos::ChaincodeAction {
            response: Some(response.clone()),
            ..protos::ChaincodeAction::default()
        };
        let payload = protos::ProposalResponsePayload {
            proposal_hash: Bytes::new(),
            extension: encode(&action),
        };
        let endorser = protos::SerializedIdentity {
            mspid: self.peer.msp_id().to_owned(),
            id_bytes: Bytes::new(),
        };
        ProposalResponse {
            response: Some(response),
            payload: encode(&payload),
            endorsement: Some(protos::Endorsement {
                endorser: encode(&endorser),
                signature: Bytes::new(),
            }),
        }
    }
}
