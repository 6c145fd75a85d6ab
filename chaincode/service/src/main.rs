//! `leasehold-chaincode`: the contract as a Fabric chaincode service.

use clap::Parser;
use fabric_shim::{Config, Server};
use leasehold_chaincode::Contract;
use leasehold_chaincode_service::LeaseholdChaincode;
use leasehold_process::Logging;
use std::process::ExitCode;

/// Leasehold's contract for Hyperledger Fabric, as a chaincode service. Where it listens and as what is told by the environment
/// variables of Fabric's samples: CHAINCODE_SERVER_ADDRESS, CHAINCODE_ID, CHAINCODE_TLS_KEY, CHAINCODE_TLS_CERT,
/// CHAINCODE_CLIENT_CA_CERT, CHAINCODE_TLS_DISABLED.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    logging: Logging,
}

#[tokio::main]
async fn main() -> ExitCode {
    Arguments::parse().logging.start();
    leasehold_process::run("the chaincode", async |shutdown| {
        let config = Config::from_env().map_err(|error| error.to_string())?;
        let chaincode = LeaseholdChaincode::new(Contract::FABRIC);
        let served = Server::new(chaincode, config).serve(shutdown).await;
        served.map_err(|error| error.to_string())
    })
    .await
}
