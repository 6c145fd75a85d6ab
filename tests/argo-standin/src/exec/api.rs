//! Just enough of a client to report a result: two verbs on `workflowtaskresults`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, thread};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Request, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::{Failure, variable};
use crate::names;

const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const DEADLINE: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 5;

/// The API server, as the pod's ServiceAccount may use it.
pub(super) struct Api {
    agent: Agent,
    results: String,
}

impl Api {
    /// From what kubelet put into the container.
    pub(super) fn of_this_pod() -> Result<Self, Failure> {
        let host = variable("KUBERNETES_SERVICE_HOST")?;
        let port = variable("KUBERNETES_SERVICE_PORT")?;
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host
        };
        let namespace = read("namespace")?;
        let authorities = CertificateDer::pem_slice_iter(read("ca.crt")?.as_bytes())
            .map(|it| it.map(|der| Certificate::from_der(&der).to_owned()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Failure::Report(format!("{ACCOUNT}/ca.crt is not a certificate: {error}")))?;
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&authorities))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(DEADLINE))
            .http_status_as_error(false)
            .build()
            .new_agent();
        let (group, version) = (names::GROUP, names::VERSION);
        let results = format!(
            "https://{host}:{port}/apis/{group}/{version}/namespaces/{namespace}/workflowtaskresults"
        );
        Ok(Self { agent, results })
    }

    /// Creates a result; one that is there already is as good.
    pub(super) fn create_result(&self, result: &Value) -> Result<(), Failure> {
        self.send(
            "POST",
            &self.results,
            "application/json",
            result,
            &[StatusCode::CONFLICT],
        )
    }

    /// Changes a result.
    pub(super) fn patch_result(&self, name: &str, patch: &Value) -> Result<(), Failure> {
        self.send(
            "PATCH",
            &format!("{}/{name}", self.results),
            "application/merge-patch+json",
            patch,
            &[],
        )
    }

    fn send(
        &self,
        method: &str,
        url: &str,
        media_type: &str,
        body: &Value,
        as_good: &[StatusCode],
    ) -> Result<(), Failure> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let request = Request::builder()
                .method(method)
                .uri(url)
                // Read anew each time: kubelet replaces the token.
                .header("authorization", format!("Bearer {}", read("token")?))
                .header("content-type", media_type)
                .body(body.to_string())
                .map_err(|error| Failure::Report(error.to_string()))?;
            let (passes, reason) = match self.agent.run(request) {
                Ok(answer) if answer.status().is_success() || as_good.contains(&answer.status()) => {
                    return Ok(());
                }
                Ok(mut answer) => {
                    let status = answer.status();
                    let text = answer.body_mut().read_to_string().unwrap_or_default();
                    let message = serde_json::from_str::<Value>(&text)
                        .ok()
                        .and_then(|it| it.get("message")?.as_str().map(str::to_owned))
                        .unwrap_or(text);
                    (
                        status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS,
                        message,
                    )
                }
                Err(error) => (true, error.to_string()),
            };
            if !passes || attempt == ATTEMPTS {
                return Err(Failure::Report(reason));
            }
            thread::sleep(Duration::from_millis(200 << attempt));
        }
    }
}

fn read(name: &str) -> Result<String, Failure> {
    let path = Path::new(ACCOUNT).join(name);
    let text = fs::read_to_string(&path);
    text.map(|it| it.trim().to_owned())
        .map_err(|source| Failure::File {
            what: "reading",
            path,
            source,
        })
}
