//! Binding a person to the uids of their two ServiceAccounts, as the spawner-hook asks at each spawn.
//!
//! The person is who the given token says; without one the hub vouches, and then only for subjects of its own issuer.

use leasehold_broker_wire::machines as wire;
use leasehold_chaincode::LeaseState;
use tonic::Status;

use super::authorise::Authorised;
use super::{ledger_unavailable, not_recorded, now_ms, store_unavailable};
use crate::audit::{Decision, Event};
use crate::broker::Broker;
use crate::identity::{Purpose, Standing, Subject};
use crate::store::people::{Account, Binding, Bound, Home, Person};

pub(super) async fn bind(
    broker: &Broker,
    machine: &Authorised,
    request: wire::BindServiceAccountsRequest,
) -> Result<wire::BindServiceAccountsResponse, Status> {
    let (person, standing) = person(broker, machine, &request).await?;
    let binding = binding(&person, request)?;
    let uid = binding.notebook.uid.clone();
    let told_by = if standing.is_some() {
        "by_id_token"
    } else {
        "vouched_by_hub"
    };
    let replaced = {
        let _in_order = broker.binding.lock().await;
        // On disk before it counts: from then on the account is that person.
        let event = machine
            .event("bind", &uid, Decision::Allowed, told_by)
            .about(&person.pseudonym);
        broker.audit.keep(event).await.map_err(|_| not_recorded())?;
        let bound = broker
            .store
            .bind(&person, &binding)
            .await
            .map_err(|e| store_unavailable(&e))?;
        let Bound::Done { replaced } = bound else {
            broker
                .audit
                .tell(machine.event("bind", &uid, Decision::Denied, "uid_bound_to_another"))
                .await;
            return Err(Status::already_exists(
                "one of the ServiceAccounts is bound to another person or namespace; delete it, so that a new one is made",
            ));
        };
        if let Some(standing) = &standing {
            broker
                .store
                .put_standing(&person.pseudonym, standing)
                .await
                .map_err(|e| store_unavailable(&e))?;
        }
        broker.view.bound(binding, &replaced);
        replaced
    };
    if !replaced.is_empty() {
        tracing::info!(subject = %person.pseudonym, count = replaced.len(), "earlier ServiceAccounts of the person act for nobody now");
    }
    let skeletons = skeletons(broker, &uid).await?;
    Ok(wire::BindServiceAccountsResponse {
        subject: person.pseudonym,
        skeletons,
    })
}

/// The person, and what their issuer says of their standing where it was asked.
async fn person(
    broker: &Broker,
    machine: &Authorised,
    request: &wire::BindServiceAccountsRequest,
) -> Result<(Person, Option<Standing>), Status> {
    let username = &request.username;
    if username.is_empty() || username.len() > 512 || username.chars().any(char::is_control) {
        return Err(Status::invalid_argument(
            "username: expected 1 to 512 bytes without control characters",
        ));
    }
    let (subject, standing) = if request.id_token.is_empty() {
        let subject = Subject {
            issuer: broker.config.identity.hub_issuer.clone(),
            sub: username.clone(),
        };
        (subject, None)
    } else {
        match broker.issuers.verify(&request.id_token, Purpose::People).await {
            // A ServiceAccount is no person, and must not become one by being bound.
            Ok(verified) if verified.account.is_some() => {
                return Err(Status::invalid_argument(
                    "id_token: it belongs to a ServiceAccount, not to a person",
                ));
            }
            Ok(verified) => (verified.subject, Some(verified.standing)),
            Err(reason) if reason.is_no_verdict() => {
                return Err(Status::unavailable(
                    "the id_token's issuer cannot be reached; try again in a moment",
                ));
            }
            Err(reason) => {
                let reason = reason.to_string();
                let event = Event::new(
                    "",
                    "authenticate",
                    "id_token",
                    Decision::Denied,
                    reason,
                    &machine.origin,
                );
                broker.audit.tell(event).await;
                return Err(Status::invalid_argument(
                    "id_token: it was not accepted; have the person log in again",
                ));
            }
        }
    };
    let person = Person {
        pseudonym: broker.ring.pseudonym(&subject),
        subject,
        username: Some(username.clone()),
    };
    Ok((person, standing))
}

fn binding(person: &Person, request: wire::BindServiceAccountsRequest) -> Result<Binding, Status> {
    let missing = |what: &str| Status::invalid_argument(format!("{what} is missing"));
    let notebook = request.notebook.ok_or_else(|| missing("notebook"))?;
    let executor = request.executor.ok_or_else(|| missing("executor"))?;
    let home = request.home.ok_or_else(|| missing("home"))?;
    if notebook.namespace != executor.namespace {
        return Err(Status::invalid_argument(
            "both ServiceAccounts must be in one namespace",
        ));
    }
    if notebook.uid == executor.uid {
        return Err(Status::invalid_argument(
            "notebook and executor must be two ServiceAccounts",
        ));
    }
    for (what, text) in [
        ("notebook.namespace", &notebook.namespace),
        ("notebook.name", &notebook.name),
        ("notebook.uid", &notebook.uid),
        ("executor.name", &executor.name),
        ("executor.uid", &executor.uid),
        ("home.claim", &home.claim),
    ] {
        if text.is_empty() || text.len() > 253 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Status::invalid_argument(format!(
                "{what}: expected 1 to 253 visible characters"
            )));
        }
    }
    if !home.mount_path.starts_with('/') || home.mount_path.len() > 4096 || home.sub_path.len() > 4096 {
        return Err(Status::invalid_argument(
            "home: expected an absolute mount_path, and paths of at most 4096 bytes",
        ));
    }
    Ok(Binding {
        pseudonym: person.pseudonym.clone(),
        namespace: notebook.namespace,
        notebook: Account {
            name: notebook.name,
            uid: notebook.uid,
        },
        executor: Account {
            name: executor.name,
            uid: executor.uid,
        },
        home: Home {
            claim: home.claim,
            sub_path: home.sub_path,
            mount_path: home.mount_path,
        },
    })
}

async fn skeletons(broker: &Broker, notebook_uid: &str) -> Result<Vec<wire::Skeleton>, Status> {
    let leases = broker
        .view
        .mounts_of(notebook_uid, now_ms())
        .map(|(_, leases)| leases)
        .unwrap_or_default();
    let mut skeletons = Vec::with_capacity(leases.len());
    for lease in leases {
        // The view may be a block behind; names are for holders of active leases only.
        let current = broker
            .ledger
            .lease(&lease.id)
            .await
            .map_err(|e| ledger_unavailable(&e))?;
        if current.is_none_or(|lease| lease.state != LeaseState::Active) {
            continue;
        }
        let directories = broker
            .store
            .skeleton(lease.dataset.as_str())
            .await
            .map_err(|e| store_unavailable(&e))?;
        skeletons.push(wire::Skeleton {
            dataset_name: lease.dataset_name.to_string(),
            directories,
        });
    }
    Ok(skeletons)
}
