//! One stream without a connection, for the fuzz targets. No part of the crate's interface.

use std::sync::Arc;

use fabric_wire::protos::ChaincodeMessage;
use futures::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::limits::Limits;
use crate::server::Chaincode;
use crate::session::Session;

/// Serves what a peer says, to its end, and gives what was said to it.
pub async fn serve(
    chaincode: impl Chaincode,
    limits: Limits,
    inbound: impl Stream<Item = Result<ChaincodeMessage, Status>> + Unpin,
) -> Vec<Result<ChaincodeMessage, Status>> {
    let (session, outbound) = Session::new(Arc::new(chaincode), "fuzzed:0", limits);
    let served = session.run(inbound, CancellationToken::new());
    let (said, ()) = tokio::join!(outbound.collect::<Vec<_>>(), served);
    said
}
