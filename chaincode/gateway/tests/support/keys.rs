//! Keys with an endorsement policy of their own, on whatever peers: of `Org1MSP`, `Org2MSP` and `Org3MSP`, of which a majority endorses
//! what no key's policy is about.

use fabric_gateway_client::{Call, Contract, TransactionError, ValidationCode};
use serde_json::{Value, json};

/// How often two transactions are to be put into one block.
const ATTEMPTS: usize = 20;

fn by(steps: &Value, members: &[&str]) -> Call {
    let call = Call::new("run").argument(steps.to_string());
    call.organisations(members.iter().copied())
}

async fn verdict(contract: &Contract, call: &Call) -> ValidationCode {
    match contract.submit(call).await {
        Ok(_) => ValidationCode::VALID,
        Err(TransactionError::Invalid { code, .. }) => code,
        Err(error) => panic!("{error}"),
    }
}

/// The key's policy takes the place of the chaincode's, for that key and until the key is deleted.
pub async fn a_key_with_a_policy_is_written_with_its_endorsements_only(contract: &Contract) {
    const FAILED: ValidationCode = ValidationCode::ENDORSEMENT_POLICY_FAILURE;
    const VALID: ValidationCode = ValidationCode::VALID;
    let majority = ["Org1MSP", "Org3MSP"];
    let make = json!([["put", "guarded", "1"], ["put_policy", "guarded", "Org2MSP"]]);
    let put = json!([["put", "guarded", "2"]]);
    let both = json!([["put", "guarded", "3"], ["put", "unguarded", "3"]]);
    let open = json!([["put_policy", "guarded", "Org1MSP"]]);
    let delete = json!([["delete", "guarded"]]);
    for (steps, members, code) in [
        (&make, &["Org2MSP"][..], FAILED),
        (&make, &majority, VALID),
        (&put, &majority, FAILED),
        (&put, &["Org2MSP"], VALID),
        (&both, &["Org2MSP"], FAILED),
        (&both, &["Org2MSP", "Org3MSP"], VALID),
        // The gateway finds out whose it needs.
        (&put, &[], VALID),
        (&open, &majority, FAILED),
        (&delete, &majority, FAILED),
        (&delete, &["Org2MSP"], VALID),
        (&put, &["Org2MSP"], FAILED),
        (&put, &majority, VALID),
    ] {
        assert_eq!(
            verdict(contract, &by(steps, members)).await,
            code,
            "{steps} by {members:?}"
        );
    }
    no_key_is_written_in_the_block_that_sets_its_policy(contract).await;
}

/// Though both would do for the policy that is set.
async fn no_key_is_written_in_the_block_that_sets_its_policy(contract: &Contract) {
    let members = ["Org1MSP", "Org3MSP"];
    for attempt in 0..ATTEMPTS {
        let key = format!("contested-{attempt}");
        let make = by(
            &json!([["put", key, "1"], ["put_policy", key, "Org1MSP"]]),
            &members,
        );
        let make = contract.endorse(&make).await.unwrap();
        let put = contract
            .endorse(&by(&json!([["put", key, "2"]]), &members))
            .await
            .unwrap();
        make.submit().await.unwrap();
        put.submit().await.unwrap();
        let (make, put) = (
            make.commit_status().await.unwrap(),
            put.commit_status().await.unwrap(),
        );
        assert_eq!(make.code, ValidationCode::VALID);
        if make.block == put.block {
            assert_eq!(put.code, ValidationCode::ENDORSEMENT_POLICY_FAILURE);
            return;
        }
        assert_eq!(put.code, ValidationCode::VALID, "in a later block");
    }
    panic!("never in one block");
}
