//! Leases that their dataset's owner has to approve, between two organisations.

use serde_json::{Value, json};

use crate::consortium::{Consortium, Terms};
use crate::fixture::{Fixture, eventually, registration};

/// What becomes of a steward's decision.
async fn decide(broker: &Fixture, lease: &str, decision: &str, body: Option<Value>) -> Value {
    let steward = broker.person("steward");
    let path = format!("/v1/leases/{lease}/{decision}");
    let accepted = broker.call("POST", &path, &steward, body).await;
    broker.decided(&accepted, &steward).await
}

/// Waits until a broker shows a lease in a state.
async fn shown(broker: &Fixture, lease: &str, token: &str, state: &str) -> Value {
    let path = format!("/v1/leases/{lease}");
    eventually(&format!("the lease to be {state}"), async || {
        let shown = broker.call("GET", &path, token, None).await.body;
        (shown["state"] == state).then_some(shown)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_the_owner_has_to_approve_is_granted_or_denied_by_its_stewards_alone() {
    let consortium = Consortium::start(Terms::default()).await;
    let uis = consortium.broker("UiSMSP", &[0, 1]).await;
    let uio = consortium.broker("UiOMSP", &[1, 0]).await;
    let steward = uis.person("steward");
    let mut dataset = registration("texts");
    dataset["policy"] = json!({"approve_leases": true});
    let accepted = uis.call("POST", "/v1/datasets", &steward, Some(dataset)).await;
    assert_eq!(uis.decided(&accepted, &steward).await["status"], "succeeded");
    let alice = uio.person("alice");
    eventually("the other organisation to see the dataset", async || {
        let shown = uio.call("GET", "/v1/datasets/texts", &alice, None).await;
        (shown.status == 200).then_some(())
    })
    .await;

    let first = uio.lease("texts", &alice).await;
    shown(&uio, &first, &alice, "requested").await;
    let asked = shown(&uis, &first, &steward, "requested").await;
    assert_eq!(
        (&asked["organisation"], &asked["yours"]),
        (&json!("UiOMSP"), &json!(false)),
        "a steward sees whose word a pseudonym is"
    );
    // Neither the holder's stewards nor the owner's researchers decide.
    let path = format!("/v1/leases/{first}/approval");
    let own = uio.call("POST", &path, &uio.person("steward"), None).await;
    assert_eq!(own.status, 404, "{}", own.body);
    let researcher = uis.call("POST", &path, &uis.person("bob"), None).await;
    assert_eq!((researcher.status, researcher.code()), (403, "forbidden"));

    let denied = decide(
        &uis,
        &first,
        "denial",
        Some(json!({"reason": "no agreement yet"})),
    )
    .await;
    assert_eq!(denied["status"], "succeeded", "{denied}");
    let over = shown(&uio, &first, &alice, "ended").await;
    assert_eq!(
        (&over["end_cause"], &over["end_reason"]),
        (&json!("denied"), &json!("no agreement yet"))
    );

    let second = uio.lease("texts", &alice).await;
    shown(&uis, &second, &steward, "requested").await;
    let approved = decide(&uis, &second, "approval", None).await;
    assert_eq!(approved["status"], "succeeded", "{approved}");
    let granted = shown(&uio, &second, &alice, "active").await;
    assert_eq!(granted["fencing_token"], 1);
    let again = decide(&uis, &second, "approval", None).await;
    assert_eq!(
        again["problem"]["type"],
        "urn:leasehold:problem:lease_not_requested"
    );

    let revoked = decide(&uis, &second, "revocation", Some(json!({"reason": "misuse"}))).await;
    assert_eq!(revoked["status"], "succeeded", "{revoked}");
    let ending = shown(&uio, &second, &alice, "ending").await;
    assert_eq!(ending["end_reason"], "misuse");
}
