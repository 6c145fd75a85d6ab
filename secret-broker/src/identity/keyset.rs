//! An issuer's public keys: fetched from configured addresses only, cached, refreshed in the background and, at a bounded rate, when a
//! token names a key that is not among them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::config::{KubernetesConfig, OidcConfig};
use super::fetch::{FetchError, Fetcher, bearer_of};
use super::reach::{Reach, is_safe_target};

/// Tokens with unknown key ids cause at most one fetch in this time, however many come.
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);
const SMALLEST_RSA_MODULUS_BYTES: usize = 256;

/// Why a key set could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// A document did not come.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The discovery document is another issuer's.
    #[error(
        "the discovery document at {url} names the issuer `{found}` instead of `{expected}`; configure the issuer exactly as it names itself"
    )]
    OtherIssuer {
        /// Where the document is.
        url: Box<Url>,
        /// What it says.
        found: String,
        /// What is configured.
        expected: String,
    },
    /// The key set lies elsewhere.
    #[error("the issuer's key set {url} is not on the issuer's own host; set jwks_url if that is right")]
    ForeignKeySet {
        /// Where the document says it is.
        url: Box<Url>,
    },
    /// Nothing to verify with.
    #[error("the key set at {0} has no key that can verify a signature")]
    Empty(Box<Url>),
}

/// A key and the algorithms that it may verify.
#[derive(Debug)]
pub struct VerifyingKey {
    /// The public key.
    pub key: DecodingKey,
    /// Algorithms that fit its type and its own `alg`.
    pub algorithms: Vec<Algorithm>,
}

#[derive(Debug)]
struct Loaded {
    issuer: String,
    keys: HashMap<String, Arc<VerifyingKey>>,
}

#[derive(Debug, Clone)]
enum Source {
    Oidc {
        issuer: String,
        discovery: Option<Url>,
        jwks: Option<Url>,
    },
    Kubernetes {
        issuer: Option<String>,
        discovery: Option<Url>,
        jwks: Option<Url>,
    },
}

/// The keys of one issuer.
pub struct KeySet {
    source: Source,
    fetcher: Fetcher,
    token_file: Option<PathBuf>,
    current: ArcSwapOption<Loaded>,
    last_attempt: Mutex<Option<Instant>>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: Url,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// A provider's set, not fetched yet.
    #[must_use]
    pub fn of_provider(config: &OidcConfig) -> Self {
        Self {
            source: Source::Oidc {
                issuer: config.issuer.clone(),
                discovery: below(&config.issuer, "/.well-known/openid-configuration"),
                jwks: config.jwks_url.clone(),
            },
            fetcher: Fetcher::new(
                config.ca_file.clone(),
                Reach::Public(config.private_networks.clone()),
            ),
            token_file: None,
            current: ArcSwapOption::empty(),
            last_attempt: Mutex::new(None),
        }
    }

    /// A cluster's set, not fetched yet.
    #[must_use]
    pub fn of_cluster(config: &KubernetesConfig) -> Self {
        let base = config.api_server.as_str();
        Self {
            source: Source::Kubernetes {
                issuer: config.issuer.clone(),
                discovery: below(base, "/.well-known/openid-configuration"),
                jwks: config.jwks_url.clone().or_else(|| below(base, "/openid/v1/jwks")),
            },
            fetcher: Fetcher::new(config.ca_file.clone(), Reach::Own),
            token_file: config.token_file.clone(),
            current: ArcSwapOption::empty(),
            last_attempt: Mutex::new(None),
        }
    }

    /// Whether a fetch has succeeded.
    #[must_use]
    pub fn loaded(&self) -> bool {
        self.current.load().is_some()
    }

    /// The issuer's name of itself: configured, or learnt from the API server.
    #[must_use]
    pub fn issuer(&self) -> Option<String> {
        match &self.source {
            Source::Oidc { issuer, .. }
            | Source::Kubernetes {
                issuer: Some(issuer), ..
            } => Some(issuer.clone()),
            Source::Kubernetes { issuer: None, .. } => self.current.load().as_ref().map(|l| l.issuer.clone()),
        }
    }

    fn find(&self, kid: &str) -> Option<Arc<VerifyingKey>> {
        self.current
            .load()
            .as_ref()
            .and_then(|loaded| loaded.keys.get(kid).cloned())
    }

    /// The key with this id, after a fetch if it is not known and the last fetch is long enough ago.
    pub async fn key(&self, kid: &str) -> Option<Arc<VerifyingKey>> {
        if let Some(key) = self.find(kid) {
            return Some(key);
        }
        self.refresh_if_due().await;
        self.find(kid)
    }

    /// Fetches unless somebody did a moment ago. Callers that come meanwhile wait for that one fetch.
    pub async fn refresh_if_due(&self) {
        let mut last = self.last_attempt.lock().await;
        if last.is_some_and(|at| at.elapsed() < SHORTEST_PAUSE) {
            return;
        }
        *last = Some(Instant::now());
        if let Err(error) = self.fetch().await {
            tracing::warn!(%error, "could not fetch an issuer's key set");
        }
    }

    /// Fetches now.
    ///
    /// # Errors
    /// [`KeySetError`]; the keys fetched earlier stay in use.
    pub async fn refresh(&self) -> Result<(), KeySetError> {
        let mut last = self.last_attempt.lock().await;
        *last = Some(Instant::now());
        self.fetch().await
    }

    async fn fetch(&self) -> Result<(), KeySetError> {
        let (issuer, url) = match &self.source {
            Source::Oidc {
                issuer,
                discovery,
                jwks,
            } => {
                let jwks = match (jwks, discovery) {
                    (Some(url), _) => url.clone(),
                    (None, Some(url)) => self.discover(url, Some(issuer)).await?.1,
                    (None, None) => return Ok(()),
                };
                (issuer.clone(), jwks)
            }
            Source::Kubernetes {
                issuer,
                discovery,
                jwks,
            } => {
                let issuer = match (issuer, discovery) {
                    (Some(issuer), _) => issuer.clone(),
                    (None, Some(url)) => self.discover(url, None).await?.0,
                    (None, None) => return Ok(()),
                };
                let Some(jwks) = jwks else { return Ok(()) };
                (issuer, jwks.clone())
            }
        };
        let document: Document = self.get(&url).await?;
        let keys: HashMap<_, _> = document.keys.into_iter().filter_map(usable).collect();
        if keys.is_empty() {
            return Err(KeySetError::Empty(Box::new(url)));
        }
        self.current.store(Some(Arc::new(Loaded { issuer, keys })));
        Ok(())
    }

    async fn discover(&self, url: &Url, expected: Option<&str>) -> Result<(String, Url), KeySetError> {
        let document: Discovery = self.get(url).await?;
        let Some(expected) = expected else {
            // The API server's own key set address is configured; only its name is taken from here.
            return Ok((document.issuer, document.jwks_uri));
        };
        if document.issuer != expected {
            return Err(KeySetError::OtherIssuer {
                url: Box::new(url.clone()),
                found: document.issuer,
                expected: expected.to_owned(),
            });
        }
        if document.jwks_uri.origin() != url.origin() || !is_safe_target(&document.jwks_uri) {
            return Err(KeySetError::ForeignKeySet {
                url: Box::new(document.jwks_uri),
            });
        }
        Ok((document.issuer, document.jwks_uri))
    }

    async fn get<T: for<'de> Deserialize<'de>>(&self, url: &Url) -> Result<T, KeySetError> {
        let authorization = match &self.token_file {
            Some(path) => Some(bearer_of(path).await?),
            None => None,
        };
        let body = self.fetcher.get(url, authorization).await?;
        serde_json::from_slice(&body)
            .map_err(|e| FetchError::failed(url, format!("its answer is not the expected JSON: {e}")).into())
    }
}

fn below(base: &str, path: &str) -> Option<Url> {
    Url::parse(&format!("{}{path}", base.trim_end_matches('/'))).ok()
}

/// A public signature key with an id; anything else in the set is passed over.
fn usable(value: serde_json::Value) -> Option<(String, Arc<VerifyingKey>)> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if jwk
        .common
        .public_key_use
        .as_ref()
        .is_some_and(|u| *u != PublicKeyUse::Signature)
    {
        return None;
    }
    let mut algorithms = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => vec![
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmParameters::EllipticCurve(p) if p.curve == EllipticCurve::P256 => vec![Algorithm::ES256],
        AlgorithmParameters::EllipticCurve(p) if p.curve == EllipticCurve::P384 => vec![Algorithm::ES384],
        AlgorithmParameters::OctetKeyPair(p) if p.curve == EllipticCurve::Ed25519 => vec![Algorithm::EdDSA],
        _ => return None,
    };
    if let Some(own) = &jwk.common.key_algorithm {
        let own: Algorithm = own.to_string().parse().ok()?;
        algorithms.retain(|a| *a == own);
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    if let jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, .. } = key.kind()
        && n.len() < SMALLEST_RSA_MODULUS_BYTES
    {
        return None;
    }
    Some((jwk.common.key_id?, Arc::new(VerifyingKey { key, algorithms })))
}
