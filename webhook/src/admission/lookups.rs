//! Answers the questions of a review: Workflows, ServiceAccounts and pods live from the API server (a read without resource
//! version is a quorum read), people from the broker. Without cluster or broker, as in a benchmark, nothing is answered.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Api, DynamicObject};
use kube::{Client, ResourceExt};
use leasehold_broker_client::machines::MachinesClient;
use leasehold_broker_wire::{machines, names};

use super::before;
use crate::leases::{Binding, Lease};
use crate::review::{Fact, OwnerKind, Person, Question};
use crate::watches::{self, owner};

/// Whom to ask.
#[derive(Clone, Default)]
pub struct Lookups {
    /// The API server.
    pub cluster: Option<Client>,
    /// The organisation's own broker.
    pub broker: Option<MachinesClient>,
}

impl std::fmt::Debug for Lookups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookups")
            .field("cluster", &self.cluster.is_some())
            .field("broker", &self.broker.is_some())
            .finish()
    }
}

impl Lookups {
    /// The answer, or why there is none before `deadline`.
    pub(super) async fn ask(&self, question: &Question, deadline: Instant) -> Fact {
        match before(deadline, self.ask_whom_it_concerns(question, deadline)).await {
            Some(Ok(fact)) => fact,
            Some(Err(why)) => Fact::Unanswered(why),
            None => Fact::Unanswered("no answer in time".into()),
        }
    }

    async fn ask_whom_it_concerns(&self, question: &Question, deadline: Instant) -> Result<Fact, String> {
        if let Question::Person { uid } = question {
            let broker = self.broker.as_ref().ok_or("no broker is configured")?;
            let remaining = deadline.saturating_duration_since(Instant::now());
            let answer = broker.resolve_mounts(uid, remaining).await.map_err(|status| {
                // The status' message may hold addresses; its code is enough for a user.
                tracing::warn!(%status, "the broker did not resolve mounts");
                format!("the broker answered {:?}", status.code())
            })?;
            return person(answer);
        }
        let cluster = self.cluster.clone().ok_or("no cluster is configured")?;
        match question {
            Question::Owner {
                kind,
                namespace,
                name,
            } => {
                let resource = match kind {
                    OwnerKind::Workflow => watches::workflows(),
                    OwnerKind::CronWorkflow => watches::cron_workflows(),
                };
                let api: Api<DynamicObject> = Api::namespaced_with(cluster, namespace, &resource);
                let found = api.get_metadata_opt(name).await.map_err(failed)?;
                Ok(Fact::Owner(
                    found.and_then(|found| owner(&found.metadata)).map(Arc::new),
                ))
            }
            Question::Account { namespace, name } => {
                let api: Api<ServiceAccount> = Api::namespaced(cluster, namespace);
                let found = api.get_metadata_opt(name).await.map_err(failed)?;
                Ok(Fact::Account(found.and_then(|found| found.uid())))
            }
            Question::Pod { namespace, name } => {
                let api: Api<Pod> = Api::namespaced(cluster, namespace);
                let found = api.get_opt(name).await.map_err(failed)?;
                Ok(Fact::Pod(found.map(|pod| mounts_a_claim(&pod))))
            }
            Question::Person { .. } => Err("a person is asked of the broker".into()),
        }
    }
}

fn failed(error: kube::Error) -> String {
    tracing::warn!(%error, "the API server did not answer a look-up");
    match error {
        kube::Error::Api(status) => format!("it answered {}", status.code),
        _ => "it cannot be reached".into(),
    }
}

fn mounts_a_claim(pod: &Pod) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    pod.labels().contains_key(names::DATASET_POD_LABEL)
        || volumes.into_iter().flatten().any(|volume| {
            volume
                .persistent_volume_claim
                .as_ref()
                .is_some_and(|claim| claim.claim_name.starts_with(names::CLAIM_PREFIX))
        })
}

fn person(answer: machines::ResolveMountsResponse) -> Result<Fact, String> {
    let Some(binding) = answer.binding else {
        return Ok(Fact::Person(None));
    };
    let not_understood = |error| {
        tracing::error!(%error, "the broker's answer was not understood");
        "the broker's answer was not understood".to_owned()
    };
    let binding = Arc::new(Binding::try_from(binding).map_err(not_understood)?);
    let mut leases: Vec<Arc<Lease>> = Vec::with_capacity(answer.leases.len());
    for lease in answer.leases {
        let lease = Lease::try_from(lease).map_err(not_understood)?;
        if lease.subject != binding.subject {
            return Err("the broker answered with somebody else's lease".into());
        }
        leases.push(Arc::new(lease));
    }
    leases.sort_by(|a, b| (&a.dataset_name, a.fencing_token).cmp(&(&b.dataset_name, b.fencing_token)));
    Ok(Fact::Person(Some(Person {
        binding,
        leases,
        broker_now_ms: answer.now_ms,
    })))
}
