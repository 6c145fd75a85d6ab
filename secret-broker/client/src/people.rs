//! The REST client behind people's command line: one method per request, answers typed, refusals carried as the broker's
//! own problem.
//!
//! Promises: the token is read from its file at every request and goes to the broker alone (no redirect is followed);
//! every request ends within its deadline. Writes take an idempotency key, so a caller that heard no answer may send the
//! same write again.

mod error;
mod events;
mod lists;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, Method, header};
use leasehold_broker_wire::rest::{
    AmendDataset, Dataset, Lease, Me, Operation, Problem, Reason, RegisterDataset, RenewLease, RequestLease,
    Skeleton,
};
use reqwest::redirect::Policy;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use crate::files::{self, EndpointError};

pub use error::PeopleError;
pub use events::{Heard, Listening};
pub use lists::LeasesWanted;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at an operation or lease that is still under way.
const FIRST_POLL: Duration = Duration::from_millis(50);
const SLOWEST_POLL: Duration = Duration::from_secs(1);
/// Names a write, so that the broker does it once however often it is sent.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Where the broker is, whom to trust for it, and who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Such as `https://leasehold-secret-broker.leasehold-system.svc:8443`.
    pub url: String,
    /// PEM file with the broker's CA certificate; the machine's own trust store where there is none.
    pub ca_file: Option<PathBuf>,
    /// File with the person's token.
    pub token_file: PathBuf,
}

/// A cheap handle on one broker; clones share the connections.
#[derive(Debug, Clone)]
pub struct PeopleClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    endpoint: Endpoint,
    base: String,
    http: Mutex<Option<(Option<Vec<u8>>, reqwest::Client)>>,
}

/// The body of `GET /v1/skeletons`.
#[derive(serde::Deserialize)]
struct Skeletons {
    skeletons: Vec<Skeleton>,
}

impl PeopleClient {
    /// Prepares a client; nothing is read or connected yet.
    ///
    /// # Errors
    /// Where the URL is none, or would send the token in the clear.
    pub fn new(endpoint: Endpoint) -> Result<Self, EndpointError> {
        files::broker_uri(&endpoint.url)?;
        let base = endpoint.url.trim_end_matches('/').to_owned();
        Ok(Self {
            inner: Arc::new(Inner {
                endpoint,
                base,
                http: Mutex::new(None),
            }),
        })
    }

    /// Who the broker takes the caller for.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn me(&self) -> Result<Me, PeopleError> {
        self.get(&["me"]).await
    }

    /// One dataset, by id or name.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn dataset(&self, id_or_name: &str) -> Result<Dataset, PeopleError> {
        self.get(&["datasets", id_or_name]).await
    }

    /// Registers a dataset of the broker's organisation.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn register(&self, dataset: &RegisterDataset, key: &str) -> Result<Operation, PeopleError> {
        self.write(Method::POST, &["datasets"], Some(dataset), key).await
    }

    /// Changes a dataset's words or terms, by id or name.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn amend(
        &self,
        id_or_name: &str,
        change: &AmendDataset,
        key: &str,
    ) -> Result<Operation, PeopleError> {
        self.write(Method::PATCH, &["datasets", id_or_name], Some(change), key)
            .await
    }

    /// Removes a dataset, by id or name.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn remove(&self, id_or_name: &str, key: &str) -> Result<Operation, PeopleError> {
        self.write(Method::DELETE, &["datasets", id_or_name], None::<&()>, key)
            .await
    }

    /// Gives a dataset another data key, by id or name: its volume is encrypted anew.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn rotate(&self, id_or_name: &str, key: &str) -> Result<Operation, PeopleError> {
        let path = ["datasets", id_or_name, "rotation"];
        self.write(Method::POST, &path, None::<&()>, key).await
    }

    /// Asks for a lease.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn lease(&self, request: &RequestLease, key: &str) -> Result<Operation, PeopleError> {
        self.write(Method::POST, &["leases"], Some(request), key).await
    }

    /// Keeps a lease for longer.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn renew(
        &self,
        lease_id: &str,
        renewal: &RenewLease,
        key: &str,
    ) -> Result<Operation, PeopleError> {
        self.write(Method::POST, &["leases", lease_id, "renewal"], Some(renewal), key)
            .await
    }

    /// Grants a lease that was asked for, as a data steward of the dataset's owner.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn approve(&self, lease_id: &str, key: &str) -> Result<Operation, PeopleError> {
        self.write(Method::POST, &["leases", lease_id, "approval"], None::<&()>, key)
            .await
    }

    /// Refuses a lease that was asked for, as a data steward of the dataset's owner.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn deny(&self, lease_id: &str, reason: &Reason, key: &str) -> Result<Operation, PeopleError> {
        self.write(Method::POST, &["leases", lease_id, "denial"], Some(reason), key)
            .await
    }

    /// Ends somebody's lease, as a data steward of the dataset's owner.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn revoke(&self, lease_id: &str, reason: &Reason, key: &str) -> Result<Operation, PeopleError> {
        self.write(
            Method::POST,
            &["leases", lease_id, "revocation"],
            Some(reason),
            key,
        )
        .await
    }

    /// Declares that a lease has ended whose cluster does not confirm it, as a data steward of the dataset's owner.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn declare_ended(
        &self,
        lease_id: &str,
        reason: &Reason,
        key: &str,
    ) -> Result<Operation, PeopleError> {
        self.write(
            Method::POST,
            &["leases", lease_id, "declaration"],
            Some(reason),
            key,
        )
        .await
    }

    /// Gives a lease back, leaves the line, or withdraws a request.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn release(&self, lease_id: &str, key: &str) -> Result<Operation, PeopleError> {
        self.write(Method::DELETE, &["leases", lease_id], None::<&()>, key)
            .await
    }

    /// One lease.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn lease_by_id(&self, lease_id: &str) -> Result<Lease, PeopleError> {
        self.get(&["leases", lease_id]).await
    }

    /// The directories of one leased dataset.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn skeleton(&self, lease_id: &str) -> Result<Skeleton, PeopleError> {
        self.get(&["leases", lease_id, "skeleton"]).await
    }

    /// The directories of all datasets that the caller leases.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn skeletons(&self) -> Result<Vec<Skeleton>, PeopleError> {
        Ok(self.get::<Skeletons>(&["skeletons"]).await?.skeletons)
    }

    /// What became of an accepted write.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn operation(&self, id: &str) -> Result<Operation, PeopleError> {
        self.get(&["operations", id]).await
    }

    /// Waits until an operation has ended, for at most `patience`; a broker that is away meanwhile may come back. A failed
    /// operation is a refusal.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn wait_for_operation(&self, id: &str, patience: Duration) -> Result<Operation, PeopleError> {
        let what = format!("operation {id}");
        self.wait(
            what,
            format!("operation {id}"),
            patience,
            || self.operation(id),
            |operation| matches!(operation.status.as_str(), "succeeded" | "failed"),
        )
        .await
        .and_then(succeeded)
    }

    /// Waits until the cluster has said of a lease whether it can be mounted, for at most `patience`.
    ///
    /// # Errors
    /// See [`PeopleError`].
    pub async fn wait_for_mount(&self, lease_id: &str, patience: Duration) -> Result<Lease, PeopleError> {
        let what = format!("mount of lease {lease_id}");
        self.wait(
            what,
            "leases".to_owned(),
            patience,
            || self.lease_by_id(lease_id),
            |lease| lease.state != "active" || lease.mount != "pending",
        )
        .await
    }

    async fn wait<T, F: Future<Output = Result<T, PeopleError>>>(
        &self,
        what: String,
        look: String,
        patience: Duration,
        ask: impl Fn() -> F,
        done: impl Fn(&T) -> bool,
    ) -> Result<T, PeopleError> {
        let start = Instant::now();
        let mut pause = FIRST_POLL;
        loop {
            let unreachable = match ask().await {
                Ok(answer) if done(&answer) => return Ok(answer),
                Ok(_) => None,
                Err(error @ PeopleError::Unreachable { .. }) => Some(error),
                Err(error) => return Err(error),
            };
            if start.elapsed() + pause > patience {
                return Err(unreachable.unwrap_or(PeopleError::TimedOut {
                    what,
                    look,
                    waited: start.elapsed(),
                }));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(SLOWEST_POLL);
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, PeopleError> {
        self.send(Method::GET, self.url(path)?, None::<&()>, None).await
    }

    async fn write<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&impl Serialize>,
        key: &str,
    ) -> Result<T, PeopleError> {
        self.send(method, self.url(path)?, body, Some(key)).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        url: url::Url,
        body: Option<&impl Serialize>,
        key: Option<&str>,
    ) -> Result<T, PeopleError> {
        let unreachable = |error: reqwest::Error| PeopleError::Unreachable {
            url: self.inner.base.clone(),
            reason: causes(&error.without_url()),
        };
        let bearer = files::bearer(&self.inner.endpoint.token_file).await?;
        let mut request = self
            .http()
            .await?
            .request(method, url.clone())
            .header(header::AUTHORIZATION, bearer)
            .header(header::ACCEPT, "application/json, application/problem+json");
        if let Some(key) = key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let content = answer.bytes().await.map_err(unreachable)?;
        let unintelligible = |error: serde_json::Error| PeopleError::Unintelligible {
            url: url.to_string(),
            status,
            reason: error.to_string(),
        };
        if status.is_success() {
            serde_json::from_slice(&content).map_err(unintelligible)
        } else {
            Err(PeopleError::Refused(
                serde_json::from_slice(&content).map_err(unintelligible)?,
            ))
        }
    }

    /// `segments` are names that people typed: each is one segment, whatever it holds.
    fn url(&self, segments: &[&str]) -> Result<url::Url, PeopleError> {
        let unusable = || PeopleError::Unreachable {
            url: self.inner.base.clone(),
            reason: "the URL cannot carry a path".to_owned(),
        };
        let mut url: url::Url = self.inner.base.parse().map_err(|_| unusable())?;
        url.path_segments_mut()
            .map_err(|()| unusable())?
            .pop_if_empty()
            .push("v1")
            .extend(segments);
        Ok(url)
    }

    /// The HTTP client for the CA bundle that the file holds now.
    async fn http(&self) -> Result<reqwest::Client, PeopleError> {
        let pem = match &self.inner.endpoint.ca_file {
            Some(path) => Some(files::ca_pem(path).await?),
            None => None,
        };
        let mut cached = self.inner.http.lock().await;
        if let Some((trusted, http)) = cached.as_ref()
            && *trusted == pem
        {
            return Ok(http.clone());
        }
        let unusable = |reason: String| PeopleError::Tls {
            url: self.inner.base.clone(),
            reason,
        };
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("leasehold/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT);
        if self.inner.base.starts_with("http:") {
            builder = builder.no_proxy();
        }
        builder = match &pem {
            Some(pem) => builder.tls_backend_preconfigured(trusting(pem).map_err(unusable)?),
            None => {
                // The machine's trust store is read by reqwest, which takes the process's provider; a second install is
                // refused and changes nothing.
                let _ = rustls::crypto::ring::default_provider().install_default();
                builder
            }
        };
        let http = builder.build().map_err(|error| unusable(causes(&error)))?;
        *cached = Some((pem, http.clone()));
        Ok(http)
    }
}

/// A failed operation carries the problem that the write would have been answered with, had it been decided at once.
fn succeeded(operation: Operation) -> Result<Operation, PeopleError> {
    if operation.status == "succeeded" {
        return Ok(operation);
    }
    Err(PeopleError::Refused(Box::new(operation.problem.unwrap_or_else(
        || Problem {
            kind: "urn:leasehold:problem:operation_failed".to_owned(),
            title: "operation failed".to_owned(),
            status: 500,
            detail: format!(
                "operation {} ({}) failed and the broker gave no reason",
                operation.id, operation.kind
            ),
            instance: None,
            field: None,
            etag: None,
        },
    ))))
}

fn trusting(pem: &[u8]) -> Result<rustls::ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// An error with its causes; reqwest's own text stops at "error sending request".
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
