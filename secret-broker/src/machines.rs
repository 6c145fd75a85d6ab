//! The gRPC API for the cluster's machines: webhook, provisioner, spawner-hook.
//!
//! Who may call what is one table, in [`authorise`]; a method is reached only after its caller was verified and found there. The view
//! answers without the databases; only opening a volume and changes of the ledger go further.

use std::sync::Arc;
use std::time::Duration;

use axum::{Router, middleware};
use leasehold_broker_wire::machines as wire;
use leasehold_broker_wire::machines::machines_server::{Machines, MachinesServer};
use leasehold_chaincode::{Command, Finding, Lease, LeaseId, LeaseState, MountReport, Refusal};
use tonic::{Request, Response, Status};

use crate::audit::Decision;
use crate::broker::Broker;
use crate::ledger::{ReadError, Submission, SubmitError, transaction_id};
use crate::ledgers::is_served_by;
use crate::store::StoreError;

pub mod authorise;
mod bind;
mod convert;
mod open;
mod watch;

use authorise::Authorised;

/// Largest request: the skeleton of a large dataset.
const LARGEST_REQUEST: usize = 4 << 20;
const MOST_DIRECTORIES: usize = 20_000;
/// How long a question waits for a view that is behind the ledger.
const PATIENCE: Duration = Duration::from_millis(500);

/// The service behind verification and the table.
pub fn router(broker: &Arc<Broker>) -> Router {
    let service = MachinesServer::new(Service {
        broker: Arc::clone(broker),
    })
    .max_decoding_message_size(LARGEST_REQUEST);
    tonic::service::Routes::new(service)
        .into_axum_router()
        .layer(middleware::from_fn_with_state(
            Arc::clone(broker),
            authorise::layer,
        ))
}

struct Service {
    broker: Arc<Broker>,
}

fn who<T>(request: &Request<T>) -> Result<Authorised, Status> {
    // The layer puts it there; without it nobody was verified.
    request
        .extensions()
        .get::<Authorised>()
        .cloned()
        .ok_or_else(|| Status::unauthenticated("not authenticated"))
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn ledger_unavailable(error: &ReadError) -> Status {
    tracing::error!(%error, "could not read the ledger");
    Status::unavailable("the ledger cannot be read; try again in a moment")
}

fn store_unavailable(error: &StoreError) -> Status {
    tracing::error!(%error, "the key store failed");
    Status::unavailable("the key store cannot be read; try again in a moment")
}

fn not_recorded() -> Status {
    Status::unavailable(
        "the broker cannot record what it decides, and decides nothing until it can; try again in a moment",
    )
}

fn no_such_lease() -> Status {
    Status::not_found("there is no such lease of this broker's cluster")
}

impl Service {
    /// A lease that this broker's cluster serves.
    async fn lease(&self, id: &str) -> Result<Lease, Status> {
        let id = LeaseId::new(id).map_err(|_| no_such_lease())?;
        let lease = self
            .broker
            .ledger
            .lease(&id)
            .await
            .map_err(|e| ledger_unavailable(&e))?;
        let config = &self.broker.config;
        lease
            .filter(|lease| lease.id == id && is_served_by(lease, &config.organisation, &config.cluster))
            .ok_or_else(no_such_lease)
    }

    async fn tell(
        &self,
        machine: &Authorised,
        verb: &'static str,
        lease: &str,
        decision: Decision,
        reason: &str,
    ) {
        let event = machine.event(verb, lease, decision, reason).of_lease(lease);
        self.broker.audit.tell(event).await;
    }

    /// Submits a machine's report. What the ledger says already is no error: the machine may not have heard the answer.
    async fn submit(&self, machine: &Authorised, lease: &str, command: Command) -> Result<(), Status> {
        let verb = command.name();
        let tx_id = transaction_id().map_err(|e| Status::internal(e.to_string()))?;
        match self.broker.ledger.submit(Submission { tx_id, command }).await {
            Ok(_) => {
                let event = machine
                    .event(verb, lease, Decision::Allowed, "committed")
                    .of_lease(lease);
                self.broker.audit.keep(event).await.map_err(|_| not_recorded())
            }
            Err(SubmitError::Refused(
                Refusal::MountUnchanged {}
                | Refusal::LeaseNotEnding {
                    lease_state: LeaseState::Ended,
                },
            )) => Ok(()),
            Err(SubmitError::Refused(refusal)) => {
                self.tell(machine, verb, lease, Decision::Denied, refusal.code())
                    .await;
                Err(match refusal {
                    Refusal::LeaseNotFound {} | Refusal::NotCluster { .. } => no_such_lease(),
                    Refusal::InvalidField { .. } => Status::invalid_argument(refusal.to_string()),
                    _ => Status::failed_precondition(refusal.to_string()),
                })
            }
            Err(error) => {
                tracing::warn!(%error, lease, verb, "the ledger did not take a machine's report");
                Err(Status::unavailable(
                    "the ledger cannot be written; try again in a moment",
                ))
            }
        }
    }
}

#[tonic::async_trait]
impl Machines for Service {
    type WatchLeasesStream = watch::LeaseStream;

    async fn watch_leases(
        &self,
        request: Request<wire::WatchLeasesRequest>,
    ) -> Result<Response<Self::WatchLeasesStream>, Status> {
        let machine = who(&request)?;
        tracing::info!(machine = %machine.account, "lease stream opened");
        Ok(Response::new(watch::stream(&self.broker)))
    }

    async fn resolve_mounts(
        &self,
        request: Request<wire::ResolveMountsRequest>,
    ) -> Result<Response<wire::ResolveMountsResponse>, Status> {
        let heights = self.broker.ledger.heights();
        if !self.broker.view.catches_up(&heights, PATIENCE).await {
            tracing::warn!("mounts are not resolved: the lease view is behind the ledger");
            return Err(Status::unavailable(
                "the lease view is behind the ledger, so that a lease may have ended; try again in a moment",
            ));
        }
        if !self.broker.ledger.is_current() {
            tracing::warn!("mounts are not resolved: the ledger does not answer or is not what it was");
            return Err(Status::unavailable(
                "the ledger does not answer or is not what it was, so that nobody knows which leases have ended; try again in a moment",
            ));
        }
        if !self.broker.knows_bindings() {
            tracing::warn!("mounts are not resolved: nobody knows what other replicas bound or unbound");
            return Err(Status::unavailable(
                "the key store cannot be looked at, so that a binding may be another by now; try again in a moment",
            ));
        }
        let now_ms = now_ms();
        let found = self
            .broker
            .view
            .mounts_of(&request.into_inner().notebook_uid, now_ms);
        let (binding, leases) = match found {
            Some((binding, leases)) => (
                Some(convert::binding(&binding)),
                leases.iter().map(|lease| convert::lease(lease)).collect(),
            ),
            None => (None, Vec::new()),
        };
        Ok(Response::new(wire::ResolveMountsResponse {
            now_ms,
            binding,
            leases,
        }))
    }

    async fn open_volume(
        &self,
        request: Request<wire::OpenVolumeRequest>,
    ) -> Result<Response<wire::OpenVolumeResponse>, Status> {
        let machine = who(&request)?;
        let lease_id = request.into_inner().lease_id;
        let lease = match self.lease(&lease_id).await {
            Ok(lease) => lease,
            Err(refused) => {
                self.tell(&machine, "open_volume", "", Decision::Denied, "no_such_lease")
                    .await;
                return Err(refused);
            }
        };
        match open::volume(&self.broker, &lease).await {
            Ok(volume) => {
                let event = machine
                    .event(
                        "open_volume",
                        lease.dataset.as_str(),
                        Decision::Allowed,
                        "lease_active",
                    )
                    .of_lease(lease.id.as_str())
                    .opening_a_credential();
                // On disk before the credential leaves.
                self.broker.audit.keep(event).await.map_err(|_| not_recorded())?;
                self.broker
                    .metrics
                    .volumes_opened
                    .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok(Response::new(wire::OpenVolumeResponse {
                    volume: volume.expose().clone(),
                }))
            }
            Err(error) => {
                self.tell(
                    &machine,
                    "open_volume",
                    lease.id.as_str(),
                    Decision::Denied,
                    error.code(),
                )
                .await;
                Err(error.into())
            }
        }
    }

    async fn report_mount(
        &self,
        request: Request<wire::ReportMountRequest>,
    ) -> Result<Response<wire::ReportMountResponse>, Status> {
        let machine = who(&request)?;
        let report = request.into_inner();
        let lease = self.lease(&report.lease_id).await?;
        let mount = match report.mount() {
            wire::MountState::Ready => MountReport::Ready {},
            wire::MountState::Failed => MountReport::Failed {
                finding: Finding {
                    code: report.code,
                    message: report.message,
                },
            },
            wire::MountState::Unspecified | wire::MountState::Pending => {
                return Err(Status::invalid_argument("mount must be READY or FAILED"));
            }
        };
        if mount == (MountReport::Ready {}) {
            let directories = skeleton(report.skeleton)?;
            let stored = self
                .broker
                .store
                .put_skeleton(lease.dataset.as_str(), &directories)
                .await;
            stored.map_err(|e| store_unavailable(&e))?;
        }
        let command = Command::ReportMount {
            lease: lease.id.to_string(),
            report: mount,
        };
        self.submit(&machine, lease.id.as_str(), command).await?;
        Ok(Response::new(wire::ReportMountResponse {}))
    }

    async fn confirm_end(
        &self,
        request: Request<wire::ConfirmEndRequest>,
    ) -> Result<Response<wire::ConfirmEndResponse>, Status> {
        let machine = who(&request)?;
        let lease = self.lease(&request.into_inner().lease_id).await?;
        let command = Command::ConfirmEnd {
            lease: lease.id.to_string(),
        };
        self.submit(&machine, lease.id.as_str(), command).await?;
        Ok(Response::new(wire::ConfirmEndResponse {}))
    }

    async fn bind_service_accounts(
        &self,
        request: Request<wire::BindServiceAccountsRequest>,
    ) -> Result<Response<wire::BindServiceAccountsResponse>, Status> {
        let machine = who(&request)?;
        bind::bind(&self.broker, &machine, request.into_inner())
            .await
            .map(Response::new)
    }
}

/// Directories as people's homes will show them: relative, within the dataset, each once, sorted.
fn skeleton(mut directories: Vec<String>) -> Result<Vec<String>, Status> {
    let acceptable = |path: &String| {
        path.len() <= 4096
            && !path.contains('\0')
            && path
                .split('/')
                .all(|part| !part.is_empty() && part != "." && part != ".." && part.len() <= 255)
    };
    if directories.len() > MOST_DIRECTORIES || !directories.iter().all(acceptable) {
        return Err(Status::invalid_argument(format!(
            "expected at most {MOST_DIRECTORIES} relative directories without `.`, `..` and empty names"
        )));
    }
    directories.sort();
    directories.dedup();
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use super::skeleton;

    #[test]
    fn a_skeleton_never_leaves_its_dataset() {
        for path in ["/etc", "../x", "a/../b", "a//b", "", ".", "a/", "a\0b"] {
            assert!(skeleton(vec![path.to_owned()]).is_err(), "{path}");
        }
        let sorted = skeleton(vec!["b".into(), "a/c".into(), "a".into(), "a".into()]).unwrap();
        assert_eq!(sorted, ["a", "a/c", "b"]);
    }
}
