//! The gRPC client of webhook, provisioner and spawner-hook.
//!
//! Promises: nothing is connected before the first call; the token file is read at every call and the CA file too, so that
//! both may be mounted late or rotate; every call ends within its deadline, and a lease stream that falls silent ends with
//! an error. Reconnecting a stream is the caller's, since it begins with a new snapshot.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use http::Uri;
use leasehold_broker_wire::machines as wire;
use leasehold_broker_wire::machines::machines_client::MachinesClient as Generated;
use tokio::sync::Mutex;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use crate::files::{self, EndpointError, FileError};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long any call but [`MachinesClient::resolve_mounts`] may take, connecting included.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// An idle connection is asked this often whether it still lives …
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(5);
/// … and given this long to say so.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// The broker sends a heartbeat every 500 ms; a stream silent for longer than this is broken.
const STREAM_SILENCE: Duration = Duration::from_secs(5);
/// Skeletons of large datasets are the largest messages.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Where the broker is, whom to trust for it, and who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Such as `https://leasehold-secret-broker.leasehold-system.svc:9443`; its host is the expected server name.
    pub url: String,
    /// PEM file with the broker's CA certificate.
    pub ca_file: PathBuf,
    /// File with this machine's ServiceAccount token, audience `leasehold-broker`.
    pub token_file: PathBuf,
}

/// The changes of the broker's view: a snapshot, one bookmark, then changes and heartbeats. Ends after its first error.
pub type LeaseStream = BoxStream<'static, Result<wire::WatchLeasesResponse, Status>>;

/// A cheap handle on one broker; clones share the connection.
#[derive(Debug, Clone)]
pub struct MachinesClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    endpoint: Endpoint,
    uri: Uri,
    /// The channel with the CA bundle that it was made with.
    channel: Mutex<Option<(Vec<u8>, Channel)>>,
}

impl MachinesClient {
    /// Prepares a client; nothing is read or connected yet.
    ///
    /// # Errors
    /// Where the URL is none, or would send the token in the clear.
    pub fn new(endpoint: Endpoint) -> Result<Self, EndpointError> {
        let uri = files::broker_uri(&endpoint.url)?;
        Ok(Self {
            inner: Arc::new(Inner {
                endpoint,
                uri,
                channel: Mutex::new(None),
            }),
        })
    }

    /// Follows the broker's leases and bindings. The stream starts with a snapshot, up to a bookmark. It ends with the
    /// first error, silence of more than 5 s among them; then call this again and replace the view by the new snapshot.
    #[must_use]
    pub fn watch_leases(&self) -> LeaseStream {
        let client = self.clone();
        stream::try_unfold(None, move |open: Option<Streaming<wire::WatchLeasesResponse>>| {
            let client = client.clone();
            async move {
                let mut open = match open {
                    Some(open) => open,
                    None => client.open_watch().await?,
                };
                let next = tokio::time::timeout(STREAM_SILENCE, open.message())
                    .await
                    .map_err(|_| {
                        Status::unavailable(format!(
                            "the broker's lease stream was silent for {} s",
                            STREAM_SILENCE.as_secs()
                        ))
                    })?;
                match next? {
                    Some(change) => Ok(Some((change, Some(open)))),
                    None => Err(Status::unavailable("the broker closed its lease stream")),
                }
            }
        })
        .boxed()
    }

    async fn open_watch(&self) -> Result<Streaming<wire::WatchLeasesResponse>, Status> {
        // No `grpc-timeout` here: it would bound the stream, not its opening.
        within(CALL_DEADLINE, async {
            let request = self.authorized(wire::WatchLeasesRequest {}).await?;
            self.stub().await?.watch_leases(request).await
        })
        .await
    }

    /// The binding of one notebook ServiceAccount, by uid, and the active leases of its subject. Takes at most `deadline`.
    ///
    /// # Errors
    /// The broker's status; `UNAVAILABLE` or `DEADLINE_EXCEEDED` where it does not answer.
    pub async fn resolve_mounts(
        &self,
        notebook_uid: &str,
        deadline: Duration,
    ) -> Result<wire::ResolveMountsResponse, Status> {
        let message = wire::ResolveMountsRequest {
            notebook_uid: notebook_uid.to_owned(),
        };
        within(deadline, async {
            let mut request = self.authorized(message).await?;
            request.set_timeout(deadline);
            self.stub().await?.resolve_mounts(request).await
        })
        .await
    }

    /// The decrypted volume details of an active lease, JSON. They are secret: keep them out of logs and of any `Debug`.
    ///
    /// # Errors
    /// The broker's status; `UNAVAILABLE` or `DEADLINE_EXCEEDED` where it does not answer within 10 s.
    pub async fn open_volume(&self, lease_id: &str) -> Result<Vec<u8>, Status> {
        let message = wire::OpenVolumeRequest {
            lease_id: lease_id.to_owned(),
        };
        let answer = within(CALL_DEADLINE, async {
            let request = self.call(message).await?;
            self.stub().await?.open_volume(request).await
        })
        .await?;
        Ok(answer.volume)
    }

    /// Tells what the node said of a lease's volume.
    ///
    /// # Errors
    /// The broker's status; `UNAVAILABLE` or `DEADLINE_EXCEEDED` where it does not answer within 10 s.
    pub async fn report_mount(&self, report: wire::ReportMountRequest) -> Result<(), Status> {
        within(CALL_DEADLINE, async {
            let request = self.call(report).await?;
            self.stub().await?.report_mount(request).await
        })
        .await
        .map(drop)
    }

    /// Confirms that nothing of an ending lease is left in the cluster.
    ///
    /// # Errors
    /// The broker's status; `UNAVAILABLE` or `DEADLINE_EXCEEDED` where it does not answer within 10 s.
    pub async fn confirm_end(&self, lease_id: &str) -> Result<(), Status> {
        let message = wire::ConfirmEndRequest {
            lease_id: lease_id.to_owned(),
        };
        within(CALL_DEADLINE, async {
            let request = self.call(message).await?;
            self.stub().await?.confirm_end(request).await
        })
        .await
        .map(drop)
    }

    /// Binds a person to the uids of both ServiceAccounts; answers with the person's pseudonym and skeletons.
    ///
    /// # Errors
    /// The broker's status; `UNAVAILABLE` or `DEADLINE_EXCEEDED` where it does not answer within 10 s.
    pub async fn bind_service_accounts(
        &self,
        binding: wire::BindServiceAccountsRequest,
    ) -> Result<wire::BindServiceAccountsResponse, Status> {
        within(CALL_DEADLINE, async {
            let request = self.call(binding).await?;
            self.stub().await?.bind_service_accounts(request).await
        })
        .await
    }

    async fn call<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = self.authorized(message).await?;
        request.set_timeout(CALL_DEADLINE);
        Ok(request)
    }

    async fn authorized<T>(&self, message: T) -> Result<Request<T>, Status> {
        let bearer = files::bearer(&self.inner.endpoint.token_file)
            .await
            .map_err(not_ready)?;
        let mut value = MetadataValue::try_from(bearer.as_bytes())
            .map_err(|_| Status::internal("a token that is no header value was not refused"))?;
        value.set_sensitive(true);
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }

    async fn stub(&self) -> Result<Generated<Channel>, Status> {
        Ok(Generated::new(self.channel().await?).max_decoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// The channel for the CA bundle that the file holds now.
    async fn channel(&self) -> Result<Channel, Status> {
        let encrypted = self.inner.uri.scheme_str() == Some("https");
        let pem = if encrypted {
            files::ca_pem(&self.inner.endpoint.ca_file)
                .await
                .map_err(not_ready)?
        } else {
            Vec::new()
        };
        let mut cached = self.inner.channel.lock().await;
        if let Some((trusted, channel)) = cached.as_ref()
            && *trusted == pem
        {
            return Ok(channel.clone());
        }
        let mut endpoint = Channel::builder(self.inner.uri.clone())
            .user_agent(concat!("leasehold/", env!("CARGO_PKG_VERSION")))
            .and_then(|endpoint| {
                if !encrypted {
                    return Ok(endpoint);
                }
                let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&pem));
                endpoint.tls_config(tls)
            })
            .map_err(|error| {
                Status::unavailable(format!("cannot use the broker's CA certificate: {error}"))
            })?;
        endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let channel = endpoint.connect_lazy();
        *cached = Some((pem, channel.clone()));
        Ok(channel)
    }
}

/// A missing file may appear by waiting, as a broker may.
fn not_ready(error: FileError) -> Status {
    Status::unavailable(error.to_string())
}

async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "the broker did not answer within {deadline:?}"
        ))),
    }
}
