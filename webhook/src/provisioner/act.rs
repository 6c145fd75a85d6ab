//! Executes one step of a plan. Each is idempotent: what is already there and ours counts as made, what is gone as deleted.
//! Before every write leadership is checked.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use kube::api::{Api, DeleteParams, ListParams, LogParams, PostParams, Preconditions};
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::{Client, Resource, ResourceExt};
use leasehold_broker_client::machines::MachinesClient;
use leasehold_broker_wire::machines::{MountState, ReportMountRequest};
use leasehold_broker_wire::names::LEASE_LABEL;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::election::Term;
use super::ending::PodEnder;
use super::plan::Action;
use super::shapes::{self, PLACE_ANNOTATION, ProbeImage, probe_name};
use super::volume::{self, LocalRoots, LocalVolume, Volume};
use crate::leases::{Lease, LeaseId, Mount};
use crate::probe::{Code, Finding, Report};

/// Longest output of a probe that is read; a full skeleton takes at most a little more than half of it.
const LONGEST_OUTPUT: i64 = 4 << 20;

/// A step failed; it is tried again later.
#[derive(Debug, thiserror::Error)]
pub(super) enum ActError {
    #[error("cannot {what}: {}", in_words(source))]
    Kube { what: &'static str, source: kube::Error },
    #[error("the broker did not {what}: {} ({:?})", source.message(), source.code())]
    Broker {
        what: &'static str,
        source: tonic::Status,
    },
    #[error("cannot make the {kind} {name}: one that is not this lease's stands in its place; remove it")]
    Foreign { kind: String, name: String },
    #[error("cannot write the object: {0}")]
    Shape(#[from] serde_json::Error),
    #[error("this replica leads no more")]
    NotLeading,
    #[error("the step needs a lease that the broker's view does not hold")]
    NoLease,
    #[error("something of the lease is still in the cluster")]
    NotGone,
    #[error("it took too long")]
    TooSlow,
}

/// kube prints the whole status twice; its message is enough.
fn in_words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}

/// What came of a step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// On with the next one.
    Done,
    /// The probe's output, to be remembered.
    Read(Result<Vec<String>, Finding>),
    /// The volume can't be mounted now; look again after a while.
    LookAgainLater,
}

/// Access to the cluster and to the broker, for one term of leadership.
#[derive(Clone)]
pub(super) struct Executor {
    pub(super) client: Client,
    pub(super) broker: MachinesClient,
    pub(super) term: Term,
    pub(super) roots: LocalRoots,
    pub(super) probe: ProbeImage,
    pub(super) ender: Arc<PodEnder>,
}

impl Executor {
    /// Takes one step for a lease. `skeleton` is what its probe found.
    pub(super) async fn take(
        &self,
        id: LeaseId,
        lease: Option<&Lease>,
        action: &Action,
        skeleton: &[String],
    ) -> Result<Outcome, ActError> {
        if !self.term.holds() {
            return Err(ActError::NotLeading);
        }
        let known = lease.ok_or(ActError::NoLease);
        match action {
            Action::StartProbe => return self.start_probe(known?).await,
            Action::ReadProbe => return self.read_probe(id).await.map(Outcome::Read),
            Action::ReportFailed(finding) => return self.report_failed(known?, finding).await,
            Action::LookAgainLater => return Ok(Outcome::LookAgainLater),
            Action::CreateSecret => return self.create_secret(known?).await,
            Action::CreateVolume { namespace, claim_uid } => {
                return self.create_volume(known?, namespace, claim_uid).await;
            }
            Action::CreateClaim { namespace } => {
                self.create(
                    &Api::namespaced(self.client.clone(), namespace),
                    &shapes::claim(id, namespace)?,
                    id,
                )
                .await?;
            }
            Action::ReportReady => self.report(id, MountState::Ready, None, skeleton).await?,
            Action::DropProbe { uid } => {
                self.delete(
                    &self.in_system::<Pod>(),
                    &probe_name(id),
                    uid,
                    Some(0),
                    "delete the probe pod",
                )
                .await?;
            }
            Action::EndPods { known, namespaces } => {
                self.ender.end(known).await?;
                self.ender.search(&id.claim_name(), namespaces).await?;
            }
            Action::DeleteClaim { namespace, uid } => {
                let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
                self.delete(&api, &id.claim_name(), uid, None, "delete the claim")
                    .await?;
            }
            Action::DeleteVolume { uid } => {
                let api: Api<PersistentVolume> = Api::all(self.client.clone());
                self.delete(&api, &id.claim_name(), uid, None, "delete the volume")
                    .await?;
            }
            Action::DeleteSecret { uid } => {
                let api = self.in_system::<Secret>();
                self.delete(&api, &id.claim_name(), uid, None, "delete the volume's Secret")
                    .await?;
            }
            Action::ConfirmEnd => {
                self.nothing_is_left(id).await?;
                let confirmed = self.broker.confirm_end(&id.to_string()).await;
                confirmed.map_err(|source| ActError::Broker {
                    what: "take the end of the lease",
                    source,
                })?;
            }
        }
        Ok(Outcome::Done)
    }

    async fn start_probe(&self, lease: &Lease) -> Result<Outcome, ActError> {
        match self.open(lease).await? {
            Ok((volume, _)) => {
                let pod = shapes::probe_pod(lease.id, &volume, &self.probe)?;
                self.create(&self.in_system::<Pod>(), &pod, lease.id).await?;
                Ok(Outcome::Done)
            }
            Err(finding) => self.report_failed(lease, &finding).await,
        }
    }

    async fn create_secret(&self, lease: &Lease) -> Result<Outcome, ActError> {
        match self.open(lease).await? {
            Ok((volume, _)) => {
                let name = probe_name(lease.id);
                let pods = self.in_system::<Pod>();
                if !self
                    .is_of_place(&pods, &name, &volume, "drop an outdated probe")
                    .await?
                {
                    return Ok(Outcome::Done);
                }
                let secret = shapes::secret(lease.id, &volume, &self.probe.namespace)?;
                self.create(&self.in_system::<Secret>(), &secret, lease.id)
                    .await?;
                Ok(Outcome::Done)
            }
            Err(finding) => self.report_failed(lease, &finding).await,
        }
    }

    async fn create_volume(
        &self,
        lease: &Lease,
        namespace: &str,
        claim_uid: &str,
    ) -> Result<Outcome, ActError> {
        match self.open(lease).await? {
            Ok((volume, hostname)) => {
                let name = lease.id.claim_name();
                let secrets = self.in_system::<Secret>();
                if !self
                    .is_of_place(&secrets, &name, &volume, "delete an outdated Secret")
                    .await?
                {
                    return Ok(Outcome::Done);
                }
                let volume = shapes::persistent_volume(lease.id, &volume, &hostname, namespace, claim_uid)?;
                self.create(&Api::all(self.client.clone()), &volume, lease.id)
                    .await?;
                Ok(Outcome::Done)
            }
            Err(finding) => self.report_failed(lease, &finding).await,
        }
    }

    /// Whether what an earlier step made is of the place that the volume's details name now. Each step opens them anew, and
    /// the owner's broker may say something else each time: what is not of that place is removed, and everything starts over
    /// with a new probe.
    async fn is_of_place<K>(
        &self,
        api: &Api<K>,
        name: &str,
        volume: &LocalVolume,
        what: &'static str,
    ) -> Result<bool, ActError>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        let made = api.get_metadata_opt(name).await;
        let made = made.map_err(|source| ActError::Kube {
            what: "look at what an earlier step made",
            source,
        })?;
        let Some(made) = made else { return Ok(false) };
        let annotations = made.metadata.annotations.unwrap_or_default();
        if annotations.get(PLACE_ANNOTATION) == Some(&volume.place_digest()) {
            return Ok(true);
        }
        tracing::warn!(
            name,
            "the volume's details name another place than was looked at; it is looked at again"
        );
        let uid = made.metadata.uid.unwrap_or_default();
        self.delete(api, name, &uid, Some(0), what).await?;
        Ok(false)
    }

    /// The volume's details, checked, with the `kubernetes.io/hostname` of its node; or why they can't be used.
    async fn open(&self, lease: &Lease) -> Result<Result<(LocalVolume, String), Finding>, ActError> {
        let opened = self.broker.open_volume(&lease.id.to_string()).await;
        let details = opened.map_err(|source| ActError::Broker {
            what: "open the volume",
            source,
        })?;
        let details = Zeroizing::new(details);
        let Volume::Local(volume) = match volume::parse(&details, &lease.owner, &self.roots) {
            Ok(volume) => volume,
            Err(finding) => return Ok(Err(finding)),
        };
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = nodes.get_opt(&volume.node).await;
        let Some(node) = node.map_err(|source| ActError::Kube {
            what: "look for the volume's node",
            source,
        })?
        else {
            return Ok(Err(Finding::new(
                Code::NodeUnknown,
                "the node that the dataset's volume names is not one of this cluster; register the dataset again with a node that is",
            )));
        };
        let hostname = node.labels().get("kubernetes.io/hostname").cloned();
        Ok(Ok((volume, hostname.unwrap_or_else(|| node.name_any()))))
    }

    async fn read_probe(&self, id: LeaseId) -> Result<Result<Vec<String>, Finding>, ActError> {
        let params = LogParams {
            limit_bytes: Some(LONGEST_OUTPUT),
            ..LogParams::default()
        };
        match self.in_system::<Pod>().logs(&probe_name(id), &params).await {
            Ok(output) => Ok(Report::parse(&output)),
            // No container ran, or the node has thrown its output away: there will be none.
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 404) => Ok(Report::parse("")),
            Err(source) => Err(ActError::Kube {
                what: "read the probe's output",
                source,
            }),
        }
    }

    async fn report_failed(&self, lease: &Lease, finding: &Finding) -> Result<Outcome, ActError> {
        if !matches!(&lease.mount, Mount::Failed(message) if **message == *finding.message) {
            tracing::warn!(lease = %lease.id, code = finding.code.as_str(), finding = %finding.message, "the volume cannot be mounted");
            self.report(lease.id, MountState::Failed, Some(finding), &[])
                .await?;
        }
        Ok(Outcome::LookAgainLater)
    }

    async fn report(
        &self,
        id: LeaseId,
        mount: MountState,
        finding: Option<&Finding>,
        skeleton: &[String],
    ) -> Result<(), ActError> {
        let report = ReportMountRequest {
            lease_id: id.to_string(),
            mount: mount.into(),
            code: finding.map_or_else(String::new, |finding| finding.code.as_str().to_owned()),
            message: finding.map_or_else(String::new, |finding| finding.message.clone()),
            skeleton: skeleton.to_vec(),
        };
        let reported = self.broker.report_mount(report).await;
        reported.map_err(|source| ActError::Broker {
            what: "take the mount's state",
            source,
        })
    }

    /// Looks once more, past all views, before the broker is told.
    async fn nothing_is_left(&self, id: LeaseId) -> Result<(), ActError> {
        let asked = |source| ActError::Kube {
            what: "look whether anything of the lease is left",
            source,
        };
        let name = id.claim_name();
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let secrets: Api<PartialObjectMeta<Secret>> =
            Api::namespaced(self.client.clone(), &self.probe.namespace);
        let claims: Api<PartialObjectMeta<PersistentVolumeClaim>> = Api::all(self.client.clone());
        let of_lease = ListParams::default().labels(&format!("{LEASE_LABEL}={id}"));
        let volume = volumes.get_opt(&name).await.map_err(asked)?;
        let secret = secrets.get_opt(&name).await.map_err(asked)?;
        let probe = self
            .in_system::<Pod>()
            .get_opt(&probe_name(id))
            .await
            .map_err(asked)?;
        let claims = claims.list(&of_lease).await.map_err(asked)?;
        let claimed = claims.items.iter().any(|claim| claim.name_any() == name);
        if volume.is_some() || secret.is_some() || probe.is_some() || claimed {
            return Err(ActError::NotGone);
        }
        Ok(())
    }

    fn in_system<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.probe.namespace)
    }

    async fn create<K>(&self, api: &Api<K>, object: &K, lease: LeaseId) -> Result<(), ActError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let kind = K::kind(&()).into_owned();
        let name = object.name_any();
        match api.create(&PostParams::default(), object).await {
            Ok(_) => {
                tracing::info!(%lease, kind, name, "made");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let found = api.get_opt(&name).await;
                let found = found.map_err(|source| ActError::Kube {
                    what: "look at an object",
                    source,
                })?;
                let ours = found
                    .as_ref()
                    .is_none_or(|found| found.labels().get(LEASE_LABEL) == Some(&lease.to_string()));
                if ours {
                    Ok(())
                } else {
                    Err(ActError::Foreign { kind, name })
                }
            }
            Err(source) => Err(ActError::Kube {
                what: "make an object",
                source,
            }),
        }
    }

    /// Deletes the object of this uid and no other; that it is gone already is no error.
    async fn delete<K>(
        &self,
        api: &Api<K>,
        name: &str,
        uid: &str,
        grace_seconds: Option<u32>,
        what: &'static str,
    ) -> Result<(), ActError>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        if !self.term.holds() {
            return Err(ActError::NotLeading);
        }
        let params = DeleteParams {
            grace_period_seconds: grace_seconds,
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match api.delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(source) => Err(ActError::Kube { what, source }),
        }
    }
}
