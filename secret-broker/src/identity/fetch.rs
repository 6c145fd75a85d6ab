//! One request to a configured address: with a deadline, over the system's or the configured roots, no redirect, a bounded answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use url::Url;

use super::reach::{Guarded, Network, Reach, literal};

/// From the look-up of the name to the last byte of the answer.
const DEADLINE: Duration = Duration::from_secs(5);
const LARGEST_ANSWER: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The address did not answer properly.
    #[error("could not fetch {url}: {reason}; check that this broker reaches it")]
    Failed {
        /// What was fetched.
        url: Box<Url>,
        /// Why it failed.
        reason: String,
    },
    /// A file is missing.
    #[error("could not read {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl FetchError {
    /// A failure with a reason.
    pub fn failed(url: &Url, reason: impl Into<String>) -> Self {
        Self::Failed {
            url: Box::new(url.clone()),
            reason: reason.into(),
        }
    }
}

/// What is sent.
#[derive(Debug)]
pub struct Question<'a> {
    /// Where to.
    pub url: &'a Url,
    /// `Authorization`, whole.
    pub authorization: Option<String>,
    /// JSON to post; the question is a GET without.
    pub post: Option<Vec<u8>>,
}

/// Sends questions to one issuer's addresses.
#[derive(Debug, Clone)]
pub struct Fetcher {
    ca_file: Option<PathBuf>,
    reach: Reach,
}

impl Fetcher {
    /// With roots of its own, or the system's, and a reach.
    #[must_use]
    pub const fn new(ca_file: Option<PathBuf>, reach: Reach) -> Self {
        Self { ca_file, reach }
    }

    /// The body of a successful answer to a plain GET.
    ///
    /// # Errors
    /// [`FetchError`], also for any other status.
    pub async fn get(&self, url: &Url, authorization: Option<String>) -> Result<Vec<u8>, FetchError> {
        let question = Question {
            url,
            authorization,
            post: None,
        };
        match self.ask(question).await? {
            (status, body) if status.is_success() => Ok(body),
            (status, _) => Err(FetchError::failed(url, format!("it answered {status}"))),
        }
    }

    /// Status and body of an answer.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn ask(&self, question: Question<'_>) -> Result<(StatusCode, Vec<u8>), FetchError> {
        let url = question.url;
        let failed = |error: reqwest::Error| FetchError::failed(url, chain(&error));
        let method = if question.post.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let mut request = self
            .client(url)
            .await?
            .request(method, url.clone())
            // A Kubernetes API server has its key set in the second form only, and answers 406 to who does not take it.
            .header(http::header::ACCEPT, "application/json, application/jwk-set+json");
        if let Some(authorization) = question.authorization {
            request = request.header(http::header::AUTHORIZATION, authorization);
        }
        if let Some(body) = question.post {
            request = request
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(body);
        }
        let mut response = request.send().await.map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                return Err(FetchError::failed(url, "its answer is larger than 1 MiB"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status(), body))
    }

    /// A client for one question: they are rare, and a CA file that changed is picked up.
    async fn client(&self, url: &Url) -> Result<reqwest::Client, FetchError> {
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(DEADLINE);
        if let Reach::Public(networks) = &self.reach {
            if let Some(address) = literal(url)
                && !address.is_loopback()
                && !Network::permit(networks, address)
            {
                return Err(FetchError::failed(url, "that is no public address"));
            }
            builder = builder.dns_resolver(Arc::new(Guarded::new(networks)));
        }
        if url.scheme() == "http" {
            builder = builder.tls_certs_only([]);
        } else if let Some(path) = &self.ca_file {
            let pem = tokio::fs::read(path).await.map_err(|source| FetchError::File {
                path: path.clone(),
                source,
            })?;
            let roots = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|e| FetchError::failed(url, format!("its CA file is no PEM bundle: {e}")))?;
            builder = builder.tls_certs_only(roots);
        }
        builder.build().map_err(|e| FetchError::failed(url, chain(&e)))
    }
}

/// `Bearer` with the token in a file, which is read each time since tokens in files are replaced.
///
/// # Errors
/// [`FetchError::File`].
pub async fn bearer_of(path: &PathBuf) -> Result<String, FetchError> {
    let token = tokio::fs::read_to_string(path)
        .await
        .map_err(|source| FetchError::File {
            path: path.clone(),
            source,
        })?;
    Ok(format!("Bearer {}", token.trim()))
}

/// An error with its causes, since the outermost one rarely says what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
