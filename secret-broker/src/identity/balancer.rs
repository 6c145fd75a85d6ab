//! Identities that an AWS Application Load Balancer adds to requests, in `x-amzn-oidc-data`.
//!
//! The balancer signs with a key of its region, so that anybody's balancer there makes good signatures: `signer` says which one it was, and
//! has to be the configured one. The key's id picks a document below the configured endpoint, and nothing else does; what
//! is no UUID is never asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

use super::claims::{seconds, shown, subject};
use super::config::AlbConfig;
use super::fetch::{Fetcher, Question};
use super::reach::Reach;
use super::refusal::TokenError;
use super::remembered::{Fingerprint, Remembered};
use super::roles::Standing;
use super::token::{Encoding, Unverified};
use super::{Subject, Verified};

/// A key is fetched again after this, so that one that was withdrawn is not used for long.
const KEEP_KEY: Duration = Duration::from_secs(3_600);
/// That there is no such key is believed for this long.
const KEEP_ABSENCE: Duration = Duration::from_secs(60);
const MOST_KEYS: usize = 64;
/// Fetches in a stretch of time, whatever key ids come.
const MOST_FETCHES: usize = 8;
const STRETCH: Duration = Duration::from_secs(10);

/// The balancer.
pub struct Balancer {
    config: AlbConfig,
    fetcher: Fetcher,
    base: String,
    /// Keys, and ids that there is no key of.
    keys: Remembered<Arc<DecodingKey>>,
    absent: Remembered<()>,
    fetched: Mutex<VecDeque<Instant>>,
}

impl Balancer {
    /// Sets it up; fetches nothing.
    #[must_use]
    pub fn new(config: &AlbConfig) -> Self {
        let base = config.keys_base().trim_end_matches('/').to_owned();
        Self {
            fetcher: Fetcher::new(
                config.ca_file.clone(),
                Reach::Public(config.private_networks.clone()),
            ),
            base,
            keys: Remembered::new(KEEP_KEY, MOST_KEYS),
            absent: Remembered::new(KEEP_ABSENCE, MOST_KEYS),
            fetched: Mutex::new(VecDeque::new()),
            config: config.clone(),
        }
    }

    /// Whose a request is, by the balancer's header.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn verify(&self, data: &str) -> Result<Verified, TokenError> {
        let token = Unverified::parse(data, Encoding::Padded)?;
        let now = jsonwebtoken::get_current_timestamp();
        let key_id = self.check_header(&token, now)?;
        token.check_signature(&*self.key(key_id).await?)?;
        self.verified(&token.claims, now)
    }

    /// Everything that needs no key, so that only a header made for us costs a fetch.
    fn check_header(&self, token: &Unverified<'_>, now: u64) -> Result<Uuid, TokenError> {
        let text = |member: &str| token.header.get(member).and_then(Value::as_str);
        if token.algorithm != Algorithm::ES256 {
            return Err(TokenError::AlgorithmNotPinned);
        }
        if text("signer") != Some(self.config.signer.as_str()) {
            return Err(TokenError::Signer);
        }
        if text("client") != Some(self.config.client.as_str()) {
            return Err(TokenError::Client);
        }
        match token.header.get("iss") {
            None => return Err(TokenError::IssuerMissing),
            Some(issuer) => self.check_issuer(issuer)?,
        }
        let expires = token.header.get("exp").ok_or(TokenError::ExpiryMissing)?;
        self.check_expiry(expires, now)?;
        // One spelling: lower case, with hyphens.
        Uuid::try_parse(&token.key_id)
            .ok()
            .filter(|id| id.hyphenated().to_string() == token.key_id)
            .ok_or(TokenError::KeyIdMalformed)
    }

    fn check_issuer(&self, issuer: &Value) -> Result<(), TokenError> {
        match issuer.as_str() {
            None => Err(TokenError::IssuerMalformed),
            Some(text) if text == self.config.issuer => Ok(()),
            Some(_) => Err(TokenError::UnknownIssuer),
        }
    }

    fn check_expiry(&self, expires: &Value, now: u64) -> Result<(), TokenError> {
        let expires = seconds(expires).ok_or(TokenError::ExpiryMalformed)?;
        if expires.saturating_add(self.config.leeway_seconds) <= now {
            return Err(TokenError::Expired);
        }
        Ok(())
    }

    fn verified(&self, claims: &Map<String, Value>, now: u64) -> Result<Verified, TokenError> {
        if let Some(issuer) = claims.get("iss") {
            self.check_issuer(issuer)?;
        }
        if let Some(expires) = claims.get("exp") {
            self.check_expiry(expires, now)?;
        }
        let config = &self.config;
        Ok(Verified {
            subject: Subject {
                issuer: config.name.clone(),
                sub: subject(claims)?,
            },
            username: config
                .username_claim
                .as_ref()
                .and_then(|name| shown(claims.get(name)?)),
            account: None,
            standing: Standing::of(claims, &config.roles, config.groups_claim.as_ref()),
        })
    }

    async fn key(&self, id: Uuid) -> Result<Arc<DecodingKey>, TokenError> {
        let name = id.hyphenated().to_string();
        let fingerprint = Fingerprint::of(&name);
        if let Some(key) = self.keys.get(&fingerprint) {
            return Ok(key);
        }
        if self.absent.get(&fingerprint).is_some() {
            return Err(TokenError::UnknownKey);
        }
        if !self.may_fetch() {
            tracing::warn!(issuer = %self.config.name, "too many unknown keys; none is fetched for a moment");
            return Err(TokenError::KeysUnavailable);
        }
        let url = Url::parse(&format!("{}/{name}", self.base)).map_err(|_| TokenError::KeysUnavailable)?;
        let question = Question {
            url: &url,
            authorization: None,
            post: None,
        };
        let (status, body) = self.fetcher.ask(question).await.map_err(|error| {
            tracing::warn!(issuer = %self.config.name, %error, "could not fetch the balancer's key");
            TokenError::KeysUnavailable
        })?;
        match status.as_u16() {
            200 => {}
            403 | 404 => {
                self.absent.put(fingerprint, ());
                return Err(TokenError::UnknownKey);
            }
            other => {
                tracing::warn!(issuer = %self.config.name, status = other, "could not fetch the balancer's key");
                return Err(TokenError::KeysUnavailable);
            }
        }
        let Ok(key) = DecodingKey::from_ec_pem(&body) else {
            tracing::warn!(issuer = %self.config.name, "the balancer's key is no PEM of an elliptic curve");
            return Err(TokenError::KeysUnavailable);
        };
        let key = Arc::new(key);
        self.keys.put(fingerprint, Arc::clone(&key));
        Ok(key)
    }

    fn may_fetch(&self) -> bool {
        let now = Instant::now();
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        while fetched
            .front()
            .is_some_and(|at| now.duration_since(*at) >= STRETCH)
        {
            fetched.pop_front();
        }
        let may = fetched.len() < MOST_FETCHES;
        if may {
            fetched.push_back(now);
        }
        may
    }
}
